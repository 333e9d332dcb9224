//! `/proc/net/dev` and `/sys/class/net`: traffic, errors, link state and speed of each interface.
//!
//! Left out: `lo` (as Debian's node_exporter does), the ends of links to containers and virtual machines, which come and
//! go with them, and virtual interfaces that never carried a packet. As node_exporter has it, `drop` holds missed
//! packets too, and `node_network_up` is 1 only for `operstate` "up".

use std::path::PathBuf;

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::Metric;
use super::slots::Slots;
use super::text::{fields, lines, number, raw, trimmed};
use super::{CollectError, Collector, Out, Roots, Shape};

/// Most interfaces that are shown: with the other subjects at their bounds, a host stays under its bound of series.
const INTERFACES_MAX: usize = 64;

/// The speed is asked every minute of ticks: asking takes a lock of the driver, and links rarely renegotiate.
const SPEED_READS: u32 = 6;

/// Ends of links to containers and virtual machines.
const PREFIXES_IGNORED: [&str; 7] = ["veth", "cali", "lxc", "vnet", "fwbr", "fwln", "fwpr"];

/// What this collector shows; the speed only where it is known.
pub(crate) const METRICS: &[Metric] = &[
    Metric::counter(
        "node_network_receive_bytes_total",
        "Network device statistic receive_bytes.",
    )
    .quantum(1024, 1),
    Metric::counter(
        "node_network_receive_packets_total",
        "Network device statistic receive_packets.",
    ),
    Metric::counter(
        "node_network_receive_errs_total",
        "Network device statistic receive_errs.",
    ),
    Metric::counter(
        "node_network_receive_drop_total",
        "Network device statistic receive_drop.",
    ),
    Metric::counter(
        "node_network_transmit_bytes_total",
        "Network device statistic transmit_bytes.",
    )
    .quantum(1024, 1),
    Metric::counter(
        "node_network_transmit_packets_total",
        "Network device statistic transmit_packets.",
    ),
    Metric::counter(
        "node_network_transmit_errs_total",
        "Network device statistic transmit_errs.",
    ),
    Metric::counter(
        "node_network_transmit_drop_total",
        "Network device statistic transmit_drop.",
    ),
    Metric::gauge(
        "node_network_up",
        "Value is 1 if operstate is 'up', 0 otherwise.",
    ),
    Metric::gauge(
        "node_network_speed_bytes",
        "Speed of the link, in bytes a second.",
    )
    .quantum(125_000, 1),
];

/// How many of the metrics come from `/proc/net/dev`.
const COUNTERS: usize = 8;

type Counters = [i64; COUNTERS];

/// The collector of network interfaces.
#[derive(Debug)]
pub(crate) struct Network {
    file: KernelFile,
    class: PathBuf,
    interfaces: Slots<Interface>,
    /// Virtual interfaces without a packet so far: remembered for a minute, so that they cost nothing.
    idle: Vec<Vec<u8>>,
    reads: u32,
}

#[derive(Debug)]
struct Interface {
    counters: Counters,
    operstate: KernelFile,
    up: i64,
    speed_path: PathBuf,
    speed_mbit: i64,
    speed_known: bool,
    reads: u32,
}

impl Network {
    /// Names the files.
    pub(crate) fn new(roots: &Roots) -> Network {
        Network {
            file: KernelFile::new(roots.proc.join("net/dev")),
            class: roots.sys.join("class/net"),
            interfaces: Slots::new(INTERFACES_MAX),
            idle: Vec::new(),
            reads: 0,
        }
    }
}

impl Collector for Network {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let text = self.file.read()?;
        let mut changed = false;
        if self.reads.is_multiple_of(SPEED_READS) {
            self.idle.clear();
        }
        self.reads = self.reads.wrapping_add(1);
        self.interfaces.begin();
        for (name, counters) in lines(text).filter_map(parse) {
            let path = || self.class.join(String::from_utf8_lossy(name).as_ref());
            let silent = counters[1] == 0 && counters[5] == 0;
            if silent && !self.interfaces.has(name) {
                if self.idle.iter().any(|idle| idle == name) {
                    continue;
                }
                if !path().join("device").exists() {
                    self.idle.push(name.to_vec());
                    continue;
                }
            }
            if let Some(interface) = self.interfaces.see(name, || Interface::new(&path())) {
                interface.counters = counters;
                changed |= interface.look();
            }
        }
        changed |= self.interfaces.end();
        if self.interfaces.refused() > 0 {
            let more = self.interfaces.refused();
            out.complaints.push(format!(
                "more than {INTERFACES_MAX} interfaces: {more} are not watched"
            ));
        }
        for ((_, seen), (_, known)) in self.interfaces.listed().zip(self.interfaces.known()) {
            let absent = ([MISSING; COUNTERS], MISSING, MISSING);
            let (counters, up, speed) =
                seen.map_or(absent, |seen| (seen.counters, seen.up, seen.speed_mbit));
            out.row.extend(counters);
            out.row.push(up);
            if known.speed_known {
                out.row.push(speed);
            }
        }
        Ok(if changed { Shape::Changed } else { Shape::Same })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        for (name, interface) in self.interfaces.known() {
            let name = String::from_utf8_lossy(name);
            let shown = if interface.speed_known {
                METRICS.len()
            } else {
                METRICS.len() - 1
            };
            let shown = METRICS.iter().take(shown);
            series.extend(shown.map(|metric| metric.series().label("device", &name)));
        }
    }
}

