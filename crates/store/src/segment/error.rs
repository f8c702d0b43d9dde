//! What can go wrong with segments.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sortie_model::{Seq, limits};

use crate::disk;
use crate::segment::format::SEGMENT_VERSION;

/// What was being done with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentStep {
    /// Listing the segments of a child, or the children of a job.
    List,
    /// Making a segment and its directory.
    Create,
    /// Opening a segment.
    Open,
    /// Reading from a segment.
    Read,
    /// Appending to a segment.
    Append,
    /// Waiting until a segment is on the disk.
    Sync,
    /// Cutting a torn tail.
    Cut,
    /// Removing a segment.
    Remove,
}

impl fmt::Display for SegmentStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Append => "append to",
            Self::Sync => "sync",
            Self::Cut => "cut the torn tail of",
            Self::Remove => "remove",
        })
    }
}

/// Why output could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The system refused. What was asked for is not in the log.
    #[error("cannot {step} {}", file.display())]
    Io {
        /// What was refused.
        step: SegmentStep,
        /// On which file or directory.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Bytes that were on the disk are others now. Nothing was changed.
    #[error("{} is damaged at byte {offset}", file.display())]
    Damaged {
        /// Which segment.
        file: PathBuf,
        /// Where the first bad record begins.
        offset: u64,
    },
    /// Records that were acknowledged are gone. Nothing was changed.
    #[error("{} ends at record {}, before record {}", file.display(), end.0, promised.0)]
    Missing {
        /// The last segment, or the directory when there is none.
        file: PathBuf,
        /// The number after the last record that is there.
        end: Seq,
        /// The number after the last one that was acknowledged.
        promised: Seq,
    },
    /// A later program wrote it. Nothing was changed.
    #[error(
        "{} has version {version}, and this program reads up to {SEGMENT_VERSION}",
        file.display()
    )]
    Newer {
        /// Which segment.
        file: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A record does not follow the one before it; nothing was appended.
    #[error("record {} does not follow: record {} is next", given.0, next.0)]
    Gap {
        /// The number that is next.
        next: Seq,
        /// The number that was given.
        given: Seq,
    },
    /// A record's body is longer than any can be; nothing was appended.
    #[error("a record of {length} bytes is longer than {}", limits::VALUE_BYTES)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The log failed before, so that nobody knows what of it is on the disk; it takes nothing more
    /// until it is opened again.
    #[error("the log failed before and has to be opened again")]
    Failed,
}

impl SegmentError {
    pub(crate) fn io(step: SegmentStep, file: &Path, source: io::Error) -> Self {
        Self::Io { step, file: file.to_owned(), source }
    }

    /// Whether room on the disk would cure it.
    pub fn is_lack_of_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if disk::is_lack_of_space(source))
    }

    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io { step, .. } => !matches!(step, SegmentStep::Sync),
            _ => false,
        }
    }
}
