//! Epochs: which positions are whose, read off the segments' headers.
//!
//! What a header says stands in each chapter of its segment too: a segment whose header is damaged still tells its owner.
//! Where neither can be read, or a file is gone, the positions are known all the same from the segments around them: they
//! become further numbers of the epoch before, so that they are read as a gap and counted.

use std::collections::BTreeMap;

use dawnwatch_segment::{Log, Read, SegmentInfo};
use jiff::Timestamp;

use super::kept::Kept;
use super::record;

/// One epoch: its items lie at `base + 1 ..= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) id: u64,
    pub(super) base: u64,
    /// When it began, where a segment of it still says so.
    pub(super) began: Option<Timestamp>,
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

/// Whose a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) id: u64,
    pub(super) base: u64,
    pub(super) began: Option<Timestamp>,
}

/// Joins what `kept` and the segments say of epochs.
pub(super) fn table(kept: &Kept, log: &Log, acked: &BTreeMap<u64, u64>) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = Vec::new();
    let mut add = |mark: Mark, first: u64, last: u64| {
        match epochs.last_mut() {
            Some(epoch) if epoch.id == mark.id => {
                epoch.last = epoch.last.max(last);
                epoch.began = epoch.began.or(mark.began);
                return;
            }
            // What lies between the two belonged to this one, or to one that nothing is left of; a segment that is gone
            // makes the one before it look longer than it is.
            Some(epoch) => epoch.last = mark.base,
            None => {}
        }
        epochs.push(Epoch {
            id: mark.id,
            base: mark.base,
            began: mark.began,
            first,
            last,
            acked: acked.get(&mark.id).copied().unwrap_or(0),
        });
    };
    for (id, base, first, last) in kept.spans() {
        let began = None;
        add(Mark { id, base, began }, first, last);
    }
    let mut unowned_from = None;
    for segment in log.segments() {
        // An epoch may begin within a segment, and never behind it: one that says so says nothing.
        let mark = owner(log, segment).filter(|mark| mark.base <= segment.last_position);
        let Some(mark) = mark else {
            tracing::warn!(
                segment = segment.name,
                "a spool segment does not say whose it is: what cannot be read of it becomes a counted gap"
            );
            unowned_from = unowned_from.or(Some(segment.first_position));
            continue;
        };
        let first = unowned_from.take().unwrap_or(segment.first_position);
        add(mark, first.max(mark.base + 1), segment.last_position);
    }
    epochs
}

/// Positions at the beginning of the log that no epoch has: nobody knows whose they were.
pub(super) fn strays(epochs: &[Epoch], log: &Log) -> Option<(u64, u64)> {
    let base = epochs.first()?.base;
    (log.first_position() <= base).then(|| (log.first_position(), base))
}

/// Whose a segment is: by its header, else by a chapter in it.
fn owner(log: &Log, segment: &SegmentInfo) -> Option<Mark> {
    if let Some(note) = &segment.note {
        return read_note(note);
    }
    for read in log.read(segment.first_position) {
        match read {
            Ok(Read::Frame { position, payload }) if position <= segment.last_position => {
                if let Some(mark) = record::owner(&payload).as_deref().and_then(read_note) {
                    return Some(mark);
                }
            }
            Ok(Read::Damage { from_position, .. }) if from_position <= segment.last_position => {}
            Ok(Read::Frame { .. } | Read::Damage { .. }) | Err(_) => return None,
        }
    }
    None
}

/// Version of the note.
const NOTE_VERSION: u8 = 2;

/// The version before, which did not say when the epoch began.
const NOTE_VERSION_UNDATED: u8 = 1;

pub(super) fn note(id: u64, base: u64, began: Timestamp) -> Vec<u8> {
    let mut note = vec![NOTE_VERSION];
    note.extend_from_slice(&id.to_le_bytes());
    note.extend_from_slice(&base.to_le_bytes());
    note.extend_from_slice(&began.as_millisecond().to_le_bytes());
    note
}

pub(super) fn read_note(note: &[u8]) -> Option<Mark> {
    let (version, rest) = note.split_first()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (base, rest) = rest.split_first_chunk::<8>()?;
    let began = match (*version, rest.first_chunk::<8>(), rest.len()) {
        (NOTE_VERSION_UNDATED, None, 0) => None,
        (NOTE_VERSION, Some(ms), 8) => {
            Some(Timestamp::from_millisecond(i64::from_le_bytes(*ms)).ok()?)
        }
        _ => return None,
    };
    Some(Mark {
        id: u64::from_le_bytes(*id),
        base: u64::from_le_bytes(*base),
        began,
    })
}

/// The id after this one: splitmix, so one random number at start is enough for all of a run.
pub(super) fn next_id(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_both_versions_are_read() {
        let began = Timestamp::from_millisecond(1_764_000_000_123).unwrap();
        let dated = note(7, 40, began);
        let mark = |began| Mark {
            id: 7,
            base: 40,
            began,
        };
        assert_eq!(read_note(&dated), Some(mark(Some(began))));
        let mut undated = dated[..17].to_vec();
        undated[0] = NOTE_VERSION_UNDATED;
        assert_eq!(read_note(&undated), Some(mark(None)));
        for bad in [&dated[..17], &dated[..24], &undated[..16], &[], &[3; 25]] {
            assert_eq!(read_note(bad), None, "{bad:?}");
        }
    }
}
