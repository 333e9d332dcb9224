//! Hands out items in order from any number on: first what `kept` has, then the log, and a gap for what is nowhere.

use std::collections::VecDeque;

use dawnwatch_proto::{Gap, GapReason, Item};
use dawnwatch_segment::{Log, Read, Reader};
use jiff::Timestamp;

use super::epoch::Epoch;
use super::record::Parser;
use super::{Entry, Spool};

/// What a gap takes up on the wire, about.
const GAP_BYTES: usize = 32;

/// A place in one epoch.
#[derive(Debug)]
pub struct Cursor {
    epoch: u64,
    next_seq: u64,
    /// Time of the item before, where it was read: a gap begins there.
    time: Option<Timestamp>,
    source: Option<Source>,
    kept: VecDeque<Entry>,
    /// The spool's count of drops when `source` and `kept` were taken.
    drops: u64,
}

#[derive(Debug)]
struct Source {
    reader: Reader,
    parser: Parser,
    /// An entry that was read ahead of a gap.
    ahead: Option<Entry>,
    /// Time of the last item that was read.
    time: Option<Timestamp>,
}

/// Numbers that are nowhere.
#[derive(Debug, Clone, Copy)]
struct Hole {
    to_seq: u64,
    /// Time of the item before, and of the one behind, where they could be read.
    before: Option<Timestamp>,
    behind: Option<Timestamp>,
}

impl Cursor {
    /// A place before a number of an epoch.
    #[must_use]
    pub fn new(epoch: u64, next_seq: u64) -> Cursor {
        Cursor {
            epoch,
            next_seq: next_seq.max(1),
            time: None,
            source: None,
            kept: VecDeque::new(),
            drops: 0,
        }
    }

    /// The number that is read next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn passed(&mut self, entry: &Entry) {
        self.next_seq = entry.last_seq() + 1;
        self.time = Some(entry.ends());
    }
}

impl Spool {
    /// Hands out items from the cursor on, bounded by count and by bytes (but for the last one), and moves it.
    pub fn read(&mut self, cursor: &mut Cursor, items_max: usize, bytes_max: usize) -> Vec<Entry> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while entries.len() < items_max
            && bytes < bytes_max
            && let Some(entry) = self.entry(cursor, u64::MAX)
        {
            bytes += entry.bytes;
            entries.push(entry);
        }
        entries
    }

    /// The next item, none behind `to_seq`, nor while the disk has a bad moment.
    pub(super) fn entry(&mut self, cursor: &mut Cursor, to_seq: u64) -> Option<Entry> {
        let epoch = *self.epoch(cursor.epoch)?;
        let to_seq = to_seq.min(epoch.last_seq());
        if cursor.next_seq > to_seq {
            return None;
        }
        if cursor.drops != self.drops {
            cursor.drops = self.drops;
            cursor.source = None;
            cursor.kept.clear();
        }
        let found = if cursor.next_seq <= self.kept.last_seq(epoch.id) {
            self.entry_of_kept(cursor)
        } else {
            self.entry_of_log(cursor, &epoch)?
        };
        let entry = match found {
            Ok(entry) => entry,
            Err(hole) => self.gap(cursor, &epoch, hole, to_seq),
        };
        cursor.passed(&entry);
        Some(entry)
    }

    /// A hole as an item. What cannot be read is counted as the kind that nearly all items are. Its times are those of its
    /// neighbours, or else the beginning of its epoch and of the next one.
    fn gap(&self, cursor: &Cursor, epoch: &Epoch, hole: Hole, to_seq: u64) -> Entry {
        let next = self.epochs.iter().find(|e| e.base >= epoch.last);
        let behind = hole.behind.or_else(|| next.and_then(|e| e.began));
        let to = behind.unwrap_or(self.newest);
        let began = epoch.began.filter(|_| cursor.next_seq == 1);
        let from = cursor.time.or(hole.before).or(began).unwrap_or(to);
        let to_seq = hole.to_seq.min(to_seq).max(cursor.next_seq);
        let gap = Gap {
            from_seq: cursor.next_seq,
            to_seq,
            from,
            to: to.max(from),
            ticks: to_seq - cursor.next_seq + 1,
            events: 0,
            reason: GapReason::SpoolDamaged,
        };
        Entry {
            seq: cursor.next_seq,
            item: Item::Gap(gap),
            schema: None,
            bytes: GAP_BYTES,
        }
    }

    fn entry_of_kept(&self, cursor: &mut Cursor) -> Result<Entry, Hole> {
        if cursor.kept.is_empty() {
            cursor.kept = self.kept.entries(cursor.epoch, cursor.next_seq).into();
        }
        match cursor.kept.pop_front() {
            Some(entry) if entry.seq == cursor.next_seq => Ok(entry),
            Some(entry) if entry.seq > cursor.next_seq => {
                let hole = Hole::before(&entry);
                cursor.kept.push_front(entry);
                Err(hole)
            }
            Some(_) | None => Err(Hole::to(self.kept.last_seq(cursor.epoch))),
        }
    }

    fn entry_of_log(&mut self, cursor: &mut Cursor, epoch: &Epoch) -> Option<Result<Entry, Hole>> {
        let log = self.log.as_ref()?;
        let position = epoch.base + cursor.next_seq;
        let before = log
            .segments()
            .partition_point(|s| s.last_position < position);
        let Some(segment) = log.segments().get(before) else {
            return Some(Err(Hole::to(epoch.last_seq())));
        };
        // Where the segment itself is gone, reading begins behind it.
        let from = segment.first_position;
        let mut source = cursor.source.take().unwrap_or_else(|| Source {
            reader: log.read(from),
            parser: Parser::default(),
            ahead: None,
            time: None,
        });
        match source.next(log, epoch, cursor.next_seq) {
            Ok(found) => {
                cursor.source = Some(source);
                self.unreadable.passed(from, position);
                Some(found)
            }
            Err(why) => {
                tracing::debug!(why, position, "the spool cannot be read here");
                let to = segment.last_position.min(epoch.last) - epoch.base;
                let is_damaged = self.unreadable.failed(from, position);
                is_damaged.then(|| Err(Hole::to(to)))
            }
        }
    }
}

