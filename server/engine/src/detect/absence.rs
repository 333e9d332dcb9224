//! A host that should talk and does not. While it is away nobody can say more than "off or hung, or monitoring lost"; what it
//! was is told when it is back.
//!
//! All times here are boot time: a server whose wall clock jumps sees nobody fall silent.

use dawnwatch_proto::HostId;
use dawnwatch_proto::event::GoodbyeReason;
use dawnwatch_proto::review::Severity;
use jiff::Timestamp;

use crate::clock::{add_ms, ms_between};
use crate::config::{Measure, Rule};
use crate::detect::threshold::{Firing, Phase, Slot};
use crate::detect::twice::TWICE;
use crate::detect::{Anomaly, fate};
use crate::engine::{Engine, GRACE_MS, Out};
use crate::host::Host;
use crate::input::At;
use crate::named::{Expected, NEVER_JOINED, SAME_HOST};
use crate::own::{CHANNEL, NOTICE};
use crate::words;

/// A host that said it reboots and is not back by then does not come back by itself.
const REBOOT_MS: u64 = 600_000;
/// A host that joined gets this long to say its first word: somebody may still be setting it up.
const FIRST_WORD_MS: u64 = 600_000;
/// A host whose hours begin gets this long to boot.
const SWITCH_ON_MS: u64 = 600_000;
/// An agent's clock this far off is a finding; what it says is corrected from 2 s on.
const SKEW_MS: i64 = 30_000;
/// A skew that fell below this is over.
const SKEW_CLEAR_MS: i64 = 15_000;
/// Messages that must agree before a skew is believed.
const SKEW_MESSAGES: usize = 3;
/// With fewer hosts than this nobody can tell whose clock is off.
const SKEW_HOSTS_MIN: usize = 3;
/// With fewer hosts than this nobody can tell the server's own link from theirs.
const OWN_LINK_HOSTS_MIN: usize = 4;

/// Rules without a bound that anybody sets: they hold as they are.
pub(crate) const BUILT_IN: [&str; 11] = [
    AGENT_STOPPED,
    REBOOT_OVERDUE,
    NEVER_REPORTED,
    CLOCK_SKEW,
    OWN_LINK,
    SERVER_CLOCK,
    CHANNEL,
    NOTICE,
    NEVER_JOINED,
    SAME_HOST,
    TWICE,
];
const AGENT_STOPPED: &str = "agent_stopped";
const REBOOT_OVERDUE: &str = "reboot_overdue";
const CLOCK_SKEW: &str = "clock_skew";
const NEVER_REPORTED: &str = "never_reported";
pub(crate) const OWN_LINK: &str = "own_link";
const SERVER_CLOCK: &str = "server_clock";

/// The host that incidents of the server itself are about.
pub(crate) use crate::vitals::SERVER;

pub(crate) const SILENT_WHAT: &str = "silent: off or hung, or monitoring lost";
const OVERDUE_WHAT: &str = "said it reboots and is not back";
/// Hosts named that never reported; the rest is counted.
const NEVER_NAMED_MAX: usize = 3;

/// How something is called when it is over, where that is another word than while it lasts.
pub(crate) fn was(what: &str) -> Option<&'static str> {
    match what {
        SILENT_WHAT => Some("was silent"),
        OVERDUE_WHAT => Some("was late back from its reboot"),
        what => fate::was(what),
    }
}

/// The rules of [`BUILT_IN`] as the table shows them: name, condition, severity.
pub(crate) fn built_in() -> [(&'static str, &'static str, Severity); 11] {
    [
        (
            AGENT_STOPPED,
            "an agent was stopped or a host shut down on purpose",
            Severity::Info,
        ),
        (
            REBOOT_OVERDUE,
            "a host said it reboots and is not back after 10 m",
            Severity::Critical,
        ),
        (
            NEVER_REPORTED,
            "a host joined and its agent said nothing for 10 m",
            Severity::Warning,
        ),
        (
            CLOCK_SKEW,
            "a host's clock is more than 30 s off the server's",
            Severity::Warning,
        ),
        (
            OWN_LINK,
            "more than half of 4 or more hosts silent at once: the server's own link",
            Severity::Critical,
        ),
        (
            SERVER_CLOCK,
            "the server's clock is more than 30 s off most hosts'",
            Severity::Warning,
        ),
        (
            CHANNEL,
            "a channel refused a message, or took none for 5 m",
            Severity::Warning,
        ),
        (
            NOTICE,
            "the server found something wrong with itself; critical where it cannot wait",
            Severity::Warning,
        ),
        (
            NEVER_JOINED,
            "a host was named (hosts import) and has not joined for 1 h",
            Severity::Warning,
        ),
        (
            SAME_HOST,
            "a host joined that may be a silent one, set up anew",
            Severity::Warning,
        ),
        (
            TWICE,
            "a copy of a host speaks for it from another machine",
            Severity::Warning,
        ),
    ]
}

