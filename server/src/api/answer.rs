//! How answers and failures look.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dawnwatch_proto::api::Problem;

/// A failure with its status.
#[derive(Debug)]
pub(super) struct Failure(pub(super) StatusCode, pub(super) Problem);

/// An answer or a failure.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// The request makes no sense.
pub(super) fn bad(error: impl Into<String>) -> Failure {
    Failure(
        StatusCode::BAD_REQUEST,
        Problem {
            error: error.into(),
            suggestions: Vec::new(),
        },
    )
}

/// There is no such thing; near names help.
pub(super) fn not_found<'a>(
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
pub(super) fn unavailable(error: impl Into<String>) -> Failure {
    Failure(
        StatusCode::SERVICE_UNAVAILABLE,
        Problem {
            error: error.into(),
            suggestions: Vec::new(),
        },
    )
}

/// Any other path.
pub(super) async fn no_such_request() -> Failure {
    let error =
        "this server does not know the request; command and server may be of different versions";
    Failure(
        StatusCode::NOT_FOUND,
        Problem {
            error: error.to_owned(),
            suggestions: Vec::new(),
        },
    )
}
