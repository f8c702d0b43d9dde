//! What a suspension means where children run: what is queued does not begin meanwhile
//! (`docs/semantics.md`, section 3.5).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use sortie_model::{Motion, Ordinal};
use sortie_wire::host_proto::{ChildMotion, ChildSet, SuspendChildren};

use crate::host::{Host, HostEffect, HostedJob, Start};

impl Host {
    /// The owner wants children to stand still, or to go on. A queued one does not run meanwhile.
    pub fn on_suspend(&mut self, suspend: SuspendChildren, effects: &mut Vec<HostEffect>) {
        let SuspendChildren { job: instance, children, number, motion, .. } = suspend;
        let Some(job) = self.jobs.get_mut(&instance) else { return };
        let named: HashSet<Ordinal> = match &children {
            ChildSet::All => HashSet::new(),
            ChildSet::Some(some) => some.iter().copied().collect(),
        };
        let wanted = |start: &&Start| children == ChildSet::All || named.contains(&start.ordinal);
        let all_moved: Vec<ChildMotion> =
            job.queued.iter().filter(wanted).map(|start| moved(start, number, motion)).collect();
        for child in &all_moved {
            match motion {
                Motion::Suspended => job.held.insert(child.ordinal),
                Motion::Running => job.held.remove(&child.ordinal),
            };
        }
        if !all_moved.is_empty() {
            let spec = Arc::clone(&job.spec);
            effects.push(HostEffect::Moved { job: instance, spec, moved: all_moved });
        }
        effects.push(HostEffect::Move { job: instance, children, number, motion });
        self.run_queued(instance, effects);
    }

    /// Says once more which queued children are held back: an owner that began anew may know
    /// nothing of it. By no order that it could know.
    pub(super) fn hold_again(&self, effects: &mut Vec<HostEffect>) {
        for (instance, job) in self.jobs.iter().filter(|(_, job)| !job.held.is_empty()) {
            let held = job.queued.iter().filter(|start| job.held.contains(&start.ordinal));
            let moved = held.map(|start| moved(start, 0, Motion::Suspended));
            let (spec, moved) = (Arc::clone(&job.spec), moved.collect());
            effects.push(HostEffect::Moved { job: *instance, spec, moved });
        }
    }
}

/// What a queued child does by the order of that number.
const fn moved(start: &Start, number: u64, motion: Motion) -> ChildMotion {
    ChildMotion { ordinal: start.ordinal, incarnation: start.incarnation, number, motion }
}

impl HostedJob {
    /// Takes at most so many children that may run out of the queue.
    pub(super) fn take_queued(&mut self, most: usize) -> Vec<Start> {
        if self.held.is_empty() {
            return self.queued.drain(..self.queued.len().min(most)).collect();
        }
        let (mut taken, mut stay) = (Vec::new(), VecDeque::new());
        for start in self.queued.drain(..) {
            if taken.len() < most && !self.held.contains(&start.ordinal) {
                taken.push(start);
            } else {
                stay.push_back(start);
            }
        }
        self.queued = stay;
        taken
    }
}
