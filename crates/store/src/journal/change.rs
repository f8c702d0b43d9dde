//! What the journal is asked to keep.

use bytes::Bytes;
use sortie_model::{
    ChildIncarnation, EntryId, IdempotencyKey, JobInstance, Ordinal, SessionInstance, Timestamp,
    limits,
};

use crate::journal::entries::{ChildRun, Cursor, JobFacts, NewJob, SessionEntry};

/// In which life a child came to a checkpoint, and the value with which it did.
pub type Checkpoint = (ChildIncarnation, Bytes);

/// A change. What belongs to a session or a job that is not there changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A session was opened. Refused when the disk is full.
    SessionOpened(Box<SessionEntry>),
    /// Something about a session is another now.
    SessionChanged(Box<SessionEntry>),
    /// The session is over: everything of it goes, in steps.
    SessionClosed(SessionInstance),
    /// A job moved.
    JobChanged {
        /// Its session.
        session: SessionInstance,
        /// Its number.
        job: EntryId,
        /// What it is now.
        facts: Box<JobFacts>,
    },
    /// Children moved, or came with an open input.
    ChildrenChanged {
        /// Their session.
        session: SessionInstance,
        /// Their job.
        job: JobInstance,
        /// What they are now.
        runs: Vec<ChildRun>,
        /// The number after theirs, if they are new.
        next_id: Option<EntryId>,
    },
    /// Records of children were stored or taken.
    CursorsMoved {
        /// Their job.
        job: JobInstance,
        /// How far, by child.
        cursors: Vec<(Ordinal, Cursor)>,
    },
    /// All that a child left unread is so little that it lies here instead of in a file: at most
    /// [`limits::INLINE_OUTPUT_BYTES`] for each, and [`limits::JOURNAL_GROUP_BYTES`] together.
    OutputStored {
        /// Their job.
        job: JobInstance,
        /// What each child left, in place of what was there.
        outputs: Vec<(Ordinal, Bytes)>,
    },
    /// Functions came to checkpoints, or need theirs no more: at most
    /// [`limits::CHECKPOINT_BYTES`] for each, and [`limits::JOURNAL_GROUP_BYTES`] together.
    CheckpointsReached {
        /// Their job.
        job: JobInstance,
        /// The last one of each child, in place of what was there.
        checkpoints: Vec<(Ordinal, Option<Checkpoint>)>,
    },
    /// Jobs were removed: everything of them goes, in steps; their keys are remembered.
    JobsRemoved {
        /// Their session.
        session: SessionInstance,
        /// Their numbers.
        jobs: Vec<EntryId>,
        /// When.
        at: Timestamp,
    },
    /// Keys are not remembered any more.
    KeysForgotten {
        /// Their session.
        session: SessionInstance,
        /// Which.
        keys: Vec<IdempotencyKey>,
    },
}

/// Whether an answer may come before the change is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// It may: the change is lost when the process or the machine ends, or the disk is full, before
    /// a durable one follows. Never waits for the disk, but once where the journal had an older
    /// version.
    Relaxed,
    /// It may not.
    Durable,
}

/// What a start became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// The job is in the journal.
    New,
    /// The key had this job already, from the same spec.
    Same(EntryId),
}

/// What a row takes in the queue, in bytes, about.
const ROW: usize = 128;

/// A change, or a start, as the writer gets it.
#[derive(Debug)]
pub(crate) enum Work {
    Changes(Vec<Change>),
    Start(Box<PreparedStart>),
}

/// A start whose large parts are encoded.
#[derive(Debug)]
pub(crate) struct PreparedStart {
    pub(crate) new: NewJob,
    pub(crate) plan: Vec<u8>,
}

impl Change {
    /// About how much of the queue the change takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        ROW * match self {
            Self::SessionOpened(session) | Self::SessionChanged(session) => {
                return ROW + session_weight(session);
            }
            Self::ChildrenChanged { runs, .. } => return runs_weight(runs),
            Self::CursorsMoved { cursors, .. } => {
                cursors.iter().map(|(_, cursor)| 1 + cursor.apart.len() / 4).sum()
            }
            Self::OutputStored { outputs, .. } => {
                return outputs.iter().map(|(_, output)| ROW + output.len()).sum();
            }
            Self::CheckpointsReached { checkpoints, .. } => {
                return checkpoints.iter().map(|(_, it)| ROW + value_length(it)).sum();
            }
            Self::JobsRemoved { jobs, .. } => jobs.len(),
            Self::KeysForgotten { keys, .. } => keys.len(),
            Self::SessionClosed(_) | Self::JobChanged { .. } => 4,
        }
    }

    /// Whether the change keeps its bounds.
    pub(crate) fn fits(&self) -> bool {
        let most = limits::JOURNAL_CHANGES;
        match self {
            Self::SessionOpened(session) | Self::SessionChanged(session) => {
                session_weight(session) <= limits::SPEC_BYTES
            }
            Self::ChildrenChanged { runs, .. } => runs_fit(runs),
            Self::CursorsMoved { cursors, .. } => {
                let possible = |(ordinal, cursor): &(Ordinal, Cursor)| {
                    ordinal.0 < limits::CHILDREN_PER_JOB
                        && cursor.apart.len() <= limits::TAKEN_APART
                };
                cursors.len() <= most && cursors.iter().all(possible)
            }
            Self::OutputStored { outputs, .. } => {
                let possible = |(ordinal, output): &(Ordinal, Bytes)| {
                    ordinal.0 < limits::CHILDREN_PER_JOB
                        && output.len() <= limits::INLINE_OUTPUT_BYTES
                };
                outputs.len() <= most
                    && self.weight() <= limits::JOURNAL_GROUP_BYTES
                    && outputs.iter().all(possible)
            }
            Self::CheckpointsReached { checkpoints, .. } => {
                let possible = |(ordinal, it): &(Ordinal, Option<Checkpoint>)| {
                    ordinal.0 < limits::CHILDREN_PER_JOB
                        && value_length(it) <= limits::CHECKPOINT_BYTES
                };
                checkpoints.len() <= most
                    && self.weight() <= limits::JOURNAL_GROUP_BYTES
                    && checkpoints.iter().all(possible)
            }
            Self::JobsRemoved { jobs, .. } => jobs.len() <= most,
            Self::KeysForgotten { keys, .. } => keys.len() <= most,
            Self::SessionClosed(_) | Self::JobChanged { .. } => true,
        }
    }
}

fn value_length(checkpoint: &Option<Checkpoint>) -> usize {
    checkpoint.as_ref().map_or(0, |(_, value)| value.len())
}

/// About how much of the queue rows of children take, in bytes.
pub(crate) const fn runs_weight(runs: &[ChildRun]) -> usize {
    2 * ROW * runs.len()
}

fn runs_fit(runs: &[ChildRun]) -> bool {
    let ends = |run: &ChildRun| u64::from(run.first.0) + u64::from(run.count);
    let last = runs.iter().map(ends).max().unwrap_or(0);
    runs.len() <= limits::JOURNAL_CHANGES && last <= u64::from(limits::CHILDREN_PER_JOB)
}

impl NewJob {
    /// Whether it keeps its bounds.
    pub(crate) fn fits(&self) -> bool {
        runs_fit(&self.children)
    }
}

fn session_weight(session: &SessionEntry) -> usize {
    let variables = session.environment.iter();
    let variables = variables.map(|(name, value)| {
        16 + name.as_bytes().len() + value.as_ref().map_or(0, |value| value.as_bytes().len())
    });
    session.name.len() + session.owner.len() + variables.sum::<usize>()
}
