//! `/proc/stat`: CPU time by mode, interrupts, context switches, forks, boot time.
//!
//! As node_exporter shows them: `user` holds the time of guests too, and idle time that the kernel corrects downwards
//! stands still for a moment, since a counter that falls reads as a restart.

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::Metric;
use super::slots::Slots;
use super::text::{fields, lines, raw_field};
use super::{CollectError, Collector, Out, Roots, Shape};

/// Up to so many CPUs each has its own series; above, 8 modes a CPU would drown the rest, and one `cpu="all"` stands
/// for them.
const CPUS_MAX: usize = 8;

/// A counter that falls by more than this was reset (a CPU was taken out and put back); less is a correction.
const RESET_SECONDS: i64 = 3;

/// Interrupts and context switches are counted in steps of 64: they are judged by the thousand a second.
const EVENTS_QUANTUM: i64 = 64;

const MODES: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];

const CPU: Metric = Metric::counter(
    "node_cpu_seconds_total",
    "Seconds the CPUs spent in each mode.",
)
.quantum(1, 100);
const CONTEXT: Metric = Metric::counter(
    "node_context_switches_total",
    "Total number of context switches.",
)
.quantum(64, 1);
const INTR: Metric =
    Metric::counter("node_intr_total", "Total number of interrupts serviced.").quantum(64, 1);
const FORKS: Metric = Metric::counter("node_forks_total", "Total number of forks.");
const RUNNING: Metric = Metric::gauge(
    "node_procs_running",
    "Number of processes in runnable state.",
);
const BLOCKED: Metric = Metric::gauge(
    "node_procs_blocked",
    "Number of processes blocked waiting for I/O to complete.",
);
const BOOT: Metric = Metric::gauge("node_boot_time_seconds", "Node boot time, in unixtime.");
const TIME: Metric = Metric::gauge(
    "node_time_seconds",
    "System time in seconds since epoch (1970).",
);

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[CPU, CONTEXT, INTR, FORKS, RUNNING, BLOCKED, BOOT, TIME];

/// The collector of `/proc/stat`.
#[derive(Debug)]
pub(crate) struct Stat {
    file: KernelFile,
    ticks_per_second: u32,
    unix_s: fn() -> i64,
    cpus: Slots<Ticks>,
}

/// Ticks by mode.
type Ticks = [i64; MODES.len()];

impl Stat {
    /// Names the file.
    pub(crate) fn new(roots: &Roots) -> Stat {
        Stat {
            file: KernelFile::new(roots.proc.join("stat")),
            ticks_per_second: roots.asks.ticks_per_second,
            unix_s: roots.asks.unix_s,
            cpus: Slots::new(CPUS_MAX + 1),
        }
    }
}

impl Collector for Stat {
    fn name(&self) -> &'static str {
        "stat"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let table = parse(self.file.read()?);
        let Some(all) = table.all else {
            let path = self.file.path().to_owned();
            return Err(CollectError::Garbled {
                path,
                why: "it has no line for all CPUs",
            });
        };
        let reset = RESET_SECONDS.saturating_mul(i64::from(self.ticks_per_second));
        let whole = [(b"all".as_slice(), all)];
        let each = if table.cpus.len() > CPUS_MAX {
            &whole[..]
        } else {
            &table.cpus[..]
        };
        self.cpus.begin();
        for (name, ticks) in each {
            if let Some(held) = self.cpus.see(name, || *ticks) {
                hold(held, ticks, reset);
            }
        }
        let changed = self.cpus.end();
        for (_, ticks) in self.cpus.listed() {
            out.row
                .extend_from_slice(ticks.unwrap_or(&[MISSING; MODES.len()]));
        }
        out.row.extend([
            events(table.context),
            events(table.intr),
            table.forks,
            table.running,
            table.blocked,
            table.boot,
            (self.unix_s)(),
        ]);
        Ok(if changed { Shape::Changed } else { Shape::Same })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        for (name, _) in self.cpus.listed() {
            let name = String::from_utf8_lossy(name);
            for mode in MODES {
                let one = CPU.series().quantum(1, self.ticks_per_second);
                series.push(one.label("cpu", &name).label("mode", mode));
            }
        }
        series.extend(
            [CONTEXT, INTR, FORKS, RUNNING, BLOCKED, BOOT, TIME]
                .iter()
                .map(Metric::series),
        );
    }
}

/// Takes newer ticks over, but for those that fell a little.
fn hold(held: &mut Ticks, newer: &Ticks, reset: i64) {
    let fell_far = |(old, new): (&i64, &i64)| *new != MISSING && old.saturating_sub(*new) > reset;
    if held.iter().zip(newer).any(fell_far) {
        *held = *newer;
        return;
    }
    for (old, new) in held.iter_mut().zip(newer) {
        if *new == MISSING || *new > *old {
            *old = *new;
        }
    }
}

fn events(count: i64) -> i64 {
    if count == MISSING {
        MISSING
    } else {
        count / EVENTS_QUANTUM
    }
}

