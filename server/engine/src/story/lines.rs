//! Effects and views as the lines of a story.

use std::collections::BTreeMap;

use dawnwatch_proto::HostId;
use dawnwatch_proto::api::{Incident, LiveReview};
use dawnwatch_proto::review::{Review, Row, text};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::effect::{Content, Effect, Entry, Reason};
use crate::policy::word;
use crate::{View, words};

/// One effect as one line, with the server's wall clock before it.
#[must_use]
pub fn effect_line(
    effect: &Effect,
    wall: Timestamp,
    zone: &TimeZone,
    names: &BTreeMap<HostId, String>,
) -> String {
    let text = match effect {
        Effect::Record(entry) => entry_line(entry, zone, names),
        Effect::Notify(notification) => {
            let reason = match notification.reason {
                Reason::Opened => "opened",
                Reason::Worse => "worse",
                Reason::Closed => "closed",
                Reason::Reminder => "reminder",
                Reason::Review => "review",
                Reason::Test => "test",
            };
            let what = match &notification.content {
                Content::Incident(content) => {
                    let (incident, fine) = (&content.incident, content.fine);
                    let severity = word(incident.severity);
                    let fine = format!("{} of {} fine", fine.0, fine.1);
                    let line = content
                        .last
                        .as_ref()
                        .filter(|(_, last)| last.contains(" | "));
                    let line = line.map_or(String::new(), |(_, last)| format!("; LAST {last}"));
                    format!(
                        "{} {severity} {}; {fine}{line}",
                        incident.name, incident.what
                    )
                }
                Content::Review(review) => review.sentence.clone(),
                Content::Test => String::new(),
            };
            format!(
                "NOTIFY {} {reason} [{}] {what}",
                notification.channel, notification.key
            )
        }
        Effect::SealNight(review) => {
            format!(
                "SEAL {} {:?}: {}",
                review.id, review.verdict, review.sentence
            )
        }
    };
    format!("{} {text}", when(wall, zone))
}

fn entry_line(entry: &Entry, zone: &TimeZone, names: &BTreeMap<HostId, String>) -> String {
    let name = |id: &HostId| names.get(id).map_or("server", String::as_str);
    match entry {
        Entry::Alert {
            incident,
            rule,
            host,
            state,
            severity,
            at,
            why,
            ..
        } => {
            let severity = word(*severity);
            let (host, at) = (name(host), when(*at, zone));
            format!("alert {state} {incident} {host} {rule} {severity} at {at}: {why}")
        }
        Entry::Incident {
            id,
            host,
            state,
            severity,
            at,
            by,
            what,
        } => {
            let by = if by.is_empty() {
                String::new()
            } else {
                format!(" by {by}")
            };
            let severity = word(*severity);
            let (host, at) = (name(host), when(*at, zone));
            format!("incident {state} {id} {host} {severity}{by} at {at}: {what}")
        }
        Entry::Delivered {
            key,
            outcome,
            answer,
        } => format!("delivered {key} {outcome:?} {answer}"),
        Entry::Host { name, what, .. } => format!("host {name}: {what}"),
        Entry::Server { what } => format!("server: {what}"),
        Entry::Sealed { night, .. } => format!("sealed {night}"),
        Entry::Person { by, about, what } => format!("person {about} by {by}: {what}"),
        Entry::Evidence { night, .. } => format!("evidence of {night}"),
    }
}

pub(super) fn when(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone())
        .strftime("%a %H:%M:%S")
        .to_string()
}

pub(super) fn now(view: &View, zone: &TimeZone) -> Vec<String> {
    let now = &view.now;
    let mut out = vec![format!(
        "now: {} of {} hosts live",
        now.hosts_live, now.hosts
    )];
    for i in &now.open {
        let (severity, since) = (word(i.severity), when(i.since, zone));
        let turned = i.turned.as_ref();
        let turned = turned.map_or(String::new(), |turned| {
            format!(
                " (since {}, before: {})",
                when(turned.at, zone),
                turned.from
            )
        });
        out.push(format!(
            "  {} {} {severity} {} since {since}: {}{turned}; {}",
            i.id, i.name, i.state, i.what, i.cause
        ));
    }
    out.extend(
        now.notices
            .iter()
            .map(|notice| format!("  notice: {notice}")),
    );
    out
}

