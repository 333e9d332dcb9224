//! What the probes of one target come to, from one tick to the next.

use dawnwatch_proto::MISSING;
use dawnwatch_proto::probe::DOWN_PROBES;

use super::Echo;

/// Microseconds in one step of the round trips' quantum: on a network that stands still values stand still too, and cost
/// nothing on the wire.
const STEP_US: u64 = 100;

/// One target's probes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats {
    sent: u64,
    lost: u64,
    /// Probes without an answer since the last answer.
    lost_in_a_row: u32,
    /// Whether the last probe could be asked, and enough is known to say up or down.
    known: bool,
    window: Window,
    /// Values of the last window in which a probe ended.
    shown: [i64; 4],
    last_us: Option<u64>,
}

/// What came in since the tick before.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    ended: u32,
    answered: u64,
    min_us: u64,
    max_us: u64,
    sum_us: u64,
    steps: u64,
    steps_us: u64,
}

impl Stats {
    /// Takes in what came of a probe.
    pub(crate) fn take(&mut self, echo: Echo) {
        match echo {
            Echo::Answered(rtt) => {
                self.answered(u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX))
            }
            Echo::Lost => {
                self.sent += 1;
                self.lost += 1;
                self.window.ended += 1;
                self.lost_in_a_row = self.lost_in_a_row.saturating_add(1);
                self.known |= self.lost_in_a_row >= DOWN_PROBES;
                // Round trips on both sides of a hole are no two in a row.
                self.last_us = None;
            }
            Echo::Unable => {
                self.known = false;
                self.lost_in_a_row = 0;
                self.window.ended += 1;
                self.last_us = None;
            }
        }
    }

    fn answered(&mut self, rtt_us: u64) {
        self.sent += 1;
        self.lost_in_a_row = 0;
        self.known = true;
        let window = &mut self.window;
        window.min_us = if window.answered == 0 {
            rtt_us
        } else {
            window.min_us.min(rtt_us)
        };
        window.max_us = window.max_us.max(rtt_us);
        window.sum_us = window.sum_us.saturating_add(rtt_us);
        window.ended += 1;
        window.answered += 1;
        if let Some(last_us) = self.last_us.replace(rtt_us) {
            window.steps += 1;
            window.steps_us = window.steps_us.saturating_add(last_us.abs_diff(rtt_us));
        }
    }

    /// The values of a tick: success, shortest, mean and longest round trip, jitter, sent, lost. Begins the next window.
    pub(crate) fn tick(&mut self) -> [i64; 7] {
        let window = std::mem::take(&mut self.window);
        if window.ended > 0 {
            self.shown = window.shown();
        } else if self.sent == 0 {
            self.shown = [MISSING; 4];
        }
        let success = if self.known {
            i64::from(self.lost_in_a_row < DOWN_PROBES)
        } else {
            MISSING
        };
        let [min, avg, max, jitter] = self.shown;
        [
            success,
            min,
            avg,
            max,
            jitter,
            count(self.sent),
            count(self.lost),
        ]
    }
}

impl Window {
    fn shown(&self) -> [i64; 4] {
        if self.answered == 0 {
            return [MISSING; 4];
        }
        let jitter = match self.steps {
            0 => MISSING,
            steps => in_steps(self.steps_us / steps),
        };
        let avg_us = self.sum_us / self.answered;
        [
            in_steps(self.min_us),
            in_steps(avg_us),
            in_steps(self.max_us),
            jitter,
        ]
    }
}

/// Rounded to the nearest step.
fn in_steps(us: u64) -> i64 {
    count(us.saturating_add(STEP_US / 2) / STEP_US)
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const M: i64 = MISSING;

    /// `.` is lost, `?` could not be asked, a number is a round trip in microseconds, `|` is a tick.
    fn ticks(probes: &str) -> Vec<[i64; 7]> {
        let mut stats = Stats::default();
        let mut out = Vec::new();
        for word in probes.split_whitespace() {
            match word {
                "." => stats.take(Echo::Lost),
                "?" => stats.take(Echo::Unable),
                "|" => out.push(stats.tick()),
                us => stats.take(Echo::Answered(Duration::from_micros(us.parse().unwrap()))),
            }
        }
        out
    }

    #[test]
    fn what_a_tick_says() {
        for (probes, want) in [
            ("|", vec![[M, M, M, M, M, 0, 0]]),
            ("200 400 300 |", vec![[1, 2, 3, 4, 2, 3, 0]]),
            // A lone answer has no jitter; a hole breaks the row.
            ("1049 |", vec![[1, 10, 10, 10, M, 1, 0]]),
            ("200 . 900 |", vec![[1, 2, 6, 9, M, 3, 1]]),
            // Three in a row are down, also over a tick; the first answer is up.
            (
                "200 . . | . | 200 |",
                vec![
                    [1, 2, 2, 2, M, 3, 2],
                    [0, M, M, M, M, 4, 3],
                    [1, 2, 2, 2, M, 5, 3],
                ],
            ),
            // Who never answered and was asked twice may yet answer.
            (
                ". . | . |",
                vec![[M, M, M, M, M, 2, 2], [0, M, M, M, M, 3, 3]],
            ),
            // Nothing ended: what was last known stands.
            (
                "200 | |",
                vec![[1, 2, 2, 2, M, 1, 0], [1, 2, 2, 2, M, 1, 0]],
            ),
            // What cannot be asked is unknown, not down, and no probe.
            (
                "200 | ? ? ? | . . |",
                vec![
                    [1, 2, 2, 2, M, 1, 0],
                    [M, M, M, M, M, 1, 0],
                    [M, M, M, M, M, 3, 2],
                ],
            ),
        ] {
            assert_eq!(ticks(probes), want, "{probes}");
        }
    }

    #[test]
    fn absurd_round_trips_do_not_overflow() {
        let mut stats = Stats::default();
        stats.take(Echo::Answered(Duration::MAX));
        stats.take(Echo::Answered(Duration::ZERO));
        stats.take(Echo::Answered(Duration::MAX));
        let [success, min, ..] = stats.tick();
        assert_eq!((success, min), (1, 0));
    }
}
