//! The row codec, and its state on both ends of a connection.
//!
//! A row is coded against a base row (all zeros where there is none), column by column, as LEB128 tokens:
//!
//! | token | meaning |
//! |---|---|
//! | 0, then n | this column and the n after it are as in the base row |
//! | 1 | this column is missing |
//! | zigzag(value - base) + 2 | any other value; the difference wraps, a missing base counts as 0 |
//!
//! A lone column as in the base row may be coded either way; a difference of nothing is the shorter one.
//!
//! Each row that is sent becomes the base row of the next one, which then says what one tick has changed and no more. A connection
//! carries them in order, all or none; its first row, and the first after a change of schema, is coded against nothing. What a
//! receiver is told of each row is which of the three it is: against nothing, against the base row that stays, or that it moves.
//!
//! A table of processes is coded against the one before it in the same way (`processes`).

mod processes;

use std::collections::BTreeMap;

use crate::event::{Event, time_from_ms};
use crate::series::limit;
use crate::tick::{Gap, GapReason, Item, MISSING, Tick};
use crate::{Malformed, Schema, SchemaId, pb};
use processes::{AGAIN_BYTES_MAX, Table};

/// Most items in one batch: a backlog travels in messages of some ten KiB.
pub const ITEMS_MAX: usize = 512;

/// Schemas that one connection may name: a host that changes more often than this is broken.
pub const SCHEMAS_MAX: usize = 1_024;

/// Schemas that the receiving end is trusted to remember, by their last use: one that was not in use for so many others is told
/// again. Whoever keeps schemas for later rows keeps at least so many of a host.
pub const SCHEMAS_RECENT: usize = 8;

/// Codes a row against a base row of the same length, or against zeros.
#[must_use]
pub fn encode_row(row: &[i64], base: Option<&[i64]>) -> Vec<u8> {
    let base_of = |i: usize| base.map_or(0, |base| base[i]);
    let mut out = Vec::with_capacity(row.len() * 2);
    let mut i = 0;
    while i < row.len() {
        let same = row[i..]
            .iter()
            .enumerate()
            .take_while(|(k, v)| **v == base_of(i + k))
            .count();
        // One alone is shorter as a difference of nothing.
        if same > 1 {
            put(&mut out, 0);
            put(&mut out, same as u128 - 1);
            i += same;
            continue;
        }
        if row[i] == MISSING {
            put(&mut out, 1);
        } else {
            put(
                &mut out,
                u128::from(zigzag(row[i].wrapping_sub(anchor(base_of(i))))) + 2,
            );
        }
        i += 1;
    }
    out
}

/// Decodes a row of `columns` values.
///
/// # Errors
/// [`Malformed`] where the bytes do not hold exactly that many columns.
pub fn decode_row(
    bytes: &[u8],
    columns: usize,
    base: Option<&[i64]>,
) -> Result<Vec<i64>, Malformed> {
    let base_of = |i: usize| base.map_or(0, |base| base[i]);
    let mut row = Vec::with_capacity(columns);
    let mut rest = bytes;
    while row.len() < columns {
        match get(&mut rest)? {
            0 => {
                let more =
                    usize::try_from(get(&mut rest)?).map_err(|_| bad("a run past the end"))?;
                if more >= columns - row.len() {
                    return Err(bad("a run past the end"));
                }
                let from = row.len();
                row.extend((from..=from + more).map(base_of));
            }
            1 => row.push(MISSING),
            token => {
                let delta =
                    unzigzag(u64::try_from(token - 2).map_err(|_| bad("a value over 64 bits"))?);
                row.push(anchor(base_of(row.len())).wrapping_add(delta));
            }
        }
    }
    if rest.is_empty() {
        Ok(row)
    } else {
        Err(bad("bytes after the last column"))
    }
}

/// The sending end: numbers schemas, keeps the base row and the last table of processes.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Schemas that the peer remembers and their numbers, the one in use last.
    recent: Vec<(SchemaId, u32)>,
    /// Numbers that were given out.
    given: u32,
    base: Vec<i64>,
    base_schema: Option<SchemaId>,
    table: Table,
}

