//! A job that outlived its node: what of it is kept, and what becomes of it when the node is back
//! (`docs/semantics.md`, section 4.2).

use std::collections::BTreeSet;

use bytes::Bytes;
use sortie_model::facts::WaitsFor;
use sortie_model::restart::Strategy;
use sortie_model::spec::{Fan, JobSpec, StopSpec, Throttle};
use sortie_model::{
    ChildIncarnation, EntryId, NodeId, NodeName, Ordinal, Reason, State, Timestamp, limits,
};
use sortie_wire::host_proto::{ChildOutcome, ChildSet, Verdict};

use crate::aggregate::{Told, parent_state};
use crate::parent_job::row::{Phase, Row, Way};
use crate::parent_job::{Effects, JobEffect, JobIdentity, ParentJob, StopOrder};
use crate::placement::{self, NodeIndex};
use crate::restart::Exit;

/// A child as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptChild {
    /// Its number.
    pub id: EntryId,
    /// Its node.
    pub node: Option<NodeIndex>,
    /// Which of its lives this is.
    pub incarnation: ChildIncarnation,
    /// Its state.
    pub state: State,
    /// If it has not started, or is not there where it stood still, what for.
    pub waits_for: WaitsFor,
    /// It was told to stop.
    pub told_to_stop: bool,
    /// When it began.
    pub begin: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// How it ended, where that says more than the state.
    pub outcome: Option<Box<ChildOutcome>>,
}

/// A job as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptJob {
    /// What identifies it.
    pub identity: JobIdentity,
    /// What was submitted.
    pub spec: JobSpec,
    /// The nodes it was accepted for, in order.
    pub nodes: Vec<(NodeName, NodeId)>,
    /// What the job as a whole was told.
    pub told: Told,
    /// How it or its children were told to stop, and by whom, if they were.
    pub stop: Option<(StopSpec, String)>,
    /// Another throttle than it was submitted with.
    pub throttle: Option<Throttle>,
    /// When its first child began.
    pub begin: Option<Timestamp>,
    /// When its last child ended.
    pub end: Option<Timestamp>,
    /// How often children started again.
    pub restarts: u64,
    /// What is known again of a map's items.
    pub items: KeptItems,
}

/// The items of a map, after its node ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeptItems {
    /// It is no map, or is over.
    #[default]
    None,
    /// Those of which there are children, from the first, as far as they are certain; the next ones
    /// are read when they are wanted.
    Known(Vec<Bytes>),
    /// Those that its children had, of a map that is over.
    Shown(Vec<Bytes>),
    /// Their node did not keep them, or they never came.
    Lost,
}

/// What the node finds of a child that was to run on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It runs, or has an end that was not reported yet.
    Alive,
    /// It is not there, and whatever was started there would be: it never began.
    NeverBegan,
    /// It is not there, and nobody knows what became of it.
    Gone,
    /// It was a function, which is not there any more; the value of a checkpoint that it came to
    /// is.
    AtCheckpoint,
}

impl ParentJob {
    /// What is to be kept of a child.
    pub fn kept(&self, ordinal: Ordinal) -> Option<KeptChild> {
        let row = self.row(ordinal)?;
        let waits_for = match row.phase {
            Phase::Resting => WaitsFor::Restart,
            Phase::Sent | Phase::Held | Phase::Unheard => WaitsFor::Node,
            Phase::Suspended => self.suspensions.waits_for(ordinal),
            _ => WaitsFor::Slot,
        };
        Some(KeptChild {
            id: row.id,
            node: row.node,
            incarnation: row.incarnation,
            // How its node is heard is found out anew.
            state: match row.phase {
                Phase::Unheard => State::NotStarted,
                Phase::Disconnected => State::Running,
                // What it was told last is what it is to do then.
                Phase::Suspending | Phase::Suspended if self.suspensions.goes_on(ordinal) => {
                    State::Running
                }
                phase => phase.state(),
            },
            waits_for,
            told_to_stop: row.told_to_stop,
            begin: row.begin,
            end: row.end,
            outcome: row.outcome.clone(),
        })
    }

