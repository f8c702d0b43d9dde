//! The nodes of one job: how much each has, and which can be reached.

use std::collections::HashMap;

use sortie_model::reason::ReachStep;
use sortie_model::spec::{StopSpec, Throttle};
use sortie_model::{NodeId, NodeName, Ordinal, Reason, Timestamp};
use sortie_wire::host_proto::{ChildSet, Verdict};

use crate::broken::{Rule, is_broken};
use crate::parent_job::row::Phase;
use crate::parent_job::{Effects, JobEffect, ParentJob};
use crate::placement::{NodeIndex, Spread};
use crate::throttle::share;

/// Whether a job can still use a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// As far as is known.
    Usable,
    /// It was never reached, or was lost.
    Gone(ReachStep),
    /// It was, and is asked for again: nothing has left for it.
    Awaited,
}

#[derive(Debug)]
struct Node {
    name: NodeName,
    id: NodeId,
    unfinished: u32,
    reach: Reach,
}

/// The nodes of a job, in the order of its expression.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    by_id: HashMap<NodeId, NodeIndex>,
    spread: Spread,
}

impl Nodes {
    pub(crate) fn new(nodes: Vec<(NodeName, NodeId)>) -> Self {
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|(name, id)| Node { name, id, unfinished: 0, reach: Reach::Usable })
            .collect();
        let by_id = (0u32..).map(NodeIndex).zip(&nodes).map(|(index, n)| (n.id, index)).collect();
        let spread = Spread::new(nodes.len() as u32);
        Self { nodes, by_id, spread }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn find(&self, id: NodeId) -> Option<NodeIndex> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn name(&self, index: NodeIndex) -> Option<&NodeName> {
        self.nodes.get(index.0 as usize).map(|node| &node.name)
    }

    pub(crate) fn id(&self, index: NodeIndex) -> Option<NodeId> {
        self.nodes.get(index.0 as usize).map(|node| node.id)
    }

    /// Nodes that a spread map can still use.
    pub(crate) fn usable(&self) -> u32 {
        self.spread.usable()
    }

    /// The step at which the node was found to be gone, if it is.
    pub(crate) fn gone(&self, index: NodeIndex) -> Option<ReachStep> {
        match self.nodes.get(index.0 as usize)?.reach {
            Reach::Usable | Reach::Awaited => None,
            Reach::Gone(step) => Some(step),
        }
    }

    /// Whether the node is asked for again and was not heard since.
    pub(crate) fn is_awaited(&self, index: NodeIndex) -> bool {
        self.nodes.get(index.0 as usize).is_some_and(|node| node.reach == Reach::Awaited)
    }

    /// The node was heard.
    pub(crate) fn heard(&mut self, index: NodeIndex) {
        if let Some(node) = self.nodes.get_mut(index.0 as usize)
            && node.reach == Reach::Awaited
        {
            node.reach = Reach::Usable;
        }
    }

    /// The step that failed on the first node that is gone.
    pub(crate) fn failed_step(&self) -> ReachStep {
        let mut steps = self.nodes.iter().filter_map(|node| match node.reach {
            Reach::Gone(step) => Some(step),
            Reach::Usable | Reach::Awaited => None,
        });
        steps.next().unwrap_or(ReachStep::Connect)
    }

    /// Whether a usable node is below its share of the throttle.
    pub(crate) fn has_share(&self, limit: Throttle) -> bool {
        self.spread.least().is_some_and(|least| least < share(limit, self.spread.usable()))
    }

    /// A node for the next input of a spread map.
    pub(crate) fn give(&mut self, limit: Throttle) -> Option<NodeIndex> {
        self.spread.give(limit)
    }

    /// A spread map's child runs there already.
    pub(crate) fn holds(&mut self, index: NodeIndex) {
        self.spread.hold(index);
    }

    pub(crate) fn took(&mut self, index: Option<NodeIndex>) {
        if let Some(node) = index.and_then(|index| self.nodes.get_mut(index.0 as usize)) {
            node.unfinished += 1;
        }
    }

    pub(crate) fn freed(&mut self, index: Option<NodeIndex>) {
        let Some(index) = index else { return };
        self.spread.on_end(index);
        if let Some(node) = self.nodes.get_mut(index.0 as usize) {
            node.unfinished = node.unfinished.saturating_sub(1);
        }
    }

