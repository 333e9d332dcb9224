//! What holds for all summaries of a chunk, and which kinds of number it has: the first of what [`super::chunk`] lists.

use dawnwatch_engine::block::bits::{BitReader, BitWriter};

use super::Why;
use super::code::{get_wide, put_wide};
use super::scale::OVER;

/// Kinds of number, in the order of their codes.
pub(super) const FIRST: usize = 0;
pub(super) const NEXT: usize = 1;
pub(super) const CHANGE: usize = 2;
pub(super) const LOW: usize = 3;
pub(super) const HIGH: usize = 4;
pub(super) const SUM: usize = 5;
pub(super) const GROWN: usize = 3;
pub(super) const BY: usize = 4;
pub(super) const MS: usize = 5;
pub(super) const BEGIN: usize = 6;
pub(super) const LONG: usize = 7;
pub(super) const COUNT: usize = 8;
pub(super) const KINDS: usize = 9;

/// What holds for all summaries of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) counter: bool,
    pub(super) gaps: bool,
    pub(super) other_times: bool,
    pub(super) anew: bool,
    /// All or none; else each says so.
    pub(super) flat: Option<bool>,
    /// All are counted in this; else each says so.
    pub(super) quantum: Option<(u32, u32)>,
    pub(super) step: i128,
    pub(super) lean: u64,
}

impl Marks {
    /// Which kinds of number there can be.
    pub(super) fn kinds(&self) -> [bool; KINDS] {
        let moves = self.flat != Some(true);
        let mut out = [true; KINDS];
        out[CHANGE..=SUM].fill(moves);
        out[GROWN] = moves && (!self.counter || self.anew);
        out[BEGIN..].fill(self.other_times);
        out
    }

    /// Writes them.
    pub(super) fn put(&self, out: &mut BitWriter) {
        let bits = [
            self.counter,
            self.gaps,
            self.other_times,
            self.anew,
            self.flat.is_none(),
        ];
        for bit in bits.into_iter().chain(self.flat) {
            out.put(u64::from(bit), 1);
        }
        match self.quantum {
            Some((1, 1)) => out.put(0, 2),
            Some((mul, div)) => {
                out.put(1, 2);
                out.put(u64::from(mul), 32);
                out.put(u64::from(div), 32);
            }
            None => out.put(2, 2),
        }
        out.put(u64::from(self.step != 1), 1);
        if self.step != 1 {
            put_wide(out, self.step.unsigned_abs());
        }
        out.put(self.lean, self.lean_bits());
    }

    /// Reads them.
    ///
    /// # Errors
    /// Where they are none.
    pub(super) fn get(bits: &mut BitReader<'_>) -> Result<Marks, Why> {
        let mut bit = || bits.get(1) == 1;
        let (counter, gaps, other_times, anew) = (bit(), bit(), bit(), bit());
        let flat = if bit() { None } else { Some(bit()) };
        let quantum = match bits.get(2) {
            0 => Some((1, 1)),
            1 => Some((word(bits), word(bits))),
            2 => None,
            _ => return Err("unknown marks"),
        };
        if quantum.is_some_and(|(_, div)| div == 0) {
            return Err(NO_QUANTUM);
        }
        let step = match bits.get(1) {
            0 => 1,
            _ => i128::try_from(get_wide(bits)).map_err(|_| OVER)?,
        };
        let mut marks = Marks {
            counter,
            gaps,
            other_times,
            anew,
            flat,
            quantum,
            step,
            lean: 0,
        };
        marks.lean = bits.get(marks.lean_bits());
        if marks.lean > 2 {
            return Err("unknown marks");
        }
        Ok(marks)
    }

    /// Bits of the lean.
    pub(super) fn lean_bits(&self) -> u32 {
        match (self.flat, self.counter) {
            (Some(true), _) => 0,
            (_, true) => 1,
            (_, false) => 2,
        }
    }
}

pub(super) const NO_QUANTUM: Why = "a quantum of nothing";

/// A word of 32 bits.
pub(super) fn word(bits: &mut BitReader<'_>) -> u32 {
    u32::try_from(bits.get(32)).unwrap_or(u32::MAX)
}
