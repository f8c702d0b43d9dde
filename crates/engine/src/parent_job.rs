//! A parent job: the executive of one submission (`docs/semantics.md`, sections 1.2, 2.2, 3.1,
//! 3.5).
//!
//! It runs nothing. Its children are rows; it decides which of them starts where and when, what a
//! stop reaches, and what a report or a lost node means. What is to be done comes out as
//! [`JobEffect`]s.

mod ask;
mod astray;
mod end;
mod host_spec;
mod later;
mod life;
mod nodes;
pub mod quota;
mod recover;
mod report;
mod row;
mod show;
mod start;
mod stop;
mod supervise;
mod suspend;
mod suspensions;
mod unkept;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sortie_model::spec::{Fan, JobSpec, StopSpec, Throttle};
use sortie_model::{
    ChildIncarnation, EntryId, JobInstance, NodeId, NodeName, Ordinal, Reason, SessionId, State,
    Timestamp, limits,
};
use sortie_wire::host_proto::{ChildBatch, ChildSet};

use crate::aggregate::{StateCounts, Told, parent_state};
use crate::parent_job::ask::Questions;
pub use crate::parent_job::ask::{Answered, NotAsking, QuestionKey};
pub use crate::parent_job::host_spec::{Executor, Owner};
pub use crate::parent_job::later::{Memory, Unknown};
pub use crate::parent_job::life::Lives;
use crate::parent_job::nodes::Nodes;
pub use crate::parent_job::recover::{Found, KeptChild, KeptItems, KeptJob};
use crate::parent_job::row::{Phase, Row};
pub use crate::parent_job::show::MailboxFacts;
pub use crate::parent_job::stop::StopOrder;
use crate::parent_job::supervise::Supervision;
pub use crate::parent_job::suspend::{MotionOrder, Unmoved};
use crate::parent_job::suspensions::Suspensions;
use crate::parent_job::unkept::Keeping;
pub use crate::parent_job::unkept::Unkept;
use crate::peer::Uptime;
use crate::placement;
pub use crate::placement::NodeIndex;
use crate::throttle::Line;

/// What is to be done. Nodes are named by their index in [`ParentJob::nodes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEffect {
    /// Start these children there.
    Start {
        /// Where.
        node: NodeIndex,
        /// Which.
        children: ChildBatch,
    },
    /// Start these again there: see [`ParentJob::again`].
    StartAgain {
        /// Where.
        node: NodeIndex,
        /// Which.
        children: Vec<Ordinal>,
    },
    /// Ask for a connection to that node, which was gone: then call [`ParentJob::on_reconnected`],
    /// also when there is one already, or [`ParentJob::on_unreachable`].
    Reach(NodeIndex),
    /// Call [`ParentJob::on_wake`] at that time, and not at one said before.
    Wake(Uptime),
    /// Stop these children there.
    Stop {
        /// Where.
        node: NodeIndex,
        /// Which.
        children: ChildSet,
        /// How.
        how: StopSpec,
    },
    /// Tell these children there to stand still, or to go on.
    Move {
        /// Where.
        node: NodeIndex,
        /// Which.
        children: ChildSet,
        /// Which order of the job it is, and what they are to do.
        order: MotionOrder,
    },
    /// The child ended without a report, or for good: its mailbox gets nothing more.
    Close(Ordinal),
    /// The state of the child's life changed to that one, and why if it failed: the rows may know
    /// of another life by the time that somebody hears it.
    Changed(Ordinal, ChildIncarnation, State, Option<Box<Reason>>),
    /// What the child asks changed, or what became of an answer.
    Asked(Ordinal),
    /// Bring the child there the answer to its question.
    Answer {
        /// Where.
        node: NodeIndex,
        /// Whose question, and which.
        key: QuestionKey,
        /// The answer.
        answer: Bytes,
    },
    /// The job's own state changed.
    ParentChanged(State),
    /// So many more items of the map may be read.
    Want(u32),
    /// No item of the map is wanted any more.
    Unwanted,
}

/// What goes on in one call: where effects are collected.
pub type Effects = Vec<JobEffect>;

/// A peer reported what cannot be true: a child that is not there, or not on that node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a report names a child that does not run on the reporting node")]
pub struct FalseReport;

