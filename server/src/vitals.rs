//! What the server measures of itself: cheap gauges that its rooms keep, and the row that is made of them every ten seconds.
//!
//! Peaks are kept over two windows of ten seconds, the one under way and the one before: whoever reads in between misses none.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dawnwatch_engine::vitals::Vitals;
use jiff::Timestamp;

use crate::clock::Clock;

/// Files of one part of the data directory that are added up: 35 days of hours, and room for storms of events.
const FILES_MAX: usize = 20_000;

/// No input waits.
const NONE: u64 = u64::MAX;

/// A peak over the last ten to twenty seconds.
#[derive(Debug, Default)]
struct Peak {
    now: AtomicU64,
    before: AtomicU64,
}

impl Peak {
    fn note(&self, value: u64) {
        self.now.fetch_max(value, Ordering::Relaxed);
    }

    fn turn(&self) {
        self.before
            .store(self.now.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        let (now, before) = (&self.now, &self.before);
        now.load(Ordering::Relaxed)
            .max(before.load(Ordering::Relaxed))
    }
}

/// The gauges. Each is written by one room and read by all; none waits for another.
#[derive(Debug)]
pub struct Gauges {
    data: PathBuf,
    clock: Clock,
    queue: AtomicU64,
    /// Boot time since which the oldest input that is not durable waits, or [`NONE`].
    waits_ms: AtomicU64,
    lag_ms: Peak,
    sync_last_us: AtomicU64,
    sync_us: Peak,
    step_us: Peak,
    inputs: AtomicU64,
    outbox: AtomicU64,
    /// Unix milliseconds of the oldest notification that waits.
    outbox_since_ms: AtomicU64,
    streams: AtomicU64,
}

impl Gauges {
    /// Gauges of a server with this data directory; all at nothing.
    #[must_use]
    pub fn new(data: &Path) -> Gauges {
        Gauges {
            data: data.to_owned(),
            clock: Clock,
            queue: AtomicU64::default(),
            waits_ms: AtomicU64::new(NONE),
            lag_ms: Peak::default(),
            sync_last_us: AtomicU64::default(),
            sync_us: Peak::default(),
            step_us: Peak::default(),
            inputs: AtomicU64::default(),
            outbox: AtomicU64::default(),
            outbox_since_ms: AtomicU64::default(),
            streams: AtomicU64::default(),
        }
    }

    /// The journal takes a group in whose oldest input came no earlier than this; so many still wait behind it.
    pub(crate) fn taken(&self, since_ms: u64, waiting: usize) {
        self.waits_ms.store(since_ms, Ordering::Relaxed);
        self.queue.store(waiting as u64, Ordering::Relaxed);
    }

    /// That group of so many inputs is durable, or was refused.
    pub(crate) fn durable(&self, inputs: usize) {
        let since_ms = self.waits_ms.swap(NONE, Ordering::Relaxed);
        self.lag_ms
            .note(self.clock.boot_ms().saturating_sub(since_ms));
        self.inputs.fetch_add(inputs as u64, Ordering::Relaxed);
    }

    /// Does a sync of the journal and notes how long it took.
    pub(crate) fn sync<T>(&self, work: impl FnOnce() -> T) -> T {
        let (done, took_us) = self.timed(work);
        self.sync_last_us.store(took_us, Ordering::Relaxed);
        self.sync_us.note(took_us);
        done
    }

    /// Does a step of the engine and notes how long it took.
    pub(crate) fn step<T>(&self, work: impl FnOnce() -> T) -> T {
        let (done, took_us) = self.timed(work);
        self.step_us.note(took_us);
        done
    }

    /// So many notifications wait, the oldest since then.
    pub(crate) fn outbox(&self, pending: usize, oldest: Option<Timestamp>) {
        let oldest = oldest.map_or(0, |at| u64::try_from(at.as_millisecond()).unwrap_or(0));
        self.outbox.store(pending as u64, Ordering::Relaxed);
        self.outbox_since_ms.store(oldest, Ordering::Relaxed);
    }

    /// So many agents are connected.
    pub(crate) fn streams(&self, open: usize) {
        self.streams.store(open as u64, Ordering::Relaxed);
    }

