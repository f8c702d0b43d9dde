//! Ends, signals and kills. All that came in one turn is done together: where there are no control
//! groups, each look at the machine's processes costs the same for one child as for hundreds.

use std::collections::HashSet;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use sortie_exec::sys::control_group::Population;
use sortie_exec::sys::processes;
use sortie_exec::sys::spawn::SpawnFailure;
use sortie_model::Motion;
use sortie_model::facts::{Interruption, MemoryEnd, ProcessEnd, Stage};
use sortie_wire::guardian_proto::{ChildNumber, GuardianReport, Remainder};

use super::{Guardian, Waiting, weight};
use crate::child::{Child, Killing, Life, Sent};
use crate::keeper::Rest;
use crate::spawn::fork;
use crate::tree::{Main, Tree};

/// What was asked for in this turn.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Each with its number, and why it is sent where that is known.
    pub(super) signals: Vec<(ChildNumber, i32, Option<Interruption>)>,
    pub(super) kills: Vec<ChildNumber>,
    pub(super) finishes: Vec<ChildNumber>,
    pub(super) withdrawals: Vec<ChildNumber>,
    pub(super) moves: Vec<(ChildNumber, Motion)>,
}

/// The last program of a child has ended.
struct End {
    number: ChildNumber,
    end: ProcessEnd,
    stage: Stage,
}

impl Guardian {
    /// Collects every process that has ended, main processes and orphans that came to us, and
    /// reports the ends of children.
    pub(super) fn collect(&mut self) {
        let mut ends = Vec::new();
        while let Some((pid, end)) = processes::collect() {
            if let Some(number) = self.mains.remove(&pid)
                && let Some(end) = self.on_main_ended(number, pid, end)
            {
                ends.push(end);
            }
        }
        if !ends.is_empty() {
            self.report_ends(&ends);
        }
    }

    /// Goes on to the child's main program when its init command has ended well.
    fn on_main_ended(&mut self, number: ChildNumber, pid: Pid, end: ProcessEnd) -> Option<End> {
        let child = self.children.get_mut(&number)?;
        child.tree.set_main(Main::Collected(pid));
        let stage = child.stage();
        let goes_on = end == ProcessEnd::Exited { code: 0 } && child.sent == Sent::Nothing;
        let Life::Init(main) = std::mem::replace(&mut child.life, Life::Ended) else {
            return Some(End { number, end, stage });
        };
        if !goes_on {
            return Some(End { number, end, stage });
        }
        if child.moving.motion == Motion::Suspended {
            // In a frozen group it could not begin, and we would wait for it for ever.
            self.forest.resume(&[&child.tree], &self.mains);
        }
        match self.starter.start_main(&main, &self.forest, &child.tree) {
            Ok(pid) => {
                child.tree.set_main(Main::Ours(pid));
                child.life = Life::Main;
                self.mains.insert(pid, number);
                if let Some(keeper) = &mut self.keeper {
                    keeper.set_pid(number, pid.as_raw_nonzero().get().cast_unsigned());
                }
                self.suspend_anew(number);
                None
            }
            Err(SpawnFailure { step, errno }) => {
                let errno = errno.raw_os_error();
                let end = ProcessEnd::NotStarted { step, errno };
                Some(End { number, end, stage: Stage::Main })
            }
        }
    }

    fn report_ends(&mut self, ends: &[End]) {
        let numbers: Vec<_> = ends.iter().map(|end| end.number).collect();
        let counts = self.forest.count(&self.trees(&numbers), &self.mains);
        for (End { number, end, stage }, count) in ends.iter().zip(counts) {
            let memory = self.memory_end(*number, *end);
            let Some(child) = self.children.get(number) else { continue };
            let is_kept = self.is_kept(*number);
            let is_alone = count == 0;
            // Of a kept child more follows: what it wrote, and that nothing is left.
            let is_all = is_alone && !is_kept;
            let exited = GuardianReport::Exited {
                child: *number,
                end: *end,
                stage: *stage,
                memory,
                disturbance: child.disturbance(),
                remainder: if is_all { Remainder::Alone } else { Remainder::Others },
            };
            self.push(&exited);
            if is_kept && let Some(keeper) = &mut self.keeper {
                let rest = if is_alone { Rest::None { left_behind: 0 } } else { Rest::Some };
                keeper.on_exited(*number, exited, rest);
            }
            if is_alone {
                self.forget(*number);
            }
        }
    }

    fn memory_end(&mut self, number: ChildNumber, end: ProcessEnd) -> MemoryEnd {
        let kill = Signal::KILL.as_raw();
        let killed = matches!(end, ProcessEnd::Signalled { number, .. } if number == kill);
        match self.children.get(&number) {
            Some(child)
                if killed
                    && child.sent != Sent::Kill
                    && self.memory.explains_death(child.memory) =>
            {
                MemoryEnd::OutOfMemory
            }
            _ => MemoryEnd::No,
        }
    }

    /// Does what was asked for in this turn.
    pub(super) fn obey(&mut self) {
        let orders = std::mem::take(&mut self.orders);
        if !orders.signals.is_empty() || !orders.kills.is_empty() {
            // A program that has ended by now was not stopped by what follows.
            self.collect();
        }
        if !orders.signals.is_empty() {
            self.signal(&orders.signals);
        }
        // Behind the signals: what is let go finds them.
        self.begin_moves(orders.moves);
        if !orders.finishes.is_empty() {
            self.note_left_behind(&orders.finishes);
        }
        for number in self.queued(&orders.withdrawals) {
            self.report_failure(number, fork(Errno::CANCELED));
        }
        let mut kills = orders.finishes;
        let queued = self.queued(&orders.kills);
        for number in orders.kills {
            if queued.contains(&number) {
                self.report_failure(number, fork(Errno::CANCELED));
            } else {
                kills.push(number);
            }
        }
        if !kills.is_empty() {
            self.begin_kill(&kills);
        }
    }

