//! Trees that are told to stand still, or to go on.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use sortie_model::Motion;
use sortie_wire::guardian_proto::{ChildNumber, GuardianReport};

use super::Guardian;
use crate::child::Moving;
use crate::tree::Tree;

impl Guardian {
    /// Notes what these trees are to do from now on. The last word counts.
    pub(super) fn begin_moves(&mut self, moves: Vec<(ChildNumber, Motion)>) {
        let now = Instant::now();
        for (number, motion) in moves {
            let Some(child) = self.children.get_mut(&number) else { continue };
            if child.killing.is_none() {
                child.moving = Moving::begin(motion, now);
                self.moving.insert(number);
            }
        }
    }

    /// The child's next program began: if its tree is to stand still, so is that.
    pub(super) fn suspend_anew(&mut self, number: ChildNumber) {
        let child = self.children.get(&number);
        if child.is_some_and(|child| child.moving.motion == Motion::Suspended) {
            self.begin_moves(vec![(number, Motion::Suspended)]);
        }
    }

    /// Nobody is there who could let suspended trees go on, and the next daemon knows of those only
    /// that are kept.
    pub(super) fn let_others_go(&mut self) {
        let is_kept = |number| self.keeper.as_ref().is_some_and(|keeper| keeper.is_kept(number));
        let suspended: Vec<_> = self
            .children
            .iter()
            .filter(|(_, child)| child.moving.motion == Motion::Suspended)
            .map(|(number, _)| (*number, Motion::Running))
            .filter(|(number, _)| !is_kept(*number))
            .collect();
        self.orders.moves.retain(|(number, motion)| *motion == Motion::Running || is_kept(*number));
        self.orders.moves.extend(suspended);
    }

    /// Tells trees again what they do not do yet, and reports those that do.
    pub(super) fn move_again(&mut self) {
        if self.moving.is_empty() || self.outbox.is_full() {
            return;
        }
        let now = Instant::now();
        let (mut to_suspend, mut to_resume) = (Vec::new(), Vec::new());
        for number in &self.moving {
            let Some(child) = self.children.get(number) else { continue };
            let due = child.moving.again_at.is_some_and(|at| at <= now);
            match child.moving.motion {
                _ if !due || child.killing.is_some() => {}
                Motion::Suspended => to_suspend.push(*number),
                Motion::Running => to_resume.push(*number),
            }
        }
        let still = self.suspend(&to_suspend);
        if !to_resume.is_empty() {
            self.forest.resume(&self.trees(&to_resume), &self.mains);
        }
        let moved = to_resume.into_iter().map(|number| (number, true));
        let done: Vec<_> = to_suspend.into_iter().zip(still).chain(moved).collect();
        for (number, done) in done {
            let Some(child) = self.children.get_mut(&number) else { continue };
            if done {
                child.moving.again_at = None;
                let motion = child.moving.motion;
                self.moving.remove(&number);
                if let Some(keeper) = &mut self.keeper {
                    keeper.on_moved(number, motion);
                }
                self.push(&GuardianReport::Moved { child: number, motion });
            } else {
                child.moving.again(now);
            }
        }
        self.moving.retain(|number| {
            self.children.get(number).is_some_and(|child| child.killing.is_none())
        });
    }

    /// Whether each of these, in their order, stands still.
    fn suspend(&mut self, numbers: &[ChildNumber]) -> Vec<bool> {
        if numbers.is_empty() {
            return Vec::new();
        }
        let wanted: HashSet<_> = numbers.iter().collect();
        let (found, mut trees): (Vec<ChildNumber>, Vec<&mut Tree>) = self
            .children
            .iter_mut()
            .filter(|(number, _)| wanted.contains(number))
            .map(|(number, child)| (*number, &mut child.tree))
            .unzip();
        let still = self.forest.suspend(&mut trees, &self.mains);
        let still: HashMap<_, _> = found.into_iter().zip(still).collect();
        numbers.iter().map(|number| still.get(number).copied().unwrap_or(false)).collect()
    }
}
