//! `/hosts/{name}`: one host with its charts and its incidents.

use std::sync::Arc;

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use dawnwatch_proto::api::{Host, Incident};
use dawnwatch_proto::quantity::Unit;
use dawnwatch_proto::review::text::{duration, seconds_between, subject};
use dawnwatch_proto::untrusted::term;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::chart::Chart;
use super::finding::{Block, Finding};
use super::happened::{Busy, Lines, busiest};
use super::hosts::{importance, state_tone};
use super::measured::Measured;
use super::moment::Moment;
use super::visit::{Ask, Shell, Visit};
use super::{Chip, host_href};
use crate::api::answer::{Failure, bad, unavailable};
use crate::api::read::find_host;

/// Incidents of a host that its page lists; the rest is counted.
const INCIDENTS_SHOWN: usize = 10;

/// Incidents whose spans are shaded in the charts: more is a grey picture.
const SHADES_MAX: usize = 20;

/// Charts show at least so much.
const SHORTEST: SignedDuration = SignedDuration::from_mins(5);

/// A slot holds two ticks at the usual pace, so that a line has no holes.
const SLOT_SECONDS_MIN: i64 = 20;

/// A span that can be looked at: its name in the link, how people say it, hours, and slots to draw it in.
const SPANS: [(&str, &str, i64, usize); 3] = [
    ("1h", "last hour", 1, 120),
    ("24h", "last 24 hours", 24, 288),
    ("7d", "last 7 days", 168, 336),
];

