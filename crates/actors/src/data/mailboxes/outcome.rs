//! What appending and reading come to.

use sortie_engine::mailbox::Tally;
use sortie_model::{Record, Seq};
use sortie_store::{Damaged, LoadError, SpoolError};

/// Records were appended, or were known already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The number that comes next: everything before it is stored.
    pub next: Seq,
    /// Bytes until the quota, at most, where the policy is to pause there; a record counts its
    /// overhead, too. At 0 the producer should
    /// pause and await [`JobMailboxes::room`](super::JobMailboxes::room); what is under way already
    /// is still accepted, up to the credit of a child.
    pub room: u64,
}

/// What an append that must not block did.
#[derive(Debug)]
pub enum TryAppend {
    /// It is done.
    Done(Appended),
    /// The disk is needed first: give the records to [`append`](super::JobMailboxes::append).
    WouldSpill(Vec<Record>),
}

/// Why a mailbox accepts nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullBecause {
    /// Its quota is used up.
    Quota,
    /// The quota of all mailboxes of the node is used up.
    NodeQuota,
    /// What is left of the disk stays free, or the disk is full.
    DiskFull,
    /// The disk refuses.
    DiskFailed,
}

impl std::fmt::Display for FullBecause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Quota => "its mailbox is at its quota",
            Self::NodeQuota => "the mailboxes of this node are at their quota",
            Self::DiskFull => "the disk has no room left",
            Self::DiskFailed => "the disk refuses to write",
        })
    }
}

impl FullBecause {
    pub(super) fn of(error: &SpoolError) -> Self {
        match error {
            SpoolError::NodeQuota { .. } => Self::NodeQuota,
            error if error.is_lack_of_space() => Self::DiskFull,
            _ => Self::DiskFailed,
        }
    }
}

/// Why records were not stored. None of them was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Records before these are missing.
    #[error("record {} is missing before record {}", expected.0, first.0)]
    Gap {
        /// The number that has to come next.
        expected: Seq,
        /// The number that came.
        first: Seq,
    },
    /// The child has ended.
    #[error("the mailbox is closed: its child has ended")]
    Closed,
    /// The producer has to pause: await [`room`](super::JobMailboxes::room), then append the
    /// records again.
    #[error("the mailbox is full")]
    Full {
        /// What was to be stored.
        records: Vec<Record>,
        /// Why.
        because: FullBecause,
        /// What the disk said, if it said something.
        #[source]
        source: Option<SpoolError>,
    },
    /// The session's policy is to fail at the quota, and these are the first records beyond it.
    /// They were dropped and counted, and so is what follows: it is appended without an error.
    #[error("the output passes its quota")]
    OverQuota {
        /// What was dropped.
        cut: Tally,
    },
    /// No job can have so many children: the ordinal is not below
    /// [`CHILDREN_PER_JOB`](sortie_model::limits::CHILDREN_PER_JOB).
    #[error("no job can have such a child")]
    NoSuchChild,
    /// The job was removed.
    #[error("the job was removed")]
    Removed,
}

impl AppendError {
    /// Whether the same append may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// Why records could not be read. Nothing was taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The job was removed.
    #[error("the job was removed")]
    Removed,
    /// A mailbox file cannot be read.
    #[error("records could not be read back from disk")]
    Disk(#[from] SpoolError),
    /// A mailbox file was changed by somebody else.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

impl From<LoadError> for ReadError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Disk(error) => Self::Disk(error),
            LoadError::Damaged(damaged) => Self::Damaged(damaged),
        }
    }
}

impl ReadError {
    /// Whether the same read may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_retryable())
    }
}

/// What there is to say about one mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Neither acknowledged nor dropped; on offer or not.
    pub unread: Tally,
    /// What the policy dropped.
    pub dropped: Tally,
    /// Whether the error stream ever got a record.
    pub with_errors: bool,
    /// Whether the child has ended.
    pub closed: bool,
    /// The number that the next record must have.
    pub next: Seq,
    /// Why its producer pauses, if it does.
    pub full: Option<FullBecause>,
    /// Whether the policy is to fail, and records passed the quota: those, and what followed, were
    /// dropped.
    pub cut: bool,
}
