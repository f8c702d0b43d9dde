//! A mailbox as it was before its daemon ended.

use std::sync::Arc;

use bytes::Bytes;
use sortie_engine::mailbox::Tally;
use sortie_model::limits::{BATCH_RECORDS, KIB};
use sortie_model::{ChildKey, Ordinal, Record, Seq, Stream};
use sortie_store::journal::Cursor;
use sortie_store::segment::{Batch, OutputLog, OutputReader, ReadBounds, SegmentError};
use sortie_store::{RecoverError, Store};

use super::super::append::tally;
use super::super::compact::Compact;
use super::super::grown::Grown;
use super::super::{JobMailboxes, Position, Slot, blocking, is_possible};
use super::inline::Inline;
use super::returning::{Back, Rest};
use super::table::{Child, Place};
use super::{Backed, RestoreError};

/// What is read of a child's files at once.
const READ: ReadBounds = ReadBounds { records: BATCH_RECORDS, bytes: 256 * KIB };

/// A child's files, as they are read.
struct Files {
    reader: OutputReader,
    /// What says that something is missing.
    damage: Option<SegmentError>,
    over: bool,
}

impl JobMailboxes {
    /// Makes the mailbox of a child what it was, at the start of a node and before anybody reads or
    /// appends: what its files or the journal's block have, without what was taken. `closed` says
    /// that the child has ended. It takes memory for some 100 KiB, however much is unread; the rest
    /// goes to the mailboxes' own files, as with an append. What these have no room for comes back
    /// behind this call, as room is made by who reads or by the disk: until then the mailbox takes
    /// little else, to go behind that, and does not close.
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
                let rest = Rest { cursor: cursor.clone(), closed, block };
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
            Back::Part(next) => self.returns(backed, ordinal, next, rest),
        }
    }

    /// Puts what a child's files have from a number on, and then the journal's block, into its
    /// mailbox. Where it has no room for all of that it stops, and can be called again with the
    /// number of the mailbox's next record.
    pub(super) async fn bring_back(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
        rest: &Rest,
        from: Seq,
    ) -> Result<Back, RestoreError> {
        let (store, child) = (Arc::clone(&backed.backing.store), backed.child(ordinal));
        let (known, closed, cursor) = (rest.cursor.clone(), rest.closed, &rest.cursor);
        let opened = blocking(move || open(&store, (child, from), &known, closed)).await;
        let (log, mut files) = opened.ok_or(RestoreError::Removed)??;
        backed.table().child(ordinal).damaged = files.damage.is_some() && log.is_none();
        let block = rest.block.clone();
        let in_block = block.as_ref().map_or(Seq(0), |block| block.next);
        let in_files = log.as_ref().map_or(Seq(0), OutputLog::next);
        let next = in_files.max(cursor.stored).max(in_block);
        while !files.over {
            let read = blocking(move || {
                let records = files.read();
                (files, records)
            });
            let (read, mut records) = read.await.ok_or(RestoreError::Removed)?;
            files = read;
            records.retain(|record| record.seq >= from);
            match self.restore_records(ordinal, records, cursor).await {
                Err(RestoreError::NoRoom(_)) => return Ok(Back::Part(next)),
                restored => restored?,
            }
        }
        let told = log.as_ref().map_or(files.reader.position(), OutputLog::next);
        // Where the files end: what only the block has follows them there.
        let end = self.end_of(ordinal);
        let first = if log.as_ref().is_some_and(OutputLog::is_empty) { Seq(0) } else { told };
        let behind = match self.restore_block(ordinal, block, (first.max(from), cursor)).await {
            Err(RestoreError::NoRoom(_)) => return Ok(Back::Part(next)),
            restored => restored?,
        };
        let next = told.max(cursor.stored).max(behind);
        let mut table = backed.table();
        let child = table.child(ordinal);
        // Another start may find what this one does not.
        child.frozen = files.damage.as_ref().is_some_and(SegmentError::is_retryable);
        child.stored = child.stored.max(next);
        let raised = child.stored > cursor.stored;
        if log.as_ref().is_none_or(|log| !log.is_empty()) {
            child.place = Place::Files(end);
            child.sealed = log.as_ref().filter(|_| closed).map(|log| (next, log.bytes()));
        }
        if raised {
            table.moved(ordinal);
            backed.moved.notify_waiters();
        }
        let place = Arc::clone(&self.pool.open_outputs).try_acquire_owned().ok();
        table.logs.extend(log.filter(|_| !closed).zip(place).map(|open| (ordinal, open)));
        drop(table);
        // Behind that: what is appended from here on goes to the files that are noted there.
        self.all_back(backed, ordinal, next);
        files.damage.map_or(Ok(Back::Whole), |damage| Err(damage.into()))
    }

    /// Puts what only the journal's block has into a mailbox that has files: what comes from that
    /// number on. Says where the block ends.
    async fn restore_block(
        self: &Arc<Self>,
        ordinal: Ordinal,
        block: Option<Inline>,
        (from, cursor): (Seq, &Cursor),
    ) -> Result<Seq, RestoreError> {
        let Some(Inline { next, with_errors, mut records }) = block else { return Ok(Seq(0)) };
        records.retain(|record| record.seq >= from);
        self.restore_records(ordinal, records, cursor).await?;
        if with_errors {
            self.note_errors(ordinal);
        }
        Ok(next)
    }

    /// Puts records of a mailbox's files into it, but those that were taken.
    async fn restore_records(
        self: &Arc<Self>,
        ordinal: Ordinal,
        mut records: Vec<Record>,
        cursor: &Cursor,
    ) -> Result<(), RestoreError> {
        records.retain(|record| !cursor.has_taken(record.stream, record.seq));
        if records.is_empty() {
            return Ok(());
        }
        let grown = {
            let mut shard = self.shard(ordinal);
            if shard.removed {
                return Err(RestoreError::Removed);
            }
            self.grow(shard.slot_mut(ordinal), ordinal).map_err(|_| RestoreError::Removed)?
        };
        let new = tally(&records);
        while !self.store_restored(&grown, &records, new)? {
            let spills = grown.lock().memory() > 0;
            let made = if spills { self.spill(&grown).await } else { self.sweep_pool(new).await };
            match made {
                Ok(true) => {}
                // Nothing can be moved: what is read at once is taken beyond the bound.
                Ok(false) => {
                    self.put_restored(&grown, &records, new);
                    return Ok(());
                }
                Err(error) => return Err(RestoreError::NoRoom(error)),
            }
        }
        Ok(())
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

/// Opens a child's files to go on behind them, unless they are damaged, and to read them.
fn open(
    store: &Store,
    (child, from): (ChildKey, Seq),
    cursor: &Cursor,
    closed: bool,
) -> Result<(Option<OutputLog>, Files), RestoreError> {
    let reader = store.read(child, from);
    let (log, damage) = match store.follow(child, cursor) {
        Ok(mut log) => {
            if closed {
                log.seal()?;
            }
            (Some(log), None)
        }
        Err(RecoverError::Output(damage)) => (None, Some(damage)),
        Err(RecoverError::Journal(_)) | Err(_) => return Err(RestoreError::Removed),
    };
    let over = log.as_ref().is_some_and(OutputLog::is_empty);
    Ok((log, Files { reader, damage, over }))
}

impl Files {
    /// The next records that can be read.
    fn read(&mut self) -> Vec<Record> {
        let error = match self.reader.read(READ) {
            Ok(Batch::Records(records)) => return records,
            Ok(Batch::Waiting) => None,
            Err(error) => Some(error),
        };
        let went_wrong = error.is_some() || self.damage.is_some();
        self.damage = self.damage.take().or(error);
        // Behind what is damaged there may be files that are not.
        self.over = !(went_wrong && self.reader.pass_damage().is_ok_and(|is_more| is_more));
        Vec::new()
    }
}
