//! Records on offer: taking with acknowledgement.

use std::pin::pin;
use std::sync::Arc;

use sortie_engine::mailbox::{OfferId, OfferRefused};
use sortie_model::record::StreamSet;
use sortie_model::{Ordinal, Record};
use sortie_store::Hole;

use super::compact::{Block, ONLY_OFFER};
use super::grown::Grown;
use super::merge::load_and_merge;
use super::{JobMailboxes, Most, ReadError, Slot, blocking, lock};

/// Records on offer to one reader.
///
/// Dropping it without [`JobMailboxes::acknowledge`] withdraws it: the records are offered again,
/// before all others and under the same numbers.
#[derive(Debug)]
pub struct Offer {
    /// The records, in the order of their numbers. They can be moved out with `std::mem::take`.
    pub records: Vec<Record>,
    /// Whether more of these streams could be offered when this was.
    pub more: bool,
    job: Arc<JobMailboxes>,
    ordinal: Ordinal,
    id: OfferId,
    settled: bool,
}

impl Offer {
    /// Whose records they are.
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// The offer's number among those of its mailbox.
    pub const fn id(&self) -> OfferId {
        self.id
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.settled {
            self.job.withdraw(self.ordinal, self.id);
        }
    }
}

/// What a look at a slot came to.
enum Look {
    Nothing,
    Compact(Vec<Record>),
    Grown(Arc<Grown>),
    OnDisk(Block),
}

impl JobMailboxes {
    /// Offers a prefix of what is unread in each of these streams and not on offer; none when there
    /// is nothing. Waits for a place while [`OFFERS_PER_MAILBOX`] offers of the child are in
    /// flight, so who holds so many itself waits for itself.
    ///
    /// [`OFFERS_PER_MAILBOX`]: sortie_model::limits::OFFERS_PER_MAILBOX
    ///
    /// # Errors
    /// [`ReadError`]; nothing is on offer then.
    ///
    /// # Cancel safety
    /// Dropping the future offers nothing.
    pub async fn offer(
        self: &Arc<Self>,
        ordinal: Ordinal,
        streams: StreamSet,
        most: Most,
    ) -> Result<Option<Offer>, ReadError> {
        loop {
            match self.look(ordinal, streams, most)? {
                Look::Nothing => return Ok(None),
                Look::Compact(records) => {
                    return Ok(Some(self.made(ordinal, ONLY_OFFER, (records, false))));
                }
                Look::Grown(grown) => {
                    let offered = self.offer_grown(&grown, streams, most).await?;
                    return Ok(offered.map(|(id, made)| self.made(ordinal, id, made)));
                }
                Look::OnDisk(block) => self.load_compact(ordinal, block).await?,
            }
        }
    }

    /// How many records of these streams a child has in readers' hands.
    pub fn on_offer(&self, ordinal: Ordinal, streams: StreamSet) -> u64 {
        let shard = self.shard(ordinal);
        match shard.slot(ordinal) {
            None | Some(Slot::Untouched) => 0,
            Some(Slot::Compact(compact)) => compact.on_offer(streams),
            Some(Slot::Grown(grown)) => {
                let grown = Arc::clone(grown);
                drop(shard);
                grown.lock().ledger.on_offer(streams)
            }
        }
    }

    fn made(self: &Arc<Self>, ordinal: Ordinal, id: OfferId, made: (Vec<Record>, bool)) -> Offer {
        let (records, more) = made;
        Offer { records, more, job: Arc::clone(self), ordinal, id, settled: false }
    }

    fn look(&self, ordinal: Ordinal, streams: StreamSet, most: Most) -> Result<Look, ReadError> {
        let mut shard = self.shard(ordinal);
        if shard.removed {
            return Err(ReadError::Removed);
        }
        if shard.slot(ordinal).is_none() {
            return Ok(Look::Nothing);
        }
        let slot = shard.slot_mut(ordinal);
        let compact = match slot {
            Slot::Untouched => return Ok(Look::Nothing),
            Slot::Grown(grown) => return Ok(Look::Grown(Arc::clone(grown))),
            Slot::Compact(compact) => compact,
        };
        if !compact.has_available(streams) {
            return Ok(Look::Nothing);
        }
        if compact.is_on_disk() {
            return Ok(Look::OnDisk(compact.block().clone()));
        }
        if !compact.is_lent() && compact.is_within(streams, most.records, most.bytes) {
            let records = compact.records()?;
            compact.lend();
            if let Some(backed) = &self.backed {
                let pieces = compact.lent_pieces(&compact.placed_records()?);
                backed.offered(ordinal, ONLY_OFFER, (&pieces, &records));
            }
            return Ok(Look::Compact(records));
        }
        Ok(Look::Grown(self.grow(slot, ordinal)?))
    }

