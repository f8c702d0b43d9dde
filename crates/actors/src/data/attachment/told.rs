//! What a node was told of and may still execute, and what of it is gone with its silence or its
//! end.

use std::collections::BTreeSet;

use sortie_engine::peer::Holds;
use sortie_model::JobInstance;
use sortie_model::spec::Hosting;

use crate::data::attachment::{Attachment, Gaps, State};

/// Whether a start is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    Yes,
    /// There is no connection to say it, or the job has yet to hear what became of those before.
    No,
    /// What waits to be written has to go first: the job is to be woken for it in a while.
    Later,
    /// The same, and the job is woken already.
    Waits,
}

impl State {
    pub(super) fn holds(&self) -> bool {
        self.told.values().any(|hosting| *hosting == Hosting::Persistent)
    }

    /// Everything that the node was told of is gone; answers the jobs.
    pub(super) fn forget_all(&mut self) -> BTreeSet<JobInstance> {
        let before = std::mem::take(self);
        (self.unheard, self.waiting) = (before.unheard, before.waiting);
        before.told.into_keys().collect()
    }

    /// What ends with its owner's silence is gone; answers those jobs.
    pub(super) fn forget_temporary(&mut self) -> BTreeSet<JobInstance> {
        if !self.holds() && self.owes.is_none() {
            return self.forget_all();
        }
        let gone = self.told.iter().filter(|(_, hosting)| **hosting == Hosting::Temporary);
        let gone: BTreeSet<JobInstance> = gone.map(|(job, _)| *job).collect();
        self.told.retain(|job, _| !gone.contains(job));
        self.specified.retain(|job| !gone.contains(job));
        self.positions.retain(|key, _| !gone.contains(&key.job));
        self.fresh.retain(|key, _| !gone.contains(&key.job));
        gone
    }
}

impl Attachment {
    /// The node was silent for so long that what ends with its owner's silence is gone: answers
    /// those jobs that it was told of.
    pub(crate) fn lost(&self) -> BTreeSet<JobInstance> {
        let lost = self.state().forget_temporary();
        lost.iter().for_each(|job| self.inputs.forget(*job));
        lost
    }

    /// The node ended, and with it what it was told: answers the jobs that it was told of.
    pub(crate) fn gone(&self) -> BTreeSet<JobInstance> {
        self.inputs.clear();
        self.state().forget_all()
    }

    /// The job is about to be told what became of its children there, or that nothing can become
    /// of them. Until it has heard nothing of it is started there.
    pub(crate) fn must_hear(&self, job: JobInstance) {
        self.state().must_hear(job);
    }

    /// The job was told what became of its children there.
    pub(crate) fn heard(&self, job: JobInstance) {
        let mut state = self.state();
        if let Some(words) = state.unheard.get_mut(&job) {
            *words -= 1;
            if *words == 0 {
                state.unheard.remove(&job);
            }
        }
    }

    /// The job is awake, since not all that it had to say found room: whether it can say it now. If
    /// not, it says it anyway when the node is there again.
    pub(crate) fn says_again(&self, job: JobInstance) -> bool {
        let mut state = self.state();
        state.waiting.remove(&job) && state.ready && state.is_up()
    }

    /// An earlier life of this node told the node of the job, which may still execute it.
    pub(crate) fn was_told(&self, job: JobInstance) {
        let mut state = self.state();
        state.told.insert(job, Hosting::Persistent);
        (state.later, state.gaps) = (true, Gaps::True);
    }

    /// Whether the node was told of the job and may still execute it.
    pub(crate) fn has_told(&self, job: JobInstance) -> bool {
        self.state().told.contains_key(&job)
    }

    /// Whether the node was told of any job that it may still execute.
    pub(crate) fn has_told_any(&self) -> bool {
        !self.state().told.is_empty()
    }

    /// Whether the node was told of any job that outlives our silence, or is yet to hear that one
    /// is over.
    pub(crate) fn holds(&self) -> Holds {
        let state = self.state();
        if state.owes.is_some() || state.holds() { Holds::Something } else { Holds::Nothing }
    }
}
