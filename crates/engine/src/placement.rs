//! Which node a child goes to (`docs/semantics.md`, section 3.1).
//!
//! Without a map, and with `--each`, a child's place among its siblings says its node. In a spread
//! map each input goes to the node that holds least at the moment its turn comes, so a slow node
//! gets less.

use std::collections::BTreeSet;

use sortie_model::Ordinal;
use sortie_model::spec::{Fan, Throttle};

use crate::throttle::share;

/// A node's place among the nodes of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// Where a child goes, by its ordinal: node by node, and with a map item by item. None in a spread
/// map, where [`Spread`] decides, and for a job without nodes.
pub fn node_of(fan: &Fan, ordinal: Ordinal, nodes: u32) -> Option<NodeIndex> {
    match fan {
        Fan::PerNode { .. } | Fan::Each => ordinal.0.checked_rem(nodes).map(NodeIndex),
        Fan::Spread => None,
    }
}

/// Which item of the map a child has, from 0; none without a map.
pub fn item_of(fan: &Fan, ordinal: Ordinal, nodes: u32) -> Option<u32> {
    match fan {
        Fan::PerNode { .. } => None,
        Fan::Each => ordinal.0.checked_div(nodes),
        Fan::Spread => Some(ordinal.0),
    }
}

/// How many children a job has from the start; none with a map, whose input decides.
pub fn known_children(fan: &Fan, nodes: u32) -> Option<u64> {
    match fan {
        Fan::PerNode { copies } => Some(u64::from(copies.get()) * u64::from(nodes)),
        Fan::Each | Fan::Spread => None,
    }
}

#[derive(Debug, Clone, Copy)]
struct Load {
    unfinished: u32,
    usable: bool,
    /// When it was given a child last, in children given so far.
    given: u64,
}

/// What the nodes of a spread map hold. A child costs O(log nodes); a node costs a few words.
#[derive(Debug, Clone)]
pub struct Spread {
    loads: Vec<Load>,
    /// Usable nodes: the one that holds least first, and of equals the one that waits longest.
    order: BTreeSet<(u32, u64, NodeIndex)>,
    given: u64,
}

impl Spread {
    /// So many nodes, all usable as far as is known, none with a child.
    pub fn new(nodes: u32) -> Self {
        let load = Load { unfinished: 0, usable: true, given: 0 };
        Self {
            loads: vec![load; nodes as usize],
            order: (0..nodes).map(|node| (0, 0, NodeIndex(node))).collect(),
            given: 0,
        }
    }

    /// Nodes that can be given children.
    pub fn usable(&self) -> u32 {
        self.order.len() as u32
    }

    /// Unfinished children on the usable node that holds least.
    pub fn least(&self) -> Option<u32> {
        self.order.first().map(|(unfinished, _, _)| *unfinished)
    }

    /// Unfinished children on that node.
    pub fn unfinished(&self, node: NodeIndex) -> u32 {
        self.load(node).map_or(0, |load| load.unfinished)
    }

    /// Gives the next child to the node that holds least, if that one is below its share of the
    /// throttle. The throttle itself is the caller's to keep (`throttle::Line`).
    pub fn give(&mut self, limit: Throttle) -> Option<NodeIndex> {
        let (unfinished, _, node) = *self.order.first()?;
        if unfinished >= share(limit, self.usable()) {
            return None;
        }
        self.given += 1;
        let given = self.given;
        self.update(node, |load| {
            load.unfinished += 1;
            load.given = given;
        });
        Some(node)
    }

    /// A child was given to that node by a former life of the job.
    pub fn hold(&mut self, node: NodeIndex) {
        self.update(node, |load| load.unfinished += 1);
    }

    /// A child on that node ended, or was taken back before it was sent.
    pub fn on_end(&mut self, node: NodeIndex) {
        self.update(node, |load| load.unfinished = load.unfinished.saturating_sub(1));
    }

    /// The node is unreachable or lost: it gets no more children. Says whether that is news.
    pub fn leave_out(&mut self, node: NodeIndex) -> bool {
        let was = self.load(node).is_some_and(|load| load.usable);
        self.update(node, |load| load.usable = false);
        was
    }

    /// The node can be used again.
    pub fn take_in(&mut self, node: NodeIndex) {
        self.update(node, |load| load.usable = true);
    }

    fn load(&self, node: NodeIndex) -> Option<&Load> {
        self.loads.get(node.0 as usize)
    }

