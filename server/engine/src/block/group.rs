//! Groups of columns: what is read when one series is wanted.

use dawnwatch_proto::Malformed;

use super::number::{length, put};
use super::{BYTES_MAX, DUP, Effort, bad, column};

/// Where a group is, and what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupAt {
    /// Number of its first column.
    pub first: usize,
    /// Number of its columns.
    pub columns: usize,
    /// Its first byte, from the start of the block.
    pub offset: usize,
    /// Number of its bytes.
    pub length: usize,
    /// CRC32C of its bytes.
    pub crc: u32,
}

impl GroupAt {
    /// Reads an entry of a head.
    pub(super) fn read(
        rest: &mut &[u8],
        first: usize,
        offset: usize,
    ) -> Result<GroupAt, Malformed> {
        let columns = length(rest, super::SERIES_MAX)?;
        let bytes = length(rest, BYTES_MAX)?;
        let (crc, tail) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| bad("it ends too early"))?;
        *rest = tail;
        Ok(GroupAt {
            first,
            columns,
            offset,
            length: bytes,
            crc: u32::from_le_bytes(*crc),
        })
    }
}

/// A group that is open for reading.
#[derive(Debug)]
pub struct Group<'a> {
    first: usize,
    ticks: usize,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Group<'a> {
    /// Checks the bytes of a group and finds its columns.
    ///
    /// # Errors
    /// [`Malformed`] where it is not what its head says.
    pub fn open(bytes: &'a [u8], at: &GroupAt, ticks: usize) -> Result<Group<'a>, Malformed> {
        if bytes.len() != at.length || crc32c::crc32c(bytes) != at.crc {
            return Err(bad("a group of columns is damaged"));
        }
        let mut rest = bytes;
        let lengths: Vec<usize> = (0..at.columns)
            .map(|_| length(&mut rest, bytes.len()))
            .collect::<Result<_, _>>()?;
        Group::of(rest, &lengths, at.first, ticks)
    }

    /// Takes bytes apart into columns of these lengths.
    pub(super) fn of(
        mut rest: &'a [u8],
        lengths: &[usize],
        first: usize,
        ticks: usize,
    ) -> Result<Group<'a>, Malformed> {
        let mut bodies = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (body, tail) = rest
                .split_at_checked(*length)
                .ok_or_else(|| bad("it ends too early"))?;
            bodies.push(body);
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(bad("bytes after the last column"));
        }
        Ok(Group {
            first,
            ticks,
            bodies,
        })
    }

    /// Number of its first column.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// The raw values of a column of the block.
    ///
    /// # Errors
    /// [`Malformed`] where it is not in this group or does not decode.
    pub fn column(&self, i: usize) -> Result<Vec<i64>, Malformed> {
        let within = i.checked_sub(self.first);
        let within = within.ok_or_else(|| bad("no such column"))?;
        let body = self.body(within)?;
        let Some((&DUP, mut rest)) = body.split_first() else {
            return column::decode(body, self.ticks);
        };
        let earlier = length(&mut rest, within)?;
        if earlier == within || !rest.is_empty() {
            return Err(bad("a duplicate of no earlier column"));
        }
        // A duplicate of a duplicate is no tag that a column may have.
        column::decode(self.body(earlier)?, self.ticks)
    }

    fn body(&self, i: usize) -> Result<&'a [u8], Malformed> {
        let body = self.bodies.get(i);
        body.copied().ok_or_else(|| bad("no such column"))
    }
}

/// The groups of some columns: number of columns, and bytes. One is closed when it has so many bytes.
pub(super) fn encode(columns: &[Vec<i64>], effort: Effort, bytes: usize) -> Vec<(usize, Vec<u8>)> {
    let mut groups = Vec::new();
    let (mut first, mut long) = (0, 0);
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for (i, values) in columns.iter().enumerate() {
        if long >= bytes {
            groups.push((bodies.len(), joined(&bodies)));
            (first, long) = (i, 0);
            bodies.clear();
        }
        let same = columns[first..i].iter().position(|one| one == values);
        let mut body = vec![DUP];
        put(&mut body, same.unwrap_or(0) as u64);
        // The first of equals is never a duplicate itself; what is as short without reference stays readable alone.
        let short = same.is_some_and(|k| bodies[k].len() <= body.len());
        let body = match same {
            Some(_) if !short => body,
            Some(k) => bodies[k].clone(),
            None => column::encode(values, effort),
        };
        long += body.len();
        bodies.push(body);
    }
    if !bodies.is_empty() {
        groups.push((bodies.len(), joined(&bodies)));
    }
    groups
}

fn joined(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for body in bodies {
        put(&mut out, body.len() as u64);
    }
    out.extend(bodies.iter().flatten());
    out
}
