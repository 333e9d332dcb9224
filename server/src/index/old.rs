//! An incident that the engine has forgotten, put together from what the ledger keeps of it for ever.

use std::path::Path;

use dawnwatch_engine::Entry;
use dawnwatch_engine::effect::{Content, Effect, Notification};
use dawnwatch_engine::input::Outcome;
use dawnwatch_proto::HostId;
use dawnwatch_proto::api::{Alert, FindingEvidence, Incident, NightHead, Told};
use dawnwatch_proto::review::Severity;
use jiff::Timestamp;

use crate::ledger::Frame;
use crate::nights::evidence;

/// Nights whose evidence is looked at for one incident: an incident that stayed open for weeks is kept with its first ones.
const NIGHTS_MAX: usize = 3;

/// Puts an incident together from ledger frames in their order; none where they do not tell of it. What only the engine knew
/// (bounds, samples around the start) and no message carried is gone, but for what [`recall`] finds.
pub fn incident(id: &str, frames: &[Frame]) -> Option<Incident> {
    let mut found: Option<Incident> = None;
    for frame in frames {
        for effect in &frame.effects {
            match effect {
                Effect::Record(entry) => record(&mut found, id, frame.wall, entry),
                Effect::Notify(notification) => notify(&mut found, id, notification),
                Effect::SealNight(review) => {
                    let mut rows = review.critical.iter().chain(&review.today);
                    let row = rows
                        .find(|row| row.id == id)
                        .or_else(|| review.healed.iter().find(|row| row.id == id));
                    if let (Some(row), Some(incident)) = (row, found.as_mut()) {
                        incident.name.clone_from(&row.subject);
                        incident.what.clone_from(&row.what);
                        incident.service.clone_from(&row.service);
                        incident.owner.clone_from(&row.owner);
                        incident.cause.clone_from(&row.cause);
                        incident.turned.clone_from(&row.turned);
                    }
                }
            }
        }
    }
    if let Some(incident) = &mut found {
        incident
            .why
            .push("told from the ledger, which keeps an incident for ever".to_owned());
    }
    found
}

/// Adds what the evidence of a sealed night kept of the incident: bounds, samples, lines. Without any, or where it cannot be
/// read, the incident stays as the ledger tells it.
pub fn recall(incident: &mut Incident, data: &Path, heads: &[NightHead]) {
    let of_it = |head: &&NightHead| {
        incident.since < head.end && incident.until.is_none_or(|until| until >= head.start)
    };
    let id = incident.id.clone();
    for head in heads.iter().filter(of_it).take(NIGHTS_MAX) {
        let read = evidence::read(data, &head.id).unwrap_or_else(|error| {
            tracing::warn!(%error, "evidence of a sealed night cannot be read");
            None
        });
        let mut findings = read.into_iter().flat_map(|evidence| evidence.findings);
        if let Some(kept) = findings.find(|kept| kept.incident.id == id) {
            adopt(incident, kept);
            let text = format!("samples and lines are those kept with night {}", head.id);
            incident.why.push(text);
            return;
        }
    }
}

/// What the ledger says of states and ends is later than what was kept, and stays.
fn adopt(incident: &mut Incident, kept: FindingEvidence) {
    for of in kept.incident.alerts {
        let samples = kept.series.iter().find(|one| one.series == of.series);
        let samples = samples.map_or(Vec::new(), |one| {
            let known = one.points.iter();
            known.filter_map(|(at, v)| Some((*at, (*v)?))).collect()
        });
        let same = |one: &&mut Alert| one.rule == of.rule && one.series == of.series;
        if let Some(alert) = incident.alerts.iter_mut().find(same) {
            alert.since = of.since;
            alert.worst = of.worst;
            alert.bound = of.bound;
            alert.late = of.late;
            alert.evidence = if samples.is_empty() {
                of.evidence
            } else {
                samples
            };
        } else {
            incident.alerts.push(of);
        }
    }
    if incident.lines.is_empty() {
        incident.lines = kept.lines;
    }
}

