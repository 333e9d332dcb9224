//! What the rules measure: pure functions of a row, and of the row before it where a counter is behind it.
//!
//! The columns of a schema are found once, into a [`Plan`]; a tick then costs array look-ups only.
//! Where a column is missing, a counter fell or a divisor is zero there is no value: never a guess, never NaN.

use std::collections::{BTreeMap, BTreeSet};

use dawnwatch_proto::probe;
use dawnwatch_proto::{MISSING, Schema, Series};
use serde::{Deserialize, Serialize};

use crate::config::Measure;
use crate::detect::growth::Growths;
use crate::detect::link::Pings;
use crate::detect::subjects::Subjects;
use crate::words;

/// Rates over a longer time than this would smear an outage into a mean: no value.
const RATE_MS_MAX: i64 = 60_000;
/// File systems judged on one host: as many as the bound on series allows at seven series each.
const FILESYSTEMS_MAX: usize = 256;

/// A column, and what turns its raw integer into a value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    index: u32,
    scale: f64,
}

/// The columns of one mount point.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Filesystem {
    pub(crate) mount: String,
    /// Labels as Prometheus writes them, for naming the series.
    labels: String,
    size: Option<Column>,
    avail: Option<Column>,
    free: Option<Column>,
    files: Option<Column>,
    files_free: Option<Column>,
    readonly: Option<Column>,
}

/// The columns that the rules need, found in a schema once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Columns that a row must have.
    pub(crate) width: usize,
    pub(crate) filesystems: Vec<Filesystem>,
    memory_total: Option<Column>,
    memory_available: Option<Column>,
    swap_total: Option<Column>,
    swap_free: Option<Column>,
    cpu_busy: Vec<Column>,
    cpu_rest: Vec<Column>,
    cpu_waiting: Option<Column>,
    memory_stalled: Option<Column>,
    io_stalled: Option<Column>,
    load1: Option<Column>,
    pub(crate) subjects: Subjects,
    pub(crate) pings: Pings,
}

/// A row and the one before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) row: &'a [i64],
    /// The row before, of the same schema, and how long before it was.
    pub(crate) before: Option<(&'a [i64], i64)>,
}

/// What is known of a host beside a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// Mount points that were writable once.
    pub(crate) writable: &'a BTreeSet<String>,
    /// What counters grew by of late; none where the row is a heartbeat's, which tells no more than the ticks.
    pub(crate) growths: Option<&'a Growths>,
}

impl Column {
    /// A column that no row has.
    pub(crate) const NONE: Column = Column {
        index: u32::MAX,
        scale: 1.0,
    };

    pub(crate) fn read(self, row: &[i64]) -> Option<f64> {
        let raw = *row.get(usize::try_from(self.index).ok()?)?;
        #[allow(
            clippy::cast_precision_loss,
            reason = "a value is judged, never counted on"
        )]
        let value = raw as f64 * self.scale;
        (raw != MISSING).then_some(value)
    }

    /// How much a counter grew; none where it fell or either end is missing.
    pub(crate) fn growth(self, rows: Rows<'_>) -> Option<f64> {
        let (before, _) = rows.before?;
        let growth = self.read(rows.row)? - self.read(before)?;
        (growth >= 0.0).then_some(growth)
    }

    /// How much a counter of seconds grew in each second.
    fn rate(self, rows: Rows<'_>) -> Option<f64> {
        let (_, ms) = rows.before?;
        if ms <= 0 || ms > RATE_MS_MAX {
            return None;
        }
        let seconds = f64::from(i32::try_from(ms).ok()?) / 1_000.0;
        Some((self.growth(rows)? / seconds).min(1.0))
    }
}

