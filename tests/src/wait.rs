//! Waiting for a condition: bounded, and saying at the end what was waited for.

use std::time::{Duration, Instant};

/// Between two looks at a condition: short against what is waited for, long against the look.
const STEP: Duration = Duration::from_millis(50);

/// Looks until the condition gives a value.
///
/// # Panics
/// Where it does not within the bound; the text says what was waited for.
#[allow(
    clippy::disallowed_methods,
    reason = "a test measures real processes by the real clock"
)]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {within:?} for: {what}");
        std::thread::sleep(STEP);
    }
}

/// Looks until the condition holds.
///
/// # Panics
/// As [`until`] does.
pub fn until_true(what: &str, within: Duration, mut look: impl FnMut() -> bool) {
    until(what, within, || look().then_some(()));
}
