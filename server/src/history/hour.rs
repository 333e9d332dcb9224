//! Hour files: what arrived within an hour, immutable.
//!
//! | part | content |
//! |---|---|
//! | header | magic "DWHH", version u32 LE: 3 |
//! | blocks | one after the other, as [`dawnwatch_engine::block`] writes them: each a head, and groups of columns |
//! | events | one chunk after the other, as [`super::events`] writes them |
//! | footer | postcard form of [`Footer`]: where each host's blocks and events are, their time span and CRC32C |
//! | trailer | length of the footer u32 LE, its CRC32C u32 LE, magic "DWHF" |
//!
//! The footer's checksum of a block is that of its head, and the head has one of each group: whoever wants one series reads the
//! head and one group, some 4 KiB. Versions 1 and 2 are read: their blocks have one checksum and are read whole, and version 1
//! had no events. Written to a temporary file, synced, renamed, directory synced: a file that has its name is whole.
//!
//! - [`mod@footer`]: the table of contents, of all versions.
//! - `write.rs`: how a file is written; `without.rs`: anew, without some hosts.
//! - `join.rs`: how mini blocks become blocks of an hour.

pub mod footer;
mod join;
mod without;
mod write;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dawnwatch_engine::block::{Block, Group, Head};
use dawnwatch_proto::{HostId, Malformed};

use super::Error;
pub use footer::{BlockAt, EventsAt, Footer};
pub use without::write_without;
pub use write::write;

const MAGIC: &[u8; 4] = b"DWHH";
const END: &[u8; 4] = b"DWHF";
pub(crate) const VERSION: u32 = 3;
const WITHOUT_GROUPS: u32 = 2;
const WITHOUT_EVENTS: u32 = 1;
const TRAILER: usize = 12;

/// Longest footer that is read: 10,000 hosts with some blocks each take 2 MiB.
const FOOTER_MAX: u64 = 64 * 1024 * 1024;

/// Longest block that is read: 2,000 columns of 720 random values.
const BLOCK_MAX: u32 = 16 * 1024 * 1024;

/// An open hour file.
#[derive(Debug)]
pub struct HourFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its table of contents.
    pub footer: Footer,
    file: File,
    /// Lowest and highest time of its samples.
    span_ms: Option<(i64, i64)>,
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
        if !(WITHOUT_EVENTS..=VERSION).contains(&version) {
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
        let footer = Footer::read(&footer, version);
        let footer = footer.ok_or_else(|| damaged("its footer does not decode"))?;
        Ok(HourFile::of(path.to_owned(), footer, file))
    }

    fn of(path: PathBuf, footer: Footer, file: File) -> HourFile {
        let span_ms = footer.span_ms();
        HourFile {
            path,
            footer,
            file,
            span_ms,
        }
    }

    /// Whether samples of `[from, to)`, in milliseconds, may be in it: so that nobody searches all files for a host.
    #[must_use]
    pub fn meets(&self, from_ms: i64, to_ms: i64) -> bool {
        self.span_ms
            .is_some_and(|(min, max)| from_ms <= max && min < to_ms)
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

    /// Reads a whole block.
    ///
    /// # Errors
    /// Where it cannot be read or a checksum of it does not match.
    pub fn read(&self, block: &BlockAt) -> Result<Vec<u8>, Error> {
        if block.head == 0 {
            return self.read_at(block.offset, block.length, block.crc);
        }
        let bytes = self.bytes(block.offset, block.length)?;
        let head = bytes.get(..block.head as usize);
        if head.map(crc32c::crc32c) != Some(block.crc) {
            return Err(self.damaged("a block is damaged"));
        }
        // The head holds the checksums of the rest.
        Block::open(&bytes).map_err(|why| self.damaged(&why.to_string()))?;
        Ok(bytes)
    }

    /// Reads times and values of one column of a block, and little else of it.
    ///
    /// # Errors
    /// Where what is needed cannot be read, its checksum does not match, or there is no such column.
    pub fn column(&self, block: &BlockAt, i: usize) -> Result<Vec<(i64, i64)>, Error> {
        let malformed = |why: Malformed| self.damaged(&why.to_string());
        let (times, values) = if block.head == 0 {
            let bytes = self.read(block)?;
            let block = Block::open(&bytes).map_err(malformed)?;
            (block.times_ms(), block.column(i))
        } else {
            let bytes = self.read_at(block.offset, block.head, block.crc)?;
            let head = Head::open(&bytes).map_err(malformed)?;
            let at = head.group_of(i).map_err(malformed)?;
            let end = u32::try_from(at.offset + at.length).unwrap_or(u32::MAX);
            if end > block.length {
                return Err(self.damaged("a group of columns is outside of its block"));
            }
            let length = u32::try_from(at.length).unwrap_or(u32::MAX);
            let bytes = self.bytes(block.offset + at.offset as u64, length)?;
            let group = Group::open(&bytes, at, head.ticks()).map_err(malformed)?;
            (head.times_ms(), group.column(i))
        };
        let times = times.map_err(malformed)?.into_iter();
        Ok(times.zip(values.map_err(malformed)?).collect())
    }

    /// Reads a chunk of events.
    ///
    /// # Errors
    /// Where it cannot be read or its checksum does not match.
    pub fn read_events(&self, chunk: &EventsAt) -> Result<Vec<u8>, Error> {
        self.read_at(chunk.offset, chunk.length, chunk.crc)
    }

    fn read_at(&self, offset: u64, length: u32, crc: u32) -> Result<Vec<u8>, Error> {
        let bytes = self.bytes(offset, length)?;
        if crc32c::crc32c(&bytes) == crc {
            Ok(bytes)
        } else {
            Err(self.damaged("a block is damaged"))
        }
    }

    fn bytes(&self, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        if length > BLOCK_MAX {
            return Err(self.damaged("a block is too long"));
        }
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| Error::Io {
                what: "read",
                path: self.path.clone(),
                source,
            })?;
        Ok(bytes)
    }

    fn damaged(&self, why: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            why: why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
