//! Incidents: alerts that belong together. All of one host for the present: what fires while an incident of the host is open, or
//! shortly after it closed, is part of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dawnwatch_proto::review::Severity;
use dawnwatch_proto::{HostId, api};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::clock::ms_between;
use crate::detect::Anomaly;
use crate::effect::Reason;

/// What fires this soon after an incident closed is still about it.
pub(crate) const JOIN_MS: i64 = 600_000;
/// Incidents kept, closed ones included: 250 a night for 40 nights; older ones are in the ledger.
pub(crate) const INCIDENTS_MAX: usize = 10_000;
/// Closed incidents older than this are left to the ledger.
pub(crate) const KEPT_MS: i64 = 40 * 86_400_000;
/// Alerts of one incident: more file systems than this on one host say nothing more.
const ALERTS_MAX: usize = 256;
/// Messages remembered of one incident: six an hour to four channels over a long weekend, almost.
const TOLD_MAX: usize = 1_000;
/// Alerts named in an incident's words; the rest is counted.
const NAMED_MAX: usize = 3;

/// Where an alert is: its incident, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlertRef {
    pub(crate) incident: u64,
    pub(crate) index: usize,
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
        let incident = self
            .all
            .get_mut(&number)
            .expect("home and begin name incidents that are there");
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
        if !anomaly.late {
            let incident = self.all.get(self.latest.get(&host)?)?;
            let fresh = incident.closed_ms.is_none_or(|closed| {
                i64::try_from(boot_ms.saturating_sub(closed)).unwrap_or(i64::MAX) < JOIN_MS
            });
            return fresh.then_some(incident.number);
        }
        let near = |incident: &&Incident| {
            incident.host == host
                && ms_between(anomaly.fired, incident.since) < JOIN_MS
                && incident
                    .until
                    .is_none_or(|until| ms_between(until, anomaly.since) < JOIN_MS)
        };
        self.all.values().rev().find(near).map(|i| i.number)
    }

    fn begin(&mut self, host: HostId, name: &str, anomaly: &Anomaly) -> u64 {
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
        };
        self.all.insert(number, incident);
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

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Incident> {
        let number = id.strip_prefix("I-")?.parse().ok()?;
        self.all.get_mut(&number)
    }

    pub(crate) fn alert(&mut self, at: AlertRef) -> Option<&mut Alert> {
        self.all.get_mut(&at.incident)?.alerts.get_mut(at.index)
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
        format!("I-{}", self.number)
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
        let firing = self.alerts.iter().any(Alert::is_firing);
        let mut alerts: Vec<&Alert> = self
            .alerts
            .iter()
            .filter(|a| !firing || a.is_firing())
            .collect();
        // One ladder, one word: the worse rule of the same subject speaks for both.
        alerts.sort_by(|a, b| {
            (b.severity, a.since, &a.rule, &a.subject)
                .cmp(&(a.severity, b.since, &b.rule, &b.subject))
        });
        let mut named: Vec<(&str, &str)> = Vec::new();
        for alert in &alerts {
            if !named
                .iter()
                .any(|(series, _)| !alert.series.is_empty() && *series == alert.series)
            {
                named.push((&alert.series, &alert.what));
            }
        }
        let words: Vec<&str> = named
            .iter()
            .take(NAMED_MAX)
            .map(|(_, what)| *what)
            .collect();
        let mut text = words.join("; ");
        if named.len() > NAMED_MAX {
            text.push_str(&format!("; and {} more", named.len() - NAMED_MAX));
        }
        text
    }

    /// Known cause, or that it is unknown.
    pub(crate) fn cause(&self) -> String {
        if let Some(cause) = &self.cause {
            return cause.clone();
        }
        let filling = self
            .alerts
            .iter()
            .any(|a| a.series.starts_with("node_filesystem_avail_bytes"));
        if filling {
            "fills up".to_owned()
        } else {
            "cause unknown".to_owned()
        }
    }

    /// What an API client reads; service and owner come with the configuration of the moment.
    pub(crate) fn shown(&self, service: Option<String>, owner: Option<String>) -> api::Incident {
        let told = self.told.iter().map(Told::shown).collect();
        let mut why = self.policy.clone();
        why.extend(self.notes.iter().cloned());
        api::Incident {
            id: self.id(),
            host: self.host,
            name: self.name.clone(),
            service,
            owner,
            state: self.state.word().to_owned(),
            severity: self.severity,
            what: self.what(),
            since: self.since,
            until: self.until,
            taken: self.taken.clone(),
            cause: self.cause(),
            alerts: self.alerts.iter().map(Alert::shown).collect(),
            told,
            why,
        }
    }
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
