//! Children that are told to stand still, or to go on.

use serde::{Deserialize, Serialize};
use sortie_model::{ChildIncarnation, JobInstance, Motion, Ordinal, SessionInstance};

use crate::host_proto::ChildSet;

/// Owner to host: suspend these, or let them go on. What is still queued there does not start while
/// it is suspended. An order about a child with no higher number than the last one says nothing
/// new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspendChildren {
    /// The session they belong to.
    pub session: SessionInstance,
    /// Their job.
    pub job: JobInstance,
    /// Which children.
    pub children: ChildSet,
    /// Counts the orders of the job, from 1.
    pub number: u64,
    /// What they are to do.
    pub motion: Motion,
}

/// A child does what it was told to, or, until it is suspended again, does so no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildMotion {
    /// The child.
    pub ordinal: Ordinal,
    /// Which of its incarnations.
    pub incarnation: ChildIncarnation,
    /// The number of the last order that came to it.
    pub number: u64,
    /// What it does.
    pub motion: Motion,
}
