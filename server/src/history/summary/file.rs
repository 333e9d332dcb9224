//! Summary files: the summaries of one hour file, immutable.
//!
//! | part | content |
//! |---|---|
//! | header, 32 bytes | magic "DWSM", version u32, step in seconds u32, blocks left out u32, through u64, sealed i64; all LE |
//! | times | a region: the hosts and the times of their steps |
//! | series | a region each, sorted by key |
//! | directory | each region, 24 bytes: key u64 (of the times: the number of groups), offset u64, length u32, CRC32C of its table u32; all LE |
//! | trailer, 12 bytes | number of regions u32 LE, CRC32C of header and directory u32 LE, magic "DWSF" |
//!
//! A region is a table with an entry a group of hosts, and then the groups' chunks, as [`super::columns`] writes them. An entry
//! is the chunk's length u32 and CRC32C u32, in the region of times after the group's first host u128; all LE. A group that has
//! nothing of a series has no bytes there. So one series of all hosts is two reads, and one of one host four small ones.
//!
//! Version 1 had a block a host, see `super::old`; it is read all the same.
//!
//! Its name says what a search must know, so that a start opens none of the tens of thousands:
//! `THROUGH_SEALED_MIN_MAX.1h.dws`, or `.5m.dws`, times in Unix seconds, MIN and MAX of the samples.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dawnwatch_proto::{HostId, SchemaId, Series};

use super::bytes::Why;
use super::columns::{self, Part};
use super::{FIVE_MINUTES_S, HOUR_S, make, old};
use crate::history::Error;
use crate::history::hour::HourFile;
use crate::history::schemas::Schemas;

pub use super::whole::{check, write_without};

pub(super) const MAGIC: &[u8; 4] = b"DWSM";
pub(super) const END: &[u8; 4] = b"DWSF";
pub(crate) const VERSION: u32 = 2;
pub(super) const HEADER: usize = 32;
pub(super) const ENTRY: usize = 24;
pub(super) const TRAILER: usize = 12;

/// Most regions of a file that is read: as many different series as 10,000 hosts of 2,000 could name would be a file that
/// nobody can use; a fleet of one kind has some hundreds.
const REGIONS_MAX: u32 = 1_000_000;

/// Most groups of hosts of a file that is read: a million hosts.
pub(super) const GROUPS_MAX: u64 = 1 << 14;

/// Longest region that is read: a million hosts in an hour.
const REGION_BYTES_MAX: u32 = 256 * 1024 * 1024;

/// Which summary file, all from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SummaryAt {
    /// The journal position that its hour file is named by.
    pub through: u64,
    /// When the hour was sealed, Unix seconds.
    pub sealed_s: i64,
    /// Lowest time of a sample, Unix seconds.
    pub min_s: i64,
    /// Highest time of a sample.
    pub max_s: i64,
    /// Seconds of each summary.
    pub step_s: u32,
}

impl SummaryAt {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        let SummaryAt {
            through,
            sealed_s,
            min_s,
            max_s,
            ..
        } = self;
        let step = if self.step_s == HOUR_S { "1h" } else { "5m" };
        format!("{through:020}_{sealed_s}_{min_s}_{max_s}.{step}.dws")
    }

    /// The file of a name; none where it is no name of a summary file.
    #[must_use]
    pub fn of_name(name: &str) -> Option<SummaryAt> {
        let (numbers, step) = name.strip_suffix(".dws")?.split_once('.')?;
        let step_s = match step {
            "1h" => HOUR_S,
            "5m" => FIVE_MINUTES_S,
            _ => return None,
        };
        let mut parts = numbers.split('_');
        let through = parts.next()?.parse().ok()?;
        let mut next = || parts.next()?.parse::<i64>().ok();
        let (sealed_s, min_s, max_s) = (next()?, next()?, next()?);
        let at = SummaryAt {
            through,
            sealed_s,
            min_s,
            max_s,
            step_s,
        };
        (at.name() == name).then_some(at)
    }

    /// Whether samples within `[from, to)`, in milliseconds, may be in it.
    #[must_use]
    pub fn meets(&self, from_ms: i64, to_ms: i64) -> bool {
        self.min_s.saturating_mul(1_000) < to_ms
            && from_ms <= self.max_s.saturating_mul(1_000).saturating_add(999)
    }
}

