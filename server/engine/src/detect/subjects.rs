//! What is measured of units, sensors, arrays and tables: columns that come one a subject, and what is reckoned from them.

use dawnwatch_proto::Series;
use serde::{Deserialize, Serialize};

use super::growth::Growths;
use super::measure::Column;
use crate::config::Measure;

/// Subjects judged by one measure on one host: agents show fewer units and sensors than this.
const SUBJECTS_MAX: usize = 128;

/// One subject's columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Subject {
    /// Unit, sensor or array; empty where it is the host.
    name: String,
    /// The first column's series in Prometheus notation.
    series: String,
    first: Column,
    /// What the first is compared with: critical temperature, wanted disks, size of a table.
    second: Option<Column>,
    /// An alarm that the hardware itself raises.
    alarm: Option<Column>,
}

/// The columns of all such subjects, found in a schema once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Subjects {
    failed: Vec<Subject>,
    restarts: Vec<Subject>,
    oom_kills: Vec<Subject>,
    temperatures: Vec<Subject>,
    arrays: Vec<Subject>,
    connections: Vec<Subject>,
    files: Vec<Subject>,
    synced: Vec<Subject>,
}

/// What a column is to its subject.
#[derive(Debug, Clone, Copy)]
enum Part {
    First,
    Second,
    Alarm,
}

impl Subjects {
    /// Takes in a column if it is one of these; columns of one subject may come in any order.
    pub(crate) fn take(&mut self, series: &Series, column: Column) {
        let label = |name: &str| series.get(name).unwrap_or_default().to_owned();
        let sensor = || format!("{} {}", label("chip"), label("sensor"));
        let state = series.get("state").unwrap_or_default();
        let (list, name, part) = match series.name.as_str() {
            "node_systemd_unit_state" if state == "failed" => {
                (&mut self.failed, label("name"), Part::First)
            }
            "dawnwatch_unit_restarts_total" => (&mut self.restarts, label("unit"), Part::First),
            "dawnwatch_unit_oom_kills_total" => (&mut self.oom_kills, label("unit"), Part::First),
            "node_vmstat_oom_kill" => (&mut self.oom_kills, String::new(), Part::First),
            "node_hwmon_temp_celsius" => (&mut self.temperatures, sensor(), Part::First),
            "node_hwmon_temp_crit_celsius" => (&mut self.temperatures, sensor(), Part::Second),
            "node_hwmon_temp_crit_alarm_celsius" => (&mut self.temperatures, sensor(), Part::Alarm),
            "node_md_disks" if state == "active" => {
                (&mut self.arrays, label("device"), Part::First)
            }
            "node_md_disks_required" => (&mut self.arrays, label("device"), Part::Second),
            "node_nf_conntrack_entries" => (&mut self.connections, String::new(), Part::First),
            "node_nf_conntrack_entries_limit" => {
                (&mut self.connections, String::new(), Part::Second)
            }
            "node_filefd_allocated" => (&mut self.files, String::new(), Part::First),
            "node_filefd_maximum" => (&mut self.files, String::new(), Part::Second),
            "node_timex_sync_status" => (&mut self.synced, String::new(), Part::First),
            _ => return,
        };
        put(list, name, part, series, column);
    }

    /// Calls back with each subject of a measure and its value at this row.
    pub(crate) fn each(
        &self,
        measure: Measure,
        row: &[i64],
        growths: Option<&Growths>,
        mut found: impl FnMut(&str, f64),
    ) {
        for subject in self.of(measure) {
            let value = match measure {
                Measure::UnitRestarts | Measure::OomKills => {
                    growths.and_then(|growths| growths.recent(measure, &subject.name))
                }
                Measure::TemperatureOfCritical => subject.of_critical(row),
                Measure::RaidMissing => subject.missing(row),
                Measure::ConntrackUsed | Measure::FileHandlesUsed => subject.share(row),
                Measure::ClockUnsynced => subject.first.read(row).map(|synced| 1.0 - synced),
                Measure::UnitFailed | Measure::Temperature => subject.first.read(row),
                Measure::FilesystemUsed
                | Measure::InodesUsed
                | Measure::FilesystemReadonly
                | Measure::MemoryUsed
                | Measure::SwapUsed
                | Measure::CpuBusy
                | Measure::CpuPressure
                | Measure::MemoryPressure
                | Measure::IoPressure
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
            };
            if let Some(value) = value {
                found(&subject.name, value);
            }
        }
    }

    /// Calls back with each counter whose growth over a time is judged, and its value at this row.
    pub(crate) fn counters(&self, row: &[i64], mut found: impl FnMut(Measure, &str, f64)) {
        for measure in [Measure::UnitRestarts, Measure::OomKills] {
            for subject in self.of(measure) {
                if let Some(value) = subject.first.read(row) {
                    found(measure, &subject.name, value);
                }
            }
        }
    }

    /// The series that a measure reads first.
    pub(crate) fn series(&self, measure: Measure, subject: &str) -> String {
        let of = self.of(measure).iter().find(|one| one.name == subject);
        of.map_or(String::new(), |one| one.series.clone())
    }

    fn of(&self, measure: Measure) -> &[Subject] {
        match measure {
            Measure::UnitFailed => &self.failed,
            Measure::UnitRestarts => &self.restarts,
            Measure::OomKills => &self.oom_kills,
            Measure::Temperature | Measure::TemperatureOfCritical => &self.temperatures,
            Measure::RaidMissing => &self.arrays,
            Measure::ConntrackUsed => &self.connections,
            Measure::FileHandlesUsed => &self.files,
            Measure::ClockUnsynced => &self.synced,
            Measure::FilesystemUsed
            | Measure::InodesUsed
            | Measure::FilesystemReadonly
            | Measure::MemoryUsed
            | Measure::SwapUsed
            | Measure::CpuBusy
            | Measure::CpuPressure
            | Measure::MemoryPressure
            | Measure::IoPressure
            | Measure::Silent
            | Measure::NewLogLine
            | Measure::LogRate
            | Measure::LogSeverity
            | Measure::PingLoss
            | Measure::TargetDown
            | Measure::JournalWait
            | Measure::OutboxAge
            | Measure::DataDirectoryUsed
            | Measure::ServerRestarts => &[],
        }
    }
}

