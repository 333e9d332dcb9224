//! How full the table of tracked connections is: where it is full, new connections are dropped.

use dawnwatch_proto::Series;

use super::file::KernelFile;
use super::metric::Metric;
use super::text::{raw_field, trimmed};
use super::{CollectError, Collector, Out, Roots, Shape};

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
    files: [KernelFile; 2],
    there: bool,
}

impl Conntrack {
    /// Names the files.
    pub(crate) fn new(roots: &Roots) -> Conntrack {
        let file = |name: &str| KernelFile::new(roots.proc.join("sys/net/netfilter").join(name));
        Conntrack {
            files: [file("nf_conntrack_count"), file("nf_conntrack_max")],
            there: false,
        }
    }
}

impl Collector for Conntrack {
    fn name(&self) -> &'static str {
        "conntrack"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        for file in &mut self.files {
            match file.read() {
                Ok(text) => out.row.push(raw_field(Some(trimmed(text)))),
                // Without the module there is no table that could be full; it may be loaded at any time.
                Err(error) if error.is_absent() => {
                    return Err(CollectError::NotAvailable("connection tracking"));
                }
                Err(error) => return Err(error),
            }
        }
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
