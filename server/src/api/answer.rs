//! How answers and failures look.

use std::panic::{AssertUnwindSafe, catch_unwind};

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use dawnwatch_proto::api::Problem;
use serde::de::DeserializeOwned;

/// A failure with its status.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) StatusCode, pub(crate) Problem);

/// An answer or a failure.
pub(crate) type Answer<T> = Result<Json<T>, Failure>;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// A document that was written as JSON already.
pub(crate) fn written(json: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

/// A failure with nothing near to suggest.
pub(crate) fn failure(status: StatusCode, error: impl Into<String>) -> Failure {
    let problem = Problem {
        error: error.into(),
        suggestions: Vec::new(),
    };
    Failure(status, problem)
}

/// The request makes no sense.
pub(crate) fn bad(error: impl Into<String>) -> Failure {
    failure(StatusCode::BAD_REQUEST, error)
}

/// There is no such thing; near names help.
pub(crate) fn not_found<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Failure {
    let mut near: Vec<(f64, &str)> = known
        .map(|one| (strsim::jaro_winkler(name, one), one))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.dedup();
    let suggestions = near
        .iter()
        .take(3)
        .filter(|(score, _)| *score > 0.7)
        .map(|(_, one)| (*one).to_owned());
    let error = format!("there is no {what} {name:?}");
    Failure(
        StatusCode::NOT_FOUND,
        Problem {
            error,
            suggestions: suggestions.collect(),
        },
    )
}

/// The server cannot do it now.
pub(crate) fn unavailable(error: impl Into<String>) -> Failure {
    failure(StatusCode::SERVICE_UNAVAILABLE, error)
}

/// Reads a little of the history on the thread that answers, while others go on elsewhere: to wake another thread and be woken
/// by it takes a third of the time that a day of one series does.
pub(crate) fn on_this_thread<T>(read: impl FnOnce() -> T) -> Result<T, Failure> {
    // As a task of its own would: a bug ends this answer and not the connection. What the history locks outlives a panic.
    let done = tokio::task::block_in_place(|| catch_unwind(AssertUnwindSafe(read)));
    done.map_err(|_| unavailable("the history could not be read; see the server's log"))
}

/// What stands behind the `?`; what cannot be read is answered with a [`Problem`].
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Failure> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(found)| Query(found))
            .map_err(|refused| failure(refused.status(), refused.body_text()))
    }
}

/// The body, in JSON; what cannot be read is answered with a [`Problem`].
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Failure> {
        let read = Json::from_request(request, state).await;
        read.map(|Json(found)| Body(found))
            .map_err(|refused| failure(refused.status(), refused.body_text()))
    }
}
