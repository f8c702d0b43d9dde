//! Seeded randomness: the same seed gives the same items and the same pauses. What the machine
//! makes of them differs from run to run.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A generator (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// One of its own for each pair of numbers.
    pub(crate) const fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xA076_1D64_78BD_642F));
        random.next();
        random
    }

    /// 64 random bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, which is smaller than all of `u64`.
    pub(crate) const fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (from, to) = (*range.start(), *range.end());
        from + self.next() % (to - from + 1)
    }

    /// Whether something happens that does once in `n` times.
    pub(crate) const fn once_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// A time of at most that many milliseconds.
    pub(crate) const fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.within(0..=most))
    }
}
