//! A host of a story: what it would measure.

use std::collections::{BTreeMap, BTreeSet};

use dawnwatch_proto::probe::{self, Role};
use dawnwatch_proto::{HostId, Item, Kind, MISSING, Schema, Series};
use jiff::Timestamp;

use crate::input::HostCard;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What a host has that is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Equipment<'a> {
    /// Mount points, by commas.
    pub(super) disks: &'a str,
    /// Units of systemd, by commas.
    pub(super) units: &'a str,
    /// A sensor, an array of two disks, tables that fill up, a clock that a time server disciplines.
    pub(super) hardware: bool,
}

impl Default for Equipment<'_> {
    fn default() -> Self {
        Equipment {
            disks: "/",
            units: "",
            hardware: false,
        }
    }
}

#[derive(Debug)]
pub(super) struct HostModel {
    pub(super) id: HostId,
    pub(super) joined: Timestamp,
    pub(super) up: bool,
    /// The machine itself is off: it answers nobody.
    pub(super) off: bool,
    pub(super) cut: bool,
    pub(super) draining: bool,
    pub(super) clock_ms: i64,
    pub(super) boot: u32,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) spool: Vec<Item>,
    pub(super) schema: Schema,
    pub(super) values: BTreeMap<String, f64>,
    pub(super) counters: BTreeMap<String, f64>,
    /// Loss owed to each target, in probes.
    owed: BTreeMap<String, f64>,
    /// Shapes of its log lines, by its own number.
    pub(super) shapes: BTreeMap<String, u32>,
}

impl HostModel {
    pub(super) fn new(id: HostId, joined: Timestamp, what: Equipment<'_>) -> HostModel {
        let gauge = |name: &str| Series::new(name, Kind::Gauge);
        let mut series = vec![
            gauge("node_memory_MemTotal_bytes").quantum(1024, 1),
            gauge("node_memory_MemAvailable_bytes").quantum(1024, 1),
            gauge("node_memory_SwapTotal_bytes").quantum(1024, 1),
            gauge("node_memory_SwapFree_bytes").quantum(1024, 1),
        ];
        for mode in ["user", "idle"] {
            let cpu = Series::new("node_cpu_seconds_total", Kind::Counter);
            series.push(cpu.label("cpu", "0").label("mode", mode).quantum(1, 100));
        }
        for disk in what.disks.split(',') {
            for name in ["size_bytes", "avail_bytes", "free_bytes"] {
                let bytes = gauge(&format!("node_filesystem_{name}")).quantum(1024, 1);
                series.push(bytes.label("mountpoint", disk));
            }
            let readonly = gauge("node_filesystem_readonly");
            series.push(readonly.label("mountpoint", disk));
        }
        series.extend(of_units(what.units));
        if what.hardware {
            series.extend(of_hardware());
        }
        HostModel {
            id,
            joined,
            up: false,
            off: false,
            cut: false,
            draining: false,
            clock_ms: 0,
            boot: 0,
            epoch: 0,
            seq: 0,
            spool: Vec::new(),
            schema: Schema::new(series),
            values: BTreeMap::new(),
            counters: BTreeMap::new(),
            owed: BTreeMap::new(),
            shapes: BTreeMap::new(),
        }
    }

    pub(super) fn card(&self, name: &str, retired: bool) -> HostCard {
        let name = name.to_owned();
        HostCard {
            id: self.id,
            name,
            joined: self.joined,
            labels: Vec::new(),
            retired,
            aliases: Vec::new(),
            like: Vec::new(),
            merged: None,
            erased: false,
        }
    }

    pub(super) fn value(&self, name: &str, default: f64) -> f64 {
        self.values.get(name).copied().unwrap_or(default)
    }

    /// A value of one unit: `failed:a.service`.
    fn of(&self, what: &str, unit: Option<&str>) -> f64 {
        self.value(&format!("{what}:{}", unit.unwrap_or_default()), 0.0)
    }

    /// Ten seconds of counters.
    pub(super) fn pass(&mut self, off: &BTreeSet<String>) {
        self.probe(off);
        let cpu = self.value("cpu", 0.05);
        *self.counters.entry("user".to_owned()).or_default() += cpu * 10.0;
        *self.counters.entry("idle".to_owned()).or_default() += (1.0 - cpu) * 10.0;
    }

    /// Pings a target from here on.
    pub(super) fn ping(&mut self, role: Role, target: &str) {
        let mut series = self.schema.series().to_vec();
        for name in [
            probe::SUCCESS,
            probe::RTT_MIN,
            probe::RTT_AVG,
            probe::RTT_MAX,
        ] {
            let gauge = Series::new(name, Kind::Gauge).label("target", target);
            let div = if name == probe::SUCCESS { 1 } else { 10_000 };
            series.push(gauge.label("role", role.word()).quantum(1, div));
        }
        for name in [probe::SENT, probe::LOST] {
            let counter = Series::new(name, Kind::Counter).label("target", target);
            series.push(counter.label("role", role.word()));
        }
        self.schema = Schema::new(series);
    }