/// What `/proc/stat` says; `MISSING` where it does not.
#[derive(Debug, PartialEq, Eq)]
struct Table<'a> {
    all: Option<Ticks>,
    cpus: Vec<(&'a [u8], Ticks)>,
    intr: i64,
    context: i64,
    boot: i64,
    forks: i64,
    running: i64,
    blocked: i64,
}

fn parse(text: &[u8]) -> Table<'_> {
    let mut table = Table {
        all: None,
        cpus: Vec::with_capacity(CPUS_MAX),
        intr: MISSING,
        context: MISSING,
        boot: MISSING,
        forks: MISSING,
        running: MISSING,
        blocked: MISSING,
    };
    for line in lines(text) {
        let mut fields = fields(line);
        match fields.next().unwrap_or_default() {
            b"cpu" => table.all = ticks(fields),
            b"intr" => table.intr = raw_field(fields.next()),
            b"ctxt" => table.context = raw_field(fields.next()),
            b"btime" => table.boot = raw_field(fields.next()),
            b"processes" => table.forks = raw_field(fields.next()),
            b"procs_running" => table.running = raw_field(fields.next()),
            b"procs_blocked" => table.blocked = raw_field(fields.next()),
            key => {
                let number = key
                    .strip_prefix(b"cpu")
                    .filter(|n| n.iter().all(u8::is_ascii_digit));
                if let (Some(number), Some(ticks)) = (number, ticks(fields)) {
                    table.cpus.push((number, ticks));
                }
            }
        }
    }
    table
}

/// The modes of a CPU; kernels before 2.6.11 have no `steal`. None where not even `idle` is there.
fn ticks<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<Ticks> {
    let mut ticks = [MISSING; MODES.len()];
    for value in &mut ticks {
        *value = raw_field(fields.next());
    }
    (ticks[3] != MISSING).then_some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &[u8] = b"cpu  10 1 3 50 4 0 2 7 0 0\ncpu0 4 1 1 20 4 0 1 3 0 0\ncpu1 6 0 2 30 0 0 1 4 0 0\n\
        intr 6400 0 5 9\nctxt 129\nbtime 1795302477\nprocesses 15258\nprocs_running 2\nprocs_blocked 1\n\
        softirq 9 8 7\n";

    #[test]
    fn a_small_host() {
        let table = parse(SMALL);
        assert_eq!(table.all, Some([10, 1, 3, 50, 4, 0, 2, 7]));
        let cpus = [
            (b"0".as_slice(), [4, 1, 1, 20, 4, 0, 1, 3]),
            (b"1", [6, 0, 2, 30, 0, 0, 1, 4]),
        ];
        assert_eq!(table.cpus, cpus);
        let rest = [
            table.intr,
            table.context,
            table.boot,
            table.forks,
            table.running,
            table.blocked,
        ];
        assert_eq!(rest, [6400, 129, 1_795_302_477, 15258, 2, 1]);
    }

    #[test]
    fn odd_lines_are_left_out() {
        for (text, all, cpus) in [
            ("", None, 0),
            ("cpu\ncpu0\n", None, 0),
            ("cpu  1 2 3\n", None, 0),
            (
                "cpu  1 2 3 4\n",
                Some([1, 2, 3, 4, MISSING, MISSING, MISSING, MISSING]),
                0,
            ),
            (
                "cpu  x 2 3 4 5 6 7 8\n",
                Some([MISSING, 2, 3, 4, 5, 6, 7, 8]),
                0,
            ),
            ("cpufreq 1 2 3 4 5 6 7 8\ncpu7 1 2 3 4 5 6 7 8\n", None, 1),
            ("cpu0 1 2 3 99999999999999999999 5 6 7 8\n", None, 0),
        ] {
            let table = parse(text.as_bytes());
            assert_eq!((table.all, table.cpus.len()), (all, cpus), "{text}");
        }
    }

    #[test]
    fn small_falls_stand_still_and_large_ones_are_resets() {
        let old = [100, 0, 0, 1000, 50, 0, 0, 0];
        for (name, new, want) in [
            (
                "grows",
                [110, 0, 0, 1001, 51, 0, 0, 0],
                [110, 0, 0, 1001, 51, 0, 0, 0],
            ),
            (
                "iowait falls",
                [110, 0, 0, 1001, 40, 0, 0, 0],
                [110, 0, 0, 1001, 50, 0, 0, 0],
            ),
            (
                "re-plugged",
                [1, 0, 0, 2, 0, 0, 0, 0],
                [1, 0, 0, 2, 0, 0, 0, 0],
            ),
            (
                "unreadable",
                [MISSING, 0, 0, 1001, 50, 0, 0, 0],
                [MISSING, 0, 0, 1001, 50, 0, 0, 0],
            ),
        ] {
            let mut held = old;
            hold(&mut held, &new, 300);
            assert_eq!(held, want, "{name}");
        }
        let mut held = [MISSING; 8];
        hold(&mut held, &old, 300);
        assert_eq!(held, old);
    }
}