pub(super) fn review(view: &View, zone: &TimeZone) -> Vec<String> {
    let (review, since, sealed) = match &view.sealed {
        Some(live) => (&live.review, live.since.clone(), "sealed"),
        None => (view.so_far.as_ref(), Vec::new(), "so far"),
    };
    let coverage = &review.coverage;
    let (from, to) = (when(review.start, zone), when(review.until, zone));
    let mut out = vec![format!(
        "review {} {sealed}: {from} -> {to} {:?}",
        review.id, review.verdict
    )];
    out.push(format!("  {}", review.sentence));
    let ratio = words::percent(coverage.ratio);
    out.push(format!(
        "  watched {ratio} of {}",
        words::count(coverage.hosts as usize, "host")
    ));
    for gap in &coverage.unwatched {
        let span = words::duration(i64::try_from(gap.seconds).unwrap_or(0) * 1_000);
        out.push(format!(
            "  not watched: {} {span}: {}",
            gap.name, gap.reason
        ));
    }
    out.extend(since.iter().map(|line| format!("  since: {line}")));
    let rows = |block: &str, rows: &[Row]| -> Vec<String> {
        let row = |r: &Row| {
            let turned = r.turned.as_ref();
            let turned = turned.map_or(String::new(), |turned| {
                let (at, since) = (when(turned.at, zone), when(r.since, zone));
                format!(" since {at}, {} since {since}", turned.from)
            });
            format!(
                "  {block}: {} {} {}{turned} ({})",
                r.id, r.subject, r.what, r.cause
            )
        };
        rows.iter().map(row).collect()
    };
    out.extend(rows("critical", &review.critical));
    out.extend(rows("today", &review.today));
    out.extend(rows("healed", &review.healed));
    out.extend(
        review
            .changed
            .iter()
            .map(|c| format!("  changed: {} {}", when(c.at, zone), c.text)),
    );
    let m = &review.messages;
    out.push(format!(
        "  messages: {} sent, {} arrived, {} lost; {} events",
        m.sent, m.arrived, m.lost, m.events
    ));
    out
}

/// The review as people see it.
pub(super) fn screen(view: &View) -> Vec<String> {
    let so_far = || LiveReview {
        at: view.now.at,
        review: Review::clone(&view.so_far),
        since: Vec::new(),
    };
    let live = view.sealed.as_ref().map(|live| LiveReview::clone(live));
    let drawn = text::review(&live.unwrap_or_else(so_far), &text::Text::screen());
    // An empty line ends what came out.
    drawn
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

pub(super) fn hosts(view: &View) -> Vec<String> {
    let line = |host: &dawnwatch_proto::api::Host| {
        let values: Vec<String> = host
            .values
            .iter()
            .map(|(name, value)| format!("{name} {value:.2}"))
            .collect();
        let offset = host.clock_offset_seconds;
        format!(
            "{} {} offset {offset:.1} s, {}",
            host.name,
            host.state,
            values.join(", ")
        )
    };
    view.hosts.iter().map(line).collect()
}

pub(super) fn net(view: &View, zone: &TimeZone) -> Vec<String> {
    let line = |link: &dawnwatch_proto::api::Link| {
        let rtt = link
            .rtt_seconds
            .map_or("no answer".to_owned(), |(_, avg, _)| {
                format!("{:.1} ms", avg * 1_000.0)
            });
        format!(
            "{} -> {} {} {} since {}, {rtt}, {} of {} lost{}{}",
            link.from,
            link.to,
            link.role.word(),
            link.state,
            when(link.since, zone),
            link.lost,
            link.sent,
            if link.method.is_empty() { "" } else { ", " },
            link.method,
        )
    };
    view.net.iter().map(line).collect()
}

pub(super) fn rules(view: &View) -> Vec<String> {
    let line = |rule: &dawnwatch_proto::api::Rule| {
        format!(
            "{}: {} | {} | {}",
            rule.name,
            rule.condition,
            word(rule.severity),
            rule.wakes
        )
    };
    view.rules.iter().map(line).collect()
}

pub(super) fn incident(incident: &Incident, zone: &TimeZone) -> Vec<String> {
    let i = incident;
    let mut out = vec![format!(
        "{} {} {} {}: {}; {}",
        i.id,
        i.name,
        i.state,
        word(i.severity),
        i.what,
        i.cause
    )];
    let until = i.until.map_or("now".to_owned(), |until| when(until, zone));
    out.push(format!("  {} -> {until}", when(i.since, zone)));
    if let Some((by, at)) = &i.taken {
        out.push(format!("  taken by {by} {}", when(*at, zone)));
    }
    for a in &i.alerts {
        let late = if a.late { ", late" } else { "" };
        let (worst, since) = (a.worst, when(a.since, zone));
        out.push(format!(
            "  {} {}{late} since {since}, worst {worst:.3}, {} samples: {}",
            a.rule,
            a.state,
            a.evidence.len(),
            a.why
        ));
    }
    for line in &i.lines {
        let severity = dawnwatch_proto::api::severity_word(line.severity);
        out.push(format!(
            "  line {} {} {} {severity}: {}",
            when(line.time, zone),
            line.name,
            line.source,
            line.text
        ));
    }
    for t in &i.told {
        out.push(format!(
            "  told {} {} {}: {} {}",
            t.channel,
            t.reason,
            when(t.decided, zone),
            t.fate,
            t.answer
        ));
    }
    out.extend(i.why.iter().map(|why| format!("  why: {why}")));
    out
}
