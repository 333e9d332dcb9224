//! `/incidents`: all that are remembered, latest first.

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::finding::{Block, Finding, ROWS_SHOWN};
use super::visit::{Ask, Shell, Visit};
use super::{Chip, Pager};
use crate::api::answer::{Failure, bad};

#[derive(Debug, Template)]
#[template(path = "incidents.html")]
struct Page {
    shell: Shell,
    chips: Vec<Chip>,
    block: Block,
    pager: Pager,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    state: Option<String>,
    from: Option<usize>,
}

/// `GET /incidents?state=open|closed|all&from=40`.
pub(super) async fn page(visit: Visit, Ask(wanted): Ask<Wanted>) -> Response {
    visit.answer(draw(&visit, &wanted))
}

fn draw(visit: &Visit, wanted: &Wanted) -> Result<Page, Failure> {
    let state = wanted.state.as_deref().unwrap_or("all");
    let (title, keep): (_, fn(&str) -> bool) = match state {
        "all" => ("All, latest first", |_| true),
        "open" => ("Open, latest first", |state| state != "closed"),
        "closed" => ("Closed, latest first", |state| state == "closed"),
        other => return Err(bad(format!("state {other:?} is none of all, open, closed"))),
    };
    let fitting: Vec<_> = visit
        .view
        .incidents
        .iter()
        .filter(|one| keep(&one.state))
        .collect();
    let from = wanted.from.unwrap_or(0).min(fitting.len());
    let shown = fitting.iter().skip(from).take(ROWS_SHOWN);
    let findings = shown
        .map(|one| Finding::of_incident(one, visit.at, &visit.zone))
        .collect();
    let chip = |word: &str, name: &str| Chip {
        href: format!("/incidents?state={word}"),
        name: name.to_owned(),
        here: word == state,
    };
    Ok(Page {
        shell: visit.shell("Incidents", "/incidents"),
        chips: vec![
            chip("all", "All"),
            chip("open", "Open"),
            chip("closed", "Closed"),
        ],
        block: Block::new(("incidents", title), findings, fitting.len(), String::new()).paged(),
        pager: Pager::new(
            fitting.len(),
            from,
            ROWS_SHOWN,
            &format!("/incidents?state={state}&"),
        ),
    })
}
