//! What people do with hosts: name them, label, rename, retire, merge. Identity stores it first, then the engine is told through
//! the journal; a crash in between loses nothing, since every start tells the engine all that identity knows.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use dawnwatch_engine::input::Input;
use dawnwatch_proto::api::{Done, Import, Imported, Labels, Retire, To};

use super::State;
use super::answer::{Answer, Failure, bad, unavailable};
use super::read::find_host;
use super::write::submit;
use crate::app::card;
use crate::identity::{HostError, HostRecord, Identity, NamedRecord};
use crate::journal::Submit;

/// Facts and labels that one request may set.
const LABELS_AT_ONCE_MAX: usize = 64;

pub(super) async fn import(
    Shared(state): Shared<Arc<State>>,
    Json(wanted): Json<Import>,
) -> Answer<Imported> {
    let now = state.clock.wall();
    let (out, changed) = stored(&state, move |identity| {
        identity.import_hosts(&wanted.csv, wanted.dry_run, now)
    })
    .await?;
    // All on their way before the last is waited for: they share their syncs.
    if let Some((last, rest)) = changed.split_last() {
        for record in rest {
            let input = Input::Named(Box::new(record.input(false)));
            let sent = state.journal.send(Submit::Input(Box::new(input), None));
            let gone = |_| unavailable("the server is stopping");
            sent.await.map_err(gone)?;
        }
        tell(&state, last, false).await?;
    }
    Ok(Json(out))
}

pub(super) async fn label(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    Json(Labels { labels }): Json<Labels>,
) -> Answer<Done> {
    if labels.is_empty() || labels.len() > LABELS_AT_ONCE_MAX {
        let text = format!("give 1 to {LABELS_AT_ONCE_MAX} labels, such as owner=ruiz");
        return Err(bad(text));
    }
    // A host that was only named, or one that joined, by any of its names.
    let view = state.published.view();
    let mut missing = view.missing.iter();
    let name = match missing.find(|m| m.name.eq_ignore_ascii_case(&name)) {
        Some(missing) => missing.name.clone(),
        None => find_host(&state, &name)?.name,
    };
    let text = format!("{name} labelled");
    let record = stored(&state, move |identity| identity.label_host(&name, &labels)).await?;
    tell(&state, &record, false).await?;
    done(text)
}

pub(super) async fn rename(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    Json(To { to }): Json<To>,
) -> Answer<Done> {
    let host = find_host(&state, &name)?;
    let (record, moved) =
        stored(&state, move |identity| identity.rename_host(host.id, &to)).await?;
    if let Some((before, after)) = moved {
        tell(&state, &after, false).await?;
        tell(&state, &before, true).await?;
    }
    tell_card(&state, &record).await?;
    let (old, new) = (host.name, record.name);
    done(format!("{old} is {new} now; it is found under both names"))
}

pub(super) async fn retire(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    Json(Retire { erase }): Json<Retire>,
) -> Answer<Done> {
    if erase {
        return Err(bad("--erase is not there yet: retire it without"));
    }
    let (host, now) = (find_host(&state, &name)?, state.clock.wall());
    let record = stored(&state, move |identity| Ok(identity.retire(host.id, now)?)).await?;
    tell_card(&state, &record).await?;
    done(format!(
        "{} is retired: its history stays, it counts no longer, and is refused until it joins again",
        host.name
    ))
}

pub(super) async fn merge(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    Json(To { to }): Json<To>,
) -> Answer<Done> {
    let (new, old) = (find_host(&state, &name)?, find_host(&state, &to)?);
    let (from, into) = (new.id, old.id);
    let (merged, kept) = stored(&state, move |identity| identity.merge_hosts(from, into)).await?;
    tell_card(&state, &kept).await?;
    tell_card(&state, &merged).await?;
    done(format!(
        "{} is {} from here on, with the history of both; certificates of before are refused",
        new.name, old.name
    ))
}

pub(super) async fn forget(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
) -> Answer<Done> {
    let record = stored(&state, move |identity| identity.forget_name(&name)).await?;
    tell(&state, &record, true).await?;
    done(format!("{} is no longer named", record.name))
}

fn done(text: String) -> Answer<Done> {
    Ok(Json(Done { text }))
}

/// Changes identity off the sockets' threads: it waits for the disk.
async fn stored<T: Send + 'static>(
    state: &State,
    change: impl FnOnce(&Identity) -> Result<T, HostError> + Send + 'static,
) -> Result<T, Failure> {
    let identity = Arc::clone(&state.identity);
    let done = tokio::task::spawn_blocking(move || change(&identity)).await;
    let done = done.map_err(|_| unavailable("it could not be stored; see the server's log"))?;
    done.map_err(|error| match error {
        HostError::Refused(_) | HostError::Mistakes(_) => bad(error.to_string()),
        HostError::Identity(error) => unavailable(error.to_string()),
    })
}

async fn tell(state: &State, record: &NamedRecord, gone: bool) -> Result<(), Failure> {
    submit(state, Input::Named(Box::new(record.input(gone)))).await
}

async fn tell_card(state: &State, record: &HostRecord) -> Result<(), Failure> {
    submit(state, Input::Host(card(&state.identity, record))).await
}
