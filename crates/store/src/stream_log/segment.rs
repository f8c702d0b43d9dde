//! A piece of a log, to be read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::record_log::{Entry, Loaded, split_record};
use crate::{Damaged, MailboxFile, SpoolError};

/// Bytes or records of a log, or where they are.
#[derive(Debug, Clone)]
pub enum Segment {
    /// They are here.
    Memory(Bytes),
    /// A value that is live.
    Live(Entry),
    /// They must be read.
    File {
        /// Where from.
        file: Arc<MailboxFile>,
        /// From which byte of the file.
        at: u64,
        /// How many.
        bytes: usize,
    },
    /// Values that were live must be read.
    Run {
        /// Where from.
        file: Arc<MailboxFile>,
        /// From which byte of the file.
        at: u64,
        /// How many.
        bytes: usize,
        /// The places that are wanted, from the run's first one.
        wanted: Range<u64>,
    },
}

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The disk does not give it.
    #[error(transparent)]
    Disk(#[from] SpoolError),
    /// What the disk gives is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

impl Segment {
    /// Whether the disk must be read for it.
    pub const fn is_on_disk(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Run { .. })
    }

    /// The bytes or records, read if they have to be. Touches the disk then.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(self) -> Result<Loaded, LoadError> {
        Ok(match self {
            Self::Memory(bytes) => Loaded::Bytes(bytes),
            Self::Live(entry) => Loaded::Entries(vec![entry]),
            Self::File { file, at, bytes } => Loaded::Bytes(file.read(at, bytes)?),
            Self::Run { file, at, bytes, wanted } => {
                let (mut run, mut place) = (file.read(at, bytes)?, 0_u64);
                let mut entries = Vec::new();
                while let Some(entry) = split_record(&mut run)? {
                    let begin = place;
                    place = entry.in_log().saturating_add(place);
                    if begin >= wanted.start && begin < wanted.end {
                        entries.push(entry);
                    }
                }
                Loaded::Entries(entries)
            }
        })
    }
}
