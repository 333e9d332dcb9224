//! A reading in Prometheus' text format: what `dawnwatch-agent collect --once` prints.

use std::fmt::Write;

use dawnwatch_proto::{Kind, MISSING};

use super::{METRICS, Metric, Reading};

/// Draws a reading as Prometheus would scrape it; a value that could not be read has no line.
#[must_use]
pub fn show(reading: &Reading) -> String {
    let mut text = String::new();
    let series = reading.schema.series();
    for metric in METRICS.iter().copied().flatten() {
        let lines = series.iter().zip(&reading.row);
        let mut lines = lines
            .filter(|(one, raw)| one.name == metric.name && **raw != MISSING)
            .peekable();
        if lines.peek().is_none() {
            continue;
        }
        let (name, help, kind) = (metric.name, metric.help, kind(metric));
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (one, raw) in lines {
            let _ = writeln!(text, "{one} {}", one.value(*raw));
        }
    }
    text
}

/// The format's word; node_exporter's counters without `_total` are untyped there.
fn kind(metric: &Metric) -> &'static str {
    match metric.kind {
        Kind::Gauge => "gauge",
        Kind::Counter if metric.name.ends_with("_total") => "counter",
        Kind::Counter => "untyped",
    }
}
