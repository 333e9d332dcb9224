//! `/hosts`: all hosts, the worst first, a bounded page of them at a time.

use std::cmp::Reverse;
use std::sync::Arc;

use askama::Template;
use askama::filters::HtmlSafe;
use axum::response::Response;
use dawnwatch_proto::Kind;
use dawnwatch_proto::api::Host;
use dawnwatch_proto::quantity::Unit;
use dawnwatch_proto::review::text::{duration, seconds_between, severity};
use dawnwatch_proto::review::{Importance, Severity};
use dawnwatch_proto::untrusted::term;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::chart::slots;
use super::finding::tone;
use super::visit::{Ask, Shell, Visit, live};
use super::{Chip, Pager, encoded, host_href, measured};
use crate::api::answer::{Failure, bad, unavailable};
use crate::history::History;

/// Hosts on one page: each has its sparkline read from history, and a person scrolls no further.
const HOSTS_SHOWN: usize = 50;

/// Hosts named that never joined; the rest is counted.
const MISSING_SHOWN: usize = 40;

/// Points of a sparkline of the last hour: a minute each.
const SPARK_POINTS: usize = 60;

#[derive(Debug, Template)]
#[template(path = "hosts.html")]
struct Page {
    shell: Shell,
    summary: String,
    q: String,
    chips: Vec<Chip>,
    none: &'static str,
    hosts: Vec<Row>,
    pager: Pager,
    missing: Vec<String>,
    missing_more: usize,
}

#[derive(Debug)]
struct Row {
    href: String,
    name: String,
    state: String,
    state_tone: &'static str,
    seen: Option<String>,
    worst: Option<(&'static str, &'static str)>,
    cpu: String,
    spark: Spark,
    memory: String,
    disk: String,
    load: String,
    importance: &'static str,
    service: String,
    owner: String,
}

/// A small line without axes; what it shows is said beside it.
#[derive(Debug, Template)]
#[template(path = "spark.html")]
struct Spark {
    path: String,
    label: String,
}

impl HtmlSafe for Spark {}

/// What hosts can be picked by.
const STATES: [&str; 6] = ["all", "live", "silent", "goodbye", "never", "off"];

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    state: Option<String>,
    q: Option<String>,
    from: Option<usize>,
}

/// `GET /hosts?state=live&q=db&from=50`.
pub(super) async fn page(visit: Visit, Ask(wanted): Ask<Wanted>) -> Response {
    let page = draw(&visit, &wanted).await;
    visit.answer(page)
}

async fn draw(visit: &Visit, wanted: &Wanted) -> Result<Page, Failure> {
    let state = wanted.state.as_deref().unwrap_or("all");
    if !STATES.contains(&state) {
        return Err(bad(format!(
            "state {state:?} is none of {}",
            STATES.join(", ")
        )));
    }
    let q = wanted.q.as_deref().unwrap_or("").trim();
    let needle = q.to_lowercase();
    let mut fitting: Vec<&Host> = visit
        .view
        .hosts
        .iter()
        .filter(|host| (state == "all" || host.state == state) && fits(host, &needle))
        .collect();
    // The list is by name already; what needs somebody goes before it.
    fitting.sort_by_key(|host| {
        (
            Reverse(host.worst),
            host.state == "live",
            Reverse(host.importance),
        )
    });
    let from = wanted.from.unwrap_or(0).min(fitting.len());
    let shown = fitting.iter().skip(from).take(HOSTS_SHOWN);
    let hosts = rows(visit, shown.map(|host| Host::clone(host)).collect()).await?;
    let link = |state: &str| format!("/hosts?state={state}&q={}", encoded(q));
    let chip = |word: &str| {
        let count = visit
            .view
            .hosts
            .iter()
            .filter(|host| word == "all" || host.state == word)
            .count();
        Chip {
            href: link(word),
            name: format!("{word} {count}"),
            here: word == state,
        }
    };
    let joined = visit.view.hosts.is_empty();
    let missing = &visit.view.missing;
    Ok(Page {
        shell: visit.shell("Hosts", "/hosts"),
        summary: live(visit.view.now.hosts_live, visit.view.now.hosts),
        q: q.to_owned(),
        chips: STATES.map(chip).into_iter().collect(),
        none: if joined {
            "No host has joined yet: dawnwatch token create"
        } else {
            "No host fits."
        },
        hosts,
        pager: Pager::new(
            fitting.len(),
            from,
            HOSTS_SHOWN,
            &format!("{}&", link(state)),
        ),
        missing: missing
            .iter()
            .take(MISSING_SHOWN)
            .map(|host| term(&host.name))
            .collect(),
        missing_more: missing.len().saturating_sub(MISSING_SHOWN),
    })
}

