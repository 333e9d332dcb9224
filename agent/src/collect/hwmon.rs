//! Temperatures from `/sys/class/hwmon`, chips and sensors named as node_exporter names them.
//!
//! Limits that a driver states travel with the temperature: what is hot for a disk is cool for a processor. Limits are read
//! again now and then only, alarms at every look. Some drivers take milliseconds to answer: this is a slow subject.

use std::path::{Path, PathBuf};

use dawnwatch_proto::{MISSING, Series};

use super::metric::Metric;
use super::slots::Slots;
use super::small::{entries, number_in, word_in};
use super::{CollectError, Collector, Out, Roots, Shape};

/// Most sensors that are shown: a server of two sockets has some forty cores' sensors, of which the first tell enough.
const SENSORS_MAX: usize = 20;

/// Most chips that are looked at.
const CHIPS_MAX: usize = 64;

/// Most files of one chip that are looked at.
const FILES_MAX: usize = 512;

const TEMP: Metric = Metric::gauge(
    "node_hwmon_temp_celsius",
    "Hardware monitor for temperature (input).",
)
.quantum(1, 2);
const CRIT: Metric = Metric::gauge(
    "node_hwmon_temp_crit_celsius",
    "Hardware monitor for temperature (crit).",
)
.quantum(1, 2);
const ALARM: Metric = Metric::gauge(
    "node_hwmon_temp_crit_alarm_celsius",
    "Hardware monitor for temperature (crit_alarm).",
);

/// What this collector shows; limit and alarm only where the driver has them.
pub(crate) const METRICS: &[Metric] = &[TEMP, CRIT, ALARM];

/// The list of sensors is made anew every ten looks: hardware rarely changes.
const LIST_LOOKS: u32 = 10;

/// The kernel counts thousandths; half degrees are told.
const STEP_MILLI: i64 = 500;

/// Below and above this a sensor is not connected or tells nonsense.
const PLAUSIBLE_MILLI: std::ops::RangeInclusive<i64> = -60_000..=200_000;

/// The collector of temperatures.
#[derive(Debug)]
pub(crate) struct Hwmon {
    dir: PathBuf,
    looks: u32,
    found: Vec<(Vec<u8>, Sensor)>,
    sensors: Slots<Sensor>,
}

#[derive(Debug, Clone)]
struct Sensor {
    chip: String,
    name: String,
    input: PathBuf,
    crit: Option<i64>,
    alarm: Option<PathBuf>,
    row: [i64; 3],
}

impl Hwmon {
    /// Names the directory.
    pub(crate) fn new(roots: &Roots) -> Hwmon {
        Hwmon {
            dir: roots.sys.join("class/hwmon"),
            looks: 0,
            found: Vec::new(),
            sensors: Slots::new(SENSORS_MAX),
        }
    }
}

impl Collector for Hwmon {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        if self.looks.is_multiple_of(LIST_LOOKS) {
            self.found = find(&self.dir)?;
        }
        self.looks = self.looks.wrapping_add(1);
        self.sensors.begin();
        for (key, found) in &self.found {
            // A sensor that is asleep (a disk that is spun down) answers with an error: missing, no failure.
            let milli = number_in(&found.input).filter(|milli| PLAUSIBLE_MILLI.contains(milli));
            let alarm = found.alarm.as_deref().and_then(number_in);
            if let Some(sensor) = self.sensors.see(key, || found.clone()) {
                sensor.row = [
                    milli.map_or(MISSING, halves),
                    found.crit.unwrap_or(MISSING),
                    alarm.unwrap_or(MISSING),
                ];
            }
        }
        let changed = self.sensors.end();
        if self.sensors.refused() > 0 {
            let more = self.sensors.refused();
            out.complaints.push(format!(
                "more than {SENSORS_MAX} temperatures: {more} are not watched"
            ));
        }
        // What is there is asked of what is known, so that a sensor that is gone keeps its columns.
        let present: Vec<Option<[i64; 3]>> = self
            .sensors
            .listed()
            .map(|(_, sensor)| sensor.map(|sensor| sensor.row))
            .collect();
        for ((_, sensor), row) in self.sensors.known().zip(present) {
            let row = row.unwrap_or([MISSING; 3]);
            out.row.push(row[0]);
            out.row.extend(sensor.crit.map(|_| row[1]));
            out.row.extend(sensor.alarm.as_ref().map(|_| row[2]));
        }
        Ok(if changed { Shape::Changed } else { Shape::Same })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        for (_, sensor) in self.sensors.known() {
            let of = |metric: &Metric| {
                let series = metric.series().label("chip", &sensor.chip);
                series.label("sensor", &sensor.name)
            };
            series.push(of(&TEMP));
            series.extend(sensor.crit.map(|_| of(&CRIT)));
            series.extend(sensor.alarm.as_ref().map(|_| of(&ALARM)));
        }
    }
}

