//! Children that start again: a parent between its rows and the restart rules
//! (`crate::restart`; `docs/semantics.md`, section 5).

use sortie_model::restart::{RestartSpec, StopSequence};
use sortie_model::spec::{JobSpec, StopSpec};
use sortie_model::{ChildIncarnation, Ordinal, Reason, Seq, State, Timestamp, limits};
use sortie_wire::host_proto::{ChildAgain, ChildOutcome, ChildSet, Verdict};

use crate::aggregate::Told;
use crate::parent_job::row::Phase;
use crate::parent_job::{Effects, JobEffect, ParentJob};
use crate::peer::Uptime;
use crate::placement::NodeIndex;
use crate::restart::{ChildEnded, Exit, RestartEffect, Supervisor};

/// The restart rules of a job, with what they said and was not done yet.
#[derive(Debug)]
pub(super) struct Supervision {
    rules: Supervisor,
    orders: Vec<RestartEffect>,
    /// When the job asked last to be woken.
    wake: Option<Uptime>,
    restarts: u64,
}

impl Supervision {
    /// The rules that a submission asks for; none where no child starts again and nothing is
    /// stopped in order.
    pub(super) fn of(spec: &JobSpec) -> Option<Box<Self>> {
        let supervised =
            spec.restart != RestartSpec::default() || spec.stop_sequence == StopSequence::OneByOne;
        supervised.then(|| {
            let rules = Supervisor::new(&spec.restart, spec.stop_sequence);
            Box::new(Self { rules, orders: Vec::new(), wake: None, restarts: 0 })
        })
    }

    pub(super) const fn rules_mut(&mut self) -> &mut Supervisor {
        &mut self.rules
    }

    pub(super) const fn set_restarts(&mut self, restarts: u64) {
        self.restarts = restarts;
    }
}

impl ParentJob {
    /// The monotonic clock, by which restarts are counted and waits measured. Said before anything
    /// else that happens at that moment.
    pub const fn at(&mut self, uptime: Uptime) {
        self.uptime = uptime;
    }

    /// Whether children may start again: then an end closes no mailbox by itself.
    pub const fn is_supervised(&self) -> bool {
        self.supervision.is_some()
    }

    /// Whether what still waits for a slot waits for its turn to be stopped, or is held back.
    pub(super) fn starts_nothing(&self) -> bool {
        let ending = self.supervision.as_ref().is_some_and(|it| it.rules.is_ending());
        ending || self.told == Told::Suspend || self.unkept().is_some()
    }

    /// How often children started again, all together.
    pub fn restarts(&self) -> u64 {
        self.supervision.as_ref().map_or(0, |supervision| supervision.restarts)
    }

    /// Whether no incarnation of the child can follow.
    pub fn is_settled(&self, ordinal: Ordinal) -> bool {
        let finished = self.row(ordinal).is_some_and(|row| row.phase.is_finished());
        finished && self.supervision.as_ref().is_none_or(|it| it.rules.is_settled(ordinal))
    }

    /// How the child ended for good; none while an incarnation of it is on or can follow.
    pub fn final_end(&self, ordinal: Ordinal) -> Option<State> {
        self.child_state(ordinal).filter(|_| self.is_settled(ordinal))
    }

    /// How many children wait for their restart, of all or of one, and how long the first of them
    /// still has, where that is known.
    pub fn resting(&self, child: Option<Ordinal>, now: Uptime) -> (u64, Option<Uptime>) {
        let Some(supervision) = &self.supervision else { return (0, None) };
        let rows = (0u32..).map(Ordinal).zip(&self.rows);
        let rests = rows.filter(|(ordinal, row)| {
            row.phase == Phase::Resting && child.is_none_or(|child| child == *ordinal)
        });
        let (mut count, mut first) = (0, None);
        for (ordinal, _) in rests {
            let left = supervision.rules.starts_at(ordinal).map(|at| at.saturating_sub(now));
            first = [first, left].into_iter().flatten().min();
            count += 1;
        }
        (count, first)
    }

    /// The start of the child's present incarnation, whose records go on with `next`.
    pub fn again(&self, ordinal: Ordinal, next: Seq) -> Option<ChildAgain> {
        let row = self.row(ordinal)?;
        let item = self.item(ordinal).map(|(number, item)| (number, item.clone()));
        Some(ChildAgain { ordinal, id: row.id.0, incarnation: row.incarnation, next, item })
    }

