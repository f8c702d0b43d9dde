//! A mailbox as it was before its daemon ended.

use std::sync::Arc;

use bytes::Bytes;
use sortie_engine::mailbox::Tally;
use sortie_model::{Ordinal, Record, Seq, Stream};
use sortie_store::journal::Cursor;

use super::super::append::tally;
use super::super::compact::Compact;
use super::super::grown::Grown;
use super::super::{JobMailboxes, Position, Slot, blocking, is_possible};
use super::files::Files;
use super::inline::Inline;
use super::returning::{Back, Lack, Part, Rest};
use super::table::{Child, Place};
use super::{Backed, RestoreError};

impl JobMailboxes {
    /// Makes the mailbox of a child what it was, at the start of a node and before anybody reads or
    /// appends: what its files or the journal's block have, without what was taken. `closed` says
    /// that the child has ended. It takes memory for some 100 KiB, however much is unread; the rest
    /// goes to the mailboxes' own files, as with an append. What these have no room for, and what
    /// cannot be read now and may be later, comes back behind this call, as room is made by who
    /// reads or by the disk: until then the mailbox takes little else, to go behind that, and does
    /// not close.
    ///
    /// # Errors
    /// [`RestoreError`]; what could be read is in the mailbox all the same.
    ///
    /// # Cancel safety
    /// Not cancel safe: the mailbox has a part of what it had.
    pub async fn restore(
        self: &Arc<Self>,
        ordinal: Ordinal,
        cursor: Cursor,
        inline: Option<Bytes>,
        closed: bool,
    ) -> Result<(), RestoreError> {
        let Some(backed) = &self.backed else { return Ok(()) };
        if !is_possible(ordinal) {
            return Err(RestoreError::NoSuchChild);
        }
        let has_files = backed.has_files(ordinal).await?;
        if inline.is_none() && cursor == Cursor::default() && !has_files {
            if closed {
                self.close(ordinal);
            }
            return Ok(());
        }
        backed.table().children.insert(ordinal, Child::restored(cursor.clone()));
        let inline = inline.map(Inline::decode).transpose();
        let restored = match inline {
            Ok(Some(inline)) if inline.next >= cursor.stored && !has_files => {
                self.restore_inline(backed, ordinal, inline, &cursor).await
            }
            Ok(_) if cursor.stored <= cursor.taken.highest() && !has_files => {
                self.skip_to(ordinal, cursor.stored);
                Ok(())
            }
            // Files are of a time behind the block, and may have come to an end before they had
            // all of it; unless the journal says that they did.
            Ok(inline) => {
                let block = inline.filter(|inline| inline.next >= cursor.stored);
                let rest = Rest::new(cursor.clone(), closed, block);
                self.restore_files(backed, ordinal, rest).await
            }
            Err(_) => {
                self.skip_to(ordinal, cursor.stored);
                Err(RestoreError::Inline { ordinal })
            }
        };
        let taken_apart = cursor.apart.iter().any(|apart| apart.stream == Stream::Error);
        if taken_apart || cursor.taken.of(Stream::Error) > Seq(0) {
            self.note_errors(ordinal);
        }
        let summary = self.summary(ordinal);
        if restored.is_ok() && summary.unread.records == 0 {
            backed.all_taken(ordinal, summary.next);
        }
        self.restore_dropped(ordinal, cursor.dropped)?;
        if closed {
            self.close(ordinal);
            backed.forget_plain(ordinal);
        }
        backed.forget_settled(self, ordinal);
        restored
    }

    async fn restore_inline(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
        inline: Inline,
        cursor: &Cursor,
    ) -> Result<(), RestoreError> {
        let Inline { next, with_errors, mut records } = inline;
        records.retain(|record| !cursor.has_taken(record.stream, record.seq));
        let compact = Compact::restored(&records, next, with_errors);
        self.put_inline(backed, ordinal, compact)?;
        self.announce();
        if self.is_over_memory(Tally::ZERO) {
            // It is little, and stays in memory where there is no room.
            let _ = self.sweep_pool(Tally::ZERO).await;
        }
        Ok(())
    }

    fn put_inline(
        &self,
        backed: &Backed,
        ordinal: Ordinal,
        compact: Box<Compact>,
    ) -> Result<(), RestoreError> {
        let mut shard = self.shard(ordinal);
        if shard.removed {
            return Err(RestoreError::Removed);
        }
        let (memory, unread) = (compact.memory(), compact.unread());
        *shard.slot_mut(ordinal) = Slot::Compact(compact);
        self.memory_is(0, memory);
        if unread.records > 0 {
            self.arrived(ordinal, unread);
        }
        backed.table().child(ordinal).place = Place::Inline;
        Ok(())
    }

