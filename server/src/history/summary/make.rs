//! How a summary file is put together, in the form that [`super::file`] describes.

use std::collections::{BTreeMap, BTreeSet};

use dawnwatch_engine::block::Block;
use dawnwatch_proto::{HostId, Kind, Schema};

use super::bytes::Step;
use super::columns::{GROUP_HOSTS, Group};
use super::file::{END, HEADER, MAGIC, SummaryAt, VERSION, in_order};
use super::reduce;
use crate::history::hour::{BlockAt, HourFile};
use crate::history::schemas::Schemas;

/// The bytes of a summary file, of an hour file; blocks that cannot be read are left out and counted.
pub(super) fn content(at: &SummaryAt, raw: &HourFile, schemas: &Schemas) -> Vec<u8> {
    let (mut groups, mut group, mut left_out) = (Vec::new(), Group::default(), 0u32);
    let mut last = None;
    for block in &raw.footer.blocks {
        if last != Some(block.host) && group.len() >= GROUP_HOSTS {
            groups.push((group.first(), group.encode()));
            group = Group::default();
        }
        let known = schemas.get(block.schema);
        let made = known.and_then(|known| Some((of_block(raw, block, &known, at.step_s)?, known)));
        let Some((steps, known)) = made else {
            left_out += 1;
            continue;
        };
        last = Some(block.host);
        group.add(block.host, known.series(), &steps);
    }
    if group.len() > 0 {
        groups.push((group.first(), group.encode()));
    }
    assemble(header(VERSION, at, left_out), &groups)
}

/// The header of a file.
pub(super) fn header(version: u32, at: &SummaryAt, left_out: u32) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    for word in [version, at.step_s, left_out] {
        header.extend(word.to_le_bytes());
    }
    header.extend(at.through.to_le_bytes());
    header.extend(at.sealed_s.to_le_bytes());
    header
}

/// What was made of a group: its first host, the chunk of times and those of the series.
pub(super) type Made = (HostId, (Vec<u8>, BTreeMap<u64, Vec<u8>>));

/// Puts header, regions, directory and trailer together.
pub(super) fn assemble(header: Vec<u8>, groups: &[Made]) -> Vec<u8> {
    let mut out = header;
    let mut directory = Vec::new();
    let count = groups.len() as u64;
    let firsts = groups.iter().map(|(first, _)| first.0.to_le_bytes());
    let chunks = groups.iter().map(|(_, (times, _))| times.as_slice());
    region(&mut out, &mut directory, count, firsts.zip(chunks));
    let keys: BTreeSet<u64> = groups
        .iter()
        .flat_map(|(_, (_, series))| series.keys().copied())
        .collect();
    let regions = keys.len() + 1;
    for key in keys {
        let chunks = groups
            .iter()
            .map(|(_, (_, series))| series.get(&key).map_or(&[][..], Vec::as_slice));
        region(
            &mut out,
            &mut directory,
            key,
            chunks.map(|chunk| ([0u8; 0], chunk)),
        );
    }
    finish(out, &directory, regions)
}

/// Puts directory and trailer behind what begins with a header.
pub(super) fn finish(mut out: Vec<u8>, directory: &[u8], entries: usize) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..HEADER]), directory);
    out.extend(directory);
    out.extend(u32::try_from(entries).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(crc.to_le_bytes());
    out.extend(END);
    out
}

/// Writes a region and its entry in the directory.
fn region<'a>(
    out: &mut Vec<u8>,
    directory: &mut Vec<u8>,
    key: u64,
    chunks: impl Iterator<Item = (impl AsRef<[u8]>, &'a [u8])>,
) {
    let offset = out.len() as u64;
    let (mut table, mut all) = (Vec::<u8>::new(), Vec::<u8>::new());
    for (before, chunk) in chunks {
        table.extend(before.as_ref());
        table.extend(u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_le_bytes());
        table.extend(crc32c::crc32c(chunk).to_le_bytes());
        all.extend_from_slice(chunk);
    }
    let length = u32::try_from(table.len() + all.len()).unwrap_or(u32::MAX);
    directory.extend(key.to_le_bytes());
    directory.extend(offset.to_le_bytes());
    directory.extend(length.to_le_bytes());
    directory.extend(crc32c::crc32c(&table).to_le_bytes());
    out.extend(table);
    out.extend(all);
}

/// The summaries of a raw block, step by step; none where it does not decode.
fn of_block(raw: &HourFile, at: &BlockAt, known: &Schema, step_s: u32) -> Option<Vec<Step>> {
    let bytes = raw.read(at).ok()?;
    let block = Block::open(&bytes).ok()?;
    let times = block.times_ms().ok()?;
    let mut steps: BTreeMap<i64, Step> = BTreeMap::new();
    let width = block.columns();
    for i in 0..width {
        let kind = known.series().get(i).map_or(Kind::Gauge, |one| one.kind);
        let values = block.column(i).ok()?;
        let samples = in_order(times.iter().copied().zip(values).collect());
        for (start, summary) in reduce(&samples, kind, step_s) {
            steps.entry(start).or_insert_with(|| vec![None; width])[i] = Some(summary);
        }
    }
    Some(steps.into_values().collect())
}
