//! The mailboxes of a node's jobs: where records wait for their readers (`docs/semantics.md`,
//! sections 1.3 and 3.3).
//!
//! A [`MailboxPool`] has the node's memory budget and its files; [`JobMailboxes`] has one mailbox
//! for each child of a job. A child's first few records lie in one small block; a mailbox that gets
//! more grows a ledger (`sortie_engine::mailbox`) and a log per stream (`sortie_store`).
//!
//! Locks are held for memory operations only, never while a disk is read or written, and never
//! across an `await`; so a slow reader, a dead one or a slow disk delays nobody else's records.

mod append;
mod backed;
mod compact;
mod grown;
mod index;
mod keep;
mod merge;
mod offer;
mod outcome;
mod paused;
mod pool;
mod ready;
mod spill;
mod sweep;
mod tail;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sortie_engine::mailbox::Tally;
use sortie_model::limits::CHILDREN_PER_JOB;
use sortie_model::record::{OutputPolicy, OutputRule};
use sortie_model::{Ordinal, Seq};
use sortie_store::MailboxFile;
use tokio::sync::Notify;

use backed::Backed;
pub(crate) use backed::has_left;
pub use backed::{Backing, Persisted, RestoreError, StoredListener};
use compact::Compact;
use grown::Grown;
use index::Index;
pub use keep::{Kept, Position};
pub use merge::{LiveValues, Most};
pub use offer::Offer;
pub use outcome::{AppendError, Appended, FullBecause, ReadError, Summary, TryAppend};
pub use pool::{MailboxPool, PoolBounds};
pub use ready::Ready;
pub use tail::TailStart;

/// Children are spread over so many locks.
const SHARDS: u32 = 16;

/// A child's mailbox.
#[derive(Debug, Default)]
enum Slot {
    /// Nothing happened to it yet.
    #[default]
    Untouched,
    Compact(Box<Compact>),
    Grown(Arc<Grown>),
}

#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    removed: bool,
}

/// The mailboxes of one job's children, by their ordinals. Used from many tasks at once.
///
/// Dropping it frees all memory, and the disk as well, but for what outlives the daemon.
#[derive(Debug)]
pub struct JobMailboxes {
    pool: Arc<MailboxPool>,
    number: u64,
    rule: OutputRule,
    shards: [Mutex<Shard>; SHARDS as usize],
    /// Locked after a shard or a mailbox, never before.
    index: Mutex<Index>,
    unread_records: AtomicU64,
    unread_bytes: AtomicU64,
    memory: AtomicU64,
    dropped_records: AtomicU64,
    dropped_bytes: AtomicU64,
    /// Mailboxes of which not all is back that they had before their daemon ended.
    returning: AtomicU64,
    /// Producers that wait in [`Self::room`].
    paused: AtomicU64,
    version: AtomicU64,
    changed: Notify,
    removed: AtomicBool,
    /// Where mailboxes go together that are too small for a file of their own; it lives as long as
    /// one of them is in it.
    shared_file: Mutex<Weak<MailboxFile>>,
    sweeping: tokio::sync::Mutex<sweep::SweepCursor>,
    /// What outlives the daemon, if anything does.
    backed: Option<Arc<Backed>>,
}

impl JobMailboxes {
    /// No mailboxes yet; the producer pauses at a quota.
    pub fn new(pool: Arc<MailboxPool>) -> Arc<Self> {
        let quota = pool.bounds.mailbox_quota;
        Self::with_rule(pool, OutputRule { policy: OutputPolicy::Block, quota })
    }

    /// No mailboxes yet. The quota is at most that of the pool.
    pub fn with_rule(pool: Arc<MailboxPool>, rule: OutputRule) -> Arc<Self> {
        Self::make(pool, rule, None)
    }

    fn make(pool: Arc<MailboxPool>, rule: OutputRule, backed: Option<Arc<Backed>>) -> Arc<Self> {
        let rule = OutputRule { quota: rule.quota.min(pool.bounds.mailbox_quota), ..rule };
        let number = pool.next_job();
        let job = Arc::new(Self {
            pool,
            number,
            rule,
            shards: Default::default(),
            index: Mutex::default(),
            unread_records: AtomicU64::new(0),
            unread_bytes: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            dropped_records: AtomicU64::new(0),
            dropped_bytes: AtomicU64::new(0),
            returning: AtomicU64::new(0),
            paused: AtomicU64::new(0),
            version: AtomicU64::new(0),
            changed: Notify::new(),
            removed: AtomicBool::new(false),
            shared_file: Mutex::default(),
            sweeping: tokio::sync::Mutex::default(),
            backed,
        });
        if let Some(backed) = &job.backed {
            backed.belongs_to(&job);
        }
        job.pool.add_job(number, &job);
        job
    }