    /// From now on it is noted which children change: see [`Self::take_touched`].
    pub fn note_touched(&mut self) {
        self.touched = Some(BTreeSet::new());
    }

    /// The children that changed since this was asked last, in child order.
    pub fn take_touched(&mut self) -> BTreeSet<Ordinal> {
        self.touched.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn touch(&mut self, ordinal: Ordinal) {
        if let Some(touched) = &mut self.touched {
            touched.insert(ordinal);
        }
    }

    /// Whether the child's present life is over.
    pub fn has_ended(&self, ordinal: Ordinal) -> bool {
        let row = self.row(ordinal);
        row.is_some_and(|row| row.phase.is_finished() || row.phase == Phase::Resting)
    }

    /// When the first child began.
    pub const fn begin_time(&self) -> Option<Timestamp> {
        self.begin
    }

    /// The job as it was when its node ended. Children that are known from the start and of which
    /// nothing was kept wait for their turn; those of an input are the kept ones. Nothing starts
    /// before [`Self::on_recovered`].
    pub fn recover(job: KeptJob, children: Vec<(Ordinal, KeptChild)>) -> Self {
        let KeptJob { identity, spec, nodes, told, stop, throttle, begin, end, restarts, items } =
            job;
        let known = placement::known_children(&spec.fan, nodes.len() as u32);
        let mut this = Self::empty(identity, spec, nodes);
        if let Some(throttle) = throttle {
            this.line.set_limit(throttle);
        }
        (this.told, this.stop) = (told, stop);
        this.begin = begin;
        let first = this.identity.id.0 + 1;
        let rows = known
            .unwrap_or_else(|| children.last().map_or(0, |(ordinal, _)| u64::from(ordinal.0) + 1));
        for offset in 0..rows as u32 {
            let ordinal = Ordinal(offset);
            let on = placement::node_of(&this.spec.fan, ordinal, this.nodes.len() as u32);
            this.rows.push(Row::new(EntryId(first + u64::from(offset)), on));
        }
        for (ordinal, child) in children {
            if let Some(row) = this.rows.get_mut(ordinal.0 as usize) {
                let waits_for = child.waits_for;
                *row = row_of(child);
                this.lives_on |= row.incarnation > ChildIncarnation(0);
                this.suspensions.recover(ordinal, row.phase, waits_for);
            }
        }
        let has_room = rows < u64::from(limits::CHILDREN_PER_JOB);
        let wants_more = has_room && this.told != Told::Stop && !this.gave_up();
        match items {
            KeptItems::Lost if wants_more => this.break_off(),
            KeptItems::None | KeptItems::Lost => {}
            KeptItems::Shown(items) => this.items = items,
            KeptItems::Known(items) => (this.open, this.items) = (wants_more, items),
        }
        this.take_up_rows();
        if let Some(supervision) = &mut this.supervision {
            supervision.set_restarts(restarts);
        }
        this.state = parent_state(&this.counts, this.outlook(), this.told);
        this.history = vec![(State::Running, this.identity.created)];
        if this.state.is_finished() {
            this.end = end;
            this.history.extend(end.map(|end| (this.state, end)));
        }
        this
    }

    /// Whether a child started again too often.
    fn gave_up(&self) -> bool {
        let mut outcomes = self.rows.iter().filter_map(|row| row.outcome.as_deref());
        outcomes
            .any(|outcome| matches!(outcome.verdict, Verdict::Failed(Reason::RestartLimit { .. })))
    }

    /// The other nodes that were told of unfinished children.
    pub fn told_nodes(&self, here: NodeId) -> Vec<NodeId> {
        let told = self.rows.iter().filter(|row| row.phase.holds_slot());
        let nodes: BTreeSet<NodeIndex> = told.filter_map(|row| row.node).collect();
        let ids = nodes.into_iter().filter_map(|node| self.nodes.id(node));
        ids.filter(|id| *id != here).collect()
    }

    /// Counts, slots and restart rules of rows that were put in as they are.
    fn take_up_rows(&mut self) {
        let restart = self.spec.restart.restart;
        if let Some(supervision) = &mut self.supervision {
            supervision.rules_mut().on_added(self.rows.len() as u32, restart);
        }
        for (ordinal, row) in (0u32..).map(Ordinal).zip(&self.rows) {
            self.counts.add(row.state());
            if row.phase == Phase::Queued {
                self.line.push(ordinal, 1);
            }
            if row.phase.holds_slot() {
                self.line.take_slot();
                self.nodes.took(row.node);
                if let (Fan::Spread, Some(node)) = (&self.spec.fan, row.node) {
                    self.nodes.holds(node);
                }
            }
            if let Some(supervision) = &mut self.supervision {
                let exit = match row.phase {
                    Phase::Completed => Some(Exit::Normal),
                    Phase::Stopped => Some(Exit::Stopped),
                    Phase::Failed => Some(Exit::Failure),
                    _ => None,
                };
                supervision.rules_mut().recover(ordinal, row.incarnation, exit);
            }
        }
    }

    /// The node is back. `found` says of each child that was to run on this node in that life
    /// whether it does. What was told to other nodes runs on there: they are asked.
    pub fn on_recovered(
        &mut self,
        here: NodeId,
        found: impl Fn(Ordinal, ChildIncarnation) -> Found,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let here = self.nodes.find(here);
        self.suspensions.number_from(now);
        let (mut told_here, mut adopted) = (Vec::new(), BTreeSet::new());
        // From the last to the first, so that what goes back keeps its order at the head.
        for ordinal in (0..self.rows.len() as u32).rev().map(Ordinal) {
            let Some(row) = self.row(ordinal) else { continue };
            let (told, incarnation) = (row.told_to_stop, row.incarnation);
            let elsewhere = row.node.is_some_and(|node| Some(node) != here);
            if elsewhere && row.phase.holds_slot() && !self.is_parked(ordinal) {
                continue;
            }
            let found = match row.node {
                Some(_) if !elsewhere || self.is_parked(ordinal) => found(ordinal, incarnation),
                _ => Found::Gone,
            };
            adopted.extend((found == Found::Alive).then_some((ordinal, incarnation)));
            match (row.phase, found) {
                (Phase::Resting, _) => self.supervise_ended(ordinal, effects),
                (Phase::Queued, Found::Alive) => self.had_begun(ordinal),
                (Phase::Queued, _) if told || self.lacks_item(ordinal) => {
                    self.end_queued(ordinal, told, now, effects);
                }
                (phase, _) if !phase.holds_slot() => {}
                (_, Found::Alive) if told => told_here.push(ordinal),
                (_, Found::Alive) => {}
                (_, Found::NeverBegan | Found::Gone | Found::AtCheckpoint) if told => {
                    self.end_here(ordinal, Verdict::Stopped, now, effects);
                }
                (Phase::Suspended, Found::AtCheckpoint) | (Phase::Sent, Found::NeverBegan)
                    if self.lacks_item(ordinal) =>
                {
                    self.end_here(ordinal, Verdict::Failed(Reason::InputLost), now, effects);
                }
                (Phase::Suspended, Found::AtCheckpoint) => self.park_found(ordinal, elsewhere),
                (Phase::Sent, Found::NeverBegan) => self.send_back(ordinal),
                (Phase::Sent, _) => self.fail(ordinal, Reason::StartUncertain, now, effects),
                _ => self.fail(ordinal, Reason::NodeLost { since: now }, now, effects),
            }
        }
        self.adopted(adopted, now);
        self.suspend_sent();
        self.stop_again(here, told_here, effects);
        if let Some(node) = here {
            self.move_again(node, effects);
        }
        if !self.open {
            self.supervise_closed();
        }
        if self.told == Told::Stop {
            let (how, by) = self.stop.take().unwrap_or_default();
            let children = ChildSet::All;
            self.on_stop(StopOrder { children, how, by }, now, effects);
        }
        self.advance(now, effects);
        // Whoever reads of children that ended long ago finds their mailboxes closed.
        if !self.is_supervised() {
            return;
        }
        let all = (0..self.rows.len() as u32).map(Ordinal);
        effects.extend(all.filter(|child| self.is_settled(*child)).map(JobEffect::Close));
    }

    /// These lives outlived a daemon.
    pub(super) fn adopted(&mut self, lives: BTreeSet<(Ordinal, ChildIncarnation)>, now: Timestamp) {
        if lives.is_empty() {
            return;
        }
        self.adopted.retain(|life, _| {
            self.rows.get(life.0.0 as usize).is_some_and(|row| row.incarnation == life.1)
        });
        self.adopted.extend(lives.into_iter().map(|life| (life, now)));
    }

    /// Whether it is a map's child whose item is not known any more: it cannot start again.
    pub(super) fn lacks_item(&self, ordinal: Ordinal) -> bool {
        !matches!(self.spec.fan, Fan::PerNode { .. }) && self.item(ordinal).is_none()
    }

    /// A child that runs though it waited: that it was sent could not be kept.
    fn had_begun(&mut self, ordinal: Ordinal) {
        self.touch(ordinal);
        let Some(row) = self.rows.get_mut(ordinal.0 as usize) else { return };
        let node = row.node;
        row.phase = Phase::Sent;
        self.line.withdraw(ordinal);
        self.line.take_slot();
        self.nodes.took(node);
    }

    /// Children that were told to stop may not have heard it. Alone they were told by their user,
    /// and nothing follows; under another strategy it may have been for a sibling's sake.
    fn stop_again(
        &mut self,
        here: Option<NodeIndex>,
        mut told: Vec<Ordinal>,
        effects: &mut Effects,
    ) {
        let Some(node) = here.filter(|_| !told.is_empty()) else { return };
        told.reverse();
        if self.spec.restart.strategy == Strategy::OneForOne {
            told.iter().for_each(|ordinal| self.supervise_stop(*ordinal));
        }
        let how = self.stop.as_ref().map_or_else(StopSpec::default, |(how, _)| *how);
        let children = ChildSet::Some(told);
        effects.push(JobEffect::Stop { node, children, how });
    }

    /// A child that its node never heard of, whoever was to tell it, waits for its turn again,
    /// before all others.
    pub(super) fn send_back(&mut self, ordinal: Ordinal) {
        self.touch(ordinal);
        let spread = matches!(self.spec.fan, Fan::Spread);
        let Some(row) = self.rows.get_mut(ordinal.0 as usize) else { return };
        let node = if spread { row.node.take() } else { row.node };
        row.phase = Phase::Queued;
        self.nodes.freed(node);
        self.line.put_back(ordinal);
    }
}

fn row_of(child: KeptChild) -> Row {
    let KeptChild { id, node, incarnation, state, waits_for, told_to_stop, begin, end, outcome } =
        child;
    let phase = match (state, waits_for) {
        (State::NotStarted, WaitsFor::Slot) => Phase::Queued,
        (State::NotStarted, WaitsFor::Restart) => Phase::Resting,
        (State::NotStarted, WaitsFor::Node) => Phase::Sent,
        (State::Completed, _) => Phase::Completed,
        (State::Failed, _) => Phase::Failed,
        (State::Stopped, _) => Phase::Stopped,
        (State::Stopping, _) => Phase::Stopping,
        (State::Suspending, _) => Phase::Suspending,
        (State::Suspended, _) => Phase::Suspended,
        // What it asked is not kept: it asks again.
        _ => Phase::Running,
    };
    let way = Way::Said;
    Row { id, node, phase, told_to_stop, way, incarnation, begin, end, outcome }
}