/// Half degrees, rounded to the nearest.
fn halves(milli: i64) -> i64 {
    (milli + STEP_MILLI / 2).div_euclid(STEP_MILLI)
}

/// Every temperature sensor of every chip, by chip and number.
fn find(dir: &Path) -> Result<Vec<(Vec<u8>, Sensor)>, CollectError> {
    let chips = match entries(dir, CHIPS_MAX) {
        Ok(chips) => chips,
        Err(error) if error.is_absent() => {
            return Err(CollectError::NotAvailable("hardware monitoring"));
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for name in chips {
        let path = dir.join(&name);
        let chip = chip_name(&path).unwrap_or(name);
        // A chip that vanishes meanwhile has no files.
        for file in entries(&path, FILES_MAX).unwrap_or_default() {
            let sensor = file.strip_suffix("_input");
            let Some(sensor) = sensor.filter(|sensor| sensor.starts_with("temp")) else {
                continue;
            };
            let crit = number_in(&path.join(format!("{sensor}_crit")));
            let alarm = path.join(format!("{sensor}_crit_alarm"));
            found.push((
                format!("{chip}\0{sensor}").into_bytes(),
                Sensor {
                    chip: chip.clone(),
                    name: sensor.to_owned(),
                    input: path.join(&file),
                    // Some drivers say 0 or nonsense where there is no limit.
                    crit: crit
                        .filter(|crit| *crit > 0 && PLAUSIBLE_MILLI.contains(crit))
                        .map(halves),
                    alarm: number_in(&alarm).map(|_| alarm),
                    row: [MISSING; 3],
                },
            ));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// As node_exporter: the last two parts of the device's path, else the driver's name.
fn chip_name(path: &Path) -> Option<String> {
    if let Ok(device) = std::fs::canonicalize(path.join("device")) {
        let mut parts = device
            .iter()
            .rev()
            .map(|part| clean(&part.to_string_lossy()));
        let (name, kind) = (parts.next().unwrap_or_default(), parts.next());
        let kind = kind.filter(|kind| !kind.is_empty());
        match kind {
            Some(kind) if !name.is_empty() => return Some(format!("{kind}_{name}")),
            Some(_) | None if !name.is_empty() => return Some(name),
            Some(_) | None => {}
        }
    }
    let name = clean(&word_in(&path.join("name"))?);
    (!name.is_empty()).then_some(name)
}

fn clean(text: &str) -> String {
    let lower = text.to_lowercase();
    let clean = lower.replace(|c: char| !c.is_ascii_alphanumeric() && c != ':', "_");
    clean.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_node_exporters() {
        for (text, want) in [
            ("coretemp.0", "coretemp_0"),
            ("0000:01:00.0", "0000:01:00_0"),
            ("nvme0", "nvme0"),
            ("_x_", "x"),
        ] {
            assert_eq!(clean(text), want);
        }
    }

    #[test]
    fn half_degrees() {
        for (milli, want) in [(45_000, 90), (45_249, 90), (45_250, 91), (-5_000, -10)] {
            assert_eq!(halves(milli), want, "{milli}");
        }
    }
}
