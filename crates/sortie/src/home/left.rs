//! What a node left in its home, for who looks at it while none runs.

use std::path::PathBuf;

use sortie_actors::NodeError;
use sortie_exec::keep::Identity;
use sortie_exec::{Guardian, LaunchOptions};
use sortie_store::journal::{Journal, JournalBounds, OpenError};

use super::{HomePaths, files};
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
