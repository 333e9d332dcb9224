//! From what judging a row found to alerts: they begin, go on and end here, and each edge is recorded.

use dawnwatch_proto::HostId;
use jiff::Timestamp;

use crate::clock::ms_between;
use crate::detect::threshold::{Edge, Firing, Pending, Phase};
use crate::detect::{Anomaly, absence, phrase};
use crate::effect::Entry;
use crate::engine::{Engine, Out};
use crate::host::{Found, How};
use crate::incident::AlertRef;
use crate::input::At;
use crate::words;

/// A row that is being judged: whose, when taken in, how, and whether it came late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) id: HostId,
    pub(crate) at: At,
    pub(crate) how: How,
    pub(crate) late: bool,
}

impl Engine {
    /// Turns what judging a row found into alerts.
    pub(crate) fn apply(&mut self, judged: &Judged, found: Found, out: &mut Out) {
        let Judged { id, how, .. } = *judged;
        match found.edge {
            Edge::None => {}
            Edge::Fire(ref pending) => {
                let alert = self.fire(judged, &found, pending, out);
                let phase = Phase::Firing(Firing::new(alert, how.clock_ms));
                let Some(host) = self.state.hosts.get_mut(&id) else {
                    return;
                };
                let Some(slot) = host.slots.get_mut(found.slot) else {
                    return;
                };
                if how.live {
                    slot.live = Some(phase);
                } else {
                    slot.phase = phase;
                }
            }
            Edge::Observe(alert) => self.observe(judged, &found, alert, out),
            Edge::Clear(alert, from) => {
                let slot = self
                    .state
                    .hosts
                    .get(&id)
                    .and_then(|h| h.slots.get(found.slot));
                let present = slot.and_then(|s| s.live.as_ref()).and_then(Phase::alert);
                // Clear in the past, and bad again at present: one alert that goes on.
                if how.live || present != Some(alert) {
                    let note = if found.rule.is_none() {
                        "no longer there"
                    } else {
                        ""
                    };
                    self.resolve(alert, from, note, out);
                }
            }
        }
    }

    fn observe(&mut self, judged: &Judged, found: &Found, alert: AlertRef, out: &mut Out) {
        let Judged { id, how, late, .. } = *judged;
        let Some(state) = self.state.incidents.alert(alert) else {
            return;
        };
        if state.is_firing() {
            state.observe(how.at, found.value);
            if state.past && !late {
                state.past = false;
                out.touched.insert(alert.incident);
            }
        } else if !late && !how.live {
            // Heartbeats saw it end, the ticks see it again: it begins anew.
            let slot = self
                .state
                .hosts
                .get_mut(&id)
                .and_then(|h| h.slots.get_mut(found.slot));
            if let Some(slot) = slot {
                slot.phase = Phase::Clear;
            }
        }
    }

    fn fire(
        &mut self,
        judged: &Judged,
        found: &Found,
        pending: &Pending,
        out: &mut Out,
    ) -> AlertRef {
        let Judged { id, at, how, late } = *judged;
        let slot = self
            .state
            .hosts
            .get(&id)
            .and_then(|host| host.slots.get(found.slot));
        let known = slot.and_then(|s| s.alerts().next()).filter(|a| {
            let alert = self.state.incidents.all.get(&a.incident);
            alert
                .and_then(|i| i.alerts.get(a.index))
                .is_some_and(|a| a.is_firing())
        });
        if let Some(known) = known {
            if let Some(alert) = self.state.incidents.alert(known) {
                alert.since = alert.since.min(pending.since);
                alert.past = alert.past && late;
            }
            out.touched.insert(known.incident);
            return known;
        }
        let rule = &self.state.config.rules[found.rule.unwrap_or(0)];
        let subject = slot.map_or(String::new(), |s| s.subject.clone());
        let what = phrase::phrase(rule.measure, &subject, found.value);
        let held = words::duration(ms_between(pending.since, how.at));
        let left = found
            .left
            .as_ref()
            .map_or(String::new(), |left| format!(", {left}"));
        let bound = phrase::bound(rule);
        // What fires at once has not held for any time.
        let held = match rule.hold_seconds {
            0 => String::new(),
            _ => format!(" for {held}"),
        };
        let users = self.users(id, rule.measure, how.at);
        let why = format!("{what}{held}{bound}{left}{users}");
        let anomaly = Anomaly {
            rule: rule.name.clone(),
            subject,
            series: found.series.clone(),
            severity: rule.severity,
            since: pending.since,
            fired: how.at,
            observed: found.value,
            worst: pending.worst,
            bound: rule.bound,
            what,
            why,
            evidence: pending.evidence.clone(),
            late,
        };
        self.open(id, at, anomaly, out)
    }

