//! One series in columns: times and values apart.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::History;
use crate::{HostId, Kind};

/// The same as a [`History`], for programs: a day of ticks takes a fifth of the bytes, and of the time to write and read them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// The series in Prometheus notation.
    pub series: String,
    /// `gauge` or `counter`; a counter's values are its rate a second.
    pub kind: Kind,
    /// Zone to show times in.
    pub zone: String,
    /// How many raw samples stand behind the values.
    pub samples: u64,
    /// Samples that were held more than once and counted once; anything but 0 is a fault of the server, or two hosts measured at one
    /// time before somebody said that they are one.
    pub repeated: u64,
    /// Seconds of the summaries that the values are made of; 0: they are made of samples.
    pub resolution_seconds: u32,
    /// Parts of the span that are damaged on disk.
    #[serde(default)]
    pub damaged: u64,
    /// The values; none where a sample is missing. Counters: rate a second since the sample before.
    pub values: Vec<Option<f64>>,
    /// Time of the first value, Unix milliseconds; 0 where there is none.
    pub start_ms: i64,
    /// Milliseconds from each value's time to the next one's: one fewer than there are values; or one alone, where all are
    /// equal.
    pub steps_ms: Vec<i64>,
    /// Where there are more samples than values: the highest behind each, which its mean hides; else empty.
    pub peaks: Vec<Option<f64>>,
}

impl Columns {
    /// The time of each value, Unix milliseconds.
    pub fn times_ms(&self) -> impl Iterator<Item = i64> {
        let (mut next, mut steps) = (self.start_ms, self.steps_ms.iter());
        let alone = match self.steps_ms[..] {
            [step] => step,
            _ => 0,
        };
        self.values.iter().map(move |_| {
            let time = next;
            next = next.saturating_add(*steps.next().unwrap_or(&alone));
            time
        })
    }

    /// Point by point.
    ///
    /// # Errors
    /// In words: where there are not as many times as values, or a time is none.
    pub fn history(self) -> Result<History, String> {
        let (values, steps) = (self.values.len(), self.steps_ms.len());
        if steps != 1 && steps != values.saturating_sub(1) {
            return Err(format!("{values} values have {steps} steps of time"));
        }
        let at = |ms| Timestamp::from_millisecond(ms).map_err(|error| error.to_string());
        let points = self.times_ms().zip(&self.values);
        let points = points.map(|(ms, value)| Ok((at(ms)?, *value)));
        Ok(History {
            points: points.collect::<Result<_, String>>()?,
            host: self.host,
            name: self.name,
            series: self.series,
            kind: self.kind,
            zone: self.zone,
            peaks: self.peaks,
            samples: self.samples,
            repeated: self.repeated,
            resolution_seconds: self.resolution_seconds,
            damaged: self.damaged,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the server writes it.
    const GOLDEN: &str = r#"{"host":"019aa000-0000-7000-8000-000000000001","name":"web01","series":"node_load1","kind":"gauge","zone":"Europe/Berlin","samples":4,"repeated":0,"resolution_seconds":0,"damaged":1,"values":[0.25,null,3,12.5],"start_ms":1759640400000,"steps_ms":[10003,9997,20000],"peaks":[]}"#;

    fn golden() -> Columns {
        serde_json::from_str(GOLDEN).unwrap()
    }

    #[test]
    fn the_form_stays() {
        let history = golden().history().unwrap();
        let told: Vec<(String, Option<f64>)> = history
            .points
            .iter()
            .map(|(at, value)| (at.to_string(), *value))
            .collect();
        let want = [
            ("2025-10-05T05:00:00Z", Some(0.25)),
            ("2025-10-05T05:00:10.003Z", None),
            ("2025-10-05T05:00:20Z", Some(3.0)),
            ("2025-10-05T05:00:40Z", Some(12.5)),
        ];
        assert_eq!(told, want.map(|(at, value)| (at.to_owned(), value)));
        assert_eq!((history.name.as_str(), history.samples), ("web01", 4));
    }

    #[test]
    fn one_step_is_all_steps() {
        for (values, steps, want) in [
            (3, vec![10], Ok(vec![5, 15, 25])),
            (2, vec![10], Ok(vec![5, 15])),
            (1, vec![], Ok(vec![5])),
            (0, vec![], Ok(vec![])),
            (3, vec![10, 20], Ok(vec![5, 15, 35])),
            (3, vec![], Err("3 values have 0 steps of time")),
            (3, vec![1, 2, 3], Err("3 values have 3 steps of time")),
            (2, vec![i64::MAX], Err("")),
        ] {
            let columns = Columns {
                start_ms: 5,
                steps_ms: steps,
                values: vec![None; values],
                ..golden()
            };
            match (columns.history(), want) {
                (Ok(history), Ok(want)) => {
                    let times = history.points.iter().map(|(at, _)| at.as_millisecond());
                    assert_eq!(times.collect::<Vec<_>>(), want);
                }
                (Err(why), Err(want)) => {
                    assert!(why.contains(want), "{why}");
                }
                (got, want) => panic!("{got:?}, not {want:?}"),
            }
        }
    }
}
