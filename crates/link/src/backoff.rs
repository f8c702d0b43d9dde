//! How long to wait before a peer is dialled again: doubling, bounded, spread by chance that the
//! caller brings.

use std::time::Duration;

use sortie_model::limits;

/// The waits between the dials of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    seed: u64,
}

impl Backoff {
    /// The waits for one peer. Different seeds spread the dials of many nodes; the hash of both
    /// node ids will do.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The wait before that attempt, of which the first is 1: between half of the full wait and all
    /// of it. The full wait is [`limits::REDIAL_FIRST`] at first and doubles up to
    /// [`limits::REDIAL_LONGEST`].
    pub fn wait(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1).min(16));
        let full = limits::REDIAL_FIRST.saturating_mul(factor).min(limits::REDIAL_LONGEST);
        let chance = mix(self.seed.wrapping_add(u64::from(attempt)));
        let part = (chance >> 32) as u32;
        full / 2 + (full / 2).mul_f64(f64::from(part) / f64::from(u32::MAX))
    }
}

/// SplitMix64: every bit of the result depends on every bit of the seed.
pub(crate) const fn mix(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        for seed in 0..100 {
            let backoff = Backoff::new(seed);
            let mut full = limits::REDIAL_FIRST;
            for attempt in 1..40 {
                let wait = backoff.wait(attempt);
                assert!(wait >= full / 2 && wait <= full, "{wait:?} for {full:?}");
                full = (full * 2).min(limits::REDIAL_LONGEST);
            }
        }
    }

    #[test]
    fn seeds_spread_the_waits() {
        let mut waits: Vec<_> = (0..100).map(|seed| Backoff::new(seed).wait(1)).collect();
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 90);
    }
}
