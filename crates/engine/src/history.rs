//! Which finished jobs a node forgets, when it has more of them than it keeps: the longest finished
//! first. Nothing else about a job matters, so that what goes can be foretold.

use std::time::Duration;

use sortie_model::{Timestamp, limits};

/// What a node keeps of finished jobs, all sessions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Jobs at most. Default: [`limits::HISTORY_JOBS`].
    pub jobs: u64,
    /// How long after their end, by the wall clock. Default: [`limits::HISTORY_AGE`].
    pub age: Duration,
    /// Bytes of disk that they have at most. Default: [`limits::HISTORY_BYTES`].
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        let (jobs, age) = (limits::HISTORY_JOBS, limits::HISTORY_AGE);
        Self { jobs, age, bytes: limits::HISTORY_BYTES }
    }
}

/// What a node has of finished jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Jobs.
    pub jobs: u64,
    /// Bytes of disk.
    pub bytes: u64,
}

/// A finished job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When it ended.
    pub end: Timestamp,
    /// Bytes of disk that it has.
    pub bytes: u64,
}

/// How many of the longest finished jobs go, of those that are shown: fewer than are to go when
/// `oldest` shows fewer, so a long history shrinks in steps. `oldest` is in the order of ends.
///
/// A job that ended later than now, because the clock was set back, is not too old.
pub fn surplus(held: Held, oldest: &[Ended], retention: &Retention, now: Timestamp) -> usize {
    let too_old = now.earlier_by(retention.age);
    let mut left = held;
    for (gone, job) in oldest.iter().enumerate() {
        let fits = left.jobs <= retention.jobs && left.bytes <= retention.bytes;
        if fits && job.end >= too_old {
            return gone;
        }
        left.jobs = left.jobs.saturating_sub(1);
        left.bytes = left.bytes.saturating_sub(job.bytes);
    }
    oldest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn ended(second: i64, bytes: u64) -> Ended {
        Ended { end: Timestamp(second * SECOND), bytes }
    }

    fn check(jobs: &[Ended], (most, seconds, bytes): (u64, u64, u64), now: i64, gone: usize) {
        let retention = Retention { jobs: most, age: Duration::from_secs(seconds), bytes };
        let held = Held { jobs: jobs.len() as u64, bytes: jobs.iter().map(|job| job.bytes).sum() };
        assert_eq!(surplus(held, jobs, &retention, Timestamp(now * SECOND)), gone);
    }

    #[test]
    fn the_longest_finished_go_first_for_each_of_three_reasons() {
        let jobs = [ended(10, 5), ended(20, 5), ended(30, 5)];
        check(&jobs, (3, 100, 15), 100, 0);
        check(&jobs, (1, 100, 15), 100, 2);
        check(&jobs, (3, 75, 15), 100, 2);
        check(&jobs, (3, 100, 9), 100, 2);
        check(&jobs, (0, 100, 15), 100, 3);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_old() {
        check(&[ended(10, 1), ended(1_000, 1)], (9, 5, 9), 12, 0);
        check(&[ended(10, 1), ended(1_000, 1)], (9, 5, 9), -1_000, 0);
    }

    #[test]
    fn what_is_not_shown_waits_for_the_next_step() {
        let retention = Retention { jobs: 1, ..Retention::default() };
        let held = Held { jobs: 1_000, bytes: 0 };
        assert_eq!(surplus(held, &[ended(1, 0), ended(2, 0)], &retention, Timestamp(0)), 2);
    }

    proptest! {
        #[test]
        fn what_is_left_fits_and_one_more_would_not(
            mut jobs in prop::collection::vec((0_i64..50, 0_u64..20), 0..30),
            (most, age, bytes) in (0_u64..30, 0_u64..60, 0_u64..200),
        ) {
            jobs.sort_unstable();
            let jobs: Vec<Ended> = jobs.into_iter().map(|(end, bytes)| ended(end, bytes)).collect();
            let total = |jobs: &[Ended]| jobs.iter().map(|job| job.bytes).sum::<u64>();
            let fits = |left: &[Ended]| {
                let is_young = |job: &Ended| 50 * SECOND - job.end.0 <= age as i64 * SECOND;
                left.len() as u64 <= most && total(left) <= bytes && left.iter().all(is_young)
            };
            let retention = Retention { jobs: most, age: Duration::from_secs(age), bytes };
            let held = Held { jobs: jobs.len() as u64, bytes: total(&jobs) };
            let gone = surplus(held, &jobs, &retention, Timestamp(50 * SECOND));
            prop_assert!(fits(&jobs[gone..]));
            prop_assert!((0..gone).all(|fewer| !fits(&jobs[fewer..])));
        }
    }
}
