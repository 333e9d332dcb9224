//! What outlives a dropped segment: its events, and gaps that count its ticks.
//!
//! One small file, written anew (tmp, sync, rename, sync) before the segment goes, so that a kill in between leaves
//! both; the file is believed then. It counts what nothing else on the disk knows of, so it is there twice: the copy
//! stands in where the disk gives the first back damaged.
//! Layout: `"DWKP" | version u8 | first 8 bytes of SHA-256 over the rest | protobuf`.

use std::io;
use std::path::Path;

use dawnwatch_proto::wire::{Decoder, Encoder};
use dawnwatch_proto::{Gap, GapReason, Item, Schema, pb};
use dawnwatch_segment::{Disk, Error};
use prost::Message;
use ring::digest::{SHA256, digest};

use super::record::Entry;

const MAGIC: &[u8; 4] = b"DWKP";
const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 8;

/// The file, and the same once more.
const NAMES: [&str; 2] = ["kept", "kept.copy"];

/// The file may be this large; it is bounded by one segment when written.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    epochs: Vec<FileEpoch>,
}

#[derive(Clone, PartialEq, Message)]
struct FileEpoch {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    base: u64,
    #[prost(uint64, tag = "3")]
    first_seq: u64,
    #[prost(message, repeated, tag = "4")]
    items: Vec<pb::Item>,
}

/// Items of one epoch, without a hole between them.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    id: u64,
    base: u64,
    first_seq: u64,
    last_seq: u64,
    /// Events and gaps with their first numbers.
    items: Vec<(u64, Item)>,
}

/// What is kept of dropped segments, oldest epoch first.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    parts: Vec<Part>,
    bytes: u64,
    /// Whether the disk did not take it as it is.
    is_unsaved: bool,
}

impl Kept {
    /// Reads the file, or its copy. Where both are damaged nothing is kept: of an epoch that still has segments the
    /// numbers become a gap, of others nobody knows how many there were.
    ///
    /// # Errors
    /// Where neither could be read and one of them may be sound.
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Kept, Error> {
        let mut unread = None;
        for name in NAMES {
            let path = dir.join(name);
            match read(disk, &path) {
                Ok(Some(kept)) => return Ok(kept),
                Ok(None) => {
                    let path = path.display();
                    tracing::warn!(%path, "what a full spool kept of dropped segments is damaged or newer");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let what = "read";
                    unread = Some(Error::Io { what, path, source });
                }
            }
        }
        unread.map_or_else(|| Ok(Kept::default()), Err)
    }

    /// Writes the file; tells whether it is durable.
    pub(super) fn save(&mut self, disk: &dyn Disk, dir: &Path) -> bool {
        let bytes = self.encode();
        self.bytes = bytes.len() as u64;
        self.is_unsaved = true;
        for name in NAMES {
            if let Err(error) = write(disk, dir, name, &bytes) {
                tracing::debug!(%error, "the events of a dropped segment are not on disk");
                return false;
            }
        }
        self.is_unsaved = false;
        true
    }

    /// Whether the disk did not take it when it was saved last.
    pub(super) fn is_unsaved(&self) -> bool {
        self.is_unsaved
    }

    /// Forgets everything.
    pub(super) fn remove(&mut self, disk: &dyn Disk, dir: &Path) {
        *self = Kept::default();
        // If one stays, the server's next welcome says again that it may go. The copy goes first, for it is believed alone.
        for name in NAMES.into_iter().rev() {
            let _ = disk.remove(&dir.join(name));
        }
    }

