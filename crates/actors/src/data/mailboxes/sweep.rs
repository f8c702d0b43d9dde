//! When the node's memory is used up by many small mailboxes: they go to a file that they share.

use std::sync::Arc;

use bytes::Bytes;
use sortie_engine::mailbox::Tally;
use sortie_model::limits::MIB;
use sortie_model::{Ordinal, Stream};
use sortie_store::{Hole, MailboxFile, SpoolError, Written};

use super::compact::Block;
use super::grown::Grown;
use super::spill::{encoded, file_for};
use super::{JobMailboxes, SHARDS, Slot, blocking, lock};

/// How much one sweep writes, and about how much memory it frees.
const SWEEP_BYTES: usize = MIB;

/// Where the next sweep of a job begins.
#[derive(Debug, Default)]
pub(super) struct SweepCursor {
    next: u32,
}

/// A mailbox whose memory is on its way to the file.
enum Swept {
    Compact(Ordinal, Bytes),
    Grown(Arc<Grown>, Vec<(Stream, Written)>),
}

impl JobMailboxes {
    /// Frees memory of the job that has most of it, for `new` records. False when no job has
    /// anything that could be moved.
    pub(super) async fn sweep_pool(self: &Arc<Self>, new: Tally) -> Result<bool, SpoolError> {
        for job in self.pool.largest_jobs() {
            let mut cursor = job.sweeping.lock().await;
            if !self.is_over_memory(new) {
                return Ok(true);
            }
            let (sweeper, from) = (Arc::clone(&job), cursor.next);
            let swept = blocking(move || sweeper.sweep(from)).await.unwrap_or(Ok(None))?;
            if let Some(next) = swept {
                cursor.next = next;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes mailboxes from an ordinal on, and says where it stopped. None when there was nothing
    /// to write.
    fn sweep(self: &Arc<Self>, from: u32) -> Result<Option<u32>, SpoolError> {
        let (swept, next) = self.collect(from);
        if swept.is_empty() {
            return Ok(None);
        }
        let parts: Vec<_> = swept.iter().flat_map(Swept::parts).collect();
        let current = lock(&self.shared_file).upgrade();
        let written = file_for(&self.pool.spool, current, false)
            .and_then(|file| file.append(&parts).map(|at| (file, at)));
        drop(parts);
        let (file, mut at) = match written {
            Ok(written) => written,
            Err(error) => {
                swept.into_iter().for_each(Swept::stay);
                return Err(error);
            }
        };
        let mut holes = Vec::new();
        for swept in swept {
            let bytes = swept.parts().iter().map(|part| part.len() as u64).sum::<u64>();
            holes.extend(self.settle_swept(swept, &file, at));
            at += bytes;
        }
        *lock(&self.shared_file) = Arc::downgrade(&file);
        holes.into_iter().for_each(Hole::give_back);
        Ok(Some(next))
    }

    fn collect(&self, from: u32) -> (Vec<Swept>, u32) {
        let longest = self.shards.iter().map(|shard| lock(shard).slots.len()).max().unwrap_or(0);
        let count = u32::try_from(longest).unwrap_or(u32::MAX).saturating_mul(SHARDS);
        let (mut swept, mut bytes) = (Vec::new(), 0);
        for step in 0..count {
            let ordinal = (u64::from(from) + u64::from(step)) % u64::from(count.max(1));
            let ordinal = Ordinal(ordinal as u32);
            if let Some(found) = self.collect_one(ordinal) {
                bytes += found.parts().iter().map(Bytes::len).sum::<usize>();
                swept.push(found);
            }
            if bytes >= SWEEP_BYTES {
                return (swept, ordinal.0.wrapping_add(1));
            }
        }
        (swept, from)
    }

    fn collect_one(&self, ordinal: Ordinal) -> Option<Swept> {
        let shard = self.shard(ordinal);
        let grown = match shard.slot(ordinal)? {
            Slot::Untouched => return None,
            Slot::Compact(compact) => {
                return match compact.block() {
                    Block::Memory(bytes) if !bytes.is_empty() && !compact.is_lent() => {
                        Some(Swept::Compact(ordinal, bytes.clone()))
                    }
                    _ => None,
                };
            }
            Slot::Grown(grown) => Arc::clone(grown),
        };
        drop(shard);
        let mut state = grown.lock();
        if state.spilling || state.removed || state.memory() == 0 {
            return None;
        }
        let spills = state.begin_spill();
        drop(state);
        Some(Swept::Grown(grown, encoded(spills)))
    }

    /// What was collected lies in the file from `at` on.
    fn settle_swept(&self, swept: Swept, file: &Arc<MailboxFile>, at: u64) -> Vec<Hole> {
        match swept {
            Swept::Compact(ordinal, written) => {
                let bytes = written.len() as u64;
                let mut shard = self.shard(ordinal);
                if !shard.removed
                    && let Slot::Compact(compact) = shard.slot_mut(ordinal)
                    && !compact.is_lent()
                    && let Block::Memory(now) = compact.block()
                    && now.as_ptr() == written.as_ptr()
                    && now.len() == written.len()
                {
                    let (file, bytes) = (Arc::clone(file), written.len() as u32);
                    compact.moved_to(Block::File { file, at, bytes });
                    self.memory_is(u64::from(bytes), 0);
                    return Vec::new();
                }
                vec![Hole::new(Arc::clone(file), at, bytes)]
            }
            Swept::Grown(grown, spills) => {
                let holes = grown.lock().end_spill(self, &spills, file, at);
                grown.eased.notify_waiters();
                holes
            }
        }
    }
}

impl Swept {
    fn parts(&self) -> Vec<Bytes> {
        match self {
            Self::Compact(_, bytes) => vec![bytes.clone()],
            Self::Grown(_, spills) => spills.iter().flat_map(|(_, spill)| spill.bytes()).collect(),
        }
    }

    /// Nothing was written.
    fn stay(self) {
        if let Self::Grown(grown, _) = self {
            grown.lock().spilling = false;
            grown.eased.notify_waiters();
        }
    }
}
