//! What the agent itself costs.

use dawnwatch_proto::Series;

use super::ask::Asks;
use super::file::KernelFile;
use super::metric::Metric;
use super::text::{fields, raw_field, trimmed};
use super::{CollectError, Collector, Out, Roots, Shape};

const CPU: Metric = Metric::counter(
    "dawnwatch_agent_cpu_seconds_total",
    "CPU time that the agent has used.",
)
.quantum(1, 1_000);
const RESIDENT: Metric = Metric::gauge(
    "dawnwatch_agent_resident_memory_bytes",
    "Memory that the agent occupies.",
);

/// How long a reading took, by the clock on the wall: a collector that hangs shows here.
pub(crate) const COLLECT_SECONDS: Metric = Metric::gauge(
    "dawnwatch_agent_collect_seconds",
    "How long this collection took.",
)
.quantum(1, 1_000_000);

/// Whether a collector could read all of its subject.
pub(crate) const SUCCESS: Metric = Metric::gauge(
    "dawnwatch_collector_success",
    "Whether a collector could read all it should.",
);

/// What is shown of the agent itself.
pub(crate) const METRICS: &[Metric] = &[CPU, RESIDENT, COLLECT_SECONDS, SUCCESS];

/// The collector of the agent's own cost.
#[derive(Debug)]
pub(crate) struct Own {
    statm: KernelFile,
    asks: Asks,
}

impl Own {
    /// Names the file.
    pub(crate) fn new(roots: &Roots) -> Own {
        Own {
            statm: KernelFile::new(roots.proc.join("self/statm")),
            asks: roots.asks,
        }
    }
}

impl Collector for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let pages = resident_pages(self.statm.read()?);
        out.row.extend([(self.asks.own_cpu_ms)(), pages]);
        Ok(Shape::Same)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        series.push(CPU.series());
        series.push(RESIDENT.series().quantum(self.asks.page_bytes, 1));
    }
}

/// The second number of `/proc/self/statm`.
fn resident_pages(text: &[u8]) -> i64 {
    raw_field(fields(trimmed(text)).nth(1))
}

#[cfg(test)]
mod tests {
    use super::resident_pages;
    use dawnwatch_proto::MISSING;

    #[test]
    fn the_second_number_counts() {
        for (text, want) in [
            ("2000 350 300 10 0 200 0\n", 350),
            ("2000\n", MISSING),
            ("", MISSING),
        ] {
            assert_eq!(resident_pages(text.as_bytes()), want, "{text}");
        }
    }
}
