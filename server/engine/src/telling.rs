//! From changed alerts to incidents, and from incidents to messages.

use std::collections::BTreeSet;

use dawnwatch_proto::HostId;
use dawnwatch_proto::review::{Review, Severity};

use crate::clock::ms_between;
use crate::detect::measure::Rows;
use crate::effect::{Content, Effect, Entry, IncidentContent, Notification, Reason};
use crate::engine::{Engine, Out};
use crate::incident::{Incident, State, Told};
use crate::input::At;
use crate::logs::cut;
use crate::policy::{self, Moment};
use crate::words;

/// Changes of this long before are told with an incident.
const CHANGED_MS: i64 = 86_400_000;
/// A last line older than this, before the last values, has nothing to do with what came then.
const LAST_LINE_MS: i64 = 300_000;
/// Bytes of a last line in a message; a person reads it on a phone.
const LAST_BYTES_MAX: usize = 160;
/// Changes and earlier incidents named in a message; a person reads it on a phone.
const NAMED_MAX: usize = 5;

impl Engine {
    /// Brings the incidents of changed alerts up to date and decides who is told.
    pub(crate) fn settle(&mut self, at: At, out: &mut Out) {
        if out.touched.is_empty() {
            return;
        }
        let night = self.is_night(at.wall);
        for number in std::mem::take(&mut out.touched) {
            let Some(incident) = self.state.incidents.change(number) else {
                continue;
            };
            if let Some(entry) = bring_up_to_date(incident, at) {
                out.effects.push(Effect::Record(entry));
            }
            let closed = incident.state == State::Closed;
            let config = &self.state.config;
            let moment = Moment {
                config,
                night,
                boot_ms: at.boot_ms,
            };
            let tell = policy::decide(incident, moment);
            if closed {
                self.state.incidents.open.remove(&number);
            } else {
                self.state.incidents.open.insert(number);
            }
            self.tell(number, at, &tell, out);
        }
    }

    /// Repeats what nobody took.
    pub(crate) fn remind(&mut self, at: At, night: bool, out: &mut Out) {
        let open: Vec<u64> = self.state.incidents.open.iter().copied().collect();
        for number in open {
            if !self
                .state
                .incidents
                .get(number)
                .is_some_and(policy::may_remind)
            {
                continue;
            }
            let Some(incident) = self.state.incidents.change(number) else {
                continue;
            };
            let config = &self.state.config;
            let moment = Moment {
                config,
                night,
                boot_ms: at.boot_ms,
            };
            let tell = policy::remind(incident, moment, &mut self.state.repeats);
            self.tell(number, at, &tell, out);
        }
    }

    pub(crate) fn tell(&mut self, number: u64, at: At, tell: &[(String, Reason)], out: &mut Out) {
        if tell.is_empty() {
            return;
        }
        let Some(incident) = self.state.incidents.change(number) else {
            return;
        };
        if tell.iter().all(|(_, reason)| *reason == Reason::Closed) {
            incident.revision += 1;
        }
        let (id, revision, host) = (incident.id(), incident.revision, incident.host);
        for (channel, reason) in tell {
            incident.tell(Told {
                key: format!("{id}/{revision}/{channel}"),
                channel: channel.clone(),
                reason: *reason,
                decided: at.wall,
                fate: "pending".to_owned(),
                at: None,
                answer: String::new(),
            });
        }
        let told: Vec<String> = tell.iter().map(|(channel, _)| channel.clone()).collect();
        let Some(content) = self.content(number, host, at, &told) else {
            return;
        };
        for (channel, reason) in tell {
            out.effects.push(Effect::Notify(Notification {
                key: format!("{id}/{revision}/{channel}"),
                channel: channel.clone(),
                incident: id.clone(),
                reason: *reason,
                decided: at.wall,
                content: Content::Incident(Box::new(content.clone())),
            }));
        }
    }

    fn content(
        &self,
        number: u64,
        host: HostId,
        at: At,
        told: &[String],
    ) -> Option<IncidentContent> {
        let state = &self.state;
        let incident = self.incident_shown(state.incidents.get(number)?);
        let joined = state.hosts.values().filter(|h| !h.card.retired);
        let hit: BTreeSet<HostId> = state
            .incidents
            .open
            .iter()
            .filter_map(|n| state.incidents.all.get(n))
            .filter(|i| i.severity > Severity::Info)
            .map(|i| i.host)
            .collect();
        let fine = joined
            .clone()
            .filter(|h| !hit.contains(&h.card.id) && self.is_live(h))
            .count();
        let joined = joined.count();
        let changed = state.changes.iter().rev().filter(|c| {
            c.host == Some(host) && (0..CHANGED_MS).contains(&ms_between(c.at, at.wall))
        });
        let rules: Vec<&str> = incident.alerts.iter().map(|a| a.rule.as_str()).collect();
        let before = state.incidents.all.range(..number).rev().filter(|(_, i)| {
            i.host == host && i.alerts.iter().any(|a| rules.contains(&a.rule.as_str()))
        });
        Some(IncidentContent {
            zone: state.config.calendar.zone.clone(),
            fine: (count(fine), count(joined)),
            last: self.last_heard(host),
            changed: changed.take(NAMED_MAX).map(|c| c.text.clone()).collect(),
            before: before
                .take(NAMED_MAX)
                .map(|(_, i)| {
                    let date = i.since.to_zoned(self.nights.zone().clone()).date();
                    format!("{date} {} {}", i.id(), i.what())
                })
                .collect(),
            told: told.to_vec(),
            incident,
        })
    }