    /// Takes those of these children out of the queue that still wait for their start.
    fn queued(&mut self, numbers: &[ChildNumber]) -> HashSet<ChildNumber> {
        let mut unknown: HashSet<_> =
            numbers.iter().filter(|number| !self.children.contains_key(number)).copied().collect();
        if unknown.is_empty() {
            return unknown;
        }
        let mut found = HashSet::new();
        let queued_bytes = &mut self.queued_bytes;
        self.queue.retain(|Waiting { request, .. }| {
            let taken = unknown.remove(&request.child);
            if taken {
                *queued_bytes = queued_bytes.saturating_sub(weight(request));
                found.insert(request.child);
            }
            !taken
        });
        found
    }

    fn signal(&mut self, signals: &[(ChildNumber, i32, Option<Interruption>)]) {
        let mut known = Vec::with_capacity(signals.len());
        for (number, signal, why) in signals {
            let (Some(child), Some(signal)) =
                (self.children.get_mut(number), processes::signal(*signal))
            else {
                continue;
            };
            if signal == Signal::KILL {
                child.sent = Sent::Kill;
            } else if child.sent == Sent::Nothing {
                child.sent = Sent::Signal;
            }
            if let (Some(why), Some(keeper)) = (why, &mut self.keeper) {
                keeper.on_interrupted(*number, *why);
            }
            known.push((*number, signal));
        }
        let targets: Vec<_> = known
            .iter()
            .filter_map(|(number, signal)| Some((&self.children.get(number)?.tree, *signal)))
            .collect();
        self.forest.signal(&targets, &self.mains);
    }

    /// Counts what is left of these children, and kills it.
    pub(super) fn finish(&mut self, numbers: &[ChildNumber]) {
        self.note_left_behind(numbers);
        self.begin_kill(numbers);
    }

    fn note_left_behind(&mut self, numbers: &[ChildNumber]) {
        let counts = self.forest.count(&self.trees(numbers), &self.mains);
        let known: Vec<_> =
            numbers.iter().filter(|number| self.children.contains_key(number)).collect();
        for (number, count) in known.into_iter().zip(counts) {
            if let Some(child) = self.children.get_mut(number)
                && child.killing.is_none()
            {
                child.left_behind = count;
            }
        }
    }

    fn begin_kill(&mut self, numbers: &[ChildNumber]) {
        let now = Instant::now();
        let numbers: HashSet<_> = numbers.iter().copied().collect();
        for number in &numbers {
            if let Some(child) = self.children.get_mut(number) {
                child.sent = Sent::Kill;
                child.killing.get_or_insert_with(|| Killing::begin(now));
                self.killing.insert(*number);
            }
        }
        self.kill(&numbers);
    }

    /// Kills again what was killed and is not gone.
    pub(super) fn kill_again(&mut self) {
        let now = Instant::now();
        let mut due = HashSet::new();
        for number in &self.killing {
            if let Some(child) = self.children.get_mut(number)
                && let Some(killing) = &mut child.killing
                && killing.again_at <= now
            {
                killing.again(now);
                due.insert(*number);
            }
        }
        if !due.is_empty() {
            self.kill(&due);
        }
    }

    fn kill(&mut self, numbers: &HashSet<ChildNumber>) {
        let mut trees: Vec<&mut Tree> = self
            .children
            .iter_mut()
            .filter(|(number, _)| numbers.contains(number))
            .map(|(_, child)| &mut child.tree)
            .collect();
        self.forest.kill(&mut trees, &self.mains);
        self.forget_gone(numbers);
    }

    /// Reports those of these children of which nothing is left.
    fn forget_gone(&mut self, numbers: &HashSet<ChildNumber>) {
        let is_over = |child: &Child| matches!(child.life, Life::Ended);
        let over: Vec<_> = numbers
            .iter()
            .filter(|number| self.children.get(number).is_some_and(is_over))
            .copied()
            .collect();
        if over.is_empty() {
            return;
        }
        let populations = self.forest.population(&self.trees(&over), &self.mains);
        for (number, population) in over.into_iter().zip(populations) {
            if population == Population::Empty {
                let left_behind = self.children.get(&number).map_or(0, |child| child.left_behind);
                if self.is_kept(number) {
                    if let Some(keeper) = &mut self.keeper {
                        keeper.on_tree_gone(number, left_behind);
                    }
                } else {
                    self.push(&GuardianReport::Gone { child: number, left_behind });
                }
                self.forget(number);
            }
        }
    }

    /// Reports something, if there is somebody to report to.
    pub(super) fn push(&mut self, report: &GuardianReport) {
        if self.serves() {
            self.outbox.push(report);
        }
    }

    fn forget(&mut self, number: ChildNumber) {
        self.killing.remove(&number);
        self.moving.remove(&number);
        if let Some(child) = self.children.remove(&number) {
            self.forest.retire(child.tree);
        }
        if self.children.is_empty() {
            self.forest.kill_unaccounted();
        }
    }

    /// The trees of those of these children that are known.
    pub(super) fn trees(&self, numbers: &[ChildNumber]) -> Vec<&Tree> {
        numbers.iter().filter_map(|number| Some(&self.children.get(number)?.tree)).collect()
    }
}
