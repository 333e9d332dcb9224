//! Summary files: the summaries of one hour file, immutable.
//!
//! | part | content |
//! |---|---|
//! | header, 32 bytes | magic "DWSM", version u32, step in seconds u32, blocks left out u32, through u64, sealed i64; all LE |
//! | groups | of up to 64 hosts, in order: each a head, and pages of some 4 KiB with some series of all its hosts; see [`super::group`] |
//! | directory | each group, 28 bytes: first host u128, its length u32, that of its head u32, CRC32C of its head u32; all LE |
//! | trailer, 12 bytes | number of groups u32 LE, CRC32C of header and directory u32 LE, magic "DWSF" |
//!
//! So one series of all hosts is two small reads a group, and one of one host two in all, behind those of the directory.
//!
//! Versions 1 and 2 were never released and are not read: where the hour file is there, a summary is made of it anew.
//!
//! Its name says what a search must know, so that a start opens none of the tens of thousands:
//! `THROUGH_SEALED_MIN_MAX.1h.dws`, or `.5m.dws`, times in Unix seconds, MIN and MAX of the samples.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dawnwatch_proto::{HostId, Series};

use super::group::{Head, Part, key};
use super::{FIVE_MINUTES_S, HOUR_S, Why, chunk, make};
use crate::history::Error;
use crate::history::hour::HourFile;
use crate::history::schemas::Schemas;

pub use super::group::GROUP_STEPS_MAX;
pub use super::whole::{check, write_without};

pub(super) const MAGIC: &[u8; 4] = b"DWSM";
pub(super) const END: &[u8; 4] = b"DWSF";
pub(crate) const VERSION: u32 = 3;
pub(super) const HEADER: usize = 32;
const ENTRY: usize = 28;

/// Fewest bytes that a group takes: its entry in the directory.
pub const GROUP_BYTES_MIN: usize = ENTRY;

const TRAILER: usize = 12;

/// Most groups of hosts of a file that is read: a million hosts.
const GROUPS_MAX: u32 = 1 << 14;

/// Longest head that is read: 131,072 pages, and the most steps of a group.
const HEAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is read of a file's end at once: the directory of 2,300 hosts.
const TAIL: u64 = 1_024;

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

/// Reads the summaries of one series: of one host, or of all. None where the file is gone.
///
/// # Errors
/// [`Error::Damaged`] says what is wrong with the file.
pub fn read(
    dir: &Path,
    at: &SummaryAt,
    host: Option<HostId>,
    series: &Series,
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
        let parts = parts(&file, &contents, host, key(series))?;
        let left_out = contents.left_out();
        Ok(OfSeries { parts, left_out })
    });
    found.map(Some).map_err(damaged)
}

fn parts(
    file: &File,
    contents: &Contents,
    host: Option<HostId>,
    key: u64,
) -> Result<Vec<(HostId, Part)>, Why> {
    let which = match host {
        None => &contents.groups[..],
        Some(host) => {
            let behind = contents.groups.partition_point(|group| group.first <= host);
            &contents.groups[behind.saturating_sub(1)..behind]
        }
    };
    let mut out = Vec::new();
    for group in which {
        let head = group.head(file)?;
        let wanted = host.map(|host| head.hosts.steps_of(host));
        let (Some(page), false) = (head.page_of(key), wanted == Some(None)) else {
            continue;
        };
        let bytes = exact(file, group.pages() + page.offset, page.length)?;
        let chunk = page.chunk(&bytes, key)?;
        if let Some(chunk) = chunk {
            let take = |host, _, part| out.push((host, part));
            chunk::decode(chunk, &head.hosts, wanted.flatten(), take)?;
        }
    }
    Ok(out)
}

/// Where a group is.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupAt {
    /// Its first host.
    pub(super) first: HostId,
    /// Its first byte.
    pub(super) offset: u64,
    /// Number of its bytes.
    pub(super) length: usize,
    head: usize,
    crc: u32,
}

