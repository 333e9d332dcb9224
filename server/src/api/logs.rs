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
use crate::history::events::Wanted;

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
        let found = state
            .history
            .events_joined(&span, &before, |event| match &event.body {
                EventBody::Line(line) => {
                    line.severity <= mildest
                        && (holds(&line.text, &text) || holds(&line.source, &text))
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
