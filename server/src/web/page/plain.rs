//! `/rules` and `/about`.

use askama::Template;
use axum::response::Response;
use dawnwatch_proto::review::text::severity;
use dawnwatch_proto::untrusted::term;

use super::finding::tone;
use super::visit::{Shell, Visit};

#[derive(Debug, Template)]
#[template(path = "rules.html")]
struct Rules {
    shell: Shell,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    condition: String,
    severity: &'static str,
    tone: &'static str,
    wakes: String,
}

/// `GET /rules`: the table "condition, severity, wakes whom".
pub(super) async fn rules(visit: Visit) -> Response {
    let rules = visit.view.rules.iter().map(|rule| Rule {
        name: term(&rule.name),
        condition: term(&rule.condition),
        severity: severity(rule.severity),
        tone: tone(rule.severity),
        wakes: term(&rule.wakes),
    });
    visit.answer(Ok(Rules {
        shell: visit.shell("Rules", "/rules"),
        rules: rules.collect(),
    }))
}

#[derive(Debug, Template)]
#[template(path = "about.html")]
struct About {
    shell: Shell,
    facts: Vec<(&'static str, String)>,
}

/// `GET /about`: which server this is, and by which calendar it reckons.
pub(super) async fn about(visit: Visit) -> Response {
    let view = &visit.view;
    let calendar = if view.now.calendar_confirmed {
        ""
    } else {
        ", a guess that nobody confirmed"
    };
    let facts = vec![
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "Hosts",
            super::visit::live(view.now.hosts_live, view.now.hosts),
        ),
        ("Time zone", format!("{}{calendar}", term(&view.now.zone))),
        (
            "Working hours",
            format!("{}{calendar}", term(&view.so_far.hours)),
        ),
        ("Time zone data", term(&view.so_far.tzdb)),
        (
            "Nights kept",
            visit.state.published.nights().len().to_string(),
        ),
        ("Agents connect to", visit.state.agents.clone()),
    ];
    visit.answer(Ok(About {
        shell: visit.shell("About", "/about"),
        facts,
    }))
}