/// Writes the summaries of an hour file; a block that cannot be read is left out and counted.
///
/// # Errors
/// What the file system says; the file is not there then, or whole.
pub fn write(
    dir: &Path,
    raw: &HourFile,
    schemas: &Schemas,
    step_s: u32,
) -> Result<SummaryAt, Error> {
    let all = raw.footer.blocks.iter();
    let (min, max) = all.fold((i64::MAX, i64::MIN), |(min, max), block| {
        (min.min(block.min_ms), max.max(block.max_ms))
    });
    let none = raw.footer.blocks.is_empty();
    let seconds = |ms: i64| if none { 0 } else { ms.div_euclid(1_000) };
    let at = SummaryAt {
        through: raw.footer.through,
        sealed_s: raw.footer.sealed_s,
        min_s: seconds(min),
        max_s: seconds(max),
        step_s,
    };
    let path = dir.join(at.name());
    crate::checkpoint::replace(&path, &make::content(&at, raw, schemas)).map_err(|source| {
        Error::Io {
            what: "write",
            path,
            source,
        }
    })?;
    Ok(at)
}

/// Samples in order of time, each time once: a host's clock may have been set back between two rows.
pub(super) fn in_order(mut samples: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    samples.sort_by_key(|(time, _)| *time);
    samples.dedup_by_key(|(time, _)| *time);
    samples
}

/// What a summary file says of one series.
#[derive(Debug)]
pub struct OfSeries {
    /// Its summaries, not joined, each with its host.
    pub parts: Vec<(HostId, Part)>,
    /// Raw blocks, of any host, that could not be read when the file was made.
    pub left_out: u32,
}

/// Reads the summaries of one series: of one host, or of all. `column` finds it in a schema, which files of version 1 ask.
/// None where the file is gone.
///
/// # Errors
/// [`Error::Damaged`] says what is wrong with the file.
pub fn read(
    dir: &Path,
    at: &SummaryAt,
    host: Option<HostId>,
    series: &Series,
    column: impl Fn(SchemaId) -> Option<(usize, (u32, u32))>,
) -> Result<Option<OfSeries>, Error> {
    let path = dir.join(at.name());
    let damaged = |why: &str| Error::Damaged {
        path: path.clone(),
        why: why.to_owned(),
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        opened => opened.map_err(|source| Error::Io {
            what: "open",
            path: path.clone(),
            source,
        })?,
    };
    let found = Contents::read(&file, at).and_then(|contents| {
        let left_out = word(&contents.header, 12);
        let parts = match contents.version() {
            old::VERSION => old::parts(&file, &contents.directory, host, column)?,
            _ => parts(&file, &contents.directory, host, series)?,
        };
        Ok(OfSeries { parts, left_out })
    });
    found.map(Some).map_err(damaged)
}

fn parts(
    file: &File,
    directory: &[u8],
    host: Option<HostId>,
    series: &Series,
) -> Result<Vec<(HostId, Part)>, Why> {
    let entries = directory.as_chunks::<ENTRY>().0;
    let (times, all) = entries.split_first().ok_or("it has no times")?;
    let groups = long(times, 0);
    if groups > GROUPS_MAX {
        return Err("more groups of hosts than there can be");
    }
    let groups = usize::try_from(groups).unwrap_or(0);
    let key = columns::key(series);
    let mut out = Vec::new();
    let Ok(found) = all.binary_search_by_key(&key, |entry| long(entry, 0)) else {
        return Ok(out);
    };
    let times = Region::open(file, times, groups, 24)?;
    let series = Region::open(file, &all[found], groups, 8)?;
    let which = match host {
        None => 0..groups,
        Some(host) => {
            let after = times.table.chunks_exact(24);
            let after = after.take_while(|entry| first_of(entry) <= host).count();
            after.saturating_sub(1)..after
        }
    };
    // All of it at once where all of it is wanted.
    let whole = host.is_none();
    let (times, series) = (
        times.chunks(which.clone(), whole)?,
        series.chunks(which, whole)?,
    );
    for (times, chunk) in times.iter().zip(&series) {
        if chunk.is_empty() {
            continue;
        }
        let hosts = columns::hosts(times)?;
        columns::parts(chunk, &hosts, host, |host, part| out.push((host, part)))?;
    }
    Ok(out)
}

