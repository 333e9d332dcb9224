//! Host blocks: up to 360 ticks of one host and one schema, one shared timestamp column, every column readable alone.
//!
//! All numbers are LEB128 unless said otherwise; a *run* is the row codec of [`dawnwatch_proto::wire`] over the column.
//!
//! | field | content |
//! |---|---|
//! | version | u8, 1 |
//! | ticks | number of rows |
//! | columns | number of columns |
//! | lengths | one number for the timestamps, then one a column: bytes of its body, tag included |
//! | timestamps | tag, body: milliseconds as first value and differences of differences |
//! | columns | tag, body |
//!
//! | tag | body |
//! |---|---|
//! | 0 CONST | one value |
//! | 1 DELTA | first value, then differences to the last value that was not missing |
//! | 2 RAW | the values |
//!
//! Every length is capped on decoding; a block that does not decode whole is an error, never a guess. The checksum is the
//! business of the file around it.

use dawnwatch_proto::series::SERIES_MAX;
use dawnwatch_proto::wire::{decode_row, encode_row};
use dawnwatch_proto::{MISSING, Malformed};

/// Most rows in a block: an hour at ten seconds.
pub const TICKS_MAX: usize = 360;

const VERSION: u8 = 1;
const CONST: u8 = 0;
const DELTA: u8 = 1;
const RAW: u8 = 2;

/// Encodes rows of the same length.
///
/// # Panics
/// Where there are more than [`TICKS_MAX`] rows, or rows and times differ in number: a bug of the caller.
#[must_use]
pub fn encode(times_ms: &[i64], rows: &[&[i64]]) -> Vec<u8> {
    assert!(
        rows.len() <= TICKS_MAX && rows.len() == times_ms.len(),
        "a block of {} rows",
        rows.len()
    );
    let columns = rows.first().map_or(0, |row| row.len());
    let mut bodies = vec![tagged(RAW, &differences(times_ms))];
    let mut column = Vec::with_capacity(rows.len());
    for i in 0..columns {
        column.clear();
        column.extend(rows.iter().map(|row| row[i]));
        bodies.push(encode_column(&column));
    }
    let mut out = vec![VERSION];
    put(&mut out, rows.len());
    put(&mut out, columns);
    for body in &bodies {
        put(&mut out, body.len());
    }
    for body in &bodies {
        out.extend_from_slice(body);
    }
    out
}

/// A block that is open for reading.
#[derive(Debug)]
pub struct Block<'a> {
    ticks: usize,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Block<'a> {
    /// Reads the directory of a block.
    ///
    /// # Errors
    /// [`Malformed`] where it does not add up.
    pub fn open(bytes: &'a [u8]) -> Result<Block<'a>, Malformed> {
        let Some((&VERSION, mut rest)) = bytes.split_first() else {
            return Err(bad("unknown version"));
        };
        let ticks = get(&mut rest, TICKS_MAX)?;
        let columns = get(&mut rest, SERIES_MAX)?;
        let lengths: Vec<usize> = (0..=columns)
            .map(|_| get(&mut rest, bytes.len()))
            .collect::<Result<_, _>>()?;
        let mut bodies = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (body, tail) = rest
                .split_at_checked(length)
                .ok_or_else(|| bad("it ends too early"))?;
            bodies.push(body);
            rest = tail;
        }
        if rest.is_empty() {
            Ok(Block { ticks, bodies })
        } else {
            Err(bad("bytes after the last column"))
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn ticks(&self) -> usize {
        self.ticks
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.bodies.len() - 1
    }

    /// The timestamps in Unix milliseconds.
    ///
    /// # Errors
    /// [`Malformed`] where the column does not decode.
    pub fn times_ms(&self) -> Result<Vec<i64>, Malformed> {
        let mut times = decode_column(self.bodies[0], self.ticks)?;
        let (mut value, mut step) = (0i64, 0i64);
        for (i, time) in times.iter_mut().enumerate() {
            match i {
                0 => value = *time,
                _ => {
                    step = step.wrapping_add(*time);
                    value = value.wrapping_add(step);
                }
            }
            *time = value;
        }
        Ok(times)
    }

    /// The raw values of one column.
    ///
    /// # Errors
    /// [`Malformed`] where there is no such column or it does not decode.
    pub fn column(&self, i: usize) -> Result<Vec<i64>, Malformed> {
        let body = self
            .bodies
            .get(i + 1)
            .ok_or_else(|| bad("no such column"))?;
        decode_column(body, self.ticks)
    }

    /// All rows.
    ///
    /// # Errors
    /// [`Malformed`] where a column does not decode.
    pub fn rows(&self) -> Result<Vec<Vec<i64>>, Malformed> {
        let mut rows = vec![Vec::with_capacity(self.columns()); self.ticks];
        for i in 0..self.columns() {
            for (row, value) in rows.iter_mut().zip(self.column(i)?) {
                row.push(value);
            }
        }
        Ok(rows)
    }
}

/// First value, first difference, then differences of differences; all wrap.
fn differences(times_ms: &[i64]) -> Vec<i64> {
    let mut out = Vec::with_capacity(times_ms.len());
    let (mut last, mut step) = (0i64, 0i64);
    for (i, time) in times_ms.iter().enumerate() {
        let difference = time.wrapping_sub(last);
        match i {
            0 => out.push(*time),
            _ => {
                out.push(difference.wrapping_sub(step));
                step = difference;
            }
        }
        last = *time;
    }
    out
}

fn encode_column(values: &[i64]) -> Vec<u8> {
    if let Some(first) = values.first()
        && values.iter().all(|v| v == first)
    {
        return tagged(CONST, &[*first]);
    }
    let mut deltas = Vec::with_capacity(values.len());
    let mut last = 0i64;
    for value in values {
        if *value == MISSING {
            deltas.push(MISSING);
            continue;
        }
        let delta = value.wrapping_sub(last);
        if delta == MISSING {
            return tagged(RAW, values);
        }
        deltas.push(delta);
        last = *value;
    }
    tagged(DELTA, &deltas)
}

fn decode_column(body: &[u8], ticks: usize) -> Result<Vec<i64>, Malformed> {
    let (tag, body) = body.split_first().ok_or_else(|| bad("an empty column"))?;
    match *tag {
        CONST if ticks > 0 => Ok(vec![decode_row(body, 1, None)?[0]; ticks]),
        RAW => decode_row(body, ticks, None),
        DELTA => {
            let mut values = decode_row(body, ticks, None)?;
            let mut last = 0i64;
            for value in values.iter_mut().filter(|v| **v != MISSING) {
                last = last.wrapping_add(*value);
                *value = last;
            }
            Ok(values)
        }
        _ => Err(bad("unknown column tag")),
    }
}

fn tagged(tag: u8, values: &[i64]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(encode_row(values, None));
    out
}

fn put(out: &mut Vec<u8>, mut v: usize) {
    while v >= 0x80 {
        out.push(v.to_le_bytes()[0] | 0x80);
        v >>= 7;
    }
    out.push(v.to_le_bytes()[0]);
}

fn get(rest: &mut &[u8], limit: usize) -> Result<usize, Malformed> {
    let mut v = 0usize;
    for shift in (0..35).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or_else(|| bad("it ends too early"))?;
        *rest = tail;
        v |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return if v <= limit {
                Ok(v)
            } else {
                Err(bad("a length over its limit"))
            };
        }
    }
    Err(bad("a number over five bytes"))
}

