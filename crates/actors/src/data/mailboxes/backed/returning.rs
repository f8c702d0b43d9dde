//! What a mailbox had before its daemon ended, and had no room for when the next one began: on a
//! full disk it comes back as it is read, or as the disk has room again; and what could not be read
//! then, as it can be.

use std::pin::pin;
use std::sync::atomic::Ordering as Atomic;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sortie_engine::mailbox::Tally;
use sortie_model::limits::{OUTPUT_READ_TRIES, OUTPUT_RETRY};
use sortie_model::{Ordinal, Seq};
use sortie_store::journal::Cursor;
use sortie_store::segment::SegmentError;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::super::append::tally;
use super::super::grown::{Grown, Returning};
use super::super::paused::DISK_LOOK;
use super::super::{FullBecause, JobMailboxes, blocking};
use super::inline::Inline;
use super::{Backed, RestoreError};

/// So many mailboxes of a job look at the disk every [`DISK_LOOK`]; of more each does less often.
const LOOK_AT_ONCE: u64 = 64;
/// Files that a full disk does not let be closed are tried half as often after each try, so often.
const LAST_DOUBLING: u32 = 6;

/// What is known of a child whose records come back.
#[derive(Debug)]
pub(super) struct Rest {
    /// What was taken before the node began.
    pub(super) cursor: Cursor,
    /// Whether it had ended by then.
    pub(super) closed: bool,
    /// What the journal has of it.
    pub(super) block: Option<Inline>,
    /// What cannot be read is left out: it was tried often enough.
    pub(super) gives_up: bool,
    /// Something was.
    pub(super) left_out: bool,
    /// How many records had been taken of the mailbox then.
    taken: u64,
}

/// How much of a mailbox is there again.
#[derive(Debug)]
pub(super) enum Back {
    Whole,
    Part(Part),
}

/// There is more of a mailbox on the disk.
#[derive(Debug)]
pub(super) struct Part {
    /// The number after all of it.
    pub(super) next: Seq,
    /// Whether it is: else the files could not be opened.
    pub(super) is_known: bool,
    /// Whether something was left out that can be read at another start.
    pub(super) left_out: bool,
    pub(super) lack: Lack,
}

/// What a mailbox that comes back waits for.
#[derive(Debug)]
pub(super) enum Lack {
    /// Room for so much.
    Room(Tally),
    /// What cannot be read now may be later.
    Passing(SegmentError),
}

impl Rest {
    pub(super) const fn new(cursor: Cursor, closed: bool, block: Option<Inline>) -> Self {
        let (gives_up, left_out, taken) = (false, false, 0);
        Self { cursor, closed, block, gives_up, left_out, taken }
    }
}

impl Lack {
    fn because(&self) -> FullBecause {
        match self {
            Self::Passing(error) if !error.is_lack_of_space() => FullBecause::DiskFailed,
            Self::Room(_) | Self::Passing(_) => FullBecause::DiskFull,
        }
    }
}