/// A subject without its first column is no subject: its other columns wait in a subject that is dropped if that never comes.
fn put(list: &mut Vec<Subject>, name: String, part: Part, series: &Series, column: Column) {
    let at = match list.iter().position(|one| one.name == name) {
        Some(at) => at,
        None if list.len() >= SUBJECTS_MAX => return,
        None => {
            list.push(Subject {
                name,
                series: String::new(),
                first: Column::NONE,
                second: None,
                alarm: None,
            });
            list.len() - 1
        }
    };
    let subject = &mut list[at];
    match part {
        Part::First => {
            subject.first = column;
            subject.series = series.to_string();
        }
        Part::Second => subject.second = Some(column),
        Part::Alarm => subject.alarm = Some(column),
    }
}

impl Subject {
    /// The share of its critical temperature; at least 1 while the hardware raises its own alarm.
    fn of_critical(&self, row: &[i64]) -> Option<f64> {
        let alarm = self.alarm.and_then(|column| column.read(row));
        let share = self.share(row);
        match alarm {
            Some(alarm) if alarm > 0.5 => Some(share.unwrap_or(1.0).max(1.0)),
            Some(_) | None => share,
        }
    }

    fn share(&self, row: &[i64]) -> Option<f64> {
        let (part, whole) = (self.first.read(row)?, self.second?.read(row)?);
        (whole > 0.0).then(|| part / whole)
    }

    fn missing(&self, row: &[i64]) -> Option<f64> {
        let (active, wanted) = (self.first.read(row)?, self.second?.read(row)?);
        Some((wanted - active).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use dawnwatch_proto::{Kind, MISSING, Schema};

    use super::*;
    use crate::detect::measure::Plan;

    fn series(name: &str, labels: &[(&str, &str)]) -> Series {
        let mut series = Series::new(name, Kind::Gauge);
        for (name, value) in labels {
            series = series.label(name, value);
        }
        series
    }

    /// Values of a measure on a host of three sensors, an array and tables, as `subject value`.
    fn check(measure: Measure, row: &[i64], want: &[(&str, f64)]) {
        let sensor = |name, sensor| series(name, &[("chip", "cpu"), ("sensor", sensor)]);
        let columns = vec![
            // The limit comes before what it limits: order must not matter.
            sensor("node_hwmon_temp_crit_celsius", "t1"),
            sensor("node_hwmon_temp_celsius", "t1"),
            sensor("node_hwmon_temp_celsius", "t2"),
            sensor("node_hwmon_temp_crit_alarm_celsius", "t2"),
            series("node_md_disks", &[("device", "md0"), ("state", "active")]),
            series("node_md_disks", &[("device", "md0"), ("state", "failed")]),
            series("node_md_disks_required", &[("device", "md0")]),
            series("node_nf_conntrack_entries", &[]),
            series("node_nf_conntrack_entries_limit", &[]),
            series("node_timex_sync_status", &[]),
            series(
                "node_systemd_unit_state",
                &[("name", "a.service"), ("state", "failed")],
            ),
        ];
        let plan = Plan::new(&Schema::new(columns));
        let mut got = Vec::new();
        plan.subjects.each(measure, row, None, |subject, value| {
            got.push((subject.to_owned(), value));
        });
        let want: Vec<_> = want.iter().map(|(s, v)| ((*s).to_owned(), *v)).collect();
        assert_eq!(got, want, "{measure:?} {row:?}");
    }

    #[test]
    fn each_measure_reads_its_columns() {
        let row = [100, 80, 70, 0, 1, 1, 2, 90, 100, 0, 1];
        check(
            Measure::Temperature,
            &row,
            &[("cpu t1", 80.0), ("cpu t2", 70.0)],
        );
        check(Measure::TemperatureOfCritical, &row, &[("cpu t1", 0.8)]);
        check(Measure::RaidMissing, &row, &[("md0", 1.0)]);
        check(Measure::ConntrackUsed, &row, &[("", 0.9)]);
        check(Measure::ClockUnsynced, &row, &[("", 1.0)]);
        check(Measure::UnitFailed, &row, &[("a.service", 1.0)]);
        check(Measure::FileHandlesUsed, &row, &[]);
        check(Measure::UnitRestarts, &row, &[]);
    }

    #[test]
    fn an_alarm_of_the_hardware_counts_without_a_limit() {
        let row = [100, 80, 70, 1, 3, 1, 2, 90, 0, 1, 0];
        check(
            Measure::TemperatureOfCritical,
            &row,
            &[("cpu t1", 0.8), ("cpu t2", 1.0)],
        );
        check(Measure::RaidMissing, &row, &[("md0", 0.0)]);
        check(Measure::ConntrackUsed, &row, &[]);
    }

    #[test]
    fn what_could_not_be_read_has_no_value() {
        let row = [MISSING; 11];
        for measure in [
            Measure::Temperature,
            Measure::TemperatureOfCritical,
            Measure::RaidMissing,
            Measure::ConntrackUsed,
            Measure::ClockUnsynced,
            Measure::UnitFailed,
        ] {
            check(measure, &row, &[]);
        }
        // A row that is too short, as no intake lets through.
        check(Measure::Temperature, &[], &[]);
    }
}