impl Encoder {
    /// Codes an item; a tick whose schema the peer has not heard of comes with that schema, to be sent first.
    pub fn item(
        &mut self,
        item: &Item,
        schema: impl FnOnce() -> Schema,
    ) -> (Option<pb::Schema>, pb::Item) {
        let (announce, body) = match item {
            Item::Tick(tick) => {
                let (announce, tick) = self.tick(tick, schema);
                (announce, pb::item::Body::Tick(tick))
            }
            Item::Event(event) => {
                let mut event = event.to_pb();
                self.table.shorten(&mut event);
                (None, pb::item::Body::Event(event))
            }
            Item::Gap(gap) => (None, pb::item::Body::Gap(gap_to_pb(gap))),
        };
        (announce, pb::Item { body: Some(body) })
    }

    /// Codes a tick, as [`Encoder::item`] does.
    pub fn tick(
        &mut self,
        tick: &Tick,
        schema: impl FnOnce() -> Schema,
    ) -> (Option<pb::Schema>, pb::Tick) {
        let (number, is_new) = self.number(tick.schema);
        let announce = is_new.then(|| schema().to_pb(number));
        let base = self.base_schema != Some(tick.schema) || self.base.len() != tick.row.len();
        let row = encode_row(&tick.row, (!base).then_some(&self.base));
        self.base.clone_from(&tick.row);
        self.base_schema = Some(tick.schema);
        (
            announce,
            pb::Tick {
                time_ms: tick.time.as_millisecond(),
                schema: number,
                row,
                base,
                moves_base: !base,
            },
        )
    }

    /// Whether so many schemas were told that the connection must be made anew: those of one more batch, and of a heartbeat, would be
    /// too many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.given as usize + SCHEMAS_RECENT >= SCHEMAS_MAX
    }

    /// The number of a schema that is in use from here on, and whether the peer must be told.
    fn number(&mut self, id: SchemaId) -> (u32, bool) {
        let known = self.recent.iter().position(|(recent, _)| *recent == id);
        let (number, is_new) = match known {
            Some(at) => (self.recent.remove(at).1, false),
            None => {
                self.given += 1;
                (self.given, true)
            }
        };
        if self.recent.len() >= SCHEMAS_RECENT {
            self.recent.remove(0);
        }
        self.recent.push((id, number));
        (number, is_new)
    }
}

/// The receiving end: checks, and turns wire items into items.
#[derive(Debug, Default)]
pub struct Decoder {
    schemas: BTreeMap<u32, (SchemaId, usize)>,
    base: Option<(u32, Vec<i64>)>,
    table: Table,
}

impl Decoder {
    /// Takes a schema under its number, which no other one of this connection has: rows are coded against rows of their number.
    ///
    /// # Errors
    /// [`Malformed`] where it breaks a bound, or its number is taken.
    pub fn schema(&mut self, message: pb::Schema) -> Result<Schema, Malformed> {
        limit(
            "schemas of a connection",
            self.schemas.len() + 1,
            SCHEMAS_MAX,
        )?;
        let number = message.number;
        let schema = Schema::from_pb(message)?;
        let (id, _) = *self
            .schemas
            .entry(number)
            .or_insert((schema.id(), schema.series().len()));
        if id != schema.id() {
            let why = format!("{number} is the number of another one");
            return Err(Malformed::Invalid {
                what: "schema",
                why,
            });
        }
        Ok(schema)
    }

