//! Storing records, and what stands in the way of it.

use std::sync::Arc;

use sortie_engine::mailbox::{Admission, AppendRefused, Tally, known_prefix};
use sortie_model::limits::{CHILD_CREDIT_BYTES, COMPACT_MAILBOX_BYTES, LINK_CREDIT_BYTES};
use sortie_model::{Body, Ordinal, Record, Seq};
use sortie_store::SpoolError;
use sortie_store::journal::Dropped;

use super::compact::{Block, Compact};
use super::grown::{Grown, Returning, State};
use super::{
    AppendError, Appended, FullBecause, JobMailboxes, ReadError, Slot, TryAppend, is_possible,
};

/// How often a writer lets others run before it writes to a file, where somebody reads: from the
/// mailbox to its reader and back are a few futures, and a write costs more than all of them.
const READERS_TURNS: u32 = 16;

/// Which bounds of memory hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// The usual ones.
    Bounded,
    /// The disk does not help: what is under credit is still taken.
    UnderCredit,
}

/// What memory for an append needs.
enum Need {
    Nothing,
    /// The mailbox's own bytes go to its file.
    Spill(Arc<Grown>),
    /// The bytes of small mailboxes go to a file.
    Sweep,
    /// The mailbox's bytes come back from a file.
    Load(Block),
    DropOldest {
        grown: Arc<Grown>,
        weight: u64,
    },
}

/// Why an append did not happen.
enum Obstacle {
    /// Memory has to be made first.
    Memory,
    Full(FullBecause),
    Error(AppendError),
}

impl From<AppendError> for Obstacle {
    fn from(error: AppendError) -> Self {
        Self::Error(error)
    }
}

impl From<AppendRefused> for Obstacle {
    fn from(refused: AppendRefused) -> Self {
        Self::Error(match refused {
            AppendRefused::Gap { expected, first } => AppendError::Gap { expected, first },
            _ => AppendError::Closed,
        })
    }
}

/// How much records are.
pub(super) fn tally(records: &[Record]) -> Tally {
    records.iter().fold(Tally::ZERO, |sum, record| sum.with_record(record.body.len() as u64))
}

/// Whether it has no bytes that a block could hold.
const fn is_live(record: &Record) -> bool {
    matches!(record.body, Body::Live(_))
}

/// What is new in a batch; its first `known` records are stored already.
fn new_part(records: &[Record], known: u64) -> &[Record] {
    records.get(known as usize..).unwrap_or_default()
}

impl JobMailboxes {
    /// Appends records to a child's mailbox if memory has room for them, without ever waiting or
    /// touching a disk. They are numbered from `first` on, whatever their own numbers say; those
    /// that the mailbox has already are skipped.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was stored then.
    pub fn try_append(
        &self,
        ordinal: Ordinal,
        first: Seq,
        records: Vec<Record>,
    ) -> Result<TryAppend, AppendError> {
        match self.append_now(ordinal, first, &records, Memory::Bounded) {
            Ok(appended) => Ok(TryAppend::Done(appended)),
            Err(Obstacle::Memory) => Ok(TryAppend::WouldSpill(records)),
            Err(Obstacle::Full(because)) => {
                Err(AppendError::Full { records, because, source: None })
            }
            Err(Obstacle::Error(error)) => Err(error),
        }
    }

