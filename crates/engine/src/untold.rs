//! Checkpoints of functions that run here for another node's job: which of them that node is told,
//! and when (`docs/semantics.md`, section 3.5).
//!
//! Only the last one of each child counts. That of a child that stands still or has ended is told
//! at once, those of children that run a while later. So many bytes are on their way at most; what
//! has no room waits for an acknowledgement, and the next value takes its place.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sortie_model::{ChildIncarnation, ChildKey, JobInstance, Ordinal, Seq, limits};

use crate::peer::Uptime;

/// A checkpoint that a child came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Which of its incarnations did.
    pub incarnation: ChildIncarnation,
    /// The number of the record that comes next.
    pub next: Seq,
    /// The value.
    pub value: Bytes,
}

/// The last checkpoints of the children of one session's jobs here.
#[derive(Debug, Default)]
pub struct Untold {
    last: BTreeMap<ChildKey, Reached>,
    /// Those that the owner was not told, over its present connection.
    untold: BTreeSet<ChildKey>,
    /// Of these, what does not wait.
    at_once: BTreeSet<ChildKey>,
    /// When the first of the untold came.
    since: Option<Uptime>,
    /// What was told and not acknowledged, in bytes.
    ahead: usize,
}

impl Untold {
    /// A child came to a checkpoint. Says whether it is the first of those that are to be told.
    pub fn reached(&mut self, child: ChildKey, reached: Reached, now: Uptime) -> bool {
        self.last.insert(child, reached);
        self.untold.insert(child);
        self.since.replace(self.since.unwrap_or(now)).is_none()
    }

    /// The child stands still, or has ended.
    pub fn hurry(&mut self, child: ChildKey) {
        if self.untold.contains(&child) {
            self.at_once.insert(child);
        }
    }

    /// The owner is back, and may have lost what it was told last.
    pub fn begin_again(&mut self, now: Uptime) {
        self.untold = self.last.keys().copied().collect();
        self.at_once.clone_from(&self.untold);
        self.since = self.untold.first().map(|_| now);
    }

    /// That life of the child is over: the owner believes nothing more of it.
    pub fn forget(&mut self, child: ChildKey, life: ChildIncarnation) {
        if self.last.get(&child).is_some_and(|reached| reached.incarnation <= life) {
            self.last.remove(&child);
            self.untold.remove(&child);
            self.at_once.remove(&child);
        }
    }

    /// Nobody wants to hear of the job any more.
    pub fn forget_job(&mut self, job: JobInstance) {
        let (first, last) = (Ordinal(0), Ordinal(u32::MAX));
        let of_job = ChildKey { job, ordinal: first }..=ChildKey { job, ordinal: last };
        let gone: Vec<ChildKey> = self.last.range(of_job).map(|(child, _)| *child).collect();
        gone.into_iter().for_each(|child| self.forget(child, ChildIncarnation(u32::MAX)));
    }

    /// What is to be told now. `stored` says whether the owner will have the child's records before
    /// that number when it hears of it; one of which it does not waits for those.
    pub fn take(
        &mut self,
        now: Uptime,
        stored: impl Fn(ChildKey, Seq) -> bool,
    ) -> Vec<(ChildKey, Reached)> {
        let Some(since) = self.since else { return Vec::new() };
        let all = now.saturating_sub(since) >= limits::CHECKPOINT_PAUSE;
        if self.at_once.is_empty() && !all {
            return Vec::new();
        }
        let rest = self.untold.iter().filter(|child| all && !self.at_once.contains(child));
        let mut taken = Vec::new();
        for child in self.at_once.iter().chain(rest) {
            let Some(reached) = self.last.get(child) else { continue };
            if !stored(*child, reached.next) {
                continue;
            }
            let bytes = weight(&reached.value);
            if self.ahead + bytes > limits::CHECKPOINTS_AHEAD_BYTES {
                break;
            }
            self.ahead += bytes;
            taken.push((*child, reached.clone()));
        }
        for (child, _) in &taken {
            self.untold.remove(child);
            self.at_once.remove(child);
        }
        match self.untold.is_empty() {
            true => self.since = None,
            // What found no room, or waits for its output, has its turn with what comes now.
            false if all => self.since = Some(now),
            false => {}
        }
        taken
    }

    /// Whether a word about the child waits for its checkpoint to be told first.
    pub fn holds_back(&self, child: ChildKey, stored: impl Fn(ChildKey, Seq) -> bool) -> bool {
        let reached = self.last.get(&child).filter(|_| self.at_once.contains(&child));
        reached.is_some_and(|reached| stored(child, reached.next))
    }

    /// When the next ones are to be told at the latest.
    pub fn due(&self) -> Option<Uptime> {
        self.since.map(|since| since + limits::CHECKPOINT_PAUSE)
    }

    /// Whether something waits to be told.
    pub fn is_waiting(&self) -> bool {
        !self.untold.is_empty()
    }

    /// The owner has so many bytes of what it was told, or nobody tells it any more.
    pub fn acknowledged(&mut self, bytes: usize) {
        self.ahead = self.ahead.saturating_sub(bytes);
    }
}