    /// Turns the items of a batch into items, checking that the sequence numbers of gaps fit.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong; the connection must end, for its base row is in doubt.
    pub fn batch(&mut self, batch: pb::Batch) -> Result<Vec<Item>, Malformed> {
        limit("items of a batch", batch.items.len(), ITEMS_MAX)?;
        let mut seq = batch.first_seq;
        let mut items = Vec::with_capacity(batch.items.len());
        let mut left = AGAIN_BYTES_MAX;
        for item in batch.items {
            let item = self.item(item, &mut left)?;
            if let Item::Gap(gap) = &item
                && (gap.from_seq != seq || gap.to_seq < gap.from_seq || gap.to_seq == u64::MAX)
            {
                let why = format!("{}-{} at number {seq}", gap.from_seq, gap.to_seq);
                return Err(Malformed::Invalid { what: "gap", why });
            }
            seq = seq
                .checked_add(item.width())
                .ok_or_else(|| bad("a sequence number past 2^64"))?;
            items.push(item);
        }
        Ok(items)
    }

    fn item(&mut self, item: pb::Item, left: &mut usize) -> Result<Item, Malformed> {
        match item.body.ok_or(Malformed::Missing("body of an item"))? {
            pb::item::Body::Tick(tick) => self.tick(tick).map(Item::Tick),
            pb::item::Body::Event(mut event) => {
                self.table.complete(&mut event, left)?;
                Event::from_pb(event).map(Item::Event)
            }
            pb::item::Body::Gap(gap) => gap_from_pb(&gap).map(Item::Gap),
        }
    }

    /// Turns a wire tick into a tick.
    ///
    /// # Errors
    /// [`Malformed`] where its schema or base row was never sent, or the row does not decode.
    pub fn tick(&mut self, tick: pb::Tick) -> Result<Tick, Malformed> {
        let time = time_from_ms(tick.time_ms)?;
        let (schema, columns) = *self
            .schemas
            .get(&tick.schema)
            .ok_or(Malformed::Missing("schema of a tick"))?;
        let base = match &self.base {
            _ if tick.base => None,
            Some((number, base)) if *number == tick.schema => Some(base.as_slice()),
            Some(_) | None => return Err(Malformed::Missing("base row of a tick")),
        };
        let row = decode_row(&tick.row, columns, base)?;
        if tick.base || tick.moves_base {
            let (number, base) = self.base.get_or_insert_default();
            *number = tick.schema;
            base.clone_from(&row);
        }
        Ok(Tick { time, schema, row })
    }
}

fn gap_to_pb(gap: &Gap) -> pb::Gap {
    let reason = match gap.reason {
        GapReason::SpoolFull => pb::GapReason::SpoolFull,
        GapReason::SpoolDamaged => pb::GapReason::SpoolDamaged,
        GapReason::DiskFull => pb::GapReason::DiskFull,
        GapReason::TooOld => pb::GapReason::TooOld,
        GapReason::Other => pb::GapReason::Unspecified,
    };
    pb::Gap {
        from_seq: gap.from_seq,
        to_seq: gap.to_seq,
        from_ms: gap.from.as_millisecond(),
        to_ms: gap.to.as_millisecond(),
        ticks: gap.ticks,
        events: gap.events,
        reason: reason.into(),
    }
}

fn gap_from_pb(gap: &pb::Gap) -> Result<Gap, Malformed> {
    let reason = match gap.reason() {
        pb::GapReason::SpoolFull => GapReason::SpoolFull,
        pb::GapReason::SpoolDamaged => GapReason::SpoolDamaged,
        pb::GapReason::DiskFull => GapReason::DiskFull,
        pb::GapReason::TooOld => GapReason::TooOld,
        pb::GapReason::Unspecified => GapReason::Other,
    };
    Ok(Gap {
        from_seq: gap.from_seq,
        to_seq: gap.to_seq,
        from: time_from_ms(gap.from_ms)?,
        to: time_from_ms(gap.to_ms)?,
        ticks: gap.ticks,
        events: gap.events,
        reason,
    })
}

/// A missing base counts as zero, so that the difference stays small.
fn anchor(base: i64) -> i64 {
    if base == MISSING { 0 } else { base }
}

#[allow(clippy::cast_sign_loss, reason = "zigzag is a map of bits")]
fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

#[allow(clippy::cast_possible_wrap, reason = "zigzag is a map of bits")]
fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