    /// Appends records to a child's mailbox as [`try_append`](Self::try_append) does; when memory
    /// is used up it writes to the mailbox's file first, off the runtime's workers.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was stored then. [`AppendError::Full`] gives the records back.
    ///
    /// # Cancel safety
    /// Not cancel safe: whether the records were stored is unknown when the future is dropped. As
    /// the mailbox skips what it has, the same append can be made again.
    pub async fn append(
        self: &Arc<Self>,
        ordinal: Ordinal,
        first: Seq,
        records: Vec<Record>,
    ) -> Result<Appended, AppendError> {
        let mut memory = Memory::Bounded;
        let mut said = None;
        let mut turns = if self.has_readers() { READERS_TURNS } else { 0 };
        loop {
            match self.append_now(ordinal, first, &records, memory) {
                Ok(appended) => return Ok(appended),
                Err(Obstacle::Error(error)) => return Err(error),
                Err(Obstacle::Full(because)) => {
                    return Err(AppendError::Full { records, because, source: said });
                }
                Err(Obstacle::Memory) if turns > 0 => {
                    turns -= 1;
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(Obstacle::Memory) => {}
            }
            memory = match self.make_memory(ordinal, tally(&records)).await {
                Ok(true) => Memory::Bounded,
                Ok(false) => Memory::UnderCredit,
                Err(error) => {
                    said = Some(error);
                    Memory::UnderCredit
                }
            };
        }
    }

    fn append_now(
        &self,
        ordinal: Ordinal,
        first: Seq,
        records: &[Record],
        memory: Memory,
    ) -> Result<Appended, Obstacle> {
        if !is_possible(ordinal) {
            return Err(AppendError::NoSuchChild.into());
        }
        let count = records.len() as u64;
        let mut shard = self.shard(ordinal);
        if shard.removed {
            return Err(AppendError::Removed.into());
        }
        let slot = shard.slot_mut(ordinal);
        let small_quota = self.rule.quota < COMPACT_MAILBOX_BYTES as u64;
        if matches!(slot, Slot::Untouched) && !small_quota {
            *slot = Slot::Compact(Compact::open());
        }
        if let Slot::Compact(compact) = slot {
            let known = known_prefix(compact.next(), compact.is_closed(), first, count)?;
            let new = new_part(records, known);
            let amount = tally(new);
            if !new.is_empty() && compact.is_on_disk() {
                return Err(Obstacle::Memory);
            }
            if compact.fits(amount) && !new.iter().any(is_live) {
                self.check_node_memory(amount, memory)?;
                return Ok(self.append_compact(compact, ordinal, new));
            }
        }
        let grown = self.grow(slot, ordinal).map_err(|_| AppendError::Removed)?;
        drop(shard);
        self.append_grown(&grown, first, records, memory)
    }

    fn append_compact(&self, compact: &mut Compact, ordinal: Ordinal, new: &[Record]) -> Appended {
        if !new.is_empty() {
            let (before, unread) = (compact.memory(), compact.unread());
            compact.append(new);
            self.memory_is(before, compact.memory());
            self.arrived(ordinal, compact.unread().minus(unread));
            self.announce();
        }
        let room = self.rule.quota.saturating_sub(compact.unread().weight());
        Appended { next: compact.next(), room }
    }

    fn append_grown(
        &self,
        grown: &Grown,
        first: Seq,
        records: &[Record],
        memory: Memory,
    ) -> Result<Appended, Obstacle> {
        let mut state = grown.lock();
        if state.removed {
            return Err(AppendError::Removed.into());
        }
        if let Some(returning) = &mut state.returning {
            self.append_behind(returning, first, records)?;
            return Ok(state.appended());
        }
        let new = new_part(records, state.ledger.known_prefix(first, records.len() as u64)?);
        let amount = tally(new);
        if !new.is_empty() {
            let credit = CHILD_CREDIT_BYTES as u64;
            match state.ledger.admission(amount) {
                Admission::Store => {}
                Admission::Pause => return Err(Obstacle::Full(FullBecause::Quota)),
                Admission::Fail => {
                    state.ledger.cut(amount);
                    self.note_skipped(grown.ordinal, &state, amount);
                    return Err(AppendError::OverQuota { cut: amount }.into());
                }
                Admission::Skip => return Ok(self.skip((grown.ordinal, &mut state), amount)),
                Admission::MakeRoom { .. } if memory == Memory::Bounded => {
                    return Err(Obstacle::Memory);
                }
                Admission::MakeRoom { weight } if weight <= credit.max(amount.weight()) => {}
                // All that is older is on offer: of what is not, this is the oldest.
                Admission::MakeRoom { .. } => {
                    return Ok(self.skip((grown.ordinal, &mut state), amount));
                }
            }
            let within = self.pool.bounds.mailbox_memory;
            let wanted = state.memory() + amount.weight();
            if state.memory() > 0 && wanted > within {
                if memory == Memory::Bounded {
                    return Err(Obstacle::Memory);
                }
                if wanted > within.saturating_add(credit) {
                    let because = state.trouble.unwrap_or(FullBecause::DiskFailed);
                    return Err(Obstacle::Full(because));
                }
            }
            self.check_node_memory(amount, memory)?;
            state.store(new.iter());
            state.settle_memory(self);
            self.arrived(grown.ordinal, amount);
            match &self.backed {
                Some(backed) if new.iter().any(is_live) => backed.stays_here(grown.ordinal),
                Some(backed) => backed.grew(grown.ordinal),
                None => {}
            }
            self.announce();
        }
        Ok(state.appended())
    }

    /// Of a mailbox that is not all back.
    fn append_behind(
        &self,
        returning: &mut Returning,
        first: Seq,
        records: &[Record],
    ) -> Result<(), Obstacle> {
        let Returning { next, is_known, because, closes, behind, weight } = returning;
        if !*is_known {
            return Err(Obstacle::Full(*because));
        }
        let new = new_part(records, known_prefix(*next, *closes, first, records.len() as u64)?);
        let amount = tally(new);
        if *weight + amount.weight() > CHILD_CREDIT_BYTES as u64 || new.iter().any(is_live) {
            return Err(Obstacle::Full(*because));
        }
        self.check_node_memory(amount, Memory::UnderCredit)?;
        for record in new {
            behind.push(Record { seq: *next, ..record.clone() });
            *next = next.after(1);
        }
        *weight += amount.weight();
        self.memory_is(0, amount.weight());
        Ok(())
    }

    /// New records are dropped and counted, and their producer goes on.
    fn skip(&self, (ordinal, state): (Ordinal, &mut State), amount: Tally) -> Appended {
        state.ledger.skip(amount);
        self.note_skipped(ordinal, state, amount);
        state.appended()
    }

    /// New records were dropped; their mailbox is locked. What is on the disk is past them, too,
    /// once that is noted there.
    fn note_skipped(&self, ordinal: Ordinal, state: &State, amount: Tally) {
        self.note_dropped(amount);
        if let Some(backed) = &self.backed {
            let (Tally { records, bytes }, cut) = (amount, state.ledger.is_cut());
            backed.skipped(ordinal, Dropped { records, bytes, cut });
            backed.grew(ordinal);
        }
        self.announce();
    }

    fn check_node_memory(&self, new: Tally, memory: Memory) -> Result<(), Obstacle> {
        let (wanted, within) = (self.pool.memory_bytes() + new.weight(), self.node_memory());
        match memory {
            Memory::Bounded if wanted > within => Err(Obstacle::Memory),
            Memory::UnderCredit if wanted > within.saturating_add(LINK_CREDIT_BYTES as u64) => {
                Err(Obstacle::Full(FullBecause::DiskFull))
            }
            _ => Ok(()),
        }
    }

    fn node_memory(&self) -> u64 {
        self.pool.bounds.node_memory
    }

    /// Makes memory for `new` records. False when nothing could be done, not even with the disk.
    async fn make_memory(
        self: &Arc<Self>,
        ordinal: Ordinal,
        new: Tally,
    ) -> Result<bool, SpoolError> {
        match self.need(ordinal, new) {
            Need::Nothing => Ok(true),
            Need::Sweep => self.sweep_pool(new).await,
            Need::Spill(grown) => self.spill(&grown).await,
            Need::DropOldest { grown, weight } => self.drop_oldest(&grown, weight).await,
            Need::Load(block) => {
                // First room for it, else it would be moved out again at once.
                if self.is_over_memory(new.plus(Tally { records: 0, bytes: block.len() as u64 })) {
                    self.sweep_pool(new).await?;
                }
                match self.load_compact(ordinal, block).await {
                    Err(ReadError::Disk(error)) => Err(error),
                    loaded => Ok(loaded.is_ok()),
                }
            }
        }
    }

    pub(super) fn is_over_memory(&self, new: Tally) -> bool {
        self.pool.memory_bytes() + new.weight() > self.node_memory()
    }

    fn need(&self, ordinal: Ordinal, new: Tally) -> Need {
        let node_need = if self.is_over_memory(new) { Need::Sweep } else { Need::Nothing };
        let mut shard = self.shard(ordinal);
        let grown = match shard.slot_mut(ordinal) {
            Slot::Compact(compact) if compact.is_on_disk() => {
                return Need::Load(compact.block().clone());
            }
            Slot::Untouched | Slot::Compact(_) => return node_need,
            Slot::Grown(grown) => Arc::clone(grown),
        };
        drop(shard);
        let state = grown.lock();
        if let Admission::MakeRoom { weight } = state.ledger.admission(new) {
            drop(state);
            return Need::DropOldest { grown, weight };
        }
        let (memory, within) = (state.memory(), self.pool.bounds.mailbox_memory);
        drop(state);
        let worth_a_file = matches!(node_need, Need::Sweep) && memory > within / 16;
        if worth_a_file || (memory > 0 && memory + new.weight() > within) {
            return Need::Spill(grown);
        }
        node_need
    }
}
