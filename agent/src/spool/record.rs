//! What one frame of the spool says: one item, and the schema it follows where that was not said yet.
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | version of the record, [`VERSION`]; [`VERSION_FIXED`] is read too |
//! | rest | protobuf: 1 = schema (where announced), 2 = item, 3 = a chapter begins here, 4 = the segment's note, again |
//!
//! Rows are coded against the row before, tables of processes against the table before (`dawnwatch_proto::wire`). A **chapter** is a run of items that is readable alone:
//! it begins at the start of each segment and every [`CHAPTER_TICKS`] ticks, and restates schema and row. After
//! damage a reader knows nothing until the next chapter, so a row is never decoded against a base it does not belong to.

use std::collections::BTreeMap;
use std::sync::Arc;

use dawnwatch_proto::wire::{Decoder, Encoder};
use dawnwatch_proto::{Item, Malformed, Schema, SchemaId, pb};
use jiff::Timestamp;
use prost::Message;

/// Version of the record.
pub(super) const VERSION: u8 = 2;

/// The version before: its rows say that the base row stays, its tables of processes are whole. It is read like this one.
const VERSION_FIXED: u8 = 1;

/// Ticks of a chapter: half an hour. Restating some 4 KiB of schema costs 20 bytes a tick; damage costs half an hour.
const CHAPTER_TICKS: u32 = 180;

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(message, optional, tag = "1")]
    schema: Option<pb::Schema>,
    #[prost(message, optional, tag = "2")]
    item: Option<pb::Item>,
    #[prost(bool, tag = "3")]
    chapter: bool,
    #[prost(bytes = "vec", tag = "4")]
    note: Vec<u8>,
}

/// An item with its sequence number, as the spool hands it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its first sequence number.
    pub seq: u64,
    /// What it says.
    pub item: Item,
    /// The schema of a tick.
    pub schema: Option<Arc<Schema>>,
    /// Bytes it takes up in the spool: close to what it takes up on the wire.
    pub bytes: usize,
}

impl Entry {
    /// Its last sequence number.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.seq + (self.item.width() - 1)
    }

    /// When it begins.
    pub(super) fn begins(&self) -> Timestamp {
        times(&self.item).0
    }

    /// When it ends: another time than its beginning for a gap alone.
    pub(super) fn ends(&self) -> Timestamp {
        times(&self.item).1
    }
}

/// The time an item speaks of: the first and the last.
pub(super) fn times(item: &Item) -> (Timestamp, Timestamp) {
    match item {
        Item::Tick(tick) => (tick.time, tick.time),
        Item::Event(event) => (event.time, event.time),
        Item::Gap(gap) => (gap.from, gap.to),
    }
}

/// The note of the segment a record lies in, if a chapter begins with it.
pub(super) fn owner(bytes: &[u8]) -> Option<Vec<u8>> {
    let record = Record::decode(body(bytes)?).ok()?;
    (!record.note.is_empty()).then_some(record.note)
}

/// What follows the version, if it is one that is known.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let (version, rest) = bytes.split_first()?;
    matches!(*version, VERSION | VERSION_FIXED).then_some(rest)
}

/// The writing end: knows what the current chapter has said.
#[derive(Debug, Default)]
pub(super) struct Writer {
    note: Vec<u8>,
    encoder: Encoder,
    ticks: u32,
    begun: bool,
}

impl Writer {
    /// A writer for segments with this note.
    pub(super) fn new(note: Vec<u8>) -> Writer {
        Writer {
            note,
            ..Writer::default()
        }
    }

    /// The next record opens a chapter.
    pub(super) fn new_chapter(&mut self) {
        *self = Writer::new(std::mem::take(&mut self.note));
    }

    /// Codes an item; `schema` is that of a tick.
    pub(super) fn record(&mut self, item: &Item, schema: Option<&Arc<Schema>>) -> Vec<u8> {
        if self.ticks >= CHAPTER_TICKS || self.encoder.is_full() {
            self.new_chapter();
        }
        let of_tick = || schema.map_or_else(|| Schema::new(Vec::new()), |s| Schema::clone(s));
        let (announce, wire) = self.encoder.item(item, of_tick);
        let record = Record {
            schema: announce,
            item: Some(wire),
            chapter: !self.begun,
            note: if self.begun {
                Vec::new()
            } else {
                self.note.clone()
            },
        };
        self.begun = true;
        self.ticks += u32::from(matches!(item, Item::Tick(_)));
        let mut out = Vec::with_capacity(1 + record.encoded_len());
        out.push(VERSION);
        out.extend_from_slice(&record.encode_to_vec());
        out
    }
}

/// The reading end: what the chapter under way has said.
#[derive(Debug, Default)]
pub(super) struct Parser {
    decoder: Decoder,
    schemas: BTreeMap<SchemaId, Arc<Schema>>,
}

impl Parser {
    /// Something between two records is gone: nothing said before holds.
    pub(super) fn lost(&mut self) {
        *self = Parser::default();
    }

