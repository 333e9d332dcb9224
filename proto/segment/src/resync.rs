//! Finds the next good frame behind damage: by the damaged frame's length if that leads to one, else by trying every
//! offset.
//!
//! Frames do not store their position, so at a strange offset it must be solved for: a CRC is linear, so from a
//! frame's bytes follows the one checksum its position must have, and that is looked up among those that may come.
//! One frame lost is believed at once; after more, the frame found must be followed by the next one or by the end,
//! because more positions allowed mean more chances to be fooled.
//!
//! Caveat: bytes inside a payload that are themselves a frame of exactly the next position are taken for it if the
//! length of the frame around them is damaged.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, wide};
use crate::window::{WINDOW_BYTES, Window};

/// A search reads at most this much of supposed frames; noise full of plausible lengths must not hold up a start.
const RESYNC_BYTES_MAX: u64 = 64 << 20;

/// A search spans at most so many lost frames in a row: a zeroed page of the smallest frames has 455.
const LOST_FRAMES_MAX: u64 = 4096;

/// The smallest frame: one byte of payload.
const FRAME_BYTES_MIN: u64 = 9;

/// Where the way was lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    /// Offset of the first byte that is no good.
    pub(crate) offset: u64,
    /// The position that was expected there.
    pub(crate) position: u64,
    /// Whether the frame of that position stood there, so that it is lost; else it may still come.
    pub(crate) frame: bool,
    /// Positions from this on are in the next segment.
    pub(crate) end: Option<u64>,
}

/// Where it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) position: u64,
}

/// Finds the next good frame of this segment.
pub(crate) fn find(window: &mut Window, lost: Lost) -> Result<Option<Found>, Error> {
    if let Some(found) = by_length(window, lost)? {
        return Ok(Some(found));
    }
    by_search(window, lost)
}

fn by_length(window: &mut Window, lost: Lost) -> Result<Option<Found>, Error> {
    let position = lost.position.saturating_add(1);
    if !lost.frame || lost.end.is_some_and(|end| position >= end) {
        return Ok(None);
    }
    let Some(header) = FrameHeader::parse(window.get(lost.offset, FRAME_HEADER_BYTES)?) else {
        return Ok(None);
    };
    let offset = lost.offset.saturating_add(wide(header.frame_bytes()));
    let good = window.frame(offset, position)?.is_some();
    Ok(good.then_some(Found { offset, position }))
}

fn by_search(window: &mut Window, lost: Lost) -> Result<Option<Found>, Error> {
    let file_len = window.file_len()?;
    let mut budget = RESYNC_BYTES_MAX;
    let mut positions = None;
    let mut chunk = vec![0; WINDOW_BYTES];
    let mut at = lost.offset.saturating_add(u64::from(lost.frame));
    loop {
        let n = window.read_past(at, &mut chunk)?;
        if n < FRAME_HEADER_BYTES {
            return Ok(None);
        }
        let bytes = &chunk[..n];
        let all_zero = bytes.iter().all(|b| *b == 0);
        let starts = if all_zero {
            0
        } else {
            n - FRAME_HEADER_BYTES + 1
        };
        for i in 0..starts {
            let Some(header) = FrameHeader::parse(&bytes[i..]) else {
                continue;
            };
            let offset = at.saturating_add(wide(i));
            let frame_bytes = wide(header.frame_bytes());
            if offset.saturating_add(frame_bytes) > file_len {
                continue;
            }
            let Some(left) = budget.checked_sub(frame_bytes) else {
                return Ok(None);
            };
            budget = left;
            let positions = positions.get_or_insert_with(|| positions_by_checksum(lost));
            if let Some(found) = prove(window, lost, positions, offset, header)? {
                return Ok(Some(found));
            }
        }
        at = at.saturating_add(wide(n - FRAME_HEADER_BYTES + 1));
    }
}

/// Maps the checksum of each position that may come next to the position.
fn positions_by_checksum(lost: Lost) -> BTreeMap<u32, u64> {
    let first = lost.position.saturating_add(u64::from(lost.frame));
    let last = first.saturating_add(LOST_FRAMES_MAX);
    let end = lost.end.unwrap_or(u64::MAX).min(last);
    (first..end)
        .map(|position| (crc32c::crc32c(&position.to_le_bytes()), position))
        .collect()
}

fn prove(
    window: &mut Window,
    lost: Lost,
    positions: &BTreeMap<u32, u64>,
    offset: u64,
    header: FrameHeader,
) -> Result<Option<Found>, Error> {
    let frame_bytes = header.frame_bytes();
    let frame = window.get(offset, frame_bytes)?;
    if frame.len() < frame_bytes {
        return Ok(None);
    }
    let length_and_payload = crc32c::crc32c_append(
        crc32c::crc32c(&header.len.to_le_bytes()),
        &frame[FRAME_HEADER_BYTES..],
    );
    let covered = u64::from(header.len) + 4;
    let wanted = without_suffix(header.crc, length_and_payload, covered);
    let Some(&position) = positions.get(&wanted) else {
        return Ok(None);
    };

    let found = Some(Found { offset, position });
    let lost_frames = position - lost.position;
    if lost_frames > offset.saturating_sub(lost.offset) / FRAME_BYTES_MIN {
        return Ok(None);
    }
    if lost_frames == u64::from(lost.frame) {
        return Ok(found);
    }
    let next = position.saturating_add(1);
    let behind = offset.saturating_add(wide(frame_bytes));
    // Zeros may be the end, or a page that the disk lost. The rule is the same in every segment: what is found while this one is
    // the last must be found when another follows, and nothing else.
    let followed = window.frame(behind, next)?.is_some()
        || window
            .get(behind, FRAME_HEADER_BYTES)?
            .iter()
            .all(|b| *b == 0);
    Ok(if followed { found } else { None })
}

/// CRC-32C's polynomial, lowest power in the highest bit, as the checksums themselves.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// The polynomial x^-1.
const X_INVERSE: u32 = ((ONE ^ POLYNOMIAL) << 1) | 1;

/// From the checksum of A and B together and the one of B alone, computes the one of A.
fn without_suffix(both: u32, suffix: u32, suffix_bytes: u64) -> u32 {
    // crc(AB) = crc(A) * x^(8 |B|) + crc(B), so crc(A) = (crc(AB) + crc(B)) * x^(-8 |B|).
    let mut power = X_INVERSE;
    let mut exponent = suffix_bytes.saturating_mul(8);
    let mut product = both ^ suffix;
    while exponent > 0 {
        if exponent & 1 == 1 {
            product = multiply(product, power);
        }
        power = multiply(power, power);
        exponent >>= 1;
    }
    product
}

/// Multiplies two polynomials modulo the CRC's.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a & (1 << bit) != 0 {
            product ^= b;
        }
        let carry = b & 1 == 1;
        b >>= 1;
        if carry {
            b ^= POLYNOMIAL;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_prefix_is_solved_for() {
        for len in [0_usize, 1, 4, 5, 255, 4096, 100_003] {
            let suffix: Vec<u8> = (0..len)
                .map(|i| u8::try_from(i * 31 % 251).unwrap())
                .collect();
            for position in [1_u64, 2, 77, 1 << 40, u64::MAX] {
                let prefix = crc32c::crc32c(&position.to_le_bytes());
                let both = crc32c::crc32c_append(prefix, &suffix);
                let alone = crc32c::crc32c(&suffix);
                assert_eq!(
                    without_suffix(both, alone, wide(len)),
                    prefix,
                    "{len} {position}"
                );
            }
        }
    }
}
