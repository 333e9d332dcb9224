//! Incidents: alerts that belong together. All of one host for the present: what fires while an incident of the host is open, or
//! shortly after it closed, is part of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dawnwatch_proto::review::{Severity, Turned};
use dawnwatch_proto::{HostId, api};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::clock::ms_between;
use crate::detect::Anomaly;
use crate::detect::absence::SERVER;
use crate::detect::reach::is_way;
use crate::effect::Reason;

/// What fires this soon after an incident closed is still about it.
pub(crate) const JOIN_MS: i64 = 600_000;
/// Incidents kept, closed ones included: 250 a night for 40 nights; older ones are in the ledger.
pub(crate) const INCIDENTS_MAX: usize = 10_000;
/// Closed incidents older than this are left to the ledger.
pub(crate) const KEPT_MS: i64 = 40 * 86_400_000;
/// Alerts of one incident: more file systems than this on one host say nothing more.
pub(crate) const ALERTS_MAX: usize = 256;
/// Messages remembered of one incident: six an hour to four channels over a long weekend, almost.
const TOLD_MAX: usize = 1_000;
/// Alerts named in an incident's words; the rest is counted.
const NAMED_MAX: usize = 3;

/// What it is called by began this much later than the whole: both times are told.
const TURNED_MS: i64 = 60_000;

/// Where an alert is: its incident, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlertRef {
    pub(crate) incident: u64,
    pub(crate) index: usize,
}

/// What an incident is about, and so the letter of its id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Something is broken: `I-318`.
    #[default]
    Fault,
    /// Log lines that are not as usual: `L-052`.
    Log,
}

/// The life of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Nobody took it.
    Open,
    /// Somebody has it.
    Acknowledged,
    /// All its alerts are resolved.
    Closed,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Acknowledged => "acknowledged",
            State::Closed => "closed",
        }
    }
}

/// A message about an incident and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) key: String,
    pub(crate) channel: String,
    pub(crate) reason: Reason,
    pub(crate) decided: Timestamp,
    /// `pending`, `arrived`, `lost`.
    pub(crate) fate: String,
    pub(crate) at: Option<Timestamp>,
    pub(crate) answer: String,
}

/// Alerts that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Incident {
    pub(crate) number: u64,
    pub(crate) host: HostId,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) severity: Severity,
    pub(crate) since: Timestamp,
    pub(crate) until: Option<Timestamp>,
    pub(crate) taken: Option<(String, Timestamp)>,
    pub(crate) notes: Vec<String>,
    pub(crate) cause: Option<String>,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) told: VecDeque<Told>,
    /// Channels that heard it opened and not yet that it closed, and the severity they heard of.
    pub(crate) hearing: BTreeMap<String, Severity>,
    /// Alerts that were part of the last message.
    pub(crate) alerts_told: usize,
    /// Counts messages: part of their keys.
    pub(crate) revision: u32,
    /// Boot times of the messages of the last hour.
    pub(crate) pages: VecDeque<u64>,
    /// Why it paged or did not, as decided last.
    pub(crate) policy: Vec<String>,
    /// When it closed, in boot time.
    pub(crate) closed_ms: Option<u64>,
    pub(crate) kind: Kind,
    /// Whole log lines around its start.
    pub(crate) lines: Vec<api::LogLine>,
    /// Hosts of a finding about log lines.
    pub(crate) hosts: BTreeSet<HostId>,
    /// Further kinds of log lines that came near it and are not among its alerts.
    pub(crate) kinds_more: u32,
}

/// All incidents that are remembered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Incidents {
    last: u64,
    pub(crate) all: BTreeMap<u64, Incident>,
    /// The latest incident of each host.
    latest: BTreeMap<HostId, u64>,
    /// Those that are not closed.
    pub(crate) open: BTreeSet<u64>,
    /// Those that were handed out to be changed since readers were shown them last.
    #[serde(skip)]
    pub(crate) changed: BTreeSet<u64>,
}

impl Incidents {
    /// Finds the incident an anomaly belongs to, or opens one, and adds the alert. `boot_ms` is now.
    pub(crate) fn fire(
        &mut self,
        host: HostId,
        name: &str,
        anomaly: Anomaly,
        boot_ms: u64,
    ) -> AlertRef {
        let number = self
            .home(host, &anomaly, boot_ms)
            .unwrap_or_else(|| self.begin(host, name, &anomaly));
        self.place(number, anomaly)
    }

    /// Adds an alert to an incident that is there, or lets the same one go on.
    pub(crate) fn place(&mut self, number: u64, anomaly: Anomaly) -> AlertRef {
        let incident = self
            .change(number)
            .expect("only incidents that are there are named");
        let same = incident
            .alerts
            .iter()
            .position(|a| a.rule == anomaly.rule && a.subject == anomaly.subject);
        let index = match same {
            Some(index) => {
                incident.alerts[index].again(anomaly);
                index
            }
            None if incident.alerts.len() < ALERTS_MAX => {
                incident.alerts.push(Alert::new(anomaly));
                incident.alerts.len() - 1
            }
            None => {
                incident.alerts[ALERTS_MAX - 1].again(anomaly);
                ALERTS_MAX - 1
            }
        };
        AlertRef {
            incident: number,
            index,
        }
    }