    /// How long the oldest input that is not durable has waited by now, milliseconds.
    #[must_use]
    pub fn lag_ms(&self) -> u64 {
        match self.waits_ms.load(Ordering::Relaxed) {
            NONE => 0,
            since_ms => self.clock.boot_ms().saturating_sub(since_ms),
        }
    }

    /// All numbers as they stand. Reads the filesystem: not for a thread that must not wait.
    #[must_use]
    pub fn read(&self) -> Vitals {
        let load = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        let outbox = load(&self.outbox);
        let since = load(&self.outbox_since_ms);
        let now_ms = u64::try_from(self.clock.wall().as_millisecond()).unwrap_or(0);
        let room = rustix::fs::statvfs(&self.data).ok();
        let bytes = |blocks: Option<u64>| {
            let size = room.as_ref().map_or(0, |room| room.f_frsize);
            blocks.unwrap_or(0).saturating_mul(size)
        };
        Vitals {
            queue_inputs: load(&self.queue),
            lag_ms: self.lag_ms.read().max(self.lag_ms()),
            sync_last_us: load(&self.sync_last_us),
            sync_max_us: self.sync_us.read(),
            step_max_us: self.step_us.read(),
            inputs: load(&self.inputs),
            outbox,
            outbox_oldest_ms: if outbox == 0 {
                0
            } else {
                now_ms.saturating_sub(since)
            },
            streams: load(&self.streams),
            memory_bytes: resident_bytes().unwrap_or(0),
            free_bytes: bytes(room.as_ref().map(|room| room.f_bavail)),
            // As df reckons: what is kept for root or others is no room here, full or not.
            size_bytes: bytes(room.as_ref().map(|room| {
                let used = room.f_blocks.saturating_sub(room.f_bfree);
                used + room.f_bavail
            })),
            journal_bytes: taken_bytes(&self.data.join("journal")),
            history_bytes: taken_bytes(&self.data.join("history")),
            ledger_bytes: taken_bytes(&self.data.join("ledger")),
        }
    }

    /// The row of the last ten seconds; the next ones begin.
    #[must_use]
    pub fn sample(&self) -> Vitals {
        for peak in [&self.lag_ms, &self.sync_us, &self.step_us] {
            peak.turn();
        }
        self.read()
    }

    fn timed<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let from = self.clock.boot_us();
        let done = work();
        (done, self.clock.boot_us().saturating_sub(from))
    }
}

/// Space that the files of a directory take on disk. Files that go while they are counted count for nothing.
fn taken_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let files = entries.take(FILES_MAX).flatten();
    let sizes = files.filter_map(|entry| entry.metadata().ok());
    sizes
        .map(|file| std::os::unix::fs::MetadataExt::blocks(&file) * 512)
        .sum()
}

fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_for_two_windows() {
        let peak = Peak::default();
        peak.note(5);
        peak.note(3);
        assert_eq!(peak.read(), 5);
        peak.turn();
        peak.note(2);
        assert_eq!(peak.read(), 5);
        peak.turn();
        assert_eq!(peak.read(), 2);
    }

    #[test]
    fn what_waits_ages_until_it_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ledger")).unwrap();
        fs::write(dir.path().join("ledger/1"), vec![1; 100_000]).unwrap();
        let gauges = Gauges::new(dir.path());
        assert_eq!(gauges.lag_ms(), 0, "nothing waits");
        gauges.taken(Clock.boot_ms().saturating_sub(7_000), 12);
        assert!(gauges.lag_ms() >= 7_000);
        gauges.durable(3);
        assert_eq!(gauges.lag_ms(), 0);
        gauges.outbox(2, Some(Timestamp::from_second(1).unwrap()));
        let vitals = gauges.sample();
        assert!(vitals.lag_ms >= 7_000, "{vitals:?}");
        assert_eq!((vitals.queue_inputs, vitals.inputs), (12, 3));
        assert!(vitals.outbox_oldest_ms > 1_000_000_000_000);
        assert!(vitals.ledger_bytes >= 100_000, "{vitals:?}");
        assert!(vitals.memory_bytes > 100_000 && vitals.size_bytes > vitals.free_bytes);
    }
}