async fn rows(visit: &Visit, shown: Vec<Host>) -> Result<Vec<Row>, Failure> {
    let (history, at) = (Arc::clone(&visit.state.history), visit.at);
    let drawn = tokio::task::spawn_blocking(move || {
        let rows = shown.iter().map(|host| row(host, &history, at));
        rows.collect()
    });
    drawn
        .await
        .map_err(|_| unavailable("the hosts cannot be drawn; see the server's log"))
}

fn fits(host: &Host, needle: &str) -> bool {
    let within = |text: &str| text.to_lowercase().contains(needle);
    let any = |text: &Option<String>| text.as_deref().is_some_and(within);
    needle.is_empty()
        || within(&host.name)
        || any(&host.service)
        || any(&host.owner)
        || any(&host.site)
}

fn row(host: &Host, history: &History, at: Timestamp) -> Row {
    let value = |name: &str| {
        let found = host.values.iter().find(|(one, _)| one == name);
        found.map_or_else(
            || "-".to_owned(),
            |(name, value)| Unit::of(name, Kind::Gauge).show(*value),
        )
    };
    let seen = match (host.state.as_str(), host.last_seen) {
        ("live", _) => None,
        (_, Some(seen)) => Some(format!("{} ago", duration(seconds_between(seen, at)))),
        (_, None) => Some("never heard of".to_owned()),
    };
    Row {
        href: host_href(&host.name),
        name: term(&host.name),
        state: term(&host.state),
        state_tone: state_tone(&host.state),
        seen,
        worst: host
            .worst
            .map(|worst: Severity| (severity(worst), tone(worst))),
        cpu: value("cpu_ratio"),
        spark: spark(host, history, at),
        memory: value("memory_ratio"),
        disk: value("filesystem_ratio"),
        load: value("load1"),
        importance: importance(host.importance),
        service: host.service.as_deref().map_or_else(|| "-".to_owned(), term),
        owner: host
            .owner
            .as_deref()
            .map_or_else(|| "nobody".to_owned(), term),
    }
}

/// The class that gives a host's state its colour.
pub(super) fn state_tone(state: &str) -> &'static str {
    match state {
        "live" => "good",
        "silent" => "bad",
        _ => "calm",
    }
}

/// The word for how much a host matters.
pub(super) fn importance(importance: Importance) -> &'static str {
    match importance {
        Importance::Low => "low",
        Importance::Normal => "normal",
        Importance::High => "high",
    }
}

fn spark(host: &Host, history: &History, at: Timestamp) -> Spark {
    let from = at
        .saturating_sub(SignedDuration::from_hours(1))
        .unwrap_or(Timestamp::MIN);
    let samples = measured::cpu_busy(history, host.id, from, at);
    let slots = slots(&samples, from, at, SPARK_POINTS);
    let mut path = String::new();
    let mut before = false;
    let mut most = 0.0f64;
    for (i, slot) in (0u32..).zip(&slots) {
        let Some((mean, max)) = slot.value else {
            before = false;
            continue;
        };
        most = most.max(max);
        let command = if before { 'L' } else { 'M' };
        path.push_str(&format!(
            "{command}{} {:.1}",
            2 * i + 1,
            23.0 - mean.clamp(0.0, 1.0) * 22.0
        ));
        if !before {
            path.push_str("h1");
        }
        before = true;
    }
    Spark {
        path,
        label: format!("CPU of the last hour, highest {}", Unit::Ratio.show(most)),
    }
}
