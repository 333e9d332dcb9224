//! Summary files: the summaries of one hour file, immutable.
//!
//! | part | content |
//! |---|---|
//! | header, 32 bytes | magic "DWSM", version u32, step in seconds u32, blocks left out u32, through u64, sealed i64; all LE |
//! | blocks | one for each raw block that could be read, as [`super::bytes`] writes them |
//! | directory | each block, sorted by host, 32 bytes: host u128, offset u64, length u32, CRC32C u32; all LE |
//! | trailer, 12 bytes | number of blocks u32 LE, CRC32C of header and directory u32 LE, magic "DWSF" |
//!
//! Its name says what a search must know, so that a start opens none of the tens of thousands:
//! `THROUGH_SEALED_MIN_MAX.1h.dws`, or `.5m.dws`, times in Unix seconds, MIN and MAX of the samples.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dawnwatch_engine::block::Block;
use dawnwatch_proto::{HostId, Kind, SchemaId};

use super::bytes::{self, Step};
use super::{FIVE_MINUTES_S, HOUR_S, Summary, reduce};
use crate::history::Error;
use crate::history::hour::HourFile;
use crate::history::schemas::Schemas;

const MAGIC: &[u8; 4] = b"DWSM";
const END: &[u8; 4] = b"DWSF";
pub(crate) const VERSION: u32 = 1;
const HEADER: usize = 32;
const ENTRY: usize = 32;
const TRAILER: usize = 12;

/// Most blocks of a file that is read: 10,000 hosts, each with a hundred changes of schema in an hour.
const BLOCKS_MAX: u32 = 1_000_000;

/// Longest block that is read: 4,096 series in 360 steps take less.
const BLOCK_BYTES_MAX: u32 = 64 * 1024 * 1024;

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
    crate::checkpoint::replace(&path, &content(&at, raw, schemas)).map_err(|source| Error::Io {
        what: "write",
        path,
        source,
    })?;
    Ok(at)
}

fn content(at: &SummaryAt, raw: &HourFile, schemas: &Schemas) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    let mut directory = Vec::new();
    let (mut count, mut left_out) = (0u32, 0u32);
    for block in &raw.footer.blocks {
        let read = raw.read(block).ok();
        let made = read.and_then(|bytes| of_block(&bytes, block.schema, schemas, at.step_s));
        let Some(made) = made else {
            left_out += 1;
            continue;
        };
        directory.extend(block.host.0.to_le_bytes());
        directory.extend((out.len() as u64).to_le_bytes());
        directory.extend(u32::try_from(made.len()).unwrap_or(u32::MAX).to_le_bytes());
        directory.extend(crc32c::crc32c(&made).to_le_bytes());
        out.extend(made);
        count += 1;
    }
    end(at, out, &directory, count, left_out)
}

/// Puts the header before the blocks, directory and trailer behind them.
fn end(at: &SummaryAt, mut out: Vec<u8>, directory: &[u8], count: u32, left_out: u32) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    for word in [VERSION, at.step_s, left_out] {
        header.extend(word.to_le_bytes());
    }
    header.extend(at.through.to_le_bytes());
    header.extend(at.sealed_s.to_le_bytes());
    out[..HEADER].copy_from_slice(&header);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header), directory);
    out.extend(directory);
    out.extend(count.to_le_bytes());
    out.extend(crc.to_le_bytes());
    out.extend(END);
    out
}

/// Writes a file anew without some hosts, in its place, if they are in it. Says whether they were.
///
/// # Errors
/// Where it cannot be read or written: the old one stays.
pub fn write_without(
    dir: &Path,
    at: &SummaryAt,
    gone: impl Fn(HostId) -> bool,
) -> Result<bool, Error> {
    let path = dir.join(at.name());
    let damaged = |why: &str| Error::Damaged {
        path: path.clone(),
        why: why.to_owned(),
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(|source| Error::Io {
            what: "open",
            path: path.clone(),
            source,
        })?,
    };
    let (old, left_out) = directory(&file, at).map_err(damaged)?;
    let entries = old.as_chunks::<ENTRY>().0;
    if !entries.iter().any(|entry| gone(host_of(entry))) {
        return Ok(false);
    }
    let mut out = vec![0; HEADER];
    let (mut kept, mut count) = (Vec::new(), 0u32);
    for entry in entries.iter().filter(|entry| !gone(host_of(entry))) {
        let bytes = block(&file, entry).map_err(damaged)?;
        let mut entry = *entry;
        entry[16..24].copy_from_slice(&(out.len() as u64).to_le_bytes());
        kept.extend(entry);
        out.extend(bytes);
        count += 1;
    }
    let bytes = end(at, out, &kept, count, left_out);
    crate::checkpoint::replace(&path, &bytes).map_err(|source| Error::Io {
        what: "write",
        path: path.clone(),
        source,
    })?;
    Ok(true)
}

