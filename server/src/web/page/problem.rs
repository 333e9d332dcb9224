//! The page that says why there is no page, and what is near.

use askama::Template;
use axum::http::StatusCode;
use dawnwatch_proto::api::Problem;
use dawnwatch_proto::untrusted::term;

use super::visit::{Shell, Visit};
use crate::api::Failure;

#[derive(Debug, Template)]
#[template(path = "problem.html")]
pub(super) struct Page {
    shell: Shell,
    title: &'static str,
    text: String,
    near: Vec<(String, String)>,
}

/// Draws a failure; near names become links.
pub(super) fn page(visit: &Visit, status: StatusCode, problem: &Problem) -> Page {
    let title = title(status);
    within(visit.shell(title, ""), title, problem)
}

/// Draws a failure for somebody of whom nothing is known.
pub(super) fn bare(status: StatusCode, problem: &Problem) -> Page {
    let title = title(status);
    within(Shell::bare(title), title, problem)
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "Not here",
        StatusCode::BAD_REQUEST => "That does not work",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::SERVICE_UNAVAILABLE => "Not at this moment",
        _ => "Something is wrong",
    }
}

fn within(shell: Shell, title: &'static str, problem: &Problem) -> Page {
    let near = problem
        .suggestions
        .iter()
        .map(|name| (term(name), href(name)));
    Page {
        near: near.collect(),
        shell,
        title,
        text: sentence(&term(&problem.error)),
    }
}

/// A path that no page has.
pub(super) fn no_such_page() -> Failure {
    let pages = ["/", "/now", "/incidents", "/hosts", "/nights"];
    Failure(
        StatusCode::NOT_FOUND,
        Problem {
            error: "this server has no page under that address".to_owned(),
            suggestions: pages.map(str::to_owned).to_vec(),
        },
    )
}

/// Names of nights and incidents show what they are; every other name is a host's.
fn href(name: &str) -> String {
    let numbered = |prefix: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    if name.starts_with('/') {
        return name.to_owned();
    }
    if numbered("N-") {
        return format!("/nights/{}", super::encoded(name));
    }
    if ["I-", "L-", "F-", "J-"].into_iter().any(numbered) {
        return format!("/incidents/{}", super::encoded(name));
    }
    super::host_href(name)
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", chars.as_str().trim_end_matches('.'))
}
