//! What people do with hosts: name them, label, rename, retire, merge. Identity stores it first, then the engine is told through
//! the journal; a crash in between loses nothing, since every start tells the engine all that identity knows.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};
use dawnwatch_engine::input::{Act, Input, Order};
use dawnwatch_proto::api::{Done, Import, Imported, Labels, To};

use super::State;
use super::answer::{Answer, Body, Failure, bad, unavailable};
use super::read::find_host;
use super::write::submit;
use crate::app::card;
use crate::identity::{HostError, HostRecord, Identity, NamedRecord};
use crate::journal::Submit;
use crate::web::person::Person;

/// Facts and labels that one request may set.
const LABELS_AT_ONCE_MAX: usize = 64;

pub(super) async fn import(
    Shared(state): Shared<Arc<State>>,
    Extension(person): Extension<Person>,
    Body(wanted): Body<Import>,
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
        let what = format!("hosts imported: {} new, {} changed", out.new, out.changed);
        noted(&state, &person, what).await?;
    }
    Ok(Json(out))
}

pub(super) async fn label(
    Shared(state): Shared<Arc<State>>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Body(Labels { labels }): Body<Labels>,
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
    done(&state, &person, text).await
}

pub(super) async fn rename(
    Shared(state): Shared<Arc<State>>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Body(To { to }): Body<To>,
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
    done(
        &state,
        &person,
        format!("{old} is {new} now; it is found under both names"),
    )
    .await
}

pub(super) async fn retire(
    Shared(state): Shared<Arc<State>>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
) -> Answer<Done> {
    let (host, now) = (find_host(&state, &name)?, state.clock.wall());
    let record = stored(&state, move |identity| Ok(identity.retire(host.id, now)?)).await?;
    tell_card(&state, &record).await?;
    done(&state, &person, format!(
        "{} is retired: its history stays, it counts no longer, and is refused until it joins again",
        host.name
    )).await
}

/// Who it was, and what it sent, goes for good; the answer says what stays.
pub(super) async fn erase(
    Shared(state): Shared<Arc<State>>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
) -> Answer<Done> {
    let (host, now) = (find_host(&state, &name)?, state.clock.wall());
    let records = stored(&state, move |identity| Ok(identity.erase(host.id, now)?)).await?;
    let mut pseudonym = String::new();
    for record in &records {
        tell_card(&state, record).await?;
        // By id and pseudonym: the ledger is for ever.
        let what = format!("host {} erased, {} from here on", record.id, record.name);
        noted(&state, &person, what).await?;
        if record.id == host.id {
            pseudonym.clone_from(&record.name);
        }
    }
    let text = format!(
        "{} is erased: nobody finds it any more, its certificates are refused, and what happened on it is told of {pseudonym}. \
         Its samples, log lines and summaries leave the files within minutes (dawnwatch says how far it is). Its name stays in \
         the ledger and in sealed nights, whose hashes are proof, in names of series where its neighbours pinged it, in log \
         lines that other hosts wrote, in your configuration, in messages that were sent, and in backups",
        host.name
    );
    Ok(Json(Done { text }))
}

pub(super) async fn merge(
    Shared(state): Shared<Arc<State>>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
    Body(To { to }): Body<To>,
) -> Answer<Done> {
    let (new, old) = (find_host(&state, &name)?, find_host(&state, &to)?);
    let (from, into) = (new.id, old.id);
    let (merged, kept) = stored(&state, move |identity| identity.merge_hosts(from, into)).await?;
    // Both at once: its agent comes back as the other within moments.
    tokio::try_join!(tell_card(&state, &kept), tell_card(&state, &merged))?;
    done(
        &state,
        &person,
        format!(
            "{} is {} from here on, with the history of both; certificates of before are refused",
            new.name, old.name
        ),
    )
    .await
}

pub(super) async fn forget(
    Shared(state): Shared<Arc<State>>,
    Extension(person): Extension<Person>,
    Path(name): Path<String>,
) -> Answer<Done> {
    let record = stored(&state, move |identity| identity.forget_name(&name)).await?;
    tell(&state, &record, true).await?;
    done(
        &state,
        &person,
        format!("{} is no longer named", record.name),
    )
    .await
}

/// Notes in the ledger who did it, and answers.
async fn done(state: &State, person: &Person, text: String) -> Answer<Done> {
    noted(state, person, text.clone()).await?;
    Ok(Json(Done { text }))
}

async fn noted(state: &State, person: &Person, what: String) -> Result<(), Failure> {
    let act = Act::Noted {
        about: String::new(),
        what,
    };
    let by = person.id.clone();
    submit(state, Input::Order(Order { by, act })).await
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
