//! Acts of people: journalled like every input, answered when the watch has judged them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State as Shared};
use axum::{Extension, Json};
use dawnwatch_engine::input::{Act as EngineAct, Input, Order};
use dawnwatch_proto::api::{Act, Incident, NewToken, Token, TokenState};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::State;
use super::answer::{Answer, Body, Failure, bad, unavailable};
use super::read::find_incident;
use crate::handout::install_line;
use crate::journal::Submit;
use crate::web::person::Person;

/// An act that the watch has not judged by then is answered as under way.
const JUDGED_WITHIN: Duration = Duration::from_secs(5);

/// Longest remark on an act, in bytes.
const NOTE_BYTES_MAX: usize = 1_000;

/// Longest name of a person, in bytes.
const BY_BYTES_MAX: usize = 200;

/// Longest life of a join token: a year.
const TOKEN_SECONDS_MAX: u64 = 366 * 86_400;

/// Most hosts that one join token may let in.
const TOKEN_USES_MAX: u32 = 10_000;

pub(super) async fn acknowledge(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    Extension(person): Extension<Person>,
    Body(act): Body<Act>,
) -> Answer<Incident> {
    take(&state, &id, &person, act).await.map(Json)
}

/// Records that a person takes an incident, and waits until that is judged.
pub(crate) async fn take(
    state: &State,
    id: &str,
    person: &Person,
    act: Act,
) -> Result<Incident, Failure> {
    let incident = find_incident(state, id)?;
    if act.note.len() > NOTE_BYTES_MAX {
        return Err(bad(format!(
            "the note has {} bytes, limit {NOTE_BYTES_MAX}",
            act.note.len()
        )));
    }
    if act.by.len() > BY_BYTES_MAX {
        let bytes = act.by.len();
        return Err(bad(format!(
            "the name has {bytes} bytes, limit {BY_BYTES_MAX}"
        )));
    }
    if incident.state == "closed" {
        return Err(bad(format!(
            "{} is closed: there is nothing to take",
            incident.id
        )));
    }
    // Root may act for somebody; who is logged in acts as nobody else.
    let by = if person.is_root() && !act.by.is_empty() {
        act.by
    } else {
        person.name.clone()
    };
    let order = Order {
        by,
        act: EngineAct::Acknowledge {
            incident: incident.id.clone(),
            note: act.note,
        },
    };
    submit(state, Input::Order(order)).await?;
    let mut follow = state.published.follow();
    let taken = || find_incident(state, &incident.id).is_ok_and(|now| now.taken.is_some());
    let judged = tokio::time::timeout(JUDGED_WITHIN, async {
        while !taken() {
            if follow.changed().await.is_err() {
                return;
            }
        }
    });
    judged
        .await
        .map_err(|_| unavailable("recorded, but not judged yet: look again in a moment"))?;
    find_incident(state, &incident.id)
}

pub(super) async fn submit(state: &State, input: Input) -> Result<(), Failure> {
    let stopping = || unavailable("the server is stopping");
    let (reply, durable) = oneshot::channel();
    state
        .journal
        .send(Submit::Input(Box::new(input), Some(reply)))
        .await
        .map_err(|_| stopping())?;
    durable
        .await
        .map_err(|_| stopping())?
        .map_err(|full| unavailable(full.to_string()))
}

pub(super) async fn tokens(Shared(state): Shared<Arc<State>>) -> Json<Vec<TokenState>> {
    let now = state.clock.wall();
    let live = state
        .identity
        .tokens()
        .into_iter()
        .filter(|token| token.expires > now && !token.revoked);
    let shown = live.map(|token| TokenState {
        id: token.id,
        expires: token.expires,
        uses_left: token.uses_left,
    });
    Json(shown.collect())
}

pub(super) async fn create_token(
    Shared(state): Shared<Arc<State>>,
    Body(wanted): Body<NewToken>,
) -> Answer<Token> {
    if wanted.uses == 0 || wanted.uses > TOKEN_USES_MAX {
        return Err(bad(format!(
            "uses: {} is not within 1 and {TOKEN_USES_MAX}",
            wanted.uses
        )));
    }
    if wanted.expires_seconds == 0 || wanted.expires_seconds > TOKEN_SECONDS_MAX {
        return Err(bad(
            "expires: give a time between one second and 366 days, such as 7d",
        ));
    }
    let now = state.clock.wall();
    let expires = now
        .saturating_add(Duration::from_secs(wanted.expires_seconds))
        .unwrap_or(Timestamp::MAX);
    let (identity, handout) = (Arc::clone(&state.identity), Arc::clone(&state.handout));
    // The token is on disk before it is shown, and the agent may have to be hashed.
    let made = tokio::task::spawn_blocking(move || {
        let line = identity.create_token(wanted.uses, expires, wanted.labels, now);
        line.map(|line| (line, handout.offer()))
    });
    let made = made
        .await
        .map_err(|_| unavailable("the token could not be made; see the server's log"))?;
    let (line, offer) = made.map_err(|error| unavailable(error.to_string()))?;
    let join = line.to_string();
    let (install, no_install) = match offer {
        Ok(offer) => (install_line(&offer, &state.agents, &join), String::new()),
        Err(why) => (String::new(), why.to_string()),
    };
    Ok(Json(Token {
        id: line.id,
        command: format!("dawnwatch-agent join {} {join}", state.agents),
        join,
        install,
        no_install,
        expires,
        uses: wanted.uses,
    }))
}
