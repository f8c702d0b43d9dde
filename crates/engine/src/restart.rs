//! Which children of one job start again when one of them ends, in which order, and when the job
//! gives up: the rules of OTP's `supervisor`, for children on any node.
//!
//! An end is judged by the child's [`RestartType`]. An end that asks for a restart is counted
//! against the job's intensity, and the strategy says who starts again with it. Under
//! `one-for-all` and `rest-for-one` that is a *round*: the siblings that run are stopped one after
//! another, the last one first, and when all are down (and the wait of the child that asked is
//! over) all start in child order. What else ends in between belongs to the same round, and
//! counts once. Under `rest-for-one` a child before the round is judged after it.
//!
//! What OTP does at once takes time here, since children are stopped through messages and their
//! ends come from several nodes in any order. So a child may end, or be stopped by its user, at any
//! moment of a round.

mod round;
mod rows;
#[cfg(test)]
mod tests;
mod waits;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

use sortie_model::restart::{RestartSpec, RestartType, StopSequence, Strategy};
use sortie_model::{ChildIncarnation, Ordinal};

use crate::peer::Uptime;
use crate::restart::round::Course;
use crate::restart::rows::{Phase, Rows};
use crate::restart::waits::Waits;
use crate::restart::window::{Verdict, Window};

/// How an incarnation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Well.
    Normal,
    /// Badly, or it could not start.
    Failure,
    /// By request. Of a child that was told to stop for a sibling's sake this is an end like any
    /// other; otherwise a user asked for it, and nothing follows.
    Stopped,
}

/// An incarnation ended, or will never begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildEnded {
    /// Whose.
    pub child: Ordinal,
    /// Which.
    pub incarnation: ChildIncarnation,
    /// How.
    pub exit: Exit,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartEffect {
    /// Start this incarnation, or let it wait for a slot: the one before it has ended.
    Start {
        /// Whose.
        child: Ordinal,
        /// Which.
        incarnation: ChildIncarnation,
    },
    /// Stop the child's present incarnation, and report its end whatever happens; also when it
    /// still waits for a slot, which it then never gets.
    Stop(Ordinal),
    /// The same for every child at once.
    StopAll,
    /// The child was to start again once too often, and fails as `restart_limit`. All others are
    /// stopped by the effects that follow, then the job is over and has failed.
    GiveUp {
        /// The child whose end was one too many.
        child: Ordinal,
        /// Restarts that are allowed ...
        restarts: u32,
        /// ... within this time.
        period: Duration,
    },
    /// No incarnation of the child follows: its last end is final.
    Settle(Ordinal),
}

/// Where effects are collected.
pub type Effects = Vec<RestartEffect>;

/// Whether more children may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Open,
    Closed,
}

/// The restart rules of one job, which it must be told everything about: it neither starts nor
/// stops anything itself.
///
/// An end costs the same however many children there are; a round, a stop of all and giving up
/// take a step per child. With a backoff an end costs a search among those that wait.
#[derive(Debug)]
pub struct Supervisor {
    strategy: Strategy,
    sequence: StopSequence,
    course: Course,
    list: List,
    rows: Rows,
    window: Window,
    waits: Waits,
    /// Ends to be judged after the present round, in the order in which they came.
    deferred: VecDeque<Ordinal>,
    /// Under `rest-for-one` nothing before this child starts anything again.
    floor: u32,
}

impl Supervisor {
    /// A job without children yet. `ordered` asks for children to be stopped one by one also where
    /// the strategy does not.
    pub fn new(spec: &RestartSpec, ordered: StopSequence) -> Self {
        let sequence = match ordered {
            StopSequence::OneByOne => StopSequence::OneByOne,
            StopSequence::AtOnce => spec.strategy.stop_sequence(),
        };
        Self {
            strategy: spec.strategy,
            sequence,
            course: Course::Steady,
            list: List::Open,
            rows: Rows::default(),
            window: Window::new(spec.intensity),
            waits: Waits::new(spec),
            deferred: VecDeque::new(),
            floor: 0,
        }
    }

