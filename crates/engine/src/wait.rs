//! When a waiter's wait is over (`docs/semantics.md`, sections 2.3 and 3.4).

use sortie_model::State;
use sortie_wire::session_proto::WaitCount;

/// What an entry must have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It will not move without an outside act.
    Settled,
    /// It is over for good.
    Finished,
}

impl Until {
    /// The word for what a request asks for.
    pub const fn of(finished: bool) -> Self {
        if finished { Self::Finished } else { Self::Settled }
    }

    /// Whether an entry in that state has come to it.
    pub const fn is_met_by(self, state: State) -> bool {
        match self {
            Self::Settled => state.is_settled(),
            Self::Finished => state.is_finished(),
        }
    }
}

/// How a wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Not over, and it can still come to its end.
    Waiting,
    /// Enough entries have come to it.
    Over,
    /// It can never come to its end: this entry, by its place in input order, is blocked.
    Blocked(usize),
}

/// How a wait for entries in these states stands, in input order.
///
/// Nobody can wait for more entries than there are, so a count beyond them means all of them, and
/// waiting on nothing is over at once.
pub fn course(states: &[State], count: WaitCount, until: Until) -> Course {
    let needed = needed(states.len(), count);
    let met = states.iter().filter(|state| until.is_met_by(**state)).count();
    if met >= needed {
        return Course::Over;
    }
    let blocked = states.iter().filter(|state| **state == State::Blocked).count();
    let first = states.iter().position(|state| *state == State::Blocked);
    match first {
        Some(first) if states.len() - blocked < needed => Course::Blocked(first),
        _ => Course::Waiting,
    }
}

/// The places, in input order, of the entries that the answer to a wait is about: all of them, the
/// first that came to it, or those that did.
pub fn answered(states: &[State], count: WaitCount, until: Until) -> Vec<usize> {
    let met = states.iter().enumerate().filter(|(_, state)| until.is_met_by(**state));
    let met = met.map(|(place, _)| place);
    match count {
        WaitCount::All => (0..states.len()).collect(),
        WaitCount::Any => met.take(1).collect(),
        WaitCount::AtLeast(_) => met.collect(),
    }
}

fn needed(entries: usize, count: WaitCount) -> usize {
    match count {
        WaitCount::All => entries,
        WaitCount::Any => entries.min(1),
        WaitCount::AtLeast(count) => entries.min(count as usize),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sortie_model::State::{
        Blocked, Completed, Disconnected, Failed, NotStarted, Running, Stopped, Suspended,
    };

    use super::*;
    use WaitCount::{All, Any, AtLeast};

    #[track_caller]
    fn check(states: &[State], count: WaitCount, expected: Course) {
        assert_eq!(course(states, count, Until::Settled), expected, "{states:?} {count:?}");
    }

    #[test]
    fn waiting_on_nothing_is_over_at_once() {
        for count in [All, Any, AtLeast(7)] {
            check(&[], count, Course::Over);
            assert!(answered(&[], count, Until::Settled).is_empty());
        }
    }

    #[test]
    fn all_waits_for_every_entry() {
        check(&[Completed, Running], All, Course::Waiting);
        check(&[Completed, NotStarted], All, Course::Waiting);
        check(&[Completed, Failed, Stopped], All, Course::Over);
    }

    #[test]
    fn settled_entries_end_a_wait_unless_finished_ones_are_asked_for() {
        let states = [Disconnected, Suspended];
        check(&states, All, Course::Over);
        assert_eq!(course(&states, All, Until::Finished), Course::Waiting);
        assert_eq!(course(&states, Any, Until::Finished), Course::Waiting);
    }

    #[test]
    fn any_answers_with_the_first_in_input_order() {
        let states = [Running, Failed, Completed];
        check(&states, Any, Course::Over);
        assert_eq!(answered(&states, Any, Until::Settled), [1]);
    }

    #[test]
    fn a_count_answers_with_those_that_came_to_it() {
        let states = [Completed, Running, Failed];
        check(&states, AtLeast(2), Course::Over);
        check(&states, AtLeast(3), Course::Waiting);
        assert_eq!(answered(&states, AtLeast(2), Until::Settled), [0, 2]);
    }

    #[test]
    fn a_count_beyond_the_entries_means_all_of_them() {
        check(&[Completed, Running], AtLeast(9), Course::Waiting);
        check(&[Completed, Failed], AtLeast(9), Course::Over);
        check(&[Running], AtLeast(0), Course::Over);
    }

    #[test]
    fn one_blocked_entry_is_a_deadlock_for_who_waits_for_all() {
        check(&[Running, Blocked, Completed], All, Course::Blocked(1));
    }

    #[test]
    fn who_waits_for_any_is_deadlocked_only_when_all_are_blocked() {
        check(&[Blocked, Running], Any, Course::Waiting);
        check(&[Blocked, Blocked], Any, Course::Blocked(0));
        check(&[Blocked, Completed], Any, Course::Over);
    }

    #[test]
    fn a_count_is_deadlocked_when_too_few_can_still_move() {
        check(&[Completed, Blocked, Running], AtLeast(2), Course::Waiting);
        check(&[Completed, Blocked, Blocked], AtLeast(2), Course::Blocked(1));
    }

    proptest! {
        #[test]
        fn a_wait_that_is_over_answers_with_enough(
            states in prop::collection::vec(prop::sample::select(State::ALL.to_vec()), 0..9),
            count in prop::sample::select(vec![All, Any, AtLeast(0), AtLeast(2), AtLeast(8)]),
            finished in any::<bool>(),
        ) {
            let until = Until::of(finished);
            let shown = answered(&states, count, until);
            match course(&states, count, until) {
                Course::Over => prop_assert!(shown.len() >= needed(states.len(), count)),
                Course::Blocked(place) => prop_assert_eq!(states[place], Blocked),
                Course::Waiting => {
                    let moving = |state: &State| !until.is_met_by(*state) && *state != Blocked;
                    prop_assert!(states.iter().any(moving));
                }
            }
        }
    }
}
