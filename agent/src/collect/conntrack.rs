//! How full the table of tracked connections is: where it is full, new connections are dropped.

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::Metric;
use super::text::{raw_field, trimmed};
use super::{CollectError, Collector, Out, Roots, Shape};

/// The limit is read every so many times: a person sets it.
const LIMIT_READS: u32 = 6;

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge(
        "node_nf_conntrack_entries",
        "Number of currently allocated flow entries for connection tracking.",
    ),
    Metric::gauge(
        "node_nf_conntrack_entries_limit",
        "Maximum size of connection tracking table.",
    ),
];

/// The collector of `nf_conntrack_count` and `nf_conntrack_max`.
#[derive(Debug)]
pub(crate) struct Conntrack {
    count: KernelFile,
    limit: KernelFile,
    limit_is: i64,
    reads: u32,
    there: bool,
}

impl Conntrack {
    /// Names the files.
    pub(crate) fn new(roots: &Roots) -> Conntrack {
        let file = |name: &str| KernelFile::new(roots.proc.join("sys/net/netfilter").join(name));
        Conntrack {
            count: file("nf_conntrack_count"),
            limit: file("nf_conntrack_max"),
            limit_is: MISSING,
            reads: 0,
            there: false,
        }
    }
}

impl Collector for Conntrack {
    fn name(&self) -> &'static str {
        "conntrack"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let count = number(&mut self.count)?;
        if self.reads.is_multiple_of(LIMIT_READS) {
            self.limit_is = number(&mut self.limit)?;
        }
        self.reads = self.reads.wrapping_add(1);
        out.row.extend([count, self.limit_is]);
        let appeared = !std::mem::replace(&mut self.there, true);
        Ok(if appeared {
            Shape::Changed
        } else {
            Shape::Same
        })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        if self.there {
            series.extend(METRICS.iter().map(Metric::series));
        }
    }
}

fn number(file: &mut KernelFile) -> Result<i64, CollectError> {
    match file.read() {
        Ok(text) => Ok(raw_field(Some(trimmed(text)))),
        // Without the module there is no table that could be full; it may be loaded at any time.
        Err(error) if error.is_absent() => Err(CollectError::NotAvailable("connection tracking")),
        Err(error) => Err(error),
    }
}
