//! Numbers that are spread evenly from 0 to some highest one: each takes the bits that so many need, or one less.
//!
//! Of `n` numbers, `2^b <= n < 2^(b+1)`, the first `s = 2^(b+1) - n` are written as `b` bits. The others grow by `s`; then
//! the bits of such a number above its lowest are written first, `b` of them, and the lowest behind. No number takes more than a
//! tenth of a bit over the least that is possible, where Golomb-Rice takes half a bit.

use super::bits::{BitReader, BitWriter};

/// The highest number that this form is for: above, it would save nothing that anybody sees.
pub(super) const MOST: u64 = (1 << 56) - 1;

/// A code of the numbers from 0 to a highest one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Even {
    bits: u32,
    short: u64,
}

impl Even {
    /// Of a highest number; none where that is above [`MOST`].
    pub(super) fn new(most: u64) -> Option<Even> {
        let numbers = most.checked_add(1).filter(|_| most <= MOST)?;
        let bits = numbers.ilog2();
        let short = (2 << bits) - numbers;
        Some(Even { bits, short })
    }

    /// Bits that a number takes.
    pub(super) fn cost(self, u: u64) -> u64 {
        u64::from(self.bits) + u64::from(u >= self.short)
    }

    pub(super) fn put(self, out: &mut BitWriter, u: u64) {
        if u < self.short {
            out.put(u, self.bits);
        } else {
            let u = u + self.short;
            out.put(u >> 1, self.bits);
            out.put(u & 1, 1);
        }
    }

    /// Any bits are a number: no code wastes any.
    pub(super) fn get(self, bits: &mut BitReader<'_>) -> u64 {
        let high = bits.get(self.bits);
        if high < self.short {
            high
        } else {
            (high << 1 | bits.get(1)) - self.short
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for most in [0, 1, 2, 3, 4, 6, 7, 8, 20, 300, MOST] {
            let code = Even::new(most).unwrap();
            let all: Vec<u64> = match most {
                MOST => vec![0, 1, MOST / 3, MOST - 1, MOST],
                _ => (0..=most).collect(),
            };
            let mut out = BitWriter::default();
            all.iter().for_each(|u| code.put(&mut out, *u));
            let bytes = out.done();
            let bits: u64 = all.iter().map(|u| code.cost(*u)).sum();
            assert_eq!(bytes.len() as u64, bits.div_ceil(8), "up to {most}");
            let mut read = BitReader::new(&bytes);
            for u in all {
                assert_eq!(code.get(&mut read), u, "up to {most}");
            }
            assert!(read.is_spent());
        }
        assert!(Even::new(MOST + 1).is_none());
        assert!(Even::new(u64::MAX).is_none());
    }

    #[test]
    fn any_bits_are_a_number() {
        for most in 0..40 {
            let code = Even::new(most).unwrap();
            for pattern in 0..=u8::MAX {
                let bytes = [pattern];
                let u = code.get(&mut BitReader::new(&bytes));
                assert!(u <= most, "{pattern} up to {most}");
            }
        }
    }
}
