//! What can go wrong between a daemon and its guardian.

use std::io;
use std::path::PathBuf;

use sortie_model::Reason;
use sortie_model::facts::ProcessEnd;
use sortie_model::reason::SpawnStep;

/// No guardian could be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The program cannot become its own helper.
    #[error(
        "this program cannot run processes: the first line of its `main` must be \
         `sortie::init()`, before there is a runtime or any other thread"
    )]
    NotInitialised,
    /// The program was started as a guardian and goes on as something else.
    #[error(
        "this program was started as a helper and did not become one: \
         the first line of its `main` must be `sortie::init()`"
    )]
    Nested,
    /// The socket to it could not be made.
    #[error("could not make a socket for the guardian")]
    Socket(#[source] io::Error),
    /// The program could not be executed again.
    #[error("could not execute the program again as its guardian")]
    Execute(#[source] io::Error),
    /// It ended, or did not answer in time.
    #[error(
        "the guardian did not answer: \
         the first line of the program's `main` must be `sortie::init()`"
    )]
    NoAnswer,
    /// The program's file was replaced by another version.
    #[error("the guardian speaks version {theirs} of its protocol, we speak {ours}")]
    Version {
        /// Our version.
        ours: u16,
        /// The guardian's version.
        theirs: u16,
    },
    /// The directory of kept children cannot be used.
    #[error("cannot use the directory of kept children, {}", directory.display())]
    Keep {
        /// Which one.
        directory: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another program has the kept children.
    #[error(
        "process {daemon} has the kept children of {}: end it, or use another directory",
        directory.display()
    )]
    InUse {
        /// Whose they are.
        directory: PathBuf,
        /// The program's process id.
        daemon: u32,
    },
    /// Another guardian has the directory of kept children, and does not answer.
    #[error(
        "a guardian that does not answer has the kept children of {}: \
         the file `guardian` there names its process",
        directory.display()
    )]
    Locked {
        /// Which directory.
        directory: PathBuf,
    },
}

impl LaunchError {
    /// Whether trying again may help.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Socket(_) | Self::Execute(_) | Self::Locked { .. })
    }
}

/// A process could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("could not start the process ({step}): {}", io::Error::from_raw_os_error(*errno))]
pub struct SpawnError {
    /// What was tried.
    pub step: SpawnStep,
    /// The operating system's error number; 0 when the guardian is gone.
    pub errno: i32,
}

impl SpawnError {
    /// The guardian is gone.
    pub const NO_GUARDIAN: Self = Self { step: SpawnStep::Guardian, errno: 0 };

    /// This process has no descriptors left for the child's pipes.
    pub(crate) const NO_DESCRIPTORS: Self = Self { step: SpawnStep::Fork, errno: libc::EMFILE };

    /// The program's words, environment and text are more than a process can get.
    pub(crate) const TOO_LARGE: Self = Self { step: SpawnStep::Exec, errno: libc::E2BIG };

    /// The note of a kept child is longer than
    /// [`KEPT_NOTE_BYTES`](sortie_model::limits::KEPT_NOTE_BYTES).
    pub const NOTE_TOO_LONG: Self = Self { step: SpawnStep::Guardian, errno: libc::EMSGSIZE };

    /// The guardian has no directory in which it could keep a child, or the child is a worker or
    /// has a terminal: nobody can keep those.
    pub const NOT_KEPT: Self = Self { step: SpawnStep::Guardian, errno: libc::EOPNOTSUPP };

    /// Whether the disk lacks room for what the guardian keeps of a child: it may have some later.
    pub(crate) const fn is_lack_of_room(&self) -> bool {
        matches!(self.step, SpawnStep::Guardian)
            && matches!(self.errno, libc::ENOSPC | libc::EDQUOT)
    }

    /// Whether the fault lies with this node, not with what was to be started.
    pub const fn is_retryable(&self) -> bool {
        Reason::Spawn { step: self.step, errno: self.errno }.is_retryable()
    }
}

impl From<SpawnError> for ProcessEnd {
    fn from(error: SpawnError) -> Self {
        Self::NotStarted { step: error.step, errno: error.errno }
    }
}
