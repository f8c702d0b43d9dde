//! How long to wait before a peer is dialled again: doubling, bounded, spread by chance that the
//! caller brings.

use std::time::Duration;

use sortie_model::limits;

/// The waits between the dials of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    attempts: u32,
    seed: u64,
}

impl Backoff {
    /// The waits for one peer. Different seeds spread the dials of many nodes; the hash of both
    /// node ids will do.
    pub const fn new(seed: u64) -> Self {
        Self { attempts: 0, seed }
    }

    /// The wait before the next dial, between half of the full wait and all of it. The full wait
    /// is [`limits::REDIAL_FIRST`] at first and doubles up to [`limits::REDIAL_LONGEST`].
    pub fn next_wait(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.attempts.min(16));
        let full = limits::REDIAL_FIRST.saturating_mul(factor).min(limits::REDIAL_LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let chance = mix(self.seed.wrapping_add(u64::from(self.attempts)));
        let part = (chance >> 32) as u32;
        full / 2 + (full / 2).mul_f64(f64::from(part) / f64::from(u32::MAX))
    }

    /// The peer was reached: the next wait is the first one again.
    pub const fn reached(&mut self) {
        self.attempts = 0;
    }

    /// How many waits there were since the peer was reached.
    pub const fn attempts(&self) -> u32 {
        self.attempts
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
    fn waits_double_up_to_the_longest_and_start_again_once_reached() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(seed);
            let mut full = limits::REDIAL_FIRST;
            for _ in 0..40 {
                let wait = backoff.next_wait();
                assert!(wait >= full / 2 && wait <= full, "{wait:?} for {full:?}");
                full = (full * 2).min(limits::REDIAL_LONGEST);
            }
            backoff.reached();
            assert!(backoff.next_wait() <= limits::REDIAL_FIRST);
        }
    }

    #[test]
    fn seeds_spread_the_waits() {
        let mut waits: Vec<_> = (0..100).map(|seed| Backoff::new(seed).next_wait()).collect();
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 90);
    }
}
