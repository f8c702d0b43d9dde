//! Which queued children start, where, and the messages that say so.

use sortie_model::spec::Fan;
use sortie_model::{ChildIncarnation, Ordinal, Reason, Timestamp, limits};
use sortie_wire::host_proto::{ChildBatch, ChildItem};

use crate::aggregate::Told;
use crate::parent_job::row::{Phase, Way};
use crate::parent_job::{Effects, JobEffect, ParentJob};
use crate::placement::NodeIndex;

impl ParentJob {
    /// Starts queued children while the throttle and their nodes have room.
    pub(super) fn start_queued(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.starts_nothing() {
            return;
        }
        let mut batches: Vec<Vec<Ordinal>> = vec![Vec::new(); self.nodes.len()];
        let spread = matches!(self.spec.fan, Fan::Spread);
        // A spread map waits while every node has its share; the next end makes room.
        while !spread || self.nodes.usable() == 0 || self.nodes.has_share(self.line.limit()) {
            let Some(ordinal) = self.line.admit() else { break };
            let node = match self.row(ordinal).and_then(|row| row.node) {
                Some(node) => Some(node),
                None => self.nodes.give(self.line.limit()),
            };
            let gone = node.map_or_else(|| Some(self.nodes.failed_step()), |n| self.nodes.gone(n));
            if let Some(step) = gone {
                self.line.on_slot_free();
                self.fail(ordinal, Reason::Unreachable { step }, now, effects);
                continue;
            }
            let awaited = node.is_some_and(|node| self.nodes.is_awaited(node));
            if let Some(row) = self.row_mut(ordinal) {
                (row.node, row.way) = (node, if awaited { Way::Unsaid } else { Way::Fresh });
            }
            self.set_phase(ordinal, Phase::Sent, effects);
            self.is_to_begin(ordinal);
            if let Some(batch) = node.and_then(|node| batches.get_mut(node.0 as usize)) {
                batch.push(ordinal);
            }
        }
        for (node, ordinals) in (0u32..).zip(batches) {
            self.start_on(NodeIndex(node), &ordinals, effects);
        }
    }

    /// Whether starts of these went to their node. What did not leave this one cannot have begun.
    pub fn on_told(&mut self, children: impl Iterator<Item = Ordinal>, told: bool) {
        for ordinal in children {
            if let Some(row) = self.rows.get_mut(ordinal.0 as usize) {
                row.way = match row.way {
                    _ if told => Way::Said,
                    Way::Fresh => Way::Unsaid,
                    way => way,
                };
            }
        }
    }

    /// Start messages for these children of one node: ranges where they are evenly spaced.
    pub(super) fn start_on(&self, node: NodeIndex, ordinals: &[Ordinal], effects: &mut Effects) {
        if self.nodes.is_awaited(node) && !ordinals.is_empty() {
            // They are sent when it is heard: what is stopped until then was never there.
            effects.push(JobEffect::Reach(node));
            return;
        }
        if !self.may_live_again() {
            return self.start_first_on(node, ordinals, effects);
        }
        let began = |ordinal: &Ordinal| {
            self.row(*ordinal).is_some_and(|row| row.incarnation > ChildIncarnation(0))
        };
        let (again, first): (Vec<Ordinal>, Vec<Ordinal>) =
            ordinals.iter().copied().partition(began);
        self.start_again_on(node, &again, effects);
        self.start_first_on(node, &first, effects);
    }

    /// The same for children that did not run before.
    fn start_first_on(&self, node: NodeIndex, ordinals: &[Ordinal], effects: &mut Effects) {
        // One whose item its node did not keep starts without: where it runs already it is known.
        let (with_item, without): (Vec<_>, Vec<_>) =
            ordinals.iter().copied().partition(|ordinal| self.item(*ordinal).is_some());
        self.start_items_on(node, &with_item, effects);
        self.start_plain_on(node, &without, effects);
    }

    /// As few ranges as they are.
    fn start_plain_on(&self, node: NodeIndex, ordinals: &[Ordinal], effects: &mut Effects) {
        let mut rest = ordinals;
        while let [first, ..] = rest {
            let step = match rest {
                [first, second, ..] => second.0 - first.0,
                _ => 1,
            };
            let even = rest.windows(2).take_while(|pair| match pair {
                [a, b] => b.0 - a.0 == step,
                _ => false,
            });
            let count = 1 + even.count();
            let id_base = self.identity.id.0 + 1;
            let children = ChildBatch::Range { first: *first, step, count: count as u32, id_base };
            effects.push(JobEffect::Start { node, children });
            rest = rest.get(count..).unwrap_or_default();
        }
    }

    fn start_items_on(&self, node: NodeIndex, ordinals: &[Ordinal], effects: &mut Effects) {
        for some in ordinals.chunks(limits::FRAME_ITEMS) {
            let mut items = Vec::new();
            let mut bytes = 0;
            for ordinal in some {
                let item = self.item_of(*ordinal);
                bytes += item.item.len() + 32;
                items.push(item);
                if bytes > limits::FRAME_BYTES / 4 {
                    let children = ChildBatch::Items(std::mem::take(&mut items));
                    effects.push(JobEffect::Start { node, children });
                    bytes = 0;
                }
            }
            if !items.is_empty() {
                effects.push(JobEffect::Start { node, children: ChildBatch::Items(items) });
            }
        }
    }

    fn item_of(&self, ordinal: Ordinal) -> ChildItem {
        let number = u64::from(ordinal.0) / self.children_per_item();
        let id = self.rows.get(ordinal.0 as usize).map_or(0, |row| row.id.0);
        let item = self.items.get(number as usize).cloned().unwrap_or_default();
        ChildItem { ordinal, id, number: number + 1, item }
    }

    /// Asks for more items of a map where there is room.
    pub(super) fn want_items(&mut self, effects: &mut Effects) {
        if !self.open || self.told == Told::Stop {
            return;
        }
        let waiting = self.line.waiting();
        let ahead = read_ahead(self.item_bytes);
        let room = ahead.saturating_sub(waiting).saturating_sub(u64::from(self.wanted));
        // Asking in halves of the window keeps one message per many items.
        if room >= ahead / 2 || (room > 0 && self.wanted == 0 && waiting == 0) {
            self.wanted += room as u32;
            effects.push(JobEffect::Want(room as u32));
        }
    }
}

/// How many items of about that length are read ahead.
pub(super) fn read_ahead(item_bytes: usize) -> u64 {
    let ahead = limits::MAP_READ_AHEAD_BYTES / item_bytes.max(1);
    ahead.clamp(limits::MAP_READ_AHEAD_LEAST, limits::MAP_READ_AHEAD) as u64
}
