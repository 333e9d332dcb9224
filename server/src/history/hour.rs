//! Hour files: what arrived within an hour, immutable.
//!
//! | part | content |
//! |---|---|
//! | header | magic "DWHH", version u32 LE |
//! | blocks | one after the other, as [`dawnwatch_engine::block`] writes them |
//! | events | one chunk after the other, as [`super::events`] writes them |
//! | footer | postcard form of [`Footer`]: where each host's blocks and events are, their time span and CRC32C |
//! | trailer | length of the footer u32 LE, its CRC32C u32 LE, magic "DWHF" |
//!
//! Version 1 had no events, and a footer that ends before them; it is read all the same.
//! Written to a temporary file, synced, renamed, directory synced: a file that has its name is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dawnwatch_engine::block::{Block, Effort, TICKS_MAX};
use dawnwatch_proto::{HostId, SchemaId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::head::{HostRows, Mini, Row};
use super::{Error, events};
use crate::plain;

const MAGIC: &[u8; 4] = b"DWHH";
const END: &[u8; 4] = b"DWHF";
const VERSION: u32 = 2;
const WITHOUT_EVENTS: u32 = 1;
const TRAILER: usize = 12;

/// Longest footer that is read: 10,000 hosts with some blocks each take 2 MiB.
const FOOTER_MAX: u64 = 64 * 1024 * 1024;

/// Longest block that is read: 2,000 columns of 360 random values.
const BLOCK_MAX: u32 = 16 * 1024 * 1024;

/// The table of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// All rows up to this journal position are in this file or an older one.
    pub through: u64,
    /// When it was sealed, Unix seconds.
    pub sealed_s: i64,
    /// The blocks, by host, oldest first.
    pub blocks: Vec<BlockAt>,
    /// The chunks of events, by host, in order of arrival.
    pub events: Vec<EventsAt>,
}

/// The table of contents of version 1.
#[derive(Deserialize)]
struct FooterV1 {
    through: u64,
    sealed_s: i64,
    blocks: Vec<BlockAt>,
}

impl From<FooterV1> for Footer {
    fn from(old: FooterV1) -> Footer {
        Footer {
            through: old.through,
            sealed_s: old.sealed_s,
            blocks: old.blocks,
            events: Vec::new(),
        }
    }
}

/// Where a chunk of events is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsAt {
    /// Whose.
    pub host: HostId,
    /// Lowest corrected time in it, Unix milliseconds.
    pub min_ms: i64,
    /// Highest time in it.
    pub max_ms: i64,
    /// How many.
    pub count: u32,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u32,
    /// CRC32C of the bytes.
    pub crc: u32,
}

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockAt {
    /// Whose.
    pub host: HostId,
    /// Which series its columns are.
    pub schema: SchemaId,
    /// Lowest time in it, Unix milliseconds.
    pub min_ms: i64,
    /// Highest time in it.
    pub max_ms: i64,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u32,
    /// CRC32C of the bytes.
    pub crc: u32,
}

/// An open hour file.
#[derive(Debug)]
pub struct HourFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its table of contents.
    pub footer: Footer,
    file: File,
}

