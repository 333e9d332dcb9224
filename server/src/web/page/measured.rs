//! What the charts of a host show: which series stand for CPU, memory, disks and so on, and how they are put together.
//!
//! Samples of one tick carry one time, so series are put together sample by sample before anything is thinned: a mean of
//! sums, never a sum of means.

use std::collections::BTreeMap;

use dawnwatch_proto::quantity::Unit;
use dawnwatch_proto::untrusted::term;
use dawnwatch_proto::{HostId, Series};
use jiff::Timestamp;

use super::chart::{Line, Plot, slots};
use crate::history::History;
use crate::history::summary::draw::Wanted;

/// Most series that are put together into one line: a host with a hundred disks is shown by the first of them.
const SERIES_MAX: usize = 64;

/// Most lines of one chart: more cannot be told apart.
const LINES_MAX: usize = 4;

/// Values of one line by time, Unix milliseconds.
pub(super) type Samples = Vec<(i64, f64)>;

/// One host's history over a span.
pub(super) struct Measured<'a> {
    history: &'a History,
    hosts: &'a [HostId],
    known: Vec<Series>,
    from: Timestamp,
    to: Timestamp,
    slots: usize,
    damaged: Vec<String>,
}

/// The share of time that the CPUs did something, from every sample of a span.
pub(super) fn cpu_busy(history: &History, host: HostId, from: Timestamp, to: Timestamp) -> Samples {
    Measured::new(history, &[host], (from, to), 1).busy()
}