#[derive(Debug, Template)]
#[template(path = "host.html")]
struct Page {
    shell: Shell,
    subject: String,
    state: String,
    state_tone: &'static str,
    seen: Option<Moment>,
    seen_ago: String,
    facts: Vec<(&'static str, String)>,
    span_text: &'static str,
    spans: Vec<Chip>,
    charts: Vec<Chart>,
    damaged: Vec<String>,
    shade_note: Option<&'static str>,
    busiest: Option<(Moment, Vec<Busy>)>,
    lines: Lines,
    block: Block,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    span: Option<String>,
}

/// `GET /hosts/{name}?span=24h`.
pub(super) async fn page(
    visit: Visit,
    Path(name): Path<String>,
    Ask(wanted): Ask<Wanted>,
) -> Response {
    let page = draw(&visit, &name, wanted.span.as_deref().unwrap_or("1h")).await;
    visit.answer(page)
}

async fn draw(visit: &Visit, name: &str, span: &str) -> Result<Page, Failure> {
    let host = find_host(&visit.state, name)?;
    let Some((_, span_text, hours, slots)) = SPANS.into_iter().find(|(word, ..)| *word == span)
    else {
        return Err(bad(format!("span {span:?} is none of 1h, 24h, 7d")));
    };
    let own: Vec<Arc<Incident>> = visit
        .view
        .incidents
        .iter()
        .filter(|incident| incident.host == host.id)
        .cloned()
        .collect();
    let to = visit.at;
    let (from, slots) = reach(&host, to, hours, slots);
    let shades: Vec<(Timestamp, Timestamp)> = own
        .iter()
        .map(|incident| (incident.since, incident.until.unwrap_or(to)))
        .filter(|(since, until)| *until >= from && *since < to)
        .take(SHADES_MAX)
        .collect();
    let shaded = !shades.is_empty();
    let Drawn {
        charts,
        damaged,
        lines,
        busiest,
    } = read(visit, &host, (from, to), slots, shades).await?;
    let named = subject(&host.name, host.service.as_deref());
    let findings = own
        .iter()
        .take(INCIDENTS_SHOWN)
        .map(|one| Finding::of_incident(one, to, &visit.zone));
    let mut shell = visit.shell(named.clone(), "/hosts");
    shell.charts = true;
    Ok(Page {
        shell,
        subject: named,
        state: term(&host.state),
        state_tone: state_tone(&host.state),
        seen: host.last_seen.map(|seen| visit.moment(seen)),
        seen_ago: host
            .last_seen
            .map_or_else(String::new, |seen| duration(seconds_between(seen, to))),
        facts: facts(&host, visit),
        span_text,
        spans: SPANS
            .map(|(word, text, ..)| Chip {
                href: format!("{}?span={word}", host_href(&host.name)),
                name: text.to_owned(),
                here: word == span,
            })
            .into_iter()
            .collect(),
        shade_note: (shaded && !charts.is_empty())
            .then_some("Shaded: while an incident of this host lasted."),
        busiest,
        lines,
        charts,
        damaged: damaged.iter().map(|text| term(text)).collect(),
        block: Block::new(
            ("incidents", "Its incidents"),
            findings.collect(),
            own.len(),
            "/incidents".to_owned(),
        ),
    })
}

/// Where a span begins, and in how many slots it is drawn.
fn reach(host: &Host, to: Timestamp, hours: i64, slots: usize) -> (Timestamp, usize) {
    let from = to
        .saturating_sub(SignedDuration::from_hours(hours))
        .unwrap_or(Timestamp::MIN);
    // A host that joined ten minutes ago has no use for fifty empty ones.
    let latest_from = to.saturating_sub(SHORTEST).unwrap_or(Timestamp::MIN);
    let from = from.max(host.joined).min(latest_from);
    let seconds = to.duration_since(from).as_secs();
    let slots = usize::try_from(seconds / SLOT_SECONDS_MIN).map_or(slots, |most| slots.min(most));
    (from, slots)
}

/// What comes from the history.
struct Drawn {
    charts: Vec<Chart>,
    damaged: Vec<String>,
    lines: Lines,
    busiest: Option<(Moment, Vec<Busy>)>,
}

/// Reads and draws off the sockets' threads.
async fn read(
    visit: &Visit,
    host: &Host,
    (from, to): (Timestamp, Timestamp),
    slots: usize,
    shades: Vec<(Timestamp, Timestamp)>,
) -> Result<Drawn, Failure> {
    let (history, zone) = (Arc::clone(&visit.state.history), visit.zone.clone());
    let id = host.id;
    // With what it sent under another name before somebody said that it is this host.
    let mut hosts = vec![id];
    hosts.extend(visit.state.identity.merged_into(id));
    let drawn = tokio::task::spawn_blocking(move || {
        let (plots, damaged) = Measured::new(&history, &hosts, (from, to), slots).plots();
        let charts = plots.into_iter().map(|mut plot| {
            plot.shades.clone_from(&shades);
            Chart::new(&plot, &zone, to)
        });
        let charts = charts.collect();
        let lines = Lines::read(&history, (id, &hosts[1..]), (from, to), &zone, to);
        let busiest = busiest(&history, id, from, to);
        let busiest = busiest.map(|(at, rows)| (Moment::new(at, &zone, to), rows));
        Drawn {
            charts,
            damaged,
            lines,
            busiest,
        }
    });
    let drawn = drawn
        .await
        .map_err(|_| unavailable("the history could not be read; see the server's log"))?;
    for damage in &drawn.damaged {
        let host = host.name.as_str();
        tracing::warn!(host, damage, "part of the history cannot be read");
    }
    Ok(drawn)
}

fn facts(host: &Host, visit: &Visit) -> Vec<(&'static str, String)> {
    let or =
        |text: &Option<String>, none: &str| text.as_deref().map_or_else(|| none.to_owned(), term);
    let joined = Moment::exact(host.joined, &visit.zone);
    let mut facts = vec![
        ("Owner", or(&host.owner, "nobody")),
        ("Importance", importance(host.importance).to_owned()),
        ("Service", or(&host.service, "not set")),
        ("Site", or(&host.site, "not set")),
        ("System", term(&host.system)),
        ("Agent", term(&host.agent_version)),
        ("Joined", joined.text().to_owned()),
        ("Clock", clock(host.clock_offset_seconds)),
        ("Known before as", term(&host.aliases.join(", "))),
        ("Series", host.series.to_string()),
        ("Id", host.id.to_string()),
    ];
    for (name, value) in &host.values {
        let (name, unit) = match name.as_str() {
            "memory_ratio" => ("Memory in use", Unit::Ratio),
            "filesystem_ratio" => ("Fullest filesystem", Unit::Ratio),
            "cpu_ratio" => ("CPU busy", Unit::Ratio),
            "load1" => ("Load", Unit::Count),
            _ => continue,
        };
        facts.push((name, unit.show(*value)));
    }
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

fn clock(offset_seconds: f64) -> String {
    if offset_seconds.abs() < 0.5 {
        return "right within half a second".to_owned();
    }
    let way = if offset_seconds > 0.0 {
        "ahead of"
    } else {
        "behind"
    };
    format!(
        "{} {way} the server's",
        Unit::Seconds.show(offset_seconds.abs())
    )
}