impl Interface {
    fn new(path: &std::path::Path) -> Interface {
        Interface {
            counters: [MISSING; COUNTERS],
            operstate: KernelFile::new(path.join("operstate")),
            up: MISSING,
            speed_path: path.join("speed"),
            speed_mbit: MISSING,
            speed_known: false,
            reads: 0,
        }
    }

    /// Reads state and speed; says whether the speed is known for the first time.
    fn look(&mut self) -> bool {
        // An interface that goes away between two reads has no state: that is no failure.
        self.up = self
            .operstate
            .read()
            .map_or(MISSING, |text| i64::from(trimmed(text) == b"up"));
        if self.reads.is_multiple_of(SPEED_READS) {
            let speed = std::fs::read(&self.speed_path).ok();
            self.speed_mbit = speed.as_deref().map_or(MISSING, parse_speed);
        }
        self.reads = self.reads.wrapping_add(1);
        let news = self.speed_mbit != MISSING && !self.speed_known;
        self.speed_known |= news;
        news
    }
}

/// A line of `/proc/net/dev`, unless its interface is not shown.
fn parse(line: &[u8]) -> Option<(&[u8], Counters)> {
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let name = trimmed(&line[..colon]);
    if is_ignored(name) {
        return None;
    }
    let mut numbers = [0; 12];
    let mut fields = fields(&line[colon + 1..]);
    for value in &mut numbers {
        *value = number(fields.next()?)?;
    }
    let [
        rx,
        rx_packets,
        rx_errs,
        rx_drop,
        _,
        _,
        _,
        _,
        tx,
        tx_packets,
        tx_errs,
        tx_drop,
    ] = numbers;
    let counters = [
        rx / 1024,
        rx_packets,
        rx_errs,
        rx_drop,
        tx / 1024,
        tx_packets,
        tx_errs,
        tx_drop,
    ];
    Some((name, counters.map(raw)))
}

fn is_ignored(name: &[u8]) -> bool {
    name.is_empty()
        || name == b"lo"
        || PREFIXES_IGNORED
            .iter()
            .any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// Megabits a second; drivers say -1, 0 or 4294967295 where they do not know.
fn parse_speed(text: &[u8]) -> i64 {
    match number(trimmed(text)) {
        Some(0 | 0xffff_ffff) | None => MISSING,
        Some(mbit) => raw(mbit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table() {
        let want = [63781, 4405, 1, 2, 447, 3255, 3, 4];
        let numbers = "65311967 4405 1 2 0 0 0 9 458253 3255 3 4 0 0 0 0";
        for (line, want) in [
            (format!("  eth0: {numbers}"), Some(want)),
            (format!("eth0:{numbers}"), Some(want)),
            (format!("eth0:1: {numbers}"), Some(want)),
            (format!("    lo: {numbers}"), None),
            (format!("veth12ab: {numbers}"), None),
            (format!(": {numbers}"), None),
            ("eth0: 1 2 3".to_owned(), None),
            ("eth0: 1 2 3 4 5 6 7 8 x 10 11 12".to_owned(), None),
            ("Inter-|   Receive     |  Transmit".to_owned(), None),
        ] {
            assert_eq!(
                parse(line.as_bytes()).map(|(_, counters)| counters),
                want,
                "{line}"
            );
        }
    }

    #[test]
    fn speeds() {
        for (text, want) in [
            ("1000\n", 1000),
            ("-1\n", MISSING),
            ("4294967295\n", MISSING),
            ("0\n", MISSING),
            ("", MISSING),
        ] {
            assert_eq!(parse_speed(text.as_bytes()), want, "{text}");
        }
    }
}
