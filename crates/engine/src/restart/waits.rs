//! How long a child waits before it starts again, and which child's wait is over next.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use sortie_model::Ordinal;
use sortie_model::restart::{Backoff, RestartSpec};

use crate::peer::Uptime;

/// A child's restarts in a row.
#[derive(Debug)]
struct Streak {
    restarts: u32,
    /// When its present incarnation began.
    began: Uptime,
    /// Until when it waits, or waited.
    until: Uptime,
}

/// The waits of one job's children. A child that was never started again costs nothing, and none
/// does where there is no backoff.
#[derive(Debug)]
pub(super) struct Waits {
    backoff: Option<Backoff>,
    /// An incarnation that lived longer ends its child's streak.
    period: Duration,
    streaks: HashMap<Ordinal, Streak>,
    queue: BTreeSet<(Uptime, Ordinal)>,
}

impl Waits {
    pub(super) fn new(spec: &RestartSpec) -> Self {
        let (backoff, period) = (spec.backoff, spec.intensity.period());
        Self { backoff, period, streaks: HashMap::new(), queue: BTreeSet::new() }
    }

    /// The child ended and is to start again: until when it waits.
    pub(super) fn on_restart(&mut self, child: Ordinal, now: Uptime) -> Uptime {
        let Some(backoff) = self.backoff else { return now };
        let new = Streak { restarts: 0, began: now, until: now };
        let streak = self.streaks.entry(child).or_insert(new);
        if now.saturating_sub(streak.began) > self.period {
            streak.restarts = 0;
        }
        streak.until = now.saturating_add(backoff.wait(streak.restarts));
        streak.restarts = streak.restarts.saturating_add(1);
        streak.until
    }

    /// An incarnation of the child begins.
    pub(super) fn on_begin(&mut self, child: Ordinal, now: Uptime) {
        if let Some(streak) = self.streaks.get_mut(&child) {
            streak.began = now;
        }
    }

    /// Lets the child wait by itself, until the moment that it was given.
    pub(super) fn push(&mut self, child: Ordinal) {
        if let Some(streak) = self.streaks.get(&child) {
            self.queue.insert((streak.until, child));
        }
    }

    /// A child that waits by itself and whose wait is over.
    pub(super) fn pop_due(&mut self, now: Uptime) -> Option<Ordinal> {
        let (until, child) = *self.queue.first()?;
        if until > now {
            return None;
        }
        self.queue.pop_first();
        Some(child)
    }

    /// When the first wait is over.
    pub(super) fn next(&self) -> Option<Uptime> {
        self.queue.first().map(|(until, _)| *until)
    }

    /// Until when the child waits, or waited last.
    pub(super) fn until(&self, child: Ordinal) -> Option<Uptime> {
        self.streaks.get(&child).map(|streak| streak.until)
    }

    /// No incarnation of the child follows.
    pub(super) fn forget(&mut self, child: Ordinal) {
        if let Some(streak) = self.streaks.remove(&child) {
            self.queue.remove(&(streak.until, child));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: Ordinal = Ordinal(7);
    const PERIOD: u64 = 5;

    fn waits() -> Waits {
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, 8 * second).ok();
        Waits::new(&RestartSpec { backoff, ..RestartSpec::default() })
    }

    /// The waits in seconds of a child whose incarnations live so long, in seconds.
    #[track_caller]
    fn check(lives: &[u64], expected: &[u64]) {
        let (mut waits, mut now) = (waits(), Duration::ZERO);
        let mut waited = Vec::new();
        for life in lives {
            now += Duration::from_secs(*life);
            let until = waits.on_restart(CHILD, now);
            waited.push((until - now).as_secs());
            now = until;
            waits.on_begin(CHILD, now);
        }
        assert_eq!(waited, expected, "{lives:?}");
    }

    #[test]
    fn the_wait_doubles_with_each_restart_in_a_row() {
        check(&[0, 1, 0, PERIOD, 2, 0], &[1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn an_incarnation_that_lived_longer_than_the_period_begins_anew() {
        check(&[0, 0, PERIOD + 1, 0, 0], &[1, 2, 1, 2, 4]);
        check(&[100, 0], &[1, 2]);
    }

    #[test]
    fn a_child_that_waits_is_due_when_its_wait_is_over() {
        let mut waits = waits();
        for (child, second) in [(2, 3), (1, 0), (0, 0)] {
            waits.on_restart(Ordinal(child), Duration::from_secs(second));
            waits.push(Ordinal(child));
        }
        assert_eq!(waits.next(), Some(Duration::from_secs(1)));
        assert_eq!(waits.pop_due(Duration::from_millis(999)), None);
        waits.forget(Ordinal(0));
        assert_eq!(waits.pop_due(Duration::from_secs(1)), Some(Ordinal(1)));
        assert_eq!(waits.pop_due(Duration::from_secs(1)), None);
        assert_eq!(waits.next(), Some(Duration::from_secs(4)));
    }

    #[test]
    fn without_a_backoff_nothing_is_kept() {
        let mut waits = Waits::new(&RestartSpec::default());
        let now = Duration::from_secs(9);
        assert_eq!(waits.on_restart(CHILD, now), now);
        assert!(waits.streaks.is_empty());
    }
}
