//! How long to wait before the next try.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// Bound of the first wait.
pub(super) const FIRST: Duration = Duration::from_secs(1);

/// Bound of every later wait: a server that is back has its whole fleet within two minutes.
const MOST: Duration = Duration::from_secs(60);

/// Tries in a row that found no server; full jitter, so that a fleet does not return in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    failures: u32,
}

impl Backoff {
    /// No failure yet; `first` bounds the first wait.
    pub(crate) fn new(first: Duration) -> Backoff {
        Backoff { first, failures: 0 }
    }

    /// The wait after one more failure.
    pub(crate) fn next(&mut self, chance: u64) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures.min(16));
        let bound = self.first.saturating_mul(doubled).min(MOST);
        self.failures = self.failures.saturating_add(1);
        share(bound, chance)
    }

    /// A session worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The wait after a refusal that only a person can mend: 30 to 60 seconds.
pub(crate) fn slow(chance: u64) -> Duration {
    MOST / 2 + share(MOST / 2, chance)
}

/// The wait that a server asked for, and up to as much again.
pub(crate) fn asked(after: Duration, chance: u64) -> Duration {
    let after = after.min(MOST * 10);
    after + share(after.max(FIRST), chance)
}

/// A random number for jitter; where the system has none, time has to do.
pub(crate) fn chance(boot_ms: u64) -> u64 {
    let mut bytes = [0; 8];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => boot_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

/// `chance` as a share of `bound`.
fn share(bound: Duration, chance: u64) -> Duration {
    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(chance % millis.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_one_second_to_sixty_and_fill_the_range() {
        let mut backoff = Backoff::new(FIRST);
        for bound in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let before = backoff.failures;
            let bound = Duration::from_secs(bound);
            let mut seen = (Duration::MAX, Duration::ZERO);
            for i in 0..1_000u64 {
                backoff.failures = before;
                let wait = backoff.next(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                assert!(wait <= bound);
                seen = (seen.0.min(wait), seen.1.max(wait));
            }
            assert!(
                seen.0 < bound / 20 && seen.1 > bound - bound / 20,
                "{seen:?}"
            );
        }
        backoff.failures = u32::MAX;
        backoff.next(3);
        backoff.reset();
        assert!(backoff.next(u64::MAX) <= FIRST);
    }

    #[test]
    fn a_refusal_waits_long_and_a_wish_is_met() {
        for i in 0..1_000u64 {
            let chance = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert!((30..=60).contains(&slow(chance).as_secs()));
            let wait = asked(Duration::from_secs(5), chance);
            assert!((5..=10).contains(&wait.as_secs()));
            assert!(asked(Duration::MAX, chance) <= MOST * 20);
        }
    }
}
