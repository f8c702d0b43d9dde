//! Producers that pause are counted, so that whoever looks at a job sees that it waits for one who
//! reads.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sortie_engine::mailbox::Tally;
use sortie_model::Ordinal;

use super::grown::Grown;
use super::{FullBecause, JobMailboxes, blocking};

/// How often a producer that pauses because of the disk looks whether it has room again: others
/// use it, too, and tell nobody.
pub(super) const DISK_LOOK: Duration = Duration::from_millis(250);

/// A producer that pauses, for as long as this lives.
pub(super) struct Paused<'c>(&'c AtomicU64);

impl<'c> Paused<'c> {
    pub(super) fn begin(count: &'c AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl JobMailboxes {
    /// Waits until a mailbox that was full has room: for a producer that pauses. Returns at once
    /// when it has room, or does not exist any more.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    pub async fn room(&self, ordinal: Ordinal) {
        let _paused = Paused::begin(&self.paused);
        if self.is_over_memory(Tally::ZERO) {
            // The node's memory may be what it waits for, which others free.
            let freed = self.pool.freed.notified();
            let _looked_again_anyway = tokio::time::timeout(DISK_LOOK, freed).await;
        }
        loop {
            let Some(grown) = self.grown(ordinal) else { return };
            let mut eased = pin!(grown.eased.notified());
            eased.as_mut().enable();
            let full = {
                let state = grown.lock();
                if state.removed { None } else { state.full() }
            };
            match full {
                None => return,
                Some(FullBecause::Quota) => eased.await,
                Some(_) => {
                    tokio::select! {
                        biased;
                        () = eased => {}
                        () = self.pool.freed.notified() => {}
                        () = tokio::time::sleep(DISK_LOOK) => self.look_at_disk(&grown).await,
                    }
                }
            }
        }
    }

    /// Forgets a mailbox's trouble with the disk if there seems to be room again; the next append
    /// tries.
    async fn look_at_disk(&self, grown: &Grown) {
        let (spool, bytes) = (Arc::clone(&self.pool.spool), grown.lock().memory());
        if blocking(move || spool.check_room(bytes).is_ok()).await == Some(true) {
            grown.lock().trouble = None;
            grown.eased.notify_waiters();
        }
    }
}