impl Plan {
    /// Finds the columns.
    pub(crate) fn new(schema: &Schema) -> Plan {
        let mut plan = Plan {
            width: schema.series().len(),
            ..Plan::default()
        };
        let mut mounts: BTreeMap<&str, Filesystem> = BTreeMap::new();
        for (index, series) in schema.series().iter().enumerate() {
            let Ok(index) = u32::try_from(index) else {
                break;
            };
            let scale = f64::from(series.mul) / f64::from(series.div.max(1));
            let column = Column { index, scale };
            if let Some(mount) = series.get("mountpoint") {
                if mounts.len() < FILESYSTEMS_MAX || mounts.contains_key(mount) {
                    let filesystem = mounts.entry(mount).or_default();
                    mount.clone_into(&mut filesystem.mount);
                    filesystem.take(series, column);
                }
            } else if !plan.pings.take(series, column) {
                plan.take(series, column);
            }
        }
        plan.filesystems = mounts.into_values().collect();
        plan
    }

    fn take(&mut self, series: &Series, column: Column) {
        let slot = match series.name.as_str() {
            "node_memory_MemTotal_bytes" => &mut self.memory_total,
            "node_memory_MemAvailable_bytes" => &mut self.memory_available,
            "node_memory_SwapTotal_bytes" => &mut self.swap_total,
            "node_memory_SwapFree_bytes" => &mut self.swap_free,
            "node_pressure_cpu_waiting_seconds_total" => &mut self.cpu_waiting,
            "node_pressure_memory_stalled_seconds_total" => &mut self.memory_stalled,
            "node_pressure_io_stalled_seconds_total" => &mut self.io_stalled,
            "node_load1" => &mut self.load1,
            "node_cpu_seconds_total" => {
                match series.get("mode") {
                    Some("user" | "nice" | "system" | "irq" | "softirq" | "steal") => {
                        self.cpu_busy.push(column);
                    }
                    Some("idle" | "iowait") => self.cpu_rest.push(column),
                    Some(_) | None => {}
                }
                return;
            }
            _ => return self.subjects.take(series, column),
        };
        *slot = Some(column);
    }

    /// Calls back with each thing the measure applies to and its value at this row.
    pub(crate) fn each(
        &self,
        measure: Measure,
        rows: Rows<'_>,
        known: Known<'_>,
        mut found: impl FnMut(&str, f64),
    ) {
        let row = rows.row;
        let whole_host = match measure {
            Measure::FilesystemUsed => return self.on_mounts(|f| f.used(row), found),
            Measure::InodesUsed => return self.on_mounts(|f| f.inodes_used(row), found),
            Measure::FilesystemReadonly => {
                return self.on_mounts(|f| f.turned_readonly(row, known.writable), found);
            }
            Measure::MemoryUsed => self.memory_used(row),
            Measure::SwapUsed => self.swap_used(row),
            Measure::CpuBusy => self.cpu_busy(rows),
            Measure::CpuPressure => self.cpu_waiting.and_then(|c| c.rate(rows)),
            Measure::MemoryPressure => self.memory_stalled.and_then(|c| c.rate(rows)),
            Measure::IoPressure => self.io_stalled.and_then(|c| c.rate(rows)),
            Measure::UnitFailed
            | Measure::UnitRestarts
            | Measure::OomKills
            | Measure::Temperature
            | Measure::TemperatureOfCritical
            | Measure::ClockUnsynced
            | Measure::RaidMissing
            | Measure::ConntrackUsed
            | Measure::FileHandlesUsed => {
                return self.subjects.each(measure, row, known.growths, found);
            }
            // Judged elsewhere, over time, and over more than one host.
            Measure::NewLogLine
            | Measure::LogRate
            | Measure::LogSeverity
            | Measure::Silent
            | Measure::PingLoss
            | Measure::TargetDown
            | Measure::JournalWait
            | Measure::OutboxAge
            | Measure::DataDirectoryUsed
            | Measure::ServerRestarts => None,
        };
        if let Some(value) = whole_host {
            found("", value);
        }
    }

    fn on_mounts(
        &self,
        value: impl Fn(&Filesystem) -> Option<f64>,
        mut found: impl FnMut(&str, f64),
    ) {
        for filesystem in &self.filesystems {
            if let Some(value) = value(filesystem) {
                found(&filesystem.mount, value);
            }
        }
    }

    fn memory_used(&self, row: &[i64]) -> Option<f64> {
        used(
            self.memory_total?.read(row)?,
            self.memory_available?.read(row)?,
        )
    }

