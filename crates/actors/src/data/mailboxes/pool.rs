//! What the mailboxes of a node share.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use sortie_model::limits::{
    HOLES_QUEUED, MAILBOX_MEMORY_BYTES, MAILBOX_QUOTA_BYTES, NODE_MAILBOX_MEMORY_BYTES,
    OUTPUT_FILES_OPEN, OUTPUT_ROUNDS,
};
use sortie_store::{Hole, Spool, SpoolBounds};
use tokio::sync::{Notify, Semaphore};

use super::{JobMailboxes, lock};

/// Bounds of a node's mailboxes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolBounds {
    /// What one mailbox keeps in memory before it writes to its file. Default:
    /// [`MAILBOX_MEMORY_BYTES`].
    pub mailbox_memory: u64,
    /// What all mailboxes keep in memory. Default: [`NODE_MAILBOX_MEMORY_BYTES`].
    pub node_memory: u64,
    /// What one mailbox may have unread; there the session's policy acts. Default:
    /// [`MAILBOX_QUOTA_BYTES`].
    pub mailbox_quota: u64,
    /// What the files may take of the disk.
    pub spool: SpoolBounds,
}

impl Default for PoolBounds {
    fn default() -> Self {
        Self {
            mailbox_memory: MAILBOX_MEMORY_BYTES as u64,
            node_memory: NODE_MAILBOX_MEMORY_BYTES as u64,
            mailbox_quota: MAILBOX_QUOTA_BYTES,
            spool: SpoolBounds::default(),
        }
    }
}

/// The memory budget, the files and the quota that all mailboxes of a node share: one per node.
///
/// When the last job and the pool are dropped nothing of them is left on the disk.
#[derive(Debug)]
pub struct MailboxPool {
    pub(super) bounds: PoolBounds,
    pub(super) spool: Arc<Spool>,
    /// Notified when memory or disk became free.
    pub(super) freed: Notify,
    memory: AtomicU64,
    next_job: AtomicU64,
    jobs: Mutex<HashMap<u64, Weak<JobMailboxes>>>,
    holes: Mutex<HoleQueue>,
    /// Jobs whose output is stored at this moment.
    pub(super) storing: Semaphore,
    /// Held while what had no room at the node's start comes back to a mailbox.
    pub(super) returning: tokio::sync::Mutex<()>,
    /// The same for a mailbox that is read meanwhile.
    pub(super) returning_read: tokio::sync::Mutex<()>,
    /// Files with output that are open between two rounds.
    pub(super) open_outputs: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct HoleQueue {
    holes: VecDeque<Hole>,
    worked_on: bool,
}

impl MailboxPool {
    /// A pool whose files lie below `dir`, a directory that other pools may use as well. Nothing is
    /// made there until something has to be written.
    pub fn new(dir: PathBuf) -> Arc<Self> {
        Self::with_bounds(dir, PoolBounds::default())
    }

    /// The same with other bounds.
    pub fn with_bounds(dir: PathBuf, bounds: PoolBounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            spool: Spool::new(dir, bounds.spool),
            freed: Notify::new(),
            memory: AtomicU64::new(0),
            next_job: AtomicU64::new(0),
            jobs: Mutex::default(),
            holes: Mutex::default(),
            storing: Semaphore::new(OUTPUT_ROUNDS),
            returning: tokio::sync::Mutex::default(),
            returning_read: tokio::sync::Mutex::default(),
            open_outputs: Arc::new(Semaphore::new(OUTPUT_FILES_OPEN)),
        })
    }

    /// Removes the files that killed nodes left below the pool's directory. Blocks on the disk: for
    /// the start of a node.
    pub fn remove_abandoned(&self) {
        self.spool.remove_abandoned();
    }

    /// The same off the runtime's workers; nobody waits for it.
    pub fn clear_away(pool: &Arc<Self>) {
        let pool = Arc::clone(pool);
        tokio::task::spawn_blocking(move || pool.remove_abandoned());
    }

    /// Bytes of records in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Bytes of unread records on the disk. Sinks a little after the acknowledgement that freed
    /// them.
    pub fn disk_bytes(&self) -> u64 {
        self.spool.used()
    }

    pub(super) fn add_memory(&self, bytes: u64) {
        self.memory.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub_memory(&self, bytes: u64) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn next_job(&self) -> u64 {
        self.next_job.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn add_job(&self, number: u64, job: &Arc<JobMailboxes>) {
        lock(&self.jobs).insert(number, Arc::downgrade(job));
    }

    pub(super) fn remove_job(&self, number: u64) {
        lock(&self.jobs).remove(&number);
    }

    /// The jobs with bytes in memory, those with most of them first.
    pub(super) fn largest_jobs(&self) -> Vec<Arc<JobMailboxes>> {
        let jobs = lock(&self.jobs);
        let mut jobs: Vec<_> = jobs.values().filter_map(Weak::upgrade).collect();
        jobs.retain(|job| job.memory.load(Ordering::Relaxed) > 0);
        jobs.sort_by_cached_key(|job| std::cmp::Reverse(job.memory.load(Ordering::Relaxed)));
        jobs
    }

    /// Gives stretches of files back to the disk, soon and elsewhere.
    pub(super) fn reclaim(self: &Arc<Self>, holes: Vec<Hole>) {
        if holes.is_empty() {
            return;
        }
        let mut queue = lock(&self.holes);
        for hole in holes {
            let last = queue.holes.back_mut();
            let apart = match last {
                Some(last) => last.absorb(hole),
                None => Some(hole),
            };
            queue.holes.extend(apart);
        }
        let overdue = queue.holes.len() > HOLES_QUEUED;
        if queue.worked_on && !overdue {
            return;
        }
        let runtime = tokio::runtime::Handle::try_current();
        let Some(runtime) = runtime.ok().filter(|_| !overdue) else {
            drop(queue);
            return self.give_back_all();
        };
        queue.worked_on = true;
        let pool = Arc::clone(self);
        // Not awaited: it ends when the queue is empty.
        drop(runtime.spawn_blocking(move || pool.give_back_all()));
    }

    fn give_back_all(&self) {
        loop {
            let mut queue = lock(&self.holes);
            let Some(hole) = queue.holes.pop_front() else {
                queue.worked_on = false;
                break;
            };
            drop(queue);
            hole.give_back();
        }
        self.freed.notify_waiters();
    }
}
