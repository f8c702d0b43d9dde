//! What follows an end, by the rules of `docs/semantics.md`, section 5.

use std::time::Duration;

use sortie_model::restart::{RestartType, Strategy};
use sortie_model::{EntryId, Reason, State};
use tokio::time::Instant;

use crate::simulation::family::{Course, Family, Member, Stand, Told};

impl Family {
    /// Restarts within the period that ends now.
    pub(super) fn recent(&self, now: Instant) -> usize {
        let period = self.rules.intensity.period();
        self.restarts.iter().filter(|then| now.duration_since(**then) <= period).count()
    }

    /// Waits that are over are over.
    pub(super) fn wake(&mut self, now: Instant) {
        match self.course {
            Course::Waiting(first, until) if until <= now => {
                self.course = Course::Steady;
                self.raise(|id, _| id >= first, Some(until));
            }
            Course::Steady if self.rules.strategy == Strategy::OneForOne => {
                self.raise(|_, member| member.streak.2 <= now, None);
            }
            _ => {}
        }
    }

    /// These wait no longer, since their own wait is over, or their round's.
    fn raise(&mut self, which: impl Fn(EntryId, &Member) -> bool, round: Option<Instant>) {
        for (id, member) in &mut self.members {
            if member.stand == Stand::Down && which(*id, member) {
                member.stand = Stand::Up;
                member.streak.1 = round.unwrap_or(member.streak.2);
            }
        }
    }

    /// An end is judged. Says whether it is one that the rules know.
    pub(super) fn judge(
        &mut self,
        (child, state): (EntryId, State),
        reason: Option<&Reason>,
        now: Instant,
    ) -> bool {
        let (stand, told) = self.stand(child);
        let perhaps = told == Told::Perhaps || self.told == Told::Perhaps;
        let limit = matches!(reason, Some(Reason::RestartLimit { .. }));
        self.change(child, |member| member.limit |= limit);
        if self.gives_up == Some(child) {
            self.gives_up = None;
            return limit;
        }
        if stand != Stand::Up {
            if perhaps {
                self.set(child, Stand::Settled);
            }
            // Stopped between two lives.
            return self.stand(child).0 == Stand::Settled && state == State::Stopped;
        }
        if perhaps && state != State::Stopped {
            self.blind = true;
            return true;
        }
        if self.course == Course::Ending || told != Told::No || self.told != Told::No {
            self.set(child, Stand::Settled);
            self.go_on(now);
            return true;
        }
        match self.course {
            Course::Stopping(first, _) if child >= first => {
                let comes_back = self.rules.restart != RestartType::Temporary;
                self.set(child, if comes_back { Stand::Down } else { Stand::Settled });
                self.go_on(now);
                true
            }
            _ => !self.judge_by_type(child, state, now) || limit,
        }
    }

    /// Says whether the job gives up.
    fn judge_by_type(&mut self, child: EntryId, state: State, now: Instant) -> bool {
        let stays = self.rules.strategy == Strategy::OneForOne;
        match (self.rules.restart, state) {
            (RestartType::Temporary, _) | (_, State::Stopped) => self.set(child, Stand::Settled),
            (RestartType::Transient, State::Completed) => {
                self.set(child, if stays { Stand::Settled } else { Stand::Kept });
            }
            _ if matches!(self.course, Course::Stopping(..)) => {
                self.set(child, Stand::Deferred);
                self.deferred.push(child);
            }
            _ => self.restart(child, now),
        }
        let gives_up = self.gives_up == Some(child);
        if gives_up {
            self.gives_up = None;
        }
        gives_up
    }

    fn restart(&mut self, child: EntryId, now: Instant) {
        self.restarts.push(now);
        if self.recent(now) > self.rules.intensity.restarts() as usize {
            self.set(child, Stand::Settled);
            self.gives_up = Some(child);
            self.end();
            return;
        }
        self.set(child, Stand::Down);
        let until = self.wait(child, now);
        let first = match self.rules.strategy {
            Strategy::OneForOne => {
                self.change(child, |member| member.streak.2 = until);
                if until <= now {
                    self.change(child, |member| {
                        (member.stand, member.streak.1) = (Stand::Up, now);
                    });
                }
                return;
            }
            Strategy::OneForAll => EntryId(0),
            Strategy::RestForOne => child,
        };
        let (first, until) = match self.course {
            Course::Waiting(known, later) => (first.min(known), until.max(later)),
            _ => (first, until),
        };
        for (_, member) in self.members.range_mut(first..) {
            if matches!(member.stand, Stand::Kept | Stand::Deferred) {
                member.stand = Stand::Down;
            }
        }
        self.course = Course::Stopping(first, until);
        self.go_on(now);
    }

    /// How long the child waits, by its restarts in a row.
    fn wait(&mut self, child: EntryId, now: Instant) -> Instant {
        let (Some(backoff), Some(member)) = (self.rules.backoff, self.members.get_mut(&child))
        else {
            return now;
        };
        let (row, began, _) = member.streak;
        let lived: Duration = now.duration_since(began);
        let row = if lived > self.rules.intensity.period() { 0 } else { row };
        let until = now + backoff.wait(row);
        member.streak = (row + 1, began, until);
        until
    }

    /// A round goes on when nothing of it runs any more.
    fn go_on(&mut self, now: Instant) {
        while let Course::Stopping(first, until) = self.course {
            if self.members.range(first..).any(|(_, member)| member.stand == Stand::Up) {
                return;
            }
            // Lives are measured from here where the last sibling was down after the wait.
            self.course = Course::Waiting(first, until.max(now));
            self.wake(now);
            let mut deferred = std::mem::take(&mut self.deferred).into_iter();
            let next = deferred.find(|child| self.stand(*child).0 == Stand::Deferred);
            self.deferred = deferred.collect();
            let Some(child) = next else { return };
            self.restart(child, now);
        }
    }
}
