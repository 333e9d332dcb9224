//! Bits in a row of bytes, lowest first: what the codes of columns and of summaries are written with.

/// Writes bits.
#[derive(Debug, Default)]
pub struct BitWriter {
    out: Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter {
    /// Goes on behind bytes that are there.
    #[must_use]
    pub fn after(out: Vec<u8>) -> BitWriter {
        BitWriter {
            out,
            held: 0,
            count: 0,
        }
    }

    /// Writes the lowest bits of a value, at most 64; those above them must be 0.
    pub fn put(&mut self, value: u64, bits: u32) {
        debug_assert!(bits <= 64 && (bits == 64 || value >> bits == 0));
        self.held |= value << self.count;
        self.count += bits;
        if self.count >= 64 {
            self.out.extend_from_slice(&self.held.to_le_bytes());
            self.count -= 64;
            // What did not fit: none of it where the value began at bit 0.
            self.held = value.checked_shr(bits - self.count).unwrap_or(0);
        }
    }

    /// The bytes; the last one is filled up with zeros.
    #[must_use]
    pub fn done(mut self) -> Vec<u8> {
        let bytes = self.count.div_ceil(8) as usize;
        self.out
            .extend_from_slice(&self.held.to_le_bytes()[..bytes]);
        self.out
    }
}

/// Reads bits. Behind the end it reads zeros, and says so when asked.
#[derive(Debug)]
pub struct BitReader<'a> {
    rest: &'a [u8],
    held: u64,
    count: u32,
    /// Zeros that were put behind the end.
    beyond: u32,
}

impl<'a> BitReader<'a> {
    /// Begins with the lowest bit of the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader {
            rest: bytes,
            held: 0,
            count: 0,
            beyond: 0,
        }
    }

    /// So many bits, at most 64.
    #[inline]
    pub fn get(&mut self, bits: u32) -> u64 {
        if bits > 32 {
            let low = self.few(32);
            return low | self.few(bits - 32) << 32;
        }
        self.few(bits)
    }

    /// How many ones there are before a zero, which is passed over too; at most `most`, which is
    /// at most 32 and has no zero behind it.
    #[inline]
    pub fn ones(&mut self, most: u32) -> u32 {
        if self.count <= most {
            self.fill();
        }
        let ones = (!self.held).trailing_zeros().min(most);
        let used = if ones < most { ones + 1 } else { ones };
        self.held >>= used;
        self.count -= used;
        ones
    }

    /// Whether all bits were read, and no more: what is left of the last byte is zeros.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        let unread = self.count.checked_sub(self.beyond);
        unread.is_some_and(|left| left < 8 && self.held == 0) && self.rest.is_empty()
    }

    /// At most 32 bits.
    #[inline]
    fn few(&mut self, bits: u32) -> u64 {
        if self.count < bits {
            self.fill();
        }
        let value = self.held & ((1 << bits) - 1);
        self.held >>= bits;
        self.count -= bits;
        value
    }

    /// Holds at least 56 bits then.
    fn fill(&mut self) {
        if let Some((word, _)) = self.rest.split_first_chunk::<8>() {
            let bytes = (63 - self.count) / 8;
            // Bits of bytes that do not fit whole come with the next filling.
            let fresh = u64::from_le_bytes(*word) & !(u64::MAX << (8 * bytes));
            self.held |= fresh << self.count;
            self.count += bytes * 8;
            self.rest = &self.rest[bytes as usize..];
            return;
        }
        while self.count <= 56 {
            match self.rest.split_first() {
                Some((byte, tail)) => {
                    self.held |= u64::from(*byte) << self.count;
                    self.rest = tail;
                }
                None => self.beyond = self.beyond.saturating_add(8),
            }
            self.count += 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back(parts in proptest::collection::vec((any::<u64>(), 0u32..=64, 0u32..=20), 0..100)) {
            let mut out = BitWriter::default();
            let cut = |value: u64, bits: u32| value & u64::MAX.checked_shr(64 - bits).unwrap_or(0);
            for (value, bits, ones) in &parts {
                out.put(cut(*value, *bits), *bits);
                out.put((1 << ones) - 1, if *ones < 20 { ones + 1 } else { 20 });
            }
            let bytes = out.done();
            let mut read = BitReader::new(&bytes);
            for (value, bits, ones) in &parts {
                prop_assert_eq!(read.get(*bits), cut(*value, *bits));
                prop_assert_eq!(read.ones(20), *ones);
            }
            prop_assert!(read.is_spent());
            let mut short = BitReader::new(&bytes[..bytes.len().saturating_sub(1)]);
            for (_, bits, _) in &parts {
                short.get(*bits);
                short.ones(20);
            }
            prop_assert!(parts.is_empty() || bytes.is_empty() || !short.is_spent() || bytes.last() == Some(&0));
        }
    }

    #[test]
    fn a_byte_too_many_is_noticed() {
        let mut read = BitReader::new(&[5, 0]);
        read.get(3);
        assert!(!read.is_spent());
    }
}
