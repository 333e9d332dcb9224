//! How much a counter grew of late: restarts of a unit, processes killed for lack of memory.
//!
//! Kept apart from the schema, so that a column that comes or goes beside it changes nothing. A counter that falls began
//! anew: what it counts from then on is growth. The first value of all is none: it says nothing of when.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::config::Measure;

/// How far back "of late" goes.
pub(crate) const WINDOW_MS: i64 = 600_000;
/// Counters followed on one host: units that agents show, twice, and the host's own.
const COUNTERS_MAX: usize = 300;
/// Steps remembered of one counter: one a tick for the whole window; an older step that must make room counts on in the next.
const STEPS_MAX: usize = 64;

/// What counters of one host grew by.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Growths {
    counters: BTreeMap<(Measure, String), Growth>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Growth {
    value: f64,
    seen_ms: i64,
    /// When it grew, and by how much.
    steps: VecDeque<(i64, f64)>,
}

impl Growths {
    /// Takes in a counter's value.
    pub(crate) fn take(&mut self, measure: Measure, subject: &str, at_ms: i64, value: f64) {
        let key = (measure, subject.to_owned());
        let Some(growth) = self.counters.get_mut(&key) else {
            if self.counters.len() >= COUNTERS_MAX {
                // Those of units that are gone make room.
                self.counters
                    .retain(|_, growth| at_ms.saturating_sub(growth.seen_ms) <= WINDOW_MS);
            }
            if self.counters.len() < COUNTERS_MAX {
                let growth = Growth {
                    value,
                    seen_ms: at_ms,
                    steps: VecDeque::new(),
                };
                self.counters.insert(key, growth);
            }
            return;
        };
        growth.take(at_ms, value);
    }

    /// How much it grew within the window that ends with its latest value; none where it was never seen.
    pub(crate) fn recent(&self, measure: Measure, subject: &str) -> Option<f64> {
        let growth = self.counters.get(&(measure, subject.to_owned()))?;
        Some(growth.steps.iter().map(|(_, by)| by).sum())
    }
}

impl Growth {
    fn take(&mut self, at_ms: i64, value: f64) {
        let by = if value >= self.value {
            value - self.value
        } else {
            value
        };
        (self.value, self.seen_ms) = (value, at_ms);
        if by > 0.0 {
            if self.steps.len() >= STEPS_MAX
                && let (Some((_, oldest)), Some((_, next))) =
                    (self.steps.pop_front(), self.steps.front_mut())
            {
                *next += oldest;
            }
            self.steps.push_back((at_ms, by));
        }
        // A clock that went back leaves steps in the future: they end as the others do, once it has passed them.
        self.steps
            .retain(|(then, _)| at_ms.saturating_sub(*then) < WINDOW_MS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values as (minute, value); what the counter grew by of late after each.
    fn check(values: &[(i64, f64)], want: &[f64]) {
        let mut growths = Growths::default();
        let mut got = Vec::new();
        for (minute, value) in values {
            growths.take(Measure::UnitRestarts, "a", minute * 60_000, *value);
            got.push(growths.recent(Measure::UnitRestarts, "a").unwrap());
        }
        assert_eq!(got, want, "{values:?}");
    }

    #[test]
    fn growth_counts_for_ten_minutes() {
        check(&[(0, 100.0), (1, 100.0)], &[0.0, 0.0]);
        check(
            &[
                (0, 7.0),
                (1, 9.0),
                (5, 10.0),
                (10, 10.0),
                (11, 10.0),
                (15, 10.0),
            ],
            &[0.0, 2.0, 3.0, 3.0, 1.0, 0.0],
        );
    }

    #[test]
    fn a_counter_that_falls_began_anew() {
        check(&[(0, 7.0), (1, 2.0), (2, 3.0)], &[0.0, 2.0, 3.0]);
        check(&[(0, 7.0), (1, 0.0)], &[0.0, 0.0]);
    }

    #[test]
    fn units_that_are_gone_make_room() {
        let mut growths = Growths::default();
        for i in 0..2 * COUNTERS_MAX {
            growths.take(Measure::OomKills, &format!("u{i}"), 0, 1.0);
        }
        assert_eq!(growths.counters.len(), COUNTERS_MAX);
        assert_eq!(growths.recent(Measure::OomKills, "u599"), None);
        growths.take(Measure::OomKills, "u599", WINDOW_MS + 1, 1.0);
        assert_eq!(growths.counters.len(), 1);
    }

    proptest! {
        #[test]
        fn steps_are_bounded_and_growth_is_never_negative(
            values in prop::collection::vec((0_i64..2_000, 0_u32..1_000), 0..300)
        ) {
            let mut growths = Growths::default();
            for (second, value) in values {
                growths.take(Measure::OomKills, "", second * 1_000, f64::from(value));
                let steps = &growths.counters.values().next().unwrap().steps;
                prop_assert!(steps.len() <= STEPS_MAX);
                prop_assert!(growths.recent(Measure::OomKills, "").unwrap() >= 0.0);
            }
        }
    }
}