    /// Size of the file and its copy.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes * 2
    }

    /// Last position of all that is kept, 0 for none.
    pub(super) fn last(&self) -> u64 {
        self.parts
            .iter()
            .map(|part| part.base + part.last_seq)
            .max()
            .unwrap_or(0)
    }

    /// Last number that is kept of an epoch, 0 for none.
    pub(super) fn last_seq(&self, epoch: u64) -> u64 {
        self.parts
            .iter()
            .find(|part| part.id == epoch)
            .map_or(0, |part| part.last_seq)
    }

    /// Whether something of an epoch is kept.
    pub(super) fn covers(&self, epoch: u64) -> bool {
        self.last_seq(epoch) > 0
    }

    /// Id, base, first and last position of each epoch.
    pub(super) fn spans(&self) -> impl Iterator<Item = (u64, u64, u64, u64)> {
        let span = |p: &Part| (p.id, p.base, p.base + p.first_seq, p.base + p.last_seq);
        self.parts.iter().map(span)
    }

    /// The items of an epoch from a number on; a gap that begins earlier is shortened.
    pub(super) fn entries(&self, epoch: u64, from_seq: u64) -> Vec<Entry> {
        let mut entries = Vec::new();
        for part in self.parts.iter().filter(|part| part.id == epoch) {
            for (seq, item) in &part.items {
                let item = match item {
                    Item::Gap(gap) if gap.to_seq >= from_seq => Item::Gap(shorten(gap, from_seq)),
                    Item::Event(_) if *seq >= from_seq => item.clone(),
                    Item::Gap(_) | Item::Event(_) | Item::Tick(_) => continue,
                };
                let bytes = encoded(&item).encoded_len();
                entries.push(Entry {
                    seq: (*seq).max(from_seq),
                    item,
                    schema: None,
                    bytes,
                });
            }
        }
        entries
    }

    /// Keeps an item of a segment that goes: an event or a gap as it is, a tick as one more in a gap.
    pub(super) fn add(&mut self, id: u64, base: u64, entry: Entry, reason: GapReason) {
        let (seq, last_seq) = (entry.seq, entry.last_seq());
        let item = match entry.item {
            Item::Tick(tick) => Item::Gap(Gap {
                from_seq: seq,
                to_seq: seq,
                from: tick.time,
                to: tick.time,
                ticks: 1,
                events: 0,
                reason,
            }),
            other @ (Item::Event(_) | Item::Gap(_)) => other,
        };
        if self.parts.last().is_none_or(|part| part.id != id) {
            self.parts.push(Part {
                id,
                base,
                first_seq: seq,
                last_seq: seq,
                items: Vec::new(),
            });
        }
        if let Some(part) = self.parts.last_mut() {
            part.last_seq = last_seq;
            part.push(seq, item);
        }
    }

    /// Bounds the file: the oldest events become counted gaps too. Gaps that count more than their numbers stay by themselves,
    /// as long as that is enough.
    pub(super) fn cut(&mut self, bytes_max: u64) {
        for is_last_resort in [false, true] {
            while self.encode().len() as u64 > bytes_max {
                let mut parts = self.parts.iter_mut();
                if !parts.any(|part| part.join_oldest(is_last_resort)) {
                    break;
                }
            }
        }
    }

    /// Forgets an epoch and tells what that was.
    pub(super) fn forget(&mut self, epoch: u64) -> Option<Gap> {
        let at = self.parts.iter().position(|part| part.id == epoch)?;
        let part = self.parts.remove(at);
        let gaps = part.items.into_iter().map(|(seq, item)| as_gap(seq, item));
        gaps.reduce(join)
    }

    fn encode(&self) -> Vec<u8> {
        let epochs = self.parts.iter().map(|part| FileEpoch {
            id: part.id,
            base: part.base,
            first_seq: part.first_seq,
            items: part.items.iter().map(|(_, item)| encoded(item)).collect(),
        });
        let body = File {
            epochs: epochs.collect(),
        }
        .encode_to_vec();
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&digest(&SHA256, &body).as_ref()[..DIGEST_BYTES]);
        bytes.extend_from_slice(&body);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Kept> {
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
        let (sum, body) = rest.split_at_checked(DIGEST_BYTES)?;
        if digest(&SHA256, body).as_ref().get(..DIGEST_BYTES)? != sum {
            return None;
        }
        let mut kept = Kept {
            parts: Vec::new(),
            bytes: bytes.len() as u64,
            is_unsaved: false,
        };
        for epoch in File::decode(body).ok()?.epochs {
            let mut part = Part {
                id: epoch.id,
                base: epoch.base,
                first_seq: epoch.first_seq,
                last_seq: epoch.first_seq,
                items: Vec::new(),
            };
            let mut seq = epoch.first_seq;
            for item in epoch.items {
                let batch = pb::Batch {
                    epoch: 0,
                    first_seq: seq,
                    items: vec![item],
                    most_ms: None,
                };
                let item = Decoder::default().batch(batch).ok()?.pop()?;
                let width = item.width();
                part.last_seq = seq + (width - 1);
                part.items.push((seq, item));
                seq += width;
            }
            kept.parts.push(part);
        }
        Some(kept)
    }
}

impl Part {
    /// Appends an item; a gap of ticks alone grows.
    fn push(&mut self, seq: u64, item: Item) {
        if let Item::Gap(gap) = &item
            && let Some((_, Item::Gap(last))) = self.items.last_mut()
            && last.reason == gap.reason
            && is_of_ticks(last)
            && is_of_ticks(gap)
            && last.to_seq + 1 == gap.from_seq
        {
            *last = join(last.clone(), gap.clone());
            return;
        }
        self.items.push((seq, item));
    }

