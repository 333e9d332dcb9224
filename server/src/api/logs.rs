//! Log lines out of the history, and the shapes that the engine knows.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use dawnwatch_proto::api::{Host, LogLine, LogTemplate, LogTemplates, Logs, severity_named};
use dawnwatch_proto::{Event, EventBody, HostId};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::State;
use super::answer::{Answer, Failure, Query, bad, unavailable};
use super::read::find_host;
use crate::history::History;
use crate::history::events::{Found, Wanted};

/// Lines in an answer where nobody says how many: a few screens.
const LINES: usize = 200;
/// Most lines in one answer.
const LINES_MAX: usize = 5_000;
/// Longest text that is searched for.
const TEXT_BYTES_MAX: usize = 1_024;

#[derive(Debug, Deserialize)]
pub(super) struct Lines {
    host: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    severity: Option<String>,
    text: Option<String>,
    limit: Option<usize>,
}

/// Whole lines of a span: two hours where none is given.
pub(super) async fn lines(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<Lines>,
) -> Answer<Logs> {
    let host = match wanted.host.as_deref() {
        Some(name) => Some(find_host(&state, name)?.id),
        None => None,
    };
    let to = wanted.to.unwrap_or_else(|| state.clock.wall());
    let from = wanted.from.unwrap_or_else(|| {
        to.saturating_sub(SignedDuration::from_hours(2))
            .unwrap_or(Timestamp::MIN)
    });
    if from >= to {
        return Err(bad(format!(
            "the span from {from} to {to} is empty: give an earlier --since"
        )));
    }
    let mildest = mildest(wanted.severity.as_deref())?;
    let text = searched(wanted.text)?;
    let limit = wanted.limit.unwrap_or(LINES).clamp(1, LINES_MAX);
    let read = tokio::task::spawn_blocking(move || {
        let view = state.published.view();
        let mut cut = 0_u64;
        let span = Wanted {
            host,
            from,
            to,
            limit,
        };
        // With what it said under another name before somebody said that it is this host.
        let before = host.map_or_else(Vec::new, |host| state.identity.merged_into(host));
        let found = of_all(&state.history, &span, &before, |event| match &event.body {
            EventBody::Line(line) => {
                line.severity <= mildest && (holds(&line.text, &text) || holds(&line.source, &text))
            }
            EventBody::LogCounts(counts) => {
                cut = cut.saturating_add(counts.lines_cut);
                false
            }
            EventBody::Started(_)
            | EventBody::Goodbye(_)
            | EventBody::Trouble { .. }
            | EventBody::Template(_)
            | EventBody::Processes(_)
            | EventBody::Unknown => false,
        });
        let events = found.events.into_iter();
        let lines = events.filter_map(|(id, time, event)| {
            let id = state.identity.as_host(id);
            let known = view.hosts.iter().chain(&view.retired);
            shown(id, name_of(id, known), time, event)
        });
        Logs {
            zone: view.now.zone.clone(),
            lines: lines.collect(),
            more: found.more,
            cut,
            damaged: found.damaged,
        }
    });
    read.await
        .map(Json)
        .map_err(|_| unavailable("the log lines could not be read; see the server's log"))
}

/// The latest events of a span: of its host, and of hosts that this one was before.
fn of_all(
    history: &History,
    span: &Wanted,
    before: &[HostId],
    mut keep: impl FnMut(&Event) -> bool,
) -> Found {
    let mut keep = |_: HostId, event: &Event| keep(event);
    let mut all = history.events_where(span, &mut keep);
    for host in before {
        let host = Some(*host);
        let more = history.events_where(&Wanted { host, ..*span }, &mut keep);
        all.events.extend(more.events);
        all.events.sort_by_key(|(_, at, _)| *at);
        let over = all.events.len().saturating_sub(span.limit);
        all.events.drain(..over);
        all.more |= more.more || over > 0;
        all.damaged.extend(more.damaged);
    }
    all.damaged.sort();
    all.damaged.dedup();
    all
}

