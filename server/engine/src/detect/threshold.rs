//! A value beyond its bound for long enough, and back within another bound for long enough.
//!
//! A slot is one rule on one subject of one host. Slots exist only while something is pending or firing, so a healthy host
//! costs nothing here. While a backlog drains, a slot has a second phase, fed by heartbeats: the present is judged by
//! what is true now, the past by the ticks as they come, and both speak of the same alert.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Rule;
use crate::incident::AlertRef;

/// Samples kept as evidence of one alert: five minutes of ticks show how it began.
pub(crate) const EVIDENCE_MAX: usize = 32;
/// A pending condition that was not seen for this long has not held: six ticks.
const PENDING_GAP_MS: i64 = 60_000;
/// A firing subject without any value for this long is gone (unmounted, swap switched off).
pub(crate) const GONE_MS: i64 = 600_000;

/// One rule on one subject of one host, while it is not clear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slot {
    pub(crate) rule: String,
    pub(crate) subject: String,
    /// By ticks, in sample time.
    pub(crate) phase: Phase,
    /// By heartbeats, in boot time, while a backlog drains.
    pub(crate) live: Option<Phase>,
}

/// Where a slot stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Within bounds.
    Clear,
    /// Beyond the bound, not long enough yet.
    Pending(Pending),
    /// Beyond the bound for long enough.
    Firing(Firing),
}

/// A condition that holds, not long enough yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) since: Timestamp,
    since_ms: i64,
    seen_ms: i64,
    pub(crate) worst: f64,
    pub(crate) evidence: Vec<(Timestamp, f64)>,
}

/// A condition that fires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Firing {
    pub(crate) alert: AlertRef,
    /// First sample within the clear bound, in the phase's clock and as a time.
    clear: Option<(i64, Timestamp)>,
    pub(crate) seen_ms: i64,
}

/// One value, and when it was, by the clock that the holding time is reckoned in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Timestamp,
    pub(crate) clock_ms: i64,
    pub(crate) value: f64,
}

/// What a sample changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Edge {
    /// Nothing that anybody needs to hear of.
    None,
    /// It held long enough.
    Fire(Pending),
    /// It fires on.
    Observe(AlertRef),
    /// It was clear for long enough, from this moment on.
    Clear(AlertRef, Timestamp),
}

impl Firing {
    pub(crate) fn new(alert: AlertRef, seen_ms: i64) -> Firing {
        Firing {
            alert,
            clear: None,
            seen_ms,
        }
    }
}

impl Slot {
    pub(crate) fn is_clear(&self) -> bool {
        self.phase == Phase::Clear && matches!(self.live, None | Some(Phase::Clear))
    }

    /// The alert that either phase fires.
    pub(crate) fn alerts(&self) -> impl Iterator<Item = AlertRef> {
        [Some(&self.phase), self.live.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(Phase::alert)
    }
}

impl Phase {
    pub(crate) fn alert(&self) -> Option<AlertRef> {
        match self {
            Phase::Firing(firing) => Some(firing.alert),
            Phase::Clear | Phase::Pending(_) => None,
        }
    }

    /// Takes in a sample. On [`Edge::Fire`] the caller makes the alert and sets the phase to firing.
    pub(crate) fn take(&mut self, rule: &Rule, sample: Sample) -> Edge {
        let beyond = sample.value >= rule.bound;
        match std::mem::replace(self, Phase::Clear) {
            Phase::Clear if beyond => self.hold(rule, Pending::new(sample), sample),
            Phase::Pending(pending) if beyond => {
                let unseen_ms = sample.clock_ms.saturating_sub(pending.seen_ms);
                let whole = (0..=PENDING_GAP_MS).contains(&unseen_ms);
                let pending = if whole { pending } else { Pending::new(sample) };
                self.hold(rule, pending, sample)
            }
            Phase::Clear | Phase::Pending(_) => Edge::None,
            Phase::Firing(firing) => self.fire_on(rule, firing, sample),
        }
    }

    fn hold(&mut self, rule: &Rule, mut pending: Pending, sample: Sample) -> Edge {
        pending.see(sample);
        let held_ms = sample.clock_ms.saturating_sub(pending.since_ms);
        if held_ms >= i64::from(rule.hold_seconds) * 1_000 {
            return Edge::Fire(pending);
        }
        *self = Phase::Pending(pending);
        Edge::None
    }