    /// Puts what a child's files have into its mailbox, as far as there is room.
    async fn restore_files(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
        rest: Rest,
    ) -> Result<(), RestoreError> {
        match self.bring_back(backed, ordinal, &rest, Seq(0)).await? {
            Back::Whole => Ok(()),
            Back::Part(part) => self.returns(backed, ordinal, part, rest),
        }
    }

    /// Puts what a child's files have from a number on, and then the journal's block, into its
    /// mailbox. Where it has no room for all of that, or not all can be read now, it stops, and can
    /// be called again with the number of the mailbox's next record.
    pub(super) async fn bring_back(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
        rest: &Rest,
        from: Seq,
    ) -> Result<Back, RestoreError> {
        let (store, child) = (Arc::clone(&backed.backing.store), backed.child(ordinal));
        let (known, cursor, waits) = (rest.cursor.clone(), &rest.cursor, !rest.gives_up);
        let opened = blocking(move || Files::open(&store, (child, from), &known)).await;
        let mut files = opened.ok_or(RestoreError::Removed)??;
        let in_block = rest.block.as_ref().map_or(Seq(0), |block| block.next);
        let next = files.next().max(cursor.stored).max(in_block);
        let is_known = files.log.is_some() || files.damage.is_some();
        let mut left_out = rest.left_out;
        let part = |lack, left_out| Ok(Back::Part(Part { next, is_known, left_out, lack }));
        loop {
            if let Some(error) = files.passing.take_if(|_| waits) {
                return part(Lack::Passing(error), left_out);
            }
            left_out |= files.passing.is_some();
            if files.over {
                break;
            }
            let read = blocking(move || {
                let records = files.read();
                (files, records)
            });
            let (read, mut records) = read.await.ok_or(RestoreError::Removed)?;
            files = read;
            records.retain(|record| record.seq >= from);
            if let Some(lack) = self.restore_records(ordinal, records, cursor).await? {
                return part(lack, left_out);
            }
        }
        if rest.closed {
            let sealed = blocking(move || {
                files.seal();
                files
            });
            files = sealed.await.ok_or(RestoreError::Removed)?;
        }
        if let Some(error) = files.unsealed.take_if(|error| waits && error.is_retryable()) {
            return part(Lack::Passing(error), left_out);
        }
        // Where the files end: what only the block has follows them there.
        let (told, end) = (files.told(), self.end_of(ordinal));
        if let Some(Inline { with_errors, mut records, .. }) = rest.block.clone() {
            let first = if files.are_empty() { Seq(0) } else { told };
            records.retain(|record| record.seq >= first.max(from));
            if let Some(lack) = self.restore_records(ordinal, records, cursor).await? {
                return part(lack, left_out);
            }
            if with_errors {
                self.note_errors(ordinal);
            }
        }
        let next = told.max(cursor.stored).max(in_block);
        self.brought_back(backed, ordinal, (rest, files), (end, next))
    }

    /// All is in its mailbox that could be read. What is appended from here on goes to the files
    /// that are noted here.
    fn brought_back(
        &self,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
        (rest, files): (&Rest, Files),
        (end, next): (Position, Seq),
    ) -> Result<Back, RestoreError> {
        let Files { log, damage, passing, unsealed, .. } = files;
        let (closed, is_sealed) = (rest.closed, rest.closed && unsealed.is_none());
        let mut table = backed.table();
        let child = table.child(ordinal);
        child.damaged = log.is_none() && damage.is_some();
        // Another start may find what this one does not; nobody touches it.
        child.lost |= log.is_none() && damage.is_none();
        child.frozen = passing.is_some() || rest.left_out;
        child.stored = child.stored.max(next);
        let raised = child.stored > rest.cursor.stored;
        if log.as_ref().is_none_or(|log| !log.is_empty()) {
            child.place = Place::Files(end);
            child.sealed = log.as_ref().filter(|_| is_sealed).map(|log| (next, log.bytes()));
        }
        if raised {
            table.moved(ordinal);
            backed.moved.notify_waiters();
        }
        let place = Arc::clone(&self.pool.open_outputs).try_acquire_owned().ok();
        table.logs.extend(log.filter(|_| !closed).zip(place).map(|open| (ordinal, open)));
        drop(table);
        self.all_back(backed, ordinal, next);
        damage.or(passing).or(unsealed).map_or(Ok(Back::Whole), |error| Err(error.into()))
    }

