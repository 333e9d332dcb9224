//! The pages: drawn on the server, whole without a script, from the same view and the same words as API, mail and command.
//!
//! - [`router`]: the routes. Who may use them is decided before a request comes here.
//! - [`visit`]: one request: who looks, when, in which colours; the frame around each page.
//! - [`review`], [`now`], [`incidents`], [`incident`], [`hosts`], [`host`], [`plain`]: one file a page.
//! - [`finding`]: a row, as review, open list and incidents show it. [`chart`]: SVG. [`measured`]: what a host's charts show;
//!   [`happened`]: what it said.
//! - [`assets`]: style, script and icon under names that carry their hash.
//!
//! Templates are in `server/templates`; they escape whatever they print. Text from outside goes through
//! [`dawnwatch_proto::untrusted::term`] before that, so that what cannot be seen is seen.

mod assets;
mod chart;
mod finding;
mod happened;
mod host;
mod hosts;
mod incident;
mod incidents;
mod measured;
mod moment;
mod now;
mod plain;
mod problem;
mod review;
mod slots;
mod visit;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use crate::api::{Failure, State};
use visit::{Ask, THEME_COOKIE, Theme};
pub(super) use visit::{Shell, Visit};

/// The routes of the pages. Each has its row in [`crate::web::access::ROUTES`].
pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/", get(review::latest))
        .route("/now", get(now::page))
        .route("/now/strip", get(now::strip))
        .route("/nights", get(review::nights))
        .route("/nights/{id}", get(review::night))
        .route("/incidents", get(incidents::page))
        .route("/incidents/{id}", get(incident::page))
        .route("/incidents/{id}/ack", post(incident::acknowledge))
        .route("/hosts", get(hosts::page))
        .route("/hosts/{name}", get(host::page))
        .route("/rules", get(plain::rules))
        .route("/about", get(plain::about))
        .route("/theme", get(theme))
        .route("/assets/{file}", get(assets::asset_file))
}

/// A failure as the one who asked reads it: a `Problem`, or a page.
pub(super) fn failed(failure: Failure, json: bool) -> Response {
    if json {
        return failure.into_response();
    }
    let Failure(status, problem) = failure;
    visit::draw(status, &problem::bare(status, &problem))
}

/// The way to the login, and back to where the person wanted to go.
pub(super) fn to_login(back: &str) -> Response {
    Redirect::to(&format!("/login?next={}", encoded(back))).into_response()
}

/// Any path that is none.
pub(super) fn missing(visit: &Visit, json: bool) -> Response {
    if json {
        let error = "this server does not know the request; command and server may be of different versions";
        return failed(crate::api::failure(StatusCode::NOT_FOUND, error), json);
    }
    visit.failed(problem::no_such_page())
}

#[derive(Debug, Deserialize)]
struct Wish {
    to: String,
    back: Option<String>,
}

/// `GET /theme?to=dark&back=/hosts`: keeps the colours in a cookie. It changes nothing but how pages look to this browser.
async fn theme(visit: Visit, Ask(wish): Ask<Wish>) -> Response {
    let Some(theme) = Theme::named(&wish.to) else {
        return visit.failed(crate::api::answer::bad(
            "colours are one of auto, light, dark",
        ));
    };
    let back = wish.back.filter(|back| is_own_path(back));
    let cookie = format!(
        "{THEME_COOKIE}={}; Path=/; Max-Age=31536000; SameSite=Lax",
        theme.word()
    );
    let mut response = Redirect::to(back.as_deref().unwrap_or("/")).into_response();
    match HeaderValue::from_str(&cookie) {
        Ok(cookie) => {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Whether a path leads to this server and nowhere else: browsers read `//host` and `/\host` as another server.
fn is_own_path(path: &str) -> bool {
    let mut chars = path.chars();
    chars.next() == Some('/')
        && !matches!(chars.next(), Some('/' | '\\'))
        && path.chars().all(|c| c.is_ascii_graphic() && c != '\\')
}

/// A text as one part of a path or as a value of a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The page of a host. A name of dots alone would be read as a way up.
fn host_href(name: &str) -> String {
    let part = match name {
        "." | ".." => name.replace('.', "%2E"),
        name => encoded(name),
    };
    format!("/hosts/{part}")
}

/// Links to the parts before and after the one that is shown.
#[derive(Debug, Default, askama::Template)]
#[template(path = "pager.html")]
struct Pager {
    before: Option<String>,
    before_text: String,
    after: Option<String>,
    after_text: String,
}

impl askama::filters::HtmlSafe for Pager {}

impl Pager {
    /// Of a list of `all` entries of which `size` from `from` on are shown; `href` is what `from=` is added to.
    fn new(all: usize, from: usize, size: usize, href: &str) -> Pager {
        let after = all.saturating_sub(from + size);
        let page = |from: usize| format!("{href}from={from}");
        Pager {
            before: (from > 0).then(|| page(from.saturating_sub(size))),
            before_text: format!("{} before", from.min(all)),
            after: (after > 0).then(|| page(from + size)),
            after_text: format!("{after} more"),
        }
    }
}

/// One of several choices.
#[derive(Debug)]
struct Chip {
    href: String,
    name: String,
    here: bool,
}

#[cfg(test)]
mod tests;
