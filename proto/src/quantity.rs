//! Values as people read them: the unit follows from the last word of a series' name.

use crate::Kind;

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, in steps of 1,024.
    Bytes,
    /// Bytes a second.
    BytesRate,
    /// A share from 0 to 1, shown in percent.
    Ratio,
    /// Seconds of something a second: a share of time.
    TimeShare,
    /// Seconds.
    Seconds,
    /// Anything else.
    Count,
    /// Anything else a second.
    CountRate,
}

impl Unit {
    /// The unit of a series in Prometheus notation; the points of a counter are rates.
    #[must_use]
    pub fn of(series: &str, kind: Kind) -> Unit {
        let name = series.split('{').next().unwrap_or(series);
        let name = name.strip_suffix("_total").unwrap_or(name);
        match (name.rsplit('_').next().unwrap_or(name), kind) {
            ("bytes", Kind::Gauge) => Unit::Bytes,
            ("bytes", Kind::Counter) => Unit::BytesRate,
            ("ratio", Kind::Gauge | Kind::Counter) => Unit::Ratio,
            ("seconds", Kind::Gauge) => Unit::Seconds,
            ("seconds", Kind::Counter) => Unit::TimeShare,
            (_, Kind::Gauge) => Unit::Count,
            (_, Kind::Counter) => Unit::CountRate,
        }
    }

    /// The value with its unit.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Bytes => bytes(value),
            Unit::BytesRate => format!("{}/s", bytes(value)),
            Unit::Ratio | Unit::TimeShare => format!("{} %", digits(value * 100.0)),
            Unit::Seconds => format!("{} s", digits(value)),
            Unit::Count => count(value),
            Unit::CountRate => format!("{}/s", count(value)),
        }
    }

    /// What the numbers mean, in words for a heading; nothing where the name of the series says it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Unit::Bytes => "in bytes",
            Unit::BytesRate => "in bytes a second",
            Unit::Ratio => "in percent",
            Unit::TimeShare => "in percent of the time",
            Unit::Seconds => "in seconds",
            Unit::Count => "",
            Unit::CountRate => "a second",
        }
    }
}

fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (value, 0);
    while value.abs() >= 1_024.0 && unit + 1 < units.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{} {}", digits(value), units[unit])
}

fn count(value: f64) -> String {
    let units = ["", " k", " M", " G", " T"];
    if value.abs() < 100_000.0 {
        return digits(value);
    }
    let (mut value, mut unit) = (value, 0);
    while value.abs() >= 1_000.0 && unit + 1 < units.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{}{}", digits(value), units[unit])
}

/// About three digits that count, whole numbers without a point.
fn digits(value: f64) -> String {
    let size = value.abs();
    let text = if size >= 99.95 || (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if size >= 0.01 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    };
    if text == "-0" { "0".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_unit() {
        for (series, kind, value, want) in [
            (
                "node_memory_MemAvailable_bytes",
                Kind::Gauge,
                2_147_483_648.0,
                "2 GiB",
            ),
            (
                "node_network_receive_bytes_total{device=\"eth0\"}",
                Kind::Counter,
                1_536.0,
                "1.50 KiB/s",
            ),
            (
                "node_cpu_seconds_total{mode=\"user\"}",
                Kind::Counter,
                0.1234,
                "12.3 %",
            ),
            ("cpu_ratio", Kind::Gauge, 0.12, "12 %"),
            ("cpu_ratio", Kind::Gauge, 0.9997, "100 %"),
            ("cpu_ratio", Kind::Gauge, 0.09997, "10.0 %"),
            ("node_load1", Kind::Gauge, 0.5, "0.50"),
            ("node_load1", Kind::Gauge, 0.004, "0.0040"),
            (
                "node_context_switches_total",
                Kind::Counter,
                1_234_567.0,
                "1.23 M/s",
            ),
            ("node_filesystem_files", Kind::Gauge, 99_999.0, "99999"),
            ("up_seconds", Kind::Gauge, 90.0, "90 s"),
            ("node_load1", Kind::Gauge, -0.0, "0"),
            ("x_bytes", Kind::Gauge, 1023.0, "1023 B"),
        ] {
            assert_eq!(Unit::of(series, kind).show(value), want, "{series}");
        }
    }
}
