//! One series of all hosts.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::Response;
use dawnwatch_engine::vitals::{SERVER, SERVER_NAME};
use dawnwatch_proto::api::{Fleet, FleetBy, FleetHost, Host};
use dawnwatch_proto::{HostId, Series};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::State;
use super::answer::{Failure, Query, bad, not_found, unavailable, written};
use crate::history::summary::fleet::{OfFleet, whole_hours};

/// Most hosts in one answer: more than one server watches.
const HOSTS_MAX: usize = 20_000;

/// Longest span whose 95th percentile is reckoned: samples are read for it, a long weekend of them.
const P95_HOURS_MAX: i64 = 72;

/// Room for a host in the answer.
const HOST_BYTES: usize = 192;

/// Series that are named where a text fits several.
const SUGGESTIONS: usize = 8;

/// The share that `p95` stands for.
const P95: f64 = 0.95;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    series: String,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    by: Option<FleetBy>,
    top: Option<usize>,
}

pub(super) async fn fleet(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let to = wanted.to.unwrap_or_else(|| state.clock.wall());
    let from = wanted.from.unwrap_or_else(|| {
        to.saturating_sub(SignedDuration::from_hours(24))
            .unwrap_or(Timestamp::MIN)
    });
    if from >= to {
        return Err(bad(format!(
            "the span from {from} to {to} is empty: give an earlier --from"
        )));
    }
    let by = wanted.by.unwrap_or(FleetBy::Max);
    if by == FleetBy::P95 && to.duration_since(from) > SignedDuration::from_hours(P95_HOURS_MAX) {
        return Err(bad(format!(
            "p95 reads every sample: ask for at most {P95_HOURS_MAX} h, or by max, mean, min or last"
        )));
    }
    let top = wanted.top.unwrap_or(HOSTS_MAX).clamp(1, HOSTS_MAX);
    let work = move || {
        let fleet = reckon(&state, &wanted.series, (from, to), by, top)?;
        let mut out = Vec::with_capacity((fleet.hosts.len() + 4) * HOST_BYTES);
        serde_json::to_writer(&mut out, &fleet).expect("a document is written to memory");
        Ok(written(out))
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| unavailable("the history could not be read; see the server's log"))?
}

fn reckon(
    state: &State,
    notation: &str,
    (from, to): (Timestamp, Timestamp),
    by: FleetBy,
    top: usize,
) -> Result<Fleet, Failure> {
    let series = find(state, notation)?;
    let OfFleet { hosts, damaged } = state
        .history
        .fleet(&series, (from, to), &|host| state.identity.as_host(host));
    for damage in &damaged {
        tracing::warn!(damage, "part of the history cannot be read");
    }
    let view = state.published.view();
    let names = names(view.hosts.iter().chain(&view.retired));
    let p95 = match by {
        FleetBy::P95 => {
            let hosts = hosts.keys().map(|host| {
                let mut names = vec![*host];
                names.extend(state.identity.merged_into(*host));
                names
            });
            let hours = whole_hours(from, to);
            state.history.percentiles(hosts, &series, hours, P95)
        }
        FleetBy::Max | FleetBy::Mean | FleetBy::Min | FleetBy::Last => BTreeMap::new(),
    };
    let hosts_total = hosts.len() as u64;
    let mut hosts: Vec<FleetHost> = hosts
        .into_iter()
        .map(|(host, total)| FleetHost {
            host,
            name: names
                .get(&host)
                .map_or_else(|| host.to_string(), |name| (*name).to_owned()),
            samples: total.samples,
            min: total.min,
            mean: total.mean,
            max: total.max,
            last: total.last,
            p95: p95.get(&host).copied(),
        })
        .collect();
    hosts.sort_by(|a, b| most_first(by, a, b));
    hosts.truncate(top);
    let (from, to) = whole_hours(from, to);
    Ok(Fleet {
        series: series.to_string(),
        kind: series.kind,
        zone: state.published.view().now.zone.clone(),
        from,
        to,
        by: by.name().to_owned(),
        hosts,
        hosts_total,
        damaged: damaged.len() as u64,
    })
}

/// What hosts are called, and the server, which measures itself.
fn names<'a>(known: impl Iterator<Item = &'a Host>) -> BTreeMap<HostId, &'a str> {
    let hosts = known.map(|host| (host.id, host.name.as_str()));
    hosts.chain([(SERVER, SERVER_NAME)]).collect()
}

fn most_first(by: FleetBy, a: &FleetHost, b: &FleetHost) -> Ordering {
    let rank = |host| by.rank(host).unwrap_or(f64::NEG_INFINITY);
    rank(b)
        .total_cmp(&rank(a))
        .then_with(|| a.name.cmp(&b.name))
}

/// A series by its whole notation, or by a part of it that fits only one of all that any host has.
fn find(state: &State, notation: &str) -> Result<Series, Failure> {
    if let Some(series) = state.history.named(notation) {
        return Ok(series);
    }
    let fitting = state.history.notations_with(notation, SUGGESTIONS + 1);
    match &fitting[..] {
        [one] => {
            let found = state.history.named(one);
            found.ok_or_else(|| not_found("series", notation, std::iter::empty()))
        }
        [] => {
            let known = state.history.notations_with("", HOSTS_MAX);
            Err(not_found(
                "series",
                notation,
                known.iter().map(String::as_str),
            ))
        }
        [..] => {
            let mut failure = bad(format!(
                "several series fit {notation:?}: name one of them, with its labels"
            ));
            failure.1.suggestions = fitting.into_iter().take(SUGGESTIONS).collect();
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_has_a_name_too() {
        assert_eq!(names([].iter()), [(HostId(0), "server")].into());
    }
}
