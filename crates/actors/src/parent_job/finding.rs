//! What a node that begins anew finds of a job's children.

use std::collections::HashSet;

use sortie_engine::parent_job::Found;
use sortie_model::{ChildIncarnation, Ordinal};

use crate::data::job::JobShared;

/// What a node that begins anew finds of a job's children.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) alive: HashSet<(Ordinal, ChildIncarnation)>,
    /// What else was to run never began.
    pub(crate) knows_all: bool,
}

impl Finding {
    /// What is found of a child in that life.
    pub(super) fn of(&self, job: &JobShared, child: Ordinal, life: ChildIncarnation) -> Found {
        if self.alive.contains(&(child, life)) {
            Found::Alive
        } else if job.checkpoints.has(child) {
            Found::AtCheckpoint
        } else if self.knows_all {
            Found::NeverBegan
        } else {
            Found::Gone
        }
    }
}