    fn swap_used(&self, row: &[i64]) -> Option<f64> {
        used(self.swap_total?.read(row)?, self.swap_free?.read(row)?)
    }

    pub(crate) fn cpu_busy(&self, rows: Rows<'_>) -> Option<f64> {
        let (_, ms) = rows.before?;
        if ms <= 0 || ms > RATE_MS_MAX {
            return None;
        }
        let mut busy = 0.0;
        for column in &self.cpu_busy {
            busy += column.growth(rows)?;
        }
        let mut total = busy;
        for column in &self.cpu_rest {
            // The kernel lets idle and iowait fall at times (nohz): such a step counts as nothing.
            total += column.growth(rows).unwrap_or(0.0);
        }
        (total > 0.0).then(|| busy / total)
    }

    /// The mount points that can be written to at this row.
    pub(crate) fn writable<'a>(&'a self, row: &'a [i64]) -> impl Iterator<Item = &'a str> {
        self.filesystems
            .iter()
            .filter(|f| f.readonly.and_then(|c| c.read(row)) == Some(0.0))
            .map(|f| f.mount.as_str())
    }

    /// The series a measure reads first, in Prometheus notation: where a person looks it up.
    pub(crate) fn series(&self, measure: Measure, subject: &str) -> String {
        let on_mount = |name: &str| {
            let labels = self
                .filesystems
                .iter()
                .find(|f| f.mount == subject)
                .map_or("", |f| f.labels.as_str());
            format!("{name}{labels}")
        };
        match measure {
            Measure::FilesystemUsed => on_mount("node_filesystem_avail_bytes"),
            Measure::InodesUsed => on_mount("node_filesystem_files_free"),
            Measure::FilesystemReadonly => on_mount("node_filesystem_readonly"),
            Measure::MemoryUsed => "node_memory_MemAvailable_bytes".to_owned(),
            Measure::SwapUsed => "node_memory_SwapFree_bytes".to_owned(),
            Measure::CpuBusy => "node_cpu_seconds_total".to_owned(),
            Measure::CpuPressure => "node_pressure_cpu_waiting_seconds_total".to_owned(),
            Measure::MemoryPressure => "node_pressure_memory_stalled_seconds_total".to_owned(),
            Measure::IoPressure => "node_pressure_io_stalled_seconds_total".to_owned(),
            Measure::PingLoss => probe::LOST.to_owned(),
            Measure::TargetDown => probe::SUCCESS.to_owned(),
            Measure::UnitFailed
            | Measure::UnitRestarts
            | Measure::OomKills
            | Measure::Temperature
            | Measure::TemperatureOfCritical
            | Measure::ClockUnsynced
            | Measure::RaidMissing
            | Measure::ConntrackUsed
            | Measure::FileHandlesUsed => self.subjects.series(measure, subject),
            Measure::Silent
            | Measure::NewLogLine
            | Measure::LogRate
            | Measure::LogSeverity
            | Measure::JournalWait
            | Measure::OutboxAge
            | Measure::DataDirectoryUsed
            | Measure::ServerRestarts => String::new(),
        }
    }

    /// What is left, in words, where that says more than the share: `2.1 GiB free of 50.0 GiB`.
    pub(crate) fn left(&self, measure: Measure, subject: &str, row: &[i64]) -> Option<String> {
        let sizes = |free: Option<Column>, size: Option<Column>| {
            let (free, size) = (free?.read(row)?, size?.read(row)?);
            Some(format!(
                "{} free of {}",
                words::bytes(free),
                words::bytes(size)
            ))
        };
        let filesystem = || self.filesystems.iter().find(|f| f.mount == subject);
        match measure {
            Measure::FilesystemUsed => filesystem().and_then(|f| sizes(f.avail, f.size)),
            Measure::InodesUsed => {
                let f = filesystem()?;
                let (free, files) = (f.files_free?.read(row)?, f.files?.read(row)?);
                Some(format!("{free:.0} inodes free of {files:.0}"))
            }
            Measure::MemoryUsed => {
                let text = sizes(self.memory_available, self.memory_total)?;
                Some(text.replace("free of", "available of"))
            }
            Measure::SwapUsed => sizes(self.swap_free, self.swap_total),
            Measure::FilesystemReadonly
            | Measure::CpuBusy
            | Measure::CpuPressure
            | Measure::MemoryPressure
            | Measure::IoPressure
            | Measure::UnitFailed
            | Measure::UnitRestarts
            | Measure::OomKills
            | Measure::Temperature
            | Measure::TemperatureOfCritical
            | Measure::ClockUnsynced
            | Measure::RaidMissing
            | Measure::ConntrackUsed
            | Measure::FileHandlesUsed
            | Measure::Silent
            | Measure::NewLogLine
            | Measure::LogRate
            | Measure::LogSeverity
            | Measure::PingLoss
            | Measure::TargetDown
            | Measure::JournalWait
            | Measure::OutboxAge
            | Measure::DataDirectoryUsed
            | Measure::ServerRestarts => None,
        }
    }

