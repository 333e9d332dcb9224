//! One series of a host over a span.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::Response;
use dawnwatch_proto::Series;
use jiff::Timestamp;
use serde::Deserialize;

use super::State;
use super::answer::{Failure, Query, bad, on_this_thread, written};
use super::points::{self, About, Form};
use super::read::{find_measured, find_series};
use crate::history::History;
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
    let (series, refused) = series_of(&state.history, known, &wanted.series)?;
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
    let (is_empty, document) = on_this_thread(|| {
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
        let document = points::document(&about, &found, wanted.form);
        (found.is_empty(), document)
    })?;
    match refused {
        Some(refused) if is_empty => Err(refused),
        Some(_) | None => Ok(written(document)),
    }
}

/// The series that is meant, of those that a host sends; or one that some host has or had, by its whole notation, with what is to
/// be answered where this host has no sample of it: a disk that died is in no schema any more.
fn series_of(
    history: &History,
    known: &[Series],
    wanted: &str,
) -> Result<(Series, Option<Failure>), Failure> {
    match find_series(known, wanted) {
        Ok(series) => Ok((series.clone(), None)),
        Err(refused) => match history.named(wanted) {
            Some(series) => Ok((series, Some(refused))),
            None => Err(refused),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dawnwatch_proto::{HostId, Kind, Schema};
    use dawnwatch_segment::{Disk, RealDisk};

    #[test]
    fn a_series_that_is_sent_no_more_is_found_by_its_whole_name() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (history, _) = History::open(&disk, dir.path()).unwrap();
        let of = |device: &str| Series::new("disk_up", Kind::Gauge).label("device", device);
        for known in [vec![of("sda"), of("sdb")], vec![of("sda")]] {
            history.schema(HostId(7), &Schema::new(known)).unwrap();
        }
        let known = history.series(HostId(7));
        let found = |wanted: &str| {
            let found = series_of(&history, &known, wanted);
            found.map_err(|refused| refused.1.error)
        };
        let (series, refused) = found("disk_up{device=\"sdb\"}").unwrap();
        let refused = refused.map(|refused| refused.1.error);
        let none = "there is no series \"disk_up{device=\\\"sdb\\\"}\"";
        assert_eq!((series, refused.as_deref()), (of("sdb"), Some(none)));
        let (series, refused) = found("disk_up").unwrap();
        assert_eq!((series, refused.is_none()), (of("sda"), true));
        assert_eq!(found("sdb").unwrap_err(), "there is no series \"sdb\"");
    }
}
