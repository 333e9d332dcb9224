//! Host blocks: up to 720 ticks of one host and one schema, one shared column of times, every series readable with little else.
//!
//! Columns lie in groups of some KiB, each with a checksum of its own: whoever wants one series reads the head and one group.
//! All numbers are LEB128 unless said otherwise; a *run* is the row codec of [`dawnwatch_proto::wire`] over the column.
//!
//! | part | field | content |
//! |---|---|---|
//! | head | version | u8, 3 |
//! | | ticks | number of rows |
//! | | columns | number of columns |
//! | | groups | number of groups |
//! | | each group | number of its columns, number of its bytes, CRC32C of these (u32 LE) |
//! | | times | number of bytes, then these: see `times.rs` |
//! | each group | lengths | one number a column: bytes of its body, tag included |
//! | | columns | tag, body: of all forms the smallest that was tried |
//!
//! | tag | body |
//! |---|---|
//! | 0 CONST | a run of one value |
//! | 1 DELTA | a run: first value, then differences to the last value that was not missing |
//! | 2 RAW | a run of the values |
//! | 3 LINEAR | a run of two: first value, step |
//! | 4 ZERO-RUN | first value (zigzag); then in turn how many ticks changed nothing, and the next change (zigzag, less 1); no longer written |
//! | 5 PCO | pco's wrapped form of the values as i64: header, chunk metadata, one page |
//! | 6 PRESENT | how many values are there, how many are missing, in turn, up to the number of ticks; then tag and body of those that are there |
//! | 7 DUP | number, within the group, of an earlier column that has the same values, itself no DUP |
//! | 128.. AGR | adaptive Golomb-Rice: see `rice.rs` |
//!
//! Only PRESENT, DELTA, RAW and CONST can say that a value is missing. Every length is capped on decoding; a block that does not
//! decode whole is an error, never a guess. The checksum of the head is the business of the file around it. Versions 1 and 2 had
//! neither groups nor AGR and are read: see `old.rs`.

pub mod bits;
mod column;
mod even;
mod group;
mod number;
mod old;
mod predict;
mod rice;
mod times;

use dawnwatch_proto::Malformed;
use dawnwatch_proto::series::SERIES_MAX;

use column::DUP;
pub use group::{Group, GroupAt};
use number::{length, put};

/// Most rows in a block: two hours at ten seconds, so that an hour with some ticks too many is one block all the same.
pub const TICKS_MAX: usize = 720;

/// A group is closed when it has so many bytes: a read of one series reads one, and each costs some seven bytes.
const GROUP_BYTES: usize = 4 * 1024;

/// Longest group or column of times that is read: 2,000 columns of 720 random values.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Version of a block.
pub const VERSION: u8 = 3;

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
    let groups = group::encode(&columns, effort, GROUP_BYTES);
    let mut out = vec![VERSION];
    put(&mut out, rows.len() as u64);
    put(&mut out, width as u64);
    put(&mut out, groups.len() as u64);
    for (columns, bytes) in &groups {
        put(&mut out, *columns as u64);
        put(&mut out, bytes.len() as u64);
        out.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    }
    let times = times::encode(times_ms, effort);
    put(&mut out, times.len() as u64);
    out.extend_from_slice(&times);
    for (_, bytes) in &groups {
        out.extend_from_slice(bytes);
    }
    out
}

/// The head of a block: its times, and where its groups are.
#[derive(Debug)]
pub struct Head<'a> {
    ticks: usize,
    columns: usize,
    groups: Vec<GroupAt>,
    times: &'a [u8],
    length: usize,
}

