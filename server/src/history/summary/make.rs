//! How a summary file is put together, in the form that [`super::file`] describes.

use std::collections::BTreeMap;

use dawnwatch_engine::block::Block;
use dawnwatch_proto::{HostId, Kind, Schema};

use super::file::{END, HEADER, MAGIC, SummaryAt, VERSION, in_order};
use super::group::Group;
use super::{Summary, reduce};
use crate::history::hour::{BlockAt, HourFile};
use crate::history::schemas::Schemas;

/// The bytes of a summary file, of an hour file; blocks that cannot be read are left out and counted.
pub(super) fn content(at: &SummaryAt, raw: &HourFile, schemas: &Schemas) -> Vec<u8> {
    let (mut groups, mut group, mut left_out) = (Vec::new(), Group::default(), 0u32);
    let mut last = None;
    let mut close = |group: &mut Group| {
        let group = std::mem::take(group);
        if let Some(first) = group.first() {
            let (head, pages) = group.encode();
            groups.push((first, head, pages));
        }
    };
    for block in &raw.footer.blocks {
        if last != Some(block.host) && group.is_full() {
            close(&mut group);
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
    close(&mut group);
    assemble(header(at, left_out), &groups)
}

/// The header of a file.
fn header(at: &SummaryAt, left_out: u32) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    for word in [VERSION, at.step_s, left_out] {
        header.extend(word.to_le_bytes());
    }
    header.extend(at.through.to_le_bytes());
    header.extend(at.sealed_s.to_le_bytes());
    header
}

/// Puts header, groups, directory and trailer together; of each group its first host, its head and its pages.
pub(super) fn assemble(header: Vec<u8>, groups: &[(HostId, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = header;
    let mut directory = Vec::new();
    for (first, head, pages) in groups {
        let short = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        directory.extend(first.0.to_le_bytes());
        for word in [
            short(head.len() + pages.len()),
            short(head.len()),
            crc32c::crc32c(head),
        ] {
            directory.extend(word.to_le_bytes());
        }
        out.extend(head);
        out.extend(pages);
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..HEADER]), &directory);
    out.extend(directory);
    let count = u32::try_from(groups.len()).unwrap_or(u32::MAX);
    out.extend(count.to_le_bytes());
    out.extend(crc.to_le_bytes());
    out.extend(END);
    out
}

/// The summaries of all series of a host in one step of time; none of a series that has no sample in it.
pub(super) type Step = Vec<Option<Summary>>;

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