fn record(found: &mut Option<Incident>, id: &str, wall: Timestamp, entry: &Entry) {
    match entry {
        Entry::Incident {
            id: of,
            host,
            state,
            severity,
            at,
            by,
            what,
        } if of == id => {
            let incident = found.get_or_insert_with(|| empty(id, *host, *at));
            incident.state.clone_from(state);
            incident.severity = incident.severity.max(*severity);
            incident.until = (state == "closed").then_some(*at);
            if incident.what.is_empty() || state == "open" {
                incident.what.clone_from(what);
            }
            if state == "acknowledged" {
                incident.taken = Some((by.clone(), *at));
            }
        }
        Entry::Alert {
            incident: of,
            rule,
            host,
            series,
            state,
            severity,
            at,
            observed,
            why,
        } if of == id => {
            let incident = found.get_or_insert_with(|| empty(id, *host, *at));
            incident.severity = incident.severity.max(*severity);
            let known = incident
                .alerts
                .iter()
                .position(|alert| alert.rule == *rule && alert.series == *series);
            let i = known.unwrap_or_else(|| {
                let alert = first(rule, series, *severity, *at, *observed);
                incident.alerts.push(alert);
                incident.alerts.len() - 1
            });
            let alert = &mut incident.alerts[i];
            alert.state.clone_from(state);
            alert.severity = alert.severity.max(*severity);
            alert.why.clone_from(why);
            alert.observed = *observed;
            match state.as_str() {
                "firing" => alert.fired = alert.fired.or(Some(*at)),
                "resolved" => alert.until = Some(*at),
                _ => {}
            }
        }
        Entry::Delivered {
            key,
            outcome,
            answer,
        } if key.split('/').next() == Some(id) => {
            delivered(found, wall, key, (*outcome, answer));
        }
        Entry::Incident { .. }
        | Entry::Alert { .. }
        | Entry::Delivered { .. }
        | Entry::Host { .. }
        | Entry::Server { .. }
        | Entry::Sealed { .. }
        | Entry::Person { .. }
        | Entry::Evidence { .. } => {}
    }
}

/// What came of the oldest message to that channel whose fate is not known yet.
fn delivered(
    found: &mut Option<Incident>,
    wall: Timestamp,
    key: &str,
    (outcome, answer): (Outcome, &str),
) {
    let channel = key.rsplit('/').next().unwrap_or_default();
    let told = found.as_mut().and_then(|incident| {
        let mut told = incident.told.iter_mut();
        told.find(|told| told.channel == channel && told.fate == "pending")
    });
    if let Some(told) = told {
        told.at = Some(wall);
        answer.clone_into(&mut told.answer);
        told.fate = match outcome {
            Outcome::Arrived => "arrived",
            Outcome::Refused => "lost",
            Outcome::Struggling => "pending",
        }
        .to_owned();
    }
}

/// A message carries the incident as it stood: more than the entries say.
fn notify(found: &mut Option<Incident>, id: &str, notification: &Notification) {
    let Content::Incident(content) = &notification.content else {
        return;
    };
    if content.incident.id != id {
        return;
    }
    let told = found
        .take()
        .map(|incident| incident.told)
        .unwrap_or_default();
    let mut incident = content.incident.clone();
    incident.told = told;
    incident.told.push(Told {
        channel: notification.channel.clone(),
        reason: format!("{:?}", notification.reason).to_lowercase(),
        decided: notification.decided,
        fate: "pending".to_owned(),
        at: None,
        answer: String::new(),
    });
    *found = Some(incident);
}

fn first(rule: &str, series: &str, severity: Severity, at: Timestamp, observed: f64) -> Alert {
    Alert {
        rule: rule.to_owned(),
        series: series.to_owned(),
        state: String::new(),
        severity,
        since: at,
        fired: None,
        until: None,
        why: String::new(),
        observed,
        worst: observed,
        bound: 0.0,
        evidence: Vec::new(),
        late: false,
    }
}

fn empty(id: &str, host: HostId, at: Timestamp) -> Incident {
    Incident {
        id: id.to_owned(),
        host,
        name: host.to_string(),
        service: None,
        owner: None,
        state: "open".to_owned(),
        severity: Severity::Info,
        what: String::new(),
        since: at,
        turned: None,
        until: None,
        taken: None,
        cause: "cause unknown".to_owned(),
        alerts: Vec::new(),
        told: Vec::new(),
        why: Vec::new(),
        lines: Vec::new(),
    }
}
