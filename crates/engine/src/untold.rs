//! Checkpoints of functions that run here for another node's job: which of them that node is told,
//! and when (`docs/semantics.md`, section 3.5).
//!
//! Only the last one of each child counts, unless it waits for the output before it: then the first
//! one that does has its turn, so that a child which never pauses is told of, too. That of a child
//! that stands still or has ended is told at once, those of children that run a while later, one
//! after the other. So many bytes are on their way at most; what has no room waits for an
//! acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

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

/// What is known of one child.
#[derive(Debug)]
struct Values {
    /// The last one that was told, or the first one after it.
    first: Reached,
    /// The last one, while the first is not told.
    newest: Option<Reached>,
}

impl Values {
    fn last(&self) -> &Reached {
        self.newest.as_ref().unwrap_or(&self.first)
    }

    /// The newest one that can be told.
    fn ripe(&self, stored: impl Fn(Seq) -> bool) -> Option<&Reached> {
        let newest = self.newest.as_ref().filter(|it| stored(it.next));
        newest.or_else(|| Some(&self.first).filter(|it| stored(it.next)))
    }
}

/// The last checkpoints of the children of one session's jobs here.
#[derive(Debug, Default)]
pub struct Untold {
    last: BTreeMap<ChildKey, Values>,
    /// Those that the owner was not told, over its present connection.
    untold: BTreeSet<ChildKey>,
    /// Of these, what does not wait.
    at_once: BTreeSet<ChildKey>,
    /// When the first of the untold came, or when all that could be told last was.
    since: Option<Uptime>,
    /// Up to which child those that run had their turn, where the others found no room.
    up_to: Option<ChildKey>,
    /// Something that is due found no room.
    full: bool,
    /// What was told and not acknowledged, in bytes.
    ahead: usize,
}

impl Untold {
    /// A child came to a checkpoint. Says whether it is the first of those that are to be told.
    pub fn reached(&mut self, child: ChildKey, reached: Reached, now: Uptime) -> bool {
        let none = self.untold.is_empty();
        let is_untold = !self.untold.insert(child);
        match self.last.get_mut(&child).filter(|_| is_untold) {
            Some(values) if values.first.incarnation == reached.incarnation => {
                values.newest = Some(reached);
            }
            _ => {
                self.last.insert(child, Values { first: reached, newest: None });
            }
        }
        if none {
            self.since = Some(now);
        }
        none
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
        (self.up_to, self.full) = (None, false);
    }