    fn fire_on(&mut self, rule: &Rule, mut firing: Firing, sample: Sample) -> Edge {
        let alert = firing.alert;
        firing.seen_ms = sample.clock_ms;
        if !within_clear(rule, sample.value) {
            firing.clear = None;
            *self = Phase::Firing(firing);
            return Edge::Observe(alert);
        }
        let (from_ms, from) = match firing.clear {
            Some(clear) if clear.0 <= sample.clock_ms => clear,
            Some(_) | None => (sample.clock_ms, sample.at),
        };
        let clear_for_ms = sample.clock_ms.saturating_sub(from_ms);
        if clear_for_ms >= i64::from(rule.clear_seconds) * 1_000 {
            return Edge::Clear(alert, from);
        }
        firing.clear = Some((from_ms, from));
        *self = Phase::Firing(firing);
        Edge::Observe(alert)
    }
}

/// Within the clear bound; a rule whose bounds are equal clears below them.
fn within_clear(rule: &Rule, value: f64) -> bool {
    value < rule.bound && value <= rule.clear
}

impl Pending {
    fn new(sample: Sample) -> Pending {
        Pending {
            since: sample.at,
            since_ms: sample.clock_ms,
            seen_ms: sample.clock_ms,
            worst: sample.value,
            evidence: Vec::new(),
        }
    }

    fn see(&mut self, sample: Sample) {
        self.seen_ms = sample.clock_ms;
        self.worst = self.worst.max(sample.value);
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push((sample.at, sample.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Measure;
    use dawnwatch_proto::review::Severity;

    const ALERT: AlertRef = AlertRef {
        incident: 1,
        index: 0,
    };

    fn rule(hold_seconds: u32, clear_seconds: u32) -> Rule {
        Rule {
            name: "r".to_owned(),
            measure: Measure::MemoryUsed,
            bound: 0.95,
            clear: 0.93,
            hold_seconds,
            clear_seconds,
            severity: Severity::Warning,
            enabled: true,
        }
    }

    /// Samples as (second, value in percent); the edges that are no `None` and no `Observe`, as letters with their second.
    fn check(samples: &[(i64, i64)], want: &str) {
        let rule = rule(60, 30);
        let mut phase = Phase::Clear;
        let mut got = Vec::new();
        for (second, percent) in samples {
            let clock_ms = second * 1_000;
            let at = Timestamp::from_second(1_790_000_000 + second).unwrap();
            let value = f64::from(i32::try_from(*percent).unwrap()) / 100.0;
            match phase.take(
                &rule,
                Sample {
                    at,
                    clock_ms,
                    value,
                },
            ) {
                Edge::None | Edge::Observe(_) => {}
                Edge::Fire(pending) => {
                    let since = pending.since.as_second() - 1_790_000_000;
                    got.push(format!("F{second} since {since}"));
                    phase = Phase::Firing(Firing::new(ALERT, clock_ms));
                }
                Edge::Clear(_, from) => {
                    got.push(format!(
                        "C{second} from {}",
                        from.as_second() - 1_790_000_000
                    ));
                }
            }
        }
        assert_eq!(got.join(", "), want, "{samples:?}");
    }

    #[test]
    fn it_must_hold_and_it_must_be_clear_for_long_enough() {
        check(&[(0, 95), (30, 96), (59, 96)], "");
        check(&[(0, 95), (30, 96), (60, 96)], "F60 since 0");
        // One sample below the bound begins the wait anew.
        check(&[(0, 95), (30, 94), (60, 96), (90, 96)], "");
        // Between the bounds it neither clears nor ends.
        check(&[(0, 95), (60, 95), (70, 94), (200, 94)], "F60 since 0");
        check(&[(0, 95), (60, 95), (70, 93), (99, 93)], "F60 since 0");
        check(
            &[(0, 95), (60, 95), (70, 93), (100, 93)],
            "F60 since 0, C100 from 70",
        );
        check(
            &[(0, 95), (60, 95), (70, 93), (80, 94), (110, 93), (130, 93)],
            "F60 since 0",
        );
    }

    #[test]
    fn what_was_not_seen_did_not_hold() {
        check(&[(0, 96), (61, 96), (90, 96)], "");
        check(&[(0, 96), (61, 96), (121, 96)], "F121 since 61");
        // A clock that goes back begins the wait anew.
        check(&[(100, 96), (50, 96), (100, 96)], "");
        check(&[(100, 96), (50, 96), (110, 96)], "F110 since 50");
    }

    proptest! {
        /// Whatever comes in whatever order, edges alternate and evidence is bounded.
        #[test]
        fn edges_alternate(samples in prop::collection::vec((0_i64..2_000, 80_i64..100), 0..300)) {
            let rule = rule(60, 30);
            let mut phase = Phase::Clear;
            let mut firing = false;
            for (second, percent) in samples {
                let at = Timestamp::from_second(1_790_000_000 + second).unwrap();
                let value = f64::from(i32::try_from(percent).unwrap()) / 100.0;
                match phase.take(&rule, Sample { at, clock_ms: second * 1_000, value }) {
                    Edge::None => prop_assert!(!firing),
                    Edge::Observe(_) => prop_assert!(firing),
                    Edge::Fire(pending) => {
                        prop_assert!(!firing && pending.evidence.len() <= EVIDENCE_MAX);
                        prop_assert!(pending.worst >= rule.bound);
                        firing = true;
                        phase = Phase::Firing(Firing::new(ALERT, second * 1_000));
                    }
                    Edge::Clear(..) => {
                        prop_assert!(firing);
                        firing = false;
                    }
                }
            }
        }
    }
}
