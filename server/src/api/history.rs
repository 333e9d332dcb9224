//! One series of a host over a span.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;

use super::State;
use super::answer::{Failure, Query, bad, on_this_thread, written};
use super::points::{self, About, Form};
use super::read::{find_measured, find_series};
use crate::history::summary::draw::{Found, Wanted};

/// Most points in one answer: a terminal or a chart shows no more.
const POINTS_MAX: usize = 11_000;

#[derive(Debug, Deserialize)]
pub(super) struct Span {
    host: String,
    series: String,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    points: Option<usize>,
    #[serde(default)]
    form: Form,
}

pub(super) async fn history(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<Span>,
) -> Result<Response, Failure> {
    let (host, name) = find_measured(&state, &wanted.host)?;
    let known = state.history.latest(host);
    let known = known.as_ref().map_or(&[][..], |schema| schema.series());
    let series = find_series(known, &wanted.series)?.clone();
    let to = wanted.to.unwrap_or_else(|| state.clock.wall());
    let from = wanted.from.unwrap_or_else(|| {
        to.saturating_sub(jiff::SignedDuration::from_hours(24))
            .unwrap_or(Timestamp::MIN)
    });
    if from >= to {
        return Err(bad(format!(
            "the span from {from} to {to} is empty: give an earlier --from"
        )));
    }
    let points = wanted.points.unwrap_or(POINTS_MAX).clamp(1, POINTS_MAX);
    let document = on_this_thread(|| {
        // With what it sent under another name before somebody said that it is this host.
        let mut hosts = vec![host];
        hosts.extend(state.identity.merged_into(host));
        let found = state.history.find(&Wanted {
            hosts: &hosts,
            series: &series,
            from,
            to,
            points,
        });
        let (Found::Samples(points::Points { damaged, .. })
        | Found::Drawn(points::Drawn { damaged, .. })) = &found;
        for damage in damaged {
            tracing::warn!(host = name, damage, "part of the history cannot be read");
        }
        let about = About {
            host,
            name: &name,
            series: &series.to_string(),
            kind: series.kind,
            zone: &state.published.view().now.zone,
        };
        points::document(&about, &found, wanted.form)
    })?;
    Ok(written(document))
}
