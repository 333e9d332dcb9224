//! What the pings of the last tick came to; they are sent beside the ticks, by `probe`.

use dawnwatch_proto::{Series, probe};

use super::metric::Metric;
use super::{CollectError, Collector, Out, Roots, Shape};
use crate::probe::{Board, Row};

/// What this collector shows; the first seven of each target, the last of each family of addresses.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge(
        probe::SUCCESS,
        "0 where the last three probes in a row had no answer.",
    ),
    Metric::gauge(probe::RTT_MIN, "Shortest round trip since the last tick.").quantum(1, 10_000),
    Metric::gauge(probe::RTT_AVG, "Mean round trip since the last tick.").quantum(1, 10_000),
    Metric::gauge(probe::RTT_MAX, "Longest round trip since the last tick.").quantum(1, 10_000),
    Metric::gauge(
        probe::JITTER,
        "Mean difference of two round trips in a row.",
    )
    .quantum(1, 10_000),
    Metric::counter(probe::SENT, "Probes that were answered or given up."),
    Metric::counter(probe::LOST, "Probes that had no answer."),
    METHOD,
];

const METHOD: Metric = Metric::gauge(
    probe::METHOD,
    "How probes go out: 0 not permitted, 1 datagram socket, 2 raw socket, 3 TCP connection.",
);

/// Series of one target.
const OF_TARGET: usize = 7;

/// Families of addresses, as the board's methods stand.
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// The collector of what the board holds.
#[derive(Debug)]
pub(crate) struct Ping {
    board: Board,
    generation: u64,
    rows: Vec<Row>,
    has_methods: bool,
}

impl Ping {
    /// Shows the board of `roots`.
    pub(crate) fn new(roots: &Roots) -> Ping {
        Ping {
            board: roots.board.clone(),
            generation: 0,
            rows: Vec::new(),
            has_methods: false,
        }
    }
}

impl Collector for Ping {
    fn name(&self) -> &'static str {
        "ping"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let generation = self.board.generation();
        let shape = if generation == self.generation {
            Shape::Same
        } else {
            self.generation = generation;
            self.rows = self.board.rows();
            self.has_methods = self.board.has_methods();
            Shape::Changed
        };
        self.board.tick(&mut out.row);
        Ok(shape)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        for row in &self.rows {
            for metric in &METRICS[..OF_TARGET] {
                let one = metric.series().label("target", &row.target);
                series.push(one.label("role", row.role.word()));
            }
        }
        if self.has_methods {
            series.extend(FAMILIES.map(|family| METHOD.series().label("family", family)));
        }
    }
}