/// What a goodbye means, in words.
pub(crate) fn gone(reason: GoodbyeReason) -> &'static str {
    match reason {
        GoodbyeReason::Stopped => "agent stopped on purpose",
        GoodbyeReason::Reboot => "rebooted",
        GoodbyeReason::Shutdown => "shut down on purpose",
        GoodbyeReason::Leave => "left the fleet",
    }
}

impl Engine {
    /// Looks at every host: who fell silent, who is not back.
    pub(crate) fn absence(&mut self, at: At, out: &mut Out) {
        let silent = self
            .state
            .config
            .rules
            .iter()
            .find(|r| r.enabled && r.measure == Measure::Silent)
            .cloned();
        if let Some(rule) = silent {
            self.silence(at, &rule, out);
        }
        let mut overdue = Vec::new();
        for (id, host) in &mut self.state.hosts {
            let Some(goodbye) = &host.goodbye else {
                continue;
            };
            host.down.add(goodbye.at, at.wall);
            let away_ms = at.boot_ms.saturating_sub(goodbye.boot_ms);
            if goodbye.reason == GoodbyeReason::Reboot && away_ms >= REBOOT_MS {
                overdue.push((*id, goodbye.at));
            }
        }
        for (id, since) in overdue {
            let what = OVERDUE_WHAT.to_owned();
            let why = format!("{what} after {}", words::duration(as_ms(REBOOT_MS)));
            let anomaly = host_anomaly(REBOOT_OVERDUE, Severity::Critical, since, at, what, why);
            self.raise(id, at, anomaly, out);
        }
    }

    fn silence(&mut self, at: At, rule: &Rule, out: &mut Out) {
        let bound_ms = seconds_as_ms(rule.bound);
        let since_ms = self.state.server.since_ms;
        let (mut silent, mut never) = (Vec::new(), Vec::new());
        let (mut watched, mut suspect) = (0_usize, 0_usize);
        let expected = self.expected_now(at.wall);
        let mut off = Vec::new();
        for (id, host) in &self.state.hosts {
            let Some(mut for_ms) = silent_ms(host, at, since_ms) else {
                continue;
            };
            match expected.get(id) {
                Some(Expected::Off) => {
                    off.push(*id);
                    continue;
                }
                Some(Expected::Since(on)) => {
                    let on_ms = ms_between(*on, at.wall).unsigned_abs();
                    for_ms = for_ms.min(on_ms.saturating_sub(SWITCH_ON_MS));
                }
                None => {}
            }
            if host.heard.is_none() {
                // Somebody is still setting it up, or forgot it: nothing that the way to it could explain.
                if for_ms >= FIRST_WORD_MS {
                    never.push((host.card.name.clone(), for_ms));
                }
                continue;
            }
            watched += 1;
            // Heartbeats come every 10 s: at two thirds of the bound a host that lives has been heard.
            suspect += usize::from(for_ms >= bound_ms / 3 * 2);
            if for_ms >= bound_ms {
                silent.push((*id, for_ms));
            }
        }
        for id in off {
            self.off_by_plan(id, &rule.name, at, out);
        }
        self.never_reported(never, at, out);
        let own = watched >= OWN_LINK_HOSTS_MIN && suspect * 2 > watched;
        if self.own_link(own && !silent.is_empty(), watched, suspect, at, out) {
            return;
        }
        for (id, for_ms) in silent {
            let Some(host) = self.state.hosts.get(&id) else {
                continue;
            };
            if host.slot(&rule.name).is_some() {
                continue;
            }
            let since = add_ms(at.wall, -as_ms(for_ms));
            let fate = self.fate(host, at, rule.severity);
            let why = self.silence_in_words(host, at, &fate.why);
            let mut anomaly = host_anomaly(&rule.name, fate.severity, since, at, fate.what, why);
            anomaly.bound = rule.bound;
            anomaly.observed = as_seconds(for_ms);
            anomaly.worst = anomaly.observed;
            self.raise(id, at, anomaly, out);
        }
    }