    /// In which order all children are stopped.
    pub const fn sequence(&self) -> StopSequence {
        self.sequence
    }

    /// The incarnation that runs, ended last, or is to start.
    pub fn incarnation(&self, child: Ordinal) -> Option<ChildIncarnation> {
        self.rows.get(child).map(|row| row.incarnation)
    }

    /// Children that have not settled: of each an incarnation runs or may follow.
    pub const fn unsettled(&self) -> usize {
        self.rows.unsettled()
    }

    /// Whether the child has ended and is to start again by itself.
    pub fn is_to_start(&self, child: Ordinal) -> bool {
        matches!(self.rows.phase(child), Phase::Down | Phase::Deferred)
    }

    /// When the child starts again by itself, if it waits for that and the moment is known: not
    /// while its siblings are being stopped.
    pub fn starts_at(&self, child: Ordinal) -> Option<Uptime> {
        match self.course {
            _ if !self.is_to_start(child) => None,
            Course::Waiting(round) => Some(round.until),
            Course::Stopping(_) => None,
            _ => self.waits.until(child),
        }
    }

    /// Whether nothing of the child follows.
    pub fn is_settled(&self, child: Ordinal) -> bool {
        self.rows.phase(child) == Phase::Settled
    }

    /// When to call [`Supervisor::on_timer`]: earlier does nothing, later delays a start.
    pub fn next_wake(&self) -> Option<Uptime> {
        match self.course {
            Course::Waiting(round) => Some(round.until),
            _ => self.waits.next(),
        }
    }

    /// So many children more, behind the others. The caller starts their first incarnation, 0, when
    /// it wants to: until its end is reported it counts as running. A job that was stopped or gave
    /// up gets no more children: they settle without a word and must not be started.
    pub fn on_added(&mut self, count: u32, restart: RestartType) {
        let phase = if self.is_ending() { Phase::Settled } else { Phase::Up };
        (0..count).for_each(|_| self.rows.push(restart, phase));
    }

    /// A child that was added is in that incarnation since a former life of the job, which ended
    /// like that if it has. What was to start again is told to be ended once more.
    pub fn recover(&mut self, child: Ordinal, incarnation: ChildIncarnation, exit: Option<Exit>) {
        let Some(row) = self.rows.get(child) else { return };
        let phase = match (exit, row.restart, self.strategy) {
            (None, _, _) => Phase::Up,
            (
                Some(Exit::Normal),
                RestartType::Transient,
                Strategy::OneForAll | Strategy::RestForOne,
            ) => Phase::Kept,
            _ => Phase::Settled,
        };
        self.rows.put(child, incarnation, phase);
    }

    /// No more children are added.
    pub fn on_closed(&mut self, effects: &mut Effects) {
        self.list = List::Closed;
        self.settle_kept(effects);
    }

    /// The incarnation began to run: from here its life is measured, on which its next wait
    /// depends. Without this call it is measured from its [`RestartEffect::Start`].
    pub fn on_begun(&mut self, child: Ordinal, incarnation: ChildIncarnation, now: Uptime) {
        if self.incarnation(child) == Some(incarnation) {
            self.waits.on_begin(child, now);
        }
    }

    /// An incarnation ended. Only the first word about the present one counts. What waited until
    /// now or earlier starts before that, whether its timer was heard or not: otherwise the order
    /// of two messages would say whether this end belongs to the round that waited.
    pub fn on_ended(&mut self, end: ChildEnded, now: Uptime, effects: &mut Effects) {
        self.on_timer(now, effects);
        let ChildEnded { child, incarnation, exit } = end;
        let Some(row) = self.rows.get(child).filter(|row| row.incarnation == incarnation) else {
            return;
        };
        let belongs_to_round = self.is_being_stopped(child) && exit != Exit::Stopped;
        match row.phase {
            Phase::Up if self.is_ending() => self.settle(child, effects),
            Phase::Up if belongs_to_round => self.go_down(child, row.restart, effects),
            Phase::Up => self.judge(end, row.restart, now, effects),
            Phase::Stopping => self.go_down(child, row.restart, effects),
            Phase::Last => self.settle(child, effects),
            Phase::Down | Phase::Deferred | Phase::Kept | Phase::Settled => return,
        }
        self.proceed(now, effects);
    }

