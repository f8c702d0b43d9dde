//! P15 as a slow model: what a job's watcher may hear of its children, one end notice per
//! incarnation, and which child starts again when.
//!
//! It hears what its node's watcher hears and nothing else, and knows the rules of
//! `docs/semantics.md`, section 5, by themselves: lists are searched from end to end, nothing is
//! kept that can be computed.

mod judge;

use std::collections::BTreeMap;

use sortie_model::restart::{RestartSpec, StopSequence, Strategy};
use sortie_model::{EntryId, Reason, State};
use tokio::time::Instant;

use crate::simulation::Promise;

/// What is wrong, and by which promise.
type Wrong = (Promise, String);

/// Where a child stands by the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Runs, waits for its turn, or was told to stop.
    Up,
    /// Ended, and starts again with its round or when its wait is over.
    Down,
    /// Ended while a round stopped others, and is judged after it.
    Deferred,
    /// Ended well: starts again only with a sibling.
    Kept,
    /// Nothing follows.
    Settled,
}

/// Whether somebody told a child or the job to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Told {
    #[default]
    No,
    /// It is on its way, and may have been heard.
    Perhaps,
    /// It was heard.
    Yes,
}

/// One child.
#[derive(Debug)]
struct Member {
    /// What was heard of it last.
    state: State,
    /// End notices.
    ends: u32,
    stand: Stand,
    told: Told,
    /// It must be heard that it starts again.
    due: bool,
    /// It is said to have started again too often.
    limit: bool,
    /// Somebody who waited was told that nothing follows.
    claimed: bool,
    /// Restarts in a row, the beginning of its present life, and the end of its wait.
    streak: (u32, Instant, Instant),
}