impl GroupAt {
    /// Reads and checks the head.
    pub(super) fn head(&self, file: &File) -> Result<Head, Why> {
        let bytes = exact(file, self.offset, self.head)?;
        if crc32c::crc32c(&bytes) != self.crc {
            return Err("the head of a group is damaged");
        }
        let head = Head::read(&bytes)?;
        if (self.head as u64).checked_add(head.end()) != Some(self.length as u64) {
            return Err("a group is not as long as its parts");
        }
        Ok(head)
    }

    /// Number of bytes of its head.
    pub(super) fn head_length(&self) -> usize {
        self.head
    }

    /// Where its first page is.
    pub(super) fn pages(&self) -> u64 {
        self.offset + self.head as u64
    }
}

pub(super) fn exact(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, Why> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)
        .map_err(|_| "it is cut off")?;
    Ok(bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|b| b.first_chunk::<4>());
    four.map_or(0, |b| u32::from_le_bytes(*b))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
    eight.map_or(0, |b| u64::from_le_bytes(*b))
}

/// The checked header and directory of a file.
pub(super) struct Contents {
    pub(super) header: Vec<u8>,
    pub(super) groups: Vec<GroupAt>,
}

impl Contents {
    /// Raw blocks that could not be read when the file was made.
    pub(super) fn left_out(&self) -> u32 {
        word(&self.header, 12)
    }

    pub(super) fn read(file: &File, at: &SummaryAt) -> Result<Contents, Why> {
        let length = file.metadata().map_err(|_| "its length is unknown")?.len();
        let header = exact(file, 0, HEADER)?;
        if header[..4] != MAGIC[..] {
            return Err("not a summary file");
        }
        if word(&header, 4) != VERSION {
            return Err("written by another version");
        }
        let end = length.checked_sub(TRAILER as u64).ok_or("too short")?;
        let from = length.saturating_sub(TAIL).max(HEADER as u64).min(end);
        let mut tail = exact(file, from, usize::try_from(length - from).unwrap_or(0))?;
        let trailer = tail.split_off(tail.len() - TRAILER);
        let count = word(&trailer, 0);
        let size = u64::from(count) * ENTRY as u64;
        let begin = end.checked_sub(size).filter(|from| *from >= HEADER as u64);
        let begin = begin.filter(|_| trailer[8..] == END[..] && count <= GROUPS_MAX);
        let begin = begin.ok_or("its end is missing")?;
        let directory = match begin.checked_sub(from) {
            Some(skip) => tail.split_off(usize::try_from(skip).unwrap_or(0)),
            None => exact(file, begin, usize::try_from(size).unwrap_or(0))?,
        };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header), &directory);
        if crc != word(&trailer, 4) {
            return Err("its directory is damaged");
        }
        if (word(&header, 8), long(&header, 16)) != (at.step_s, at.through) {
            return Err("its name is another file's");
        }
        let groups = groups(&directory, begin)?;
        Ok(Contents { header, groups })
    }
}

/// The groups of a directory, which begins where the last one ends.
fn groups(directory: &[u8], begin: u64) -> Result<Vec<GroupAt>, Why> {
    let (mut offset, mut out) = (HEADER as u64, Vec::<GroupAt>::new());
    for entry in directory.as_chunks::<ENTRY>().0 {
        let first = HostId(entry.first_chunk().map_or(0, |b| u128::from_le_bytes(*b)));
        let (length, head) = (word(entry, 16) as usize, word(entry, 20) as usize);
        let is_later = out.last().is_none_or(|last| last.first < first);
        if head > HEAD_BYTES_MAX.min(length) || !is_later {
            return Err("its directory does not add up");
        }
        out.push(GroupAt {
            first,
            offset,
            length,
            head,
            crc: word(entry, 24),
        });
        offset += length as u64;
    }
    match offset == begin {
        true => Ok(out),
        false => Err("its directory does not add up"),
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
