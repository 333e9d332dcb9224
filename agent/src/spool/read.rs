//! Hands out items in order from any number on: first what `kept` has, then the log, and a gap for what is nowhere.

use std::collections::VecDeque;

use dawnwatch_proto::{Gap, GapReason, Item};
use dawnwatch_segment::{Log, Read, Reader};
use jiff::Timestamp;

use super::epoch::Epoch;
use super::record::Parser;
use super::{Entry, Spool};

/// Times that reading at one place may fail before it counts as damage: a disk may have a bad moment.
const TRIES: u32 = 3;

/// A place in one epoch.
#[derive(Debug)]
pub struct Cursor {
    epoch: u64,
    next_seq: u64,
    /// Time of the item before: the best guess for a gap.
    time: Timestamp,
    source: Option<Source>,
    kept: VecDeque<Entry>,
    /// The spool's count of drops when `source` and `kept` were taken.
    drops: u64,
    failures: u32,
}

#[derive(Debug)]
struct Source {
    reader: Reader,
    parser: Parser,
    /// An entry that was read ahead of a gap.
    ahead: Option<Entry>,
}

impl Cursor {
    /// A place before a number of an epoch.
    #[must_use]
    pub fn new(epoch: u64, next_seq: u64) -> Cursor {
        Cursor {
            epoch,
            next_seq: next_seq.max(1),
            time: Timestamp::UNIX_EPOCH,
            source: None,
            kept: VecDeque::new(),
            drops: 0,
            failures: 0,
        }
    }

    /// The number that is read next.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn gap(&self, to_seq: u64, reason: GapReason) -> Entry {
        let gap = Gap {
            from_seq: self.next_seq,
            to_seq,
            from: self.time,
            to: self.time,
            // What cannot be read is counted as the kind that nearly all items are.
            ticks: to_seq - self.next_seq + 1,
            events: 0,
            reason,
        };
        Entry {
            seq: self.next_seq,
            item: Item::Gap(gap),
            schema: None,
            bytes: 32,
        }
    }

    fn passed(&mut self, entry: &Entry) {
        self.next_seq = entry.last_seq() + 1;
        self.failures = 0;
        self.time = match &entry.item {
            Item::Tick(tick) => tick.time,
            Item::Event(event) => event.time,
            Item::Gap(gap) => gap.to,
        };
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

    /// The next item, none behind `to_seq`.
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
        let entry = if cursor.next_seq <= self.kept.last_seq(epoch.id) {
            self.entry_of_kept(cursor)
        } else {
            self.entry_of_log(cursor, &epoch)?
        };
        cursor.passed(&entry);
        Some(entry)
    }

    fn entry_of_kept(&self, cursor: &mut Cursor) -> Entry {
        if cursor.kept.is_empty() {
            cursor.kept = self.kept.entries(cursor.epoch, cursor.next_seq).into();
        }
        match cursor.kept.pop_front() {
            Some(entry) if entry.seq == cursor.next_seq => entry,
            Some(entry) if entry.seq > cursor.next_seq => {
                let gap = cursor.gap(entry.seq - 1, GapReason::SpoolDamaged);
                cursor.kept.push_front(entry);
                gap
            }
            Some(_) | None => cursor.gap(self.kept.last_seq(cursor.epoch), GapReason::SpoolDamaged),
        }
    }

    fn entry_of_log(&self, cursor: &mut Cursor, epoch: &Epoch) -> Option<Entry> {
        let log = self.log.as_ref()?;
        let position = epoch.base + cursor.next_seq;
        let before = log
            .segments()
            .partition_point(|s| s.last_position < position);
        let Some(segment) = log.segments().get(before) else {
            return Some(cursor.gap(epoch.last_seq(), GapReason::SpoolDamaged));
        };
        if segment.first_position > position {
            let to = (segment.first_position - 1).min(epoch.last) - epoch.base;
            return Some(cursor.gap(to, GapReason::SpoolDamaged));
        }
        let mut source = cursor.source.take().unwrap_or_else(|| Source {
            reader: log.read(segment.first_position),
            parser: Parser::default(),
            ahead: None,
        });
        match source.next(log, epoch, cursor) {
            Ok(entry) => {
                cursor.source = Some(source);
                Some(entry)
            }
            Err(why) => {
                cursor.failures += 1;
                tracing::debug!(why, position, "the spool cannot be read here");
                let to = segment.last_position.min(epoch.last) - epoch.base;
                (cursor.failures >= TRIES).then(|| cursor.gap(to, GapReason::SpoolDamaged))
            }
        }
    }
}

impl Source {
    /// Reads on to the cursor's number. Every record on the way feeds the parser.
    fn next(&mut self, log: &Log, epoch: &Epoch, cursor: &Cursor) -> Result<Entry, String> {
        let wanted = epoch.base + cursor.next_seq;
        let mut is_extended = false;
        if let Some(entry) = self.ahead.take_if(|entry| entry.seq >= cursor.next_seq) {
            return Ok(self.or_gap(entry, cursor));
        }
        loop {
            match self.reader.next() {
                Some(Ok(Read::Frame { position, payload })) => {
                    if position <= epoch.base || position > epoch.last {
                        continue;
                    }
                    let seq = position - epoch.base;
                    let entry = self.parser.entry(seq, &payload);
                    if position < wanted {
                        continue;
                    }
                    return Ok(match entry {
                        Ok(entry) => self.or_gap(entry, cursor),
                        Err(error) => {
                            tracing::debug!(%error, position, "a spool record cannot be read");
                            cursor.gap(seq, GapReason::SpoolDamaged)
                        }
                    });
                }
                Some(Ok(Read::Damage { to_position, .. })) => {
                    self.parser.lost();
                    if to_position > wanted {
                        let to = (to_position - 1).min(epoch.last) - epoch.base;
                        return Ok(cursor.gap(to, GapReason::SpoolDamaged));
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None if !is_extended => {
                    log.read_on(&mut self.reader);
                    is_extended = true;
                }
                None => return Err("the log ends before what it should hold".to_owned()),
            }
        }
    }

    /// Numbers between the cursor and what was read are a gap, told first.
    fn or_gap(&mut self, entry: Entry, cursor: &Cursor) -> Entry {
        if entry.seq == cursor.next_seq {
            return entry;
        }
        let gap = cursor.gap(entry.seq - 1, GapReason::SpoolDamaged);
        self.ahead = Some(entry);
        gap
    }
}
