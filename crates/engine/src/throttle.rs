//! At most so many children of one job are in progress; the rest wait in line (`docs/semantics.md`,
//! section 3.1). The limit belongs to the job alone, so a job inside a child cannot deadlock.

use std::collections::{HashSet, VecDeque};
use std::ops::RangeInclusive;

use sortie_model::spec::Throttle;
use sortie_model::{Ordinal, limits};

/// A job's slots and the children that wait for one, first come first served.
///
/// Waiting children are kept as ranges, so a million that wait in order cost as much as one.
#[derive(Debug, Clone)]
pub struct Line {
    limit: Throttle,
    in_progress: u64,
    ranges: VecDeque<RangeInclusive<u32>>,
    /// Children inside the ranges that do not wait any more.
    withdrawn: HashSet<u32>,
    waiting: u64,
}

impl Line {
    /// No child waits, every slot is free.
    pub fn new(limit: Throttle) -> Self {
        Self {
            limit,
            in_progress: 0,
            ranges: VecDeque::new(),
            withdrawn: HashSet::new(),
            waiting: 0,
        }
    }

    /// The limit now.
    pub const fn limit(&self) -> Throttle {
        self.limit
    }

    /// Changes the limit. Lowering it stops nothing: slots are filled again once fewer are in use.
    pub const fn set_limit(&mut self, limit: Throttle) {
        self.limit = limit;
    }

    /// Slots in use.
    pub const fn in_progress(&self) -> u64 {
        self.in_progress
    }

    /// Children that wait.
    pub const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Whether the next child may go.
    pub fn has_free_slot(&self) -> bool {
        let most = match self.limit {
            Throttle::AtMost(most) => most.get().min(limits::IN_PROGRESS_PER_JOB),
            Throttle::Unlimited => limits::IN_PROGRESS_PER_JOB,
        };
        self.in_progress < u64::from(most)
    }

    /// Lets so many children wait, behind those that do. None of them may be waiting already.
    pub fn push(&mut self, first: Ordinal, count: u32) {
        let Some(last) = count.checked_sub(1).map(|more| first.0.saturating_add(more)) else {
            return;
        };
        if !self.withdrawn.is_empty() {
            (first.0..=last).for_each(|child| self.forget_withdrawn(child));
        }
        self.waiting += u64::from(count);
        match self.ranges.back_mut() {
            Some(range) if range.end().checked_add(1) == Some(first.0) => {
                *range = *range.start()..=last;
            }
            _ => self.ranges.push_back(first.0..=last),
        }
    }

    /// A child that waited before and was stopped waits again: its former place is no place of it
    /// any more, or it would go twice.
    fn forget_withdrawn(&mut self, child: u32) {
        if !self.withdrawn.remove(&child) {
            return;
        }
        let Some(at) = self.ranges.iter().position(|range| range.contains(&child)) else { return };
        let Some(range) = self.ranges.remove(at) else { return };
        if child < *range.end() {
            self.ranges.insert(at, child + 1..=*range.end());
        }
        if *range.start() < child {
            self.ranges.insert(at, *range.start()..=child - 1);
        }
    }

    /// Lets a child wait again, before all others: it was given a slot, which it leaves, and could
    /// not be sent.
    pub fn put_back(&mut self, child: Ordinal) {
        self.on_slot_free();
        self.waiting += 1;
        match self.ranges.front_mut() {
            Some(range) if child.0.checked_add(1) == Some(*range.start()) => {
                *range = child.0..=*range.end();
            }
            _ => self.ranges.push_front(child.0..=child.0),
        }
    }

