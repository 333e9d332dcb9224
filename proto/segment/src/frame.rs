//! One frame: `len u32 LE | crc32c u32 LE over (position u64 LE, len u32 LE, payload) | payload`.
//!
//! The position is not stored: it follows from the place in the log and is proven by the checksum, so a frame moved
//! or repeated elsewhere is not taken. A length of zero is never a frame: zeros are the end of what is written.

/// A frame holds at most this much: one frame is held in memory by writer and reader, and a damaged length must not
/// make either of them reserve more.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Bytes before each payload.
pub const FRAME_HEADER_BYTES: usize = 8;

/// The head of a frame as it stands in the file, not yet believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

impl FrameHeader {
    /// Reads a head if its length is one a frame can have.
    pub(crate) fn parse(bytes: &[u8]) -> Option<FrameHeader> {
        let len = u32::from_le_bytes(*bytes.first_chunk::<4>()?);
        let crc = u32::from_le_bytes(*bytes.get(4..)?.first_chunk::<4>()?);
        let sane = len > 0 && usize::try_from(len).is_ok_and(|len| len <= PAYLOAD_BYTES_MAX);
        sane.then_some(FrameHeader { len, crc })
    }

    /// Tells the size of the whole frame.
    pub(crate) fn frame_bytes(self) -> usize {
        FRAME_HEADER_BYTES + usize::try_from(self.len).unwrap_or(usize::MAX - FRAME_HEADER_BYTES)
    }
}

/// Appends one frame to a buffer. The caller has checked the payload's size.
pub(crate) fn encode(position: u64, payload: &[u8], into: &mut Vec<u8>) {
    let len = u32::try_from(payload.len()).expect("the caller checked the limit of 16 MiB");
    into.extend_from_slice(&len.to_le_bytes());
    into.extend_from_slice(&checksum(position, len, payload).to_le_bytes());
    into.extend_from_slice(payload);
}

/// Computes what protects a frame.
pub(crate) fn checksum(position: u64, len: u32, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&position.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &len.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

/// Widens a size in memory to a size on disk.
pub(crate) fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("a size in memory fits in 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_length_checksum_payload() {
        let mut bytes = Vec::new();
        encode(7, b"dawn", &mut bytes);
        assert_eq!(bytes.len(), 12);
        assert_eq!(&bytes[..4], &[4, 0, 0, 0]);
        assert_eq!(&bytes[8..], b"dawn");
        let header = FrameHeader::parse(&bytes).unwrap();
        assert_eq!((header.len, header.frame_bytes()), (4, 12));
        let covered = b"\x07\0\0\0\0\0\0\0\x04\0\0\0dawn";
        assert_eq!(header.crc, crc32c::crc32c(covered));
        assert_ne!(header.crc, checksum(8, 4, b"dawn"));
    }

    #[test]
    fn lengths_no_frame_can_have_are_refused() {
        for (len, sane) in [
            (0_u32, false),
            (1, true),
            (16 << 20, true),
            ((16 << 20) + 1, false),
        ] {
            let mut bytes = len.to_le_bytes().to_vec();
            bytes.extend_from_slice(&[0; 4]);
            assert_eq!(FrameHeader::parse(&bytes).is_some(), sane, "{len}");
        }
        assert!(FrameHeader::parse(&[1, 0, 0, 0, 0, 0, 0]).is_none());
    }
}