    /// The child has ended: no new record of it is accepted after. Wakes its readers.
    pub fn close(&self, ordinal: Ordinal) {
        if !is_possible(ordinal) {
            return;
        }
        let mut shard = self.shard(ordinal);
        if shard.removed {
            return;
        }
        match shard.slot_mut(ordinal) {
            Slot::Compact(compact) => compact.close(),
            Slot::Grown(grown) => {
                let grown = Arc::clone(grown);
                drop(shard);
                grown.lock().close();
                self.shrink(&grown);
            }
            slot @ Slot::Untouched => *slot = Slot::Compact(Compact::ended(Seq(0), false)),
        }
        self.announce();
    }

    /// The child is being stopped, or is not any more: meanwhile its producer does not pause at the
    /// quota.
    pub fn set_ending(&self, ordinal: Ordinal, ending: bool) {
        if self.rule.policy != OutputPolicy::Block || !is_possible(ordinal) {
            return;
        }
        // Any other is far from its quota, and grows before it comes near.
        let Some(grown) = self.grown(ordinal) else { return };
        grown.lock().ledger.set_ending(ending);
        grown.eased.notify_waiters();
    }

    /// What there is to say about one mailbox. An untouched one is empty and open.
    pub fn summary(&self, ordinal: Ordinal) -> Summary {
        let shard = self.shard(ordinal);
        match shard.slot(ordinal) {
            None | Some(Slot::Untouched) => Summary::default(),
            Some(Slot::Compact(compact)) => compact.summary(),
            Some(Slot::Grown(grown)) => {
                let grown = Arc::clone(grown);
                drop(shard);
                let mut summary = grown.lock().summary();
                if let Some(backed) = &self.backed {
                    summary.full = summary.full.or_else(|| backed.trouble(ordinal));
                }
                summary
            }
        }
    }

    /// How many producers pause now.
    pub fn paused(&self) -> u64 {
        self.paused.load(Ordering::Relaxed)
    }

    /// What the policy dropped of all children together.
    pub fn dropped(&self) -> Tally {
        Tally {
            records: self.dropped_records.load(Ordering::Relaxed),
            bytes: self.dropped_bytes.load(Ordering::Relaxed),
        }
    }

    fn note_dropped(&self, more: Tally) {
        self.dropped_records.fetch_add(more.records, Ordering::Relaxed);
        self.dropped_bytes.fetch_add(more.bytes, Ordering::Relaxed);
    }

    /// Whether it is the policy that children fail at the quota.
    pub const fn may_cut(&self) -> bool {
        matches!(self.rule.policy, OutputPolicy::Fail)
    }

    /// What all have that was neither acknowledged nor dropped; of what comes back, one record.
    pub fn unread(&self) -> Tally {
        let returning = self.returning.load(Ordering::Relaxed);
        Tally {
            records: self.unread_records.load(Ordering::Relaxed).saturating_add(returning),
            bytes: self.unread_bytes.load(Ordering::Relaxed),
        }
    }

    /// The first child from `from` on with unread records, some of which may be on offer. Does not
    /// look at the others one by one.
    pub fn next_unread(&self, from: Ordinal) -> Option<Ordinal> {
        lock(&self.index).next_unread(from)
    }

    /// A queue of the children that have something to read: first those that have it now, in child
    /// order, then others in the order in which they got new records.
    pub fn ready(self: &Arc<Self>) -> Ready {
        Ready::new(Arc::clone(self))
    }

