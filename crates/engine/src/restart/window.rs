//! How many restarts lie within the period that ends now.

use std::collections::VecDeque;

use sortie_model::restart::Intensity;

use crate::broken::{Rule, is_broken};
use crate::peer::Uptime;

/// Whether one more restart is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is.
    Within,
    /// It is one too many.
    Exceeded,
}

/// The moments of the last restarts: at most one more than are allowed, since the job then gives
/// up.
#[derive(Debug)]
pub(super) struct Window {
    intensity: Intensity,
    restarts: VecDeque<Uptime>,
}

impl Window {
    pub(super) const fn new(intensity: Intensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    pub(super) const fn intensity(&self) -> Intensity {
        self.intensity
    }

    /// Counts a restart. One that lies a whole period back counts still, as in OTP.
    pub(super) fn add(&mut self, now: Uptime) -> Verdict {
        let period = self.intensity.period();
        while self.restarts.front().is_some_and(|then| now.saturating_sub(*then) > period) {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        let allowed = self.intensity.restarts() as usize;
        let exceeded = self.restarts.len() > allowed && !is_broken(Rule::P15);
        if exceeded { Verdict::Exceeded } else { Verdict::Within }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(restarts: u32, millis: &[u64], expected: Verdict) {
        let period = Duration::from_secs(5);
        let mut window = Window::new(Intensity::new(restarts, period).expect("in bounds"));
        let mut verdict = Verdict::Within;
        for moment in millis {
            assert_eq!(verdict, Verdict::Within, "{millis:?}");
            verdict = window.add(Duration::from_millis(*moment));
            assert!(window.restarts.len() <= restarts as usize + 1, "{millis:?}");
        }
        assert_eq!(verdict, expected, "{millis:?}");
    }

    #[test]
    fn more_restarts_than_are_allowed_within_the_period_are_too_many() {
        check(0, &[0], Verdict::Exceeded);
        check(1, &[0], Verdict::Within);
        check(1, &[0, 4_000], Verdict::Exceeded);
        check(3, &[0, 1, 2], Verdict::Within);
        check(3, &[0, 1, 2, 3], Verdict::Exceeded);
    }

    #[test]
    fn a_restart_counts_until_the_period_is_over() {
        check(1, &[0, 5_000], Verdict::Exceeded);
        check(1, &[0, 5_001, 10_002, 15_003], Verdict::Within);
        check(2, &[0, 4_000, 5_001, 9_002], Verdict::Within);
        check(2, &[0, 4_000, 5_001, 9_000], Verdict::Exceeded);
    }
}
