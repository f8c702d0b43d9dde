//! Mailboxes of a persistent session: what is in them, and how far it was taken, outlives the
//! daemon (`docs/semantics.md`, sections 1.3 and 3.3).
//!
//! A mailbox that grows is followed to the disk without being taken from; a small one goes into the
//! journal when its child ends. What was acknowledged comes out as cursors for the journal, and its
//! files go when the journal has them.

mod again;
mod files;
mod follow;
mod inline;
mod left;
mod persist;
mod restore;
mod returning;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use bytes::Bytes;
use sortie_engine::mailbox::{OfferId, PerStream, Piece};
use sortie_model::{ChildKey, JobInstance, Ordinal, Record, Seq};
use sortie_store::journal::Dropped;
use sortie_store::segment::SegmentError;
use sortie_store::{RecoverError, Store};
use tokio::sync::Notify;

use super::{FullBecause, JobMailboxes, ReadError, lock};
#[cfg(test)]
pub(super) use inline::Inline;
pub(crate) use left::has_left;
use table::Table;

/// Called with a child and the number before which all its records are on the disk, or were taken
/// and the journal knows it. Only a child's highest number counts: they may come in any order.
/// Short: the next child waits for it.
pub type StoredListener = Arc<dyn Fn(ChildKey, Seq) + Send + Sync>;

/// Where a job's mailboxes go that outlive their daemon.
#[derive(Clone)]
pub struct Backing {
    /// The node's store.
    pub store: Arc<Store>,
    /// The job, which the store has.
    pub job: JobInstance,
    /// Who is told what is stored.
    pub stored: Option<StoredListener>,
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backing").field("job", &self.job).finish_non_exhaustive()
    }
}

/// Where the records of a child that ended are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persisted {
    /// Nowhere: all of them were taken, or there were none.
    Nothing,
    /// Here, for the journal, in the same step as the child's end: what is unread, and what is to
    /// be known of the rest. At most
    /// [`INLINE_OUTPUT_BYTES`](sortie_model::limits::INLINE_OUTPUT_BYTES).
    Inline(Bytes),
    /// In the child's own files.
    Segments {
        /// The number after the last one that is there.
        next: Seq,
        /// Bytes of disk.
        bytes: u64,
    },
}

/// Why a mailbox is not wholly what it was. What could be read is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A file is damaged or missing.
    #[error("output could not be read back")]
    Output(#[from] SegmentError),
    /// The journal's block with the child's last records is damaged.
    #[error("the journal's output of child {} is damaged", ordinal.0)]
    Inline {
        /// The child's place in its job.
        ordinal: Ordinal,
    },
    /// No job can have such a child.
    #[error("no job can have such a child")]
    NoSuchChild,
    /// The job was removed, or the node is going.
    #[error("the job was removed")]
    Removed,
}

impl RestoreError {
    /// Whether the same call may succeed at a later start without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Output(error) => error.is_retryable(),
            Self::Removed => true,
            Self::Inline { .. } | Self::NoSuchChild => false,
        }
    }
}

/// What the mailboxes of a job have beside themselves when they outlive their daemon.
#[derive(Debug)]
pub(super) struct Backed {
    pub(super) backing: Backing,
    owner: OnceLock<Weak<JobMailboxes>>,
    /// Locked after a shard or a mailbox, never before.
    table: Mutex<Table>,
    /// Notified when cursors moved.
    moved: Notify,
    /// Notified when something was stored, or will not be.
    progress: Notify,
    /// Notified when there is more to do than there was.
    work: Notify,
}

impl Backed {
    pub(super) fn new(backing: Backing) -> Arc<Self> {
        Arc::new(Self {
            backing,
            owner: OnceLock::new(),
            table: Mutex::default(),
            moved: Notify::new(),
            progress: Notify::new(),
            work: Notify::new(),
        })
    }

