//! `/`, `/nights` and `/nights/{id}`: the first screen of PRODUCT.md, in its order.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use dawnwatch_proto::api::{LiveReview, NightHead};
use dawnwatch_proto::review::Row;
use dawnwatch_proto::review::text::{self, Phrases, phrases, verdict_word};
use dawnwatch_proto::untrusted::term;
use serde::Deserialize;

use super::finding::{Block, Finding, ROWS_MAX, ROWS_SHOWN, verdict_tone};
use super::moment::Moment;
use super::visit::{Ask, Shell, Visit};
use super::{Pager, encoded};
use crate::api::Failure;
use crate::api::read::find_review;

/// Hosts named as not watched before the rest is counted.
const UNWATCHED_SHOWN: usize = 8;

/// Changes shown before the rest is counted.
const CHANGED_SHOWN: usize = 20;

/// Nights on one page: a quarter of a year.
const NIGHTS_SHOWN: usize = 90;

#[derive(Debug, Template)]
#[template(path = "review.html")]
struct Page {
    shell: Shell,
    id: String,
    href: String,
    tone: &'static str,
    words: Phrases,
    unwatched: Vec<String>,
    unwatched_more: usize,
    blocks: Vec<Block>,
    changed: Vec<String>,
    changed_more: usize,
    ledger: String,
    before: Option<String>,
    after: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    full: Option<String>,
}

/// `GET /`: the night that people ask for in the morning.
pub(super) async fn latest(visit: Visit, Ask(wanted): Ask<Wanted>) -> Response {
    visit.answer(draw(&visit, None, &wanted))
}

/// `GET /nights/{id}`: a night by its id, `so-far`, or `-1` for the last one sealed.
pub(super) async fn night(
    visit: Visit,
    Path(id): Path<String>,
    Ask(wanted): Ask<Wanted>,
) -> Response {
    visit.answer(draw(&visit, Some(&id), &wanted))
}

fn draw(visit: &Visit, id: Option<&str>, wanted: &Wanted) -> Result<Page, Failure> {
    let live = find_review(&visit.state, id)?;
    let tab = if id.is_none() { "/" } else { "/nights" };
    let full = wanted.full.as_deref().unwrap_or("");
    let href = match id {
        Some(id) => format!("/nights/{}", encoded(id)),
        None => "/".to_owned(),
    };
    let nights = visit.state.published.nights();
    let mut words = phrases(&live);
    if let Some((label, _)) = &mut words.since {
        *label = label.replacen("SINCE", "Since", 1);
    }
    let limit = |key: &str, shown: usize| if full == key { ROWS_MAX } else { shown };
    let unwatched: Vec<String> = words
        .unwatched
        .iter()
        .take(limit("watched", UNWATCHED_SHOWN))
        .cloned()
        .collect();
    let all_changes = if full == "changed" {
        &words.changed
    } else {
        &words.changed_folded
    };
    let changed: Vec<String> = all_changes
        .iter()
        .take(limit("changed", CHANGED_SHOWN))
        .cloned()
        .collect();
    let folded_away = full != "changed" && words.changed_folded.len() < words.changed.len();
    let changed_more = match all_changes.len() - changed.len() {
        0 if folded_away => words.changed.len(),
        more => more,
    };
    let (before, after) = neighbours(&nights, &live);
    let review = &live.review;
    Ok(Page {
        shell: visit.shell(format!("{} {}", words.verdict, term(&review.id)), tab),
        id: term(&review.id),
        tone: verdict_tone(review.verdict),
        unwatched_more: words.unwatched.len() - unwatched.len(),
        unwatched,
        blocks: blocks(&live, &href, full),
        changed,
        changed_more,
        ledger: term(&review.ledger_head),
        before,
        after,
        href,
        words,
    })
}

fn blocks(live: &LiveReview, href: &str, full: &str) -> Vec<Block> {
    let review = &live.review;
    let zone = text::zone(&review.zone);
    let block = |key: &'static str, title, rows: &[Row]| {
        let limit = if full == key { ROWS_MAX } else { ROWS_SHOWN };
        let shown = rows.iter().take(limit);
        let findings = shown
            .map(|row| Finding::of_row(row, review.until, &zone))
            .collect();
        Block::new(
            (key, title),
            findings,
            rows.len(),
            format!("{href}?full={key}#{key}"),
        )
    };
    let folded = (review.folded > 0).then(|| {
        format!(
            "and {} of severity info, in the list of incidents",
            review.folded
        )
    });
    vec![
        block("critical", "Critical, still open", &review.critical),
        block("today", "Needs you today", &review.today),
        block("healed", "Healed by itself", &review.healed).folded(folded),
    ]
}

/// The sealed nights before and after the one that is shown.
fn neighbours(nights: &[NightHead], live: &LiveReview) -> (Option<String>, Option<String>) {
    let review = &live.review;
    let before = nights.iter().rev().find(|night| night.end <= review.start);
    let after = nights.iter().find(|night| night.start >= review.end);
    let id = |night: &NightHead| term(&night.id);
    (before.map(id), after.map(id))
}

#[derive(Debug, Template)]
#[template(path = "nights.html")]
struct Nights {
    shell: Shell,
    nights: Vec<Night>,
    pager: Pager,
}

#[derive(Debug)]
struct Night {
    id: String,
    tone: &'static str,
    verdict: &'static str,
    start: Moment,
    end: Moment,
    sentence: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct From {
    from: Option<usize>,
}

/// `GET /nights`: sealed nights, latest first.
pub(super) async fn nights(visit: Visit, Ask(wanted): Ask<From>) -> Response {
    let nights = visit.state.published.nights();
    let from = wanted.from.unwrap_or(0).min(nights.len());
    let shown = nights
        .iter()
        .rev()
        .skip(from)
        .take(NIGHTS_SHOWN)
        .map(|night| Night {
            id: term(&night.id),
            tone: verdict_tone(night.verdict),
            verdict: verdict_word(night.verdict),
            start: visit.moment(night.start),
            end: visit.moment(night.end),
            sentence: term(&night.sentence),
        });
    visit.answer(Ok(Nights {
        shell: visit.shell("Nights", "/nights"),
        nights: shown.collect(),
        pager: Pager::new(nights.len(), from, NIGHTS_SHOWN, "/nights?"),
    }))
}
