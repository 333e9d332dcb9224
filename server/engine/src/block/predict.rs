//! The predictors of [`super::rice`]: what a column's next value is likely to be.

/// Guesses the next value from those before it. All arithmetic wraps, so that any miss comes back.
pub(super) struct Predictor {
    kind: u8,
    floor: i64,
    last: i64,
    change: i64,
    /// A moving mean in sixteenths.
    slow: i64,
    /// Whether a change is known.
    moved: bool,
}

impl Predictor {
    /// What comes before the second value: the first is always 0.
    pub(super) fn new(kind: u8, floor: i64) -> Predictor {
        Predictor {
            kind,
            floor,
            last: 0,
            change: 0,
            slow: 0,
            moved: false,
        }
    }

    /// What is expected next.
    pub(super) fn guess(&self) -> i64 {
        match self.kind {
            0 => self.last,
            1 => self.last.wrapping_add(self.change),
            2 => self.slow.wrapping_add(8) >> 4,
            3 => self.last.wrapping_add(self.slow.wrapping_add(8) >> 4),
            4 => self.floor,
            _ => self.last.wrapping_add(self.floor),
        }
    }

    /// Takes note of what came.
    pub(super) fn learn(&mut self, value: i64) {
        match self.kind {
            2 => {
                self.slow = self
                    .slow
                    .wrapping_add((value << 4).wrapping_sub(self.slow) >> 2)
            }
            3 => {
                let change = value.wrapping_sub(self.last) << 4;
                let far = change.wrapping_sub(self.slow);
                let by = if self.moved { far >> 3 } else { far };
                self.slow = self.slow.wrapping_add(by);
                self.moved = true;
            }
            _ => self.change = value.wrapping_sub(self.last),
        }
        self.last = value;
    }
}
