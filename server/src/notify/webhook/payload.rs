//! The document that a webhook carries. Only add fields: receivers are written against it.

use std::collections::BTreeMap;

use dawnwatch_engine::effect::{Content, IncidentContent, Notification, Reason};
use dawnwatch_proto::api::{Alert, Incident};
use dawnwatch_proto::review::{Review, Severity};
use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use serde::Serialize;

use crate::notify::render::{self, Text};

/// Alertmanager's "has not ended": Go's zero time.
const NOT_ENDED: &str = "0001-01-01T00:00:00Z";

/// Names and their values, in the order of the alphabet.
type Labels = BTreeMap<&'static str, String>;

/// Alertmanager's webhook document, version 4, and ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload<'a> {
    version: &'static str,
    group_key: String,
    truncated_alerts: u32,
    status: &'static str,
    receiver: &'a str,
    group_labels: Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: &'static str,
    alerts: Vec<PostedAlert>,
    dawnwatch: Ours<'a>,
}

/// One alert as Alertmanager writes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PostedAlert {
    status: &'static str,
    labels: Labels,
    annotations: Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'static str,
    fingerprint: String,
}

/// What Alertmanager's form has no room for.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Ours<'a> {
    /// Repeats of one message carry one key.
    key: &'a str,
    reason: Reason,
    decided: Timestamp,
    subject: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<&'a Incident>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<&'a Review>,
}

/// What was known around an incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Context<'a> {
    zone: &'a str,
    hosts_fine: u32,
    hosts: u32,
    last: Option<&'a (Timestamp, String)>,
    changed: &'a [String],
    before: &'a [String],
    told: &'a [String],
}

/// Puts a notification into its document.
#[must_use]
pub fn payload(notification: &Notification) -> Payload<'_> {
    let text = render::text(notification);
    let closed = notification.reason == Reason::Closed;
    let (group, alerts) = match &notification.content {
        Content::Incident(content) => (
            incident_group(content),
            incident_alerts(content, closed, &text),
        ),
        Content::Review(review) => (
            label("night", &review.id),
            vec![review_alert(review, &text)],
        ),
        Content::Test => (
            label("alertname", "dawnwatch_test"),
            vec![test_alert(notification, &text)],
        ),
    };
    let mut common_annotations = label("summary", &text.subject);
    if let Some(first) = alerts.first() {
        common_annotations.retain(|name, value| first.annotations.get(name) == Some(value));
    }
    Payload {
        version: "4",
        group_key: group_key(&group),
        truncated_alerts: 0,
        status: if closed { "resolved" } else { "firing" },
        receiver: &notification.channel,
        common_labels: common(&alerts),
        group_labels: group,
        common_annotations,
        external_url: "",
        alerts,
        dawnwatch: ours(notification, text),
    }
}

fn ours(notification: &Notification, text: Text) -> Ours<'_> {
    let mut out = Ours {
        key: &notification.key,
        reason: notification.reason,
        decided: notification.decided,
        subject: text.subject,
        text: text.body,
        incident: None,
        context: None,
        review: None,
    };
    match &notification.content {
        Content::Incident(content) => {
            out.incident = Some(&content.incident);
            out.context = Some(Context {
                zone: &content.zone,
                hosts_fine: content.fine.0,
                hosts: content.fine.1,
                last: content.last.as_ref(),
                changed: &content.changed,
                before: &content.before,
                told: &content.told,
            });
        }
        Content::Review(review) => out.review = Some(review),
        Content::Test => {}
    }
    out
}

fn incident_group(content: &IncidentContent) -> Labels {
    label("incident", &content.incident.id)
}

/// The incident's alerts; where it has none that fired, the incident itself.
fn incident_alerts(content: &IncidentContent, closed: bool, text: &Text) -> Vec<PostedAlert> {
    let incident = &content.incident;
    let mut out = Vec::new();
    for alert in incident
        .alerts
        .iter()
        .filter(|alert| alert.state != "pending")
    {
        out.push(incident_alert(incident, alert, closed, text));
    }
    if out.is_empty() {
        let mut labels = incident_labels(incident, incident.severity);
        labels.insert("alertname", "incident".to_owned());
        out.push(PostedAlert {
            status: if closed { "resolved" } else { "firing" },
            fingerprint: fingerprint(&[&incident.id, &incident.host.to_string()]),
            labels,
            annotations: annotations(&text.subject, &incident.what),
            starts_at: incident.since.to_string(),
            ends_at: ends_at(incident.until.filter(|_| closed)),
            generator_url: "",
        });
    }
    out
}

