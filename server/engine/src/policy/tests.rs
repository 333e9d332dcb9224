use std::collections::{BTreeMap, VecDeque};

use dawnwatch_proto::HostId;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::alert::Alert;
use crate::detect::Anomaly;

use Severity::{Critical, Info, Warning};

const MINUTE: u64 = 60_000;

fn config(channels: &[(&str, Severity, Severity)]) -> Config {
    let channel = |(name, night, day): &(&str, Severity, Severity)| Channel {
        name: (*name).to_owned(),
        night: *night,
        day: *day,
        reviews: false,
    };
    Config {
        channels: channels.iter().map(channel).collect(),
        ..Config::default()
    }
}

fn alert(rule: &str, severity: Severity, late: bool) -> Alert {
    let at = Timestamp::UNIX_EPOCH;
    Alert::new(Anomaly {
        rule: rule.to_owned(),
        subject: String::new(),
        series: String::new(),
        severity,
        since: at,
        fired: at,
        observed: 1.0,
        worst: 1.0,
        bound: 1.0,
        what: rule.to_owned(),
        why: rule.to_owned(),
        evidence: Vec::new(),
        late,
    })
}

fn incident(severity: Severity, late: bool) -> Incident {
    Incident {
        number: 1,
        host: HostId(1),
        name: "web01".to_owned(),
        state: State::Open,
        severity,
        since: Timestamp::UNIX_EPOCH,
        until: None,
        taken: None,
        notes: Vec::new(),
        cause: None,
        alerts: vec![alert("first", severity, late)],
        told: VecDeque::new(),
        hearing: BTreeMap::new(),
        alerts_told: 0,
        revision: 0,
        pages: VecDeque::new(),
        policy: Vec::new(),
        closed_ms: None,
        kind: crate::incident::Kind::Fault,
        lines: Vec::new(),
        hosts: std::collections::BTreeSet::new(),
        kinds_more: 0,
    }
}

fn shown(tell: &[(String, Reason)]) -> String {
    let each = tell
        .iter()
        .map(|(name, reason)| format!("{name} {reason:?}"));
    each.collect::<Vec<_>>().join(", ")
}

/// What is told of a fresh incident, and why the rest is not.
fn check(severity: Severity, night: bool, late: bool, want: &str, why: &str) {
    let config = config(&[("ops", Critical, Warning), ("mail", Warning, Critical)]);
    let moment = Moment {
        config: &config,
        night,
        boot_ms: 0,
    };
    let mut incident = incident(severity, late);
    let told = shown(&decide(&mut incident, moment));
    assert_eq!(told, want, "{severity:?} night {night} late {late}");
    assert_eq!(incident.policy.join(" | "), why);
    assert_eq!(decide(&mut incident, moment), [], "told once");
}

#[test]
fn who_is_told_at_once() {
    let late = "found in data that came late: pages only if it still holds at present";
    let info = "info never pages: it stands in the review";
    #[rustfmt::skip]
    let table = [
        (Critical, true, false, "ops Opened, mail Opened",
         "critical at night: told ops at once | critical at night: told mail at once"),
        (Critical, false, false, "ops Opened, mail Opened",
         "critical by day: told ops at once | critical by day: told mail at once"),
        (Warning, true, false, "mail Opened",
         "warning at night: waits for the review (channel ops pages from critical) | warning at night: told mail at once"),
        (Warning, false, false, "ops Opened",
         "warning by day: waits for the review (channel mail pages from critical) | warning by day: told ops at once"),
        (Info, true, false, "", info),
        (Info, false, false, "", info),
        (Critical, true, true, "", late),
        (Warning, false, true, "", late),
    ];
    for (severity, night, is_late, want, why) in table {
        check(severity, night, is_late, want, why);
    }
}

/// A critical incident of one channel, and the moments at which things are asked.
struct Case {
    incident: Incident,
    repeats: Repeats,
    config: Config,
    boot_ms: u64,
}

impl Case {
    fn new() -> Case {
        Case {
            incident: incident(Critical, false),
            repeats: Repeats::default(),
            config: config(&[("ops", Critical, Warning)]),
            boot_ms: 0,
        }
    }

    fn decide(&mut self) -> String {
        let moment = Moment {
            config: &self.config,
            night: true,
            boot_ms: self.boot_ms,
        };
        shown(&decide(&mut self.incident, moment))
    }

    fn remind(&mut self) -> String {
        let moment = Moment {
            config: &self.config,
            night: true,
            boot_ms: self.boot_ms,
        };
        shown(&remind(&mut self.incident, moment, &mut self.repeats))
    }

    /// Repeats within so many minutes, asked every second.
    fn repeats_in(&mut self, minutes: u64) -> usize {
        let end = self.boot_ms + minutes * MINUTE;
        let mut told = 0;
        while self.boot_ms < end {
            self.boot_ms += 1_000;
            told += usize::from(!self.remind().is_empty());
        }
        told
    }
}