    /// The host's last known values, in a few words.
    pub(crate) fn last_words(&self, host: HostId) -> Option<(jiff::Timestamp, String)> {
        let host = self.state.hosts.get(&host)?;
        let (plan, before) = host.latest()?;
        let rows = Rows {
            row: &before.row,
            before: None,
        };
        let cpu = host.cpu_ratio.map(|value| ("cpu_ratio".to_owned(), value));
        let words: Vec<String> = cpu
            .into_iter()
            .chain(plan.glance(rows))
            .filter_map(|(name, value)| match name.as_str() {
                "cpu_ratio" => Some(format!("CPU {}", words::percent(value))),
                "memory_ratio" => Some(format!("memory {}", words::percent(value))),
                "filesystem_ratio" => Some(format!("disk {}", words::percent(value))),
                "load1" => Some(format!("load {value:.2}")),
                _ => None,
            })
            .collect();
        (!words.is_empty()).then(|| (before.stamp, words.join(", ")))
    }

    /// The host's last words: its last whole log line, where that is about as fresh as its last values, and these.
    fn last_heard(&self, host: HostId) -> Option<(jiff::Timestamp, String)> {
        let values = self.last_words(host);
        let logs = self.state.logs.hosts.get(&host);
        let Some(line) = logs.and_then(|logs| logs.lines.back()) else {
            return values;
        };
        let said = format!("{}: {}", line.source, cut(&line.text, LAST_BYTES_MAX));
        match values {
            None => Some((line.time, said)),
            Some((at, _)) if ms_between(line.time, at) > LAST_LINE_MS => values,
            Some((_, values)) => Some((line.time, format!("{said} | {values}"))),
        }
    }

    /// Sends a sealed review to the channels that take reviews.
    pub(crate) fn tell_review(&mut self, at: At, review: &Review, out: &mut Out) {
        let channels = self.state.config.channels.iter().filter(|c| c.reviews);
        for channel in channels {
            let key = format!("{}/1/{}", review.id, channel.name);
            self.state.sealing.tell(Told {
                key: key.clone(),
                channel: channel.name.clone(),
                reason: Reason::Review,
                decided: at.wall,
                fate: "pending".to_owned(),
                at: None,
                answer: String::new(),
            });
            out.effects.push(Effect::Notify(Notification {
                key,
                channel: channel.name.clone(),
                incident: String::new(),
                reason: Reason::Review,
                decided: at.wall,
                content: Content::Review(Box::new(review.clone())),
            }));
        }
    }
}

/// Sets state, severity and times from the alerts; an entry where the incident changed.
fn bring_up_to_date(incident: &mut Incident, at: At) -> Option<Entry> {
    let firing = incident.alerts.iter().any(|a| a.is_firing());
    let worst = incident.alerts.iter().map(|a| a.severity).max()?;
    incident.since = incident.alerts.iter().map(|a| a.since).min()?;
    let before = (incident.state, incident.severity);
    incident.severity = worst;
    let mut when = at.wall;
    match (firing, incident.state) {
        (true, State::Closed) => {
            let taken = incident.taken.is_some();
            incident.state = if taken {
                State::Acknowledged
            } else {
                State::Open
            };
            (incident.until, incident.closed_ms) = (None, None);
            when = incident
                .alerts
                .iter()
                .filter(|a| a.is_firing())
                .map(|a| a.fired)
                .max()?;
        }
        (false, State::Open | State::Acknowledged) => {
            incident.state = State::Closed;
            incident.until = incident.alerts.iter().filter_map(|a| a.until).max();
            incident.closed_ms = Some(at.boot_ms);
            when = incident.until?;
        }
        (false, State::Closed) => {
            let born_closed = incident.closed_ms.is_none();
            incident.closed_ms = incident.closed_ms.or(Some(at.boot_ms));
            incident.until = incident.alerts.iter().filter_map(|a| a.until).max();
            if born_closed {
                return Some(entry(incident, incident.until?));
            }
        }
        (true, State::Open | State::Acknowledged) => {}
    }
    if before == (incident.state, incident.severity) {
        return None;
    }
    Some(entry(incident, when))
}

fn entry(incident: &Incident, at: jiff::Timestamp) -> Entry {
    Entry::Incident {
        id: incident.id(),
        host: incident.host,
        state: incident.state.word().to_owned(),
        severity: incident.severity,
        at,
        by: String::new(),
        what: incident.told_as(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
