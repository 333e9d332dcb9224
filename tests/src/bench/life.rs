//! What real agents send beside the numbers of G1, one kind at a time: pings, lines of logs, their shapes and counts, tables of
//! processes. Made from host and number, as G1 is, so that what is sent again is the same.

use std::sync::Arc;

use dawnwatch_proto::event::{Line, LogCounts, Process, Processes, Template, TemplateCount};
use dawnwatch_proto::probe::{self, Role};
use dawnwatch_proto::{Event, EventBody, Item, Kind, Schema, Series, Tick};
use jiff::Timestamp;

use super::g1::{key, word};

/// Whom a host pings: its way out, the server, and two other agents.
const TARGETS: [(&str, Role); 4] = [
    ("gateway", Role::Gateway),
    ("server", Role::Server),
    ("mesh-a", Role::Mesh),
    ("mesh-b", Role::Mesh),
];

/// Probes of a target in a tick of ten seconds.
const PROBES: u64 = 5;

/// Milliseconds of what is counted in one event.
const SPAN_MS: u32 = 10_000;

/// Shapes in one event of counts.
const SHAPES: u32 = 6;

/// What a host sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Ticks of what four targets' pings came to: 29 series.
    Pings,
    /// How often lines of six shapes came.
    Counts,
    /// Whole lines of warning.
    Lines,
    /// Shapes that were never seen.
    Templates,
    /// The ten busiest processes.
    Processes,
}

/// The series of the pings, as agents declare them.
#[must_use]
pub fn schema() -> Schema {
    let mut series = Vec::new();
    for (target, role) in TARGETS {
        let one = |name: &str, kind| {
            let series = Series::new(name, kind).label("target", target);
            series.label("role", role.word())
        };
        series.push(one(probe::SUCCESS, Kind::Gauge));
        for name in [
            probe::RTT_MIN,
            probe::RTT_AVG,
            probe::RTT_MAX,
            probe::JITTER,
        ] {
            series.push(one(name, Kind::Gauge).quantum(1, 10_000));
        }
        series.push(one(probe::SENT, Kind::Counter));
        series.push(one(probe::LOST, Kind::Counter));
    }
    series.push(Series::new(probe::METHOD, Kind::Gauge).label("family", "ipv4"));
    Schema::new(series)
}

/// Item `n` of a host.
#[must_use]
pub fn item(what: What, host: u64, n: u64, time: Timestamp, pings: &Arc<Schema>) -> Item {
    let w = word(key(host, 71), n);
    let body = match what {
        What::Pings => {
            let (schema, row) = (pings.id(), pings_row(host, n));
            return Item::Tick(Tick { time, schema, row });
        }
        What::Counts => EventBody::LogCounts(LogCounts {
            span_ms: SPAN_MS,
            counts: (1..=SHAPES).map(|template| count(template, w)).collect(),
            ..LogCounts::default()
        }),
        What::Lines => EventBody::Line(Line {
            template: small(w % u64::from(SHAPES)) + 1,
            severity: 4,
            source: "nginx.service".to_owned(),
            text: format!(
                "upstream timed out (110: Connection timed out) while reading response header from upstream, request {w:016x}, upstream 10.0.{}.{}",
                w % 250,
                (w >> 8) % 250
            ),
            cut_from: 0,
        }),
        What::Templates => EventBody::Template(Template {
            id: small(n) + 1,
            text: format!(
                "worker <num> of pool {} gave up after <num> ms: {}",
                letters(w),
                letters(w >> 32)
            ),
            source: format!("unit{}.service", w % 40),
            severity: 6,
            example: format!(
                "worker 17 of pool {} gave up after 512 ms: {}",
                letters(w),
                letters(w >> 32)
            ),
            old: false,
        }),
        What::Processes => EventBody::Processes(Processes {
            span_ms: 60_000,
            top: (0..10).map(|i| process(i, word(w, i))).collect(),
        }),
    };
    Item::Event(Event { time, body })
}

#[allow(clippy::cast_possible_wrap, reason = "small numbers")]
fn pings_row(host: u64, n: u64) -> Vec<i64> {
    let mut row = Vec::new();
    for target in 0..4 {
        let w = word(key(host, 72 + target), n);
        // A network of one site: 0.3 ms and a little more, in tenths of milliseconds.
        let least = 3 + w % 2;
        let most = least + (w >> 8) % 4;
        let values = [
            1,
            least,
            least + (most - least) / 2,
            most,
            (w >> 16) % 2,
            PROBES * (n + 1),
            n / 500,
        ];
        row.extend(values.map(|value| value as i64));
    }
    row.push(1);
    row
}

fn count(template: u32, w: u64) -> TemplateCount {
    TemplateCount {
        template,
        count: small((w >> template) % 40) + 1,
        severity: 6,
    }
}

fn process(i: u64, w: u64) -> Process {
    Process {
        pid: small(w % 40_000),
        name: format!("process{i}"),
        unit: format!("unit{i}.service"),
        cpu_permille: small((w >> 16) % 1_000),
        rss_bytes: (w >> 32) % 4_096 * 262_144,
    }
}

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A word of letters, for digits are no part of a shape.
fn letters(mut w: u64) -> String {
    let mut out = String::new();
    for _ in 0..6 {
        out.push(char::from(b'a' + (w % 26).to_le_bytes()[0]));
        w /= 26;
    }
    out
}
