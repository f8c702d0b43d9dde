//! What a stop means where children run.

use std::collections::HashSet;
use std::sync::Arc;

use sortie_model::{Ordinal, limits};
use sortie_wire::host_proto::{ChildSet, StopChildren};

use crate::host::{Host, HostEffect, Start};

impl Host {
    /// The owner wants children stopped. A queued one never runs, nor does one that is named and
    /// whose start comes later: an owner that was cut off says the stop first.
    pub fn on_stop(&mut self, stop: StopChildren, effects: &mut Vec<HostEffect>) {
        let StopChildren { job: instance, children, how, .. } = stop;
        let unborn = self.jobs.values().map(|job| job.unborn.len()).sum::<usize>();
        let Some(job) = self.jobs.get_mut(&instance) else { return };
        // It was told that children may be forgotten, and has settled what it had of them.
        job.is_adopted = false;
        let named: HashSet<Ordinal> = match &children {
            ChildSet::All => HashSet::new(),
            ChildSet::Some(some) => some.iter().copied().collect(),
        };
        let wanted = |ordinal: &Ordinal| children == ChildSet::All || named.contains(ordinal);
        let (never, stay): (Vec<Start>, Vec<Start>) =
            job.queued.drain(..).partition(|start| wanted(&start.ordinal));
        job.queued = stay.into();
        never.iter().for_each(|start| {
            job.held.remove(&start.ordinal);
        });
        if !never.is_empty() {
            let spec = Arc::clone(&job.spec);
            effects.push(HostEffect::NeverRun { job: instance, spec, children: never });
        }
        if children != ChildSet::All {
            let room = limits::STOPPED_UNBORN.saturating_sub(unborn - job.unborn.len());
            let accepted = &job.accepted;
            let unborn = named.into_iter().filter(|child| !accepted.contains_key(child));
            job.unborn = unborn.take(room).collect();
        }
        effects.push(HostEffect::Stop { job: instance, children, how });
    }
}
