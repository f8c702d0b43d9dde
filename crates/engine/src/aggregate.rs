//! When a parent counts as what: its state is a pure function of how many of its children are in
//! which state (`docs/semantics.md`, section 2.2).

use sortie_model::State;
use sortie_model::view::Tally;

/// How many children are in which state. Each change costs the same, however many children there
/// are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCounts {
    by_state: [u64; State::ALL.len()],
}

impl StateCounts {
    /// Counts one child more in that state.
    pub fn add(&mut self, state: State) {
        self.add_many(state, 1);
    }

    /// Counts so many children more in that state.
    pub fn add_many(&mut self, state: State, count: u64) {
        let slot = self.slot(state);
        *slot = slot.saturating_add(count);
    }

    /// One child went from a state to another. `from` must have been counted.
    pub fn change(&mut self, from: State, to: State) {
        let slot = self.slot(from);
        debug_assert!(*slot > 0, "a child left {from}, in which none is counted");
        *slot = slot.saturating_sub(1);
        self.add(to);
    }

    /// Children in that state.
    pub fn of(&self, state: State) -> u64 {
        self.by_state.get(state as usize).copied().unwrap_or(0)
    }

    /// All children.
    pub fn total(&self) -> u64 {
        self.by_state.iter().sum()
    }

    /// Children that are finished.
    pub fn finished(&self) -> u64 {
        self.sum(State::is_finished)
    }

    /// Children that will not move without an outside act, finished ones included.
    pub fn settled(&self) -> u64 {
        self.sum(State::is_settled)
    }

    /// The counts as a view shows them.
    pub const fn tally(&self, open: bool) -> Tally {
        Tally { by_state: self.by_state, open }
    }

    fn sum(&self, test: impl Fn(State) -> bool) -> u64 {
        State::ALL.into_iter().filter(|state| test(*state)).map(|state| self.of(state)).sum()
    }

    fn any(&self, states: &[State]) -> bool {
        states.iter().any(|state| self.of(*state) > 0)
    }

    #[expect(clippy::indexing_slicing, reason = "the array has one place per state")]
    fn slot(&mut self, state: State) -> &mut u64 {
        &mut self.by_state[state as usize]
    }
}

impl FromIterator<State> for StateCounts {
    fn from_iter<I: IntoIterator<Item = State>>(states: I) -> Self {
        let mut counts = Self::default();
        states.into_iter().for_each(|state| counts.add(state));
        counts
    }
}

/// What the parent itself was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// To stop.
    Stop,
    /// To suspend.
    Suspend,
}

/// Children that may yet come or begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Whether more children may come.
    pub open: bool,
    /// Children that have not started, and cannot before a resume.
    pub held: u64,
    /// Some were to come and never will, since their input broke off.
    pub broke_off: bool,
}

