//! What can be read. Views are as of the watch's last step; nothing here waits for it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use dawnwatch_engine::vitals::{SERVER, SERVER_NAME};
use dawnwatch_proto::api::{
    Evidence, Host, Incident, Link, LiveReview, Missing, NightHead, Now, Rule,
};
use dawnwatch_proto::review::Review;
use dawnwatch_proto::{HostId, Series};
use serde::Deserialize;

use super::State;
use super::answer::{Answer, Failure, Query, bad, not_found, unavailable};
use crate::nights::{self, evidence};

pub(super) async fn now(Shared(state): Shared<Arc<State>>) -> Json<Now> {
    Json(present(&state))
}

/// What is open, with what the server has to say of itself.
pub(crate) fn present(state: &State) -> Now {
    let mut now = state.published.view().now.clone();
    now.last_night = state.published.nights().pop();
    if state.published.halted() {
        let text =
            "the server's disk is full: nothing is taken in or judged until space is freed in";
        now.notices
            .insert(0, format!("{text} {}", state.data.display()));
    } else if state.published.reserve().is_given() {
        let wanted = state.published.reserve().wanted_bytes() / (1024 * 1024);
        now.notices.insert(
            0,
            format!(
                "the server's disk is full: agents keep what they measure until {wanted} MiB are free in {}; judging and messages go on in reserved room",
                state.data.display()
            ),
        );
    }
    now.notices.extend(state.targets.notices());
    now.notices.extend(state.history.erasing_told());
    now
}

pub(super) async fn net(Shared(state): Shared<Arc<State>>) -> Json<Vec<Link>> {
    Json(state.published.view().net.to_vec())
}

pub(super) async fn hosts(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<ByState>,
) -> Answer<Vec<Host>> {
    let view = state.published.view();
    Ok(Json(match wanted.state.as_deref() {
        None => view.hosts.clone(),
        Some("retired") => view.retired.clone(),
        Some("all") => view.hosts.iter().chain(&view.retired).cloned().collect(),
        Some(other) => return Err(bad(format!("state {other:?} is none of all, retired"))),
    }))
}

pub(super) async fn missing(Shared(state): Shared<Arc<State>>) -> Json<Vec<Missing>> {
    Json(state.published.view().missing.clone())
}

pub(super) async fn rules(Shared(state): Shared<Arc<State>>) -> Json<Vec<Rule>> {
    Json(state.published.view().rules.clone())
}

pub(super) async fn nights(Shared(state): Shared<Arc<State>>) -> Json<Vec<NightHead>> {
    Json(state.published.nights())
}

/// What a sealed night keeps of its findings: it answers when the raw history is gone.
pub(super) async fn evidence(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
) -> Answer<Evidence> {
    let sealed = state.published.nights();
    let id = match id.strip_prefix('-') {
        Some(_) => nights_back(&sealed, &id)?,
        None => id,
    };
    let of = id.clone();
    let read = tokio::task::spawn_blocking(move || evidence::read(&state.data, &of)).await;
    let read =
        read.map_err(|_| unavailable("the evidence could not be read; see the server's log"))?;
    let read = read.map_err(|error| unavailable(error.to_string()))?;
    let names = sealed.iter().map(|head| head.id.as_str());
    read.map(Json)
        .ok_or_else(|| not_found("evidence of a night", &id, names))
}

#[derive(Debug, Deserialize)]
pub(super) struct ByState {
    state: Option<String>,
}

pub(super) async fn incidents(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<ByState>,
) -> Answer<Vec<Incident>> {
    let view = state.published.view();
    let keep: fn(&str) -> bool = match wanted.state.as_deref() {
        None | Some("all") => |_| true,
        Some("open") => |state| state != "closed",
        Some("closed") => |state| state == "closed",
        Some(other) => return Err(bad(format!("state {other:?} is none of all, open, closed"))),
    };
    Ok(Json(
        view.incidents
            .iter()
            .filter(|incident| keep(&incident.state))
            .map(|incident| Incident::clone(incident))
            .collect(),
    ))
}

pub(super) async fn incident(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
) -> Answer<Incident> {
    let failure = match find_incident(&state, &id) {
        Ok(incident) => return Ok(Json(incident)),
        Err(failure) => failure,
    };
    super::search::old_incident(&state, &id)
        .await?
        .map(Json)
        .ok_or(failure)
}

pub(crate) fn find_incident(state: &State, id: &str) -> Result<Incident, Failure> {
    let view = state.published.view();
    let found = view
        .incidents
        .iter()
        .find(|incident| incident.id.eq_ignore_ascii_case(id));
    found
        .map(|incident| Incident::clone(incident))
        .ok_or_else(|| not_found("incident", id, view.incidents.iter().map(|i| i.id.as_str())))
}

/// A host by its name, its id, or the beginning of its id.
pub(crate) fn find_host(state: &State, wanted: &str) -> Result<Host, Failure> {
    let view = state.published.view();
    let all = || view.hosts.iter().chain(&view.retired);
    let by_name = all().find(|host| host.name == wanted);
    let by_id = || {
        let mut fitting = all().filter(|host| host.id.to_string().starts_with(wanted));
        let first = fitting.next();
        first.filter(|_| wanted.len() >= 4 && fitting.next().is_none())
    };
    let by_alias = || all().find(|host| host.aliases.iter().any(|alias| alias == wanted));
    let found = by_name.or_else(by_alias).or_else(by_id).cloned();
    found.ok_or_else(|| {
        not_found(
            "host",
            wanted,
            view.hosts.iter().map(|host| host.name.as_str()),
        )
    })
}

