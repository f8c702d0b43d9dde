//! What the loop does for kept children besides.

use std::os::fd::OwnedFd;

use sortie_model::Motion;
use sortie_model::facts::Interruption;
use sortie_wire::guardian_proto::{
    ChildNumber, Deadline, DeadlineAct, GuardianReport, StandardInput,
};

use super::Guardian;
use crate::keeper::{Keeper, Need};

impl Guardian {
    pub(super) fn is_kept(&self, number: ChildNumber) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| keeper.is_kept(number))
    }

    pub(super) fn end_drain(&mut self, number: ChildNumber) {
        if let Some(keeper) = &mut self.keeper {
            keeper.end_drain(number);
        }
    }

    /// What is due with a child while no daemon is there. Of one that waits for its start it counts
    /// from there.
    pub(super) fn set_deadline(&mut self, child: ChildNumber, deadline: Option<Deadline>) {
        let Some(keeper) = &mut self.keeper else { return };
        if keeper.is_kept(child) {
            return keeper.set_deadline(child, deadline);
        }
        // As a rule the last one that came.
        let waiting = self.queue.iter_mut().rev().find(|waiting| waiting.request.child == child);
        if let Some(waiting) = waiting {
            waiting.deadline = deadline;
        }
    }

    /// Keeps a child's pipes, and passes the daemon's end of its input on.
    pub(super) fn begin_keeping(
        &mut self,
        (number, pid): (ChildNumber, u32),
        pipes: Vec<OwnedFd>,
        (input, given): (StandardInput, Option<OwnedFd>),
    ) {
        let mut pipes = pipes.into_iter();
        let (Some(output), Some(error), Some(keeper)) =
            (pipes.next(), pipes.next(), &mut self.keeper)
        else {
            return;
        };
        keeper.begin(number, (pid, [output, error]), pipes.next(), &self.watcher);
        let given = given.into_iter().collect();
        self.outbox.push_with(&GuardianReport::SpawnedKept { child: number, pid, input }, given);
    }

    /// Goes on with ends and writes that wait for something, and tells the daemon what is new.
    pub(super) fn tend(&mut self) {
        self.dismiss_silent();
        self.keep_deadlines();
        let Some(keeper) = &mut self.keeper else { return };
        keeper.retry(&self.watcher);
        let mut finishes = Vec::new();
        for need in keeper.needs(&self.watcher) {
            match need {
                Need::Finish(number) => finishes.push(number),
                Need::Completion(number) => self.complete(number),
            }
        }
        finishes.retain(|number| {
            self.children.get(number).is_some_and(|child| child.killing.is_none())
        });
        if !finishes.is_empty() {
            self.finish(&finishes);
            // Often nothing is left at once.
            let needs = self.keeper.as_mut().map(|keeper| keeper.needs(&self.watcher));
            for need in needs.unwrap_or_default() {
                if let Need::Completion(number) = need {
                    self.complete(number);
                }
            }
        }
        self.report_news();
    }

    /// Does what is due while no daemon is there that would.
    fn keep_deadlines(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        let due = keeper.take_due();
        if due.is_empty() {
            return;
        }
        for (number, act) in due {
            match act {
                DeadlineAct::Kill => {
                    keeper.end_drain(number);
                    self.orders.kills.push(number);
                }
                DeadlineAct::Ask { signal, .. } => {
                    self.orders.signals.push((number, signal, Some(Interruption::Timeout)));
                    // What stands still would not find it.
                    self.orders.moves.push((number, Motion::Running));
                }
            }
        }
        self.obey();
    }

    fn complete(&mut self, number: ChildNumber) {
        let reports = self.keeper.as_mut().map(|keeper| keeper.complete(number, &self.watcher));
        self.push_if_served(reports.unwrap_or_default());
    }

    fn report_news(&mut self) {
        if self.outbox.is_full() {
            return;
        }
        let news = self.keeper.as_mut().map(Keeper::take_news);
        self.push_if_served(news.unwrap_or_default());
    }

    /// Without a daemon nobody is to be told: the next one hears everything from its beginning.
    fn push_if_served(&mut self, reports: Vec<GuardianReport>) {
        if self.serves() {
            for report in reports {
                self.outbox.push(&report);
            }
        }
    }
}
