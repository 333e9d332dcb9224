//! Makes durable what was kept, on whatever thread: a disk may take minutes for it, and nobody waits that long.

use std::path::PathBuf;
use std::sync::Arc;

use dawnwatch_proto::{Gap, Item};
use dawnwatch_segment::{Disk, Error};
use jiff::Timestamp;

use super::Spool;
use super::lost::Lost;

/// A sync to be done: owns all it needs, so that it can be moved to another thread.
#[derive(Debug)]
pub struct Syncing {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    generation: u64,
    position: u64,
}

/// How a sync came out, for the spool to hear.
#[derive(Debug)]
pub struct Synced {
    generation: u64,
    position: u64,
    done: Result<(), Error>,
}

impl Syncing {
    /// Syncs; takes as long as the disk takes.
    #[must_use]
    pub fn sync(self) -> Synced {
        // Another handle than the log's. It writes back the same pages, and an error that happened to them before it was
        // opened is told to it too, unless the log's own handle heard of it first.
        let done = self
            .disk
            .open_read(&self.path)
            .and_then(|mut file| file.sync_data());
        let path = self.path;
        Synced {
            generation: self.generation,
            position: self.position,
            done: done.map_err(|source| Error::Io {
                what: "sync",
                path,
                source,
            }),
        }
    }
}

/// Gaps that are not durable yet and that are known one by one: each took a disk that failed.
const GAPS_MAX: usize = 64;

/// What a power cut would take.
#[derive(Debug)]
pub(super) struct Unsynced {
    /// Position up to which the log is durable, as a sync on another thread found; the log itself does not hear of it.
    position: u64,
    /// What a sync that runs makes durable, if it comes out well.
    syncing: Part,
    /// What was written since it began.
    since: Part,
}

/// Items written one after the other.
#[derive(Debug)]
struct Part {
    ticks: u64,
    events: u64,
    from: Timestamp,
    /// Gaps and their positions: a lost one takes more than itself along.
    gaps: Vec<(u64, Gap)>,
}

impl Part {
    fn from(from: Timestamp) -> Part {
        Part {
            ticks: 0,
            events: 0,
            from,
            gaps: Vec::new(),
        }
    }
}

impl Unsynced {
    /// Nothing yet; what comes, comes after this.
    pub(super) fn since(from: Timestamp) -> Unsynced {
        Unsynced {
            position: 0,
            syncing: Part::from(from),
            since: Part::from(from),
        }
    }

    /// Position up to which another thread made the log durable.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// A sync of all that was written begins; what comes, comes after this. What an earlier one left open is in it.
    fn begin(&mut self, newest: Timestamp) {
        let begun = std::mem::replace(&mut self.since, Part::from(newest));
        self.syncing.ticks += begun.ticks;
        self.syncing.events += begun.events;
        self.syncing.gaps.extend(begun.gaps);
    }

    /// The sync that was begun made the log durable up to a position.
    fn done(&mut self, position: u64) {
        self.position = position;
        self.syncing = Part::from(self.since.from);
    }

    /// Takes in an item that was written at a position.
    pub(super) fn count(&mut self, item: &Item, position: u64) {
        if let Item::Gap(gap) = item
            && self.syncing.gaps.len() + self.since.gaps.len() < GAPS_MAX
        {
            self.since.gaps.push((position, gap.clone()));
        }
        let is_tick = matches!(item, Item::Tick(_));
        self.since.ticks += u64::from(is_tick);
        self.since.events += u64::from(!is_tick);
    }

    /// What gaps at lost positions counted beyond themselves: a position that cannot be read counts as one item, whatever stood there.
    pub(super) fn hidden(&self, is_lost: impl Fn(u64) -> bool) -> Option<Lost> {
        let gaps = self.syncing.gaps.iter().chain(&self.since.gaps);
        let hidden = gaps
            .filter(|(position, _)| is_lost(*position))
            .map(|(_, gap)| Lost {
                ticks: gap.ticks.saturating_sub(1),
                events: gap.events.saturating_sub(u64::from(gap.ticks == 0)),
                from: gap.from,
                to: gap.to,
            });
        hidden.reduce(|a, b| Lost {
            ticks: a.ticks + b.ticks,
            events: a.events + b.events,
            from: a.from.min(b.from),
            to: a.to.max(b.to),
        })
    }

    /// What so many of the newest items were, as far as that is known.
    pub(super) fn newest(&self, gone: u64, to: Timestamp) -> Lost {
        let events = (self.syncing.events + self.since.events).min(gone);
        Lost {
            ticks: gone - events,
            events,
            from: self.syncing.from.min(to),
            to,
        }
    }
}

impl Spool {
    /// Makes everything kept durable, here and at once.
    pub fn sync(&mut self) {
        if let Some(syncing) = self.to_sync() {
            self.synced(syncing.sync());
        }
    }

    /// What there is to make durable, if anything. How it came out is told to [`Spool::synced`] before the next is asked for.
    #[must_use]
    pub fn to_sync(&mut self) -> Option<Syncing> {
        let log = self.log.as_ref()?;
        let position = log.next_position() - 1;
        if position <= log.durable_position().max(self.unsynced.position) {
            return None;
        }
        let path = self.dir.join(&log.segments().last()?.name);
        self.unsynced.begin(self.newest);
        Some(Syncing {
            disk: Arc::clone(&self.disk),
            path,
            generation: self.generation,
            position,
        })
    }

    /// Takes note of how a sync came out. After one that failed the log is opened anew, under a new epoch.
    pub fn synced(&mut self, synced: Synced) {
        if synced.generation != self.generation {
            return;
        }
        match synced.done {
            Ok(()) => self.unsynced.done(synced.position),
            // The segment was delivered, or dropped, while it was being synced.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                // Not healed: what was written before may be lost though it reads back.
                self.log = None;
                self.failed(&error);
            }
        }
    }
}
