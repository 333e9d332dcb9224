//! The message at 03:12: one incident, as it stood when the message was decided.

use std::fmt::Write;

use dawnwatch_engine::effect::{IncidentContent, Notification, Reason};
use dawnwatch_proto::api::{Alert, Incident};
use dawnwatch_proto::review::Severity;
use dawnwatch_proto::review::text::{duration, zone};
use dawnwatch_proto::untrusted::term;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{SHORT_CHARS_MAX, SUBJECT_CHARS_MAX, Text, clip, one_line, wrap};

/// The part of a subject that every phone shows: host, service, state and time fit in here.
const HEAD_CHARS: usize = 40;

/// Least room for the state where a long host name competes with it.
const STATE_CHARS_MIN: usize = 10;

/// Most room for a service in the head.
const SERVICE_CHARS_MAX: usize = 12;

/// The rule whose end means that a host is back.
const SILENT_RULE: &str = "silent";

pub(super) fn text(notification: &Notification, content: &IncidentContent) -> Text {
    let zone = zone(&content.zone);
    let incident = &content.incident;
    let subject = subject(notification, incident, &zone);
    let mut short = subject.clone();
    if let Some(alert) = worst(incident) {
        let _ = write!(short, ": {}", term(&alert.why));
    }
    Text {
        subject: one_line(&subject, SUBJECT_CHARS_MAX),
        short: clip(&short, SHORT_CHARS_MAX),
        body: body(notification, content, &zone),
    }
}

/// The alert that the incident is told by: the worst that fired, the first among equals.
fn worst(incident: &Incident) -> Option<&Alert> {
    let fired = incident
        .alerts
        .iter()
        .filter(|alert| alert.state != "pending");
    fired.rev().max_by_key(|alert| alert.severity)
}

fn subject(notification: &Notification, incident: &Incident, zone: &TimeZone) -> String {
    let closed = notification.reason == Reason::Closed;
    let moment = if closed {
        incident.until.unwrap_or(notification.decided)
    } else {
        held_since(incident)
    };
    let time = clock_time(moment, notification.decided, zone);
    let back = closed && worst(incident).is_some_and(|alert| alert.rule == SILENT_RULE);
    let (head, whole) = if closed {
        head(incident, if back { "BACK" } else { "OVER" }, "", &time)
    } else {
        head(
            incident,
            &shout(&term(&incident.what)),
            &rule_words(incident),
            &format!("since {time}"),
        )
    };
    let severity = severity_word(incident.severity);
    let id = term(&incident.id);
    let mut out = match notification.reason {
        Reason::Closed => {
            let lasted = lasted(incident.since, moment);
            let what = term(&incident.what);
            match (back, is_known(&incident.cause)) {
                // "BACK" and the cause say it all.
                (true, true) => format!("{head} after {lasted} - {id}"),
                (true, false) | (false, _) => format!("{head} after {lasted} - {id}: {what}"),
            }
        }
        Reason::Opened | Reason::Review | Reason::Test => format!("{head} - {severity} {id}"),
        Reason::Worse => format!("{head} - WORSE, {severity} {id}"),
        Reason::Reminder => format!("{head} - NOBODY TOOK IT, {severity} {id}"),
    };
    if !closed && !whole {
        let _ = write!(out, ": {}", term(&incident.what));
    }
    if closed && is_known(&incident.cause) {
        let before = if back { ':' } else { ',' };
        let _ = write!(out, "{before} {}", term(&incident.cause));
    }
    out
}

/// Host, service, state and time within [`HEAD_CHARS`], and whether the state is there in full. Where room lacks, first
/// the state is named by its rule, then service and host are cut, never the time.
fn head(incident: &Incident, state: &str, rule: &str, time: &str) -> (String, bool) {
    let chars = |text: &str| text.chars().count();
    let (host, service) = (term(&incident.name), incident.service.as_deref().map(term));
    let room = HEAD_CHARS.saturating_sub(chars(time) + 1);
    let full = named(&host, service.as_deref());
    if chars(&full) + 1 + chars(state) <= room {
        return (format!("{full} {state} {time}"), true);
    }
    let short = if rule.is_empty() || chars(state) <= chars(rule) {
        state
    } else {
        rule
    };
    let left = room.saturating_sub(chars(&full) + 1);
    let short = clip(short, left.max(STATE_CHARS_MIN));
    let name_room = room.saturating_sub(chars(&short) + 1);
    if chars(&full) <= name_room {
        return (format!("{full} {short} {time}"), short == state);
    }
    let service = service.map(|service| clip(&service, SERVICE_CHARS_MAX.min(name_room / 3)));
    let service_room = service.as_deref().map_or(0, |service| chars(service) + 3);
    let host = clip(&host, name_room.saturating_sub(service_room));
    let name = named(&host, service.as_deref());
    (format!("{name} {short} {time}"), short == state)
}

/// `db02 (billing)`.
fn named(host: &str, service: Option<&str>) -> String {
    match service {
        Some(service) => format!("{host} ({service})"),
        None => host.to_owned(),
    }
}

