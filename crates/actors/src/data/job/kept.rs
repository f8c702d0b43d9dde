//! Whether what a job was told is on the disk, if it outlives its node.

use sortie_model::limits;
use tokio::sync::oneshot;

use crate::data::durable::Kept;
use crate::data::job::JobShared;
use crate::parent_job::ParentJobMessage;

/// How all that a job's actor was told so far is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    /// With what its children said.
    pub(crate) all: bool,
    /// What was decided last.
    pub(crate) word: Kept,
}

impl JobShared {
    /// Returns when all that its actor was told so far is kept: what another node reported is
    /// acknowledged behind that. False when the journal takes no more.
    pub(crate) async fn kept(&self) -> bool {
        loop {
            match self.said().await {
                Said { word: Kept::Never, .. } => return false,
                Said { all: true, .. } => return true,
                _ => tokio::time::sleep(limits::JOURNAL_RESERVE_RETRY).await,
            }
        }
    }

    /// Returns when the disk has what its actor was told so far, or takes nothing any more. What
    /// its children said may be late.
    pub(crate) async fn word_kept(&self) -> Kept {
        loop {
            match self.said().await.word {
                Kept::NotYet => tokio::time::sleep(limits::JOURNAL_RESERVE_RETRY).await,
                kept => return kept,
            }
        }
    }

    async fn said(&self) -> Said {
        let (Some(actor), Some(durable)) = (self.actor.get(), &self.durable) else {
            return Said { all: true, word: Kept::Yes };
        };
        let (done, heard) = oneshot::channel();
        let said = match actor.cast(ParentJobMessage::Say(done)) {
            Ok(()) => heard.await.ok(),
            Err(_) => None,
        };
        // A job that is over has kept its last word, unless it was ended with its node.
        let is_over = self.rows().state().is_finished() && !durable.is_closed();
        let word = if is_over { Kept::Yes } else { Kept::Never };
        said.unwrap_or(Said { all: is_over, word })
    }
}