fn incident_alert(incident: &Incident, alert: &Alert, closed: bool, text: &Text) -> PostedAlert {
    let mut labels = incident_labels(incident, alert.severity);
    labels.insert("alertname", alert.rule.clone());
    if !alert.series.is_empty() {
        labels.insert("series", alert.series.clone());
    }
    // Receivers wait for the end of everything they were told of: with the incident all its alerts have ended.
    let until = alert
        .until
        .or(incident.until)
        .filter(|_| closed || alert.state == "resolved");
    let resolved = closed || alert.state == "resolved";
    PostedAlert {
        status: if resolved { "resolved" } else { "firing" },
        // The host's id, not its name: a renamed host is the same alert.
        fingerprint: fingerprint(&[
            &incident.id,
            &incident.host.to_string(),
            &alert.rule,
            &alert.series,
        ]),
        labels,
        annotations: annotations(&text.subject, &alert.why),
        starts_at: alert.since.to_string(),
        ends_at: ends_at(until),
        generator_url: "",
    }
}

fn incident_labels(incident: &Incident, severity: Severity) -> Labels {
    let mut labels = label("incident", &incident.id);
    labels.insert("host", incident.name.clone());
    labels.insert("host_id", incident.host.to_string());
    labels.insert("severity", severity_word(severity).to_owned());
    for (name, value) in [("service", &incident.service), ("owner", &incident.owner)] {
        if let Some(value) = value {
            labels.insert(name, value.clone());
        }
    }
    labels
}

fn review_alert(review: &Review, text: &Text) -> PostedAlert {
    let mut labels = label("alertname", "dawnwatch_review");
    labels.insert("night", review.id.clone());
    labels.insert("verdict", render::verdict_word(review.verdict).to_owned());
    labels.insert("severity", severity_word(Severity::Info).to_owned());
    PostedAlert {
        status: "firing",
        fingerprint: fingerprint(&["review", &review.id]),
        labels,
        annotations: annotations(&text.subject, &review.sentence),
        starts_at: review.start.to_string(),
        ends_at: NOT_ENDED.to_owned(),
        generator_url: "",
    }
}

fn test_alert(notification: &Notification, text: &Text) -> PostedAlert {
    let mut labels = label("alertname", "dawnwatch_test");
    labels.insert("severity", severity_word(Severity::Info).to_owned());
    PostedAlert {
        status: "firing",
        fingerprint: fingerprint(&["test", &notification.key]),
        labels,
        annotations: annotations(&text.subject, &text.short),
        starts_at: notification.decided.to_string(),
        ends_at: NOT_ENDED.to_owned(),
        generator_url: "",
    }
}

fn label(name: &'static str, value: &str) -> Labels {
    Labels::from([(name, value.to_owned())])
}

fn annotations(summary: &str, description: &str) -> Labels {
    let mut out = label("summary", summary);
    out.insert("description", term(description));
    out
}

fn ends_at(until: Option<Timestamp>) -> String {
    until.map_or_else(|| NOT_ENDED.to_owned(), |until| until.to_string())
}

/// What all alerts have in common.
fn common(alerts: &[PostedAlert]) -> Labels {
    let Some((first, rest)) = alerts.split_first() else {
        return Labels::new();
    };
    let mut labels = first.labels.clone();
    labels.retain(|name, value| {
        rest.iter()
            .all(|alert| alert.labels.get(name) == Some(value))
    });
    labels
}

/// As Alertmanager writes it: the route, then the labels it groups by.
fn group_key(group: &Labels) -> String {
    let pairs: Vec<String> = group
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{{}}:{{{}}}", pairs.join(", "))
}

/// 16 hex digits that stay with an alert: FNV-1a over its parts, set apart by a byte that no text holds.
fn fingerprint(parts: &[&str]) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}