/// In capitals, but for paths: `/srv` and `/SRV` are two places.
fn shout(text: &str) -> String {
    let word = |word: &str| {
        if word.contains('/') {
            word.to_owned()
        } else {
            word.to_uppercase()
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// `disk_full` as `DISK FULL`.
fn rule_words(incident: &Incident) -> String {
    let rule = worst(incident)
        .map(|alert| alert.rule.as_str())
        .unwrap_or_default();
    term(rule).replace('_', " ").to_uppercase()
}

fn body(notification: &Notification, content: &IncidentContent, zone: &TimeZone) -> String {
    let incident = &content.incident;
    let closed = notification.reason == Reason::Closed;
    let mut out = wrap("", &first_line(notification, incident, zone));
    for (i, alert) in incident
        .alerts
        .iter()
        .filter(|alert| alert.state != "pending")
        .enumerate()
    {
        out.push_str(&wrap_list("WHY", i, &alert_line(alert, closed)));
    }
    if is_known(&incident.cause) {
        out.push_str(&wrap("CAUSE", &incident.cause));
    }
    let (fine, hosts) = content.fine;
    // Of a single host it says nothing.
    if hosts > 1 {
        out.push_str(&wrap("HIT", &format!("{fine} of {hosts} hosts fine.")));
    }
    // What is known of a silent host says its last values already.
    let told = |values: &str| incident.alerts.iter().any(|a| a.why.contains(values));
    if let Some((at, values)) = content.last.as_ref().filter(|(_, v)| !told(v)) {
        let at = at.to_zoned(zone.clone());
        out.push_str(&wrap(
            "LAST",
            &format!("{} {values}", at.strftime("%H:%M:%S")),
        ));
    }
    for (margin, lines) in [("CHANGED", &content.changed), ("BEFORE", &content.before)] {
        for (i, line) in lines.iter().enumerate() {
            out.push_str(&wrap_list(margin, i, line));
        }
    }
    out.push_str(&people(incident, zone));
    if !content.told.is_empty() {
        out.push_str(&wrap("TOLD", &format!("{}.", content.told.join(", "))));
    }
    let id = &incident.id;
    if closed {
        out.push_str(&wrap("SEE", &format!("dawnwatch show {id}")));
    } else {
        out.push_str(&wrap(
            "DO",
            &format!("take it: dawnwatch ack {id}; more: dawnwatch why {id}"),
        ));
    }
    out
}

/// Since when the words that the incident is called by hold.
fn held_since(incident: &Incident) -> Timestamp {
    incident
        .turned
        .as_ref()
        .map_or(incident.since, |turned| turned.at)
}

fn first_line(notification: &Notification, incident: &Incident, zone: &TimeZone) -> String {
    let since = incident.since.to_zoned(zone.clone());
    let decided = notification.decided.to_zoned(zone.clone());
    let mut out = incident.name.clone();
    if let Some(service) = &incident.service {
        let _ = write!(out, " ({service})");
    }
    let told = decided.strftime("%H:%M:%S");
    if notification.reason == Reason::Closed {
        let until = incident.until.unwrap_or(notification.decided);
        let lasted = lasted(incident.since, until);
        let until = long_time(&until.to_zoned(zone.clone()));
        let since = since.strftime("%H:%M:%S");
        let _ = write!(
            out,
            ": over at {until}, after {lasted} (since {since}). It {}.",
            past(&incident.what)
        );
    } else {
        let held = long_time(&held_since(incident).to_zoned(zone.clone()));
        let _ = write!(out, ", {}, since {held}", incident.what);
        if let Some(turned) = &incident.turned {
            let _ = write!(out, "; {} since {}", turned.from, long_time(&since));
        }
        let _ = write!(out, " (message of {told}).");
    }
    out
}

/// `was silent`, or `was: /data 97 % full`.
fn past(what: &str) -> String {
    if what.starts_with("was ") {
        return what.to_owned();
    }
    format!("was: {what}")
}

fn alert_line(alert: &Alert, closed: bool) -> String {
    let ended = !closed && alert.state == "resolved";
    format!("{}{}", alert.why, if ended { " (over by now)" } else { "" })
}

fn people(incident: &Incident, zone: &TimeZone) -> String {
    let mut out = String::new();
    if let Some(owner) = &incident.owner {
        out.push_str(&wrap("OWNER", owner));
    }
    if let Some((who, at)) = &incident.taken {
        let at = at.to_zoned(zone.clone());
        out.push_str(&wrap("TAKEN", &format!("by {who}, {}", long_time(&at))));
    }
    out
}

/// The margin stands beside the first line of a list.
fn wrap_list(margin: &str, i: usize, line: &str) -> String {
    wrap(if i == 0 { margin } else { " " }, line)
}

fn is_known(cause: &str) -> bool {
    !cause.is_empty() && cause != "cause unknown"
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
    }
}

/// `03:12`, or `Sun 03:12` where it was not on the day of the message.
fn clock_time(at: Timestamp, decided: Timestamp, zone: &TimeZone) -> String {
    let (at, decided) = (at.to_zoned(zone.clone()), decided.to_zoned(zone.clone()));
    let format = if at.date() == decided.date() {
        "%H:%M"
    } else {
        "%a %H:%M"
    };
    at.strftime(format).to_string()
}

fn long_time(at: &Zoned) -> String {
    at.strftime("%a %-d %b %H:%M:%S %Z").to_string()
}

fn lasted(from: Timestamp, to: Timestamp) -> String {
    duration(u64::try_from(to.as_second().saturating_sub(from.as_second())).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::shout;

    #[test]
    fn capitals_spare_paths() {
        assert_eq!(shout("/srv/Data 97.3 % full"), "/srv/Data 97.3 % FULL");
    }
}