/// What has series: a host, or the server itself. A host of that name goes before it.
pub(super) fn find_measured(state: &State, wanted: &str) -> Result<(HostId, String), Failure> {
    match find_host(state, wanted) {
        Ok(host) => Ok((host.id, host.name)),
        Err(_) if wanted == SERVER_NAME => Ok((SERVER, wanted.to_owned())),
        Err(failure) => Err(failure),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct OfHost {
    host: String,
}

pub(super) async fn series(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<OfHost>,
) -> Answer<Vec<String>> {
    let (host, _) = find_measured(&state, &wanted.host)?;
    Ok(Json(
        state
            .history
            .series(host)
            .iter()
            .map(Series::to_string)
            .collect(),
    ))
}

/// A series by its whole notation, or by a part of it that fits only one.
pub(super) fn find_series<'a>(known: &'a [Series], wanted: &str) -> Result<&'a Series, Failure> {
    // Cheap before dear: a host has many series.
    let is = |one: &&Series| wanted.starts_with(&one.name) && one.to_string() == wanted;
    if let Some(found) = known.iter().find(is) {
        return Ok(found);
    }
    let shown: Vec<String> = known.iter().map(Series::to_string).collect();
    let fitting: Vec<usize> = (0..known.len())
        .filter(|i| shown[*i].contains(wanted))
        .collect();
    match fitting[..] {
        [one] => Ok(&known[one]),
        [] => {
            let names = known.iter().map(|one| one.name.as_str());
            Err(not_found(
                "series",
                wanted,
                names.chain(shown.iter().map(String::as_str)),
            ))
        }
        _ => {
            let mut failure = bad(format!(
                "{} series fit {wanted:?}: name one of them",
                fitting.len()
            ));
            failure.1.suggestions = fitting.iter().take(8).map(|i| shown[*i].clone()).collect();
            Err(failure)
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WhichNight {
    night: Option<String>,
}

pub(super) async fn review(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<WhichNight>,
) -> Answer<LiveReview> {
    find_review(&state, wanted.night.as_deref()).map(Json)
}

/// The review that is asked for; without a wish the last sealed night, or the one that is under way.
pub(crate) fn find_review(state: &State, wanted: Option<&str>) -> Result<LiveReview, Failure> {
    let view = state.published.view();
    let at = state.clock.wall();
    let sealed = state.published.nights();
    let so_far = || LiveReview {
        at,
        review: Review::clone(&view.so_far),
        since: Vec::new(),
    };
    let id = match wanted {
        Some("so-far") => return Ok(so_far()),
        None => match sealed.last() {
            // The night just sealed is the one people ask for; while a later one is under way, it is that one.
            Some(head)
                if head.id == view.so_far.id || view.so_far.start > at || view.so_far.end <= at =>
            {
                head.id.clone()
            }
            Some(_) | None => return Ok(so_far()),
        },
        Some(back) if back.starts_with('-') => nights_back(&sealed, back)?,
        Some(id) => id.to_owned(),
    };
    let read = nights::read(&state.data, &id).map_err(|error| unavailable(error.to_string()))?;
    match read {
        Some(review) => {
            let live = view
                .sealed
                .as_ref()
                .filter(|live| live.review.id == review.id);
            let since = live.map(|live| live.since.clone()).unwrap_or_default();
            Ok(LiveReview { at, review, since })
        }
        None if id == view.so_far.id => Ok(so_far()),
        None => Err(not_found(
            "sealed night",
            &id,
            sealed.iter().map(|head| head.id.as_str()),
        )),
    }
}

/// The id of the night that is so many nights back: `-1` is the last one sealed.
fn nights_back(sealed: &[NightHead], wanted: &str) -> Result<String, Failure> {
    let back: usize = wanted[1..]
        .parse()
        .map_err(|_| bad(format!("{wanted:?} is no number of nights back")))?;
    let index = sealed.len().checked_sub(back.max(1));
    let head = index.and_then(|index| sealed.get(index));
    head.map(|head| head.id.clone())
        .ok_or_else(|| not_found("sealed night", wanted, std::iter::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dawnwatch_proto::Kind;
    use jiff::Timestamp;

    #[test]
    fn series_are_found_by_a_part_that_fits_one() {
        let known = [
            Series::new("node_load1", Kind::Gauge),
            Series::new("node_load15", Kind::Gauge),
            Series::new("node_cpu_seconds_total", Kind::Counter).label("mode", "idle"),
        ];
        let found = |wanted| {
            find_series(&known, wanted)
                .map(|one| one.name.clone())
                .map_err(|f| f.1)
        };
        assert_eq!(
            found("node_load1").unwrap(),
            "node_load1",
            "a whole name is no part of another"
        );
        assert_eq!(found("idle").unwrap(), "node_cpu_seconds_total");
        assert_eq!(
            found("load").unwrap_err().suggestions,
            ["node_load1", "node_load15"]
        );
        assert_eq!(
            found("node_laod1").unwrap_err().suggestions[0],
            "node_load1"
        );
    }

    #[test]
    fn nights_are_counted_back_as_they_were_asked_for() {
        let head = |id: &str| NightHead {
            id: id.to_owned(),
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            sealed: Timestamp::UNIX_EPOCH,
            verdict: dawnwatch_proto::review::Verdict::Quiet,
            sentence: String::new(),
        };
        let sealed = [head("N-1"), head("N-2")];
        let back = |wanted| nights_back(&sealed, wanted).map_err(|f| f.1.error);
        assert_eq!(back("-1").unwrap(), "N-2");
        assert_eq!(back("-2").unwrap(), "N-1");
        assert_eq!(back("-3").unwrap_err(), "there is no sealed night \"-3\"");
        assert_eq!(
            back("-x").unwrap_err(),
            "\"-x\" is no number of nights back"
        );
    }
}
