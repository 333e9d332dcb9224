//! What a host said around a moment: whole log lines, and who was using the machine.

use askama::Template;
use askama::filters::HtmlSafe;
use dawnwatch_proto::HostId;
use dawnwatch_proto::event::{Event, EventBody, Process};
use dawnwatch_proto::quantity::Unit;
use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::moment::Moment;
use crate::history::History;
use crate::history::events::Wanted;

/// Log lines on one page, the latest of the span.
const LINES_SHOWN: usize = 50;

/// Longest that a line is shown; a line may have 64 KiB, and its beginning says what it is about.
const LINE_CHARS_MAX: usize = 600;

/// Processes shown: the busiest.
const PROCESSES_SHOWN: usize = 8;

/// Log lines from warning up.
#[derive(Debug, Template)]
#[template(path = "lines.html")]
pub(super) struct Lines {
    lines: Vec<Said>,
    more: bool,
}

impl HtmlSafe for Lines {}

#[derive(Debug)]
struct Said {
    at: Moment,
    source: String,
    severity: &'static str,
    tone: &'static str,
    text: String,
}

impl Lines {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The latest lines of a host, and of those that it was before, within `[from, to)`.
    pub(super) fn read(
        history: &History,
        (host, before): (HostId, &[HostId]),
        (from, to): (Timestamp, Timestamp),
        zone: &TimeZone,
        now: Timestamp,
    ) -> Lines {
        let wanted = Wanted {
            host: Some(host),
            from,
            to,
            limit: LINES_SHOWN,
        };
        let is_line = |event: &Event| matches!(event.body, EventBody::Line(_));
        let found = history.events_joined(&wanted, before, is_line);
        let lines = found.events.into_iter().filter_map(|(_, at, event)| {
            let EventBody::Line(line) = event.body else {
                return None;
            };
            let (severity, tone) = severity(line.severity);
            Some(Said {
                at: Moment::new(at, zone, now),
                source: term(&line.source),
                severity,
                tone,
                text: shortened(&line.text),
            })
        });
        Lines {
            lines: lines.collect(),
            more: found.more,
        }
    }
}

/// One process as a row.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) unit: String,
    pub(super) cpu: String,
    pub(super) memory: String,
}

/// The busiest processes of the latest minute within `[from, to)` that is known, and when it ended.
pub(super) fn busiest(
    history: &History,
    host: HostId,
    from: Timestamp,
    to: Timestamp,
) -> Option<(Timestamp, Vec<Busy>)> {
    let wanted = Wanted {
        host: Some(host),
        from,
        to,
        limit: 1,
    };
    let found = history.events_where(&wanted, |_, event| {
        matches!(event.body, EventBody::Processes(_))
    });
    let (_, at, event) = found.events.into_iter().next_back()?;
    let EventBody::Processes(table) = event.body else {
        return None;
    };
    let rows = table.top.iter().take(PROCESSES_SHOWN).map(busy);
    Some((at, rows.collect()))
}

fn busy(process: &Process) -> Busy {
    #[allow(clippy::cast_precision_loss, reason = "shown in three digits")]
    let bytes = process.rss_bytes as f64;
    Busy {
        name: term(&process.name),
        pid: process.pid,
        unit: term(&process.unit),
        cpu: Unit::Ratio.show(f64::from(process.cpu_permille) / 1_000.0),
        memory: Unit::Bytes.show(bytes),
    }
}

/// Syslog's severities, in words.
fn severity(severity: u8) -> (&'static str, &'static str) {
    match severity {
        0 => ("emergency", "bad"),
        1 => ("alert", "bad"),
        2 => ("critical", "bad"),
        3 => ("error", "bad"),
        4 => ("warning", "warn"),
        5 => ("notice", "calm"),
        6 => ("info", "calm"),
        _ => ("debug", "calm"),
    }
}

fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown = term(&chars.by_ref().take(LINE_CHARS_MAX).collect::<String>());
    let left = chars.count();
    if left > 0 {
        shown.push_str(&format!("... and {left} characters more"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_say_how_much_is_left_and_hide_nothing() {
        assert_eq!(shortened("a\u{1b}[31mb"), r"a\u{1b}[31mb");
        assert!(shortened(&"x".repeat(700)).ends_with("x... and 100 characters more"));
    }
}