    async fn offer_grown(
        &self,
        grown: &Grown,
        streams: StreamSet,
        most: Most,
    ) -> Result<Option<(OfferId, (Vec<Record>, bool))>, ReadError> {
        let mut least = 0;
        loop {
            let mut eased = pin!(grown.eased.notified());
            eased.as_mut().enable();
            let one_at_a_time = grown.offering.lock().await;
            let windows = {
                let mut state = grown.lock();
                if state.removed {
                    return Err(ReadError::Removed);
                }
                let stretches = state.available(streams);
                if stretches.is_empty() {
                    return Ok(None);
                }
                let bytes = most.window(&stretches).max(least);
                state.ledger.has_place().then(|| state.windows(stretches, bytes))
            };
            let Some(windows) = windows else {
                drop(one_at_a_time);
                eased.await;
                continue;
            };
            let merged = load_and_merge(windows, most).await?;
            if let Some(needs) = merged.needs {
                least = needs;
                continue;
            }
            let mut state = grown.lock();
            match state.ledger.offer(&merged.taken) {
                Ok(id) => {
                    if let Some(backed) = &self.backed {
                        backed.offered(grown.ordinal, id, (&merged.taken, &merged.records));
                    }
                    let more = state.ledger.has_available(streams);
                    return Ok(Some((id, (merged.records, more))));
                }
                // An earlier offer was withdrawn, or the oldest were dropped: look again.
                Err(OfferRefused::NotAPrefix | OfferRefused::NoPlace) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// The reader has the records of this offer: they are freed, in memory and on disk.
    pub fn acknowledge(&self, mut offer: Offer) {
        offer.settled = true;
        let holes = self.free_offer(offer.ordinal, offer.id);
        self.pool.reclaim(holes);
    }

    fn free_offer(&self, ordinal: Ordinal, id: OfferId) -> Vec<Hole> {
        let mut shard = self.shard(ordinal);
        let grown = match shard.slots.get_mut((ordinal.0 / super::SHARDS) as usize) {
            None | Some(Slot::Untouched) => return Vec::new(),
            Some(Slot::Compact(compact)) => {
                let before = compact.memory();
                let freed = compact.free_lent();
                self.memory_is(before, compact.memory());
                let is_over = compact.unread().records == 0;
                self.left(ordinal, freed, !is_over);
                if let Some(backed) = &self.backed {
                    let over = is_over.then(|| compact.summary().next);
                    backed.acknowledged(ordinal, id, over);
                }
                return Vec::new();
            }
            Some(Slot::Grown(grown)) => Arc::clone(grown),
        };
        drop(shard);
        let mut state = grown.lock();
        let before = state.ledger.unread();
        let Some(freed) = state.ledger.acknowledge(id) else { return Vec::new() };
        let holes = state.free(&freed);
        self.settle_freed(&grown, &mut state, before);
        if let Some(backed) = &self.backed {
            let over = (!state.ledger.has_unread()).then(|| state.ledger.next());
            backed.acknowledged(ordinal, id, over);
        }
        let is_over = state.is_over();
        drop(state);
        if is_over {
            self.shrink(&grown);
        }
        grown.eased.notify_waiters();
        self.pool.freed.notify_waiters();
        holes
    }

    /// Makes the counts right after something was freed. The mailbox had `before` unread.
    pub(super) fn settle_freed(
        &self,
        grown: &Grown,
        state: &mut super::grown::State,
        before: sortie_engine::mailbox::Tally,
    ) {
        state.settle_memory(self);
        if state.memory() <= self.pool.bounds.mailbox_memory / 2 {
            state.trouble = None;
        }
        let freed = before.minus(state.ledger.unread());
        self.left(grown.ordinal, freed, state.ledger.has_unread());
    }

    fn withdraw(&self, ordinal: Ordinal, id: OfferId) {
        let mut shard = self.shard(ordinal);
        match shard.slots.get_mut((ordinal.0 / super::SHARDS) as usize) {
            None | Some(Slot::Untouched) => return,
            Some(Slot::Compact(compact)) => {
                compact.take_back();
                if let Some(backed) = &self.backed {
                    backed.withdrawn(ordinal, id);
                }
                lock(&self.index).arrived(ordinal);
            }
            Some(Slot::Grown(grown)) => {
                let grown = Arc::clone(grown);
                drop(shard);
                let mut state = grown.lock();
                if !state.ledger.withdraw(id) {
                    return;
                }
                lock(&self.index).arrived(ordinal);
                if let Some(backed) = &self.backed {
                    backed.withdrawn(ordinal, id);
                }
                drop(state);
                grown.eased.notify_waiters();
            }
        }
        self.announce();
    }

    /// Makes a compact mailbox in memory a grown one; its shard is locked.
    pub(super) fn grow(&self, slot: &mut Slot, ordinal: Ordinal) -> Result<Arc<Grown>, ReadError> {
        let grown = match slot {
            Slot::Grown(grown) => return Ok(Arc::clone(grown)),
            Slot::Untouched => Grown::new(ordinal, self.rule),
            Slot::Compact(compact) => {
                let grown = Grown::of(compact, ordinal, self.rule)?;
                self.memory_is(compact.memory(), 0);
                grown.lock().settle_memory(self);
                grown
            }
        };
        let grown = Arc::new(grown);
        *slot = Slot::Grown(Arc::clone(&grown));
        Ok(grown)
    }

    /// Brings a compact mailbox back into memory.
    pub(super) async fn load_compact(
        &self,
        ordinal: Ordinal,
        on_disk: Block,
    ) -> Result<(), ReadError> {
        let Block::File { file, at, bytes } = on_disk else { return Ok(()) };
        let source = Arc::clone(&file);
        let read = blocking(move || source.read(at, bytes as usize)).await;
        let read = read.ok_or(ReadError::Removed)??;
        let mut shard = self.shard(ordinal);
        if shard.removed {
            return Err(ReadError::Removed);
        }
        if let Slot::Compact(compact) = shard.slot_mut(ordinal)
            && matches!(compact.block(), Block::File { file: other, at: there, .. }
                if Arc::ptr_eq(other, &file) && *there == at)
        {
            self.memory_is(0, read.len() as u64);
            compact.moved_to(Block::Memory(read));
            drop(shard);
            self.pool.reclaim(vec![Hole::new(file, at, u64::from(bytes))]);
        }
        Ok(())
    }
}