    /// Reads the record of the frame at a sequence number.
    pub(super) fn entry(&mut self, seq: u64, bytes: &[u8]) -> Result<Entry, Malformed> {
        let invalid = |what, why: String| Malformed::Invalid { what, why };
        let Some(rest) = body(bytes) else {
            return Err(invalid(
                "version of a spool record",
                format!("{:?}", bytes.first()),
            ));
        };
        let record = Record::decode(rest).map_err(|e| invalid("spool record", e.to_string()))?;
        if record.chapter {
            self.lost();
        }
        if let Some(schema) = record.schema {
            let schema = self.decoder.schema(schema)?;
            self.schemas.insert(schema.id(), Arc::new(schema));
        }
        let item = record
            .item
            .ok_or(Malformed::Missing("item of a spool record"))?;
        let batch = pb::Batch {
            epoch: 0,
            first_seq: seq,
            items: vec![item],
            most_ms: None,
        };
        let item = self
            .decoder
            .batch(batch)?
            .pop()
            .ok_or(Malformed::Missing("item"))?;
        let schema = match &item {
            Item::Tick(tick) => self.schemas.get(&tick.schema).cloned(),
            Item::Event(_) | Item::Gap(_) => None,
        };
        Ok(Entry {
            seq,
            item,
            schema,
            bytes: bytes.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::sample;
    use data_encoding::HEXLOWER;
    use dawnwatch_proto::{Gap, GapReason, Kind, Series, Tick};

    #[test]
    fn a_chapter_is_readable_alone_and_a_damaged_one_is_not_guessed_at() {
        let mut writer = Writer::default();
        let frames: Vec<_> = (1..=400)
            .map(|seq| {
                let (tick, schema) = sample::tick(seq);
                (
                    seq,
                    Item::Tick(tick.clone()),
                    writer.record(&Item::Tick(tick), Some(&schema)),
                )
            })
            .collect();
        for lost in 0..frames.len() {
            let mut parser = Parser::default();
            let mut readable = 0;
            for (i, (seq, item, bytes)) in frames.iter().enumerate() {
                if i == lost {
                    parser.lost();
                    continue;
                }
                if let Ok(entry) = parser.entry(*seq, bytes) {
                    assert_eq!(&entry.item, item);
                    assert_eq!(entry.schema.unwrap().series().len(), sample::COLUMNS);
                    readable += 1;
                }
            }
            assert!(
                readable + 180 >= frames.len(),
                "{readable} readable without frame {lost}"
            );
            assert!(readable < frames.len());
        }
    }

    #[test]
    fn a_quiet_tick_is_small() {
        let mut writer = Writer::default();
        let sizes: Vec<_> = (1..=29)
            .map(|seq| {
                let (tick, schema) = sample::tick(seq);
                writer.record(&Item::Tick(tick), Some(&schema)).len()
            })
            .collect();
        assert!(sizes[1..].iter().all(|s| *s < 40), "{sizes:?}");
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = Writer::default().record(&sample::event(1), None);
        bytes[0] = VERSION + 1;
        let error = Parser::default().entry(1, &bytes).unwrap_err();
        assert!(error.to_string().contains("version"), "{error}");
        assert!(Parser::default().entry(1, &[]).is_err());
    }

    #[test]
    fn the_form_on_disk_stays() {
        let schema = Arc::new(Schema::new(vec![
            Series::new("node_load1", Kind::Gauge),
            Series::new("node_cpu_seconds_total", Kind::Counter).label("cpu", "0"),
        ]));
        let tick = |seq, row: [i64; 2]| {
            Item::Tick(Tick {
                time: sample::time(seq),
                schema: schema.id(),
                row: row.to_vec(),
            })
        };
        let gap = Item::Gap(Gap {
            from_seq: 4,
            to_seq: 9,
            from: sample::time(4),
            to: sample::time(9),
            ticks: 5,
            events: 1,
            reason: GapReason::SpoolFull,
        });
        let items = [tick(1, [7, 100]), tick(2, [8, 130]), sample::event(3), gap];
        let mut writer = Writer::new(vec![2, 3]);
        let frames: Vec<String> = items
            .iter()
            .map(|item| HEXLOWER.encode(&writer.record(item, Some(&schema))))
            .collect();
        assert_eq!(frames, GOLDEN);
        let mut parser = Parser::default();
        for (seq, (item, hex)) in (1..).zip(items.iter().zip(GOLDEN)) {
            let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
            assert_eq!(&parser.entry(seq, &bytes).unwrap().item, item);
            assert_eq!(owner(&bytes), (seq == 1).then(|| vec![2, 3]));
        }
    }

    #[test]
    fn records_of_the_version_before_are_read() {
        let mut parser = Parser::default();
        let rows: Vec<Vec<i64>> = (1..)
            .zip(FIXED)
            .map(|(seq, hex)| {
                let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
                assert_eq!(owner(&bytes).is_some(), seq == 1);
                match parser.entry(seq, &bytes).unwrap().item {
                    Item::Tick(tick) => tick.row,
                    other @ (Item::Event(_) | Item::Gap(_)) => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(rows, [[7, 100], [8, 130], [8, 130]], "their base row stays");
    }

    const FIXED: [&str; 3] = [
        "010a49080111ae119f8dc68b823c1a120a0a6e6f64655f6c6f6164311801200128011a280a166e6f64655f6370755f7365636f6e64735f746f74616c12080a0363707512013018022001280112120a1008909ee0b4ab3310011a0310ca012001180122020203",
        "01120f0a0d08a0ece0b4ab3310011a02043e",
        "01120f0a0d08a0ece0b4ab3310011a02043e",
    ];

    const GOLDEN: [&str; 4] = [
        "020a49080111ae119f8dc68b823c1a120a0a6e6f64655f6c6f6164311801200128011a280a166e6f64655f6370755f7365636f6e64735f746f74616c12080a0363707512013018022001280112120a1008909ee0b4ab3310011a0310ca012001180122020203",
        "0212110a0f08a0ece0b4ab3310011a02043e2801",
        "02121b121908b0bae1b4ab3322100a047465737412086e756d6265722033",
        "02121a1a180804100918c088e2b4ab3320908fe5b4ab33280530013801",
    ];
}