/// What a host is called, also one that was retired.
fn name_of<'a>(id: HostId, mut known: impl Iterator<Item = &'a Host>) -> String {
    let host = known.find(|host| host.id == id);
    host.map_or_else(|| id.to_string(), |host| host.name.clone())
}

/// The mildest severity that was asked for; all where none was.
fn mildest(word: Option<&str>) -> Result<u8, Failure> {
    let Some(word) = word else {
        return Ok(u8::MAX);
    };
    severity_named(word).ok_or_else(|| {
        bad(format!(
            "severity {word:?} is none of emergency, alert, critical, error, warning, notice, info, debug"
        ))
    })
}

/// A whole line as the answer has it.
fn shown(host: HostId, name: String, time: Timestamp, event: Event) -> Option<LogLine> {
    let EventBody::Line(line) = event.body else {
        return None;
    };
    Some(LogLine {
        time,
        host,
        name,
        severity: line.severity,
        source: line.source,
        text: line.text,
        cut_from: line.cut_from,
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct Shapes {
    host: Option<String>,
    text: Option<String>,
    limit: Option<usize>,
}

/// Shapes of log lines, those that came last first.
pub(super) async fn templates(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<Shapes>,
) -> Answer<LogTemplates> {
    let host = match wanted.host.as_deref() {
        Some(name) => Some(find_host(&state, name)?.id),
        None => None,
    };
    let text = searched(wanted.text)?;
    let limit = wanted.limit.unwrap_or(LINES).clamp(1, LINES_MAX);
    let view = state.published.view();
    let mut fitting: Vec<&LogTemplate> = view
        .templates
        .iter()
        .filter(|shape| host.is_none_or(|id| shape.hosts.binary_search(&id).is_ok()))
        .map(|shape| &shape.template)
        .filter(|shape| holds(&shape.text, &text) || holds(&shape.source, &text))
        .collect();
    fitting.sort_by(|a, b| (b.last, &a.text).cmp(&(a.last, &b.text)));
    let more = fitting.len().saturating_sub(limit) as u64;
    Ok(Json(LogTemplates {
        zone: view.now.zone.clone(),
        templates: fitting.into_iter().take(limit).cloned().collect(),
        more,
        dropped: view.templates_dropped,
    }))
}

/// What is searched for, in lower case.
fn searched(text: Option<String>) -> Result<String, Failure> {
    let text = text.unwrap_or_default();
    if text.len() > TEXT_BYTES_MAX {
        return Err(bad(format!(
            "a text to search for has at most {TEXT_BYTES_MAX} bytes"
        )));
    }
    Ok(text.to_lowercase())
}

fn holds(text: &str, wanted: &str) -> bool {
    wanted.is_empty() || text.to_lowercase().contains(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::events::EventRow;
    use dawnwatch_proto::event::Line;
    use dawnwatch_segment::{Disk, RealDisk};

    #[test]
    fn lines_of_a_host_are_those_of_before_it_was_merged_too() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (history, _) = History::open(&disk, dir.path()).unwrap();
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        for (position, (host, second)) in (1..).zip([(7, 10), (8, 20), (8, 30), (9, 35), (7, 40)]) {
            let body = EventBody::Line(Line {
                template: 1,
                severity: 3,
                source: "kernel".to_owned(),
                text: second.to_string(),
                cut_from: 0,
            });
            let time = at(second);
            let row = EventRow::of(&Event { time, body }, time, position);
            history.push_event(HostId(host), row, 0);
        }
        let found = |limit, before: &[HostId]| {
            let span = Wanted {
                host: Some(HostId(7)),
                from: at(0),
                to: at(60),
                limit,
            };
            let found = of_all(&history, &span, before, |_| true);
            let times = found.events.iter().map(|(_, at, _)| at.as_second());
            (times.collect::<Vec<_>>(), found.more)
        };
        assert_eq!(found(9, &[]), (vec![10, 40], false));
        assert_eq!(found(9, &[HostId(8)]), (vec![10, 20, 30, 40], false));
        assert_eq!(found(2, &[HostId(8)]), (vec![30, 40], true));
    }
}
