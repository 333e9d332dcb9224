//! Host blocks: up to 360 ticks of one host and one schema, one shared timestamp column, every column readable alone.
//!
//! All numbers are LEB128 unless said otherwise; a *run* is the row codec of [`dawnwatch_proto::wire`] over the column.
//!
//! | field | content |
//! |---|---|
//! | version | u8, 2; 1 had the tags up to RAW only and is read |
//! | ticks | number of rows |
//! | columns | number of columns |
//! | lengths | one number for the timestamps, then one a column: bytes of its body, tag included |
//! | timestamps | tag, body: milliseconds as first value and differences of differences |
//! | columns | tag, body: of all forms the smallest |
//!
//! | tag | body |
//! |---|---|
//! | 0 CONST | a run of one value |
//! | 1 DELTA | a run: first value, then differences to the last value that was not missing |
//! | 2 RAW | a run of the values |
//! | 3 LINEAR | a run of two: first value, step |
//! | 4 ZERO-RUN | first value (zigzag); then in turn how many ticks changed nothing, and the next change (zigzag, less 1) |
//! | 5 PCO | pco's wrapped form of the values as i64: header, chunk metadata, one page |
//! | 6 PRESENT | how many values are there, how many are missing, in turn, up to the number of ticks; then tag and body of those that are there |
//! | 7 DUP | number of an earlier column that has the same values, itself no DUP |
//!
//! Only PRESENT, DELTA, RAW and CONST can say that a value is missing. Every length is capped on decoding; a block that does not
//! decode whole is an error, never a guess. The checksum is the business of the file around it.

mod column;

use dawnwatch_proto::Malformed;
use dawnwatch_proto::series::SERIES_MAX;

use column::{DUP, length, put};

/// Most rows in a block: an hour at ten seconds.
pub const TICKS_MAX: usize = 360;

const VERSION: u8 = 2;
const FEWER_TAGS: u8 = 1;

/// How hard to try for few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// All forms but PCO: for blocks that live an hour.
    Quick,
    /// All forms: for blocks that live for weeks.
    Best,
}