    /// Whose it is; said once.
    pub(super) fn belongs_to(&self, job: &Arc<JobMailboxes>) {
        self.owner.get_or_init(|| Arc::downgrade(job));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    const fn child(&self, ordinal: Ordinal) -> ChildKey {
        ChildKey { job: self.backing.job, ordinal }
    }

    /// These records of a child are on offer; what protects its mailbox is locked.
    pub(super) fn offered(
        &self,
        ordinal: Ordinal,
        id: OfferId,
        (pieces, records): (&PerStream<Piece>, &[Record]),
    ) {
        self.table().child(ordinal).offered(id, pieces, records);
    }

    /// An offer was acknowledged; what protects its mailbox is locked. `over` is the number of its
    /// next record, where it has none that is unread.
    pub(super) fn acknowledged(&self, ordinal: Ordinal, id: OfferId, over: Option<Seq>) {
        let mut table = self.table();
        let child = table.child(ordinal);
        let moved = child.acknowledged(id);
        if moved | over.is_some_and(|next| child.all_taken(next)) {
            table.moved(ordinal);
            self.moved.notify_waiters();
        }
    }

    /// The mailbox of a child has nothing that is unread: that is the number of its next record.
    fn all_taken(&self, ordinal: Ordinal, next: Seq) {
        let mut table = self.table();
        if table.children.get_mut(&ordinal).is_some_and(|child| child.all_taken(next)) {
            table.moved(ordinal);
            self.moved.notify_waiters();
        }
    }

    /// An offer was withdrawn; what protects its mailbox is locked.
    pub(super) fn withdrawn(&self, ordinal: Ordinal, id: OfferId) {
        self.table().child(ordinal).withdrawn(id);
    }

    /// The oldest records went, unread; what protects their mailbox is locked.
    pub(super) fn dropped(
        &self,
        ordinal: Ordinal,
        (pieces, records): (&PerStream<Piece>, &[Record]),
    ) {
        let mut table = self.table();
        table.child(ordinal).dropped(pieces, records);
        table.moved(ordinal);
        self.moved.notify_waiters();
    }

    /// New records were dropped instead of stored; what protects their mailbox is locked.
    pub(super) fn skipped(&self, ordinal: Ordinal, more: Dropped) {
        let mut table = self.table();
        table.child(ordinal).skipped(more);
        table.moved(ordinal);
        self.moved.notify_waiters();
    }

    /// A child has a value that is this process's own: nothing of it goes to the disk from now on,
    /// or the value would have to be encoded.
    pub(super) fn stays_here(&self, ordinal: Ordinal) {
        self.table().child(ordinal).lost = true;
    }

    /// A mailbox that is not compact got records; what protects it is locked.
    pub(super) fn grew(self: &Arc<Self>, ordinal: Ordinal) {
        let mut table = self.table();
        table.child(ordinal).goes_on();
        if table.make_due(ordinal) {
            self.wake(table);
        }
    }

    /// Whether nothing is under way: what was taken is in the journal, and nobody follows.
    pub(super) fn is_at_rest(&self) -> bool {
        self.table().is_at_rest()
    }

    /// Whether anything of a child is remembered.
    #[cfg(test)]
    pub(super) fn remembers(&self, ordinal: Ordinal) -> bool {
        self.table().children.contains_key(&ordinal)
    }

    /// Why output does not get to the disk.
    pub(super) fn trouble(&self, ordinal: Ordinal) -> Option<FullBecause> {
        self.table().children.get(&ordinal).and_then(|child| child.trouble)
    }

    /// The job is gone: its files go, too.
    pub(super) fn remove(self: &Arc<Self>) {
        let mut table = self.table();
        if !table.begin_removal() {
            return;
        }
        self.moved.notify_waiters();
        self.progress.notify_waiters();
        self.wake(table);
    }

    /// Sees to it that somebody works on what is to be done.
    fn wake(self: &Arc<Self>, mut table: MutexGuard<'_, Table>) {
        if table.running {
            drop(table);
            self.work.notify_one();
            return;
        }
        // Without a runtime the first call with one does it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Some(job) = self.owner.get() else { return };
        table.running = true;
        table.pause();
        // Not awaited: it ends when there is nothing to do.
        drop(runtime.spawn(follow::follow(Arc::clone(self), Weak::clone(job))));
    }
}

impl FullBecause {
    fn of_output(error: &RecoverError) -> Self {
        match error {
            RecoverError::Output(error) if error.is_lack_of_space() => Self::DiskFull,
            _ => Self::DiskFailed,
        }
    }
}

/// Whether what was read badly now is read badly for ever.
fn is_lost(error: &ReadError) -> bool {
    !matches!(error, ReadError::Removed) && !error.is_retryable()
}
