//! `/proc/pressure`: how long tasks waited for CPU, memory and I/O (PSI).
//!
//! `some` is node_exporter's `waiting`, `full` its `stalled`. A kernel without PSI, or started with `psi=0`, has no such
//! series; that is no failure.

use std::io::ErrorKind;

use dawnwatch_proto::{MISSING, Series};
use rustix::io::Errno;

use super::file::KernelFile;
use super::metric::Metric;
use super::text::{fields, lines, number, raw};
use super::{CollectError, Collector, Out, Roots, Shape};

/// Totals are in microseconds there; a millisecond is exact enough for a share of ten seconds.
const MICROSECONDS: u64 = 1_000;

const CPU_WAITING: Metric = Metric::counter(
    "node_pressure_cpu_waiting_seconds_total",
    "Total time in seconds that processes have waited for CPU time.",
)
.quantum(1, 1_000);
const IO_WAITING: Metric = Metric::counter(
    "node_pressure_io_waiting_seconds_total",
    "Total time in seconds that processes have waited due to IO congestion.",
)
.quantum(1, 1_000);
const IO_STALLED: Metric = Metric::counter(
    "node_pressure_io_stalled_seconds_total",
    "Total time in seconds no process could make progress due to IO congestion.",
)
.quantum(1, 1_000);
const MEMORY_WAITING: Metric = Metric::counter(
    "node_pressure_memory_waiting_seconds_total",
    "Total time in seconds that processes have waited for memory.",
)
.quantum(1, 1_000);
const MEMORY_STALLED: Metric = Metric::counter(
    "node_pressure_memory_stalled_seconds_total",
    "Total time in seconds no process could make progress due to memory congestion.",
)
.quantum(1, 1_000);

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[
    CPU_WAITING,
    IO_WAITING,
    IO_STALLED,
    MEMORY_WAITING,
    MEMORY_STALLED,
];

/// The collector of `/proc/pressure`.
#[derive(Debug)]
pub(crate) struct Pressure {
    cpu: KernelFile,
    io: KernelFile,
    memory: KernelFile,
    available: bool,
}

impl Pressure {
    /// Names the files.
    pub(crate) fn new(roots: &Roots) -> Pressure {
        let file = |name| KernelFile::new(roots.proc.join("pressure").join(name));
        Pressure {
            cpu: file("cpu"),
            io: file("io"),
            memory: file("memory"),
            available: false,
        }
    }
}

impl Collector for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let cpu = read(&mut self.cpu)?;
        let io = read(&mut self.io)?;
        let memory = read(&mut self.memory)?;
        out.row
            .extend([cpu.some, io.some, io.full, memory.some, memory.full]);
        let shape = if self.available {
            Shape::Same
        } else {
            Shape::Changed
        };
        self.available = true;
        Ok(shape)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        if self.available {
            series.extend(METRICS.iter().map(Metric::series));
        }
    }
}

fn read(file: &mut KernelFile) -> Result<Waits, CollectError> {
    let text = match file.read() {
        Ok(text) => text,
        Err(CollectError::Read { source, .. }) if is_absent(&source) => {
            return Err(CollectError::NotAvailable("pressure information (PSI)"));
        }
        Err(error) => return Err(error),
    };
    let waits = parse(text);
    if waits.some == MISSING {
        let path = file.path().to_owned();
        return Err(CollectError::Garbled {
            path,
            why: "it has no total of `some`",
        });
    }
    Ok(waits)
}

/// Without PSI there is no file; started with `psi=0` there is one that cannot be read.
fn is_absent(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}

/// Milliseconds that tasks waited.
#[derive(Debug, PartialEq, Eq)]
struct Waits {
    some: i64,
    full: i64,
}

fn parse(text: &[u8]) -> Waits {
    let mut waits = Waits {
        some: MISSING,
        full: MISSING,
    };
    for line in lines(text) {
        let mut fields = fields(line);
        let kind = fields.next();
        let total = fields.find_map(|field| field.strip_prefix(b"total="));
        let total = total
            .and_then(number)
            .map_or(MISSING, |us| raw(us / MICROSECONDS));
        match kind {
            Some(b"some") => waits.some = total,
            Some(b"full") => waits.full = total,
            Some(_) | None => {}
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_in_milliseconds() {
        let line = "avg10=0.00 avg60=0.15 avg300=0.49 total=";
        for (text, some, full) in [
            (format!("some {line}23728881\nfull {line}1999\n"), 23728, 1),
            (format!("some {line}5000\n"), 5, MISSING),
            (format!("some {line}x\nfull {line}\n"), MISSING, MISSING),
            ("some avg10=1.00\n".to_owned(), MISSING, MISSING),
            (String::new(), MISSING, MISSING),
        ] {
            assert_eq!(parse(text.as_bytes()), Waits { some, full }, "{text}");
        }
    }

    #[test]
    fn psi_switched_off_is_no_failure() {
        for (code, want) in [
            (Errno::NOENT, true),
            (Errno::OPNOTSUPP, true),
            (Errno::ACCESS, false),
        ] {
            assert_eq!(is_absent(&std::io::Error::from(code)), want, "{code}");
        }
    }
}
