//! Everything measured lies here until the server has it: one code path, online or not.
//!
//! One segment log. A **position** counts up by one over the whole log, for ever. Each start of the agent begins an
//! **epoch** with a random id; a segment's header says its epoch and the position before the epoch's first item, so that
//! sequence number = position - base, with no file that could disagree. The server says at each welcome what it holds,
//! and that is the only cursor.
//!
//! - A kill loses nothing (items are with the system at once), a power cut at most what was not synced. An epoch is never
//!   continued by another run: numbers that a power cut took back are not given out twice.
//! - Over its bound the spool drops whole segments, oldest first; their events and the count of their ticks go to `kept`.
//! - What cannot be read back is a gap over its numbers, between the times of its neighbours: at once where a checksum
//!   says so, after minutes where the disk says nothing (`unreadable`). Not counted is what nothing on the disk knows of
//!   any more: the tail of a segment that is damaged to its very end, and epochs that only `kept` and its copy had, where
//!   both are damaged.
//! - What the disk does not take is counted and told as a gap of one number as soon as it takes something again. The
//!   count lives in memory: a kill during a full disk loses it, and the unclean start is what the server sees instead.
//! - After a failed sync the log is opened anew under a new epoch: nothing is ever synced twice.
//! - The age bound counts items, not hours on a clock: a clock that jumps must not empty the spool.

mod accept;
mod bound;
mod epoch;
mod kept;
mod lost;
mod read;
mod record;
mod sync;
mod unreadable;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dawnwatch_proto::{Event, EventBody, Gap, GapReason, Item, Schema, Tick};
use dawnwatch_segment::{Disk, Error, Log, Options};
use jiff::Timestamp;

use bound::EPOCHS_MAX;
use epoch::{Epoch, next_id, note, strays, table};
use kept::Kept;
use lost::Losses;
pub use read::Cursor;
pub use record::Entry;
use record::{Writer, times};
use sync::Unsynced;
pub use sync::{Synced, Syncing};
use unreadable::Unreadable;

/// Marks the spool's segments.
const KIND: [u8; 4] = *b"SPOL";

/// Segment size: some ten hours of a host, and the grain in which a full spool drops.
const SEGMENT_BYTES: u64 = 1 << 20;

/// The bound is at least this many segments, however small it is.
const SEGMENTS_MIN: u64 = 8;

/// Stands for the file of what was kept among the segments that cannot be read: its positions are before theirs.
const KEPT: u64 = 0;

/// Events held in memory while the disk takes nothing.
const PENDING_MAX: usize = 64;

/// How much the spool may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes on disk.
    pub bytes_max: u64,
    /// Items: hours of ticks.
    pub items_max: u64,
}

impl Limits {
    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES.min(self.bytes_max / SEGMENTS_MIN).max(1)
    }
}

/// The beginning of a run.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// The random id of its epoch.
    pub id: u64,
    /// The time: gaps of which nothing else is known end here.
    pub at: Timestamp,
}

/// What the spool holds of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochSpan {
    /// The epoch's random id.
    pub id: u64,
    /// First sequence number still held.
    pub first_seq: u64,
    /// Last sequence number given out, 0 for none.
    pub last_seq: u64,
}

/// The spool of one agent.
#[derive(Debug)]
pub struct Spool {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: Limits,
    /// None while the disk does not let it be opened.
    log: Option<Log>,
    /// Oldest first; the last one is written to while the log is open.
    epochs: Vec<Epoch>,
    kept: Kept,
    writer: Writer,
    losses: Losses,
    pending: VecDeque<Event>,
    /// Time of the newest item, or of the start.
    newest: Timestamp,
    unsynced: Unsynced,
    unreadable: Unreadable,
    /// Segments that nobody owns and that were not told yet: their last position, and what they count.
    strays: Option<(u64, Gap)>,
    /// Up to here they were told.
    strays_told: u64,
    /// Whether the bounds hold but for a segment that cannot be read at the moment.
    put_off: bool,
    /// Id of the epoch that the next opening begins.
    next_id: u64,
    /// Position at the first opening, before anything of this run.
    found: Option<u64>,
    generation: u64,
    drops: u64,
    last_stop_clean: bool,
    trouble: Option<String>,
    /// Whether the last thing asked of the disk failed: trouble is told once.
    failing: bool,
}

