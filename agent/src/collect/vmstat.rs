//! `/proc/vmstat`: page faults and out-of-memory kills.

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::Metric;
use super::text::{keyed, raw};
use super::{CollectError, Collector, Out, Roots, Shape};

/// The keys, in the order of the file, beside the metrics below.
const KEYS: [&str; 3] = ["pgfault", "pgmajfault", "oom_kill"];

/// What this collector shows. Minor faults are counted in steps of 64: they are judged by the thousand a second.
pub(crate) const METRICS: &[Metric] = &[
    Metric::counter(
        "node_vmstat_pgfault",
        "/proc/vmstat information field pgfault.",
    )
    .quantum(64, 1),
    Metric::counter(
        "node_vmstat_pgmajfault",
        "/proc/vmstat information field pgmajfault.",
    ),
    Metric::counter(
        "node_vmstat_oom_kill",
        "/proc/vmstat information field oom_kill.",
    ),
];

/// The collector of `/proc/vmstat`.
#[derive(Debug)]
pub(crate) struct Vmstat {
    file: KernelFile,
}

impl Vmstat {
    /// Names the file.
    pub(crate) fn new(roots: &Roots) -> Vmstat {
        Vmstat {
            file: KernelFile::new(roots.proc.join("vmstat")),
        }
    }
}

impl Collector for Vmstat {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let mut values = [None; KEYS.len()];
        keyed(self.file.read()?, &KEYS, &mut values);
        if values.iter().all(Option::is_none) {
            let path = self.file.path().to_owned();
            return Err(CollectError::Garbled {
                path,
                why: "it counts no page faults",
            });
        }
        for (value, metric) in values.iter().zip(METRICS) {
            out.row
                .push(value.map_or(MISSING, |value| raw(value / u64::from(metric.mul))));
        }
        Ok(Shape::Same)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        series.extend(METRICS.iter().map(Metric::series));
    }
}
