//! What a suspension reaches, and what has come of it (`docs/semantics.md`, section 3.5). The
//! executing node decides whether a child stands still.

use std::collections::{BTreeMap, BTreeSet};

use sortie_model::facts::WaitsFor;
use sortie_model::{ChildIncarnation, Motion, NodeId, Ordinal, State, Timestamp};
use sortie_wire::host_proto::{ChildMotion, ChildSet};

use crate::aggregate::Told;
use crate::parent_job::row::{Phase, Way};
use crate::parent_job::suspensions::{Parked, Suspension};
use crate::parent_job::{Effects, FalseReport, JobEffect, ParentJob};
use crate::placement::NodeIndex;

/// An order to children, by the number that makes it newer than those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MotionOrder {
    /// Counts the orders of a job, from 1.
    pub number: u64,
    /// What they are to do.
    pub motion: Motion,
}

/// An order does not apply to it: the job as a whole, or one of its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmoved {
    /// The job.
    Job,
    /// That child.
    Child(Ordinal),
}

impl ParentJob {
    /// Whether the job as a whole was told to suspend, and not to go on since.
    pub fn told_to_suspend(&self) -> bool {
        self.told == Told::Suspend
    }

    /// Somebody told the job, or some of its children, to stand still or to go on. Answers to what
    /// of it that does not apply: it is as it was.
    pub fn on_move(
        &mut self,
        children: ChildSet,
        motion: Motion,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Vec<Unmoved> {
        let everything = children == ChildSet::All;
        let (ordinals, mut unmoved) = match children {
            ChildSet::All if self.state.is_finished() || self.told == Told::Stop => {
                return vec![Unmoved::Job];
            }
            ChildSet::All => ((0..self.rows.len() as u32).map(Ordinal).collect(), Vec::new()),
            ChildSet::Some(ordinals) => {
                let applies = |ordinal: &Ordinal| self.can_move(*ordinal, motion);
                let (apply, not): (Vec<_>, Vec<_>) = ordinals.into_iter().partition(applies);
                (apply, not.into_iter().map(Unmoved::Child).collect())
            }
        };
        let order = self.suspensions.next_order(motion);
        let mut there: Vec<Vec<Ordinal>> = vec![Vec::new(); self.nodes.len()];
        let (parked, ordinals): (Vec<_>, Vec<_>) =
            ordinals.into_iter().partition(|ordinal| self.suspensions.is_parked(*ordinal));
        let begin_again = motion == Motion::Running && !parked.is_empty();
        self.order_parked(&parked, order, effects);
        for ordinal in ordinals {
            let Some(node) = self.order_one(ordinal, order, effects) else { continue };
            if let Some(list) = there.get_mut(node.0 as usize) {
                list.push(ordinal);
            }
        }
        let told = begin_again || !there.iter().all(Vec::is_empty);
        if everything {
            let before = std::mem::replace(
                &mut self.told,
                match motion {
                    Motion::Suspended => Told::Suspend,
                    Motion::Running => Told::Nothing,
                },
            );
            if motion == Motion::Running && before != Told::Suspend && !told {
                unmoved.push(Unmoved::Job);
            }
        }
        for (node, list) in (0u32..).map(NodeIndex).zip(there) {
            if !list.is_empty() {
                // A job that goes on has children that were never told to suspend.
                let all = everything && motion == Motion::Suspended;
                let children = if all { ChildSet::All } else { ChildSet::Some(list) };
                effects.push(JobEffect::Move { node, children, order });
            }
        }
        self.advance(now, effects);
        unmoved
    }

    /// Whether such an order to that child alone makes sense.
    fn can_move(&self, ordinal: Ordinal, motion: Motion) -> bool {
        match motion {
            Motion::Suspended => self.row(ordinal).is_some_and(|row| row.phase.goes_on()),
            Motion::Running => self.suspensions.by_child.contains_key(&ordinal),
        }
    }

    /// Notes the order to functions whose last life ended with their node. On the job's own node a
    /// resume is their next life at once; others are asked for first.
    fn order_parked(&mut self, parked: &[Ordinal], order: MotionOrder, effects: &mut Effects) {
        let (mut here, mut elsewhere): (BTreeMap<_, Vec<_>>, _) =
            (BTreeMap::new(), BTreeSet::new());
        for ordinal in parked.iter().copied() {
            self.touch(ordinal);
            if let Some(it) = self.suspensions.by_child.get_mut(&ordinal) {
                it.order = order;
            }
            let Some(node) = self.row(ordinal).and_then(|row| row.node) else { continue };
            if self.suspensions.parked.get(&ordinal) == Some(&Parked::Here) {
                here.entry(node).or_default().push(ordinal);
            } else {
                elsewhere.insert(node);
            }
        }
        if order.motion == Motion::Suspended {
            return;
        }
        for (node, ordinals) in here {
            self.begin_again(&ordinals, effects);
            self.start_on(node, &ordinals, effects);
        }
        effects.extend(elsewhere.into_iter().map(JobEffect::Reach));
    }

    /// Functions whose last life ended with their node are to go on from their checkpoints. They
    /// kept their slots.
    fn begin_again(&mut self, parked: &[Ordinal], effects: &mut Effects) {
        self.lives_on |= !parked.is_empty();
        for ordinal in parked.iter().copied() {
            self.suspensions.forget(ordinal);
            let Some(row) = self.row_mut(ordinal) else { continue };
            row.incarnation = ChildIncarnation(row.incarnation.0.saturating_add(1));
            row.way = Way::Fresh;
            let incarnation = row.incarnation;
            self.supervise_life(ordinal, incarnation);
            self.set_phase(ordinal, Phase::Sent, effects);
        }
    }

    /// The node is there: those of it that were resumed since they ended are to be told to it.
    pub(super) fn begin_resumed(&mut self, node: NodeIndex, effects: &mut Effects) {
        let resumed = self.resumed_on(node);
        if !resumed.is_empty() {
            self.nodes.retry(node);
            self.begin_again(&resumed, effects);
        }
    }

    /// Functions that ended with that node while they stood still, and were resumed since.
    fn resumed_on(&self, node: NodeIndex) -> Vec<Ordinal> {
        let on = |ordinal| self.row(ordinal).is_some_and(|row| row.node == Some(node));
        let parked = self.suspensions.parked.keys().copied().filter(|ordinal| on(*ordinal));
        parked.filter(|ordinal| self.suspensions.waits_for(*ordinal) == WaitsFor::Node).collect()
    }

    /// Functions that stood still are not on that node any more, but their checkpoints are known.
    /// Those that it was to let go on do so when it is heard.
    pub(super) fn park(&mut self, node: NodeIndex, ordinals: &[Ordinal], effects: &mut Effects) {
        for ordinal in ordinals.iter().copied() {
            self.touch(ordinal);
            self.suspensions.park(ordinal, Parked::Elsewhere);
        }
        if !self.resumed_on(node).is_empty() {
            effects.push(JobEffect::Reach(node));
        }
    }

    /// The same for one whose checkpoint was found again with the job.
    pub(super) fn park_found(&mut self, ordinal: Ordinal, elsewhere: bool) {
        let at = if elsewhere { Parked::Elsewhere } else { Parked::Here };
        self.touch(ordinal);
        self.suspensions.park(ordinal, at);
    }

    /// Whether what was told to do that is done with the way there. A job that goes on is not, as
    /// long as one of its children stands still.
    pub fn does(&self, children: &ChildSet, motion: Motion) -> bool {
        let is_there = |state: State| match motion {
            Motion::Suspended => state != State::Suspending,
            Motion::Running => !matches!(state, State::Suspending | State::Suspended),
        };
        match (children, motion) {
            (ChildSet::All, Motion::Suspended) => is_there(self.state()),
            (ChildSet::All, Motion::Running) => {
                let tally = self.counts.tally(self.open);
                // One of which nothing has begun is suspended without any child that is.
                is_there(self.state())
                    && tally.of(State::Suspending) + tally.of(State::Suspended) == 0
            }
            (ChildSet::Some(some), _) => {
                some.iter().all(|ordinal| self.child_state(*ordinal).is_none_or(is_there))
            }
        }
    }

    /// Whether the child ended with its node while it stood still, and goes on from its checkpoint
    /// when it is resumed.
    pub fn is_parked(&self, ordinal: Ordinal) -> bool {
        self.suspensions.is_parked(ordinal)
    }

    /// Notes the order and says where the child is to be told of it, if it is.
    fn order_one(
        &mut self,
        ordinal: Ordinal,
        order: MotionOrder,
        effects: &mut Effects,
    ) -> Option<NodeIndex> {
        let row = self.row(ordinal)?;
        let (phase, node) = (row.phase, row.node);
        if row.told_to_stop || !(phase.is_sent() || phase.goes_on()) {
            return None;
        }
        let known = self.suspensions.by_child.get(&ordinal).copied();
        if known.is_none() && order.motion == Motion::Running {
            return None;
        }
        let does = known.map_or(Motion::Running, |known| known.does);
        self.suspensions.note(ordinal, Suspension::of(order, does));
        self.touch(ordinal);
        self.show_motion(ordinal, effects);
        node
    }

    /// Nodes said what children do. Words about earlier incarnations and earlier orders are late.
    ///
    /// # Errors
    /// [`FalseReport`] when a child is not on that node; nothing of the report was applied.
    pub fn on_moved(
        &mut self,
        node: NodeId,
        moved: &[ChildMotion],
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<(), FalseReport> {
        let node = self.nodes.find(node).ok_or(FalseReport)?;
        let honest = |moved: &ChildMotion| {
            self.row_on(moved.ordinal, node).is_some() || self.ran_before(moved.ordinal)
        };
        if !moved.iter().all(honest) {
            return Err(FalseReport);
        }
        let mut astray = Vec::new();
        for ChildMotion { ordinal, incarnation, number, motion } in moved.iter().copied() {
            let present = self
                .row_on(ordinal, node)
                .is_some_and(|row| row.incarnation == incarnation && !row.phase.is_finished());
            let suspensions = &mut self.suspensions.by_child;
            let Some(it) = suspensions.get_mut(&ordinal).filter(|_| present) else {
                let is_of_before = self.suspensions.is_of_before(number);
                if present && is_of_before && motion == Motion::Suspended {
                    self.suspensions.heard_number(number, now);
                    astray.push(ordinal);
                }
                continue;
            };
            if it.order.number != number {
                continue;
            }
            (it.does, it.heeded) = (motion, it.order.motion == motion);
            if it.heeded && motion == Motion::Running {
                suspensions.remove(&ordinal);
            }
            self.show_motion(ordinal, effects);
        }
        self.lead_back(node, astray, effects);
        self.advance(now, effects);
        Ok(())
    }

    /// Orders that a node may not have heard, said again: it heeds each once.
    pub(super) fn move_again(&self, node: NodeIndex, effects: &mut Effects) {
        let mut orders: BTreeMap<MotionOrder, Vec<Ordinal>> = BTreeMap::new();
        for (ordinal, it) in &self.suspensions.by_child {
            let row = self.row_on(*ordinal, node).filter(|row| !row.told_to_stop);
            if row.is_some() && !it.heeded {
                orders.entry(it.order).or_default().push(*ordinal);
            }
        }
        for (order, children) in orders {
            effects.push(JobEffect::Move { node, children: ChildSet::Some(children), order });
        }
    }

    /// The child was told to stop: that is all that counts now.
    pub(super) fn end_suspension(&mut self, ordinal: Ordinal, effects: &mut Effects) {
        self.suspensions.forget(ordinal);
        if self.row(ordinal).is_some_and(|row| row.phase == Phase::Held) {
            self.set_phase(ordinal, Phase::Sent, effects);
        }
    }

    /// The child's node knows nothing of it: an order to it is to be said again.
    pub(super) fn unsuspended(&mut self, ordinal: Ordinal, effects: &mut Effects) {
        if let Some(it) = self.suspensions.by_child.get_mut(&ordinal) {
            (it.does, it.heeded) = (Motion::Running, false);
            self.show_motion(ordinal, effects);
        }
    }

    pub(super) fn show_motion(&mut self, ordinal: Ordinal, effects: &mut Effects) {
        let phase = match self.row(ordinal).map(|row| row.phase) {
            // What it does is seen when its node is back.
            Some(Phase::Disconnected | Phase::Unheard) => return,
            Some(phase) if phase.goes_on() => self.begun_phase(ordinal),
            Some(phase) if phase.is_sent() => match self.suspensions.of(ordinal) {
                Some(Phase::Suspended) => Phase::Held,
                _ => Phase::Sent,
            },
            _ => return,
        };
        self.set_phase(ordinal, phase, effects);
    }
}
