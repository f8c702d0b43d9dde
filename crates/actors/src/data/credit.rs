//! What the children of one owner node may have unacknowledged here, in all its sessions together
//! (`docs/semantics.md`, section 1.3).
//!
//! Results on the shared streams and those on children's own streams have a part each, so that
//! children that write much never keep small results waiting. Who waits for a part is served in
//! order: nobody starves.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sortie_model::{NodeId, limits};
use tokio::sync::Semaphore;

/// What all sessions that have to do with one other node share, for as long as one of them has.
#[derive(Debug)]
pub(crate) struct PerNode<T> {
    nodes: Mutex<HashMap<NodeId, Weak<T>>>,
}

impl<T> Default for PerNode<T> {
    fn default() -> Self {
        Self { nodes: Mutex::default() }
    }
}

impl<T: Default> PerNode<T> {
    /// What is shared about that node.
    pub(crate) fn of(&self, node: NodeId) -> Arc<T> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = nodes.get(&node).and_then(Weak::upgrade) {
            return shared;
        }
        nodes.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(T::default());
        nodes.insert(node, Arc::downgrade(&shared));
        shared
    }
}

/// The credit of one owner node, [`limits::LINK_CREDIT_BYTES`] in all, and what it has running.
#[derive(Debug)]
pub(crate) struct OwnerCredit {
    /// For what rides the shared streams.
    pub(crate) shared: Arc<Part>,
    /// For children's own streams.
    pub(crate) own: Arc<Part>,
    /// Children of all its sessions here that have not ended, those that wait included.
    unfinished: AtomicU64,
}

impl OwnerCredit {
    /// How many children more it may have here.
    pub(crate) fn room_for_children(&self) -> u64 {
        limits::HOSTED_CHILDREN.saturating_sub(self.unfinished.load(Relaxed))
    }

    /// Children are there that were not before.
    pub(crate) fn add_children(&self, count: u64) {
        self.unfinished.fetch_add(count, Relaxed);
    }

    /// Children ended that were added.
    pub(crate) fn take_children(&self, count: u64) {
        let less = |unfinished: u64| Some(unfinished.saturating_sub(count));
        // It has an answer for every number.
        let _ = self.unfinished.fetch_update(Relaxed, Relaxed, less);
    }
}

impl Default for OwnerCredit {
    fn default() -> Self {
        Self {
            shared: Part::of(limits::LINK_SHARED_CREDIT_BYTES),
            own: Part::of(limits::LINK_CREDIT_BYTES - limits::LINK_SHARED_CREDIT_BYTES),
            unfinished: AtomicU64::new(0),
        }
    }
}

/// A part of an owner's credit.
#[derive(Debug)]
pub(crate) struct Part {
    size: usize,
    /// One permit per byte; those who wait get theirs in order, and nobody passes them.
    free: Semaphore,
}

impl Part {
    fn of(size: usize) -> Arc<Self> {
        Arc::new(Self { size, free: Semaphore::new(size) })
    }

    /// So many bytes, once those who asked before have theirs. More than the part has is all of it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Held {
        let bytes = bytes.min(self.size);
        // Never closed, so this waits until it has them.
        if let Ok(permit) = self.free.acquire_many(permits(bytes)).await {
            permit.forget();
        }
        Held { part: Arc::clone(self), bytes }
    }

    /// What was waited for, or so many bytes if nobody waits for any.
    pub(crate) fn claim(self: &Arc<Self>, held: &mut Option<Held>, bytes: usize) -> Option<Held> {
        if let Some(held) = held.take().filter(|held| held.is_of(self)) {
            return Some(held);
        }
        let bytes = bytes.min(self.size);
        self.free.try_acquire_many(permits(bytes)).ok()?.forget();
        Some(Held { part: Arc::clone(self), bytes })
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Bytes of a part that are in use; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    part: Arc<Part>,
    bytes: usize,
}

impl Held {
    /// Nothing of that part.
    pub(crate) const fn nothing(part: Arc<Part>) -> Self {
        Self { part, bytes: 0 }
    }

    pub(crate) const fn part(&self) -> &Arc<Part> {
        &self.part
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_of(&self, part: &Arc<Part>) -> bool {
        Arc::ptr_eq(&self.part, part)
    }

    /// Holds what the other one held, of the same part.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives back so many bytes, at most all.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.part.free.add_permits(bytes);
    }

    /// Gives back everything.
    pub(crate) fn clear(&mut self) {
        self.give_back(self.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
    }
}