fn bad(why: &str) -> Malformed {
    Malformed::Invalid {
        what: "block",
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![4 => -300i64..300, 1 => Just(MISSING), 1 => Just(i64::MAX), 1 => Just(MISSING + 1), 1 => any::<i64>()]
    }

    proptest! {
        #[test]
        fn blocks_come_back(
            rows in proptest::collection::vec((any::<i64>(), proptest::collection::vec(value(), 6)), 0..80),
        ) {
            let (times, rows): (Vec<i64>, Vec<Vec<i64>>) = rows.into_iter().unzip();
            let slices: Vec<&[i64]> = rows.iter().map(Vec::as_slice).collect();
            let bytes = encode(&times, &slices);
            let block = Block::open(&bytes).unwrap();
            prop_assert_eq!(block.times_ms().unwrap(), times);
            prop_assert_eq!(block.rows().unwrap(), rows);
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in 0usize..400) {
            let mut whole = encode(&[1_000, 2_000, 3_001], &[&[1, 2], &[1, MISSING], &[5, 9]]);
            let bit = flip % (whole.len() * 8);
            whole[bit / 8] ^= 1 << (bit % 8);
            for bytes in [bytes, whole] {
                if let Ok(block) = Block::open(&bytes) {
                    let _ = (block.times_ms(), block.rows());
                }
            }
        }
    }

    #[test]
    fn the_format_stays() {
        let bytes = encode(
            &[10_000, 20_000, 30_000],
            &[&[5, 7], &[5, 9], &[5, MISSING]],
        );
        let want = [
            1, 3, 2, 8, 2, 4, 2, 162, 156, 1, 162, 156, 1, 2, 0, 12, 1, 16, 6, 1,
        ];
        assert_eq!(bytes, want);
        // A lone zero as a run of one: longer, and read all the same.
        let long = [
            1, 3, 2, 9, 2, 4, 2, 162, 156, 1, 162, 156, 1, 0, 0, 0, 12, 1, 16, 6, 1,
        ];
        for bytes in [&want[..], &long] {
            assert_eq!(
                Block::open(bytes).unwrap().rows().unwrap(),
                [vec![5, 7], vec![5, 9], vec![5, MISSING]]
            );
        }
    }

    #[test]
    fn an_hour_at_rest_is_small() {
        let times: Vec<i64> = (0..360).map(|i| 1_764_000_000_000 + i * 10_000).collect();
        let row = vec![42i64; 100];
        let rows: Vec<&[i64]> = times.iter().map(|_| row.as_slice()).collect();
        assert!(encode(&times, &rows).len() < 500);
    }
}
