//! What a node forgets of its history, while it lives (`docs/semantics.md`, section 4.2).

use std::sync::Arc;
use std::time::Duration;

use sortie_engine::history::{Ended, Held, Retention, surplus};
use sortie_model::limits;
use sortie_store::Store;
use sortie_store::journal::{Change, JournalError, Order};
use sortie_store::segment::Swept;

use crate::data::durable::PAGE;
use crate::node::NodeShared;
use crate::serve::remove;

/// How often the node looks what of its history is too old or too much.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Removes output whose job is gone, and inputs whose job is over.
fn sweep(store: &Store) {
    if let Err(error) = store.remove_left_inputs() {
        tracing::warn!(%error, "inputs of jobs that are over cannot be removed");
    }
    let swept = store.orphans().and_then(|mut orphans| {
        while orphans.step(PAGE)? == Swept::More {}
        Ok(())
    });
    if let Err(error) = swept {
        tracing::warn!(%error, "output of jobs that are gone cannot be removed");
    }
}

impl NodeShared {
    /// Forgets what is too old or too much, while the node lives.
    pub(super) async fn keep_house(self: Arc<Self>, store: Arc<Store>) {
        let sweeping = Arc::clone(&store);
        // What a removal left behind that was cut short; nobody waits for it.
        tokio::task::spawn_blocking(move || sweep(&sweeping));
        let mut over = self.over.subscribe();
        loop {
            tokio::select! {
                _ = over.wait_for(|over| *over) => return,
                () = tokio::time::sleep(HOUSEKEEPING) => {}
            }
            if let Err(error) = self.forget_old(&store).await {
                tracing::warn!(%error, "old jobs cannot be forgotten");
            }
        }
    }

    async fn forget_old(&self, store: &Store) -> Result<(), JournalError> {
        let journal = store.journal();
        loop {
            let totals = journal.history()?;
            let oldest = journal.finished(Order::OldestFirst, PAGE)?;
            let ended: Vec<Ended> =
                oldest.iter().map(|job| Ended { end: job.end, bytes: job.bytes }).collect();
            let held = Held { jobs: totals.jobs, bytes: totals.bytes };
            let gone = surplus(held, &ended, &Retention::default(), self.world.now());
            if gone == 0 {
                return self.forget_keys(store).await;
            }
            let mut removed = 0;
            for job in oldest.iter().take(gone) {
                if let Some(session) = self.session(job.session) {
                    removed += u32::from(remove::drop_job(&session, job.job).await);
                }
            }
            if removed == 0 {
                // The journal takes nothing now, or they belong to a session that is being closed.
                return Ok(());
            }
        }
    }

    /// Keys of jobs that were removed long ago.
    async fn forget_keys(&self, store: &Store) -> Result<(), JournalError> {
        let too_old = self.world.now().earlier_by(limits::KEY_KEPT);
        for session in self.sessions.all() {
            let Some(durable) = &session.durable else { continue };
            let (instance, mut after) = (session.identity.instance, None);
            loop {
                let keys = store.journal().keys(instance, after.as_ref(), PAGE)?;
                let Some((last, _)) = keys.last() else { break };
                after = Some(last.clone());
                let old = keys
                    .into_iter()
                    .filter(|(_, entry)| entry.removed.is_some_and(|removed| removed < too_old));
                let keys: Vec<_> = old.map(|(key, _)| key).collect();
                if !keys.is_empty() {
                    durable.keep(vec![Change::KeysForgotten { session: instance, keys }]).await;
                }
            }
        }
        Ok(())
    }
}