/// The summaries of a raw block; none where it does not decode or nobody knows its series.
fn of_block(raw: &[u8], schema: SchemaId, schemas: &Schemas, step_s: u32) -> Option<Vec<u8>> {
    let known = schemas.get(schema)?;
    let block = Block::open(raw).ok()?;
    let times = block.times_ms().ok()?;
    let mut steps: std::collections::BTreeMap<i64, Step> = std::collections::BTreeMap::new();
    let width = block.columns();
    for i in 0..width {
        let kind = known.series().get(i).map_or(Kind::Gauge, |one| one.kind);
        let values = block.column(i).ok()?;
        let samples = in_order(times.iter().copied().zip(values).collect());
        for (start, summary) in reduce(&samples, kind, step_s) {
            steps.entry(start).or_insert_with(|| vec![None; width])[i] = Some(summary);
        }
    }
    let steps: Vec<Step> = steps.into_values().collect();
    Some(bytes::encode(schema, &steps))
}

/// Samples in order of time, each time once: a host's clock may have been set back between two rows.
pub(super) fn in_order(mut samples: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    samples.sort_by_key(|(time, _)| *time);
    samples.dedup_by_key(|(time, _)| *time);
    samples
}

/// What a summary file says of one series of a host.
#[derive(Debug)]
pub struct OfSeries {
    /// Its summaries, not joined.
    pub parts: Vec<Summary>,
    /// Raw blocks, of any host, that could not be read when the file was made.
    pub left_out: u32,
}

/// Reads the summaries of one series of a host: the one that `column` names for a schema. None where the file is gone.
///
/// # Errors
/// [`Error::Damaged`] says what is wrong with the file.
pub fn read(
    dir: &Path,
    at: &SummaryAt,
    host: HostId,
    column: impl Fn(SchemaId) -> Option<usize>,
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
    let (directory, left_out) = directory(&file, at).map_err(damaged)?;
    let mut parts = Vec::new();
    let entries = directory.as_chunks::<ENTRY>().0;
    let from = entries.partition_point(|entry| host_of(entry) < host);
    for entry in entries[from..].iter().take_while(|e| host_of(e) == host) {
        let block = block(&file, entry).map_err(damaged)?;
        let Some(i) = column(bytes::schema(&block).map_err(damaged)?) else {
            continue;
        };
        for step in bytes::decode(&block).map_err(damaged)? {
            parts.extend(step.get(i).copied().flatten());
        }
    }
    Ok(Some(OfSeries { parts, left_out }))
}

fn host_of(entry: &[u8; ENTRY]) -> HostId {
    HostId(entry.first_chunk().map_or(0, |b| u128::from_le_bytes(*b)))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|b| b.first_chunk::<4>());
    four.map_or(0, |b| u32::from_le_bytes(*b))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
    eight.map_or(0, |b| u64::from_le_bytes(*b))
}

/// The checked directory of a file, and how many blocks were left out of it.
fn directory(file: &File, at: &SummaryAt) -> Result<(Vec<u8>, u32), &'static str> {
    let cut = |_| "it is cut off";
    let length = file.metadata().map_err(|_| "its length is unknown")?.len();
    let (mut header, mut trailer) = ([0; HEADER], [0; TRAILER]);
    file.read_exact_at(&mut header, 0).map_err(cut)?;
    let end = length.checked_sub(TRAILER as u64).ok_or("too short")?;
    file.read_exact_at(&mut trailer, end).map_err(cut)?;
    if header[..4] != MAGIC[..] {
        return Err("not a summary file");
    }
    if word(&header, 4) != VERSION {
        return Err("written by another version");
    }
    let count = word(&trailer, 0);
    let size = u64::from(count) * ENTRY as u64;
    let from = end.checked_sub(size).filter(|from| *from >= HEADER as u64);
    let from = from.filter(|_| trailer[8..] == END[..] && count <= BLOCKS_MAX);
    let from = from.ok_or("its end is missing")?;
    let mut directory = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut directory, from).map_err(cut)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header), &directory);
    if crc != word(&trailer, 4) {
        return Err("its directory is damaged");
    }
    if (word(&header, 8), long(&header, 16)) != (at.step_s, at.through) {
        return Err("its name is another file's");
    }
    Ok((directory, word(&header, 12)))
}

fn block(file: &File, entry: &[u8; ENTRY]) -> Result<Vec<u8>, &'static str> {
    let (offset, length, crc) = (long(entry, 16), word(entry, 24), word(entry, 28));
    if length > BLOCK_BYTES_MAX {
        return Err("a block is too long");
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset)
        .map_err(|_| "it is cut off")?;
    if crc32c::crc32c(&bytes) == crc {
        Ok(bytes)
    } else {
        Err("a block is damaged")
    }
}

/// Reads a whole summary file; returns how many raw blocks were left out of it.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path, at: &SummaryAt) -> Result<u32, String> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let (directory, left_out) = directory(&file, at)?;
    let mut offset = HEADER as u64;
    for entry in directory.as_chunks::<ENTRY>().0 {
        if long(entry, 16) != offset {
            return Err("its directory skips bytes".to_owned());
        }
        let block = block(&file, entry)?;
        offset += block.len() as u64;
        bytes::schema(&block)?;
        bytes::decode(&block)?;
    }
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length != offset + (directory.len() + TRAILER) as u64 {
        return Err("bytes between its blocks and its directory".to_owned());
    }
    Ok(left_out)
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
