//! What a session's watchers and monitors are told.

use serde::{Deserialize, Serialize};
use sortie_model::{ChildIncarnation, EntryId, Ordinal, Question, Reason, State, Timestamp};

/// Something that happened to a job or a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A job was accepted.
    Accepted {
        /// The job.
        job: EntryId,
    },
    /// An entry changed its state.
    Changed {
        /// The entry.
        id: EntryId,
        /// Its job's number; its own for a job.
        job: EntryId,
        /// A child's place among its siblings.
        ordinal: Option<Ordinal>,
        /// Which of the child's lives.
        incarnation: ChildIncarnation,
        /// Its state now.
        state: State,
        /// Why, if it failed.
        reason: Option<Reason>,
        /// What it asks, if it is a child that is blocked.
        question: Option<Question>,
    },
    /// A job was removed.
    Removed {
        /// The job.
        job: EntryId,
    },
    /// The watcher was too slow, or its connection broke.
    Missed {
        /// How many events it did not get; 0 where nobody knows.
        count: u64,
    },
    /// A life of a child ended, or a job; once for each. Only a monitor is told.
    Ended(EndNotice),
}

/// The end of one life of a child, or of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndNotice {
    /// The child, or the job.
    pub id: EntryId,
    /// The child's job; the job itself.
    pub job: EntryId,
    /// The child's place among its siblings; none for the job.
    pub ordinal: Option<Ordinal>,
    /// Which of the child's lives ended.
    pub incarnation: ChildIncarnation,
    /// How; none where that was forgotten before the monitor's reader took the notices before it.
    pub state: Option<State>,
    /// Why, if it failed. A job fails because of its children.
    pub reason: Option<Reason>,
}