/// What identifies a job from its acceptance on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobIdentity {
    /// Its number.
    pub id: EntryId,
    /// Its identity.
    pub instance: JobInstance,
    /// Its session's number.
    pub session: SessionId,
    /// When it was accepted.
    pub created: Timestamp,
}

/// One accepted submission and all of its children.
#[derive(Debug)]
pub struct ParentJob {
    identity: JobIdentity,
    spec: JobSpec,
    nodes: Nodes,
    rows: Vec<Row>,
    items: Vec<Bytes>,
    counts: StateCounts,
    state: State,
    told: Told,
    stop: Option<(StopSpec, String)>,
    open: bool,
    /// Not all items of the map came.
    broke_off: bool,
    wanted: u32,
    /// The longest of the items that came last, in bytes.
    item_bytes: usize,
    line: Line,
    supervision: Option<Box<Supervision>>,
    questions: Questions,
    suspensions: Suspensions,
    /// Some child is in a later life than its first, which no rule asked for.
    lives_on: bool,
    uptime: Uptime,
    begin: Option<Timestamp>,
    end: Option<Timestamp>,
    history: Vec<(State, Timestamp)>,
    notes: Vec<String>,
    /// Lives that outlived a daemon, and when the next one found them.
    adopted: BTreeMap<(Ordinal, ChildIncarnation), Timestamp>,
    /// Children that changed, where that is noted.
    touched: Option<BTreeSet<Ordinal>>,
    keeping: Keeping,
}

/// State changes of a job that its history keeps: the first ones and the last.
const HISTORY: usize = 64;
/// What is noted of a map of which not all items came.
pub const BROKE_OFF: &str = "the rest of its input was lost";
/// Notes that a job keeps; the ones after are left out.
const NOTES: usize = 64;

impl ParentJob {
    /// A job with the nodes that its expression named, children included where their number is
    /// known. `first_child` is the number of its first child.
    pub fn accept(
        identity: JobIdentity,
        spec: JobSpec,
        nodes: Vec<(NodeName, NodeId)>,
        effects: &mut Effects,
    ) -> Self {
        let created = identity.created;
        let known = placement::known_children(&spec.fan, nodes.len() as u32);
        let mut job = Self::empty(identity, spec, nodes);
        job.open = known.is_none();
        let first = job.identity.id.0 + 1;
        job.add_rows(EntryId(first), known.unwrap_or(0));
        if !job.open {
            job.supervise_closed();
        }
        job.advance(created, effects);
        job
    }

    /// A job without children, which nobody was told of.
    fn empty(identity: JobIdentity, spec: JobSpec, nodes: Vec<(NodeName, NodeId)>) -> Self {
        let history = vec![(State::Running, identity.created)];
        let line = Line::new(spec.throttle);
        let supervision = Supervision::of(&spec);
        Self {
            identity,
            spec,
            nodes: Nodes::new(nodes),
            rows: Vec::new(),
            items: Vec::new(),
            counts: StateCounts::default(),
            state: State::Running,
            told: Told::Nothing,
            stop: None,
            open: false,
            broke_off: false,
            wanted: 0,
            item_bytes: limits::MAP_ITEM_BYTES_FORETOLD,
            line,
            supervision,
            questions: Questions::default(),
            suspensions: Suspensions::default(),
            lives_on: false,
            uptime: Uptime::ZERO,
            begin: None,
            end: None,
            history,
            notes: Vec::new(),
            adopted: BTreeMap::new(),
            touched: None,
            keeping: Keeping::default(),
        }
    }

    /// How many children one item of the map becomes.
    pub fn children_per_item(&self) -> u64 {
        match self.spec.fan {
            Fan::Each => self.nodes.len() as u64,
            Fan::PerNode { .. } | Fan::Spread => 1,
        }
    }