    /// Joins the older half of the items as gaps, or more of them where that half is joined already. Whether that changed any.
    fn join_oldest(&mut self, joins_all: bool) -> bool {
        let len = self.items.len();
        if len < 2 {
            return false;
        }
        let mut left = len / 2;
        loop {
            if self.join_first((len - left).max(2), joins_all) {
                return true;
            }
            if left == 0 {
                return false;
            }
            left /= 2;
        }
    }

    /// Joins so many of the oldest items.
    fn join_first(&mut self, count: usize, joins_all: bool) -> bool {
        let rest = self.items.split_off(count);
        let mut is_changed = false;
        for (seq, item) in std::mem::take(&mut self.items) {
            is_changed |= !matches!(item, Item::Gap(_));
            let gap = as_gap(seq, item);
            match self.items.last_mut() {
                Some((_, Item::Gap(last)))
                    if joins_all || (excess(last) == 0 && excess(&gap) == 0) =>
                {
                    *last = join(last.clone(), gap);
                    is_changed = true;
                }
                Some(_) | None => self.items.push((seq, Item::Gap(gap))),
            }
        }
        self.items.extend(rest);
        is_changed
    }
}

/// Whether each number of a gap was a tick, so that a part of it is counted exactly.
fn is_of_ticks(gap: &Gap) -> bool {
    gap.events == 0 && gap.ticks == gap.to_seq - gap.from_seq + 1
}

/// How many items a gap counts beyond its numbers: what a full disk lost is told under one number.
fn excess(gap: &Gap) -> u64 {
    let items = gap.ticks.saturating_add(gap.events);
    items.saturating_sub(gap.to_seq - gap.from_seq + 1)
}

/// The gap from a number on. What it counts beyond its numbers may be there or before: twice is better than not at all.
fn shorten(gap: &Gap, from_seq: u64) -> Gap {
    let mut gap = gap.clone();
    if gap.from_seq < from_seq {
        let most = excess(&gap).saturating_add(gap.to_seq - from_seq + 1);
        gap.from_seq = from_seq;
        gap.events = gap.events.min(most);
        gap.ticks = gap.ticks.min(most - gap.events);
    }
    gap
}

fn as_gap(seq: u64, item: Item) -> Gap {
    match item {
        Item::Gap(gap) => gap,
        Item::Tick(tick) => one(seq, 1, 0, tick.time),
        Item::Event(event) => one(seq, 0, 1, event.time),
    }
}

fn one(seq: u64, ticks: u64, events: u64, time: jiff::Timestamp) -> Gap {
    Gap {
        from_seq: seq,
        to_seq: seq,
        from: time,
        to: time,
        ticks,
        events,
        reason: GapReason::SpoolFull,
    }
}

pub(super) fn join(a: Gap, b: Gap) -> Gap {
    Gap {
        from_seq: a.from_seq,
        to_seq: b.to_seq,
        from: a.from.min(b.from),
        to: a.to.max(b.to),
        ticks: a.ticks + b.ticks,
        events: a.events + b.events,
        reason: a.reason,
    }
}

fn encoded(item: &Item) -> pb::Item {
    Encoder::default().item(item, || Schema::new(Vec::new())).1
}

