//! Children whose guardian keeps them, and what they wrote, until the owner has it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_model::{ChildKey, JobInstance, Ordinal, Seq};
use sortie_wire::host_proto::Report;

use crate::node::guardians::Guardians;

/// Those of one session.
#[derive(Debug)]
pub(super) struct KeptChildren {
    guardians: Option<Arc<Guardians>>,
    children: Mutex<BTreeSet<ChildKey>>,
}

impl KeptChildren {
    pub(super) fn new(guardians: Option<Arc<Guardians>>) -> Self {
        Self { guardians, children: Mutex::default() }
    }

    fn children(&self) -> MutexGuard<'_, BTreeSet<ChildKey>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, child: ChildKey) {
        self.children().insert(child);
    }

    /// The owner has stored what the child wrote before that number.
    pub(super) fn stored(&self, child: ChildKey, next: Seq) {
        if let Some(guardians) = &self.guardians
            && self.children().contains(&child)
        {
            guardians.stored(child, next);
        }
    }

    /// The owner has the child's end, and all before it.
    pub(super) fn ended(&self, child: ChildKey) {
        if let Some(guardians) = &self.guardians
            && self.children().remove(&child)
        {
            guardians.forget(child);
        }
    }

    /// The owner has stored a report of the shared stream.
    pub(super) fn reported(&self, report: &Report) {
        let key = |ordinal| ChildKey { job: report.job, ordinal };
        for run in &report.records {
            self.stored(key(run.ordinal), run.first.after(run.records.len() as u64));
        }
        report.ended.iter().for_each(|end| self.ended(key(end.ordinal)));
    }

    /// Nobody wants to hear of the job any more.
    pub(super) fn forget(&self, job: JobInstance) {
        let (first, last) = (Ordinal(0), Ordinal(u32::MAX));
        let of_job = ChildKey { job, ordinal: first }..=ChildKey { job, ordinal: last };
        let gone: Vec<ChildKey> = self.children().range(of_job).copied().collect();
        gone.into_iter().for_each(|child| self.ended(child));
    }
}