/// The parent's state: the first rule that matches. What a suspension holds back counts as
/// suspended: children that have not started and, when the parent itself was told to suspend, those
/// that may yet come.
pub fn parent_state(counts: &StateCounts, outlook: Outlook, told: Told) -> State {
    let Outlook { open, held, broke_off } = outlook;
    let moving = [State::Running, State::Stopping, State::Suspending];
    if counts.any(&[State::Blocked]) {
        return State::Blocked;
    }
    let closed_by_suspension = open && told == Told::Suspend;
    let begins = counts.of(State::NotStarted) > held || (open && !closed_by_suspension);
    if begins || counts.any(&moving) {
        return match told {
            Told::Stop => State::Stopping,
            Told::Suspend => State::Suspending,
            Told::Nothing => State::Running,
        };
    }
    if counts.any(&[State::Disconnected]) {
        return State::Disconnected;
    }
    if held > 0 || closed_by_suspension {
        return State::Suspended;
    }
    let settled = [State::Suspended, State::Failed, State::Stopped];
    match settled.into_iter().find(|state| counts.any(&[*state])) {
        // What was stopped as a whole wanted no more of them.
        None | Some(State::Stopped) if broke_off && told != Told::Stop => State::Failed,
        first => first.unwrap_or(State::Completed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use sortie_model::State::{
        Blocked, Completed, Disconnected, Failed, NotStarted, Running, Stopped, Stopping,
        Suspended, Suspending,
    };

    use super::*;

    const CLOSED: Outlook = Outlook { open: false, held: 0, broke_off: false };

    #[track_caller]
    fn check(children: &[State], told: Told, expected: State) {
        let counts = children.iter().copied().collect();
        assert_eq!(parent_state(&counts, CLOSED, told), expected, "{children:?} {told:?}");
    }

    #[track_caller]
    fn check_open(children: &[State], told: Told, expected: State) {
        let counts = children.iter().copied().collect();
        let open = Outlook { open: true, ..CLOSED };
        assert_eq!(parent_state(&counts, open, told), expected, "{children:?}… {told:?}");
    }

    #[test]
    fn a_list_that_broke_off_does_not_end_well_unless_it_was_stopped() {
        let check = |children: &[State], told, expected| {
            let counts = children.iter().copied().collect();
            let outlook = Outlook { broke_off: true, ..CLOSED };
            assert_eq!(parent_state(&counts, outlook, told), expected, "{children:?} {told:?}");
        };
        check(&[Completed], Told::Nothing, Failed);
        check(&[], Told::Nothing, Failed);
        check(&[Completed, Stopped], Told::Nothing, Failed);
        check(&[Completed, Running], Told::Nothing, Running);
        check(&[Completed, Suspended], Told::Nothing, Suspended);
        check(&[Completed, Stopped], Told::Stop, Stopped);
        check(&[Completed], Told::Stop, Completed);
    }

    #[test]
    fn an_open_list_counts_as_a_child_that_has_not_started() {
        check_open(&[], Told::Nothing, Running);
        check_open(&[Completed, Failed], Told::Nothing, Running);
        check_open(&[Completed], Told::Stop, Stopping);
        check_open(&[Blocked], Told::Nothing, Blocked);
        check(&[], Told::Nothing, Completed);
    }

    #[test]
    fn what_a_suspension_holds_back_counts_as_suspended() {
        let check = |children: &[State], held, open, expected| {
            let counts = children.iter().copied().collect();
            let state =
                parent_state(&counts, Outlook { open, held, broke_off: false }, Told::Suspend);
            assert_eq!(state, expected, "{children:?} {held} {open}");
        };
        check(&[Suspended, NotStarted, NotStarted], 2, false, Suspended);
        check(&[Completed, NotStarted], 1, false, Suspended);
        check(&[Failed], 0, true, Suspended);
        check(&[Suspended, NotStarted, NotStarted], 1, false, Suspending);
        check(&[Running, NotStarted], 1, true, Suspending);
        check(&[Disconnected, NotStarted], 1, false, Disconnected);
        check_open(&[Suspended], Told::Nothing, Running);
    }

    #[test]
    fn one_blocked_child_blocks_the_parent() {
        check(&[Running, Blocked, Failed, Disconnected], Told::Nothing, Blocked);
        check(&[Blocked, Stopping], Told::Stop, Blocked);
    }

    #[test]
    fn a_parent_runs_while_any_child_moves() {
        for moving in [NotStarted, Running, Stopping, Suspending] {
            check(&[moving, Failed, Stopped, Disconnected, Suspended], Told::Nothing, Running);
            check(&[moving, Completed], Told::Stop, Stopping);
            check(&[moving, Completed], Told::Suspend, Suspending);
        }
    }

    #[test]
    fn failed_siblings_of_a_disconnected_child_do_not_show_yet() {
        check(&[Disconnected, Failed, Stopped, Suspended], Told::Nothing, Disconnected);
    }

    #[test]
    fn a_suspended_child_hides_finished_ones() {
        check(&[Suspended, Failed, Completed], Told::Suspend, Suspended);
    }

    #[test]
    fn one_failed_child_fails_the_parent_only_when_all_are_done() {
        check(&[Failed, Running], Told::Nothing, Running);
        check(&[Failed, Completed], Told::Nothing, Failed);
    }

    #[test]
    fn failed_beats_stopped() {
        check(&[Stopped, Failed, Completed], Told::Stop, Failed);
    }

    #[test]
    fn one_stopped_child_stops_the_parent_also_when_nobody_told_it() {
        check(&[Completed, Stopped], Told::Nothing, Stopped);
    }

    #[test]
    fn all_well_is_completed_also_when_the_stop_came_late() {
        check(&[Completed, Completed], Told::Nothing, Completed);
        check(&[Completed], Told::Stop, Completed);
    }

    /// The rules read off the page, over the list of children itself.
    fn slow(children: &[State], outlook: Outlook, told: Told) -> State {
        let Outlook { open, held, broke_off } = outlook;
        let fails = broke_off && told != Told::Stop;
        let mut children = children.to_vec();
        if open {
            children.push(if told == Told::Suspend { Suspended } else { NotStarted });
        }
        let waiting = children.iter_mut().filter(|state| **state == NotStarted);
        waiting.take(held as usize).for_each(|state| *state = Suspended);
        if children.is_empty() {
            return if fails { Failed } else { Completed };
        }
        let any = |state| children.contains(&state);
        if any(Blocked) {
            return Blocked;
        }
        if any(NotStarted) || any(Running) || any(Stopping) || any(Suspending) {
            return match told {
                Told::Stop => Stopping,
                Told::Suspend => Suspending,
                Told::Nothing => Running,
            };
        }
        for state in [Disconnected, Suspended, Failed, Stopped] {
            if any(state) {
                return if fails && state == Stopped { Failed } else { state };
            }
        }
        if fails { Failed } else { Completed }
    }

    fn state() -> impl Strategy<Value = State> {
        prop::sample::select(State::ALL.to_vec())
    }

    fn told() -> impl Strategy<Value = Told> {
        prop::sample::select(vec![Told::Nothing, Told::Stop, Told::Suspend])
    }

    proptest! {
        #[test]
        fn counts_agree_with_the_list_of_children_after_every_change(
            start in vec(state(), 0..6),
            steps in vec((any::<Index>(), state(), any::<bool>()), 0..30),
            (open, broke_off) in any::<(bool, bool)>(),
            held in 0_u64..3,
            told in told(),
        ) {
            let mut children = start;
            let mut counts: StateCounts = children.iter().copied().collect();
            for (place, to, grows) in steps {
                if grows || children.is_empty() {
                    children.push(to);
                    counts.add(to);
                } else {
                    let child = place.index(children.len());
                    counts.change(children[child], to);
                    children[child] = to;
                }
                let held = held.min(counts.of(NotStarted));
                let outlook = Outlook { open, held, broke_off };
                let expected = slow(&children, outlook, told);
                prop_assert_eq!(parent_state(&counts, outlook, told), expected);
            }
            prop_assert_eq!(counts, children.iter().copied().collect());
            let finished = children.iter().filter(|state| state.is_finished()).count() as u64;
            let tally = counts.tally(open);
            prop_assert_eq!((counts.finished(), tally.finished()), (finished, finished));
            let total = children.len() as u64;
            prop_assert_eq!((counts.total(), tally.total()), (total, total));
        }
    }
}
