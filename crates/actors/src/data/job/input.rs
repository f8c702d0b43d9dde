//! Input of a job that outlives its node, on its way to the disk.

use std::io;

use sortie_engine::parent_job::ParentJob;
use sortie_model::spec::Fan;
use sortie_store::journal::InputState;
use sortie_wire::{ErrorCode, RemoteError};
use tokio::sync::oneshot;

use crate::data::durable::Kept;
use crate::data::input_log::InputLog;
use crate::data::job::JobShared;
use crate::parent_job::ParentJobMessage;

impl JobShared {
    /// What of its input the journal is to know.
    pub(crate) fn input_to_keep(&self, rows: &ParentJob) -> InputState {
        let map = !matches!(rows.spec().fan, Fan::PerNode { .. });
        match (&self.input, rows.state().is_finished()) {
            (_, true) if rows.broke_off() => InputState::BrokeOff,
            (Some(log), true) => log.stored().behind_its_end(map),
            (Some(log), false) => log.stored(),
            (None, _) => InputState::Nothing,
        }
    }

    /// The job is over: nobody reads its input any more, and what stays of it goes with the job.
    pub(crate) fn end_input(&self) {
        let Some(log) = &self.input else { return };
        let stays = self.input_to_keep(&self.rows());
        if matches!(stays, InputState::Whole(_)) {
            log.retire();
        } else {
            log.close();
        }
    }

    /// Keeps what came of its input so far, if it is to last; `whole` says that this is all. It is
    /// on the disk, and in the journal, when this returns.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`]; what was kept before is still certain, and nothing more ever is.
    ///
    /// # Cancel safety
    /// Cancel safe: it may be kept all the same.
    pub(crate) async fn keep_input(&self, log: &InputLog, whole: bool) -> Result<(), RemoteError> {
        // Nobody reads that of a job that is over.
        let Some(sync) = log.sync() else { return Ok(()) };
        let synced = tokio::task::spawn_blocking(move || sync.wait()).await;
        let mark = synced.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
        let mark = mark.map_err(|error| refusal(&error.to_string()))?;
        let before = log.stored();
        log.set_stored(if whole { InputState::Whole(mark) } else { InputState::Begun(mark) });
        let (done, kept) = oneshot::channel();
        self.tell(ParentJobMessage::InputStored(done));
        match kept.await {
            // A job that is over needs it no more.
            Ok(Kept::Yes) | Err(_) => Ok(()),
            Ok(kept) => {
                // What is refused is not there later, either.
                log.set_stored(before);
                let full = kept == Kept::NotYet;
                Err(refusal(if full { "the disk is full" } else { "the journal failed" }))
            }
        }
    }
}

fn refusal(why: &str) -> RemoteError {
    let text = format!("the input cannot be stored: {why}");
    RemoteError::new(ErrorCode::Storage, text)
        .hint("what came before it runs, and the rest is lost")
}