impl<'a> Measured<'a> {
    /// The history of a host, which stands with those that it was before, over `[from, to)`, to be drawn in so many slots.
    pub(super) fn new(
        history: &'a History,
        hosts: &'a [HostId],
        (from, to): (Timestamp, Timestamp),
        slots: usize,
    ) -> Measured<'a> {
        let known = history.series_within(hosts, from, to);
        Measured {
            history,
            hosts,
            known,
            from,
            to,
            slots,
            damaged: Vec::new(),
        }
    }

    /// Everything that has a chart, and the parts of the span that could not be read.
    pub(super) fn plots(mut self) -> (Vec<Plot>, Vec<String>) {
        let made = [
            self.cpu(),
            self.memory(),
            self.filesystems(),
            self.disks(),
            self.network(),
            self.pressure(),
            self.ping(),
            self.temperature(),
            self.load(),
        ];
        let mut damaged = self.damaged;
        damaged.sort();
        damaged.dedup();
        (made.into_iter().flatten().collect(), damaged)
    }

    fn find(&self, wanted: impl Fn(&Series) -> bool) -> Vec<Series> {
        self.known
            .iter()
            .filter(|series| wanted(series))
            .take(SERIES_MAX)
            .cloned()
            .collect()
    }

    fn named(&self, name: &str) -> Vec<Series> {
        self.find(|series| series.name == name)
    }

    /// Gauges as they are, counters as their rate a second.
    fn read(&mut self, series: &Series) -> Samples {
        let drawn = self.history.draw(&Wanted {
            hosts: self.hosts,
            series,
            from: self.from,
            to: self.to,
            // All that there are: slots are made of them afterwards.
            points: usize::MAX,
        });
        self.damaged.extend(drawn.damaged);
        let known = drawn.points.into_iter();
        known
            .filter_map(|(at, value)| Some((at.as_millisecond(), value?)))
            .collect()
    }

    fn read_all(&mut self, series: &[Series]) -> Vec<Samples> {
        series.iter().map(|one| self.read(one)).collect()
    }

    /// The sum of some series of one name.
    fn sum(&mut self, series: &[Series]) -> Samples {
        let read = self.read_all(series);
        together(&read, |values| values.iter().sum())
    }

    fn plot(
        &self,
        title: &str,
        unit: Unit,
        top: Option<f64>,
        lines: Vec<(String, Samples)>,
    ) -> Option<Plot> {
        let lines: Vec<Line> = lines
            .into_iter()
            .filter(|(_, samples)| !samples.is_empty())
            .take(LINES_MAX)
            .map(|(name, samples)| Line {
                name,
                slots: slots(&samples, self.from, self.to, self.slots),
            })
            .collect();
        (!lines.is_empty()).then(|| Plot {
            title: title.to_owned(),
            unit,
            from: self.from,
            to: self.to,
            lines,
            bound: None,
            shades: Vec::new(),
            top,
        })
    }

    fn cpu_mode(&mut self, mode: &str) -> Samples {
        let series =
            self.find(|one| one.name == "node_cpu_seconds_total" && one.get("mode") == Some(mode));
        let read = self.read_all(&series);
        together(&read, mean)
    }

    /// One less the share of time that the CPUs were idle or waited for disks.
    fn busy(&mut self) -> Samples {
        let all = self.find(|one| one.name == "node_cpu_seconds_total");
        if all.iter().any(|one| one.get("cpu") == Some("all")) {
            return self.busy_of_all(&all);
        }
        let (idle, waiting) = (self.cpu_mode("idle"), self.cpu_mode("iowait"));
        let rest = together(&[idle, waiting], |values| values.iter().sum());
        rest.into_iter()
            .map(|(at, rest)| (at, (1.0 - rest).clamp(0.0, 1.0)))
            .collect()
    }

    /// Where one series a mode stands for all CPUs: their number is what all modes together take.
    fn busy_of_all(&mut self, modes: &[Series]) -> Samples {
        let of_all: Vec<Series> = modes
            .iter()
            .filter(|one| one.get("cpu") == Some("all"))
            .cloned()
            .collect();
        let total = self.sum(&of_all);
        let rest: Vec<Series> = of_all
            .into_iter()
            .filter(|one| matches!(one.get("mode"), Some("idle" | "iowait")))
            .collect();
        let rest = self.sum(&rest);
        let share = |values: &[f64]| {
            if values[1] > 0.0 {
                (1.0 - values[0] / values[1]).clamp(0.0, 1.0)
            } else {
                0.0
            }
        };
        pairs(&rest, &total, |rest, total| share(&[rest, total]))
    }

    fn cpu(&mut self) -> Option<Plot> {
        let mut lines = vec![("busy".to_owned(), self.busy())];
        if !self.known.iter().any(|one| one.get("cpu") == Some("all")) {
            for (mode, name) in [
                ("iowait", "waiting for disks"),
                ("steal", "stolen by other guests"),
            ] {
                let samples = self.cpu_mode(mode);
                if samples.iter().any(|(_, value)| *value > 0.01) {
                    lines.push((name.to_owned(), samples));
                }
            }
        }
        self.plot("CPU", Unit::Ratio, Some(1.0), lines)
    }

    fn one(&mut self, name: &str) -> Samples {
        let series = self.named(name);
        self.sum(&series)
    }

    fn memory(&mut self) -> Option<Plot> {
        let used = |part: f64, whole: f64| if whole > 0.0 { 1.0 - part / whole } else { 0.0 };
        let memory = pairs(
            &self.one("node_memory_MemAvailable_bytes"),
            &self.one("node_memory_MemTotal_bytes"),
            used,
        );
        let swap = pairs(
            &self.one("node_memory_SwapFree_bytes"),
            &self.one("node_memory_SwapTotal_bytes"),
            used,
        );
        let mut lines = vec![("memory".to_owned(), memory)];
        if swap.iter().any(|(_, value)| *value > 0.0) {
            lines.push(("swap".to_owned(), swap));
        }
        self.plot("Memory in use", Unit::Ratio, Some(1.0), lines)
    }

    fn filesystems(&mut self) -> Option<Plot> {
        let mut lines = Vec::new();
        for free in self.named("node_filesystem_free_bytes") {
            let beside = |name: &str| Series {
                name: name.to_owned(),
                ..free.clone()
            };
            let (size, avail) = (
                self.read(&beside("node_filesystem_size_bytes")),
                self.read(&beside("node_filesystem_avail_bytes")),
            );
            let free_bytes = self.read(&free);
            // As df reckons it: what root keeps back is neither used nor there.
            let used = pairs(&free_bytes, &size, |free, size| size - free);
            let share = pairs(&used, &avail, |used, avail| {
                if used + avail > 0.0 {
                    used / (used + avail)
                } else {
                    0.0
                }
            });
            let mount = free.get("mountpoint").unwrap_or("?");
            lines.push((term(mount), share));
        }
        let last = |samples: &Samples| samples.last().map_or(0.0, |(_, value)| *value);
        lines.sort_by(|a, b| last(&b.1).total_cmp(&last(&a.1)).then(a.0.cmp(&b.0)));
        let title = match lines.len().saturating_sub(LINES_MAX) {
            0 => "Filesystems in use".to_owned(),
            more => format!("Filesystems in use: the {LINES_MAX} fullest, {more} more"),
        };
        self.plot(&title, Unit::Ratio, Some(1.0), lines)
    }

    fn disks(&mut self) -> Option<Plot> {
        let lines = vec![
            ("read".to_owned(), self.one("node_disk_read_bytes_total")),
            (
                "written".to_owned(),
                self.one("node_disk_written_bytes_total"),
            ),
        ];
        self.plot("Disks", Unit::BytesRate, None, lines)
    }

    fn network(&mut self) -> Option<Plot> {
        let mut direction = |name: &str| {
            let series = self.find(|one| one.name == name && one.get("device") != Some("lo"));
            self.sum(&series)
        };
        let received = direction("node_network_receive_bytes_total");
        let sent = direction("node_network_transmit_bytes_total");
        self.plot(
            "Network",
            Unit::BytesRate,
            None,
            vec![("received".to_owned(), received), ("sent".to_owned(), sent)],
        )
    }

    fn pressure(&mut self) -> Option<Plot> {
        let lines = vec![
            (
                "waiting for CPU".to_owned(),
                self.one("node_pressure_cpu_waiting_seconds_total"),
            ),
            (
                "waiting for disks".to_owned(),
                self.one("node_pressure_io_waiting_seconds_total"),
            ),
            (
                "waiting for memory".to_owned(),
                self.one("node_pressure_memory_waiting_seconds_total"),
            ),
        ];
        self.plot(
            "Pressure: share of time that something waits",
            Unit::TimeShare,
            None,
            lines,
        )
    }

    fn ping(&mut self) -> Option<Plot> {
        let lines = self.each("dawnwatch_ping_rtt_avg_seconds", &["target", "role"]);
        let title = titled(
            "Ping, round trip",
            self.named("dawnwatch_ping_rtt_avg_seconds").len(),
        );
        self.plot(&title, Unit::Seconds, None, lines)
    }

    fn temperature(&mut self) -> Option<Plot> {
        let lines = self.each("node_hwmon_temp_celsius", &["chip", "sensor"]);
        let title = titled(
            "Temperature, degrees Celsius",
            self.named("node_hwmon_temp_celsius").len(),
        );
        self.plot(&title, Unit::Count, None, lines)
    }

    fn load(&mut self) -> Option<Plot> {
        let lines = vec![("load".to_owned(), self.one("node_load1"))];
        self.plot("Load, one minute", Unit::Count, None, lines)
    }

    /// A line for each series of a name, called by its labels.
    fn each(&mut self, name: &str, labels: &[&str]) -> Vec<(String, Samples)> {
        let series: Vec<Series> = self.named(name).into_iter().take(LINES_MAX).collect();
        let mut lines = Vec::new();
        for one in series {
            let said: Vec<String> = labels
                .iter()
                .filter_map(|label| one.get(label))
                .map(term)
                .collect();
            lines.push((said.join(" "), self.read(&one)));
        }
        lines
    }
}

