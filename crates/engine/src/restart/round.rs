//! A round stops a child's siblings and starts them again with it; the end of a job stops all and
//! starts none.

use std::ops::Range;

use sortie_model::Ordinal;
use sortie_model::restart::{RestartType, StopSequence, Strategy};

use crate::peer::Uptime;
use crate::restart::rows::Phase;
use crate::restart::{Effects, List, RestartEffect, Supervisor};

/// Children that start again together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// The first of them.
    first: u32,
    /// One past the last of them: children that are added later run on.
    end: u32,
    /// One past the last of them that may still run.
    cursor: u32,
    /// Until when they wait in any case.
    pub(super) until: Uptime,
}

/// What goes on in the whole job.
#[derive(Debug, Clone, Copy)]
pub(super) enum Course {
    /// Each child runs, waits or has ended by itself.
    Steady,
    /// A round's children are being stopped.
    Stopping(Round),
    /// A round's children are down, and start when their wait is over.
    Waiting(Round),
    /// The job gave up or was stopped.
    Ending {
        /// One past the last child that may still have to be told to stop.
        cursor: u32,
    },
}

impl Supervisor {
    /// Whether nothing starts any more: the job gave up or was stopped.
    pub(crate) const fn is_ending(&self) -> bool {
        matches!(self.course, Course::Ending { .. })
    }

    /// Whether the child is one of those that the present round stops.
    pub(super) fn is_being_stopped(&self, child: Ordinal) -> bool {
        match self.course {
            Course::Stopping(round) => (round.first..round.end).contains(&child.0),
            _ => false,
        }
    }

    /// All children from `first` on start again together, those included that have ended. A round
    /// that only waits becomes part of this one.
    pub(super) fn begin_round(&mut self, first: u32, until: Uptime) {
        let end = self.rows.end();
        let (first, until) = match self.course {
            Course::Waiting(round) => (first.min(round.first), until.max(round.until)),
            _ => (first, until),
        };
        for child in (first..end).map(Ordinal) {
            if matches!(self.rows.phase(child), Phase::Kept | Phase::Deferred) {
                self.rows.set(child, Phase::Down);
            }
        }
        self.course = Course::Stopping(Round { first, end, cursor: end, until });
    }

    /// A child ended that starts again with its siblings, if it ever does.
    pub(super) fn go_down(&mut self, child: Ordinal, restart: RestartType, effects: &mut Effects) {
        match restart {
            RestartType::Temporary => self.settle(child, effects),
            RestartType::Permanent | RestartType::Transient => self.rows.set(child, Phase::Down),
        }
    }

    /// Nothing starts any more, and all that runs is stopped.
    pub(super) fn end(&mut self, sequence: StopSequence, effects: &mut Effects) {
        for child in (0..self.rows.end()).map(Ordinal) {
            match self.rows.phase(child) {
                Phase::Stopping => self.rows.set(child, Phase::Last),
                Phase::Down | Phase::Deferred | Phase::Kept => self.settle(child, effects),
                Phase::Up | Phase::Last | Phase::Settled => {}
            }
        }
        self.deferred.clear();
        let cursor = match sequence {
            StopSequence::OneByOne => self.rows.end(),
            StopSequence::AtOnce => 0,
        };
        self.course = Course::Ending { cursor };
        self.stop_on(effects);
    }

    /// Goes as far as it can without another end or a timer.
    pub(super) fn proceed(&mut self, now: Uptime, effects: &mut Effects) {
        loop {
            self.stop_on(effects);
            match self.course {
                Course::Waiting(round) if round.until <= now => {
                    self.start_round(round, now, effects);
                }
                Course::Steady | Course::Waiting(_) => match self.next_deferred() {
                    Some(child) => self.restart(child, now, effects),
                    None => break,
                },
                Course::Stopping(_) | Course::Ending { .. } => break,
            }
        }
        self.settle_kept(effects);
    }

    /// Tells the next child to stop if the one before has ended.
    fn stop_on(&mut self, effects: &mut Effects) {
        match self.course {
            Course::Stopping(mut round) => {
                round.cursor = self.stop_last(round.first..round.cursor, Phase::Stopping, effects);
                self.course = if round.cursor > round.first {
                    Course::Stopping(round)
                } else {
                    Course::Waiting(round)
                };
            }
            Course::Ending { cursor } => {
                let cursor = self.stop_last(0..cursor, Phase::Last, effects);
                self.course = Course::Ending { cursor };
            }
            Course::Steady | Course::Waiting(_) => {}
        }
    }

    /// Tells the last of these children that runs to stop, unless it was told; all behind it are
    /// down. Returns one past it, or where the children begin if none of them runs.
    fn stop_last(&mut self, children: Range<u32>, told: Phase, effects: &mut Effects) -> u32 {
        for child in children.clone().rev().map(Ordinal) {
            match self.rows.phase(child) {
                Phase::Up => {
                    self.rows.set(child, told);
                    effects.push(RestartEffect::Stop(child));
                    return child.0 + 1;
                }
                Phase::Stopping | Phase::Last => return child.0 + 1,
                Phase::Down | Phase::Deferred | Phase::Kept | Phase::Settled => {}
            }
        }
        children.start
    }

    fn start_round(&mut self, round: Round, now: Uptime, effects: &mut Effects) {
        self.course = Course::Steady;
        for child in (round.first..round.end).map(Ordinal) {
            if self.rows.phase(child) == Phase::Down {
                self.start(child, now, effects);
            }
        }
    }

    /// The first child whose end is still to be judged: no round took it along.
    fn next_deferred(&mut self) -> Option<Ordinal> {
        while let Some(child) = self.deferred.pop_front() {
            if self.rows.phase(child) == Phase::Deferred {
                return Some(child);
            }
        }
        None
    }

    /// Settles the children that ended well and that no sibling can start again any more.
    pub(super) fn settle_kept(&mut self, effects: &mut Effects) {
        if self.rows.kept() == 0 {
            return;
        }
        let settled = match self.strategy {
            Strategy::OneForAll if self.rows.triggers() == 0 && self.list == List::Closed => {
                0..self.rows.end()
            }
            Strategy::RestForOne => {
                let from = self.floor;
                while self.floor < self.rows.end() && !self.rows.is_trigger(Ordinal(self.floor)) {
                    self.floor += 1;
                }
                from..self.floor
            }
            Strategy::OneForAll | Strategy::OneForOne => return,
        };
        for child in settled.map(Ordinal) {
            if self.rows.phase(child) == Phase::Kept {
                self.settle(child, effects);
            }
        }
    }
}
