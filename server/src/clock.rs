//! The only one who asks what time it is. Everybody else is told.

use std::time::{Duration, SystemTime};

use dawnwatch_engine::At;
use jiff::Timestamp;

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// The wall clock, to the millisecond. A clock beyond the years that calendars know counts as their edge.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the Clock")]
        let now = SystemTime::now();
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
    }

    /// `CLOCK_BOOTTIME` in milliseconds: goes on through suspend, never jumps, starts anew at boot.
    #[must_use]
    pub fn boot_ms(&self) -> u64 {
        self.boot_us() / 1_000
    }

    /// `CLOCK_BOOTTIME` in microseconds, to measure how long something took.
    #[must_use]
    pub fn boot_us(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        seconds * 1_000_000 + nanos / 1_000
    }
}

/// A wall clock that moves this much against `CLOCK_BOOTTIME` between two inputs was set, not slewed.
const STEP_MS: i64 = 2_000;

/// Stamps inputs: positions count up, `boot_ms` never falls, even over a reboot of the machine.
#[derive(Debug)]
pub struct Stamper {
    base_ms: u64,
    last: At,
    fresh: bool,
    /// How it stood before the last stamp.
    before: (At, bool),
}

impl Stamper {
    /// Goes on after the last stamp of the journal. Where the machine booted since, the time between is taken from the
    /// wall clock, and never as less than nothing.
    #[must_use]
    pub fn after(last: At, wall: Timestamp, boot_ms: u64) -> Stamper {
        let away = u64::try_from(wall.as_millisecond() - last.wall.as_millisecond()).unwrap_or(0);
        let base_ms = if boot_ms >= last.boot_ms {
            0
        } else {
            last.boot_ms - boot_ms + away
        };
        Stamper {
            base_ms,
            last,
            fresh: true,
            before: (last, true),
        }
    }

    /// The stamp of the next input, and by how much the wall clock was set since the last one, if it was.
    pub fn stamp(&mut self, wall: Timestamp, boot_ms: u64) -> (At, Option<i64>) {
        let boot_ms = (self.base_ms + boot_ms).max(self.last.boot_ms);
        let moved = wall.as_millisecond() - self.last.wall.as_millisecond();
        let passed = i64::try_from(boot_ms - self.last.boot_ms).unwrap_or(i64::MAX);
        let step = moved.saturating_sub(passed);
        let stepped = (!self.fresh && step.abs() >= STEP_MS).then_some(step);
        self.before = (self.last, self.fresh);
        self.fresh = false;
        self.last = At {
            wall,
            boot_ms,
            position: self.last.position + 1,
        };
        (self.last, stepped)
    }

    /// Gives `more` further positions to inputs that share the last stamp.
    pub fn skip(&mut self, more: u64) {
        self.last.position += more;
    }

    /// Takes the last stamp back with all its positions: what was stamped was not kept. A step of the clock is found again.
    pub fn take_back(&mut self) {
        (self.last, self.fresh) = self.before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_s: i64, boot_ms: u64, position: u64) -> At {
        At {
            wall: Timestamp::from_second(wall_s).unwrap(),
            boot_ms,
            position,
        }
    }

    #[test]
    fn positions_rise_and_boot_time_never_falls() {
        let wall = |s| Timestamp::from_second(s).unwrap();
        let mut stamper = Stamper::after(at(1_000, 5_000_000, 7), wall(1_060), 9_000);
        let (first, step) = stamper.stamp(wall(1_060), 9_000);
        assert_eq!(
            first,
            at(1_060, 5_060_000, 8),
            "a reboot: a minute passed by the wall clock"
        );
        assert_eq!(step, None);
        let (second, _) = stamper.stamp(wall(1_061), 10_000);
        assert_eq!(second, at(1_061, 5_061_000, 9));
    }

    #[test]
    fn a_set_clock_is_told_apart_from_time_passing() {
        let wall = |s| Timestamp::from_second(s).unwrap();
        let mut stamper = Stamper::after(at(1_000, 100, 1), wall(1_000), 100);
        assert_eq!(stamper.stamp(wall(1_000), 100).1, None);
        assert_eq!(
            stamper.stamp(wall(1_500), 500_100).1,
            None,
            "a long wait is no step"
        );
        assert_eq!(stamper.stamp(wall(5_100), 500_100).1, Some(3_600_000));
        assert_eq!(stamper.stamp(wall(1_500), 500_100).1, Some(-3_600_000));
    }

    #[test]
    fn what_is_taken_back_is_stamped_again_with_its_step() {
        let wall = |s| Timestamp::from_second(s).unwrap();
        let mut stamper = Stamper::after(at(1_000, 100, 1), wall(1_000), 100);
        stamper.stamp(wall(1_000), 100);
        let (refused, step) = stamper.stamp(wall(9_000), 1_100);
        stamper.skip(5);
        stamper.take_back();
        let (again, again_step) = stamper.stamp(wall(9_001), 2_100);
        assert_eq!((refused.position, step), (3, Some(7_999_000)));
        assert_eq!((again.position, again_step), (3, Some(7_999_000)));
    }
}