    /// A user stopped this child: no incarnation follows, not even with a sibling. What runs of it
    /// the caller stops itself, in the way the user asked for.
    pub fn on_stop(&mut self, child: Ordinal, effects: &mut Effects) {
        match self.rows.phase(child) {
            Phase::Up | Phase::Stopping => self.rows.set(child, Phase::Last),
            Phase::Down | Phase::Deferred | Phase::Kept => self.settle(child, effects),
            Phase::Last | Phase::Settled => return,
        }
        self.settle_kept(effects);
    }

    /// A user stopped the job: nothing starts any more. One by one, the effects say whom to stop
    /// next; at once, the caller stops all that runs itself. Stopping at once what is being
    /// stopped one by one ends the waiting.
    pub fn on_stop_all(&mut self, sequence: StopSequence, effects: &mut Effects) {
        if !self.is_ending() {
            self.end(sequence, effects);
        } else if sequence == StopSequence::AtOnce {
            self.course = Course::Ending { cursor: 0 };
        }
    }

    /// A wait is over, or may be.
    pub fn on_timer(&mut self, now: Uptime, effects: &mut Effects) {
        while let Some(child) = self.waits.pop_due(now) {
            self.start(child, now, effects);
        }
        self.proceed(now, effects);
    }

    fn judge(&mut self, end: ChildEnded, restart: RestartType, now: Uptime, effects: &mut Effects) {
        let child = end.child;
        match (end.exit, restart) {
            (Exit::Stopped, _) | (_, RestartType::Temporary) => self.settle(child, effects),
            (Exit::Normal, RestartType::Transient) => match self.strategy {
                Strategy::OneForOne => self.settle(child, effects),
                Strategy::OneForAll | Strategy::RestForOne => self.rows.set(child, Phase::Kept),
            },
            (Exit::Normal | Exit::Failure, RestartType::Permanent)
            | (Exit::Failure, RestartType::Transient) => match self.course {
                Course::Stopping(_) => {
                    self.rows.set(child, Phase::Deferred);
                    self.deferred.push_back(child);
                }
                _ => self.restart(child, now, effects),
            },
        }
    }

    /// The child's end asks for a restart.
    fn restart(&mut self, child: Ordinal, now: Uptime, effects: &mut Effects) {
        if self.window.add(now) == Verdict::Exceeded {
            self.give_up(child, effects);
            return;
        }
        self.rows.set(child, Phase::Down);
        let until = self.waits.on_restart(child, now);
        match self.strategy {
            Strategy::OneForOne if until <= now => self.start(child, now, effects),
            Strategy::OneForOne => self.waits.push(child),
            Strategy::OneForAll => self.begin_round(0, until),
            Strategy::RestForOne => self.begin_round(child.0, until),
        }
    }

    fn give_up(&mut self, child: Ordinal, effects: &mut Effects) {
        let intensity = self.window.intensity();
        let (restarts, period) = (intensity.restarts(), intensity.period());
        effects.push(RestartEffect::GiveUp { child, restarts, period });
        self.settle(child, effects);
        if self.sequence == StopSequence::AtOnce {
            effects.push(RestartEffect::StopAll);
        }
        self.end(self.sequence, effects);
    }

    fn start(&mut self, child: Ordinal, now: Uptime, effects: &mut Effects) {
        self.waits.on_begin(child, now);
        let incarnation = self.rows.raise(child);
        effects.push(RestartEffect::Start { child, incarnation });
    }

    fn settle(&mut self, child: Ordinal, effects: &mut Effects) {
        self.waits.forget(child);
        self.rows.set(child, Phase::Settled);
        effects.push(RestartEffect::Settle(child));
    }
}
