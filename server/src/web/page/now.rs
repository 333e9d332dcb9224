//! `/now`: what is open at this moment.

use askama::Template;
use axum::response::Response;
use dawnwatch_proto::review::Severity;
use dawnwatch_proto::review::text::verdict_word;
use dawnwatch_proto::untrusted::term;

use super::finding::{Block, Finding, ROWS_MAX};
use super::moment::Moment;
use super::visit::{Shell, Visit, live};
use crate::api::read::present;

#[derive(Debug, Template)]
#[template(path = "now.html")]
struct Page {
    shell: Shell,
    head: String,
    hosts: String,
    at: Moment,
    notices: Vec<String>,
    block: Block,
    last_night: Option<Night>,
}

#[derive(Debug)]
struct Night {
    id: String,
    verdict: &'static str,
    sentence: String,
}

/// `GET /now`.
pub(super) async fn page(visit: Visit) -> Response {
    let now = present(&visit.state);
    let critical = now
        .open
        .iter()
        .filter(|one| one.severity == Severity::Critical)
        .count();
    let head = match (now.open.len(), critical) {
        (0, _) => "Nothing open".to_owned(),
        (open, 0) => format!("{open} open"),
        (open, critical) => format!("{open} open, {critical} critical"),
    };
    let mut notices: Vec<String> = now.notices.iter().map(|text| term(text)).collect();
    if !now.calendar_confirmed {
        let zone = term(&now.zone);
        notices.push(format!(
            "zone {zone} is a guess: set or confirm it in [calendar] of dawnwatch.toml"
        ));
    }
    let rows = now.open.iter().take(ROWS_MAX);
    let findings = rows
        .map(|one| Finding::of_incident(one, now.at, &visit.zone))
        .collect();
    let block = Block::new(
        ("open", "Open, worst first"),
        findings,
        now.open.len(),
        "/incidents?state=open".to_owned(),
    );
    visit.answer(Ok(Page {
        shell: visit.shell(head.clone(), "/now"),
        head,
        hosts: live(now.hosts_live, now.hosts),
        at: Moment::clock(now.at, &visit.zone),
        notices,
        block,
        last_night: now.last_night.map(|night| Night {
            id: term(&night.id),
            verdict: verdict_word(night.verdict),
            sentence: term(&night.sentence),
        }),
    }))
}

/// `GET /now/strip`: the line above every page, for the script that keeps it fresh.
pub(super) async fn strip(visit: Visit) -> Response {
    visit.answer(Ok(visit.strip()))
}
