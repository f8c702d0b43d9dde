//! What can go wrong with mailbox files.

use std::fmt;
use std::io;

/// What was being done with a mailbox file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making the node's directory for mailbox files.
    Prepare,
    /// Making a file.
    Create,
    /// Opening a file again.
    Open,
    /// Asking how much of the disk is free.
    Measure,
    /// Writing.
    Write,
    /// Reading.
    Read,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "make the directory for mailbox files",
            Self::Create => "create a mailbox file",
            Self::Open => "open a mailbox file again",
            Self::Measure => "see how much of the disk is free",
            Self::Write => "write to a mailbox file",
            Self::Read => "read from a mailbox file",
        })
    }
}

/// Why bytes of a mailbox could not be written or read. What was in memory is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The mailboxes of this node have used up what they may have of the disk.
    #[error("the node's mailboxes have {used} of {quota} bytes of disk")]
    NodeQuota {
        /// Bytes they use.
        used: u64,
        /// Bytes they may use.
        quota: u64,
    },
    /// What is left of the disk stays free for others.
    #[error("the disk has {free} bytes free, of which {reserve} stay free")]
    Reserve {
        /// Bytes free now.
        free: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// The system refused.
    #[error("cannot {step}")]
    Io {
        /// What was refused.
        step: Step,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SpoolError {
    pub(crate) fn io(step: Step, source: impl Into<io::Error>) -> Self {
        Self::Io { step, source: source.into() }
    }

    /// Whether room on the disk would cure it: a bound of ours, or the disk is full.
    pub fn is_lack_of_space(&self) -> bool {
        match self {
            Self::NodeQuota { .. } | Self::Reserve { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
        }
    }

    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NodeQuota { .. } | Self::Reserve { .. } => true,
            Self::Io { step, .. } => !matches!(step, Step::Read),
        }
    }
}
