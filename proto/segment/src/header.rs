//! The head of a segment file:
//! `"DWSG" | kind [4] | version u32 LE | first_position u64 LE | note_len u16 LE | note | crc32c u32 LE over all before`.
//!
//! This layout stays for ever; the version speaks of what follows it. So a version is believed only where the checksum
//! holds, and a flipped bit cannot pass for a newer program.

/// The newest segment format this program reads and writes.
pub const VERSION: u32 = 1;

/// A note is a small mark of its owner (the spool's epoch), not a place for data.
pub const NOTE_BYTES_MAX: usize = 256;

const MAGIC: &[u8; 4] = b"DWSG";

/// Everything but note and checksum.
const FIXED_BYTES: usize = 22;

/// The shortest header: an empty note.
pub(crate) const HEADER_BYTES_MIN: usize = FIXED_BYTES + 4;

/// The longest header, so one read gets any.
pub(crate) const HEADER_BYTES_MAX: usize = HEADER_BYTES_MIN + NOTE_BYTES_MAX;

/// A header whose checksum holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: [u8; 4],
    pub(crate) version: u32,
    pub(crate) first_position: u64,
    pub(crate) note: Vec<u8>,
}

impl Header {
    /// Draws the header. The caller has checked the note's size.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let note_len =
            u16::try_from(self.note.len()).expect("the caller checked the limit of 256 B");
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MIN + self.note.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.kind);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.first_position.to_le_bytes());
        bytes.extend_from_slice(&note_len.to_le_bytes());
        bytes.extend_from_slice(&self.note);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a header and its size, or nothing if it is not whole and sound.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Header, usize)> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (first_position, rest) = rest.split_first_chunk::<8>()?;
        let (note_len, rest) = rest.split_first_chunk::<2>()?;
        let note = rest.get(..usize::from(u16::from_le_bytes(*note_len)))?;
        if note.len() > NOTE_BYTES_MAX {
            return None;
        }
        let covered = FIXED_BYTES + note.len();
        let crc = bytes.get(covered..)?.first_chunk::<4>()?;
        if crc32c::crc32c(&bytes[..covered]) != u32::from_le_bytes(*crc) {
            return None;
        }
        let header = Header {
            kind: *kind,
            version: u32::from_le_bytes(*version),
            first_position: u64::from_le_bytes(*first_position),
            note: note.to_vec(),
        };
        Some((header, covered + 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_no_flip_passes() {
        for note in [vec![], vec![7; 3], vec![255; NOTE_BYTES_MAX]] {
            let header = Header {
                kind: *b"TEST",
                version: 3,
                first_position: 1 << 40,
                note,
            };
            let bytes = header.encode();
            assert_eq!(Header::parse(&bytes), Some((header.clone(), bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..cut]), None, "cut at {cut}");
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Header::parse(&flipped), None, "bit {bit}");
            }
        }
    }
}