/// What a value takes of the bytes that may be on their way: an empty one is not free.
pub const fn weight(value: &Bytes) -> usize {
    value.len() + limits::CHECKPOINT_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    const START: Uptime = Duration::from_secs(7);
    const LATER: Uptime = Duration::from_secs(8);

    fn child(ordinal: u32) -> ChildKey {
        ChildKey { job: JobInstance(Uuid::from_u128(1)), ordinal: Ordinal(ordinal) }
    }

    fn value(incarnation: u32, bytes: &'static [u8]) -> Reached {
        let (incarnation, next) = (ChildIncarnation(incarnation), Seq(3));
        Reached { incarnation, next, value: Bytes::from_static(bytes) }
    }

    const fn yes(_: ChildKey, _: Seq) -> bool {
        true
    }

    #[test]
    fn the_last_value_of_one_that_runs_is_told_a_while_later_and_once() {
        let mut untold = Untold::default();
        untold.reached(child(0), value(0, b"a"), START);
        untold.reached(child(0), value(0, b"b"), START + Duration::from_millis(900));
        assert_eq!(untold.take(START, yes), []);
        assert_eq!(untold.due(), Some(LATER));
        assert_eq!(untold.take(LATER, yes), [(child(0), value(0, b"b"))]);
        assert_eq!((untold.take(LATER, yes), untold.due()), (vec![], None));
        assert!(!untold.is_waiting());
    }

    #[test]
    fn that_of_one_that_stands_still_is_told_at_once_and_before_the_word_that_it_does() {
        let mut untold = Untold::default();
        untold.reached(child(0), value(0, b"a"), START);
        untold.reached(child(1), value(0, b"b"), START);
        untold.hurry(child(1));
        untold.hurry(child(2));
        assert!(untold.holds_back(child(1), yes) && !untold.holds_back(child(0), yes));
        assert_eq!(untold.take(START, yes), [(child(1), value(0, b"b"))]);
        assert!(!untold.holds_back(child(1), yes));
        assert_eq!(untold.take(LATER, yes), [(child(0), value(0, b"a"))]);
    }

    #[test]
    fn what_has_its_output_still_on_its_way_waits_for_that_and_holds_nothing_back() {
        let mut untold = Untold::default();
        untold.reached(child(0), value(0, b"a"), START);
        untold.hurry(child(0));
        let stored = |_, next| next < Seq(3);
        assert_eq!(untold.take(LATER, stored), []);
        assert!(!untold.holds_back(child(0), stored) && untold.is_waiting());
        // Others are not told more often because of it.
        untold.reached(child(1), value(0, b"b"), LATER);
        assert_eq!(untold.take(LATER, stored), []);
        assert_eq!(untold.due(), Some(LATER + limits::CHECKPOINT_PAUSE));
        assert_eq!(untold.take(LATER, yes), [(child(0), value(0, b"a"))]);
    }

    #[test]
    fn so_many_bytes_are_on_their_way_and_the_rest_waits_for_room() {
        let (mut untold, large) = (Untold::default(), vec![7; limits::CHECKPOINT_BYTES]);
        let large = Bytes::from(large);
        let many = 2 * (limits::CHECKPOINTS_AHEAD_BYTES / limits::CHECKPOINT_BYTES) as u32;
        for ordinal in 0..many {
            let reached = Reached { value: large.clone(), ..value(0, b"") };
            untold.reached(child(ordinal), reached, START);
            untold.hurry(child(ordinal));
        }
        let mut told = 0;
        while untold.is_waiting() {
            let some = untold.take(START, yes);
            let bytes: usize = some.iter().map(|(_, reached)| weight(&reached.value)).sum();
            assert!(!some.is_empty() && bytes <= limits::CHECKPOINTS_AHEAD_BYTES, "{bytes}");
            assert_eq!(untold.take(LATER, yes), [], "there is no room");
            assert_eq!(untold.holds_back(child(many - 1), yes), untold.is_waiting());
            told += some.len();
            untold.acknowledged(bytes);
        }
        assert_eq!(told, many as usize);
    }

    #[test]
    fn an_owner_that_is_back_is_told_all_again_but_nothing_of_lives_that_are_over() {
        let mut untold = Untold::default();
        let first: Vec<bool> =
            (0..4).map(|number| untold.reached(child(number), value(2, b"a"), START)).collect();
        assert_eq!(first, [true, false, false, false]);
        assert_eq!(untold.take(LATER, yes).len(), 4);
        untold.forget(child(0), ChildIncarnation(2));
        untold.forget(child(1), ChildIncarnation(1));
        untold.begin_again(LATER);
        let told = |untold: &mut Untold| -> Vec<u32> {
            untold.take(LATER, yes).iter().map(|(child, _)| child.ordinal.0).collect()
        };
        assert_eq!(told(&mut untold), [1, 2, 3], "the next life of the second one is on");
        let other = JobInstance(Uuid::from_u128(2));
        untold.forget_job(other);
        untold.forget_job(child(0).job);
        untold.begin_again(LATER);
        assert_eq!(told(&mut untold), []);
    }
}
