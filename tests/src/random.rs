//! Random: numbers that a seed repeats, and how many random inputs a run wants.
//!
//! Unit tests of the other crates include this file by its path, for no crate lies below all of them: it uses nothing, and nobody uses all of it.
#![allow(dead_code, reason = "each that includes it takes its part")]

/// xorshift64.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence that tests share.
    pub(crate) fn new() -> Self {
        Self::seeded(0x9e37_79b9_7f4a_7c15)
    }

    /// The sequence of a seed, which must not be zero.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number, below this one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).expect("small")
    }
}

/// How many times as many random inputs as usual are wanted: `BUILDD_CASES`, or 1.
pub(crate) fn times() -> u32 {
    std::env::var("BUILDD_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