    /// Five probes of every target.
    fn probe(&mut self, off: &BTreeSet<String>) {
        let pinged = |series: &&Series| series.name == probe::SENT;
        let targets: Vec<String> = self
            .schema
            .series()
            .iter()
            .filter(pinged)
            .filter_map(|series| series.get("target").map(str::to_owned))
            .collect();
        for target in targets {
            let share = if off.contains(&target) {
                1.0
            } else {
                self.value(&format!("loss:{target}"), 0.0)
            };
            let owed = self.owed.entry(target.clone()).or_default();
            *owed += share * 5.0;
            let lost = owed.floor();
            *owed -= lost;
            *self.counters.entry(format!("sent:{target}")).or_default() += 5.0;
            *self.counters.entry(format!("lost:{target}")).or_default() += lost;
            let answers = if lost < 5.0 { 1.0 } else { 0.0 };
            self.counters.insert(format!("answers:{target}"), answers);
        }
    }

    /// The value of a ping's series; none where nothing answered.
    fn pinged(&self, series: &Series) -> Option<f64> {
        let target = series.get("target")?;
        let counter = |what: &str| self.counters.get(&format!("{what}:{target}")).copied();
        let answers = counter("answers").unwrap_or(0.0);
        match series.name.as_str() {
            probe::SUCCESS => counter("answers"),
            probe::SENT => Some(counter("sent").unwrap_or(0.0)),
            probe::LOST => Some(counter("lost").unwrap_or(0.0)),
            _ => (answers > 0.5).then(|| self.value(&format!("rtt:{target}"), 0.0004)),
        }
    }

    pub(super) fn row(&self) -> Vec<i64> {
        let raw = |series: &Series| -> f64 {
            let disk = series.get("mountpoint").unwrap_or("/");
            match series.name.as_str() {
                "node_memory_MemTotal_bytes" => 16.0 * GIB,
                "node_memory_MemAvailable_bytes" => 16.0 * GIB * (1.0 - self.value("memory", 0.4)),
                "node_memory_SwapTotal_bytes" => 2.0 * GIB,
                "node_memory_SwapFree_bytes" => 2.0 * GIB * (1.0 - self.value("swap", 0.0)),
                "node_filesystem_size_bytes" => 50.0 * GIB,
                "node_filesystem_readonly" => self.value(&format!("readonly:{disk}"), 0.0),
                "node_cpu_seconds_total" => {
                    let mode = series.get("mode").unwrap_or("idle");
                    self.counters.get(mode).copied().unwrap_or(0.0)
                }
                "node_systemd_unit_state" => self.of("failed", series.get("name")),
                "dawnwatch_unit_restarts_total" => self.of("restarts", series.get("unit")),
                "dawnwatch_unit_oom_kills_total" => self.of("oom", series.get("unit")),
                "node_vmstat_oom_kill" => self.value("oom", 0.0),
                "node_hwmon_temp_celsius" => self.value("temperature", 45.0),
                "node_hwmon_temp_crit_celsius" | "node_nf_conntrack_entries_limit" => 100.0,
                "node_filefd_maximum" => 1_000.0,
                "node_nf_conntrack_entries" => 100.0 * self.value("connections", 0.1),
                "node_filefd_allocated" => 1_000.0 * self.value("files", 0.1),
                "node_md_disks" => self.value("array", 2.0),
                "node_md_disks_required" => 2.0,
                "node_timex_sync_status" => self.value("synced", 1.0),
                _ => 50.0 * GIB * (1.0 - self.value(disk, 0.3)),
            }
        };
        let integer = |series: &Series| {
            let value = match series.get("target") {
                Some(_) => self.pinged(series),
                None => Some(raw(series)),
            };
            let Some(value) = value else {
                return MISSING;
            };
            let value = value * f64::from(series.div) / f64::from(series.mul);
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a made-up value far from 2^63"
            )]
            let integer = value.round() as i64;
            integer
        };
        self.schema.series().iter().map(integer).collect()
    }
}

fn of_units(units: &str) -> Vec<Series> {
    let mut series = Vec::new();
    for unit in units.split(',').filter(|unit| !unit.is_empty()) {
        let failed = Series::new("node_systemd_unit_state", Kind::Gauge);
        series.push(failed.label("name", unit).label("state", "failed"));
        for name in [
            "dawnwatch_unit_restarts_total",
            "dawnwatch_unit_oom_kills_total",
        ] {
            series.push(Series::new(name, Kind::Counter).label("unit", unit));
        }
    }
    series
}

fn of_hardware() -> Vec<Series> {
    let gauge = |name: &str| Series::new(name, Kind::Gauge);
    let sensor = |name: &str| gauge(name).label("chip", "cpu").label("sensor", "temp1");
    let array = |name: &str| gauge(name).label("device", "md0");
    vec![
        Series::new("node_vmstat_oom_kill", Kind::Counter),
        sensor("node_hwmon_temp_celsius"),
        sensor("node_hwmon_temp_crit_celsius"),
        array("node_md_disks").label("state", "active"),
        array("node_md_disks_required"),
        gauge("node_nf_conntrack_entries"),
        gauge("node_nf_conntrack_entries_limit"),
        gauge("node_filefd_allocated"),
        gauge("node_filefd_maximum"),
        gauge("node_timex_sync_status"),
    ]
}