impl HourFile {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// [`Error::Damaged`] says what is wrong with it.
    pub fn open(path: &Path) -> Result<HourFile, Error> {
        let io = |what| {
            move |source| Error::Io {
                what,
                path: path.to_owned(),
                source,
            }
        };
        let damaged = |why: &str| Error::Damaged {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        let file = File::open(path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("open"))?.len();
        let mut header = [0; 8];
        file.read_exact_at(&mut header, 0)
            .map_err(|_| damaged("too short"))?;
        if header[..4] != MAGIC[..] {
            return Err(damaged("not an hour file"));
        }
        let version = header[4..]
            .first_chunk::<4>()
            .map_or(0, |b| u32::from_le_bytes(*b));
        if version != VERSION && version != WITHOUT_EVENTS {
            return Err(damaged("written by another version"));
        }
        let at = length
            .checked_sub(TRAILER as u64)
            .ok_or_else(|| damaged("too short"))?;
        let mut trailer = [0; TRAILER];
        file.read_exact_at(&mut trailer, at).map_err(io("read"))?;
        let word = |i: usize| {
            trailer[i..]
                .first_chunk::<4>()
                .map_or(0, |b| u32::from_le_bytes(*b))
        };
        let footer_length = u64::from(word(0));
        if trailer[8..] != END[..] || footer_length > FOOTER_MAX.min(at) {
            return Err(damaged("its end is missing"));
        }
        let mut footer = vec![0; usize::try_from(footer_length).unwrap_or(0)];
        file.read_exact_at(&mut footer, at - footer_length)
            .map_err(io("read"))?;
        if crc32c::crc32c(&footer) != word(4) {
            return Err(damaged("its footer is damaged"));
        }
        let footer = if version == WITHOUT_EVENTS {
            whole::<FooterV1>(&footer).map(Footer::from)
        } else {
            whole::<Footer>(&footer)
        };
        let footer = footer.ok_or_else(|| damaged("its footer does not decode"))?;
        Ok(HourFile {
            path: path.to_owned(),
            footer,
            file,
        })
    }

    /// The blocks of a host, oldest first.
    #[must_use]
    pub fn blocks_of(&self, host: HostId) -> &[BlockAt] {
        let blocks = &self.footer.blocks;
        let from = blocks.partition_point(|block| block.host < host);
        let to = blocks.partition_point(|block| block.host <= host);
        &blocks[from..to]
    }

    /// The chunks of events of a host, or of all, in order of arrival.
    #[must_use]
    pub fn events_of(&self, host: Option<HostId>) -> &[EventsAt] {
        let events = &self.footer.events;
        let Some(host) = host else { return events };
        let from = events.partition_point(|chunk| chunk.host < host);
        let to = events.partition_point(|chunk| chunk.host <= host);
        &events[from..to]
    }

    /// Reads a block.
    ///
    /// # Errors
    /// Where it cannot be read or its checksum does not match.
    pub fn read(&self, block: &BlockAt) -> Result<Vec<u8>, Error> {
        self.read_at(block.offset, block.length, block.crc)
    }

    /// Reads a chunk of events.
    ///
    /// # Errors
    /// Where it cannot be read or its checksum does not match.
    pub fn read_events(&self, chunk: &EventsAt) -> Result<Vec<u8>, Error> {
        self.read_at(chunk.offset, chunk.length, chunk.crc)
    }

    fn read_at(&self, offset: u64, length: u32, crc: u32) -> Result<Vec<u8>, Error> {
        let damaged = |why: &str| Error::Damaged {
            path: self.path.clone(),
            why: why.to_owned(),
        };
        if length > BLOCK_MAX {
            return Err(damaged("a block is too long"));
        }
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| Error::Io {
                what: "read",
                path: self.path.clone(),
                source,
            })?;
        if crc32c::crc32c(&bytes) == crc {
            Ok(bytes)
        } else {
            Err(damaged("a block is damaged"))
        }
    }
}

/// Writes an hour file; it is open for reading then.
///
/// # Errors
/// What the file system says; nothing is left then, but where the last step failed ([`Error::InDoubt`]).
pub fn write(
    dir: &Path,
    hosts: &BTreeMap<HostId, HostRows>,
    through: u64,
    now: Timestamp,
) -> Result<HourFile, Error> {
    let path = dir.join(format!("{through:020}.dwh"));
    let tmp = path.with_extension("tmp");
    let written = fill(&tmp, hosts, through, now).and_then(|(file, footer)| {
        let io = |source| Error::Io {
            what: "rename",
            path: tmp.clone(),
            source,
        };
        fs::rename(&tmp, &path).map_err(io)?;
        Ok((file, footer))
    });
    let (file, footer) = match written {
        Ok(written) => written,
        Err(error) => {
            // On a full disk what is left of it would take the room that is missing.
            let _ = fs::remove_file(&tmp);
            return Err(error);
        }
    };
    // From here on the file counts, and nothing may fail but what ends the process.
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        Ok(()) => Ok(HourFile { path, footer, file }),
        Err(source) => Err(Error::InDoubt { path, source }),
    }
}

fn fill(
    tmp: &Path,
    hosts: &BTreeMap<HostId, HostRows>,
    through: u64,
    now: Timestamp,
) -> Result<(File, Footer), Error> {
    let io = |what| {
        let path = tmp.to_owned();
        move |source| Error::Io { what, path, source }
    };
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut out = std::io::BufWriter::new(options.open(tmp).map_err(io("create"))?);
    out.write_all(MAGIC).map_err(io("write"))?;
    out.write_all(&VERSION.to_le_bytes()).map_err(io("write"))?;
    let mut footer = Footer {
        through,
        sealed_s: now.as_second(),
        blocks: Vec::new(),
        events: Vec::new(),
    };
    write_parts(&mut out, hosts, &mut footer).map_err(io("write"))?;
    let bytes = plain::bytes(&footer);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&bytes);
    for part in [&bytes[..], &length.to_le_bytes(), &crc.to_le_bytes(), END] {
        out.write_all(part).map_err(io("write"))?;
    }
    let file = out.into_inner().map_err(|e| io("write")(e.into_error()))?;
    file.sync_all().map_err(io("sync"))?;
    Ok((file, footer))
}

/// Writes blocks and events behind the header, and where they are into the footer.
fn write_parts(
    out: &mut impl Write,
    hosts: &BTreeMap<HostId, HostRows>,
    footer: &mut Footer,
) -> std::io::Result<()> {
    let mut offset = 8u64;
    for (host, rows) in hosts {
        for mini in join(&rows.minis) {
            out.write_all(&mini.bytes)?;
            let length = u32::try_from(mini.bytes.len()).unwrap_or(u32::MAX);
            footer.blocks.push(BlockAt {
                host: *host,
                schema: mini.schema,
                min_ms: mini.min_ms,
                max_ms: mini.max_ms,
                offset,
                length,
                crc: crc32c::crc32c(&mini.bytes),
            });
            offset += u64::from(length);
        }
    }
    for (host, rows) in hosts {
        for chunk in events::chunks(&rows.events) {
            out.write_all(&chunk.bytes)?;
            let length = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
            footer.events.push(EventsAt {
                host: *host,
                min_ms: chunk.min_ms,
                max_ms: chunk.max_ms,
                count: chunk.count,
                offset,
                length,
                crc: crc32c::crc32c(&chunk.bytes),
            });
            offset += u64::from(length);
        }
    }
    Ok(())
}