impl Hole {
    /// Up to this number; nothing readable is known behind it.
    fn to(to_seq: u64) -> Hole {
        Hole {
            to_seq,
            before: None,
            behind: None,
        }
    }

    /// Up to an item.
    fn before(entry: &Entry) -> Hole {
        Hole {
            behind: Some(entry.begins()),
            ..Hole::to(entry.seq - 1)
        }
    }
}

impl Source {
    /// Reads on to a number, or to the first one behind it that can be read. Every record on the way feeds the parser.
    fn next(
        &mut self,
        log: &Log,
        epoch: &Epoch,
        next_seq: u64,
    ) -> Result<Result<Entry, Hole>, String> {
        let wanted = epoch.base + next_seq;
        let mut is_extended = false;
        // The last position that is there and cannot be read.
        let mut unreadable = 0;
        if let Some(entry) = self.ahead.take_if(|entry| entry.seq >= next_seq) {
            return Ok(self.at(entry, next_seq));
        }
        loop {
            match self.reader.next() {
                Some(Ok(Read::Frame { position, payload })) => {
                    if position <= epoch.base {
                        continue;
                    }
                    if position > epoch.last {
                        return Ok(Err(self.hole(epoch.last_seq())));
                    }
                    match self.parser.entry(position - epoch.base, &payload) {
                        Ok(entry) if position < wanted => self.time = Some(entry.ends()),
                        Ok(entry) => return Ok(self.at(entry, next_seq)),
                        Err(error) => {
                            tracing::debug!(%error, position, "a spool record cannot be read");
                            unreadable = position;
                        }
                    }
                }
                Some(Ok(Read::Damage { to_position, .. })) => {
                    self.parser.lost();
                    unreadable = unreadable.max(to_position.saturating_sub(1));
                }
                Some(Err(error)) => return Err(error.to_string()),
                None if !is_extended => {
                    log.read_on(&mut self.reader);
                    is_extended = true;
                }
                None if unreadable >= wanted => {
                    return Ok(Err(self.hole(unreadable.min(epoch.last) - epoch.base)));
                }
                None => return Err("the log ends before what it should hold".to_owned()),
            }
        }
    }

    /// The entry, or the numbers before it that are missing, which are told first.
    fn at(&mut self, entry: Entry, next_seq: u64) -> Result<Entry, Hole> {
        if entry.seq == next_seq {
            self.time = Some(entry.ends());
            return Ok(entry);
        }
        let hole = Hole {
            before: self.time,
            ..Hole::before(&entry)
        };
        self.ahead = Some(entry);
        Err(hole)
    }

    fn hole(&self, to_seq: u64) -> Hole {
        Hole {
            before: self.time,
            ..Hole::to(to_seq)
        }
    }
}
