//! What is open at this moment, for somebody who just wants to know.

use super::layout::{columns, cut};
use super::{Ink, NOW_LINES_MAX, Text, holder, open_span, severity, subject, verdict};
use crate::api::{Incident, Now};
use crate::review::Severity;
use crate::untrusted::term;

/// Notices shown; the rest is counted.
const NOTICES_MAX: usize = 3;

/// Draws the open list.
#[must_use]
pub fn now(now: &Now, options: &Text) -> String {
    let zone = options.zone_of(&now.zone);
    let width = options.columns();
    let mut lines = vec![head(now, options)];
    let mut notices: Vec<String> = now.notices.iter().map(|text| term(text)).collect();
    if !now.calendar_confirmed {
        notices.push(format!(
            "zone {} is a guess: set or confirm it in [calendar] of dawnwatch.toml",
            term(&now.zone)
        ));
    }
    let shown = if notices.len() > NOTICES_MAX {
        NOTICES_MAX - 1
    } else {
        notices.len()
    };
    for notice in &notices[..shown] {
        lines.push(cut(&format!("! {notice}"), width));
    }
    if shown < notices.len() {
        lines.push(format!(
            "! {} more: dawnwatch --output json",
            notices.len() - shown
        ));
    }
    let last = now.last_night.as_ref().map(|night| {
        let (word, ink) = verdict(night.verdict);
        let text = cut(
            &format!("{word}: {}", term(&night.sentence)),
            width.saturating_sub(21),
        );
        let text = text.replacen(word, &options.paint(word, ink), 1);
        format!("{:<20} {text}", term(&night.id))
    });
    let room = NOW_LINES_MAX - lines.len() - usize::from(last.is_some());
    let rows = if now.open.len() > room {
        room - 1
    } else {
        now.open.len()
    };
    for incident in &now.open[..rows] {
        lines.push(row(incident, now, options, &zone));
    }
    if rows < now.open.len() {
        lines.push(format!(
            " {} more: dawnwatch incidents",
            now.open.len() - rows
        ));
    }
    lines.extend(last);
    let mut out = lines.join("\n");
    out.push('\n');
    out
}

fn head(now: &Now, options: &Text) -> String {
    let zone = options.zone_of(&now.zone);
    let time = now
        .at
        .to_zoned(zone)
        .strftime("%a %-d %b %H:%M %Z")
        .to_string();
    let hosts = match now.hosts {
        0 => "no host has joined: dawnwatch token create".to_owned(),
        hosts => format!("{} of {hosts} hosts live", now.hosts_live),
    };
    let hosts = match now.hosts_missing {
        0 => hosts,
        missing => format!("{hosts}, {missing} never joined"),
    };
    let critical = now
        .open
        .iter()
        .filter(|incident| incident.severity == Severity::Critical)
        .count();
    match (now.open.len(), critical) {
        (0, _) => {
            let nothing = if now.hosts > 0 && now.hosts_live == now.hosts && now.hosts_missing == 0
            {
                options.paint("NOTHING OPEN", Ink::Green)
            } else {
                "NOTHING OPEN".to_owned()
            };
            format!("{nothing}, {hosts}, {time}")
        }
        (open, 0) => format!(
            "{}, {hosts}, {time}",
            options.paint(&format!("{open} OPEN"), Ink::Yellow)
        ),
        (open, critical) => {
            let text = options.paint(&format!("{open} OPEN, {critical} CRITICAL"), Ink::Red);
            format!("{text}, {hosts}, {time}")
        }
    }
}

fn row(incident: &Incident, now: &Now, options: &Text, zone: &jiff::tz::TimeZone) -> String {
    let width = options.columns();
    let holder = holder(
        incident.owner.as_deref(),
        incident.taken.as_ref(),
        zone,
        now.at,
    );
    let holder = cut(&holder, width / 3);
    let (span, _) = open_span(
        incident.since,
        incident.turned.as_ref(),
        now.at,
        zone,
        width / 2,
    );
    let id = term(&incident.id);
    let head = format!(" {id:<5} {:<8}", severity(incident.severity));
    let used = |text: &str| text.chars().count();
    let room = width.saturating_sub(used(&head) + used(&span) + used(&holder) + 7);
    let subject = subject(&incident.name, incident.service.as_deref());
    let subject = cut(&subject, room.saturating_sub(12).clamp(8, 32));
    let what = cut(
        &term(&incident.what),
        room.saturating_sub(used(&subject)).max(8),
    );
    let line = format!("{head}  {subject}  {what} {span}");
    if options.aligned {
        columns(&line, &holder, width)
    } else {
        cut(&format!("{line}; {holder}"), width)
    }
}