    /// Puts records of a mailbox's files into it, but those that were taken. Says what it has no
    /// room for.
    async fn restore_records(
        self: &Arc<Self>,
        ordinal: Ordinal,
        mut records: Vec<Record>,
        cursor: &Cursor,
    ) -> Result<Option<Lack>, RestoreError> {
        records.retain(|record| !cursor.has_taken(record.stream, record.seq));
        if records.is_empty() {
            return Ok(None);
        }
        let grown = self.grown_anyhow(ordinal)?;
        let new = tally(&records);
        while !self.store_restored(&grown, &records, new)? {
            let spills = grown.lock().memory() > 0;
            let made = if spills { self.spill(&grown).await } else { self.sweep_pool(new).await };
            match made {
                Ok(true) => {}
                // Nothing can be moved: what is read at once is taken beyond the bound.
                Ok(false) => {
                    self.put_restored(&grown, &records, new);
                    break;
                }
                Err(_) => return Ok(Some(Lack::Room(new))),
            }
        }
        Ok(None)
    }

    /// A child's mailbox, which grows for that.
    pub(super) fn grown_anyhow(&self, ordinal: Ordinal) -> Result<Arc<Grown>, RestoreError> {
        let mut shard = self.shard(ordinal);
        if shard.removed {
            return Err(RestoreError::Removed);
        }
        self.grow(shard.slot_mut(ordinal), ordinal).map_err(|_| RestoreError::Removed)
    }

    /// False when memory is used up.
    fn store_restored(
        &self,
        grown: &Grown,
        records: &[Record],
        new: Tally,
    ) -> Result<bool, RestoreError> {
        let state = grown.lock();
        if state.removed {
            return Err(RestoreError::Removed);
        }
        let (memory, within) = (state.memory(), self.pool.bounds.mailbox_memory);
        drop(state);
        let full = memory > 0 && memory + new.weight() > within;
        if full || self.is_over_memory(new) {
            return Ok(false);
        }
        self.put_restored(grown, records, new);
        Ok(true)
    }

    fn put_restored(&self, grown: &Grown, records: &[Record], new: Tally) {
        let mut state = grown.lock();
        state.store_numbered(records.iter());
        state.settle_memory(self);
        self.arrived(grown.ordinal, new);
        drop(state);
        self.announce();
    }

    /// The next record of a mailbox has at least this number; those before were taken.
    pub(super) fn skip_to(&self, ordinal: Ordinal, next: Seq) {
        let mut shard = self.shard(ordinal);
        if shard.removed || next == Seq(0) {
            return;
        }
        match shard.slot_mut(ordinal) {
            Slot::Grown(grown) => grown.lock().skip_to(next),
            Slot::Compact(compact) => compact.skip_to(next),
            slot @ Slot::Untouched => *slot = Slot::Compact(Compact::restored(&[], next, false)),
        }
    }

    pub(super) fn note_errors(&self, ordinal: Ordinal) {
        let mut shard = self.shard(ordinal);
        match shard.slot_mut(ordinal) {
            Slot::Grown(grown) => grown.lock().ledger.note_errors(),
            Slot::Compact(compact) => compact.note_errors(),
            slot @ Slot::Untouched => *slot = Slot::Compact(Compact::restored(&[], Seq(0), true)),
        }
    }

    /// Behind all that a mailbox has.
    fn end_of(&self, ordinal: Ordinal) -> Position {
        let mut end = Position::start();
        if let Some(grown) = self.grown(ordinal) {
            let state = grown.lock();
            for stream in Stream::ALL {
                *end.places.of_mut(stream) = state.ledger.end(stream);
            }
        }
        end
    }
}

impl Backed {
    /// A child that has ended and of which nothing is known but what its mailbox has needs no
    /// memory here.
    pub(super) fn forget_plain(&self, ordinal: Ordinal) {
        let mut table = self.table();
        if table.children.get(&ordinal).is_some_and(Child::is_plain) {
            table.children.remove(&ordinal);
        }
    }

    /// What was taken before the node's start is not asked for any more once the mailbox is past
    /// it.
    pub(super) fn forget_before(&self, ordinal: Ordinal, next: Seq) {
        if let Some(child) = self.table().children.get_mut(&ordinal)
            && child.before.as_deref().is_some_and(|before| before.highest_taken() <= next)
        {
            child.before = None;
        }
    }
}
