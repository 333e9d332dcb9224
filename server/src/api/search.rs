//! Searching: hosts from the view, all else through the index. Incidents that the engine has forgotten come from the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use dawnwatch_engine::{Effect, Entry};
use dawnwatch_proto::HostId;
use dawnwatch_proto::api::{Found, Host, Incident, Search};
use dawnwatch_segment::{Disk, RealDisk};
use jiff::Timestamp;
use serde::Deserialize;

use super::State;
use super::answer::{Answer, Failure, Query, bad, unavailable};
use super::read::find_host;
use crate::index::doc::{Doc, FRAMES_MAX, words};
use crate::index::{self, Unanswered, old};
use crate::ledger::{self, Frame};

/// Answers where nobody asks for more.
const LIMIT: usize = 100;

/// Most words of a search: nobody remembers more of a line.
const WORDS_MAX: usize = 16;

/// What can be searched for.
const KINDS: [&str; 4] = ["host", "incident", "finding", "template"];

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    q: String,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    host: Option<String>,
    kind: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn search(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<Wanted>,
) -> Answer<Search> {
    let sought: Vec<String> = words(&wanted.q).collect();
    if sought.len() > WORDS_MAX {
        return Err(bad(format!("search for {WORDS_MAX} words at most")));
    }
    if let Some(kind) = &wanted.kind
        && !KINDS.contains(&kind.as_str())
    {
        let kinds = KINDS.join(", ");
        return Err(bad(format!("kind {kind:?} is none of {kinds}")));
    }
    let host = wanted.host.as_deref().map(|name| find_host(&state, name));
    let host = host.transpose()?.map(|host| host.id);
    let limit = wanted.limit.unwrap_or(LIMIT).clamp(1, index::FOUND_MAX);
    let is_of = |kind: &str| wanted.kind.as_deref().is_none_or(|wanted| wanted == kind);
    let mut found = Vec::new();
    if is_of("host") && wanted.from.is_none() && wanted.to.is_none() {
        let view = state.published.view();
        let all = view.hosts.iter().chain(&view.retired);
        let fitting = all.filter(|one| host.is_none_or(|id| id == one.id));
        found.extend(fitting.filter(|one| fits(one, &sought)).map(of_host));
    }
    let mut more = found.len() > limit;
    if wanted.kind.as_deref() != Some("host") {
        let query = index::Query {
            words: sought,
            from: wanted.from,
            to: wanted.to,
            host,
            kind: wanted.kind.clone(),
            limit,
        };
        let answer = state.index.search(query).await;
        let answer = answer.map_err(|why| unavailable(why.to_string()))?;
        let names = names(&state);
        more |= answer.more || found.len() + answer.docs.len() > limit;
        found.extend(answer.docs.into_iter().map(|doc| of_doc(doc, &names)));
    }
    found.truncate(limit);
    let zone = state.published.view().now.zone.clone();
    Ok(Json(Search { zone, found, more }))
}

/// An incident that the engine has forgotten, from the ledger; none where there never was one. The index says in which frames
/// to look; where it cannot, all of them are looked at.
pub(super) async fn old_incident(state: &State, id: &str) -> Result<Option<Incident>, Failure> {
    let id = id.to_ascii_uppercase();
    let frames = match state.index.frames(&id).await {
        Ok(frames) if frames.len() < FRAMES_MAX => Some(frames),
        Ok(_) | Err(Unanswered::Building(_) | Unanswered::Off(_) | Unanswered::Busy) => None,
    };
    if frames.as_ref().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let (data, last) = (state.data.clone(), state.poke.last());
    let (names, nights) = (names(state), state.published.nights());
    let scrub = state.index.scrub();
    let read = tokio::task::spawn_blocking(move || {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut telling = Vec::new();
        let spans = frames.map_or(vec![(1, last)], |all| {
            all.into_iter().map(|frame| (frame, frame)).collect()
        });
        for (from, to) in spans {
            ledger::walk_from(&disk, &data, from, to, |seen| {
                telling.extend(about(&id, seen.of));
                Ok::<(), ledger::Error>(())
            })?;
        }
        let mut incident = old::incident(&id, &telling);
        if let Some(incident) = &mut incident {
            old::recall(incident, &data, &nights);
            scrub.incident(incident);
        }
        Ok::<_, ledger::Error>(incident)
    });
    let read = read.await;
    let read =
        read.map_err(|_| unavailable("the ledger could not be read; see the server's log"))?;
    let mut incident = read.map_err(|error| unavailable(error.to_string()))?;
    if let Some(incident) = &mut incident
        && let Some(name) = names.get(&incident.host)
    {
        incident.name.clone_from(name);
    }
    Ok(incident)
}

/// What of a frame may tell of an incident; the rest is not kept in memory.
fn about(id: &str, frame: Frame) -> Option<Frame> {
    let tells = |effect: &Effect| match effect {
        Effect::Record(Entry::Alert { incident: of, .. } | Entry::Incident { id: of, .. }) => {
            of == id
        }
        Effect::Record(Entry::Delivered { key, .. }) => key.split('/').next() == Some(id),
        Effect::Record(
            Entry::Host { .. }
            | Entry::Server { .. }
            | Entry::Sealed { .. }
            | Entry::Person { .. }
            | Entry::Evidence { .. },
        ) => false,
        Effect::Notify(notification) => notification.incident == id,
        Effect::SealNight(review) => {
            let rows = review.critical.iter().chain(&review.today);
            rows.chain(&review.healed).any(|row| row.id == id)
        }
    };
    let effects: Vec<Effect> = frame.effects.into_iter().filter(tells).collect();
    (!effects.is_empty()).then_some(Frame { effects, ..frame })
}

/// What hosts are called now.
fn names(state: &State) -> BTreeMap<HostId, String> {
    let view = state.published.view();
    let all = view.hosts.iter().chain(&view.retired);
    all.map(|host| (host.id, host.name.clone())).collect()
}

fn fits(host: &Host, sought: &[String]) -> bool {
    let or = |text: &Option<String>| text.clone().unwrap_or_default();
    let texts = [
        host.name.clone(),
        host.id.to_string(),
        or(&host.service),
        or(&host.owner),
        or(&host.site),
        host.system.clone(),
    ];
    let own: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
    let begins = |wanted: &String| own.iter().any(|word| word.starts_with(wanted.as_str()));
    sought.iter().all(begins)
}

fn of_host(host: &Host) -> Found {
    Found {
        kind: "host".to_owned(),
        id: host.id.to_string(),
        host: host.id,
        name: host.name.clone(),
        state: host.state.clone(),
        severity: host.worst,
        since: host.joined,
        until: None,
        text: host.service.clone().unwrap_or_else(|| host.system.clone()),
        night: None,
    }
}

fn of_doc(doc: Doc, names: &BTreeMap<HostId, String>) -> Found {
    let is_template = doc.kind == "template";
    let text = match (is_template, doc.name.is_empty()) {
        (true, false) => format!("{}: {}", doc.name, doc.text),
        (true, true) | (false, _) => doc.text,
    };
    let name = names.get(&doc.host).cloned();
    let name = name.unwrap_or_else(|| match (doc.host, is_template) {
        (HostId(0), _) if doc.name.is_empty() => "server".to_owned(),
        (_, true) => doc.host.to_string(),
        (_, false) => doc.name,
    });
    Found {
        kind: doc.kind,
        id: doc.id,
        host: doc.host,
        name,
        state: doc.state,
        severity: Some(doc.severity),
        since: doc.since,
        until: doc.until,
        text,
        night: (!doc.night.is_empty()).then_some(doc.night),
    }
}
