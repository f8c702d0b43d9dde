//! Chance that can be repeated.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Numbers that follow from a seed: the same seed gives the same ones (SplitMix64).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number: every one is as likely as every other.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        let next = self.next();
        match next.checked_rem(bound) {
            Some(number) => number,
            None => 0,
        }
    }

    /// True once in `times` on the average; always when that is 0 or 1.
    pub const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of the items; none when there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let place = self.below(items.len() as u64);
        items.get(usize::try_from(place).unwrap_or(0))
    }

    /// A duration of the range, in whole milliseconds above its start.
    pub fn duration(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let span = range.end().saturating_sub(*range.start()).as_millis();
        let part = self.below(u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1));
        *range.start() + Duration::from_millis(part)
    }

    /// Chance of its own, which does not depend on what is drawn here later.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_one_others() {
        let numbers = |seed| {
            let mut chance = Chance::new(seed);
            (0..100).map(|_| chance.next()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }

    #[test]
    fn what_is_drawn_lies_within_its_bounds() {
        let mut chance = Chance::new(3);
        let (least, most) = (Duration::from_millis(3), Duration::from_millis(5));
        let mut seen = [false; 3];
        for _ in 0..100 {
            assert!(chance.below(7) < 7);
            let drawn = chance.duration(least..=most);
            seen[(drawn - least).as_millis() as usize] = true;
        }
        assert_eq!((seen, chance.below(0)), ([true; 3], 0));
        assert_eq!(chance.pick::<u8>(&[]), None);
    }
}