/// None where it is damaged or newer.
fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Kept>> {
    let file = disk.open_read(path)?;
    let len = file.len()?.min(FILE_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = file.read_at(0, &mut bytes)?;
    Ok(Kept::decode(&bytes[..read]))
}

fn write(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (new, path) = (dir.join("kept.new"), dir.join(name));
    match disk.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = disk.create(&new)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&new, &path)?;
    disk.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::sample;
    use data_encoding::HEXLOWER;
    use dawnwatch_segment::sim::SimDisk;

    fn filled() -> Kept {
        let mut kept = Kept::default();
        for seq in 1..=100u64 {
            let item = if seq % 10 == 0 {
                sample::event(seq)
            } else {
                Item::Tick(sample::tick(seq).0)
            };
            kept.add(
                7,
                40,
                Entry {
                    seq,
                    item,
                    schema: None,
                    bytes: 0,
                },
                GapReason::SpoolFull,
            );
        }
        kept
    }

    fn counts(entries: &[Entry]) -> (u64, u64) {
        entries
            .iter()
            .fold((0, 0), |(ticks, events), entry| match &entry.item {
                Item::Gap(gap) => (ticks + gap.ticks, events + gap.events),
                Item::Event(_) => (ticks, events + 1),
                Item::Tick(_) => (ticks + 1, events),
            })
    }

    #[test]
    fn events_stay_ticks_are_counted_numbers_are_whole() {
        let kept = filled();
        assert_eq!(
            (kept.last(), kept.last_seq(7), kept.last_seq(8)),
            (140, 100, 0)
        );
        for from in 1..=100 {
            let entries = kept.entries(7, from);
            assert_eq!(entries[0].seq, from);
            let events = (from..=100).filter(|seq| seq % 10 == 0).count() as u64;
            assert_eq!(
                counts(&entries),
                (101 - from - events, events),
                "from {from}"
            );
            for pair in entries.windows(2) {
                assert_eq!(pair[0].last_seq() + 1, pair[1].seq);
            }
        }
    }

    #[test]
    fn the_file_comes_back_and_a_flipped_bit_does_not_pass() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/spool");
        disk.create_dir_all(dir).unwrap();
        let mut kept = filled();
        assert!(kept.save(&disk, dir));
        assert_eq!(Kept::load(&disk, dir).unwrap().parts, kept.parts);
        disk.put(&dir.join("kept"), b"DWKP rubbish");
        let copy = Kept::load(&disk, dir).unwrap();
        assert_eq!(copy.parts, kept.parts, "the copy");
        disk.put(&dir.join("kept.copy"), b"DWKP rubbish");
        assert_eq!(Kept::load(&disk, dir).unwrap().parts, []);
        let bytes = kept.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Kept::decode(&flipped).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_bounded_file_loses_the_oldest_events_and_no_count() {
        let mut kept = filled();
        kept.cut(200);
        assert!(kept.encode().len() <= 200);
        let entries = kept.entries(7, 1);
        assert_eq!(counts(&entries), (90, 10));
        assert_eq!(entries.last().unwrap().item, sample::event(100));
        kept.cut(0);
        assert_eq!(counts(&kept.entries(7, 1)), (90, 10));
        let gone = kept.forget(7).unwrap();
        assert_eq!((gone.ticks, gone.events), (90, 10));
        assert_eq!((gone.from, gone.to), (sample::time(1), sample::time(100)));
    }

    /// What a full disk lost is a gap of one number that counts many: the server may hold the numbers before it, or it too.
    #[test]
    fn what_a_full_disk_lost_stays_counted_where_the_server_holds_a_part() {
        let mut kept = Kept::default();
        for seq in 1..=30 {
            let item = match seq {
                10 => Item::Gap(Gap {
                    reason: GapReason::DiskFull,
                    ..one(10, 1_000, 0, sample::time(10))
                }),
                _ if seq % 2 == 0 => sample::event(seq),
                _ => Item::Tick(sample::tick(seq).0),
            };
            let entry = Entry {
                seq,
                item,
                schema: None,
                bytes: 0,
            };
            kept.add(7, 40, entry, GapReason::SpoolFull);
        }
        let left = |kept: &Kept, from| {
            let (ticks, events) = counts(&kept.entries(7, from));
            ticks + events
        };
        let want = |from| 31 - from + if from <= 10 { 999 } else { 0 };
        kept.cut(200);
        assert!(kept.encode().len() <= 200);
        for from in 1..=30 {
            assert_eq!(left(&kept, from), want(from), "from {from}");
        }
        // Where even that is too much, nothing that the server lacks goes uncounted.
        kept.cut(0);
        assert_eq!(kept.entries(7, 1).len(), 1);
        assert_eq!(left(&kept, 1), want(1));
        for from in 2..=30 {
            assert!(left(&kept, from) >= want(from), "from {from}");
        }
    }

    #[test]
    fn the_form_on_disk_stays() {
        let mut kept = Kept::default();
        let entry = |seq, item| Entry {
            seq,
            item,
            schema: None,
            bytes: 0,
        };
        for seq in 1..=3 {
            let tick = Item::Tick(sample::tick(seq).0);
            kept.add(7, 40, entry(seq, tick), GapReason::SpoolFull);
        }
        kept.add(7, 40, entry(4, sample::event(4)), GapReason::SpoolFull);
        kept.add(8, 44, entry(1, sample::event(1)), GapReason::SpoolFull);
        let golden = "44574b5001cf578d4d69090df00a440907000000000000001028180122181a160801100318909ee0b4ab3320b0bae1b4ab3328033801221b121908c088e2b4ab3322100a047465737412086e756d62657220340a2a090800000000000000102c1801221b121908909ee0b4ab3322100a047465737412086e756d6265722031";
        assert_eq!(HEXLOWER.encode(&kept.encode()), golden);
        let bytes = HEXLOWER.decode(golden.as_bytes()).unwrap();
        assert_eq!(Kept::decode(&bytes).unwrap().parts, kept.parts);
    }
}