    fn update(&mut self, node: NodeIndex, change: impl FnOnce(&mut Load)) {
        let Some(load) = self.loads.get_mut(node.0 as usize) else { return };
        self.order.remove(&(load.unfinished, load.given, node));
        change(load);
        if load.usable {
            self.order.insert((load.unfinished, load.given, node));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;
    use sortie_model::limits;

    use super::*;
    use crate::throttle::Line;

    fn at_most(most: u32) -> Throttle {
        NonZeroU32::new(most).map_or(Throttle::Unlimited, Throttle::AtMost)
    }

    fn give_all(spread: &mut Spread, limit: Throttle) -> Vec<u32> {
        std::iter::from_fn(|| spread.give(limit)).map(|node| node.0).collect()
    }

    #[test]
    fn every_input_runs_on_every_node_item_by_item_with_each() {
        let places = (0..6).map(|ordinal| {
            let ordinal = Ordinal(ordinal);
            (item_of(&Fan::Each, ordinal, 3), node_of(&Fan::Each, ordinal, 3).map(|node| node.0))
        });
        let items = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
        assert!(places.eq(items.map(|(item, node)| (Some(item), Some(node)))));
    }

    #[test]
    fn copies_go_round_the_nodes() {
        let fan = Fan::PerNode { copies: NonZeroU32::new(2).unwrap() };
        let nodes = (0..4).map(|ordinal| node_of(&fan, Ordinal(ordinal), 2));
        assert!(nodes.eq([0, 1, 0, 1].map(|node| Some(NodeIndex(node)))));
        assert_eq!(known_children(&fan, 2), Some(4));
        assert_eq!(node_of(&fan, Ordinal(0), 0), None);
    }

    #[test]
    fn each_node_gets_its_share_and_the_next_as_one_ends() {
        let mut spread = Spread::new(3);
        assert_eq!(give_all(&mut spread, at_most(4)), [0, 1, 2, 0, 1, 2]);
        spread.on_end(NodeIndex(1));
        assert_eq!(give_all(&mut spread, at_most(4)), [1]);
    }

    #[test]
    fn an_unlimited_job_still_bounds_what_a_node_holds() {
        let mut spread = Spread::new(1);
        let given = give_all(&mut spread, Throttle::Unlimited);
        assert_eq!(given.len(), limits::UNFINISHED_PER_NODE as usize);
    }

    #[test]
    fn a_node_that_is_left_out_gets_nothing_and_the_others_share_its_part() {
        let mut spread = Spread::new(3);
        assert!(spread.leave_out(NodeIndex(1)));
        assert!(!spread.leave_out(NodeIndex(1)));
        assert_eq!(give_all(&mut spread, at_most(4)), [0, 2, 0, 2]);
        spread.take_in(NodeIndex(1));
        assert_eq!(give_all(&mut spread, at_most(4)), [1, 1]);
    }

    #[test]
    fn with_fewer_slots_than_nodes_every_node_has_its_turn() {
        let mut spread = Spread::new(3);
        let mut line = Line::new(at_most(1));
        line.push(Ordinal(0), 6);
        let mut turns = Vec::new();
        while line.admit().is_some() {
            let node = spread.give(line.limit()).unwrap();
            turns.push(node.0);
            spread.on_end(node);
            line.on_slot_free();
        }
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        /// Children end at random; nodes are left out at random; one may be slow.
        #[test]
        fn every_input_goes_once_to_a_usable_node_that_holds_least(
            nodes in 1..6_u32,
            limit in 0..9_u32,
            inputs in 0..60_u32,
            ends in prop::collection::vec(any::<prop::sample::Index>(), 200),
            left_out in prop::collection::vec((0..200_usize, 0..6_u32), 0..3),
        ) {
            let limit = at_most(limit);
            let mut spread = Spread::new(nodes);
            let mut line = Line::new(limit);
            line.push(Ordinal(0), inputs);
            let mut placed = Vec::new();
            let mut running: Vec<NodeIndex> = Vec::new();
            let mut out = vec![false; nodes as usize];
            for (step, end) in ends.iter().enumerate() {
                let now = left_out.iter().filter(|(when, node)| *when == step && *node < nodes);
                for (_, node) in now {
                    spread.leave_out(NodeIndex(*node));
                    out[*node as usize] = true;
                }
                let usable = out.iter().filter(|out| !**out).count() as u32;
                prop_assert_eq!(spread.usable(), usable);
                while line.has_free_slot() && line.waiting() > 0 {
                    let held = |node: u32| {
                        running.iter().filter(|other| other.0 == node).count() as u32
                    };
                    let least = (0..nodes).filter(|node| !out[*node as usize]).map(held).min();
                    let Some(node) = spread.give(limit) else {
                        prop_assert!(least.is_none_or(|least| least >= share(limit, usable)));
                        break;
                    };
                    prop_assert!(!out[node.0 as usize]);
                    prop_assert_eq!(Some(held(node.0)), least);
                    prop_assert!(held(node.0) < share(limit, usable));
                    placed.extend(line.admit());
                    running.push(node);
                    if let Throttle::AtMost(most) = limit {
                        prop_assert!(running.len() <= most.get() as usize);
                    }
                }
                if !running.is_empty() {
                    spread.on_end(running.remove(end.index(running.len())));
                    line.on_slot_free();
                }
            }
            let everyone = placed.iter().map(|ordinal| ordinal.0).eq(0..placed.len() as u32);
            prop_assert!(everyone, "inputs are placed once and in order");
            if !out.iter().all(|out| *out) {
                prop_assert_eq!(placed.len() as u32, inputs);
            }
        }
    }
}