fn first_of(entry: &[u8]) -> HostId {
    HostId(entry.first_chunk().map_or(0, |b| u128::from_le_bytes(*b)))
}

/// A region, and its checked table.
pub(super) struct Region<'a> {
    file: &'a File,
    pub(super) offset: u64,
    pub(super) length: usize,
    table: Vec<u8>,
    entry: usize,
}

impl Region<'_> {
    pub(super) fn open<'a>(
        file: &'a File,
        entry: &[u8; ENTRY],
        groups: usize,
        wide: usize,
    ) -> Result<Region<'a>, Why> {
        let (offset, length, crc) = (long(entry, 8), word(entry, 16), word(entry, 20));
        let size = groups * wide;
        if length > REGION_BYTES_MAX || (length as usize) < size {
            return Err("a region is too long, or shorter than its table");
        }
        let table = exact(file, offset, size)?;
        if crc32c::crc32c(&table) != crc {
            return Err("a table is damaged");
        }
        Ok(Region {
            file,
            offset,
            length: length as usize,
            table,
            entry: wide,
        })
    }

    /// The checked chunks of some groups, in one read where `whole`.
    pub(super) fn chunks(
        &self,
        which: std::ops::Range<usize>,
        whole: bool,
    ) -> Result<Vec<Vec<u8>>, Why> {
        let all = match whole {
            true => exact(self.file, self.offset, self.length)?,
            false => Vec::new(),
        };
        let (mut at, mut out) = (self.table.len(), Vec::new());
        for (number, entry) in self.table.chunks_exact(self.entry).enumerate() {
            let words = &entry[self.entry - 8..];
            let (length, crc) = (word(words, 0) as usize, word(words, 4));
            let end = at.checked_add(length).filter(|end| *end <= self.length);
            let end = end.ok_or("a chunk is too long")?;
            if which.contains(&number) {
                let chunk = match whole {
                    true => all[at..end].to_vec(),
                    false => exact(self.file, self.offset + at as u64, length)?,
                };
                if crc32c::crc32c(&chunk) != crc {
                    return Err("a chunk is damaged");
                }
                out.push(chunk);
            }
            at = end;
        }
        Ok(out)
    }
}

pub(super) fn exact(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, Why> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)
        .map_err(|_| "it is cut off")?;
    Ok(bytes)
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|b| b.first_chunk::<4>());
    four.map_or(0, |b| u32::from_le_bytes(*b))
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
    eight.map_or(0, |b| u64::from_le_bytes(*b))
}

/// The checked header and directory of a file.
pub(super) struct Contents {
    pub(super) header: Vec<u8>,
    pub(super) directory: Vec<u8>,
}

impl Contents {
    pub(super) fn version(&self) -> u32 {
        word(&self.header, 4)
    }

    pub(super) fn read(file: &File, at: &SummaryAt) -> Result<Contents, Why> {
        let length = file.metadata().map_err(|_| "its length is unknown")?.len();
        let header = exact(file, 0, HEADER)?;
        let end = length.checked_sub(TRAILER as u64).ok_or("too short")?;
        let trailer = exact(file, end, TRAILER)?;
        if header[..4] != MAGIC[..] {
            return Err("not a summary file");
        }
        let entry = match word(&header, 4) {
            old::VERSION => old::ENTRY,
            VERSION => ENTRY,
            _ => return Err("written by another version"),
        };
        let count = word(&trailer, 0);
        let size = u64::from(count) * entry as u64;
        let from = end.checked_sub(size).filter(|from| *from >= HEADER as u64);
        let from = from.filter(|_| trailer[8..] == END[..] && count <= REGIONS_MAX);
        let from = from.ok_or("its end is missing")?;
        let directory = exact(file, from, usize::try_from(size).unwrap_or(0))?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header), &directory);
        if crc != word(&trailer, 4) {
            return Err("its directory is damaged");
        }
        if (word(&header, 8), long(&header, 16)) != (at.step_s, at.through) {
            return Err("its name is another file's");
        }
        Ok(Contents { header, directory })
    }
}

/// Removes a file; one that is gone is well.
///
/// # Errors
/// What the file system says.
pub fn remove(dir: &Path, at: &SummaryAt) -> Result<(), Error> {
    let path = dir.join(at.name());
    match fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            let what = "remove expired";
            Err(Error::Io { what, path, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