impl Spool {
    /// Opens the spool and begins an epoch. A disk that is full or broken is no error: what it does not take is counted.
    ///
    /// # Errors
    /// [`Error`] where the directory belongs to a newer agent or to something else; nothing is changed then.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        limits: Limits,
        start: Start,
    ) -> Result<Spool, Error> {
        let mut spool = Spool {
            disk,
            dir: dir.to_owned(),
            limits,
            log: None,
            epochs: Vec::new(),
            kept: Kept::default(),
            writer: Writer::default(),
            losses: Losses::default(),
            pending: VecDeque::new(),
            newest: start.at,
            unsynced: Unsynced::since(start.at),
            unreadable: Unreadable::default(),
            strays: None,
            strays_told: 0,
            put_off: false,
            next_id: start.id,
            found: None,
            generation: 0,
            drops: 0,
            last_stop_clean: true,
            trouble: None,
            failing: false,
        };
        match spool.begin_epoch() {
            Err(error @ (Error::NewerVersion { .. } | Error::WrongKind { .. })) => Err(error),
            Err(error) => {
                spool.last_stop_clean = false;
                spool.failed(&error);
                Ok(spool)
            }
            Ok(()) => {
                spool.last_stop_clean = spool.ends_with_goodbye();
                spool.enforce();
                spool.keep_bounds();
                Ok(spool)
            }
        }
    }

    /// Whether the run before this one said goodbye, or there was none.
    #[must_use]
    pub fn last_stop_clean(&self) -> bool {
        self.last_stop_clean
    }

    /// Keeps a tick.
    pub fn append_tick(&mut self, tick: &Tick, schema: &Arc<Schema>) {
        self.append(Item::Tick(tick.clone()), Some(schema));
    }

    /// Keeps an event.
    pub fn append_event(&mut self, event: Event) {
        self.append(Item::Event(event), None);
    }

    /// Counts up whenever an epoch begins: a stream cannot name one that began after its hello.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The epochs that hold something the server may not have, oldest first, and the one under way; no more than one hello
    /// may name.
    #[must_use]
    pub fn epochs(&self) -> Vec<EpochSpan> {
        let last = self.epochs.len().saturating_sub(1);
        let alive = |(i, e): &(usize, &Epoch)| *i == last || e.acked < e.last_seq();
        let spans = self
            .epochs
            .iter()
            .enumerate()
            .filter(alive)
            .map(|(_, e)| EpochSpan {
                id: e.id,
                first_seq: e.first - e.base,
                last_seq: e.last_seq(),
            });
        let mut spans: Vec<EpochSpan> = spans.collect();
        // The oldest ones wait until the disk takes their count: the server would refuse to be told of more.
        spans.drain(..spans.len().saturating_sub(EPOCHS_MAX));
        spans
    }

    /// Last sequence number of an epoch, 0 where it is gone or empty.
    #[must_use]
    pub fn last_seq(&self, epoch: u64) -> u64 {
        self.epoch(epoch).map_or(0, Epoch::last_seq)
    }

    /// Items that the server has not acknowledged.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let waiting =
            |e: &Epoch| e.last_seq() - e.acked.max(e.first - e.base - 1).min(e.last_seq());
        self.epochs.iter().map(waiting).sum()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.log.as_ref().map_or(0, Log::bytes) + self.kept.bytes()
    }

    /// What the disk does not do, for a person; told once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// The server holds everything of this epoch up to this number: it may go.
    pub fn ack(&mut self, epoch: u64, seq: u64) {
        if let Some(e) = self.epochs.iter_mut().find(|e| e.id == epoch) {
            e.acked = e.acked.max(seq.min(e.last_seq()));
            self.release();
        }
    }

    fn epoch(&self, id: u64) -> Option<&Epoch> {
        self.epochs.iter().find(|e| e.id == id)
    }

    fn append(&mut self, item: Item, schema: Option<&Arc<Schema>>) {
        self.newest = times(&item).1;
        if matches!(item, Item::Tick(_)) {
            self.unreadable.tick();
        }
        match self.write(&item, schema) {
            Ok(()) => {
                self.failing = false;
                self.keep_bounds();
            }
            Err(error) => {
                if let Some(error) = error {
                    self.failed(&error);
                }
                match item {
                    Item::Event(event) if self.pending.len() < PENDING_MAX => {
                        self.pending.push_back(event);
                    }
                    lost @ (Item::Tick(_) | Item::Event(_) | Item::Gap(_)) => {
                        self.losses.add(&lost, GapReason::DiskFull);
                    }
                }
            }
        }
    }

    /// Writes what the disk did not take before, then the item. The error is none where it was dealt with already.
    fn write(&mut self, item: &Item, schema: Option<&Arc<Schema>>) -> Result<(), Option<Error>> {
        self.write_waiting()?;
        self.write_one(item, schema)
    }

    /// Writes what the disk did not take before.
    fn write_waiting(&mut self) -> Result<(), Option<Error>> {
        if self.log.is_none() {
            self.begin_epoch()?;
        }
        while let Some(gap) = self.losses.first(self.next_seq()) {
            self.write_one(&Item::Gap(gap), None)?;
            self.losses.told();
        }
        while let Some(event) = self.pending.front() {
            self.write_one(&Item::Event(event.clone()), None)?;
            self.pending.pop_front();
        }
        Ok(())
    }

    fn next_seq(&self) -> u64 {
        self.epochs.last().map_or(1, |e| e.last_seq() + 1)
    }

    fn write_one(
        &mut self,
        item: &Item,
        schema: Option<&Arc<Schema>>,
    ) -> Result<(), Option<Error>> {
        let segment_bytes = self.limits.segment_bytes();
        let log = self.log.as_mut().ok_or(None)?;
        if log
            .segments()
            .last()
            .is_some_and(|active| active.bytes >= segment_bytes)
        {
            log.rotate()?;
            self.unsynced = Unsynced::since(self.newest);
            self.writer.new_chapter();
            self.enforce();
        }
        let log = self.log.as_mut().ok_or(None)?;
        let record = self.writer.record(item, schema);
        let position = log.append(&record)?;
        self.unsynced.count(item, position);
        if let Some(epoch) = self.epochs.last_mut() {
            epoch.last = position;
        }
        Ok(())
    }

    /// The disk did not do what it should: the log is healed where that is sound, else left to be opened anew.
    fn failed(&mut self, error: &Error) {
        // What the writer said last is not on disk: the next record must be readable without it.
        self.writer.new_chapter();
        let healed = error.is_full() && self.log.as_mut().is_some_and(|log| log.heal().is_ok());
        if !healed {
            self.log = None;
        }
        if !self.failing {
            self.trouble = Some(format!("the spool loses ticks: {error}"));
        }
        self.failing = true;
    }

    /// Opens the log under a new epoch and reads the table of epochs off the segments.
    fn begin_epoch(&mut self) -> Result<(), Error> {
        let id = self.next_id;
        self.next_id = next_id(id);
        let (mut base, mut damage) = (0, Vec::new());
        // The base is known only once the log is open; an empty segment with a wrong one is replaced.
        let mut log = loop {
            let options = Options {
                kind: KIND,
                // The spool rotates by itself, for a segment must begin with a chapter.
                segment_bytes: u64::MAX / 2,
                preallocate: false,
                header_note: note(id, base, self.newest),
            };
            let (log, recovery) = Log::open(Arc::clone(&self.disk), &self.dir, options)?;
            if recovery.cut.is_some() {
                tracing::debug!(?recovery, "the spool's last record was torn");
            }
            damage.extend(recovery.damage);
            if log.next_position() - 1 == base {
                break log;
            }
            base = log.next_position() - 1;
        };
        self.kept = match Kept::load(self.disk.as_ref(), &self.dir) {
            Ok(kept) => kept,
            Err(error) if !self.unreadable.failed(KEPT, KEPT) => return Err(error),
            Err(_) => Kept::default(),
        };
        // A kill between keeping and removing left both.
        log.release(self.kept.last() + 1)?;
        let acked: BTreeMap<u64, u64> = self.epochs.iter().map(|e| (e.id, e.acked)).collect();
        let before = std::mem::replace(&mut self.epochs, table(&self.kept, &log, &acked));
        // What a failed sync took back was given out before: it is counted in the epoch that begins.
        for old in before {
            let held = self.last_seq(old.id).max(old.acked);
            let gone = old.last_seq().saturating_sub(held);
            if gone > 0 {
                let lost = self.unsynced.newest(gone, self.newest);
                self.losses.count(lost, GapReason::DiskFull);
            }
        }
        let is_lost = |position| {
            position > base
                || damage
                    .iter()
                    .any(|(from, to)| (*from..*to).contains(&position))
        };
        if let Some(hidden) = self.unsynced.hidden(is_lost) {
            self.losses.count(hidden, GapReason::DiskFull);
        }
        self.find_strays(&log);
        self.found = self.found.or(Some(base));
        self.log = Some(log);
        self.unsynced = Unsynced::since(self.newest);
        self.writer = Writer::new(note(id, base, self.newest));
        self.generation += 1;
        self.drops += 1;
        Ok(())
    }

    /// Finds segments of which nobody knows whose they were, to be told and removed. Nothing is counted here: opening may fail, and
    /// is tried again.
    fn find_strays(&mut self, log: &Log) {
        let Some((first, last)) = strays(&self.epochs, log) else {
            return;
        };
        if self.strays.is_some() || last <= self.strays_told {
            return;
        }
        let first = first.max(self.strays_told + 1);
        let began = self.epochs.first().and_then(|epoch| epoch.began);
        let time = began.unwrap_or(self.newest);
        let gap = Gap {
            from_seq: first,
            to_seq: last,
            from: time,
            to: time,
            ticks: last - first + 1,
            events: 0,
            reason: GapReason::SpoolDamaged,
        };
        self.strays = Some((last, gap));
    }

    /// Whether the newest item of earlier runs is a goodbye.
    fn ends_with_goodbye(&mut self) -> bool {
        let Some(last) = self.epochs.iter().rev().find(|e| e.last > e.base).copied() else {
            return true;
        };
        let mut cursor = Cursor::new(last.id, last.last_seq());
        let entry = self.entry(&mut cursor, u64::MAX);
        entry.is_some_and(|entry| match entry.item {
            Item::Event(event) => matches!(event.body, EventBody::Goodbye(_)),
            Item::Tick(_) | Item::Gap(_) => false,
        })
    }
}

#[cfg(test)]
pub(crate) mod hooks;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
