//! How many processes of a fleet's items run at the same time, where it is to be so many at every
//! moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Fleet;
use crate::home::command_line;
use crate::item::Plan;

/// Time between two counts.
const COUNT_AGAIN: Duration = Duration::from_millis(250);
/// So many more than there must be are kept: they end by themselves, too.
const MORE: u64 = 30;

/// What was counted.
#[derive(Debug)]
pub(super) struct Crowd {
    now: AtomicU64,
    /// The fewest since there were enough.
    least: AtomicU64,
    counts: AtomicU64,
    sum: AtomicU64,
}

impl Default for Crowd {
    fn default() -> Self {
        let [now, counts, sum] = [0; 3].map(AtomicU64::new);
        Self { now, least: AtomicU64::new(u64::MAX), counts, sum }
    }
}

impl Fleet<'_> {
    /// Waits until so many run as are to run at every moment.
    pub(crate) fn fill(&self) {
        while self.crowd.now.load(Ordering::SeqCst) < self.wanted() && !self.has_failed() {
            // tidy: waits because the commands of the fleet start them
            std::thread::sleep(COUNT_AGAIN);
        }
        self.crowd.least.store(u64::MAX, Ordering::SeqCst);
    }

    /// Whether another item may begin.
    pub(super) fn has_place(&self) -> bool {
        self.size.running == 0 || self.crowd.now.load(Ordering::SeqCst) < self.wanted()
    }

    /// Counts until the fleet is drained.
    pub(super) fn count(&self) {
        let Crowd { now, least, counts, sum } = &self.crowd;
        while !self.is_draining() && !self.has_failed() {
            let mine = |line: &String| Plan::is_of(line, &self.notes);
            let lines = self.home.processes().into_iter().filter_map(command_line);
            let running = lines.filter(mine).count() as u64;
            now.store(running, Ordering::SeqCst);
            least.fetch_min(running, Ordering::SeqCst);
            counts.fetch_add(1, Ordering::Relaxed);
            sum.fetch_add(running, Ordering::Relaxed);
            // tidy: waits because processes can only be counted
            std::thread::sleep(COUNT_AGAIN);
        }
    }

    /// How many ran at least, as words; none where it was as it came.
    pub(crate) fn at_least(&self) -> String {
        let Crowd { least, counts, sum, .. } = &self.crowd;
        let [least, counts, sum] = [least, counts, sum].map(|count| count.load(Ordering::Relaxed));
        match sum.checked_div(counts) {
            None => String::new(),
            Some(mean) => format!(", {least} ran at every moment, {mean} in the mean"),
        }
    }

    const fn wanted(&self) -> u64 {
        match self.size.running {
            0 => 0,
            running => running + MORE,
        }
    }
}
