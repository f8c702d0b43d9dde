//! What a node left in its home, for who looks at it while none runs.

use std::path::PathBuf;

use rustix::process::Pid;
use sortie_actors::NodeError;
use sortie_exec::keep::Identity;
use sortie_exec::{Guardian, LaunchOptions};
use sortie_store::journal::{Journal, JournalBounds, OpenError};

use super::{Holder, HomeError, HomePaths, files, identities};
use crate::node::NodeStartError;

/// What a home has of sessions that outlive its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeptSessions {
    /// None: no node with this home has run yet.
    None,
    /// A journal, which can be opened.
    Whole {
        /// Its version.
        version: u32,
    },
    /// A journal that a node has open.
    InUse,
}

impl HomePaths {
    /// Opens what is kept of sessions, as a node's start does, and closes it again. For homes
    /// without a running node; a node that starts meanwhile waits for it.
    ///
    /// # Errors
    /// [`NodeStartError::Start`] when a node would not start for the same reason: nothing is
    /// changed then.
    pub fn check_sessions(&self) -> Result<KeptSessions, NodeStartError> {
        let directory = self.sessions();
        if !directory.exists() {
            return Ok(KeptSessions::None);
        }
        match Journal::open(&directory, JournalBounds::default()) {
            Ok(journal) => Ok(KeptSessions::Whole { version: journal.version() }),
            Err(OpenError::InUse { .. }) => Ok(KeptSessions::InUse),
            Err(error) => Err(NodeStartError::from_node(NodeError::Store(error))),
        }
    }

    /// The guardian that has processes of this home's sessions, if one runs: its process id.
    pub fn guardian(&self) -> Option<u32> {
        let identity = Identity::read(&self.processes())?;
        identity.is_alive().then(|| identity.pid.cast_unsigned())
    }

    /// Whether that guardian was stopped, as by `SIGSTOP`: no node can take over what it has then.
    pub fn is_guardian_stopped(&self) -> bool {
        Identity::read(&self.processes()).is_some_and(|identity| identity.is_stopped())
    }

    /// The process that has the home, where it does not say where its node listens: the node begins
    /// or ends, or its address was removed. The home is held for the moment of the look.
    pub fn silent_holder(&self) -> Option<u32> {
        let last = self.last_holder()?;
        let process = Pid::from_raw(last.cast_signed())?;
        // Where that one is gone nobody has the home, and who takes it now is not disturbed.
        rustix::process::test_kill_process(process).ok()?;
        let holder = files::holder(&self.lock_file()).ok()?;
        let Holder::Process(holder) = holder else { return None };
        matches!(self.announced(), Ok(None)).then(|| holder.unwrap_or(last))
    }

    /// Reads the identities of the home as a node's start does, and changes nothing. It may be
    /// called while a node runs.
    ///
    /// # Errors
    /// [`HomeError`] of the file because of which a node would not start.
    pub fn check_identity(&self) -> Result<(), HomeError> {
        identities::check(&self.identity_dir())
    }

    /// Kills the processes that a node of this home left running, where no node can take them over.
    /// How they ended and what they wrote stays for a node that can. Needs a tokio runtime, and
    /// [`init`](crate::init) as the first line of the program's `main`.
    ///
    /// # Errors
    /// [`NodeStartError::Home`] when a node has the home; [`NodeStartError::Start`] when their
    /// guardian cannot be reached, or something does not end.
    ///
    /// # Cancel safety
    /// When cancelled, some of them may run on.
    pub async fn end_processes(&self) -> Result<(), NodeStartError> {
        let _held = files::lock(&self.lock_file())?;
        let options = LaunchOptions { keep: Some(self.processes()), ..LaunchOptions::default() };
        let ended = Guardian::end_left(options).await;
        ended.map_err(|error| NodeStartError::from_node(NodeError::Guardian(error)))
    }

    /// Where children are kept that outlive the node.
    pub(crate) fn processes(&self) -> PathBuf {
        self.sessions().join("processes")
    }
}