    /// Items of the map were read; `ids` are their children's numbers, from the first.
    pub fn on_items(
        &mut self,
        items: Vec<Bytes>,
        first_id: EntryId,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        self.wanted = self.wanted.saturating_sub(items.len() as u32);
        if self.told == Told::Stop || !self.open {
            return;
        }
        let children = items.len() as u64 * self.children_per_item();
        self.item_bytes = items.iter().map(Bytes::len).max().unwrap_or_default();
        self.items.extend(items);
        self.add_rows(first_id, children);
        if self.rows.len() as u64 >= u64::from(limits::CHILDREN_PER_JOB) {
            self.note(format!("stopped reading inputs at {} children", self.rows.len()));
            self.open = false;
            self.supervise_closed();
            effects.push(JobEffect::Unwanted);
        }
        self.advance(now, effects);
    }

    /// The map's input is at its end.
    pub fn on_input_end(&mut self, now: Timestamp, effects: &mut Effects) {
        self.open = false;
        self.supervise_closed();
        self.advance(now, effects);
    }

    /// The rest of the input is lost, with its client or since it could not be stored: the children
    /// that depend on it fail, and no further item comes. A map has failed then.
    pub fn on_input_lost(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.open {
            self.break_off();
        }
        self.open = false;
        self.supervise_closed();
        self.advance(now, effects);
    }

    /// The throttle was changed; lowering it stops nothing.
    pub fn set_throttle(&mut self, throttle: Throttle, now: Timestamp, effects: &mut Effects) {
        self.line.set_limit(throttle);
        self.advance(now, effects);
    }

    fn add_rows(&mut self, first_id: EntryId, count: u64) {
        let first = self.rows.len() as u32;
        for offset in 0..count as u32 {
            let ordinal = Ordinal(first + offset);
            let node = placement::node_of(&self.spec.fan, ordinal, self.nodes.len() as u32);
            self.rows.push(Row::new(EntryId(first_id.0 + u64::from(offset)), node));
            self.touch(ordinal);
        }
        self.supervise_new(count);
        self.counts.add_many(State::NotStarted, count);
        self.line.push(Ordinal(first), count as u32);
    }

    fn row_mut(&mut self, ordinal: Ordinal) -> Option<&mut Row> {
        self.rows.get_mut(ordinal.0 as usize)
    }

    fn set_phase(&mut self, ordinal: Ordinal, phase: Phase, effects: &mut Effects) {
        self.touch(ordinal);
        let Some(row) = self.rows.get_mut(ordinal.0 as usize) else { return };
        let (from, was) = (row.state(), row.phase);
        row.phase = phase;
        let (to, is) = (row.state(), row.phase);
        let (node, incarnation) = (row.node, row.incarnation);
        self.suspensions.count_held(was, is);
        match (was.holds_slot(), is.holds_slot()) {
            (false, true) => self.nodes.took(node),
            (true, false) => {
                self.line.on_slot_free();
                self.nodes.freed(node);
            }
            _ => {}
        }
        if from != to {
            self.counts.change(from, to);
            let reason = if to == State::Failed { self.child_failure(ordinal) } else { None };
            let reason = reason.map(|(reason, _)| Box::new(reason));
            effects.push(JobEffect::Changed(ordinal, incarnation, to, reason));
        }
    }

    /// Items of the map were to come that never will.
    fn break_off(&mut self) {
        self.broke_off = true;
        self.note(BROKE_OFF.to_owned());
    }

    /// Whether not all items of a map came.
    pub const fn broke_off(&self) -> bool {
        self.broke_off
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn all_done(&self) -> bool {
        !self.open && self.counts.finished() == self.rows.len() as u64
    }

    /// Starts what may start, asks for more input where there is room, and recomputes the state.
    fn advance(&mut self, now: Timestamp, effects: &mut Effects) {
        self.obey(now, effects);
        self.start_queued(now, effects);
        // What could not be started may have asked for something else.
        self.obey(now, effects);
        self.want_items(effects);
        let state = parent_state(&self.counts, self.outlook(), self.told);
        if state != self.state {
            self.state = state;
            if self.history.len() < HISTORY {
                self.history.push((state, now));
            }
            if state.is_finished() {
                // Of what ended while nobody looked, the end was noted.
                let last = self.rows.iter().filter_map(|row| row.end).max();
                self.end = Some(last.map_or(now, |last| last.min(now)));
            }
            effects.push(JobEffect::ParentChanged(state));
        }
    }
}

#[cfg(test)]
mod tests;