    /// A wait between two incarnations may be over.
    pub fn on_wake(&mut self, now: Timestamp, effects: &mut Effects) {
        if let Some(supervision) = &mut self.supervision {
            supervision.wake = None;
            supervision.rules.on_timer(self.uptime, &mut supervision.orders);
        }
        self.advance(now, effects);
    }

    pub(super) fn supervise_new(&mut self, count: u64) {
        if let Some(supervision) = &mut self.supervision {
            supervision.rules.on_added(count as u32, self.spec.restart.restart);
        }
    }

    /// No child comes any more.
    pub(super) fn supervise_closed(&mut self) {
        if let Some(supervision) = &mut self.supervision {
            supervision.rules.on_closed(&mut supervision.orders);
        }
    }

    /// The child goes on in that life, and no rule counts it as a restart.
    pub(super) fn supervise_life(&mut self, ordinal: Ordinal, incarnation: ChildIncarnation) {
        if let Some(supervision) = &mut self.supervision {
            supervision.rules.recover(ordinal, incarnation, None);
        }
    }

    pub(super) fn supervise_begun(&mut self, ordinal: Ordinal) {
        let Some(incarnation) = self.row(ordinal).map(|row| row.incarnation) else { return };
        if let Some(supervision) = &mut self.supervision {
            supervision.rules.on_begun(ordinal, incarnation, self.uptime);
        }
    }

    pub(super) fn supervise_ended(&mut self, ordinal: Ordinal, effects: &mut Effects) {
        if self.is_supervised() && self.is_over_quota(ordinal) {
            self.supervise_stop(ordinal);
        }
        let Some(row) = self.rows.get(ordinal.0 as usize) else { return };
        let Some(supervision) = &mut self.supervision else { return };
        let exit = match row.phase {
            Phase::Completed => Exit::Normal,
            Phase::Stopped => Exit::Stopped,
            _ => Exit::Failure,
        };
        let end = ChildEnded { child: ordinal, incarnation: row.incarnation, exit };
        supervision.rules.on_ended(end, self.uptime, &mut supervision.orders);
        if supervision.rules.is_to_start(ordinal) {
            self.set_phase(ordinal, Phase::Resting, effects);
        }
    }

    /// A user stopped a child: nothing of it follows.
    pub(super) fn supervise_stop(&mut self, ordinal: Ordinal) {
        if let Some(supervision) = &mut self.supervision {
            supervision.rules.on_stop(ordinal, &mut supervision.orders);
        }
    }

    /// A user stopped the job. Says in which order its children are stopped: one by one, the rules
    /// say whom.
    pub(super) fn supervise_stop_all(&mut self, how: StopSpec) -> StopSequence {
        let Some(supervision) = &mut self.supervision else { return StopSequence::AtOnce };
        let sequence = match how.grace {
            // Killed at once is all at once.
            Some(grace) if grace.is_zero() => StopSequence::AtOnce,
            _ => supervision.rules.sequence(),
        };
        supervision.rules.on_stop_all(sequence, &mut supervision.orders);
        sequence
    }

    /// Does what the rules say, until they have nothing more to say.
    pub(super) fn obey(&mut self, now: Timestamp, effects: &mut Effects) {
        while let Some(supervision) = &mut self.supervision {
            let orders = std::mem::take(&mut supervision.orders);
            if orders.is_empty() {
                break;
            }
            for order in orders {
                self.obey_one(order, now, effects);
            }
        }
        let Some(supervision) = &mut self.supervision else { return };
        let next = supervision.rules.next_wake();
        if next != supervision.wake {
            supervision.wake = next;
            effects.extend(next.map(JobEffect::Wake));
        }
    }

    fn obey_one(&mut self, order: RestartEffect, now: Timestamp, effects: &mut Effects) {
        match order {
            RestartEffect::Start { child, incarnation } => {
                if let Some(row) = self.row_mut(child) {
                    row.incarnation = incarnation;
                    row.told_to_stop = false;
                }
                self.queue_again(child, effects);
            }
            RestartEffect::Stop(child) => self.stop_for_sibling(child, now, effects),
            RestartEffect::StopAll => {
                for child in (0..self.rows.len() as u32).rev().map(Ordinal) {
                    self.stop_for_sibling(child, now, effects);
                }
            }
            RestartEffect::GiveUp { child, restarts, period } => {
                let last = match self.child_failure(child) {
                    Some((reason, _)) => reason.to_string(),
                    None => "ended well".to_owned(),
                };
                let id = self.row(child).map_or(0, |row| row.id.0);
                self.note(format!("gave up on child {id}"));
                self.give_up(child, Reason::RestartLimit { restarts, period, last }, effects);
                if std::mem::take(&mut self.open) {
                    effects.push(JobEffect::Unwanted);
                    self.supervise_closed();
                }
            }
            RestartEffect::Settle(child) => {
                if self.row(child).is_some_and(|row| row.phase == Phase::Resting) {
                    // It was stopped before its next incarnation could begin.
                    if let Some(row) = self.row_mut(child) {
                        row.set_outcome(ChildOutcome::of(Verdict::Stopped));
                    }
                    self.set_phase(child, Phase::Stopped, effects);
                }
                effects.push(JobEffect::Close(child));
            }
        }
    }

