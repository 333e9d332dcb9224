//! `node_uname_info`: the host's name and kernel as labels of one constant.

use std::path::{Path, PathBuf};

use dawnwatch_proto::Series;
use dawnwatch_proto::series::LABEL_BYTES_MAX;

use super::metric::Metric;
use super::text::trimmed;
use super::{CollectError, Collector, Out, Roots, Shape};

const INFO: Metric = Metric::gauge(
    "node_uname_info",
    "Labeled system information as provided by the uname system call.",
);

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[INFO];

/// A host is renamed once in years: it is enough to look every five minutes of ticks.
const LOOK_READS: u32 = 30;

/// Labels and the files of `/proc/sys/kernel` they come from.
const FILES: [(&str, &str); 5] = [
    ("sysname", "ostype"),
    ("release", "osrelease"),
    ("version", "version"),
    ("nodename", "hostname"),
    ("domainname", "domainname"),
];

/// The collector of the host's name and kernel.
#[derive(Debug)]
pub(crate) struct Uname {
    dir: PathBuf,
    machine: fn() -> String,
    labels: Vec<(&'static str, String)>,
    reads: u32,
}

impl Uname {
    /// Names the files.
    pub(crate) fn new(roots: &Roots) -> Uname {
        Uname {
            dir: roots.proc.join("sys/kernel"),
            machine: roots.asks.machine,
            labels: Vec::new(),
            reads: 0,
        }
    }
}

impl Collector for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let mut shape = Shape::Same;
        if self.reads.is_multiple_of(LOOK_READS) || self.labels.is_empty() {
            let labels = read(&self.dir)?;
            if labels != self.labels {
                self.labels = labels;
                shape = Shape::Changed;
            }
        }
        self.reads = self.reads.wrapping_add(1);
        out.row.push(1);
        Ok(shape)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        if self.labels.is_empty() {
            return;
        }
        let mut info = INFO.series().label("machine", &(self.machine)());
        for (name, value) in &self.labels {
            info = info.label(name, value);
        }
        series.push(info);
    }
}

fn read(dir: &Path) -> Result<Vec<(&'static str, String)>, CollectError> {
    let mut labels = Vec::with_capacity(FILES.len());
    for (label, file) in FILES {
        let path = dir.join(file);
        match std::fs::read(&path) {
            Ok(text) => labels.push((label, value(&text))),
            Err(source) => return Err(CollectError::Read { path, source }),
        }
    }
    Ok(labels)
}

/// A label's value: the text, cut at the bound of a label.
fn value(text: &[u8]) -> String {
    let mut value = String::from_utf8_lossy(trimmed(text)).into_owned();
    value.truncate(value.floor_char_boundary(LABEL_BYTES_MAX));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_a_label() {
        assert_eq!(value(b" web01\n"), "web01");
        assert_eq!(value("é".repeat(200).as_bytes()).len(), LABEL_BYTES_MAX);
        assert_eq!(value("ü".repeat(127).as_bytes()).len(), 254);
    }
}