    /// The incident that an anomaly of this host is part of: for the present the latest, for late data the one of its time.
    fn home(&self, host: HostId, anomaly: &Anomaly, boot_ms: u64) -> Option<u64> {
        if host == SERVER {
            return self.home_of_server(anomaly, boot_ms);
        }
        if !anomaly.late {
            let incident = self.all.get(self.latest.get(&host)?)?;
            let fresh = incident.closed_ms.is_none_or(|closed| {
                i64::try_from(boot_ms.saturating_sub(closed)).unwrap_or(i64::MAX) < JOIN_MS
            });
            return fresh.then_some(incident.number);
        }
        let near = |incident: &&Incident| {
            incident.host == host
                && incident.kind == Kind::Fault
                && ms_between(anomaly.fired, incident.since) < JOIN_MS
                && incident
                    .until
                    .is_none_or(|until| ms_between(until, anomaly.since) < JOIN_MS)
        };
        self.all.values().rev().find(near).map(|i| i.number)
    }

    /// What is wrong with the server in several ways is no one thing: only the same again belongs together.
    fn home_of_server(&self, anomaly: &Anomaly, boot_ms: u64) -> Option<u64> {
        let fresh = |i: &&Incident| {
            let closed_ms = i
                .closed_ms
                .map_or(0, |closed| boot_ms.saturating_sub(closed));
            i64::try_from(closed_ms).unwrap_or(i64::MAX) < JOIN_MS
        };
        let same = |i: &&Incident| {
            i.alerts.iter().any(|a| {
                a.subject == anomaly.subject && (a.rule == anomaly.rule || is_way(&a.subject))
            })
        };
        let own = self.all.values().rev().filter(|i| i.host == SERVER);
        own.filter(fresh).find(same).map(|i| i.number)
    }

    fn begin(&mut self, host: HostId, name: &str, anomaly: &Anomaly) -> u64 {
        let number = self.begin_of(Kind::Fault, host, name, anomaly);
        let newest = self
            .latest
            .get(&host)
            .and_then(|latest| self.all.get(latest))
            .is_none_or(|latest| latest.since <= anomaly.since);
        if newest || !anomaly.late {
            self.latest.insert(host, number);
        }
        number
    }

    /// Opens an incident of a kind, without alerts yet.
    pub(crate) fn begin_of(
        &mut self,
        kind: Kind,
        host: HostId,
        name: &str,
        anomaly: &Anomaly,
    ) -> u64 {
        self.last += 1;
        let number = self.last;
        let incident = Incident {
            number,
            host,
            name: name.to_owned(),
            state: State::Closed,
            severity: anomaly.severity,
            since: anomaly.since,
            until: None,
            taken: None,
            notes: Vec::new(),
            cause: None,
            alerts: Vec::new(),
            told: VecDeque::new(),
            hearing: BTreeMap::new(),
            alerts_told: 0,
            revision: 0,
            pages: VecDeque::new(),
            policy: Vec::new(),
            closed_ms: None,
            kind,
            lines: Vec::new(),
            hosts: BTreeSet::new(),
            kinds_more: 0,
        };
        self.all.insert(number, incident);
        number
    }

    /// An incident to change: the only way to one, so that readers are shown it anew.
    pub(crate) fn change(&mut self, number: u64) -> Option<&mut Incident> {
        let incident = self.all.get_mut(&number)?;
        self.changed.insert(number);
        Some(incident)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Incident> {
        self.all.get(&number)
    }

    /// Its number, from its id. All kinds count together, so that a number alone names one thing.
    pub(crate) fn number(id: &str) -> Option<u64> {
        let number = id.strip_prefix("I-").or_else(|| id.strip_prefix("L-"));
        number?.parse().ok()
    }

    pub(crate) fn alert(&mut self, at: AlertRef) -> Option<&mut Alert> {
        self.change(at.incident)?.alerts.get_mut(at.index)
    }

    /// An alert to look at.
    pub(crate) fn peek(&self, at: AlertRef) -> Option<&Alert> {
        self.all.get(&at.incident)?.alerts.get(at.index)
    }

    /// The latest incident of a host.
    pub(crate) fn latest(&self, host: HostId) -> Option<u64> {
        self.latest.get(&host).copied()
    }

    /// Forgets closed incidents that are old, and the oldest where there are too many.
    pub(crate) fn prune(&mut self, wall: Timestamp) {
        let old = |i: &Incident| {
            i.until
                .is_some_and(|until| ms_between(until, wall) > KEPT_MS)
        };
        self.all
            .retain(|_, incident| incident.state != State::Closed || !old(incident));
        while self.all.len() > INCIDENTS_MAX {
            let closed = self.all.values().find(|i| i.state == State::Closed);
            let Some(number) = closed.map(|i| i.number) else {
                break;
            };
            self.all.remove(&number);
        }
        let all = &self.all;
        self.latest.retain(|_, number| all.contains_key(number));
    }
}

impl Incident {
    pub(crate) fn id(&self) -> String {
        match self.kind {
            Kind::Fault => format!("I-{}", self.number),
            Kind::Log => format!("L-{:03}", self.number),
        }
    }