    /// A number that every append, close and withdrawal raises.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Waits until the version is another than `since`, and returns it. What changed after the
    /// version was read is never missed: read the version, look at the mailboxes, then wait.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    pub async fn changed(&self, since: u64) -> u64 {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let version = self.version();
            if version != since || self.removed.load(Ordering::Acquire) {
                return version;
            }
            changed.await;
        }
    }

    /// Frees all memory and disk. Appends and reads of this job fail from now on; records that
    /// readers have in hand stay theirs. Files that would outlive the daemon go in the background.
    pub fn remove_all(&self) {
        self.free_all();
        if let Some(backed) = &self.backed {
            backed.remove();
        }
    }

    fn free_all(&self) {
        self.removed.store(true, Ordering::Release);
        let mut holes = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.removed = true;
            for slot in std::mem::take(&mut shard.slots) {
                match slot {
                    Slot::Untouched => {}
                    Slot::Compact(compact) => {
                        self.memory_is(compact.memory(), 0);
                        holes.extend(compact.into_hole());
                    }
                    Slot::Grown(grown) => holes.extend(grown.remove(self)),
                }
            }
        }
        *lock(&self.index) = Index::default();
        self.unread_records.store(0, Ordering::Relaxed);
        self.unread_bytes.store(0, Ordering::Relaxed);
        self.pool.reclaim(holes);
        self.pool.freed.notify_waiters();
        self.announce();
    }

    /// A mailbox that ended and has nothing left becomes a compact one again, which takes a tenth
    /// of the memory. Whoever holds the grown one finds it empty and closed for good.
    fn shrink(&self, grown: &Arc<Grown>) {
        let mut shard = self.shard(grown.ordinal);
        if shard.removed {
            return;
        }
        let slot = shard.slot_mut(grown.ordinal);
        if matches!(slot, Slot::Grown(other) if Arc::ptr_eq(other, grown)) {
            let state = grown.lock();
            if state.is_over() {
                *slot = Slot::Compact(Compact::ended(state.next(), state.ledger.with_errors()));
            }
        }
    }

    /// Whether everything was freed by [`remove_all`](Self::remove_all).
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    fn shard(&self, ordinal: Ordinal) -> MutexGuard<'_, Shard> {
        // The remainder is below the number of shards; the first is never taken for another.
        let [first, ..] = &self.shards;
        lock(self.shards.get((ordinal.0 % SHARDS) as usize).unwrap_or(first))
    }

    /// Whether anybody waits for what comes.
    fn has_readers(&self) -> bool {
        lock(&self.index).has_readers()
    }

    /// Tells waiting readers that something changed.
    fn announce(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// New records of a child; its lock is held.
    fn arrived(&self, ordinal: Ordinal, new: Tally) {
        self.unread_records.fetch_add(new.records, Ordering::Relaxed);
        self.unread_bytes.fetch_add(new.bytes, Ordering::Relaxed);
        lock(&self.index).arrived(ordinal);
    }

    /// Records of a child are free; its lock is held.
    fn left(&self, ordinal: Ordinal, freed: Tally, has_unread: bool) {
        self.unread_records.fetch_sub(freed.records, Ordering::Relaxed);
        self.unread_bytes.fetch_sub(freed.bytes, Ordering::Relaxed);
        if !has_unread {
            lock(&self.index).emptied(ordinal);
        }
    }

    /// A mailbox has `now` bytes in memory where it had `before`.
    fn memory_is(&self, before: u64, now: u64) {
        if now >= before {
            self.memory.fetch_add(now - before, Ordering::Relaxed);
            self.pool.add_memory(now - before);
        } else {
            self.memory.fetch_sub(before - now, Ordering::Relaxed);
            self.pool.sub_memory(before - now);
        }
    }
}

impl Drop for JobMailboxes {
    fn drop(&mut self) {
        self.free_all();
        self.pool.remove_job(self.number);
    }
}

impl Shard {
    fn slot(&self, ordinal: Ordinal) -> Option<&Slot> {
        self.slots.get((ordinal.0 / SHARDS) as usize)
    }

    fn slot_mut(&mut self, ordinal: Ordinal) -> &mut Slot {
        let place = (ordinal.0 / SHARDS) as usize;
        if self.slots.len() <= place {
            self.slots.resize_with(place + 1, Slot::default);
        }
        #[expect(clippy::indexing_slicing, reason = "the vector was just made long enough")]
        &mut self.slots[place]
    }
}

/// Whether a job can have such a child; what asks for another comes from a broken peer.
const fn is_possible(ordinal: Ordinal) -> bool {
    ordinal.0 < CHILDREN_PER_JOB
}

/// Locks; a panic elsewhere while a lock was held costs at most that one operation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking file work off the runtime's workers. None when the runtime is shutting down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
