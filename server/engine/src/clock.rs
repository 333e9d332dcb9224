//! What time it was on the server when a host measured: the agent's clock is estimated, never believed.
//!
//! The offset is the agent's clock minus the server's. A message that took long makes it look smaller, never larger, so the
//! largest of the last few is nearest to the truth (a minimum-delay filter). Ticks of an earlier boot keep that boot's last
//! offset, whatever the clock of the present boot says.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many offsets the filter looks back on: at one heartbeat in 10 s a step of the clock is followed within 80 s.
const WINDOW: usize = 8;
/// Correction switches on above this: below it the network's delay is as large as the error.
const ON_MS: i64 = 2_000;
/// Correction switches off below this, so that a clock near the bound does not flicker.
const OFF_MS: i64 = 500;
/// Three offsets in a row that differ from the estimate by this much, and not from each other, are a step of the clock.
const STEP_MS: i64 = 5_000;
/// Stamps that would fall back by more than this begin again: one clock was set, and a night of equal stamps helps nobody.
const FALL_BACK_MS: i64 = 30_000;
/// Samples cannot come from the future; this much is left to jitter.
const AHEAD_MS: i64 = 2_000;

/// The clock of one host, as the server sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostClock {
    /// Offsets of the latest messages, of the boot that talks at present.
    recent: VecDeque<i64>,
    /// Offset for the ticks that come in, of the boot they were taken in; none until it is known.
    stream_ms: Option<i64>,
    /// What is subtracted from an agent's time at present; zero while the clock is good enough.
    applied_ms: i64,
    /// The last stamp given out.
    last: Option<Timestamp>,
    /// The last one that was "now", for the clock was ahead of it.
    ahead: Option<Timestamp>,
}

impl HostClock {
    /// Takes in the offset that a message showed. `caught_up`: the host holds no backlog, so its ticks are of this boot.
    pub(crate) fn observe(&mut self, offset_ms: i64, caught_up: bool) {
        let estimate = self.estimate_ms();
        self.recent.push_back(offset_ms);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        if let Some(estimate) = estimate {
            let last: Vec<i64> = self.recent.iter().rev().take(3).copied().collect();
            let stepped = last.len() == 3
                && last
                    .iter()
                    .all(|o| o.abs_diff(estimate) > STEP_MS.unsigned_abs())
                && last
                    .iter()
                    .all(|o| o.abs_diff(offset_ms) < STEP_MS.unsigned_abs());
            if stepped {
                self.recent = last.into();
            }
        }
        if caught_up || self.stream_ms.is_none() {
            self.stream_ms = self.estimate_ms();
        }
    }

    /// The agent's clock minus the server's, as estimated from the latest messages.
    pub(crate) fn estimate_ms(&self) -> Option<i64> {
        self.recent.iter().copied().max()
    }

    /// How many messages the estimate rests on.
    pub(crate) fn messages(&self) -> usize {
        self.recent.len()
    }

    /// The host booted: its ticks from here on are of another clock. Their stamps go on rising all the same: of two at one
    /// moment, as where a clock years ahead makes everything "now", history would show one.
    pub(crate) fn boot(&mut self) {
        self.stream_ms = None;
    }

    /// The server's clock jumped: every offset jumps the other way.
    pub(crate) fn server_stepped(&mut self, by_ms: i64) {
        for offset in &mut self.recent {
            *offset = offset.saturating_sub(by_ms);
        }
        self.stream_ms = self.stream_ms.map(|offset| offset.saturating_sub(by_ms));
    }

    /// The corrected time of a tick or event: strictly rising, unless a clock was set back.
    pub(crate) fn stamp(&mut self, agent: Timestamp, wall: Timestamp) -> Timestamp {
        let stamp = self.corrected(agent, wall);
        // A backlog may tell of a clock that was years ahead, then right, then ahead again, all in one moment of the server.
        let is_ahead = stamp == add_ms(wall, AHEAD_MS);
        let last = if is_ahead {
            self.last.max(self.ahead)
        } else {
            self.last
        };
        let stamp = match last {
            Some(last) if stamp <= last && ms_between(stamp, last) <= FALL_BACK_MS => {
                add_ms(last, 1)
            }
            Some(_) | None => stamp,
        };
        self.last = Some(stamp);
        if is_ahead {
            self.ahead = Some(stamp);
        }
        stamp
    }

    /// The corrected time of something that is not in the stream of stamps.
    pub(crate) fn corrected(&mut self, agent: Timestamp, wall: Timestamp) -> Timestamp {
        let offset = self.stream_ms.or(self.estimate_ms()).unwrap_or(0);
        let size = offset.saturating_abs();
        let drift = offset.saturating_sub(self.applied_ms).saturating_abs();
        if self.applied_ms == 0 && size > ON_MS || self.applied_ms != 0 && drift > OFF_MS {
            self.applied_ms = offset;
        }
        if size < OFF_MS {
            self.applied_ms = 0;
        }
        let stamp = add_ms(agent, self.applied_ms.saturating_neg());
        stamp.min(add_ms(wall, AHEAD_MS))
    }
}