    /// Remembers a message, the oldest making room.
    pub(crate) fn tell(&mut self, told: Told) {
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(told);
    }

    /// Worst severity of the alerts that fire at present.
    pub(crate) fn present(&self) -> Option<Severity> {
        self.alerts
            .iter()
            .filter(|a| a.is_present())
            .map(|a| a.severity)
            .max()
    }

    /// What happened, worst alert first; while open only what still holds.
    pub(crate) fn what(&self) -> String {
        match self.kind {
            Kind::Fault => phrase(&self.named()),
            Kind::Log => self.logged(),
        }
    }

    /// What happened, with the name before it where that is not the host's: a target, or a way between two.
    pub(crate) fn told_as(&self) -> String {
        if self.alerts.iter().any(|a| is_way(&a.subject)) {
            return format!("{}: {}", self.name, self.what());
        }
        self.what()
    }

    /// What it is called by, and where that began later than the whole: since when it holds, and what came first.
    fn called(&self) -> (String, Option<Turned>) {
        if self.kind == Kind::Log {
            return (self.logged(), None);
        }
        let mut named = self.named();
        let earliest = self.alerts.iter().min_by_key(|a| a.since);
        let (Some(worst), Some(earliest)) = (named.first().copied(), earliest) else {
            return (String::new(), None);
        };
        if self.state == State::Closed || ms_between(self.since, worst.since) < TURNED_MS {
            return (phrase(&named), None);
        }
        // What came first is told with its own time.
        named.retain(|alert| !std::ptr::eq(*alert, earliest));
        let from = if !earliest.is_firing() {
            "in trouble"
        } else if earliest.series.is_empty() || earliest.series != worst.series {
            earliest.what.as_str()
        } else if earliest.series.starts_with("node_filesystem") {
            "filling"
        } else {
            "high"
        };
        let turned = Turned {
            at: worst.since,
            from: from.to_owned(),
        };
        (phrase(&named), Some(turned))
    }

    /// The alerts that it is told by, worst first: one of each series.
    pub(crate) fn named(&self) -> Vec<&Alert> {
        let firing = self.alerts.iter().any(Alert::is_firing);
        let mut alerts: Vec<&Alert> = self
            .alerts
            .iter()
            .filter(|a| !firing || a.is_firing())
            // What came near it is evidence and no name.
            .filter(|a| self.severity == Severity::Info || a.severity > Severity::Info)
            .collect();
        alerts.sort_by(|a, b| {
            (b.severity, a.since, &a.rule, &a.subject)
                .cmp(&(a.severity, b.since, &b.rule, &b.subject))
        });
        // One ladder, one word: the worse rule of the same series speaks for both.
        let mut named: Vec<&Alert> = Vec::new();
        for alert in alerts {
            let known = |other: &&Alert| !other.series.is_empty() && other.series == alert.series;
            if !named.iter().any(known) {
                named.push(alert);
            }
        }
        named
    }

    /// Known cause, or that it is unknown.
    pub(crate) fn cause(&self) -> String {
        if self.kind == Kind::Log {
            // A line is the cause's own word, not a fault that has one.
            return self.cause.clone().unwrap_or_default();
        }
        self.cause
            .clone()
            .unwrap_or_else(|| "cause unknown".to_owned())
    }

    /// What an API client reads; service and owner come with the configuration of the moment.
    pub(crate) fn shown(&self, service: Option<String>, owner: Option<String>) -> api::Incident {
        let told = self.told.iter().map(Told::shown).collect();
        let mut why = self.policy.clone();
        why.extend(self.notes.iter().cloned());
        why.extend(self.kinds_left_out());
        let (what, turned) = self.called();
        api::Incident {
            id: self.id(),
            host: self.host,
            name: self.name.clone(),
            service,
            owner,
            state: self.state.word().to_owned(),
            severity: self.severity,
            what,
            since: self.since,
            turned,
            until: self.until,
            taken: self.taken.clone(),
            cause: self.cause(),
            alerts: self.alerts.iter().map(Alert::shown).collect(),
            told,
            why,
            lines: self.lines.clone(),
        }
    }
}

/// The words of some alerts; many are counted.
fn phrase(alerts: &[&Alert]) -> String {
    let words: Vec<&str> = alerts.iter().map(|a| a.what.as_str()).collect();
    let mut text = words[..words.len().min(NAMED_MAX)].join("; ");
    if words.len() > NAMED_MAX {
        text.push_str(&format!("; and {} more", words.len() - NAMED_MAX));
    }
    text
}

impl Told {
    fn shown(&self) -> api::Told {
        let reason = match self.reason {
            Reason::Opened => "opened",
            Reason::Worse => "worse",
            Reason::Closed => "closed",
            Reason::Reminder => "reminder",
            Reason::Review => "review",
            Reason::Test => "test",
        };
        api::Told {
            channel: self.channel.clone(),
            reason: reason.to_owned(),
            decided: self.decided,
            fate: self.fate.clone(),
            at: self.at,
            answer: self.answer.clone(),
        }
    }
}
