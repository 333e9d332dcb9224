//! `/proc/meminfo`: memory and swap.
//!
//! All sizes share one quantum, a thousandth of the memory at most and 1 MiB at most, chosen at the first read and
//! kept, so that a balloon driver does not change the schema.

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::{Metric, quantum_bytes, steps};
use super::text::keyed;
use super::{CollectError, Collector, Out, Roots, Shape};

/// The keys, in the order of the file, beside the metrics below.
const KEYS: [&str; 12] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "SwapTotal",
    "SwapFree",
    "Dirty",
    "Slab",
    "SReclaimable",
    "PageTables",
];

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge(
        "node_memory_MemTotal_bytes",
        "Memory information field MemTotal_bytes.",
    ),
    Metric::gauge(
        "node_memory_MemFree_bytes",
        "Memory information field MemFree_bytes.",
    ),
    Metric::gauge(
        "node_memory_MemAvailable_bytes",
        "Memory information field MemAvailable_bytes.",
    ),
    Metric::gauge(
        "node_memory_Buffers_bytes",
        "Memory information field Buffers_bytes.",
    ),
    Metric::gauge(
        "node_memory_Cached_bytes",
        "Memory information field Cached_bytes.",
    ),
    Metric::gauge(
        "node_memory_SwapCached_bytes",
        "Memory information field SwapCached_bytes.",
    ),
    Metric::gauge(
        "node_memory_SwapTotal_bytes",
        "Memory information field SwapTotal_bytes.",
    ),
    Metric::gauge(
        "node_memory_SwapFree_bytes",
        "Memory information field SwapFree_bytes.",
    ),
    Metric::gauge(
        "node_memory_Dirty_bytes",
        "Memory information field Dirty_bytes.",
    ),
    Metric::gauge(
        "node_memory_Slab_bytes",
        "Memory information field Slab_bytes.",
    ),
    Metric::gauge(
        "node_memory_SReclaimable_bytes",
        "Memory information field SReclaimable_bytes.",
    ),
    Metric::gauge(
        "node_memory_PageTables_bytes",
        "Memory information field PageTables_bytes.",
    ),
];

/// The collector of `/proc/meminfo`.
#[derive(Debug)]
pub(crate) struct Memory {
    file: KernelFile,
    quantum: Option<u32>,
}

impl Memory {
    /// Names the file.
    pub(crate) fn new(roots: &Roots) -> Memory {
        Memory {
            file: KernelFile::new(roots.proc.join("meminfo")),
            quantum: None,
        }
    }
}

impl Collector for Memory {
    fn name(&self) -> &'static str {
        "meminfo"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let mut kib = [None; KEYS.len()];
        keyed(self.file.read()?, &KEYS, &mut kib);
        let Some(total) = kib[0] else {
            let path = self.file.path().to_owned();
            return Err(CollectError::Garbled {
                path,
                why: "it has no MemTotal",
            });
        };
        let shape = if self.quantum.is_none() {
            Shape::Changed
        } else {
            Shape::Same
        };
        let quantum = *self
            .quantum
            .get_or_insert(quantum_bytes(total.saturating_mul(1024)));
        for value in kib {
            out.row
                .push(value.map_or(MISSING, |kib| steps(kib.saturating_mul(1024), quantum)));
        }
        Ok(shape)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        let quantum = self.quantum.unwrap_or(1024);
        series.extend(
            METRICS
                .iter()
                .map(|metric| metric.series().quantum(quantum, 1)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_metrics_stand_side_by_side() {
        assert_eq!(KEYS.len(), METRICS.len());
        for (key, metric) in KEYS.iter().zip(METRICS) {
            assert_eq!(metric.name, format!("node_memory_{key}_bytes"));
        }
    }

    #[test]
    fn an_old_kernel_lacks_some() {
        let mut kib = [None; KEYS.len()];
        keyed(
            b"MemTotal:  512 kB\nMemFree:  100 kB\nSwapFree: -3 kB\nDirty:\n",
            &KEYS,
            &mut kib,
        );
        let want = [
            Some(512),
            Some(100),
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
            None,
        ];
        assert_eq!(kib, want);
    }
}
