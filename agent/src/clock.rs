//! The only place of the agent that asks what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// `CLOCK_REALTIME`: may jump, may be years off.
    ///
    /// Asked through the C library, so that a test can put another clock before it (libfaketime).
    #[must_use]
    pub fn wall(self) -> Timestamp {
        #[allow(clippy::disallowed_methods, reason = "this is the Clock")]
        let now = SystemTime::now();
        let nanos = match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(0),
            Err(before) => i128::try_from(before.duration().as_nanos()).map_or(0, |nanos| -nanos),
        };
        // A clock outside the years -9999 to 9999 is no clock: the epoch stands for "unknown".
        Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// `CLOCK_BOOTTIME` in milliseconds: never jumps, goes on while the machine sleeps.
    #[must_use]
    pub fn boot_ms(self) -> u64 {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let millis = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
        seconds.saturating_mul(1_000).saturating_add(millis)
    }
}

/// How far the host's clock is ahead of the server's, as it was last heard; shared by who hears it and who shows it.
#[derive(Debug, Clone)]
pub struct Offset(Arc<AtomicI64>);

impl Default for Offset {
    fn default() -> Offset {
        Offset(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

impl Offset {
    /// The server said what time it is.
    pub fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    /// Milliseconds; none before the server was heard.
    #[must_use]
    pub fn ms(&self) -> Option<i64> {
        let ms = self.0.load(Ordering::Relaxed);
        (ms != i64::MIN).then_some(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn time_does_not_run_backwards() {
        let (wall, boot) = (Clock.wall(), Clock.boot_ms());
        assert!(boot > 0);
        assert!(Clock.boot_ms() >= boot);
        assert!(wall > jiff::Timestamp::UNIX_EPOCH);
    }
}