    /// The child fails for good. One incarnation has one end: what was to be told of it in this
    /// moment gives way.
    fn give_up(&mut self, child: Ordinal, reason: Reason, effects: &mut Effects) {
        let ended = self.row(child).is_some_and(|row| row.phase.is_finished());
        let is_end = |effect: &JobEffect| match effect {
            JobEffect::Changed(changed, _, state, _) => *changed == child && state.is_finished(),
            _ => false,
        };
        let told = if ended { effects.iter().rposition(is_end) } else { None };
        if let Some(row) = self.row_mut(child) {
            row.set_outcome(ChildOutcome::of(Verdict::Failed(reason.clone())));
        }
        let before = effects.len();
        self.set_phase(child, Phase::Failed, effects);
        if let Some(JobEffect::Changed(_, _, state, why)) = told.and_then(|at| effects.get_mut(at))
        {
            (*state, *why) = (State::Failed, Some(Box::new(reason)));
            effects.truncate(before);
        }
    }

    /// The child waits for a slot again; an input of a spread map for any node.
    fn queue_again(&mut self, child: Ordinal, effects: &mut Effects) {
        self.set_phase(child, Phase::Queued, effects);
        let spread = matches!(self.spec.fan, sortie_model::spec::Fan::Spread);
        let Some(row) = self.row_mut(child) else { return };
        let node = if spread { row.node.take() } else { row.node };
        if let (false, Some(node)) = (spread, node) {
            // The node may be there again: it is asked once more.
            self.nodes.retry(node);
        }
        self.line.push(child, 1);
        if let Some(supervision) = &mut self.supervision {
            supervision.restarts += 1;
        }
    }

    /// Stops what runs or waits of a child because the rules say so.
    fn stop_for_sibling(&mut self, child: Ordinal, now: Timestamp, effects: &mut Effects) {
        let how = self.stop.as_ref().map_or_else(StopSpec::default, |(how, _)| *how);
        let (new_there, parked) = (self.is_new_there(child), self.is_parked(child));
        self.touch(child);
        let Some(row) = self.row_mut(child) else { return };
        match (row.phase, row.node) {
            (Phase::Queued, _) => {
                self.line.withdraw(child);
                self.finish(child, ChildOutcome::of(Verdict::Stopped), now, effects);
            }
            _ if parked => self.finish(child, ChildOutcome::of(Verdict::Stopped), now, effects),
            (phase, Some(node)) if phase.holds_slot() => {
                row.told_to_stop = true;
                self.end_suspension(child, effects);
                if new_there {
                    self.finish(child, ChildOutcome::of(Verdict::Stopped), now, effects);
                } else if phase.goes_on() {
                    self.set_phase(child, Phase::Stopping, effects);
                    self.withdraw_question(child, effects);
                }
                let children = ChildSet::Some(vec![child]);
                effects.push(JobEffect::Stop { node, children, how });
            }
            _ => {}
        }
    }

    /// Start messages for children that ran before.
    pub(super) fn start_again_on(
        &self,
        node: NodeIndex,
        ordinals: &[Ordinal],
        effects: &mut Effects,
    ) {
        let (mut children, mut bytes) = (Vec::new(), 0);
        for ordinal in ordinals {
            children.push(*ordinal);
            bytes += self.item(*ordinal).map_or(0, |(_, item)| item.len());
            if children.len() >= limits::FRAME_ITEMS || bytes > limits::FRAME_BYTES / 4 {
                bytes = 0;
                let children = std::mem::take(&mut children);
                effects.push(JobEffect::StartAgain { node, children });
            }
        }
        if !children.is_empty() {
            effects.push(JobEffect::StartAgain { node, children });
        }
    }
}