impl<'a> Head<'a> {
    /// Reads the head of a block; what is behind it may be missing.
    ///
    /// # Errors
    /// [`Malformed`] where it does not add up, or is of version 1 or 2, which had none.
    pub fn open(bytes: &'a [u8]) -> Result<Head<'a>, Malformed> {
        let Some((&VERSION, mut rest)) = bytes.split_first() else {
            return Err(bad("unknown version"));
        };
        let ticks = length(&mut rest, TICKS_MAX)?;
        let columns = length(&mut rest, SERIES_MAX)?;
        let count = length(&mut rest, columns)?;
        let mut groups = Vec::with_capacity(count);
        let (mut first, mut offset) = (0, 0);
        for _ in 0..count {
            let at = GroupAt::read(&mut rest, first, offset)?;
            first += at.columns;
            offset += at.length;
            if first > columns {
                return Err(bad("groups of more columns than there are"));
            }
            groups.push(at);
        }
        if first != columns {
            return Err(bad("groups of fewer columns than there are"));
        }
        let long = length(&mut rest, BYTES_MAX)?;
        let (times, rest) = rest
            .split_at_checked(long)
            .ok_or_else(|| bad("it ends too early"))?;
        let length = bytes.len() - rest.len();
        groups.iter_mut().for_each(|at| at.offset += length);
        Ok(Head {
            ticks,
            columns,
            groups,
            times,
            length,
        })
    }

    /// Number of bytes of the head.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of rows.
    #[must_use]
    pub fn ticks(&self) -> usize {
        self.ticks
    }

    /// The groups, in order of their columns.
    #[must_use]
    pub fn groups(&self) -> &[GroupAt] {
        &self.groups
    }

    /// The group that a column is in.
    ///
    /// # Errors
    /// [`Malformed`] where there is no such column.
    pub fn group_of(&self, column: usize) -> Result<&GroupAt, Malformed> {
        let behind = self.groups.partition_point(|at| at.first <= column);
        let at = behind.checked_sub(1).and_then(|i| self.groups.get(i));
        at.filter(|at| column - at.first < at.columns)
            .ok_or_else(|| bad("no such column"))
    }

    /// The times in Unix milliseconds.
    ///
    /// # Errors
    /// [`Malformed`] where they do not decode.
    pub fn times_ms(&self) -> Result<Vec<i64>, Malformed> {
        times::decode(self.times, self.ticks)
    }
}

/// A whole block that is open for reading.
#[derive(Debug)]
pub struct Block<'a> {
    ticks: usize,
    columns: usize,
    times: Times<'a>,
    groups: Vec<Group<'a>>,
}

