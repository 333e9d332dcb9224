//! People by the API: root adds them, resets them, removes them. Each change is noted in the ledger, by id.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use dawnwatch_proto::api::{BearerToken, Me, NewPerson, NewRole, PersonState, SetupLink};

use super::Web;
use super::person::{Person, ROOT};
use crate::api::{Answer, Body, Failure, State, failure};
use crate::identity::people::{Code, People, PeopleError, PersonRecord};

/// The routes; each has its row in [`super::access::ROUTES`].
pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/api/v1/me", get(me))
        .route("/api/v1/people", get(list).post(add))
        .route("/api/v1/people/{name}/reset", post(reset))
        .route("/api/v1/people/{name}/role", post(role))
        .route("/api/v1/people/{name}/remove", post(remove))
        .route("/api/v1/people/{name}/token", post(token))
        .route("/api/v1/admin-link", post(admin_link))
}

type Shared = Extension<Arc<Web>>;

async fn me(Extension(person): Extension<Person>) -> Json<Me> {
    Json(Me {
        name: person.name,
        role: person.role,
    })
}

async fn list(Extension(web): Shared) -> Json<Vec<PersonState>> {
    Json(web.people.list().into_iter().map(shown).collect())
}

async fn add(Extension(web): Shared, Body(wish): Body<NewPerson>) -> Answer<SetupLink> {
    let now = web.state.clock.wall();
    let (person, code) = change(&web, move |people| people.add(&wish.name, wish.role, now)).await?;
    web.note(ROOT, &person.id, format!("added as {}", person.role.word()));
    link(&web, person.name, code)
}

async fn reset(Extension(web): Shared, Path(name): Path<String>) -> Answer<SetupLink> {
    let now = web.state.clock.wall();
    let (person, code) = change(&web, move |people| people.reset(&name, now)).await?;
    web.sessions().end_all(&person.id);
    web.note(
        ROOT,
        &person.id,
        "password taken away, new link made".to_owned(),
    );
    link(&web, person.name, code)
}

async fn role(
    Extension(web): Shared,
    Path(name): Path<String>,
    Body(wish): Body<NewRole>,
) -> Answer<PersonState> {
    let now = web.state.clock.wall();
    let person = change(&web, move |people| people.set_role(&name, wish.role, now)).await?;
    web.note(ROOT, &person.id, format!("is now {}", person.role.word()));
    Ok(Json(shown(person)))
}

async fn remove(Extension(web): Shared, Path(name): Path<String>) -> Answer<PersonState> {
    let now = web.state.clock.wall();
    let person = change(&web, move |people| people.remove(&name, now)).await?;
    web.sessions().end_all(&person.id);
    web.note(ROOT, &person.id, "removed".to_owned());
    Ok(Json(shown(person)))
}

async fn token(Extension(web): Shared, Path(name): Path<String>) -> Answer<BearerToken> {
    let now = web.state.clock.wall();
    let (person, token) = change(&web, move |people| people.create_token(&name, now)).await?;
    web.note(ROOT, &person.id, "token for scripts made".to_owned());
    Ok(Json(BearerToken {
        name: person.name,
        token,
    }))
}

async fn admin_link(Extension(web): Shared) -> Answer<SetupLink> {
    let now = web.state.clock.wall();
    let code = change(&web, move |people| people.admin_link(now)).await?;
    web.note(ROOT, "", "link for a new admin made".to_owned());
    link(&web, String::new(), code)
}

fn link(web: &Web, name: String, code: Code) -> Answer<SetupLink> {
    let Some(site) = &web.site else {
        let error = "the page is off (listen = \"off\" in [web]): nobody can open the link";
        return Err(failure(StatusCode::CONFLICT, error));
    };
    Ok(Json(SetupLink {
        name,
        link: site.link(&code),
        tunnel: site.tunnel.clone(),
        expires: code.expires,
    }))
}

/// Changes the document off the sockets' threads: what is answered is on disk.
async fn change<T: Send + 'static>(
    web: &Web,
    change: impl FnOnce(&People) -> Result<T, PeopleError> + Send + 'static,
) -> Result<T, Failure> {
    let people = Arc::clone(&web.people);
    let done = tokio::task::spawn_blocking(move || change(&people)).await;
    let done = done.map_err(|_| {
        let error = "nothing was changed; see the server's log";
        failure(StatusCode::INTERNAL_SERVER_ERROR, error)
    })?;
    done.map_err(|error| {
        let status = match error {
            PeopleError::Nobody(_) => StatusCode::NOT_FOUND,
            PeopleError::Taken(_) | PeopleError::Name | PeopleError::Link => {
                StatusCode::BAD_REQUEST
            }
            PeopleError::Identity(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        failure(status, error.to_string())
    })
}

fn shown(person: PersonRecord) -> PersonState {
    PersonState {
        id: person.id,
        name: person.name,
        role: person.role,
        created: person.created,
        ready: person.password.is_some(),
        tokens: u32::try_from(person.tokens.len()).unwrap_or(u32::MAX),
    }
}