/// A time moved by milliseconds; stays within the range of times.
pub(crate) fn add_ms(time: Timestamp, ms: i64) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond().saturating_add(ms)).unwrap_or(time)
}

/// Milliseconds from one time to another.
pub(crate) fn ms_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond().saturating_sub(from.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
    }

    /// Offsets observed, then the stamp of a tick read at `offset` past 0 on the agent, seen at 0 on the server.
    fn check(offsets: &[i64], agent_ms: i64, want_ms: i64) {
        let mut clock = HostClock::default();
        for offset in offsets {
            clock.observe(*offset, true);
        }
        let got = clock.stamp(at(agent_ms), at(0));
        assert_eq!(ms_between(at(0), got), want_ms, "{offsets:?} {agent_ms}");
    }

    #[test]
    fn the_oddest_offset_breaks_nothing() {
        for offset in [i64::MIN, i64::MAX] {
            let mut clock = HostClock::default();
            clock.observe(offset, true);
            clock.server_stepped(i64::MAX);
            let stamp = clock.stamp(at(0), at(0));
            assert!(stamp <= at(AHEAD_MS), "{offset}");
        }
    }

    #[test]
    fn small_errors_are_left_alone_and_large_ones_are_corrected() {
        check(&[], -50, -50);
        check(&[-80, -30], -50, -50);
        check(&[1_900], 1_800, 1_800);
        check(&[300_000], 299_990, -10);
        check(&[-300_000], -300_010, -10);
        // The quickest message wins.
        check(&[-301_500, -300_000, -304_000], -300_010, -10);
        // Ten years off.
        let years = 10 * 365 * 86_400_000_i64;
        check(&[years], years - 10, -10);
        // A future that nobody can explain is now.
        check(&[], 3_600_000, AHEAD_MS);
    }

    #[test]
    fn correction_has_hysteresis() {
        let mut clock = HostClock::default();
        for (offset, want) in [(1_900, 0), (2_100, 2_100), (1_700, 2_100), (400, 2_100)] {
            clock.observe(offset, true);
            clock.corrected(at(0), at(0));
            assert_eq!(clock.applied_ms, want, "{offset}");
        }
        for _ in 0..WINDOW {
            clock.observe(400, true);
        }
        clock.corrected(at(0), at(0));
        assert_eq!(clock.applied_ms, 0);
    }

    #[test]
    fn a_step_back_is_followed_after_three_messages() {
        let mut clock = HostClock::default();
        for _ in 0..WINDOW {
            clock.observe(300_000, true);
        }
        for want in [300_000, 300_000, 0] {
            clock.observe(0, true);
            assert_eq!(clock.estimate_ms(), Some(want));
        }
    }

    #[test]
    fn boots_of_a_clock_years_ahead_share_no_moment() {
        let mut clock = HostClock::default();
        let mut stamps = Vec::new();
        for tick in 0..6 {
            if tick == 3 {
                clock.boot();
            }
            stamps.push(clock.stamp(at(1_000_000_000 + tick), at(0)));
        }
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
    }

    #[test]
    fn a_clock_that_is_ahead_again_shares_no_moment_with_its_first_time() {
        let mut clock = HostClock::default();
        let mut stamps = Vec::new();
        for agent_ms in [1_000_000_000, 1_000_000_001, -90_000, 1_000_000_002] {
            stamps.push(ms_between(at(0), clock.stamp(at(agent_ms), at(0))));
        }
        assert_eq!(stamps, [AHEAD_MS, AHEAD_MS + 1, -90_000, AHEAD_MS + 2]);
    }

    #[test]
    fn an_earlier_boot_keeps_its_offset() {
        let mut clock = HostClock::default();
        clock.observe(60_000, true);
        // The host is back with its clock set right, and sends what the earlier boot left behind.
        for _ in 0..WINDOW {
            clock.observe(0, false);
        }
        assert_eq!(clock.stamp(at(0), at(600_000)), at(-60_000));
        clock.boot();
        assert_eq!(clock.stamp(at(100), at(600_000)), at(100));
    }

    #[test]
    fn stamps_rise_unless_a_clock_was_set_back() {
        let mut clock = HostClock::default();
        let now = at(10_000_000);
        assert_eq!(clock.stamp(at(10_000), now), at(10_000));
        assert_eq!(clock.stamp(at(9_000), now), at(10_001));
        assert_eq!(clock.stamp(at(10_001), now), at(10_002));
        assert_eq!(clock.stamp(at(-90_000), now), at(-90_000));
    }

    #[test]
    fn a_jump_of_the_server_is_no_jump_of_the_host() {
        let mut clock = HostClock::default();
        clock.observe(0, true);
        clock.server_stepped(3_600_000);
        assert_eq!(clock.estimate_ms(), Some(-3_600_000));
    }
}
