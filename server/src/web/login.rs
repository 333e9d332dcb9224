//! Logging in, out, and the one-time links. A GET uses nothing up: mail scanners follow links.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Router};
use dawnwatch_proto::api::Role;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::cookie::Cookie;
use super::form::{Form, FormPage, Sent};
use super::guard::Caller;
use super::person::Person;
use super::{Web, page};
use crate::api::{State, failure};
use crate::identity::password::{self, Password};
use crate::identity::people::{LinkFor, PeopleError, PersonRecord};

/// Passwords hashed side by side: logins must not take both cores, nor the memory.
pub(super) const HASHES: usize = 2;

/// Whoever waits longer for a place than this is told to try again.
const HASH_WITHIN: Duration = Duration::from_secs(10);

/// Longest path to come back to after a login.
const NEXT_BYTES_MAX: usize = 2_000;

/// The routes; each has its row in [`super::access::ROUTES`].
pub(super) fn router() -> Router<Arc<State>> {
    use axum::routing::{get, post};
    Router::new()
        .route("/login", get(login_page).post(login))
        .route("/setup", get(setup_page).post(setup))
        .route("/logout", post(logout))
        .route("/account", get(account_page).post(account))
        .route("/account/leave", post(leave))
}

#[derive(Debug, Deserialize)]
struct Back {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
    #[serde(default)]
    csrf: String,
}

async fn login_page(
    Extension(web): Extension<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    query: Result<Query<Back>, QueryRejection>,
) -> Response {
    let next = query.map(|Query(back)| back.next).unwrap_or_default();
    let form = |csrf: &str| login_form(&web, csrf, "", &next).answer(StatusCode::OK);
    with_form_cookie(&web, caller, &headers, form)
}

fn login_form(web: &Web, csrf: &str, name: &str, next: &str) -> FormPage {
    let lead = if web.people.lacks_admin() {
        "Nobody can log in yet. On the server, as root: dawnwatch people admin-link"
    } else {
        ""
    };
    let form = Form::new("/login", "Log in", csrf)
        .carry("next", next)
        .name("Name", name)
        .password("password", "Password", "current-password");
    FormPage::new("Log in", lead).with(form)
}

async fn login(
    Extension(web): Extension<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Sent(sent): Sent<Login>,
) -> Response {
    if !is_of_our_form(&web, caller, &headers, &sent.csrf) {
        return with_form_cookie(&web, caller, &headers, |csrf| {
            login_form(&web, csrf, &sent.name, &sent.next)
                .wrong("the form was too old, or cookies are off: try again")
                .answer(StatusCode::FORBIDDEN)
        });
    }
    let address = address(caller);
    let again = |status, wrong: String| {
        login_form(&web, &sent.csrf, &sent.name, &sent.next)
            .wrong(wrong)
            .answer(status)
    };
    let now_ms = web.state.clock.boot_ms();
    let tried = web.throttle().attempt(&sent.name, address, now_ms);
    if let Err(wait_ms) = tried {
        let seconds = wait_ms.div_ceil(1_000);
        let wrong = format!("too many wrong passwords: try again in {seconds} s");
        let mut answer = again(StatusCode::TOO_MANY_REQUESTS, wrong);
        let value = HeaderValue::from(seconds);
        answer.headers_mut().insert(header::RETRY_AFTER, value);
        return answer;
    }
    let known = web.people.named(&sent.name);
    let kept = known.as_ref().and_then(|person| person.password.clone());
    // Whoever is unknown costs the same time and gets the same answer.
    let kept = kept.unwrap_or_else(Password::of_nobody);
    let given = sent.password;
    let right = hashing(&web, move || kept.is(&given)).await;
    let Some(right) = right else {
        let wrong = "the server is busy with other logins: try again".to_owned();
        return again(StatusCode::SERVICE_UNAVAILABLE, wrong);
    };
    let person = known.filter(|person| right && person.password.is_some());
    let Some(person) = person else {
        let about = web.people.named(&sent.name).map(|person| person.id);
        web.throttle().wrong(about, address);
        return again(
            StatusCode::UNAUTHORIZED,
            "name or password is wrong".to_owned(),
        );
    };
    web.throttle().right(&sent.name, address);
    web.note(&person.id, &person.id, format!("logged in from {address}"));
    begin(&web, caller, &headers, &person, own_path(&sent.next))
}

/// Begins a session under a new id, and leads on. The session that the browser had before ends.
fn begin(
    web: &Web,
    caller: Caller,
    headers: &HeaderMap,
    person: &PersonRecord,
    next: &str,
) -> Response {
    let (Ok(secret), Ok(csrf)) = (web.people.secret(), web.people.secret()) else {
        let error = "the system gives no random bytes: nobody can log in";
        return page::failed(failure(StatusCode::INTERNAL_SERVER_ERROR, error), false);
    };
    let now_ms = web.state.clock.boot_ms();
    let mut sessions = web.sessions();
    if let Some(before) = Cookie::Session.read(headers, &web.mark, caller.secure) {
        sessions.end(&before);
    }
    sessions.begin(&secret, csrf, person, now_ms);
    drop(sessions);
    let mut answer = Redirect::to(next).into_response();
    Cookie::Session.write(&mut answer, &web.mark, caller.secure, &secret);
    answer
}