impl Member {
    fn new(now: Instant) -> Self {
        let (state, stand, told) = (State::NotStarted, Stand::Up, Told::No);
        Self {
            state,
            ends: 0,
            stand,
            told,
            due: false,
            limit: false,
            claimed: false,
            streak: (0, now, now),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Steady,
    /// Children from that one on are being stopped, and wait until then at least.
    Stopping(EntryId, Instant),
    /// They are down, and wait.
    Waiting(EntryId, Instant),
    /// Nothing starts any more.
    Ending,
}

/// A job's children as its watchers see them.
#[derive(Debug)]
pub(super) struct Family {
    rules: RestartSpec,
    ordered: bool,
    members: BTreeMap<EntryId, Member>,
    course: Course,
    told: Told,
    restarts: Vec<Instant>,
    /// Children to be judged after the round, as they ended.
    deferred: Vec<EntryId>,
    /// The child whose end was one too many, until it was heard.
    gives_up: Option<EntryId>,
    /// What comes next depends on what nobody here can see: only notices are counted.
    blind: bool,
}

impl Family {
    /// A job whose children have these numbers; with more to come if none.
    pub(super) fn new(
        (rules, sequence): (RestartSpec, StopSequence),
        children: Option<(EntryId, u64)>,
    ) -> Self {
        let one_by_one =
            [sequence, rules.strategy.stop_sequence()].contains(&StopSequence::OneByOne);
        let mut family = Self {
            rules,
            ordered: one_by_one,
            members: BTreeMap::new(),
            course: Course::Steady,
            told: Told::No,
            restarts: Vec::new(),
            deferred: Vec::new(),
            gives_up: None,
            // Whom a round takes along depends on which children there are.
            blind: children.is_none() && rules.strategy != Strategy::OneForOne,
        };
        if let Some((first, count)) = children {
            for number in 0..count {
                family.members.insert(EntryId(first.0 + number), Member::new(Instant::now()));
            }
        }
        family
    }

    /// The job, or one child, is told to stop: perhaps, or for sure.
    pub(super) fn tell(&mut self, child: Option<EntryId>, told: Told) {
        if !self.blind {
            self.wake(Instant::now());
        }
        let Some(child) = child else {
            self.told = told;
            if told == Told::Yes {
                self.end();
            }
            return;
        };
        let new = || Member::new(Instant::now());
        let member = self.members.entry(child).or_insert_with(new);
        member.told = told;
        if told == Told::Yes && !matches!(member.stand, Stand::Up) {
            (member.stand, member.due) = (Stand::Settled, false);
        }
    }

    /// A waiter was told that nothing follows of the job, or of one child.
    pub(super) fn claim(&mut self, child: Option<EntryId>) {
        let wanted = |id: &EntryId| child.is_none_or(|child| child == *id);
        let members = self.members.iter_mut().filter(|(id, _)| wanted(id));
        members.for_each(|(_, member)| member.claimed = true);
    }

    /// All are told at once, whatever was ordered.
    pub(super) const fn tell_at_once(&mut self) {
        self.ordered = false;
    }

    /// Only notices count from now on.
    pub(super) const fn look_away(&mut self) {
        self.blind = true;
    }

    fn end(&mut self) {
        self.course = Course::Ending;
        for member in self.members.values_mut() {
            if matches!(member.stand, Stand::Down | Stand::Deferred | Stand::Kept) {
                (member.stand, member.due) = (Stand::Settled, false);
            }
        }
    }

    /// End notices that came of a child.
    pub(super) fn ends(&self, child: EntryId) -> u32 {
        self.members.get(&child).map_or(0, |member| member.ends)
    }

    /// A watcher hears of a child.
    pub(super) fn hear(
        &mut self,
        (child, state): (EntryId, State),
        reason: Option<&Reason>,
        now: Instant,
    ) -> Result<(), Wrong> {
        let was = self.members.entry(child).or_insert_with(|| Member::new(now)).state;
        let said = |text: &str| format!("child {child}, {was:?} then {state:?}: {text}");
        let at = |text: &str| Err((Promise::P15, said(text)));
        if was.is_finished() && state.is_finished() {
            let promise = if was == state { Promise::P15 } else { Promise::P3 };
            return Err((promise, said("two end notices of one incarnation")));
        }
        if self.members.get(&child).is_some_and(|member| member.claimed) {
            return at("a waiter was told that nothing follows");
        }
        if !self.blind {
            self.wake(now);
        }
        let (stand, told) = self.stand(child);
        let perhaps = told == Told::Perhaps || self.told == Told::Perhaps;
        match state {
            _ if state.is_finished() => {
                self.change(child, |member| (member.ends, member.state) = (member.ends + 1, state));
                if !self.blind && !self.judge((child, state), reason, now) {
                    let (course, recent) = (self.course, self.recent(now));
                    return at(&format!(
                        "{reason:?}, {stand:?}, {told:?}, {course:?}, {recent} restarts of late"
                    ));
                }
            }
            _ if self.blind || perhaps => {}
            State::NotStarted => {
                let due = self.members.get(&child).is_some_and(|member| member.due);
                if !due && stand != Stand::Up {
                    return at(&format!("{stand:?}, it must not start again: {:?}", self.course));
                }
                self.change(child, |member| member.due = false);
            }
            _ => {
                if was == State::NotStarted && !matches!(stand, Stand::Up) {
                    return at(&format!("{stand:?}, it must not begin yet: {:?}", self.course));
                }
                if was == State::NotStarted {
                    self.change(child, |member| member.streak.1 = now);
                }
                if state == State::Stopping
                    && self.ordered
                    && told == Told::No
                    && let Some(later) = self.later_than(child)
                {
                    return at(&format!("stopped before {later}, which comes after it"));
                }
            }
        }
        self.change(child, |member| member.state = state);
        Ok(())
    }

    /// What must have happened once time went on.
    pub(super) fn audit(&self) -> Result<(), String> {
        if self.blind {
            return Ok(());
        }
        let limit = self.members.iter().find(|(_, member)| member.limit);
        if let (Some((id, _)), false) = (limit, self.course == Course::Ending) {
            let restarts = self.restarts.len();
            return Err(format!("gave up on child {id} after {restarts} restarts, within limits"));
        }
        let due = self.members.iter().find(|(_, member)| member.due && member.told == Told::No);
        match due {
            Some((id, member)) if self.told == Told::No => {
                Err(format!("child {id} ended {:?} and does not start again", member.state))
            }
            _ => Ok(()),
        }
    }

    fn change(&mut self, child: EntryId, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(&child) {
            change(member);
        }
    }

    fn stand(&self, child: EntryId) -> (Stand, Told) {
        let member = self.members.get(&child);
        member.map_or((Stand::Settled, Told::No), |member| (member.stand, member.told))
    }

    fn set(&mut self, child: EntryId, stand: Stand) {
        let again = matches!(stand, Stand::Down | Stand::Deferred);
        self.change(child, |member| {
            (member.stand, member.due) = (stand, again && member.state.is_finished());
        });
    }

    /// A child behind this one that is up, where they are stopped in order.
    fn later_than(&self, child: EntryId) -> Option<EntryId> {
        let mut behind = self.members.iter().filter(|(id, member)| {
            **id > child && member.stand == Stand::Up && !member.state.is_finished()
        });
        behind.next().map(|(id, _)| *id)
    }
}