#[test]
fn six_an_hour_and_what_is_worse_always_goes() {
    let mut case = Case::new();
    case.incident = incident(Warning, false);
    case.config.channels[0].night = Warning;
    assert_eq!(case.decide(), "ops Opened");
    // Something else is hit every minute: five more messages in the hour, then none.
    let mut told = 0;
    for n in 0..20 {
        case.boot_ms += MINUTE;
        case.incident
            .alerts
            .push(alert(&format!("a{n}"), Warning, false));
        told += usize::from(case.decide() == "ops Worse");
    }
    assert_eq!(told, HOURLY_MAX - 1);
    assert_eq!(
        case.incident.policy.last().map(String::as_str),
        Some("over 6 messages in an hour: held back from ops")
    );
    case.incident.alerts.push(alert("worse", Critical, false));
    assert_eq!(
        case.decide(),
        "ops Worse",
        "a higher severity is never held back"
    );
    case.boot_ms += 61 * MINUTE;
    case.incident.alerts.push(alert("later", Critical, false));
    assert_eq!(case.decide(), "ops Worse");
    case.incident.state = State::Closed;
    assert_eq!(case.decide(), "ops Closed", "an end is never held back");
    assert_eq!(case.decide(), "", "and told once");
}

#[test]
fn repeated_until_taken_and_forty_times_a_night() {
    let mut case = Case::new();
    case.repeats.at(true);
    assert_eq!(case.remind(), "", "what was never told is not repeated");
    assert_eq!(case.decide(), "ops Opened");
    assert_eq!(case.repeats_in(9), 0);
    assert_eq!(case.repeats_in(1), 1);
    assert_eq!(case.repeats_in(600), 39, "forty in all");
    case.repeats.at(true);
    assert_eq!(case.repeats_in(60), 0, "the night goes on");
    case.repeats.at(false);
    assert_eq!(case.repeats_in(60), 6, "a new working day counts anew");
    case.incident.state = State::Acknowledged;
    assert_eq!(case.repeats_in(60), 0);
    // A first page is never capped, whatever was repeated of others.
    let mut other = Case::new();
    other.repeats = case.repeats;
    other.repeats.count = REPEATS_MAX;
    assert_eq!(other.decide(), "ops Opened");
    assert_eq!(other.repeats_in(60), 0);
}

#[test]
fn taken_is_told_only_of_what_is_worse() {
    let mut case = Case::new();
    case.incident = incident(Warning, false);
    case.config.channels[0].night = Warning;
    assert_eq!(case.decide(), "ops Opened");
    case.incident.state = State::Acknowledged;
    case.incident.alerts.push(alert("other", Warning, false));
    assert_eq!(case.decide(), "", "somebody is at it");
    case.incident.alerts.push(alert("worse", Critical, false));
    assert_eq!(case.decide(), "ops Worse");
}

#[test]
fn another_way_is_taken_once_and_stays() {
    let mut case = Case::new();
    case.config = config(&[("ops", Critical, Warning), ("desk", Critical, Critical)]);
    case.config.channels[1].night = Critical;
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    case.incident.hearing.insert("ops".to_owned(), Critical);
    case.incident.revision = 1;
    let mut way = |working: &[&str]| another_way(&mut case.incident, "ops", &names(working), 0);
    assert_eq!(way(&[]), None);
    assert_eq!(way(&["desk"]), Some("desk".to_owned()));
    assert_eq!(way(&["desk"]), None, "it has it");
    assert_eq!(
        case.incident.policy,
        [
            "channel ops fails, and there is no other that works",
            "channel ops fails: told desk in its place"
        ]
    );
    case.boot_ms = 11 * MINUTE;
    assert_eq!(case.remind(), "ops Reminder, desk Reminder");
    for (state, severity) in [
        (State::Acknowledged, Critical),
        (State::Closed, Critical),
        (State::Open, Warning),
    ] {
        let mut other = incident(severity, false);
        other.state = state;
        let way = another_way(&mut other, "ops", &names(&["desk"]), 0);
        assert_eq!(way, None, "{state:?} {severity:?}");
    }
}

#[test]
fn a_channel_that_fails_is_not_told_of_its_own_failure() {
    let mut case = Case::new();
    case.incident = incident(Critical, false);
    case.incident.alerts[0].rule = CHANNEL.to_owned();
    case.incident.alerts[0].subject = "ops".to_owned();
    case.config = config(&[("ops", Critical, Warning), ("mail", Critical, Warning)]);
    assert_eq!(case.decide(), "mail Opened");
    case.boot_ms = 11 * MINUTE;
    assert_eq!(case.remind(), "mail Reminder");
    case.incident.alerts[0].until = Some(Timestamp::UNIX_EPOCH);
    case.incident.alerts.push(alert("other", Critical, false));
    assert_eq!(case.decide(), "ops Opened, mail Worse");
}

proptest! {
    /// Whatever happens, an incident is told at most six times in an hour, first, worse and closing messages aside.
    #[test]
    fn messages_are_bounded(steps in prop::collection::vec((0_u64..1_200_000, 0_usize..4), 0..80)) {
        let mut case = Case::new();
        prop_assert_eq!(case.decide(), "ops Opened");
        let mut sent = vec![0_u64];
        for (passed, what) in steps {
            case.boot_ms += passed;
            let told = match what {
                0 | 1 => case.remind(),
                2 => {
                    case.incident.alerts.push(alert("more", Critical, false));
                    case.decide()
                }
                _ => case.decide(),
            };
            if !told.is_empty() {
                sent.push(case.boot_ms);
            }
        }
        for (i, first) in sent.iter().enumerate() {
            let within = sent[i..].iter().filter(|at| **at - first < HOUR_MS).count();
            prop_assert!(within <= HOURLY_MAX, "{sent:?}");
        }
        prop_assert!(case.repeats.count <= REPEATS_MAX);
    }
}
