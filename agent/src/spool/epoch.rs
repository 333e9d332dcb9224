//! Epochs: which positions are whose, read off the segments' headers.

use std::collections::BTreeMap;

use dawnwatch_segment::SegmentInfo;

use super::kept::Kept;

/// One epoch: its items lie at `base + 1 ..= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) id: u64,
    pub(super) base: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) acked: u64,
}

impl Epoch {
    /// Its last sequence number.
    pub(super) fn last_seq(&self) -> u64 {
        self.last - self.base
    }
}

/// Joins what `kept` and the segments say of epochs.
pub(super) fn table(
    kept: &Kept,
    segments: &[SegmentInfo],
    acked: &BTreeMap<u64, u64>,
) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = Vec::new();
    let mut add = |id: u64, base: u64, first: u64, last: u64| match epochs.last_mut() {
        Some(epoch) if epoch.id == id => epoch.last = epoch.last.max(last),
        Some(_) | None => epochs.push(Epoch {
            id,
            base,
            first,
            last,
            acked: acked.get(&id).copied().unwrap_or(0),
        }),
    };
    for (id, base, first, last) in kept.spans() {
        add(id, base, first, last);
    }
    for segment in segments {
        match segment.note.as_deref().and_then(read_note) {
            Some((id, base)) => add(id, base, segment.first_position, segment.last_position),
            // Its header is damaged: whose numbers these are cannot be known, so they are nobody's.
            None => tracing::warn!(
                segment = segment.name,
                "a spool segment has no owner and is skipped"
            ),
        }
    }
    epochs
}

/// Version of the segment header's note.
const NOTE_VERSION: u8 = 1;

pub(super) fn note(id: u64, base: u64) -> Vec<u8> {
    let mut note = vec![NOTE_VERSION];
    note.extend_from_slice(&id.to_le_bytes());
    note.extend_from_slice(&base.to_le_bytes());
    note
}

pub(super) fn read_note(note: &[u8]) -> Option<(u64, u64)> {
    let rest = note.strip_prefix(&[NOTE_VERSION])?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (base, rest) = rest.split_first_chunk::<8>()?;
    rest.is_empty()
        .then(|| (u64::from_le_bytes(*id), u64::from_le_bytes(*base)))
}

/// The id after this one: splitmix, so one random number at start is enough for all of a run.
pub(super) fn next_id(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