/// A value that takes up all of the bytes.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// Joins neighbouring mini blocks of one schema into blocks of an hour. One that does not decode is kept as it is.
fn join(minis: &[Mini]) -> Vec<Mini> {
    let mut out = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for mini in minis {
        let Some(more) = rows_of(mini) else {
            out.extend(Mini::of(&rows, Effort::Best));
            rows.clear();
            out.push(mini.clone());
            continue;
        };
        let width = more.first().map_or(0, |row| row.values.len());
        let same = |first: &Row| first.schema == mini.schema && first.values.len() == width;
        let fits = rows.first().is_none_or(same) && rows.len() + more.len() <= TICKS_MAX;
        if !fits {
            out.extend(Mini::of(&rows, Effort::Best));
            rows.clear();
        }
        rows.extend(more);
    }
    out.extend(Mini::of(&rows, Effort::Best));
    out
}

fn rows_of(mini: &Mini) -> Option<Vec<Row>> {
    let block = Block::open(&mini.bytes).ok()?;
    let times = block.times_ms().ok()?;
    let rows = times.into_iter().zip(block.rows().ok()?);
    let row = |(time_ms, values): (i64, Vec<i64>)| Row {
        time_ms,
        schema: mini.schema,
        values: values.into(),
        position: mini.position,
    };
    Some(rows.map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::events::EventRow;

    fn hosts() -> BTreeMap<HostId, HostRows> {
        let mut hosts = BTreeMap::new();
        for host in 1..=3u128 {
            let mut rows = HostRows::default();
            for part in 0..4i64 {
                let row = |i: i64| Row {
                    time_ms: (part * 60 + i) * 10_000,
                    schema: SchemaId(9),
                    values: vec![i, 5].into(),
                    position: 1,
                };
                rows.minis.extend(Mini::of(
                    &(0..60).map(row).collect::<Vec<_>>(),
                    Effort::Quick,
                ));
            }
            rows.events = vec![EventRow {
                time_ms: 5,
                position: 1,
                bytes: b"\x08\x05".as_slice().into(),
            }];
            hosts.insert(HostId(host), rows);
        }
        hosts
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), &hosts(), 77, Timestamp::UNIX_EPOCH).unwrap();
        let events = file.events_of(None).len();
        assert_eq!((events, file.events_of(Some(HostId(2))).len()), (3, 1));
        let bytes = fs::read(&file.path).unwrap();
        // What version 1 wrote: the same up to the events, a footer without them.
        let end = usize::try_from(file.footer.events[0].offset).unwrap();
        let mut old = bytes[..end].to_vec();
        old[4..8].copy_from_slice(&1u32.to_le_bytes());
        let footer = plain::bytes(&(77u64, 0i64, &file.footer.blocks));
        old.extend_from_slice(&footer);
        old.extend_from_slice(&u32::try_from(footer.len()).unwrap().to_le_bytes());
        old.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
        old.extend_from_slice(END);
        fs::write(&file.path, &old).unwrap();
        let read = HourFile::open(&file.path).unwrap();
        assert_eq!(read.footer.blocks, file.footer.blocks);
        assert_eq!((read.footer.through, read.events_of(None).len()), (77, 0));
        assert!(read.read(&read.footer.blocks[2]).is_ok());
    }

    #[test]
    fn what_is_written_is_read_and_every_flip_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), &hosts(), 77, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            file.footer.blocks.len(),
            3,
            "four mini blocks became one block a host"
        );
        let block = file.blocks_of(HostId(2))[0];
        assert_eq!((block.min_ms, block.max_ms), (0, 239 * 10_000));
        let bytes = file.read(&block).unwrap();
        assert_eq!(Block::open(&bytes).unwrap().times_ms().unwrap().len(), 240);
        assert!(file.blocks_of(HostId(4)).is_empty());

        let whole = fs::read(&file.path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&file.path, &flipped).unwrap();
            let found = match HourFile::open(&file.path) {
                Err(_) => true,
                Ok(file) => {
                    file.footer
                        .blocks
                        .iter()
                        .any(|block| file.read(block).is_err())
                        || file
                            .footer
                            .events
                            .iter()
                            .any(|chunk| file.read_events(chunk).is_err())
                }
            };
            assert!(found, "flip at byte {at} of {}", whole.len());
        }
        for cut in 0..whole.len() {
            fs::write(&file.path, &whole[..cut]).unwrap();
            assert!(HourFile::open(&file.path).is_err(), "cut at {cut}");
        }
    }
}
