//! Summary files of version 1: a block a host, all its series together.
//!
//! | part | content |
//! |---|---|
//! | header | as that of version 2 |
//! | blocks | one for each raw block that could be read, as [`super::bytes`] reads them |
//! | directory | each block, sorted by host, 32 bytes: host u128, offset u64, length u32, CRC32C u32; all LE |
//! | trailer | as that of version 2, with the number of blocks |

use std::fs::File;

use dawnwatch_proto::{HostId, SchemaId};

use super::bytes::{self, Why};
use super::columns::Part;
use super::file::{HEADER, exact, long, word};
use super::make::finish;

pub(super) const VERSION: u32 = 1;
pub(super) const ENTRY: usize = 32;

/// Longest block that is read: 4,096 series in 360 steps take less.
const BLOCK_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// The summaries of one series, of one host or of all: the one that `column` names for a schema.
pub(super) fn parts(
    file: &File,
    directory: &[u8],
    host: Option<HostId>,
    column: impl Fn(SchemaId) -> Option<(usize, (u32, u32))>,
) -> Result<Vec<(HostId, Part)>, Why> {
    let mut out = Vec::new();
    let entries = directory.as_chunks::<ENTRY>().0;
    let entries = match host {
        None => entries,
        Some(host) => {
            let from = entries.partition_point(|entry| host_of(entry) < host);
            let to = entries.partition_point(|entry| host_of(entry) <= host);
            &entries[from..to]
        }
    };
    for entry in entries {
        let block = block(file, entry)?;
        let Some((i, quantum)) = column(bytes::schema(&block)?) else {
            continue;
        };
        for step in bytes::decode(&block)? {
            let summary = step.get(i).copied().flatten();
            let part = |summary| (host_of(entry), Part { summary, quantum });
            out.extend(summary.map(part));
        }
    }
    Ok(out)
}

/// The file without some hosts; none where they are not in it.
pub(super) fn without(
    file: &File,
    directory: &[u8],
    header: &[u8],
    gone: &impl Fn(HostId) -> bool,
) -> Result<Option<Vec<u8>>, Why> {
    let entries = directory.as_chunks::<ENTRY>().0;
    if !entries.iter().any(|entry| gone(host_of(entry))) {
        return Ok(None);
    }
    let (mut out, mut kept) = (header.to_vec(), Vec::new());
    for entry in entries.iter().filter(|entry| !gone(host_of(entry))) {
        let bytes = block(file, entry)?;
        let mut entry = *entry;
        entry[16..24].copy_from_slice(&(out.len() as u64).to_le_bytes());
        kept.extend(entry);
        out.extend(bytes);
    }
    let count = kept.len() / ENTRY;
    Ok(Some(finish(out, &kept, count)))
}

/// Reads all blocks; where the last one ends.
pub(super) fn check(file: &File, directory: &[u8]) -> Result<u64, Why> {
    let mut offset = HEADER as u64;
    for entry in directory.as_chunks::<ENTRY>().0 {
        if long(entry, 16) != offset {
            return Err("its directory skips bytes");
        }
        let block = block(file, entry)?;
        offset += block.len() as u64;
        bytes::schema(&block)?;
        bytes::decode(&block)?;
    }
    Ok(offset)
}

fn host_of(entry: &[u8; ENTRY]) -> HostId {
    HostId(entry.first_chunk().map_or(0, |b| u128::from_le_bytes(*b)))
}

fn block(file: &File, entry: &[u8; ENTRY]) -> Result<Vec<u8>, Why> {
    let (offset, length, crc) = (long(entry, 16), word(entry, 24), word(entry, 28));
    if length > BLOCK_BYTES_MAX {
        return Err("a block is too long");
    }
    let bytes = exact(file, offset, length as usize)?;
    if crc32c::crc32c(&bytes) == crc {
        Ok(bytes)
    } else {
        Err("a block is damaged")
    }
}
