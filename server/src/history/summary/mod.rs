//! Summaries: what is left of an hour, or of five minutes, of one series once its samples are too many to read or gone.
//!
//! All of it is integers of the series' raw values, so that parts put together are what the whole would have been.
//!
//! - here: what a summary is, of samples and of parts.
//! - [`mod@file`]: the file format; [`group`]: that of a group of hosts in it; `chunk`: of one series of a group, with its `marks`
//!   and `scale`; `code`: of numbers.
//! - `make`: how a file is put together; `whole`: looked through, or written anew without some hosts.
//! - [`keep`]: when files are made and removed.
//! - [`draw`]: a series over a span, from samples or summaries.
//! - [`fleet`]: one series of all hosts over a span.
//!
//! Caveat: parts whose samples lie in turn (late data beside data in time, within one hour) count a counter's growth by the
//! larger part alone.

mod chunk;
mod code;
pub mod draw;
pub mod file;
pub mod fleet;
pub mod group;
pub mod keep;
mod make;
mod marks;
mod scale;
mod whole;

use std::collections::BTreeMap;

use dawnwatch_proto::{Kind, MISSING};

/// What is wrong with bytes.
type Why = &'static str;

/// Seconds of a summary while raw samples are there as well, and for three years.
pub const HOUR_S: u32 = 3_600;

/// Seconds of a summary that is made when raw samples go.
pub const FIVE_MINUTES_S: u32 = 300;

/// The samples of one series in one step of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How many samples.
    pub count: u32,
    /// Time in Unix milliseconds and value of the first.
    pub first: (i64, i64),
    /// Time and value of the last.
    pub last: (i64, i64),
    /// What else is known, by kind of series.
    pub shape: Shape,
}

/// What is known of levels and of counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Of levels.
    Gauge {
        /// Lowest value.
        min: i64,
        /// Highest value.
        max: i64,
        /// All values added up; over the count it is the mean.
        sum: i128,
    },
    /// Of counts.
    Counter {
        /// What it grew by from the first sample to the last; one that fell began anew from 0.
        increase: i128,
        /// The fastest growth from one sample to the next; none of a single sample.
        steepest: Option<Growth>,
    },
}

/// How much a counter grew in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// By how much, 0 or more.
    pub by: i128,
    /// In how many milliseconds, 1 or more.
    pub ms: i64,
}

impl Growth {
    /// From one sample to a later one.
    #[must_use]
    pub fn between(before: (i64, i64), after: (i64, i64)) -> Growth {
        let (from, to) = (i128::from(before.1), i128::from(after.1));
        let by = if to >= from { to - from } else { to.max(0) };
        let ms = after.0.saturating_sub(before.0).max(1);
        Growth { by, ms }.plain()
    }

    /// No growth is the same over any time.
    fn plain(self) -> Growth {
        match self.by {
            0 => Growth { by: 0, ms: 1 },
            _ => self,
        }
    }

    /// The faster of two, the first of equals.
    #[must_use]
    pub fn faster(self, other: Growth) -> Growth {
        let (own, others) = (
            self.by.saturating_mul(i128::from(other.ms)),
            other.by.saturating_mul(i128::from(self.ms)),
        );
        if others > own { other } else { self }
    }
}

impl Summary {
    /// Of one sample.
    #[must_use]
    pub fn of(sample: (i64, i64), kind: Kind) -> Summary {
        let value = sample.1;
        let shape = match kind {
            Kind::Gauge => Shape::Gauge {
                min: value,
                max: value,
                sum: i128::from(value),
            },
            Kind::Counter => Shape::Counter {
                increase: 0,
                steepest: None,
            },
        };
        Summary {
            count: 1,
            first: sample,
            last: sample,
            shape,
        }
    }

    /// Adds a part that begins later, or at the same time. Parts of two kinds do not mix: the second's shape is left out.
    pub fn join(&mut self, later: &Summary) {
        let apart = later.first.0 > self.last.0;
        self.shape = match (self.shape, later.shape) {
            (
                Shape::Gauge { min, max, sum },
                Shape::Gauge {
                    min: low,
                    max: high,
                    sum: more,
                },
            ) => Shape::Gauge {
                min: min.min(low),
                max: max.max(high),
                sum: sum.saturating_add(more),
            },
            (
                Shape::Counter { increase, steepest },
                Shape::Counter {
                    increase: more,
                    steepest: other,
                },
            ) => {
                let between = apart.then(|| Growth::between(self.last, later.first));
                let fastest = [between, other].into_iter().flatten();
                Shape::Counter {
                    increase: match between {
                        Some(growth) => increase.saturating_add(growth.by).saturating_add(more),
                        None => increase.max(more),
                    },
                    steepest: fastest.fold(steepest, |known, one| {
                        Some(known.map_or(one, |known| known.faster(one)))
                    }),
                }
            }
            (own, _) => own,
        };
        self.count = self.count.saturating_add(later.count);
        if later.last.0 >= self.last.0 {
            self.last = later.last;
        }
    }
}

/// The summaries of samples, by the first millisecond of their step. Samples are in order of time; missing ones do not count.
#[must_use]
pub fn reduce(samples: &[(i64, i64)], kind: Kind, step_s: u32) -> BTreeMap<i64, Summary> {
    let mut out: BTreeMap<i64, Summary> = BTreeMap::new();
    for sample in samples.iter().filter(|(_, value)| *value != MISSING) {
        let one = Summary::of(*sample, kind);
        out.entry(start_of(sample.0, step_s))
            .and_modify(|all| all.join(&one))
            .or_insert(one);
    }
    out
}

/// Puts parts together into steps: those of one step are joined in order of their first samples.
#[must_use]
pub fn together(mut parts: Vec<Summary>, step_s: u32) -> BTreeMap<i64, Summary> {
    parts.sort_by_key(|part| (part.first.0, part.last.0));
    let mut out: BTreeMap<i64, Summary> = BTreeMap::new();
    for part in parts {
        out.entry(start_of(part.first.0, step_s))
            .and_modify(|all| all.join(&part))
            .or_insert(part);
    }
    out
}

/// The first millisecond of the step that a time is in.
#[must_use]
pub fn start_of(time_ms: i64, step_s: u32) -> i64 {
    let step = i64::from(step_s.max(1)) * 1_000;
    time_ms.div_euclid(step).saturating_mul(step)
}

#[cfg(test)]
mod tests;
