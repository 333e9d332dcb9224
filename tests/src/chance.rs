//! Numbers that a seed gives, and settings from the environment.

/// A row of numbers that a seed gives (splitmix64): the same seed, the same row.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The row of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Chance {
        Chance { state: seed }
    }

    /// A number below a bound.
    ///
    /// # Panics
    /// Where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// True once in so many times.
    ///
    /// # Panics
    /// Where that is 0.
    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    /// An index of a list of this length.
    ///
    /// # Panics
    /// Where the list is empty.
    pub fn index(&mut self, len: usize) -> usize {
        let below = self.below(u64::try_from(len).unwrap_or(u64::MAX));
        usize::try_from(below).unwrap_or(0)
    }
}

/// A number from the environment, or what is usual.
#[must_use]
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
