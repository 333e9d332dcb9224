//! What a whole hour file is. The one place that `verify`, the look through history after a start, and tests ask.

use std::collections::BTreeSet;
use std::path::Path;

use dawnwatch_engine::block::Block;
use dawnwatch_proto::{HostId, SchemaId};

use crate::history::events;
use crate::history::hour::HourFile;

/// What an hour file holds, and what of it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hour {
    /// All rows up to this journal position are in it or an older one.
    pub through: u64,
    /// When it was sealed, Unix seconds.
    pub sealed_s: i64,
    /// Blocks and chunks of events that were read.
    pub parts: usize,
    /// The schemas of its blocks.
    pub schemas: BTreeSet<SchemaId>,
    /// What cannot be read.
    pub broken: Vec<Broken>,
}

/// A part of an hour file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Whose.
    pub host: HostId,
    /// Its first byte.
    pub offset: u64,
    /// Lowest time in it, Unix milliseconds.
    pub min_ms: i64,
    /// Highest time in it.
    pub max_ms: i64,
    /// What is wrong.
    pub what: String,
}

/// Reads a whole hour file: its table of contents, every block, every chunk of events.
///
/// # Errors
/// What is wrong with the file as a whole: nothing of it can be read then.
pub fn hour(path: &Path) -> Result<Hour, crate::history::Error> {
    let file = HourFile::open(path)?;
    let mut seen = Hour {
        through: file.footer.through,
        sealed_s: file.footer.sealed_s,
        ..Hour::default()
    };
    for block in &file.footer.blocks {
        seen.schemas.insert(block.schema);
        let read = file.read(block).map_err(|error| error.to_string());
        let sound = read.and_then(|bytes| {
            let block = Block::open(&bytes).map_err(|error| error.to_string())?;
            block.times_ms().map_err(|error| error.to_string())
        });
        seen.part(
            block.host,
            block.offset,
            block.min_ms,
            block.max_ms,
            sound.err(),
        );
    }
    for chunk in &file.footer.events {
        let read = file.read_events(chunk).map_err(|error| error.to_string());
        let sound = read.and_then(|bytes| Ok(events::decode(&bytes)?.len()));
        seen.part(
            chunk.host,
            chunk.offset,
            chunk.min_ms,
            chunk.max_ms,
            sound.err(),
        );
    }
    Ok(seen)
}

impl Hour {
    fn part(&mut self, host: HostId, offset: u64, min_ms: i64, max_ms: i64, wrong: Option<String>) {
        self.parts += 1;
        self.broken.extend(wrong.map(|what| Broken {
            host,
            offset,
            min_ms,
            max_ms,
            what,
        }));
    }
}