    /// A waiting child was stopped: it never gets a slot. It must be waiting.
    pub fn withdraw(&mut self, child: Ordinal) {
        debug_assert!(self.position(child).is_some(), "child {} does not wait", child.0);
        if self.withdrawn.insert(child.0) {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    /// All waiting children were stopped.
    pub fn withdraw_all(&mut self) {
        self.ranges.clear();
        self.withdrawn.clear();
        self.waiting = 0;
    }

    /// Gives a free slot to the child that waits longest.
    pub fn admit(&mut self) -> Option<Ordinal> {
        if !self.has_free_slot() {
            return None;
        }
        loop {
            let range = self.ranges.front_mut()?;
            let (first, last) = (*range.start(), *range.end());
            if first == last {
                self.ranges.pop_front();
            } else {
                *range = first + 1..=last;
            }
            if !self.withdrawn.remove(&first) {
                self.waiting = self.waiting.saturating_sub(1);
                self.in_progress += 1;
                return Some(Ordinal(first));
            }
        }
    }

    /// A child has a slot from a former life of the job.
    pub const fn take_slot(&mut self) {
        self.in_progress += 1;
    }

    /// A child with a slot ended.
    pub const fn on_slot_free(&mut self) {
        debug_assert!(self.in_progress > 0, "more slots are freed than are in use");
        self.in_progress = self.in_progress.saturating_sub(1);
    }

    /// How many children go before this one; none if it does not wait. Takes a step per range and
    /// per withdrawn child: for a person who asks about one child.
    pub fn position(&self, child: Ordinal) -> Option<u64> {
        if self.withdrawn.contains(&child.0) {
            return None;
        }
        let mut before = 0;
        for range in &self.ranges {
            let end =
                if range.contains(&child.0) { child.0 } else { range.end().saturating_add(1) };
            let gone = self.withdrawn.iter().filter(|gone| (*range.start()..end).contains(*gone));
            before += u64::from(end - range.start()) - gone.count() as u64;
            if range.contains(&child.0) {
                return Some(before);
            }
        }
        None
    }
}

/// How many unfinished children one of `nodes` usable nodes may hold in a spread map.
pub fn share(limit: Throttle, nodes: u32) -> u32 {
    match limit {
        Throttle::AtMost(most) => most.get().div_ceil(nodes.max(1)),
        Throttle::Unlimited => limits::UNFINISHED_PER_NODE,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn at_most(most: u32) -> Throttle {
        NonZeroU32::new(most).map_or(Throttle::Unlimited, Throttle::AtMost)
    }

    fn drain(line: &mut Line) -> Vec<u32> {
        std::iter::from_fn(|| line.admit()).map(|child| child.0).collect()
    }

    #[test]
    fn at_most_so_many_are_in_progress_and_the_rest_follow_in_order() {
        let mut line = Line::new(at_most(2));
        line.push(Ordinal(0), 4);
        assert_eq!(drain(&mut line), [0, 1]);
        assert_eq!((line.in_progress(), line.waiting()), (2, 2));
        line.on_slot_free();
        assert_eq!(drain(&mut line), [2]);
    }

    #[test]
    fn a_child_that_was_withdrawn_and_waits_again_has_one_place() {
        for child in 0..3 {
            let mut line = Line::new(at_most(9));
            line.push(Ordinal(0), 3);
            line.withdraw(Ordinal(child));
            line.push(Ordinal(child), 1);
            assert_eq!((line.position(Ordinal(child)), line.waiting()), (Some(2), 3));
            let mut again = line.clone();
            let others = (0..3).filter(|other| *other != child).collect::<Vec<_>>();
            assert_eq!(drain(&mut line), [others.as_slice(), &[child]].concat());
            again.withdraw(Ordinal(child));
            assert_eq!((drain(&mut again), again.waiting()), (others, 0));
        }
    }

    #[test]
    fn lowering_the_limit_stops_nothing_and_raising_it_fills_the_slots() {
        let mut line = Line::new(at_most(3));
        line.push(Ordinal(0), 9);
        assert_eq!(drain(&mut line), [0, 1, 2]);
        line.set_limit(at_most(1));
        line.on_slot_free();
        line.on_slot_free();
        assert_eq!((line.in_progress(), drain(&mut line)), (1, vec![]));
        line.set_limit(Throttle::Unlimited);
        assert_eq!(drain(&mut line), [3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_job_without_a_throttle_still_has_only_so_many_in_progress() {
        for limit in [Throttle::Unlimited, at_most(u32::MAX)] {
            let mut line = Line::new(limit);
            line.push(Ordinal(0), limits::IN_PROGRESS_PER_JOB + 2);
            assert_eq!(drain(&mut line).len(), limits::IN_PROGRESS_PER_JOB as usize);
            line.on_slot_free();
            assert_eq!((drain(&mut line).len(), line.waiting()), (1, 1));
        }
    }

    #[test]
    fn a_child_that_was_stopped_while_it_waited_is_passed_over() {
        let mut line = Line::new(Throttle::Unlimited);
        line.push(Ordinal(0), 4);
        line.withdraw(Ordinal(1));
        assert_eq!(line.position(Ordinal(1)), None);
        assert_eq!(line.position(Ordinal(3)), Some(2));
        assert_eq!(drain(&mut line), [0, 2, 3]);
    }

    #[test]
    fn a_child_that_comes_back_goes_first() {
        let mut line = Line::new(at_most(2));
        line.push(Ordinal(0), 3);
        assert_eq!(drain(&mut line), [0, 1]);
        line.put_back(Ordinal(1));
        line.put_back(Ordinal(0));
        assert_eq!(drain(&mut line), [0, 1]);
    }

    #[test]
    fn a_million_waiting_children_cost_as_much_as_one() {
        let mut line = Line::new(at_most(1));
        for child in 0..1_000_000 {
            line.push(Ordinal(child), 1);
        }
        assert_eq!((line.ranges.len(), line.waiting()), (1, 1_000_000));
    }

    #[test]
    fn a_share_is_the_throttle_divided_up_and_rounded_up() {
        assert_eq!(share(at_most(32), 3), 11);
        assert_eq!(share(at_most(1), 1_000), 1);
        assert_eq!(share(at_most(8), 0), 8);
        assert_eq!(share(Throttle::Unlimited, 3), limits::UNFINISHED_PER_NODE);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u32),
        Admit,
        End,
        Withdraw(prop::sample::Index),
        PutBack(prop::sample::Index),
        Limit(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..5_u32).prop_map(Step::Push),
            Just(Step::Admit),
            Just(Step::Admit),
            Just(Step::End),
            any::<prop::sample::Index>().prop_map(Step::Withdraw),
            any::<prop::sample::Index>().prop_map(Step::PutBack),
            (0..6_u32).prop_map(Step::Limit),
        ]
    }

    proptest! {
        /// The obvious model: a list of waiting children and a list of children in progress.
        #[test]
        fn the_line_agrees_with_two_lists(
            limit in 0..6_u32,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let mut limit = at_most(limit);
            let mut line = Line::new(limit);
            let (mut waiting, mut running) = (Vec::new(), Vec::new());
            let mut born = 0;
            for step in steps {
                match step {
                    Step::Push(count) => {
                        line.push(Ordinal(born), count);
                        waiting.extend(born..born + count);
                        // A gap now and then, as other jobs' children make no gap in ordinals.
                        born += count + born % 2;
                    }
                    Step::Admit => {
                        let free = match limit {
                            Throttle::AtMost(most) => running.len() < most.get() as usize,
                            Throttle::Unlimited => true,
                        };
                        let expected = (free && !waiting.is_empty()).then(|| waiting.remove(0));
                        running.extend(expected);
                        prop_assert_eq!(line.admit(), expected.map(Ordinal));
                    }
                    Step::End if !running.is_empty() => {
                        running.remove(0);
                        line.on_slot_free();
                    }
                    Step::Withdraw(place) if !waiting.is_empty() => {
                        let child = waiting.remove(place.index(waiting.len()));
                        line.withdraw(Ordinal(child));
                    }
                    Step::PutBack(place) if !running.is_empty() => {
                        let child = running.remove(place.index(running.len()));
                        waiting.insert(0, child);
                        line.put_back(Ordinal(child));
                    }
                    Step::Limit(most) => {
                        limit = at_most(most);
                        line.set_limit(limit);
                    }
                    _ => {}
                }
                prop_assert_eq!(line.in_progress(), running.len() as u64);
                prop_assert_eq!(line.waiting(), waiting.len() as u64);
                for child in 0..born {
                    let place = waiting.iter().position(|other| *other == child);
                    prop_assert_eq!(line.position(Ordinal(child)), place.map(|it| it as u64));
                }
            }
        }
    }
}