impl JobMailboxes {
    /// A part of a mailbox's records is not there: the rest comes back behind this call.
    pub(super) fn returns(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
        part: Part,
        rest: Rest,
    ) -> Result<(), RestoreError> {
        let grown = self.grown_anyhow(ordinal)?;
        let Part { next, is_known, lack, .. } = part;
        if let Lack::Passing(error) = &lack {
            let (job, child) = (backed.backing.job, ordinal.0);
            tracing::warn!(%error, %job, child, "output of a child is not back yet");
        }
        let (because, closes, behind) = (lack.because(), rest.closed, Vec::new());
        let returning = Returning { next, is_known, because, closes, behind, weight: 0 };
        backed.table().child(ordinal).returning = true;
        self.returning.fetch_add(1, Atomic::Relaxed);
        grown.lock().returning = Some(Box::new(returning));
        let job = Weak::clone(backed.owner.get().ok_or(RestoreError::Removed)?);
        // Not awaited: it ends when all is back, or the job is gone.
        drop(tokio::spawn(go_on(job, Arc::clone(backed), grown, (rest, lack))));
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

    /// Whether that child is one of them.
    pub(crate) fn is_returning(&self, ordinal: Ordinal) -> bool {
        let Some(backed) = &self.backed else { return false };
        backed.table().children.get(&ordinal).is_some_and(|child| child.returning)
    }

    /// All of a mailbox is back that was before that number: what came meanwhile goes behind it, as
    /// does all that comes.
    pub(super) fn all_back(&self, backed: &Arc<Backed>, ordinal: Ordinal, next: Seq) {
        let Some(grown) = self.grown(ordinal) else { return self.skip_to(ordinal, next) };
        let mut state = grown.lock();
        let returning = state.returning.take();
        state.ledger.skip_to(next);
        let Some(returning) = returning else { return };
        let Returning { next, closes, behind, weight, .. } = *returning;
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

    /// Whether a try can help; nothing is opened for that. `looked` says that it is time to look
    /// at the disk, too.
    async fn may_return(self: &Arc<Self>, grown: &Arc<Grown>, lack: &Lack, looked: bool) -> bool {
        let Lack::Room(new) = *lack else { return looked };
        let (memory, within) = (grown.lock().memory(), self.pool.bounds.mailbox_memory);
        if memory > 0 && memory + new.weight() > within {
            let spool = Arc::clone(&self.pool.spool);
            let has_room = move || spool.check_room(memory).is_ok();
            let may_spill = looked && blocking(has_room).await == Some(true);
            return may_spill && self.spill(grown).await.is_ok();
        }
        if !self.is_over_memory(new) {
            return true;
        }
        // Others have the node's memory. What cannot be moved at all does not keep it waiting.
        (looked || memory == 0) && self.sweep_pool(new).await.is_ok()
    }

    /// Waits until no other mailbox comes back. One of which more was taken than so many records is
    /// read, and does not wait for those that nobody reads.
    async fn turn_to_return(&self, grown: &Grown, taken: u64) -> MutexGuard<'_, ()> {
        let mut turn = pin!(self.pool.returning.lock());
        loop {
            let mut eased = pin!(grown.eased.notified());
            eased.as_mut().enable();
            if grown.lock().taken() > taken {
                return self.pool.returning_read.lock().await;
            }
            tokio::select! {
                guard = &mut turn => return guard,
                () = eased => {}
            }
        }
    }

    /// Puts back what has room. Says whether that is all; else what the rest waits for is noted.
    async fn return_more(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        grown: &Grown,
        (rest, lack): (&mut Rest, &mut Lack),
    ) -> bool {
        let _one_at_a_time = self.turn_to_return(grown, rest.taken).await;
        rest.taken = grown.lock().taken();
        let (ordinal, from) = (grown.ordinal, grown.lock().ledger.next());
        match self.bring_back(backed, ordinal, rest, from).await {
            Ok(Back::Whole) => true,
            Ok(Back::Part(part)) => {
                rest.left_out |= part.left_out;
                if let Some(returning) = &mut grown.lock().returning {
                    returning.next = returning.next.max(part.next);
                    returning.is_known |= part.is_known;
                    returning.because = part.lack.because();
                }
                *lack = part.lack;
                false
            }
            // Who goes on sees it, if the job is gone.
            Err(RestoreError::Removed) => false,
            Err(error) => {
                let (job, child) = (backed.backing.job, ordinal.0);
                tracing::error!(%error, %job, child, "output of a child is not what it was");
                self.all_back(backed, ordinal, Seq(0));
                true
            }
        }
    }

    /// All of a mailbox is back, or as much as ever will be.
    fn is_back(self: &Arc<Self>, backed: &Arc<Backed>, grown: &Arc<Grown>) {
        let ordinal = grown.ordinal;
        self.returning.fetch_sub(1, Atomic::Relaxed);
        let mut table = backed.table();
        table.child(ordinal).returning = false;
        // Of its files goes what was taken meanwhile.
        if table.make_due(ordinal) {
            backed.wake(table);
        } else {
            drop(table);
        }
        let summary = self.summary(ordinal);
        if summary.unread.records == 0 {
            backed.all_taken(ordinal, summary.next);
        }
        if summary.closed {
            self.shrink(grown);
            backed.forget_plain(ordinal);
        }
        backed.forget_settled(self, ordinal);
        grown.eased.notify_waiters();
        backed.progress.notify_waiters();
        self.announce();
    }

    /// How long a mailbox that waits for that does not look at the disk, after so many tries to
    /// read.
    fn until_look(&self, lack: &Lack, tries: u32) -> Duration {
        let turns = self.returning.load(Atomic::Relaxed) / LOOK_AT_ONCE + 1;
        let each = match lack {
            Lack::Room(_) => DISK_LOOK,
            Lack::Passing(error) if error.is_lack_of_space() => {
                OUTPUT_RETRY * (1 << tries.min(LAST_DOUBLING))
            }
            Lack::Passing(_) => OUTPUT_RETRY,
        };
        each.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX))
    }
}

/// Puts back what a child's mailbox does not have yet.
async fn go_on(
    job: Weak<JobMailboxes>,
    backed: Arc<Backed>,
    grown: Arc<Grown>,
    (mut rest, mut lack): (Rest, Lack),
) {
    let (mut looked, mut tries, mut look_at) = (false, 0, None);
    loop {
        let Some(job) = job.upgrade() else { return };
        if job.is_removed() {
            return;
        }
        // What is read from here on wakes it.
        let mut eased = pin!(grown.eased.notified());
        eased.as_mut().enable();
        if job.may_return(&grown, &lack, looked).await {
            if job.return_more(&backed, &grown, (&mut rest, &mut lack)).await {
                return job.is_back(&backed, &grown);
            }
            tries = match &lack {
                Lack::Passing(_) => tries + 1,
                Lack::Room(_) => 0,
            };
            rest.gives_up |= tries >= OUTPUT_READ_TRIES && lack.because() != FullBecause::DiskFull;
        }
        let next = look_at.filter(|_| !looked);
        let next =
            *look_at.insert(next.unwrap_or_else(|| Instant::now() + job.until_look(&lack, tries)));
        looked = tokio::select! {
            () = eased => false,
            () = tokio::time::sleep_until(next) => true,
        };
    }
}