    /// That life of the child is over: the owner believes nothing more of it.
    pub fn forget(&mut self, child: ChildKey, life: ChildIncarnation) {
        if self.last.get(&child).is_some_and(|values| values.first.incarnation <= life) {
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
        let from = self.up_to.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.untold.range((from, Bound::Unbounded));
        let rest = rest.filter(|child| all && !self.at_once.contains(child));
        let (mut taken, mut full) = (Vec::new(), false);
        for child in self.at_once.iter().chain(rest) {
            let Some(values) = self.last.get(child) else { continue };
            let Some(reached) = values.ripe(|next| stored(*child, next)) else { continue };
            let bytes = weight(&reached.value);
            if self.ahead + bytes > limits::CHECKPOINTS_AHEAD_BYTES {
                full = true;
                break;
            }
            self.ahead += bytes;
            if !self.at_once.contains(child) {
                self.up_to = Some(*child);
            }
            taken.push((*child, reached.clone()));
        }
        taken.iter().for_each(|(child, reached)| self.told(*child, reached.next));
        self.full = full && all;
        match self.untold.is_empty() {
            true => (self.since, self.up_to) = (None, None),
            // What waits for its output, or came during this round, has its turn in the next one.
            false if all && !full => (self.since, self.up_to) = (Some(now), None),
            false => {}
        }
        taken
    }

    /// The child's value from before that record is told.
    fn told(&mut self, child: ChildKey, next: Seq) {
        let Some(values) = self.last.get_mut(&child) else { return };
        match values.newest.take() {
            // It waits for its output.
            Some(newer) if newer.next != next => values.first = newer,
            newer => {
                if let Some(newer) = newer {
                    values.first = newer;
                }
                self.untold.remove(&child);
                self.at_once.remove(&child);
            }
        }
    }

    /// Whether a word about the child waits for its checkpoint to be told first.
    pub fn holds_back(&self, child: ChildKey, stored: impl Fn(ChildKey, Seq) -> bool) -> bool {
        let values = self.last.get(&child).filter(|_| self.at_once.contains(&child));
        values.is_some_and(|values| stored(child, values.last().next))
    }

    /// Whether a checkpoint of the child waits to be told.
    pub fn waits(&self, child: ChildKey) -> bool {
        self.untold.contains(&child)
    }

    /// When the next ones are to be told at the latest, if that does not wait for room.
    pub fn due(&self) -> Option<Uptime> {
        self.since.filter(|_| !self.full).map(|since| since + limits::CHECKPOINT_PAUSE)
    }

    /// Whether something waits to be told.
    pub fn is_waiting(&self) -> bool {
        !self.untold.is_empty()
    }

    /// The owner has so many bytes of what it was told, or nobody tells it any more.
    pub fn acknowledged(&mut self, bytes: usize) {
        self.ahead = self.ahead.saturating_sub(bytes);
        self.full = false;
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
    fn those_that_run_are_told_one_after_the_other_though_new_values_come_all_the_time() {
        let (mut untold, large) = (Untold::default(), vec![7; limits::CHECKPOINT_BYTES]);
        let (large, children) = (Bytes::from(large), 40);
        for ordinal in 0..children {
            let reached = Reached { value: large.clone(), ..value(0, b"") };
            untold.reached(child(ordinal), reached, START);
        }
        let mut told = Vec::new();
        loop {
            let some = untold.take(LATER, yes);
            if some.is_empty() {
                break;
            }
            told.extend(some.iter().map(|(child, _)| child.ordinal.0));
            // They go on, and what comes of them has its turn a while later.
            untold.reached(child(0), value(0, b"new"), LATER);
            assert_ne!(untold.due(), Some(LATER), "nobody is woken before there is room");
            untold.acknowledged(some.iter().map(|(_, reached)| weight(&reached.value)).sum());
        }
        assert_eq!(told, (0..children).collect::<Vec<_>>());
        let next = LATER + limits::CHECKPOINT_PAUSE;
        assert_eq!(untold.due(), Some(next));
        assert_eq!(untold.take(next, yes), [(child(0), value(0, b"new"))]);
    }

    #[test]
    fn one_with_output_all_the_time_is_told_of() {
        let mut untold = Untold::default();
        let reached = |next| Reached { next: Seq(next), ..value(0, b"a") };
        let mut told = Vec::new();
        for next in 1..=50 {
            let now = START + limits::CHECKPOINT_PAUSE / 10 * next as u32;
            untold.reached(child(0), reached(next), now);
            // The owner has all but the last record.
            let stored = |_, before: Seq| before.0 < next;
            told.extend(untold.take(now, stored).into_iter().map(|(_, reached)| reached.next.0));
        }
        assert_eq!(told, [1, 11, 21, 31]);
        assert_eq!(untold.take(START + Duration::from_secs(6), yes), [(child(0), reached(50))]);
        assert!(!untold.is_waiting());
    }

    #[test]
    fn what_comes_after_all_before_is_over_is_the_first_again() {
        let mut untold = Untold::default();
        assert!(untold.reached(child(0), value(0, b"a"), START));
        untold.forget(child(0), ChildIncarnation(0));
        assert!(untold.reached(child(1), value(0, b"b"), LATER));
        assert_eq!(untold.due(), Some(LATER + limits::CHECKPOINT_PAUSE));
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