    /// When it was heard of last, and its last values: what can be said of a silent host at any later time.
    pub(crate) fn silence_in_words(&self, host: &Host, at: At, fate: &str) -> String {
        let heard_ms = host.heard.map_or(at.boot_ms, |(boot_ms, _)| boot_ms);
        // By boot time: the wall clock may have jumped since.
        let heard = add_ms(at.wall, -as_ms(at.boot_ms.saturating_sub(heard_ms)));
        let heard = heard.to_zoned(self.nights.zone().clone());
        let mut why = format!(
            "last heard {}, no goodbye",
            heard.strftime("%a %-d %b %H:%M:%S")
        );
        if !fate.is_empty() {
            why.push_str(&format!("; {fate}"));
        }
        if let Some((_, values)) = self.last_words(host.card.id) {
            why.push_str(&format!("; last {values}"));
        }
        why
    }

    /// Hosts that joined and said nothing: one incident, whatever their number.
    fn never_reported(&mut self, mut never: Vec<(String, u64)>, at: At, out: &mut Out) {
        never.sort();
        let longest_ms = never.iter().map(|(_, for_ms)| *for_ms).max();
        let found = longest_ms.map(|longest_ms| {
            let names: Vec<&str> = never.iter().map(|(name, _)| name.as_str()).collect();
            let shown = names[..names.len().min(NEVER_NAMED_MAX)].join(", ");
            let hosts = words::count(names.len(), "host");
            let what = match names.len().saturating_sub(NEVER_NAMED_MAX) {
                0 => format!("{hosts} never reported: {shown}"),
                more => format!("{hosts} never reported: {shown} and {more} more"),
            };
            let why =
                format!("{what}; joined, and silent since: start the agent or retire the host");
            let since = add_ms(at.wall, -as_ms(longest_ms));
            host_anomaly(NEVER_REPORTED, Severity::Warning, since, at, what, why)
        });
        self.about_server(NEVER_REPORTED, found, at, "all reported or retired", out);
    }

    /// Half the fleet at once is the server's own link, one incident. Returns whether it is so.
    fn own_link(
        &mut self,
        own: bool,
        watched: usize,
        silent: usize,
        at: At,
        out: &mut Out,
    ) -> bool {
        let what = format!("{silent} of {watched} hosts silent at once");
        let why = format!("{what}: the server's own link, its switch or the power of the site");
        let found = own.then(|| host_anomaly(OWN_LINK, Severity::Critical, at.wall, at, what, why));
        self.about_server(OWN_LINK, found, at, "most hosts answer again", out);
        own
    }

    /// A goodbye came: what is known of it at once.
    pub(crate) fn said_goodbye(
        &mut self,
        id: HostId,
        at: At,
        stamp: Timestamp,
        reason: GoodbyeReason,
        out: &mut Out,
    ) {
        match reason {
            GoodbyeReason::Stopped | GoodbyeReason::Shutdown => {
                let what = gone(reason).to_owned();
                let why = format!("{what}: it said goodbye");
                let anomaly = host_anomaly(AGENT_STOPPED, Severity::Info, stamp, at, what, why);
                self.raise(id, at, anomaly, out);
            }
            GoodbyeReason::Reboot | GoodbyeReason::Leave => {}
        }
    }

    /// The host is heard of again: whatever said that it was not ends.
    pub(crate) fn back(&mut self, id: HostId, at: At, out: &mut Out) {
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        if host.slots.is_empty() {
            return;
        }
        let silent: Vec<&str> = self
            .state
            .config
            .rules
            .iter()
            .filter(|r| r.measure == Measure::Silent)
            .map(|r| r.name.as_str())
            .collect();
        let mut ended = Vec::new();
        host.slots.retain(|slot| {
            let was_silent = silent.contains(&slot.rule.as_str());
            let ends = was_silent || slot.rule == AGENT_STOPPED || slot.rule == REBOOT_OVERDUE;
            if ends {
                ended.extend(slot.alerts().map(|alert| (alert, was_silent)));
            }
            !ends
        });
        for (alert, was_silent) in ended {
            if let Some(alert) = self.state.incidents.alert(alert)
                && was_silent
                && let Some(host) = self.state.hosts.get_mut(&id)
            {
                host.returned = Some((alert.since, at.boot_ms));
            }
            self.resolve(alert, at.wall, "heard again", out);
        }
    }