    /// Makes the alert of an anomaly and records it.
    pub(crate) fn open(&mut self, id: HostId, at: At, anomaly: Anomaly, out: &mut Out) -> AlertRef {
        let host = self.state.hosts.get(&id);
        let name = host.map_or("server".to_owned(), |h| h.card.name.clone());
        self.open_as(id, &name, at, anomaly, out)
    }

    /// The same, with an incident that goes by another name than the host.
    pub(crate) fn open_as(
        &mut self,
        id: HostId,
        name: &str,
        at: At,
        anomaly: Anomaly,
        out: &mut Out,
    ) -> AlertRef {
        let mut entry = Entry::Alert {
            incident: String::new(),
            rule: anomaly.rule.clone(),
            host: id,
            series: anomaly.series.clone(),
            state: "firing".to_owned(),
            severity: anomaly.severity,
            at: anomaly.fired,
            observed: anomaly.observed,
            why: anomaly.why.clone(),
        };
        let alert = self.state.incidents.fire(id, name, anomaly, at.boot_ms);
        if let (Entry::Alert { incident, .. }, Some(home)) =
            (&mut entry, self.state.incidents.get(alert.incident))
        {
            *incident = home.id();
        }
        out.record(entry);
        out.touched.insert(alert.incident);
        self.lines_before(id, alert.incident);
        alert
    }

    /// Ends an alert and records it.
    pub(crate) fn resolve(&mut self, at: AlertRef, until: Timestamp, note: &str, out: &mut Out) {
        let Some(incident) = self.state.incidents.change(at.incident) else {
            return;
        };
        let (id, host) = (incident.id(), incident.host);
        let Some(alert) = incident.alerts.get_mut(at.index) else {
            return;
        };
        if !alert.is_firing() {
            return;
        }
        alert.until = Some(until.max(alert.since));
        if let Some(was) = absence::was(&alert.what) {
            was.clone_into(&mut alert.what);
        }
        if !note.is_empty() {
            alert.why = format!("{}; {note}", alert.why);
        }
        out.record(Entry::Alert {
            incident: id,
            rule: alert.rule.clone(),
            host,
            series: alert.series.clone(),
            state: "resolved".to_owned(),
            severity: alert.severity,
            at: until,
            observed: alert.observed,
            why: alert.why.clone(),
        });
        out.touched.insert(at.incident);
    }

    /// Ends what fires by rules that no longer hold for a host.
    pub(crate) fn drop_slots(&mut self, id: HostId, at: At, out: &mut Out) {
        let rules = &self.state.config.rules;
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        let holds = |rule: &str| {
            absence::BUILT_IN.contains(&rule) || rules.iter().any(|r| r.enabled && r.name == rule)
        };
        let retired = host.card.retired;
        let mut ended = Vec::new();
        host.slots.retain(|slot| {
            let stays = !retired && holds(&slot.rule);
            if !stays {
                ended.extend(slot.alerts());
            }
            stays
        });
        let note = if retired {
            "host retired"
        } else {
            "rule switched off"
        };
        for alert in ended {
            self.resolve(alert, at.wall, note, out);
        }
    }
}
