//! A goal that does not answer: who says so, for how long, and what it is called.
//!
//! A target of the configuration that answered nobody since it is asked is told after a while: most often its address is
//! wrong, or something on the way lets no pings through. That is a warning whatever the target's severity, for nothing
//! broke. Gateways and hosts that never answer are as their owners want them.

use super::{
    Anomaly, At, Engine, Goal, Link, Measure, Seen, Severity, State, host_anomaly, named, probe,
    series, subject_name,
};

/// Observers of one target get this long to agree: a tick and a half.
const AGREE_MS: u64 = 15_000;
/// A target that never answered is told of after this: whoever names it before it is switched on has time to do so.
pub(crate) const NEVER_MS: i64 = 600_000;
/// What such a target is said to do.
pub(super) const NEVER: &str = "never answered pings";

impl Engine {
    /// A goal that does not answer: the name of what is wrong, and what is.
    pub(super) fn outage(
        &self,
        goal: &Goal,
        seen: &[Seen<'_>],
        at: At,
    ) -> Option<(String, Anomaly)> {
        let rule = self.rule(Measure::TargetDown)?;
        let mute = |seen: &&Seen<'_>| is_mute(goal, seen.link, at);
        let down: Vec<Seen<'_>> = seen.iter().filter(mute).copied().collect();
        let is_up = |seen: &&Seen<'_>| seen.link.state == State::Up;
        let up: Vec<Seen<'_>> = seen.iter().filter(is_up).copied().collect();
        // Who answered once speaks first: then something broke.
        let first = down
            .iter()
            .min_by_key(|seen| (seen.link.state != State::Down, seen.link.since_ms))?;
        let never = first.link.state == State::Never;
        let for_ms = at.boot_ms.saturating_sub(first.link.since_ms);
        if !self.may_judge(goal, for_ms, at) {
            return None;
        }
        let known = self.state.reach.cases.get(goal);
        let fires = known.is_some_and(|case| case.outage.is_some());
        let waits = up
            .iter()
            .any(|seen| seen.link.seen_ms <= first.link.since_ms);
        if !fires && waits && for_ms < AGREE_MS {
            return None;
        }
        let (what, worst) = match never {
            true => (NEVER, Severity::Warning),
            false => ("no answer to pings", Severity::Critical),
        };
        let severity = self.severity(goal, rule).min(worst);
        let why = why(what, first, &down, &up, goal);
        let what = what.to_owned();
        let mut anomaly = host_anomaly(&rule.name, severity, first.link.since, at, what, why);
        anomaly.series = series(probe::SUCCESS, first.key);
        anomaly.observed = f64::from(probe::DOWN_PROBES);
        anomaly.worst = anomaly.observed;
        anomaly.bound = anomaly.observed;
        anomaly.evidence = vec![(first.link.since, 0.0)];
        Some((subject_name(goal, &down, seen.len()), anomaly))
    }
}

/// Whether no answer comes that somebody waits for.
fn is_mute(goal: &Goal, link: &Link, at: At) -> bool {
    let for_ms = at.boot_ms.saturating_sub(link.since_ms);
    match link.state {
        State::Down => true,
        State::Never => matches!(goal, Goal::Target(_)) && for_ms >= NEVER_MS.unsigned_abs(),
        State::Up | State::Unknown => false,
    }
}

fn why(what: &str, first: &Seen<'_>, down: &[Seen<'_>], up: &[Seen<'_>], goal: &Goal) -> String {
    let mut why = format!("{what} from {}", named(down));
    let (asked, lost) = down.iter().fold((0, 0), |(sent, lost), seen| {
        (sent + seen.link.outage.0, lost + seen.link.outage.1)
    });
    if lost > 0 {
        why.push_str(&format!(": {lost} of {asked} lost since"));
    }
    if let Some(rtt) = first.link.rtt_before {
        why.push_str(&format!("; round trip before {:.1} ms", rtt * 1_000.0));
    }
    if !up.is_empty() {
        why.push_str(&format!("; {} gets answers", named(up)));
    }
    if first.link.state == State::Never {
        why.push_str("; its address may be wrong, or pings are not let through");
    }
    if matches!(goal, Goal::Host(_)) {
        why.push_str("; the host itself reports");
    }
    why
}