fn titled(title: &str, all: usize) -> String {
    match all.saturating_sub(LINES_MAX) {
        0 => title.to_owned(),
        more => format!("{title}: {LINES_MAX}, {more} more"),
    }
}

/// Puts samples of the same moment together; what some lack is put together from the others.
fn together(all: &[Samples], fold: impl Fn(&[f64]) -> f64) -> Samples {
    match all {
        [] => return Vec::new(),
        [one] => {
            return one
                .iter()
                .map(|(at, value)| (*at, fold(&[*value])))
                .collect();
        }
        _ => {}
    }
    let mut moments: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (at, value) in all.iter().flatten() {
        moments.entry(*at).or_default().push(*value);
    }
    moments
        .into_iter()
        .map(|(at, values)| (at, fold(&values)))
        .collect()
}

/// Puts two lines together where both have a sample.
fn pairs(a: &Samples, b: &Samples, fold: impl Fn(f64, f64) -> f64) -> Samples {
    let mut out = Vec::with_capacity(a.len().min(b.len()));
    let mut rest = b.iter().peekable();
    for (at, one) in a {
        while rest.peek().is_some_and(|(other, _)| other < at) {
            rest.next();
        }
        if let Some((_, other)) = rest.next_if(|(other, _)| other == at) {
            out.push((*at, fold(*one, *other)));
        }
    }
    out
}

