//! Numbers of a block: LEB128, zigzag where they have a sign.

use dawnwatch_proto::Malformed;

use super::bad;

/// Maps small numbers of either sign to small numbers.
pub(super) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)).cast_unsigned()
}

/// The number that [`zigzag`] mapped.
pub(super) fn unzigzag(v: u64) -> i64 {
    (v >> 1).cast_signed() ^ -((v & 1).cast_signed())
}

/// Writes a number as LEB128.
pub(super) fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v.to_le_bytes()[0] | 0x80);
        v >>= 7;
    }
    out.push(v.to_le_bytes()[0]);
}

/// Reads a length that may be as long as `most`.
pub(super) fn length(rest: &mut &[u8], most: usize) -> Result<usize, Malformed> {
    let length = usize::try_from(get(rest)?).ok();
    length
        .filter(|length| *length <= most)
        .ok_or_else(|| bad("a length over its limit"))
}

/// Reads a number.
pub(super) fn get(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or_else(|| bad("it ends too early"))?;
        *rest = tail;
        if shift == 63 && *byte > 1 {
            break;
        }
        v |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(v);
        }
    }
    Err(bad("a number over 64 bits"))
}