    /// A node that is gone may be there again: the next start finds out.
    pub(crate) fn retry(&mut self, index: NodeIndex) {
        if let Some(node) = self.nodes.get_mut(index.0 as usize)
            && matches!(node.reach, Reach::Gone(_))
        {
            node.reach = Reach::Awaited;
        }
    }

    fn set_gone(&mut self, index: NodeIndex, step: ReachStep) -> bool {
        if let Some(node) = self.nodes.get_mut(index.0 as usize) {
            node.reach = Reach::Gone(step);
        }
        self.spread.leave_out(index)
    }
}

impl ParentJob {
    /// Whether the child waits for its node, which has not heard of it: it is waited for, or there
    /// was no connection.
    pub(super) fn is_new_there(&self, ordinal: Ordinal) -> bool {
        let Some(row) = self.row(ordinal) else { return false };
        let awaited = row.node.is_some_and(|node| self.nodes.is_awaited(node));
        row.is_unsaid() || (awaited && row.phase.is_sent())
    }

    /// The node at an index.
    pub fn node_id(&self, index: NodeIndex) -> Option<NodeId> {
        self.nodes.id(index)
    }

    /// The job's nodes with their names, in order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeName)> {
        self.nodes.nodes.iter().map(|node| (node.id, &node.name))
    }

    /// Whether unfinished children are on that node or on their way to it.
    pub fn uses(&self, node: NodeId) -> bool {
        self.unfinished_on(node) > 0
    }

    /// Children on that node that have not ended.
    pub fn unfinished_on(&self, node: NodeId) -> u32 {
        let index = self.nodes.find(node).and_then(|index| self.nodes.nodes.get(index.0 as usize));
        index.map_or(0, |node| node.unfinished)
    }

    /// The node could not be reached: nothing that was meant for it has been sent. A spread map
    /// goes on without it; elsewhere its children fail, and theirs alone.
    pub fn on_unreachable(
        &mut self,
        node: NodeId,
        step: ReachStep,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let Some(index) = self.nodes.find(node) else { return };
        if !self.nodes.set_gone(index, step) && !self.may_live_again() {
            return;
        }
        let spread = matches!(self.spec.fan, sortie_model::spec::Fan::Spread);
        if spread && let Some(name) = self.nodes.name(index).cloned() {
            self.note(format!("{name} is left out: unreachable ({step})"));
        }
        // From the last to the first, so that inputs that come back keep their order at the head.
        for ordinal in self.on_node(index).into_iter().rev() {
            let Some(row) = self.rows.get(ordinal.0 as usize) else { continue };
            match row.phase {
                phase if phase.is_sent() && spread && !row.told_to_stop => {
                    self.touch(ordinal);
                    self.nodes.freed(Some(index));
                    self.line.put_back(ordinal);
                    self.suspensions.forget(ordinal);
                    self.suspensions.count_held(phase, Phase::Queued);
                    if let Some(row) = self.rows.get_mut(ordinal.0 as usize) {
                        row.phase = Phase::Queued;
                        row.node = None;
                    }
                }
                phase if phase.is_sent() && row.told_to_stop => {
                    self.end_here(ordinal, Verdict::Stopped, now, effects);
                }
                Phase::Queued => {
                    self.line.withdraw(ordinal);
                    self.fail(ordinal, Reason::Unreachable { step }, now, effects);
                }
                phase if phase.is_sent() => {
                    self.fail(ordinal, Reason::Unreachable { step }, now, effects);
                }
                _ => {}
            }
        }
        self.apply_max_fails(now, effects);
        self.advance(now, effects);
    }

    /// The node speaks a version of the protocol that does not know what the job asks for: nothing
    /// of it was sent there, nor ever is.
    pub fn on_too_old(&mut self, node: NodeId, now: Timestamp, effects: &mut Effects) {
        let Some(index) = self.nodes.find(node) else { return };
        for ordinal in self.on_node(index) {
            let Some(row) = self.rows.get(ordinal.0 as usize) else { continue };
            match row.phase {
                phase if phase.is_sent() && row.told_to_stop => {
                    self.end_here(ordinal, Verdict::Stopped, now, effects);
                    continue;
                }
                Phase::Queued => self.line.withdraw(ordinal),
                phase if phase.is_sent() => {}
                _ => continue,
            }
            let rule = "open-stdin: its node speaks an older version".to_owned();
            self.fail(ordinal, Reason::Denied { rule }, now, effects);
        }
        self.apply_max_fails(now, effects);
        self.advance(now, effects);
    }

    /// The node was silent so long that its children cannot succeed any more: each ends, and what
    /// it says later is discarded. A function that stood still goes on from its checkpoint when it
    /// is resumed, where that is `reached`: known here.
    pub fn on_lost(
        &mut self,
        (node, since): (NodeId, Timestamp),
        reached: impl Fn(Ordinal) -> bool,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let Some(index) = self.nodes.find(node) else { return };
        self.nodes.set_gone(index, ReachStep::Connect);
        let mut parked = Vec::new();
        for ordinal in self.on_node(index) {
            let Some(row) = self.rows.get(ordinal.0 as usize) else { continue };
            let reason = match row.phase {
                Phase::Suspended if reached(ordinal) && self.lacks_item(ordinal) => {
                    Reason::InputLost
                }
                Phase::Suspended if reached(ordinal) => {
                    parked.push(ordinal);
                    continue;
                }
                Phase::Queued => {
                    self.line.withdraw(ordinal);
                    Reason::Unreachable { step: ReachStep::Connect }
                }
                phase if phase.is_sent() => Reason::StartUncertain,
                phase if phase.holds_slot() => Reason::NodeLost { since },
                _ => continue,
            };
            self.fail(ordinal, reason, now, effects);
        }
        self.park(index, &parked, effects);
        self.apply_max_fails(now, effects);
        self.advance(now, effects);
    }

    /// The node has been silent for so long that its children are not waited for. They may run on
    /// there, and say so when it is back.
    pub fn on_disconnected(&mut self, node: NodeId, now: Timestamp, effects: &mut Effects) {
        let Some(index) = self.nodes.find(node) else { return };
        for ordinal in self.on_node(index) {
            let phase = self.row(ordinal).map(|row| row.phase);
            let silent = match phase {
                Some(Phase::Sent) => Phase::Unheard,
                Some(phase) if phase.goes_on() && phase != Phase::Suspended => Phase::Disconnected,
                _ => continue,
            };
            self.set_phase(ordinal, silent, effects);
        }
        self.advance(now, effects);
    }

    /// A new connection to the node is up: what it may not have heard is said again. Hosts accept a
    /// child once, so a repetition starts nothing twice.
    pub fn on_reconnected(&mut self, node: NodeId, now: Timestamp, effects: &mut Effects) {
        let Some(index) = self.nodes.find(node) else { return };
        self.begin_resumed(index, effects);
        self.nodes.heard(index);
        let (mut sent, mut stopping, mut unborn) = (Vec::new(), Vec::new(), Vec::new());
        for ordinal in self.on_node(index) {
            if self.row(ordinal).is_some_and(|row| row.phase == Phase::Unheard) {
                self.set_phase(ordinal, Phase::Sent, effects);
            }
            let Some(row) = self.rows.get(ordinal.0 as usize) else { continue };
            if row.phase.is_sent() && !is_broken(Rule::P2) {
                sent.push(ordinal);
            }
            if row.phase.holds_slot() && row.told_to_stop {
                stopping.push(ordinal);
                unborn.extend(row.phase.is_sent().then_some(ordinal));
            }
            if row.phase == Phase::Disconnected {
                self.set_phase(ordinal, self.begun_phase(ordinal), effects);
            }
        }
        let how = self.stop.as_ref().map_or_else(StopSpec::default, |(how, _)| *how);
        let stop = |children: Vec<Ordinal>, effects: &mut Effects| {
            if !children.is_empty() {
                let children = ChildSet::Some(children);
                effects.push(JobEffect::Stop { node: index, children, how });
            }
        };
        // Before their starts: what of these the node does not have never begins there, and says
        // so. A node of an older version begins them, and hears the other stop.
        stop(unborn, effects);
        self.start_on(index, &sent, effects);
        stop(stopping, effects);
        self.move_again(index, effects);
        self.answer_again(index, effects);
        self.advance(now, effects);
    }

    pub(super) fn on_node(&self, index: NodeIndex) -> Vec<Ordinal> {
        let rows = (0u32..).map(Ordinal).zip(&self.rows);
        let mine = rows.filter(|(_, row)| row.node == Some(index) && !row.phase.is_finished());
        mine.map(|(ordinal, _)| ordinal).collect()
    }
}