fn mean(values: &[f64]) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a few CPUs")]
    let count = values.len() as f64;
    values.iter().sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::history::head::Row;
    use dawnwatch_proto::{Kind, Schema};
    use dawnwatch_segment::{Disk, RealDisk};

    #[test]
    fn only_samples_of_one_moment_are_put_together() {
        let (a, b) = (
            vec![(0, 1.0), (10, 2.0), (20, 3.0)],
            vec![(0, 10.0), (15, 20.0), (20, 30.0)],
        );
        assert_eq!(pairs(&a, &b, |a, b| a + b), [(0, 11.0), (20, 33.0)]);
        let sums = together(&[a, b], |values| values.iter().sum());
        assert_eq!(sums, [(0, 11.0), (10, 2.0), (15, 20.0), (20, 33.0)]);
        assert!(together(&[], mean).is_empty());
    }

    #[test]
    fn a_disk_that_died_is_in_the_picture_of_its_last_night() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (history, _) = History::open(&disk, dir.path()).unwrap();
        let of = |mounts: &[&str]| {
            let names =
                ["free", "size", "avail"].map(|what| format!("node_filesystem_{what}_bytes"));
            let series = mounts.iter().flat_map(|mount| {
                let gauge =
                    |name: &String| Series::new(name, Kind::Gauge).label("mountpoint", mount);
                names.iter().map(gauge).collect::<Vec<_>>()
            });
            Schema::new(series.collect())
        };
        // Under the name that it had until it was merged, then as what it is, without the disk.
        let (old, new) = (HostId(7), HostId(8));
        for (host, schema, seconds) in [
            (new, of(&["/", "/data"]), 0..100),
            (old, of(&["/"]), 100..300),
        ] {
            history.schema(host, &schema).unwrap();
            for second in seconds {
                let values = [25, 100, 75].repeat(schema.series().len() / 3);
                let row = Row {
                    time_ms: second * 1_000,
                    schema: schema.id(),
                    values: values.into(),
                    position: second.unsigned_abs() + 1,
                };
                history.push(host, row, 0);
            }
        }
        let at = |s| Timestamp::from_second(s).unwrap();
        let drawn = |hosts: &[HostId]| {
            let (plots, _) = Measured::new(&history, hosts, (at(0), at(300)), 3).plots();
            let lines = plots[0].lines.iter();
            lines.map(|line| line.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(&[old, new]), ["/", "/data"]);
        assert_eq!(drawn(&[old]), ["/"]);
        history.schema(new, &of(&["/"])).unwrap();
        assert_eq!(drawn(&[new]), ["/", "/data"]);
    }
}
