//! One instant, one tick: aligned to the clock, shifted by host so that a fleet does not knock all at once.
//!
//! Instants that were missed (suspend, a stalled machine) are skipped, never made up for: a counter needs no burst.

use std::time::Duration;

use dawnwatch_proto::{Event, EventBody, HostId, Tick};
use jiff::Timestamp;

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::collect::Collectors;
use crate::uplink::Shared;

/// A tick is stamped with its aligned instant if it is read at most this late: the error of a rate stays under 0.5 %
/// at ten seconds, and a regular stamp costs nothing in history. Beyond it the true time is stamped.
const ALIGNED_MS_MAX: i64 = 50;

/// The first instant after `now_ms` that lies at the host's offset within the interval.
#[must_use]
pub fn next_instant(now_ms: i64, interval_ms: i64, offset_ms: i64) -> i64 {
    let interval_ms = interval_ms.max(1);
    let since = (now_ms - offset_ms).rem_euclid(interval_ms);
    now_ms + (interval_ms - since)
}

/// A host's place within the interval: the same at every start, spread evenly over a fleet.
#[must_use]
pub fn offset_ms(host: HostId, interval_ms: i64) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in host.0.to_le_bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of FNV-1a mix well enough for a spread, and the modulus is far below 2^32.
    let spread = i64::from(u32::try_from(hash >> 32).unwrap_or(0));
    spread.rem_euclid(interval_ms.max(1))
}

/// The stamp of a tick that was due at `due_ms` and is read at `now`.
fn stamp(due_ms: i64, now: Timestamp) -> Timestamp {
    let late = now.as_millisecond() - due_ms;
    if (0..=ALIGNED_MS_MAX).contains(&late) {
        Timestamp::from_millisecond(due_ms).unwrap_or(now)
    } else {
        now
    }
}

/// Samples for ever: reads, spools, wakes the uplink.
pub async fn run(shared: &Shared, clock: Clock, host: HostId, mut collectors: Collectors) {
    let alarm = Alarm::new();
    loop {
        let due_ms = wait_for_instant(shared, clock, host, &alarm).await;
        let now = clock.wall();
        let reading = collectors.read();
        for (subject, text) in reading.troubles {
            tracing::warn!(subject, "{text}");
            let body = EventBody::Trouble { subject, text };
            shared.event(Event { time: now, body });
        }
        let tick = Tick {
            time: stamp(due_ms, now),
            schema: reading.schema.id(),
            row: reading.row,
        };
        shared.tick(tick, &reading.schema);
    }
}

/// Sleeps until the next instant; returns when it was due. The wall clock may jump meanwhile: the instant is then
/// computed anew, and no sleep is longer than one interval.
async fn wait_for_instant(shared: &Shared, clock: Clock, host: HostId, alarm: &Alarm) -> i64 {
    let interval = i64::try_from(shared.tick_interval().as_millis()).unwrap_or(i64::MAX);
    let offset = offset_ms(host, interval);
    let mut now = clock.wall().as_millisecond();
    let due = next_instant(now, interval, offset);
    while now < due && due - now <= interval {
        alarm
            .sleep(Duration::from_millis((due - now).unsigned_abs()))
            .await;
        now = clock.wall().as_millisecond();
    }
    // After a stall the instant that was missed last is the one this tick stands for.
    next_instant(now, interval, offset) - interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_aligned_and_never_now() {
        for (now, interval, offset, want) in [
            (0, 10_000, 0, 10_000),
            (1, 10_000, 0, 10_000),
            (9_999, 10_000, 0, 10_000),
            (10_000, 10_000, 0, 20_000),
            (10_000, 10_000, 3_000, 13_000),
            (13_000, 10_000, 3_000, 23_000),
            (2_999, 10_000, 3_000, 3_000),
            (-1, 10_000, 3_000, 3_000),
            (-7_001, 10_000, 3_000, -7_000),
            (-7_000, 10_000, 3_000, 3_000),
            (1_764_000_000_123, 200, 70, 1_764_000_000_270),
            (5, 0, 0, 6),
        ] {
            assert_eq!(
                next_instant(now, interval, offset),
                want,
                "{now} {interval} {offset}"
            );
        }
    }

    #[test]
    fn a_fleet_is_spread_over_the_interval() {
        let mut seconds = [0u32; 10];
        for i in 0..10_000u64 {
            let offset = offset_ms(HostId::v7(i, u128::from(i) << 20), 10_000);
            assert!((0..10_000).contains(&offset));
            seconds[usize::try_from(offset / 1_000).unwrap()] += 1;
        }
        assert!(
            seconds.iter().all(|n| (700..1_300).contains(n)),
            "{seconds:?}"
        );
        assert_eq!(offset_ms(HostId(7), 10_000), offset_ms(HostId(7), 10_000));
    }

    #[test]
    fn a_late_tick_tells_its_true_time() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        for (due, now, want) in [
            (10_000, 10_000, 10_000),
            (10_000, 10_050, 10_000),
            (10_000, 10_051, 10_051),
            (10_000, 9_999, 9_999),
        ] {
            assert_eq!(stamp(due, at(now)), at(want), "{due} {now}");
        }
    }
}