/// Encodes rows of the same length.
///
/// # Panics
/// Where there are more than [`TICKS_MAX`] rows, or rows and times differ in number: a bug of the caller.
#[must_use]
pub fn encode(times_ms: &[i64], rows: &[&[i64]], effort: Effort) -> Vec<u8> {
    assert!(
        rows.len() <= TICKS_MAX && rows.len() == times_ms.len(),
        "a block of {} rows",
        rows.len()
    );
    let width = rows.first().map_or(0, |row| row.len());
    let columns: Vec<Vec<i64>> = (0..width)
        .map(|i| rows.iter().map(|row| row[i]).collect())
        .collect();
    let mut bodies = vec![column::encode(&differences(times_ms), effort)];
    for (i, values) in columns.iter().enumerate() {
        let same = columns[..i].iter().position(|one| one == values);
        let mut body = vec![DUP];
        put(&mut body, same.unwrap_or(0) as u64);
        // The first of equals is never a duplicate itself; what is as short without reference stays readable alone.
        let short = same.is_some_and(|k| bodies[k + 1].len() <= body.len());
        bodies.push(match same {
            Some(_) if !short => body,
            Some(k) => bodies[k + 1].clone(),
            None => column::encode(values, effort),
        });
    }
    let mut out = vec![VERSION];
    put(&mut out, rows.len() as u64);
    put(&mut out, width as u64);
    for body in &bodies {
        put(&mut out, body.len() as u64);
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
        let Some((&(VERSION | FEWER_TAGS), mut rest)) = bytes.split_first() else {
            return Err(bad("unknown version"));
        };
        let ticks = length(&mut rest, TICKS_MAX)?;
        let columns = length(&mut rest, SERIES_MAX)?;
        let lengths: Vec<usize> = (0..=columns)
            .map(|_| length(&mut rest, bytes.len()))
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
        let mut times = column::decode(self.bodies[0], self.ticks)?;
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
        let body = self.body(i)?;
        let Some((&DUP, mut rest)) = body.split_first() else {
            return column::decode(body, self.ticks);
        };
        let earlier = length(&mut rest, i)?;
        if earlier == i || !rest.is_empty() {
            return Err(bad("a duplicate of no earlier column"));
        }
        // A duplicate of a duplicate is no tag that a column may have.
        column::decode(self.body(earlier)?, self.ticks)
    }

    fn body(&self, i: usize) -> Result<&'a [u8], Malformed> {
        let body = self.bodies.get(i + 1);
        body.copied().ok_or_else(|| bad("no such column"))
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

fn bad(why: &str) -> Malformed {
    Malformed::Invalid {
        what: "block",
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dawnwatch_proto::MISSING;
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
            for effort in [Effort::Quick, Effort::Best] {
                let bytes = encode(&times, &slices, effort);
                let block = Block::open(&bytes).unwrap();
                prop_assert_eq!(&block.times_ms().unwrap(), &times);
                prop_assert_eq!(&block.rows().unwrap(), &rows);
            }
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in 0usize..400) {
            let mut whole = encode(&[1_000, 2_000, 3_001], &[&[1, 2], &[1, MISSING], &[5, 9]], Effort::Best);
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
        let rows: [&[i64]; 4] = [
            &[5, 700, 700],
            &[5, 900, 900],
            &[5, MISSING, MISSING],
            &[5, 750, 750],
        ];
        let times = [10_000, 20_000, 30_000, 40_003];
        let want = [
            2, 4, 3, 9, 2, 8, 2, 2, 162, 156, 1, 162, 156, 1, 2, 8, 0, 12, 1, 250, 10, 146, 3, 1,
            173, 2, 7, 1,
        ];
        assert_eq!(encode(&times, &rows, Effort::Best), want);
        let block = Block::open(&want).unwrap();
        assert_eq!(block.times_ms().unwrap(), times);
        assert_eq!(block.rows().unwrap(), rows);
    }

    #[test]
    fn blocks_of_version_1_are_read() {
        let old = [
            1, 3, 2, 8, 2, 4, 2, 162, 156, 1, 162, 156, 1, 2, 0, 12, 1, 16, 6, 1,
        ];
        // A lone zero as a run of one: longer, and read all the same.
        let long = [
            1, 3, 2, 9, 2, 4, 2, 162, 156, 1, 162, 156, 1, 0, 0, 0, 12, 1, 16, 6, 1,
        ];
        for bytes in [&old[..], &long] {
            let block = Block::open(bytes).unwrap();
            assert_eq!(block.times_ms().unwrap(), [10_000, 20_000, 30_000]);
            assert_eq!(
                block.rows().unwrap(),
                [vec![5, 7], vec![5, 9], vec![5, MISSING]]
            );
        }
    }

    #[test]
    fn duplicates_point_back_and_never_in_circles() {
        let values: Vec<[i64; 3]> = (0..50).map(|i| [i * i, 3, i * i]).collect();
        let rows: Vec<&[i64]> = values.iter().map(|row| &row[..]).collect();
        let times: Vec<i64> = (0..50).collect();
        let bytes = encode(&times, &rows, Effort::Quick);
        assert_eq!(bytes[bytes.len() - 2..], [DUP, 0]);
        assert_eq!(Block::open(&bytes).unwrap().rows().unwrap(), rows);
        for target in [1u8, 2, 3] {
            let mut wrong = bytes.clone();
            *wrong.last_mut().unwrap() = target;
            let read = Block::open(&wrong).unwrap().column(2);
            assert_eq!(read.is_ok(), target == 1, "column {target}");
        }
    }

    #[test]
    fn an_hour_at_rest_is_small() {
        let times: Vec<i64> = (0..360).map(|i| 1_764_000_000_000 + i * 10_000).collect();
        let row = vec![42i64; 100];
        let rows: Vec<&[i64]> = times.iter().map(|_| row.as_slice()).collect();
        assert!(encode(&times, &rows, Effort::Best).len() < 330);
    }
}