    /// A clock that is far off is a finding: logs and certificates suffer even where samples are corrected. Where most hosts
    /// agree that the server is off, it is the server.
    pub(crate) fn skew(&mut self, at: At, out: &mut Out) {
        let known = self.state.hosts.values().filter(|h| !h.card.retired);
        let mut offsets: Vec<i64> = known
            .filter(|h| h.clock.messages() >= SKEW_MESSAGES)
            .filter_map(|h| h.clock.estimate_ms())
            .collect();
        offsets.sort_unstable();
        let median = offsets.get(offsets.len() / 2).copied().unwrap_or(0);
        let agreed = offsets.len() >= SKEW_HOSTS_MIN
            && offsets
                .iter()
                .filter(|o| o.abs_diff(median) < SKEW_MS.unsigned_abs())
                .count()
                * 2
                > offsets.len();
        let server_off = agreed && median.saturating_abs() > SKEW_MS;
        let way = if median < 0 { "ahead of" } else { "behind" };
        let span = words::duration(median.saturating_abs());
        let what = format!("server clock {span} {way} most hosts'");
        let why = format!("{what} (bound 30 s): set the server's clock");
        let found = server_off
            .then(|| host_anomaly(SERVER_CLOCK, Severity::Warning, at.wall, at, what, why));
        self.about_server(SERVER_CLOCK, found, at, "clocks agree again", out);
        let reference = if server_off { median } else { 0 };
        let ids: Vec<HostId> = self.state.hosts.keys().copied().collect();
        for id in ids {
            self.skew_of(id, reference, at, out);
        }
    }

    fn skew_of(&mut self, id: HostId, reference_ms: i64, at: At, out: &mut Out) {
        let Some(host) = self.state.hosts.get(&id).filter(|h| !h.card.retired) else {
            return;
        };
        let Some(estimate_ms) = host.clock.estimate_ms() else {
            return;
        };
        let offset_ms = estimate_ms.saturating_sub(reference_ms);
        let slot = host.slot(CLOCK_SKEW);
        let size = offset_ms.saturating_abs();
        if slot.is_none() && size > SKEW_MS && host.clock.messages() >= SKEW_MESSAGES {
            let way = if offset_ms < 0 { "behind" } else { "ahead" };
            let what = format!("clock {} {way}", words::duration(size));
            let why = format!("{what} (bound 30 s); its samples are stored at corrected times");
            let anomaly = host_anomaly(CLOCK_SKEW, Severity::Warning, at.wall, at, what, why);
            self.raise(id, at, anomaly, out);
        } else if let Some(slot) = slot
            && size < SKEW_CLEAR_MS
        {
            let alert = host.slots.get(slot).and_then(|s| s.alerts().next());
            if let Some(host) = self.state.hosts.get_mut(&id) {
                host.slots.remove(slot);
            }
            if let Some(alert) = alert {
                self.resolve(alert, at.wall, "clock set right", out);
            }
        }
    }

    /// Opens an alert about a host as a whole, unless it is open.
    pub(crate) fn raise(&mut self, id: HostId, at: At, anomaly: Anomaly, out: &mut Out) {
        let known = self
            .state
            .hosts
            .get(&id)
            .is_none_or(|h| h.slot(&anomaly.rule).is_some());
        if known {
            return;
        }
        let rule = anomaly.rule.clone();
        let alert = self.open(id, at, anomaly, out);
        if let Some(host) = self.state.hosts.get_mut(&id) {
            host.slots.push(Slot {
                rule,
                subject: String::new(),
                phase: Phase::Firing(Firing::new(alert, at.wall.as_millisecond())),
                live: None,
            });
        }
    }
}

/// How long nothing came from a host that should talk; none where it need not.
fn silent_ms(host: &Host, at: At, server_since_ms: u64) -> Option<u64> {
    if host.card.retired || host.goodbye.is_some() {
        return None;
    }
    let mut heard = host.heard.map_or(host.known_ms, |(boot_ms, _)| boot_ms);
    // Who was heard since the server started is back already, and is silent since then.
    if heard < server_since_ms {
        heard = server_since_ms.saturating_add(GRACE_MS / 2);
    }
    Some(at.boot_ms.saturating_sub(heard))
}

pub(crate) fn host_anomaly(
    rule: &str,
    severity: Severity,
    since: Timestamp,
    at: At,
    what: String,
    why: String,
) -> Anomaly {
    Anomaly {
        rule: rule.to_owned(),
        subject: String::new(),
        series: String::new(),
        severity,
        since: since.min(at.wall),
        fired: at.wall,
        observed: 1.0,
        worst: 1.0,
        bound: 1.0,
        what,
        why,
        evidence: Vec::new(),
        late: false,
    }
}

fn as_ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "seconds for people")]
fn as_seconds(ms: u64) -> f64 {
    (ms / 1_000) as f64
}

/// A bound in seconds as milliseconds; a day at most, so that no configuration switches it off by accident.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 1 s and a day before"
)]
pub(crate) fn seconds_as_ms(seconds: f64) -> u64 {
    (seconds.clamp(1.0, 86_400.0) * 1_000.0) as u64
}