    /// A few values for a table: cpu, memory, the fullest file system, load.
    pub(crate) fn glance(&self, rows: Rows<'_>) -> Vec<(String, f64)> {
        let fullest = self
            .filesystems
            .iter()
            .filter_map(|f| f.used(rows.row))
            .max_by(f64::total_cmp);
        [
            ("cpu_ratio", self.cpu_busy(rows)),
            ("memory_ratio", self.memory_used(rows.row)),
            ("filesystem_ratio", fullest),
            ("load1", self.load1.and_then(|c| c.read(rows.row))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

impl Filesystem {
    fn take(&mut self, series: &Series, column: Column) {
        let slot = match series.name.as_str() {
            "node_filesystem_size_bytes" => &mut self.size,
            "node_filesystem_avail_bytes" => &mut self.avail,
            "node_filesystem_free_bytes" => &mut self.free,
            "node_filesystem_files" => &mut self.files,
            "node_filesystem_files_free" => &mut self.files_free,
            "node_filesystem_readonly" => &mut self.readonly,
            _ => return,
        };
        *slot = Some(column);
        let shown = series.to_string();
        self.labels = shown[series.name.len()..].to_owned();
    }

    /// As `df` reckons it: what root keeps back is neither used nor there.
    fn used(&self, row: &[i64]) -> Option<f64> {
        let (size, avail) = (self.size?.read(row)?, self.avail?.read(row)?);
        let free = self.free.map_or(Some(avail), |c| c.read(row))?;
        used(size - free + avail, avail)
    }

    fn inodes_used(&self, row: &[i64]) -> Option<f64> {
        used(self.files?.read(row)?, self.files_free?.read(row)?)
    }

    /// 1 where it is read-only and was not; a file system that never was writable has no value.
    fn turned_readonly(&self, row: &[i64], writable: &BTreeSet<String>) -> Option<f64> {
        let readonly = self.readonly?.read(row)?;
        (readonly < 0.5 || writable.contains(&self.mount)).then_some(readonly)
    }
}

/// The share that is not left, within 0 and 1; none of nothing.
fn used(total: f64, left: f64) -> Option<f64> {
    (total > 0.0).then(|| (1.0 - left / total).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use dawnwatch_proto::Kind;

    use super::*;

    const NAMES: [(&str, &str, &str); 12] = [
        ("node_filesystem_size_bytes", "mountpoint", "/"),
        ("node_filesystem_free_bytes", "mountpoint", "/"),
        ("node_filesystem_avail_bytes", "mountpoint", "/"),
        ("node_filesystem_files", "mountpoint", "/"),
        ("node_filesystem_files_free", "mountpoint", "/"),
        ("node_filesystem_readonly", "mountpoint", "/"),
        ("node_memory_MemTotal_bytes", "", ""),
        ("node_memory_MemAvailable_bytes", "", ""),
        ("node_cpu_seconds_total", "mode", "user"),
        ("node_cpu_seconds_total", "mode", "idle"),
        ("node_cpu_seconds_total", "mode", "iowait"),
        ("node_pressure_io_stalled_seconds_total", "", ""),
    ];

    fn plan() -> Plan {
        let series = NAMES.map(|(name, label, value)| {
            let series = Series::new(name, Kind::Gauge);
            let series = if name.contains("seconds") {
                series.quantum(1, 100)
            } else {
                series
            };
            if label.is_empty() {
                series
            } else {
                series.label(label, value)
            }
        });
        Plan::new(&Schema::new(series.into()))
    }

    fn check(
        measure: Measure,
        row: [i64; 12],
        before: Option<([i64; 12], i64)>,
        want: Option<f64>,
    ) {
        let rows = Rows {
            row: &row,
            before: before.as_ref().map(|(b, ms)| (&b[..], *ms)),
        };
        let mut got = None;
        let writable = BTreeSet::from(["/".to_owned()]);
        let known = Known {
            writable: &writable,
            growths: None,
        };
        plan().each(measure, rows, known, |_, value| got = Some(value));
        let near = match (got, want) {
            (Some(got), Some(want)) => (got - want).abs() < 1e-9,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        assert!(near, "{measure:?} {row:?}: {got:?}, not {want:?}");
    }

    #[test]
    fn shares_are_reckoned_as_df_does() {
        let row = [1_000, 300, 250, 100, 5, 0, 800, 200, 0, 0, 0, 0];
        // 700 used of 950 that are for users: what root keeps back is neither used nor there.
        check(
            Measure::FilesystemUsed,
            row,
            None,
            Some(1.0 - 250.0 / 950.0),
        );
        check(Measure::InodesUsed, row, None, Some(0.95));
        check(Measure::MemoryUsed, row, None, Some(0.75));
        check(Measure::SwapUsed, row, None, None);
        check(Measure::FilesystemReadonly, row, None, Some(0.0));
    }

    #[test]
    fn odd_data_has_no_value() {
        let zero = [0; 12];
        for measure in [
            Measure::FilesystemUsed,
            Measure::InodesUsed,
            Measure::MemoryUsed,
        ] {
            check(measure, zero, None, None);
        }
        check(Measure::FilesystemUsed, [MISSING; 12], None, None);
        check(Measure::CpuBusy, zero, Some((zero, 10_000)), None);
        check(Measure::CpuBusy, zero, None, None);
        // More available than there is: nothing is used, not less than nothing.
        let row = [1_000, 300, 250, 100, 5, 0, 800, 900, 0, 0, 0, 0];
        check(Measure::MemoryUsed, row, None, Some(0.0));
    }

    #[test]
    fn rates_come_from_counters_that_grow() {
        let at = |user, idle, iowait, io| [0, 0, 0, 0, 0, 0, 0, 0, user, idle, iowait, io];
        let before = at(100, 1_000, 50, 500);
        check(
            Measure::CpuBusy,
            at(400, 1_600, 150, 500),
            Some((before, 10_000)),
            Some(0.3),
        );
        // iowait may fall; user may not: a reset has no value.
        check(
            Measure::CpuBusy,
            at(400, 1_700, 0, 500),
            Some((before, 10_000)),
            Some(0.3),
        );
        check(
            Measure::CpuBusy,
            at(0, 1_700, 50, 500),
            Some((before, 10_000)),
            None,
        );
        check(
            Measure::IoPressure,
            at(0, 0, 0, 1_000),
            Some((before, 10_000)),
            Some(0.5),
        );
        check(
            Measure::IoPressure,
            at(0, 0, 0, 400),
            Some((before, 10_000)),
            None,
        );
        check(
            Measure::IoPressure,
            at(0, 0, 0, 9_000),
            Some((before, 10_000)),
            Some(1.0),
        );
        for ms in [0, -10_000, RATE_MS_MAX + 1] {
            check(
                Measure::IoPressure,
                at(0, 0, 0, 1_000),
                Some((before, ms)),
                None,
            );
        }
    }

    #[test]
    fn only_what_was_writable_turns_read_only() {
        let row = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        check(Measure::FilesystemReadonly, row, None, Some(1.0));
        let rows = Rows {
            row: &row,
            before: None,
        };
        let known = Known {
            writable: &BTreeSet::new(),
            growths: None,
        };
        plan().each(Measure::FilesystemReadonly, rows, known, |mount, value| {
            panic!("{mount} {value}")
        });
    }
}
