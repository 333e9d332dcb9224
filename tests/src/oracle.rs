//! What was lost: the acknowledgements that a proxy saw, beside what the server's history answers.

use std::collections::BTreeMap;
use std::time::Duration;

use dawnwatch_proto::api::History;
use dawnwatch_proto::{Kind, MISSING, Series, Tick};
use jiff::Timestamp;

use crate::house::Server;
use crate::proxy::Seen;
use crate::wait::until;

/// History answers within this, whatever it goes on from.
const SOON: Duration = Duration::from_secs(60);

/// The gauges that are compared: their values change from tick to tick.
const GAUGES: [&str; 3] = [
    "node_memory_MemFree_bytes",
    "node_load1",
    "dawnwatch_agent_resident_memory_bytes",
];

/// What the oracle finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Acknowledged values that were compared.
    pub compared: usize,
    /// Acknowledged values that history does not have, or has otherwise.
    pub lost: Vec<String>,
    /// Samples that are held more than once.
    pub repeated: u64,
}

impl Found {
    /// Takes in what was found elsewhere.
    pub fn add(&mut self, other: Found) {
        self.compared += other.compared;
        self.lost.extend(other.lost);
        self.repeated += other.repeated;
    }

    /// Whether everything acknowledged is there once.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lost.is_empty() && self.repeated == 0
    }
}

/// Ticks that are asked for at once: with what was not acknowledged among them still fewer points than an answer holds.
const TICKS_AT_ONCE: usize = 5_000;

/// Compares what a host was acknowledged with what the server has of it.
///
/// # Panics
/// Where history does not answer.
#[must_use]
pub fn check(seen: &Seen, server: &Server, host: &str) -> Found {
    let mut ticks = seen.acked_ticks();
    ticks.sort_by_key(|tick| tick.time);
    let mut found = Found::default();
    for name in GAUGES {
        let path = format!("/api/v1/history?host={host}&series={name}");
        let mut from: Timestamp = "2020-01-01T00:00:00Z".parse().expect("a time");
        let mut rest = &ticks[..];
        loop {
            let (these, later) = rest.split_at(rest.len().min(TICKS_AT_ONCE));
            let to = later.first().map(|tick| tick.time);
            let span = match to {
                Some(to) => format!("{path}&from={from}&to={to}"),
                None => format!("{path}&from={from}"),
            };
            let history = until("the history to answer", SOON, || server.get(&span).ok());
            compare(&mut found, seen, these, name, history);
            let Some(to) = to else { break };
            (from, rest) = (to, later);
        }
    }
    found
}

/// Compares some ticks with what history has of their time.
fn compare(found: &mut Found, seen: &Seen, ticks: &[&Tick], name: &str, history: History) {
    assert!(history.peaks.is_empty(), "means are no samples");
    found.repeated += history.repeated;
    let host = &history.name;
    let points: BTreeMap<_, _> = history.points.into_iter().collect();
    for tick in ticks {
        let schema = &seen.schemas[&tick.schema.0];
        let gauge = |series: &Series| series.name == name && series.kind == Kind::Gauge;
        let Some(column) = schema.series().iter().position(gauge) else {
            continue;
        };
        if tick.row[column] == MISSING {
            continue;
        }
        found.compared += 1;
        let want = Some(schema.series()[column].value(tick.row[column]));
        let held = points.get(&tick.time).copied();
        if held != Some(want) {
            let at = tick.time;
            let lost = format!("{host} {name} at {at}: acknowledged {want:?}, held {held:?}");
            found.lost.push(lost);
        }
    }
}
