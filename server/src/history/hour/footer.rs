//! The table of contents of an hour file, postcard form.

use dawnwatch_proto::{HostId, SchemaId};
use serde::{Deserialize, Serialize};

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

/// The table of contents of version 2.
#[derive(Deserialize)]
struct FooterV2 {
    through: u64,
    sealed_s: i64,
    blocks: Vec<BlockAtV2>,
    events: Vec<EventsAt>,
}

/// The table of contents of version 1.
#[derive(Deserialize)]
struct FooterV1 {
    through: u64,
    sealed_s: i64,
    blocks: Vec<BlockAtV2>,
}

/// Where a block was in versions 1 and 2.
#[derive(Deserialize)]
struct BlockAtV2 {
    host: HostId,
    schema: SchemaId,
    min_ms: i64,
    max_ms: i64,
    offset: u64,
    length: u32,
    crc: u32,
}

impl From<FooterV1> for Footer {
    fn from(old: FooterV1) -> Footer {
        Footer {
            through: old.through,
            sealed_s: old.sealed_s,
            blocks: old.blocks.into_iter().map(BlockAt::from).collect(),
            events: Vec::new(),
        }
    }
}

impl From<FooterV2> for Footer {
    fn from(old: FooterV2) -> Footer {
        Footer {
            through: old.through,
            sealed_s: old.sealed_s,
            blocks: old.blocks.into_iter().map(BlockAt::from).collect(),
            events: old.events,
        }
    }
}

impl From<BlockAtV2> for BlockAt {
    fn from(old: BlockAtV2) -> BlockAt {
        BlockAt {
            host: old.host,
            schema: old.schema,
            min_ms: old.min_ms,
            max_ms: old.max_ms,
            offset: old.offset,
            length: old.length,
            crc: old.crc,
            head: 0,
        }
    }
}

impl Footer {
    /// The table of contents of a file of some version; none where it does not decode whole.
    pub(super) fn read(bytes: &[u8], version: u32) -> Option<Footer> {
        match version {
            super::VERSION => whole(bytes),
            super::WITHOUT_GROUPS => whole::<FooterV2>(bytes).map(Footer::from),
            super::WITHOUT_EVENTS => whole::<FooterV1>(bytes).map(Footer::from),
            _ => None,
        }
    }

    /// Lowest and highest time of its samples; none where it has none.
    #[must_use]
    pub fn span_ms(&self) -> Option<(i64, i64)> {
        let min = self.blocks.iter().map(|block| block.min_ms).min()?;
        let max = self.blocks.iter().map(|block| block.max_ms).max()?;
        Some((min, max))
    }
}

/// A value that takes up all of the bytes.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
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
    /// CRC32C of the head; of all bytes where there is none.
    pub crc: u32,
    /// Bytes of its head, which says where each group of columns is; 0: a block of an earlier version, without one.
    pub head: u32,
}