async fn logout(
    Extension(web): Extension<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Response {
    if let Some(secret) = Cookie::Session.read(&headers, &web.mark, caller.secure) {
        web.sessions().end(&secret);
    }
    let mut answer = Redirect::to("/login").into_response();
    Cookie::Session.write(&mut answer, &web.mark, caller.secure, "");
    answer
}

#[derive(Debug, Deserialize)]
struct WithCode {
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct Setup {
    code: String,
    #[serde(default)]
    name: String,
    password: String,
    again: String,
    #[serde(default)]
    csrf: String,
}

async fn setup_page(
    Extension(web): Extension<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    query: Result<Query<WithCode>, QueryRejection>,
) -> Response {
    let code = query.map(|Query(with)| with.code).unwrap_or_default();
    with_form_cookie(&web, caller, &headers, |csrf| {
        match setup_form(&web, csrf, &code, "") {
            Ok(form) => form.answer(StatusCode::OK),
            Err(error) => page::failed(failure(StatusCode::GONE, error.to_string()), false),
        }
    })
}

fn setup_form(web: &Web, csrf: &str, code: &str, name: &str) -> Result<FormPage, PeopleError> {
    let form = Form::new("/setup", "Set password", csrf).carry("code", code);
    let (form, lead) = match web.people.look(code, web.state.clock.wall())? {
        LinkFor::Admin => (
            form.name("Your name", name),
            "You become an admin of this server. Choose the name you log in with and a password."
                .to_owned(),
        ),
        LinkFor::Password(person) => (form, format!("{}, choose your password.", person.name)),
    };
    let form = form
        .password(
            "password",
            "Password, at least 12 characters",
            "new-password",
        )
        .password("again", "The same password again", "new-password");
    Ok(FormPage::new("Set a password", lead).with(form))
}

async fn setup(
    Extension(web): Extension<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Sent(sent): Sent<Setup>,
) -> Response {
    let gone = |error: String| page::failed(failure(StatusCode::GONE, error), false);
    let again =
        |csrf: &str, status, wrong: String| match setup_form(&web, csrf, &sent.code, &sent.name) {
            Ok(form) => form.wrong(wrong).answer(status),
            Err(error) => gone(error.to_string()),
        };
    if !is_of_our_form(&web, caller, &headers, &sent.csrf) {
        let wrong = "the form was too old, or cookies are off: try again";
        return with_form_cookie(&web, caller, &headers, |csrf| {
            again(csrf, StatusCode::FORBIDDEN, wrong.to_owned())
        });
    }
    let again = |status, wrong| again(&sent.csrf, status, wrong);
    let name = match web.people.look(&sent.code, web.state.clock.wall()) {
        Ok(LinkFor::Admin) => sent.name.trim().to_owned(),
        Ok(LinkFor::Password(person)) => person.name,
        Err(error) => return gone(error.to_string()),
    };
    let made = match new_password(&web, &name, &sent.password, &sent.again).await {
        Ok(made) => made,
        Err((status, wrong)) => return again(status, wrong),
    };
    let (people, now) = (Arc::clone(&web.people), web.state.clock.wall());
    let code = sent.code.clone();
    let used = tokio::task::spawn_blocking(move || people.use_link(&code, &name, made, now));
    let person = match used.await {
        Ok(Ok(person)) => person,
        Ok(Err(error)) => return again(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        Err(_) => {
            let error = "the password could not be set; see the server's log".to_owned();
            return again(StatusCode::INTERNAL_SERVER_ERROR, error);
        }
    };
    web.sessions().end_all(&person.id);
    let address = address(caller);
    let what = if person.role == Role::Admin && sent.name.trim() == person.name {
        format!("became admin by link from {address}")
    } else {
        format!("set a password by link from {address}")
    };
    web.note(&person.id, &person.id, what);
    begin(&web, caller, &headers, &person, "/")
}

async fn account_page(
    Extension(web): Extension<Arc<Web>>,
    Extension(person): Extension<Person>,
) -> Response {
    account_form(&web, &person).answer(StatusCode::OK)
}

fn account_form(_web: &Web, person: &Person) -> FormPage {
    let lead = format!("You are {}, {}.", person.name, person.role.word());
    let change = Form::new("/account", "Change password", &person.csrf)
        .password("old", "Your password", "current-password")
        .password(
            "password",
            "New password, at least 12 characters",
            "new-password",
        )
        .password("again", "The same new password again", "new-password");
    FormPage::new("Account", lead)
        .with(change)
        .with(Form::new(
            "/account/leave",
            "Log out everywhere",
            &person.csrf,
        ))
        .with(Form::new("/logout", "Log out here", &person.csrf))
}

#[derive(Deserialize)]
struct Change {
    old: String,
    password: String,
    again: String,
}

async fn account(
    Extension(web): Extension<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    Extension(person): Extension<Person>,
    headers: HeaderMap,
    Sent(sent): Sent<Change>,
) -> Response {
    let again = |status, wrong: String| account_form(&web, &person).wrong(wrong).answer(status);
    let Some(kept) = web.people.get(&person.id).and_then(|one| one.password) else {
        let wrong = "root has no password here".to_owned();
        return again(StatusCode::UNPROCESSABLE_ENTITY, wrong);
    };
    let (address, now_ms) = (address(caller), web.state.clock.boot_ms());
    let tried = web.throttle().attempt(&person.name, address, now_ms);
    if tried.is_err() {
        let wrong = "too many wrong passwords: try again in a minute".to_owned();
        return again(StatusCode::TOO_MANY_REQUESTS, wrong);
    }
    let old = sent.old;
    if hashing(&web, move || kept.is(&old)).await != Some(true) {
        web.throttle().wrong(Some(person.id.clone()), address);
        return again(
            StatusCode::FORBIDDEN,
            "the old password is wrong".to_owned(),
        );
    }
    web.throttle().right(&person.name, address);
    let made = match new_password(&web, &person.name, &sent.password, &sent.again).await {
        Ok(made) => made,
        Err((status, wrong)) => return again(status, wrong),
    };
    let (people, now, id) = (
        Arc::clone(&web.people),
        web.state.clock.wall(),
        person.id.clone(),
    );
    let set = tokio::task::spawn_blocking(move || people.set_password(&id, made, now)).await;
    let Ok(Ok(changed)) = set else {
        let wrong = "the password could not be kept; see the server's log".to_owned();
        return again(StatusCode::INTERNAL_SERVER_ERROR, wrong);
    };
    web.sessions().end_all(&changed.id);
    web.note(&changed.id, &changed.id, "changed the password".to_owned());
    begin(&web, caller, &headers, &changed, "/account")
}

/// Ends all of one's sessions.
async fn leave(
    Extension(web): Extension<Arc<Web>>,
    Extension(caller): Extension<Caller>,
    Extension(person): Extension<Person>,
) -> Response {
    web.sessions().end_all(&person.id);
    let mut answer = Redirect::to("/login").into_response();
    Cookie::Session.write(&mut answer, &web.mark, caller.secure, "");
    answer
}

async fn new_password(
    web: &Web,
    name: &str,
    given: &str,
    again: &str,
) -> Result<Password, (StatusCode, String)> {
    if given != again {
        let wrong = "the two passwords differ".to_owned();
        return Err((StatusCode::UNPROCESSABLE_ENTITY, wrong));
    }
    password::check(given, name)
        .map_err(|weak| (StatusCode::UNPROCESSABLE_ENTITY, weak.to_string()))?;
    let salt = web
        .people
        .salt()
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let given = given.to_owned();
    hashing(web, move || Password::new(&given, salt))
        .await
        .ok_or_else(|| {
            let wrong = "the server is busy with other logins: try again".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, wrong)
        })
}

/// Hashes on a thread of its own, few at a time; none where there was no place in time.
async fn hashing<T: Send + 'static>(
    web: &Web,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = tokio::time::timeout(HASH_WITHIN, Arc::clone(&web.hashes).acquire_owned());
    let place = place.await.ok()?.ok()?;
    let done = tokio::task::spawn_blocking(move || {
        let _held = place;
        work()
    });
    done.await.ok()
}

/// An answer whose form is tied to this browser by a cookie.
fn with_form_cookie(
    web: &Web,
    caller: Caller,
    headers: &HeaderMap,
    answer: impl FnOnce(&str) -> Response,
) -> Response {
    if let Some(held) = Cookie::Form.read(headers, &web.mark, caller.secure) {
        return answer(&held);
    }
    let Ok(csrf) = web.people.secret() else {
        let error = "the system gives no random bytes: nobody can log in";
        return page::failed(failure(StatusCode::INTERNAL_SERVER_ERROR, error), false);
    };
    let mut answer = answer(&csrf);
    Cookie::Form.write(&mut answer, &web.mark, caller.secure, &csrf);
    answer
}

/// Whether a form that comes before a session was loaded by the browser that sent it.
fn is_of_our_form(web: &Web, caller: Caller, headers: &HeaderMap, csrf: &str) -> bool {
    let held = Cookie::Form.read(headers, &web.mark, caller.secure);
    held.is_some_and(|held| bool::from(held.as_bytes().ct_eq(csrf.as_bytes())))
}

fn address(caller: Caller) -> IpAddr {
    caller.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// A path on this server, or the first page: browsers read `//host` and `/\host` as another server.
fn own_path(next: &str) -> &str {
    let mut bytes = next.bytes();
    let own = bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && next.len() <= NEXT_BYTES_MAX
        && next
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if own { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn a_login_leads_nowhere_else() {
        for (next, want) in [
            ("/incidents/I-3?x=1", "/incidents/I-3?x=1"),
            ("/", "/"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/a\\b", "/"),
            ("https://evil.example", "/"),
            ("/a\r\nSet-Cookie: x", "/"),
        ] {
            assert_eq!(own_path(next), want, "{next:?}");
        }
    }
}