fn put(out: &mut Vec<u8>, mut v: u128) {
    while v >= 0x80 {
        out.push((v & 0x7f) as u8 | 0x80);
        v >>= 7;
    }
    out.push((v & 0x7f) as u8);
}

fn get(rest: &mut &[u8]) -> Result<u128, Malformed> {
    let mut v = 0u128;
    for shift in 0..10 {
        let (byte, tail) = rest
            .split_first()
            .ok_or_else(|| bad("the bytes end too early"))?;
        *rest = tail;
        v |= u128::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            return Ok(v);
        }
    }
    Err(bad("a number over ten bytes"))
}

fn bad(why: &str) -> Malformed {
    Malformed::Invalid {
        what: "row",
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Series};
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => Just(0i64),
            4 => -300i64..300,
            1 => Just(MISSING),
            1 => Just(i64::MAX),
            2 => any::<i64>(),
        ]
    }

    /// Whoever remembers the eight schemas that were in use last can read every tick, whatever came in between.
    #[test]
    fn a_schema_is_told_again_once_eight_others_were_in_use() {
        let schemas: Vec<Schema> = (0..20)
            .map(|i| Schema::new(vec![Series::new(&format!("s{i}"), Kind::Gauge)]))
            .collect();
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut known: Vec<SchemaId> = Vec::new();
        let mut told = 0;
        // One that stays in use among ever new ones; then all of them, in turn.
        let uses = (1..20).flat_map(|i| [0, i]).chain(0..20).chain(12..20);
        for (at, i) in (0..).zip(uses) {
            let schema = &schemas[i];
            let time = Timestamp::from_millisecond(10_000 * at).unwrap();
            let (id, row) = (schema.id(), vec![at]);
            let tick = Tick {
                time,
                schema: id,
                row,
            };
            let (announce, wire) = encoder.tick(&tick, || schema.clone());
            if let Some(announce) = announce {
                assert_eq!(decoder.schema(announce).unwrap().id(), id);
                told += 1;
            } else {
                let at = known.iter().position(|one| *one == id);
                known.remove(at.expect("it is among the last eight"));
            }
            known.push(id);
            if known.len() > SCHEMAS_RECENT {
                known.remove(0);
            }
            assert_eq!(decoder.tick(wire).unwrap(), tick);
        }
        // Each once; then all but the one that stayed in use; of those at the end none.
        assert_eq!(told, 20 + 19);
    }

    proptest! {
        #[test]
        fn rows_come_back(rows in proptest::collection::vec((value(), value()), 0..200)) {
            let (base, row): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
            let bytes = encode_row(&row, Some(&base));
            prop_assert_eq!(decode_row(&bytes, row.len(), Some(&base)), Ok(row.clone()));
            let bytes = encode_row(&row, None);
            prop_assert_eq!(decode_row(&bytes, row.len(), None), Ok(row));
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), columns in 0usize..64) {
            if let Ok(row) = decode_row(&bytes, columns, None) {
                prop_assert_eq!(row.len(), columns);
            }
        }

        #[test]
        fn a_stream_of_ticks_comes_back(rows in proptest::collection::vec(proptest::collection::vec(value(), 5), 1..100)) {
            let schema = Schema::new((0..5).map(|i| Series::new(&format!("s{i}"), Kind::Gauge)).collect());
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for (i, row) in rows.into_iter().enumerate() {
                let time = Timestamp::from_millisecond(10_000 * i as i64).unwrap();
                let tick = Tick { time, schema: schema.id(), row };
                let (announce, wire) = encoder.tick(&tick, || schema.clone());
                prop_assert_eq!(announce.is_some(), i == 0);
                prop_assert_eq!((wire.base, wire.moves_base), (i == 0, i > 0));
                if let Some(announce) = announce {
                    decoder.schema(announce).unwrap();
                }
                prop_assert_eq!(decoder.tick(wire), Ok(tick));
            }
        }
    }

    #[test]
    fn a_quiet_row_is_two_bytes() {
        assert_eq!(encode_row(&[7; 100], Some(&[7; 100])).len(), 2);
    }

    #[test]
    fn the_format_stays() {
        let bytes = encode_row(&[5, 5, 5, MISSING, -1, 300], Some(&[5, 5, 5, 0, 0, 0]));
        assert_eq!(bytes, [0, 2, 1, 3, 0xda, 4]);
        let bytes = encode_row(&[5, 6, 5, MISSING, 7, 7], Some(&[5, 5, 5, MISSING, 7, 7]));
        assert_eq!(bytes, [2, 4, 0, 3]);
        let bytes = encode_row(&[5, 6, MISSING, 6], Some(&[5, 5, MISSING, 5]));
        assert_eq!(bytes, [2, 4, 1, 4]);
    }

    #[test]
    fn broken_rows_are_refused() {
        for (bytes, columns) in [
            (vec![], 1),
            (vec![0, 1], 1),
            (vec![3, 3], 1),
            (vec![0x80; 12], 1),
        ] {
            assert!(decode_row(&bytes, columns, None).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_number_that_is_taken_is_refused() {
        let mut decoder = Decoder::default();
        let (x, y) = (Series::new("x", Kind::Gauge), Series::new("y", Kind::Gauge));
        let one = Schema::new(vec![x.clone()]);
        let wider = Schema::new(vec![x, y]);
        decoder.schema(one.to_pb(1)).unwrap();
        decoder.tick(row_of(5, true, false)).unwrap();
        assert!(decoder.schema(wider.to_pb(1)).is_err());
        assert!(decoder.schema(one.to_pb(1)).is_ok(), "the same again");
        // Against the base row of one column.
        assert_eq!(decoder.tick(row_of(1, false, true)).unwrap().row, [6]);
        assert!(decoder.schema(wider.to_pb(2)).is_ok());
    }

    fn row_of(value: i64, base: bool, moves_base: bool) -> pb::Tick {
        pb::Tick {
            time_ms: 0,
            schema: 1,
            row: encode_row(&[value], None),
            base,
            moves_base,
        }
    }

    #[test]
    fn a_tick_without_its_base_is_refused() {
        let mut decoder = Decoder::default();
        let schema = Schema::new(vec![Series::new("x", Kind::Gauge)]);
        decoder.schema(schema.to_pb(1)).unwrap();
        for moves_base in [false, true] {
            assert_eq!(
                decoder.tick(row_of(1, false, moves_base)),
                Err(Malformed::Missing("base row of a tick"))
            );
        }
    }

    #[test]
    fn a_base_row_stays_until_a_row_moves_it() {
        let mut decoder = Decoder::default();
        let schema = Schema::new(vec![Series::new("x", Kind::Gauge)]);
        decoder.schema(schema.to_pb(1)).unwrap();
        for (more, base, moves_base, want) in [
            (100, true, false, 100),
            (3, false, false, 103),
            (4, false, false, 104),
            (5, false, true, 105),
            (5, false, true, 110),
            (1, false, false, 111),
            (7, true, false, 7),
            (1, false, true, 8),
        ] {
            let tick = decoder.tick(row_of(more, base, moves_base)).unwrap();
            assert_eq!(tick.row, [want], "{more} {base} {moves_base}");
        }
    }

    #[test]
    fn a_gap_must_take_up_the_numbers_it_names() {
        let gap = |from_seq, to_seq| pb::Item {
            body: Some(pb::item::Body::Gap(pb::Gap {
                from_seq,
                to_seq,
                ..pb::Gap::default()
            })),
        };
        let batch = |items| pb::Batch {
            epoch: 0,
            first_seq: 5,
            items,
            most_ms: None,
        };
        assert!(
            Decoder::default()
                .batch(batch(vec![gap(5, 9), gap(10, 10)]))
                .is_ok()
        );
        for items in [
            vec![gap(6, 9)],
            vec![gap(5, 4)],
            vec![gap(5, 9), gap(9, 10)],
            vec![gap(5, u64::MAX)],
        ] {
            assert!(Decoder::default().batch(batch(items)).is_err());
        }
    }
}
