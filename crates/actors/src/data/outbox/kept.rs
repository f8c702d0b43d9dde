//! Children whose guardian keeps them, and what they wrote, until the owner has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_model::{
    ChildIncarnation, ChildKey, JobInstance, NodeId, Ordinal, Seq, SessionInstance,
};
use sortie_wire::host_proto::Report;

use crate::node::guardians::Guardians;

/// Those of one session. To the guardian their jobs have names of its own: see
/// [`JobInstance::hosted_for`].
#[derive(Debug)]
pub(super) struct KeptChildren {
    owner: (NodeId, SessionInstance),
    guardians: Option<Arc<Guardians>>,
    /// Which life of each is kept.
    children: Mutex<BTreeMap<ChildKey, ChildIncarnation>>,
}

impl KeptChildren {
    pub(super) fn new(owner: (NodeId, SessionInstance), guardians: Option<Arc<Guardians>>) -> Self {
        Self { owner, guardians, children: Mutex::default() }
    }

    fn children(&self) -> MutexGuard<'_, BTreeMap<ChildKey, ChildIncarnation>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the guardian calls the child.
    pub(super) fn name(&self, child: ChildKey) -> ChildKey {
        let (owner, session) = self.owner;
        ChildKey { job: child.job.hosted_for(owner, session), ..child }
    }

    pub(super) fn add(&self, child: ChildKey, life: ChildIncarnation) {
        self.children().insert(child, life);
    }

    /// The owner has stored what the child wrote before that number.
    pub(super) fn stored(&self, child: ChildKey, next: Seq) {
        if let Some(guardians) = &self.guardians
            && self.children().contains_key(&child)
        {
            guardians.stored(self.name(child), next);
        }
    }

    /// The owner has the end of that life of the child, and all before it. A later one may have
    /// begun meanwhile.
    pub(super) fn ended(&self, child: ChildKey, life: ChildIncarnation) {
        let mut children = self.children();
        if children.get(&child) == Some(&life) {
            children.remove(&child);
            drop(children);
            self.forget_child(child);
        }
    }

    fn forget_child(&self, child: ChildKey) {
        if let Some(guardians) = &self.guardians {
            guardians.forget(self.name(child));
        }
    }

    /// The owner has stored a report of the shared stream.
    pub(super) fn reported(&self, report: &Report) {
        let key = |ordinal| ChildKey { job: report.job, ordinal };
        for run in &report.records {
            self.stored(key(run.ordinal), run.first.after(run.records.len() as u64));
        }
        report.ended.iter().for_each(|end| self.ended(key(end.ordinal), end.incarnation));
    }

    /// Nobody wants to hear of the job any more.
    pub(super) fn forget(&self, job: JobInstance) {
        let (first, last) = (Ordinal(0), Ordinal(u32::MAX));
        let of_job = ChildKey { job, ordinal: first }..=ChildKey { job, ordinal: last };
        let gone: Vec<ChildKey> = self.children().range(of_job).map(|(child, _)| *child).collect();
        for child in gone {
            self.children().remove(&child);
            self.forget_child(child);
        }
    }
}