#[derive(Debug)]
enum Times<'a> {
    Old(&'a [u8]),
    Grid(&'a [u8]),
}

impl<'a> Block<'a> {
    /// Reads head and groups of a block.
    ///
    /// # Errors
    /// [`Malformed`] where it does not add up, or a checksum does not match.
    pub fn open(bytes: &'a [u8]) -> Result<Block<'a>, Malformed> {
        if let Some((&old::WITHOUT_GROUPS | &old::FEWER_TAGS, rest)) = bytes.split_first() {
            return old::open(rest);
        }
        let head = Head::open(bytes)?;
        let mut rest = &bytes[head.length..];
        let mut groups = Vec::with_capacity(head.groups.len());
        for at in &head.groups {
            let (group, tail) = rest
                .split_at_checked(at.length)
                .ok_or_else(|| bad("it ends too early"))?;
            groups.push(Group::open(group, at, head.ticks)?);
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(bad("bytes after the last column"));
        }
        Ok(Block {
            ticks: head.ticks,
            columns: head.columns,
            times: Times::Grid(head.times),
            groups,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn ticks(&self) -> usize {
        self.ticks
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The timestamps in Unix milliseconds.
    ///
    /// # Errors
    /// [`Malformed`] where the column does not decode.
    pub fn times_ms(&self) -> Result<Vec<i64>, Malformed> {
        match self.times {
            Times::Old(body) => old::times(body, self.ticks),
            Times::Grid(body) => times::decode(body, self.ticks),
        }
    }

    /// The raw values of one column.
    ///
    /// # Errors
    /// [`Malformed`] where there is no such column or it does not decode.
    pub fn column(&self, i: usize) -> Result<Vec<i64>, Malformed> {
        let behind = self.groups.partition_point(|group| group.first() <= i);
        let group = behind.checked_sub(1).and_then(|at| self.groups.get(at));
        group.ok_or_else(|| bad("no such column"))?.column(i)
    }

    /// All rows.
    ///
    /// # Errors
    /// [`Malformed`] where a column does not decode.
    pub fn rows(&self) -> Result<Vec<Vec<i64>>, Malformed> {
        let mut rows = vec![Vec::with_capacity(self.columns); self.ticks];
        for i in 0..self.columns {
            for (row, value) in rows.iter_mut().zip(self.column(i)?) {
                row.push(value);
            }
        }
        Ok(rows)
    }
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

    /// A number below, by chance that is always the same.
    pub(super) fn chance(i: i64, below: i64) -> i64 {
        let mix = i.wrapping_add(977).wrapping_mul(0x1E37_79B9_7F4A_7C15);
        let mix = (mix ^ (mix >> 29)).wrapping_mul(0x3F58_476D_1CE4_E5B9);
        (mix ^ (mix >> 32)).rem_euclid(below)
    }

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
            // No checksum stands before the columns of version 2: noise reaches all codecs.
            let mut old = vec![2, 100, 3, 5, 40, 40];
            old.extend_from_slice(&bytes);
            let bit = flip % (whole.len() * 8);
            whole[bit / 8] ^= 1 << (bit % 8);
            for bytes in [bytes, whole, old] {
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
            3, 4, 3, 1, 3, 15, 6, 95, 100, 173, 9, 0, 141, 160, 156, 1, 160, 156, 1, 68, 2, 8, 2,
            0, 12, 1, 250, 10, 146, 3, 1, 173, 2, 7, 1,
        ];
        assert_eq!(encode(&times, &rows, Effort::Best), want);
        let block = Block::open(&want).unwrap();
        assert_eq!(block.times_ms().unwrap(), times);
        assert_eq!(block.rows().unwrap(), rows);
        let head = Head::open(&want).unwrap();
        assert_eq!(
            Head::open(&want[..head.length()])
                .unwrap()
                .times_ms()
                .unwrap(),
            times
        );
    }

    #[test]
    fn blocks_of_version_2_are_read() {
        let rows: [&[i64]; 4] = [
            &[5, 700, 700],
            &[5, 900, 900],
            &[5, MISSING, MISSING],
            &[5, 750, 750],
        ];
        let old = [
            2, 4, 3, 9, 2, 8, 2, 2, 162, 156, 1, 162, 156, 1, 2, 8, 0, 12, 1, 250, 10, 146, 3, 1,
            173, 2, 7, 1,
        ];
        let block = Block::open(&old).unwrap();
        assert_eq!(block.times_ms().unwrap(), [10_000, 20_000, 30_000, 40_003]);
        assert_eq!(block.rows().unwrap(), rows);
        assert!(Head::open(&old).is_err(), "it has none");
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
        let at = *Head::open(&bytes).unwrap().group_of(2).unwrap();
        for target in [1u8, 2, 3] {
            let mut wrong = bytes[at.offset..].to_vec();
            *wrong.last_mut().unwrap() = target;
            let crc = crc32c::crc32c(&wrong);
            let read = Group::open(&wrong, &GroupAt { crc, ..at }, 50)
                .unwrap()
                .column(2);
            assert_eq!(read.is_ok(), target == 1, "column {target}");
        }
    }

    #[test]
    fn one_series_needs_the_head_and_one_group() {
        let noise = |i: i64, c: i64| chance(i * 60 + c, 100_019 + c);
        let values: Vec<Vec<i64>> = (0..300)
            .map(|i| (0..60).map(|c| noise(i, c)).collect())
            .collect();
        let rows: Vec<&[i64]> = values.iter().map(Vec::as_slice).collect();
        let times: Vec<i64> = (0..300).map(|i| i * 1_000).collect();
        let bytes = encode(&times, &rows, Effort::Quick);
        let head = Head::open(&bytes).unwrap();
        let head = Head::open(&bytes[..head.length()]).unwrap();
        assert!(head.groups().len() > 2, "{:?}", head.groups());
        for i in 0..60 {
            let at = head.group_of(i).unwrap();
            assert!(at.length < 2 * GROUP_BYTES);
            let mut group = bytes[at.offset..at.offset + at.length].to_vec();
            let read = Group::open(&group, at, head.ticks()).unwrap().column(i);
            let want: Vec<i64> = values.iter().map(|row| row[i]).collect();
            assert_eq!(read.unwrap(), want);
            group[at.length / 2] ^= 1;
            assert!(Group::open(&group, at, head.ticks()).is_err());
        }
        assert!(head.group_of(60).is_err());
        for cut in 0..head.length() {
            assert!(Head::open(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for cut in head.length()..bytes.len() {
            assert!(Block::open(&bytes[..cut]).is_err(), "cut at {cut}");
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
