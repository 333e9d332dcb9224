//! The pages.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use crate::api::{Failure, State};

/// The routes of the pages; each has its row in [`crate::web::access::ROUTES`].
pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
}

/// A failure as the one who asked reads it: a `Problem`, or a page.
pub(super) fn failed(failure: Failure, json: bool) -> Response {
    if json {
        return failure.into_response();
    }
    let Failure(status, problem) = failure;
    (status, format!("{}\n", problem.error)).into_response()
}

/// The way to the login, and back to where the person wanted to go.
pub(super) fn to_login(back: &str) -> Response {
    let mut query = String::new();
    for byte in back.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            query.push(char::from(byte));
        } else {
            query.push_str(&format!("%{byte:02X}"));
        }
    }
    Redirect::to(&format!("/login?next={query}")).into_response()
}

/// Any path that is none.
pub(super) fn missing(json: bool) -> Response {
    let error = if json {
        "this server does not know the request; command and server may be of different versions"
    } else {
        "there is no such page"
    };
    failed(crate::api::failure(StatusCode::NOT_FOUND, error), json)
}
