//! What a mailbox had before its daemon ended, and had no room for when the next one began: on a
//! full disk it comes back as it is read, or as the disk has room again.

use std::sync::atomic::Ordering as Atomic;
use std::sync::{Arc, Weak};

use sortie_model::{Ordinal, Seq};
use sortie_store::journal::Cursor;

use super::super::JobMailboxes;
use super::super::append::tally;
use super::super::grown::{Grown, Returning};
use super::super::paused::DISK_LOOK;
use super::inline::Inline;
use super::{Backed, RestoreError};

/// What is known of a child whose records come back.
#[derive(Debug)]
pub(super) struct Rest {
    /// What was taken before the node began.
    pub(super) cursor: Cursor,
    /// Whether it had ended by then.
    pub(super) closed: bool,
    /// What the journal has of it.
    pub(super) block: Option<Inline>,
}

/// How much of a mailbox is there again.
#[derive(Debug)]
pub(super) enum Back {
    Whole,
    /// There is more on the disk, before that number.
    Part(Seq),
}

impl JobMailboxes {
    /// A part of a mailbox's records had no room: the rest comes back behind this call.
    pub(super) fn returns(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
        next: Seq,
        rest: Rest,
    ) -> Result<(), RestoreError> {
        let grown = self.grown(ordinal).ok_or(RestoreError::Removed)?;
        let (closes, behind) = (rest.closed, Vec::new());
        let returning = Returning { next, closes, behind, weight: 0 };
        backed.table().child(ordinal).returning = true;
        self.returning.fetch_add(1, Atomic::Relaxed);
        grown.lock().returning = Some(Box::new(returning));
        let job = Weak::clone(backed.owner.get().ok_or(RestoreError::Removed)?);
        // Not awaited: it ends when all is back, or the job is gone.
        drop(tokio::spawn(go_on(job, Arc::clone(backed), ordinal, rest)));
        Ok(())
    }

    /// The children of which not all is back.
    pub(crate) fn returning_children(&self) -> Vec<Ordinal> {
        let Some(backed) = &self.backed else { return Vec::new() };
        if self.returning.load(Atomic::Relaxed) == 0 {
            return Vec::new();
        }
        let table = backed.table();
        let returning = table.children.iter().filter(|(_, child)| child.returning);
        returning.map(|(ordinal, _)| *ordinal).collect()
    }

    /// All of a mailbox is back that was before that number: what came meanwhile goes behind it, as
    /// does all that comes.
    pub(super) fn all_back(&self, backed: &Arc<Backed>, ordinal: Ordinal, next: Seq) {
        let Some(grown) = self.grown(ordinal) else { return self.skip_to(ordinal, next) };
        let mut state = grown.lock();
        let returning = state.returning.take();
        state.ledger.skip_to(next);
        let Some(returning) = returning else { return };
        let Returning { next, closes, behind, weight } = *returning;
        self.memory_is(weight, 0);
        if !behind.is_empty() {
            state.store_numbered(behind.iter());
            state.settle_memory(self);
            self.arrived(ordinal, tally(&behind));
            backed.grew(ordinal);
        }
        state.ledger.skip_to(next);
        if closes {
            state.ledger.close();
        }
    }

    /// Puts back what has room. Says whether that is all.
    async fn return_more(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
        (grown, rest): (&Arc<Grown>, &Rest),
    ) -> bool {
        let _one_at_a_time = self.pool.returning.lock().await;
        let from = grown.lock().ledger.next();
        match self.bring_back(backed, ordinal, rest, from).await {
            Ok(Back::Part(_)) => false,
            Ok(Back::Whole) => true,
            // What cannot be read now may be later.
            Err(error) if error.is_retryable() && grown.lock().returning.is_some() => false,
            Err(error) => {
                let (job, child) = (backed.backing.job, ordinal.0);
                tracing::error!(%error, %job, child, "output of a child is not what it was");
                self.all_back(backed, ordinal, Seq(0));
                true
            }
        }
    }
}

/// Puts back what a child's mailbox had no room for.
async fn go_on(job: Weak<JobMailboxes>, backed: Arc<Backed>, ordinal: Ordinal, rest: Rest) {
    loop {
        let Some(job) = job.upgrade() else { return };
        let Some(grown) = job.grown(ordinal) else { return };
        tokio::select! {
            () = job.pool.freed.notified() => {}
            () = tokio::time::sleep(DISK_LOOK) => {}
        }
        if job.is_removed() {
            return;
        }
        if !job.return_more(&backed, ordinal, (&grown, &rest)).await {
            continue;
        }
        job.returning.fetch_sub(1, Atomic::Relaxed);
        let mut table = backed.table();
        table.child(ordinal).returning = false;
        // Of its files goes what was taken meanwhile.
        if table.make_due(ordinal) {
            backed.wake(table);
        } else {
            drop(table);
        }
        let summary = job.summary(ordinal);
        if summary.unread.records == 0 {
            backed.all_taken(ordinal, summary.next);
        }
        if summary.closed {
            job.shrink(&grown);
            backed.forget_plain(ordinal);
        }
        backed.forget_settled(&job, ordinal);
        grown.eased.notify_waiters();
        backed.progress.notify_waiters();
        job.announce();
        return;
    }
}
