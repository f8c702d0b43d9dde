//! What can go wrong with the journal.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sortie_model::{EntryId, limits};

use crate::disk;

/// The version of the journal that this program writes, and the newest that it reads. What an
/// older program cannot decode needs a new one. Version 2 has inputs that were stored, and
/// submissions whose input stays open.
pub const JOURNAL_VERSION: u32 = 2;

/// Why a journal cannot be opened. Nothing in it was changed, unless it is the disk that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process", directory.display())]
    InUse {
        /// The journal's directory.
        directory: PathBuf,
    },
    /// A later program wrote it.
    #[error(
        "the journal in {} has version {version}, and this program reads up to \
         {JOURNAL_VERSION}: run the newer program that wrote it, or move {} away to begin without \
         the sessions in it",
        directory.display(), directory.display()
    )]
    Newer {
        /// The journal's directory.
        directory: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There was a journal, and now there is none.
    #[error(
        "{} is missing or empty, and sessions were kept in it: put a copy back, or move {} away \
         to begin without them",
        file.display(), directory.display()
    )]
    Lost {
        /// The journal's file.
        file: PathBuf,
        /// The journal's directory.
        directory: PathBuf,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged: put a copy back, or move {} away to begin without the sessions in it",
        file.display(), file.parent().unwrap_or(file).display()
    )]
    Damaged {
        /// The journal's file, or the one that tells its version.
        file: PathBuf,
        /// What says so, if the journal's own checks did.
        #[source]
        source: Option<Arc<Fault>>,
    },
    /// The system refused.
    #[error("cannot open the journal in {}", directory.display())]
    Io {
        /// The journal's directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// Whether the same call may succeed later without anybody's doing.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Io { .. })
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Too much waits for the disk already; nothing was done.
    #[error("the journal is busy: {} requests wait for the disk", limits::JOURNAL_QUEUE)]
    Busy,
    /// The request says more than fits; nothing was done.
    #[error("a request to the journal is too large")]
    TooLarge,
    /// The disk is full; nothing was done. Stops and ends have a reserve, starts do not.
    #[error("the disk is full")]
    DiskFull,
    /// The key belongs to another spec; nothing was done.
    #[error("the key was used for another job ({job})")]
    KeyReused {
        /// The job it belongs to.
        job: EntryId,
    },
    /// The session is not in the journal; nothing was done.
    #[error("the session is not in the journal")]
    NoSession,
    /// What is in the journal is not what was written.
    #[error("an entry of the journal is damaged ({table})")]
    Damaged {
        /// In which table.
        table: &'static str,
    },
    /// The disk failed: the request may be there or not when the journal is opened again, as a
    /// whole. Nothing is acknowledged any more.
    #[error("the journal failed and takes nothing more")]
    Failed(#[source] Arc<Fault>),
    /// The journal was closed, or failed before; nothing was done.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// Whether the same request may succeed later without anybody's doing.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::DiskFull)
    }

    /// Whether the request may have been done all the same.
    pub const fn is_uncertain(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// What failed below.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The storage engine says.
    #[error("the journal's file cannot be used")]
    Storage(#[from] redb::Error),
    /// The storage engine met what cannot be.
    #[error("the journal's file is damaged")]
    Panicked,
    /// An entry is not what was written.
    #[error("an entry of the journal is damaged ({0})")]
    Entry(&'static str),
}

macro_rules! from_redb {
    ($($name:ident),+) => {$(
        impl From<redb::$name> for Fault {
            fn from(error: redb::$name) -> Self {
                Self::Storage(error.into())
            }
        }
    )+};
}
from_redb!(DatabaseError, TransactionError, TableError, StorageError, CommitError);

impl Fault {
    /// Whether room on the disk would cure it.
    pub(crate) fn is_lack_of_space(&self) -> bool {
        match self {
            Self::Storage(redb::Error::Io(error)) => disk::is_lack_of_space(error),
            _ => false,
        }
    }
}
