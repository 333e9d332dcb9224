//! How long to wait after a failure, and how fast to send at all. Pure: time and chance are arguments.

use std::time::Duration;

use super::Again;

/// First pause of the back-off: a restart of the far end is over within seconds.
const BACKOFF_FIRST_MS: u64 = 1_000;

/// Longest pause of the back-off: what comes back after an outage gets its message within five minutes.
const BACKOFF_MAX_MS: u64 = 5 * 60_000;

/// Pauses after a mail server's "try later", the last one for ever: greylisting lets through what comes again after
/// some minutes, and what comes more often is held against the sender.
const GREYLIST_MS: [u64; 4] = [60_000, 5 * 60_000, 15 * 60_000, 30 * 60_000];

/// Longest `Retry-After` that is honoured: a wrong header must not mute a channel for a night.
const RETRY_AFTER_MAX_MS: u64 = 30 * 60_000;

/// After this time without success the engine is told, so that it can use another channel.
pub(super) const STRUGGLING_MS: u64 = 5 * 60_000;

/// Most messages sent in one go before the rate holds.
const BURST: u64 = 5;

/// One message a second is what chat services allow to one address.
const TOKEN_MS: u64 = 1_000;

/// The attempts at one notification. It never gives up: what is refused for good says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retry {
    /// When it was taken in.
    since_ms: u64,
    /// When the next attempt is due.
    due_ms: u64,
    /// Failed attempts.
    failures: u32,
    /// Whether it was told that it struggles.
    told: bool,
}

impl Retry {
    /// Due at once.
    pub(super) fn new(now_ms: u64) -> Retry {
        Retry {
            since_ms: now_ms,
            due_ms: now_ms,
            failures: 0,
            told: false,
        }
    }

    /// When the next attempt is due.
    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Sets the next attempt after a failure; `chance` is any random number.
    pub(super) fn failed(&mut self, again: Again, now_ms: u64, chance: u64) {
        let pause_ms = match again {
            Again::Backoff => jittered(backoff_ms(self.failures), chance),
            Again::Greylist => {
                let step = usize::try_from(self.failures).unwrap_or(usize::MAX);
                GREYLIST_MS[step.min(GREYLIST_MS.len() - 1)]
            }
            Again::After(pause) => retry_after_ms(pause),
        };
        self.failures = self.failures.saturating_add(1);
        self.due_ms = now_ms.saturating_add(pause_ms);
    }

    /// Makes the next attempt due at once: the channel was set anew.
    pub(super) fn start_over(&mut self, now_ms: u64) {
        self.failures = 0;
        self.due_ms = now_ms;
    }

    /// When it will have struggled long enough to say so; none once that was said.
    pub(super) fn struggles_at_ms(&self) -> Option<u64> {
        (!self.told).then(|| self.since_ms.saturating_add(STRUGGLING_MS))
    }

    /// Whether to tell that it struggles: true once, after [`STRUGGLING_MS`].
    pub(super) fn struggles(&mut self, now_ms: u64) -> bool {
        let now_struggles = self.struggles_at_ms().is_some_and(|at| now_ms >= at);
        self.told |= now_struggles;
        now_struggles
    }
}

/// How long the far end's own word is heeded.
pub(super) fn retry_after_ms(pause: Duration) -> u64 {
    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    pause_ms.clamp(BACKOFF_FIRST_MS, RETRY_AFTER_MAX_MS)
}

fn backoff_ms(failures: u32) -> u64 {
    let doubled = 1u64.checked_shl(failures).unwrap_or(u64::MAX);
    BACKOFF_FIRST_MS.saturating_mul(doubled).min(BACKOFF_MAX_MS)
}

/// Half of the pause is certain, the other half is chance: also at the cap, so that nothing comes in step.
fn jittered(pause_ms: u64, chance: u64) -> u64 {
    let half = pause_ms / 2;
    pause_ms - chance % (half + 1)
}

/// A token bucket: at most [`BURST`] messages at once, then one each [`TOKEN_MS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// When the bucket will be full again.
    full_ms: u64,
}

impl Bucket {
    /// Full.
    pub(super) fn new() -> Bucket {
        Bucket { full_ms: 0 }
    }

    /// When there is a token: now or later.
    pub(super) fn ready_ms(&self, now_ms: u64) -> u64 {
        self.full_ms
            .saturating_sub((BURST - 1) * TOKEN_MS)
            .max(now_ms)
    }

    /// Takes one.
    pub(super) fn take(&mut self, now_ms: u64) {
        self.full_ms = self.full_ms.max(now_ms) + TOKEN_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_to_its_cap_and_jitter_stays_within_half() {
        for (failures, want) in [
            (0, 1_000),
            (1, 2_000),
            (5, 32_000),
            (8, 256_000),
            (9, 300_000),
        ] {
            assert_eq!(backoff_ms(failures), want, "{failures}");
        }
        assert_eq!(backoff_ms(u32::MAX), 300_000);
        for (chance, want) in [(0, 1_000), (500, 500), (501, 1_000), (499, 501)] {
            assert_eq!(jittered(1_000, chance), want, "{chance}");
        }
    }

    #[test]
    fn a_mail_server_that_greylists_is_asked_at_its_pace() {
        let mut retry = Retry::new(0);
        let mut now_ms = 0;
        let mut pauses = Vec::new();
        for chance in 0..6 {
            retry.failed(Again::Greylist, now_ms, chance);
            pauses.push((retry.due_ms() - now_ms) / 60_000);
            now_ms = retry.due_ms();
        }
        assert_eq!(pauses, [1, 5, 15, 30, 30, 30]);
    }

    #[test]
    fn retry_after_is_heeded_within_reason() {
        for (seconds, want_ms) in [(0, 1_000), (7, 7_000), (100_000, 30 * 60_000)] {
            let mut retry = Retry::new(0);
            retry.failed(Again::After(Duration::from_secs(seconds)), 10, u64::MAX);
            assert_eq!(retry.due_ms(), 10 + want_ms);
        }
    }

    #[test]
    fn it_tries_for_seventy_two_hours_and_struggles_once() {
        let hours_72 = 72 * 3_600_000;
        let (mut retry, mut now_ms, mut attempts, mut told) = (Retry::new(0), 0, 0, Vec::new());
        while now_ms <= hours_72 {
            attempts += 1;
            retry.failed(Again::Backoff, now_ms, 0);
            now_ms = retry
                .due_ms()
                .min(retry.struggles_at_ms().unwrap_or(u64::MAX).max(now_ms));
            if retry.struggles(now_ms) {
                told.push(now_ms);
            }
        }
        assert_eq!(told, [STRUGGLING_MS]);
        assert!(
            attempts > 850,
            "one attempt each five minutes at least: {attempts}"
        );
    }

    #[test]
    fn the_bucket_lets_a_burst_pass_and_then_one_a_second() {
        let mut bucket = Bucket::new();
        let mut now_ms = 1_000_000;
        let mut sent = Vec::new();
        for _ in 0..8 {
            now_ms = bucket.ready_ms(now_ms);
            bucket.take(now_ms);
            sent.push(now_ms - 1_000_000);
        }
        assert_eq!(sent, [0, 0, 0, 0, 0, 1_000, 2_000, 3_000]);
        now_ms += 3_600_000;
        assert_eq!(bucket.ready_ms(now_ms), now_ms, "an idle hour fills it");
    }
}
