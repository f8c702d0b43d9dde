//! A child's end, and cursors.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sortie_engine::mailbox::Tally;
use sortie_model::limits::{COMPACT_MAILBOX_BYTES, COMPACT_MAILBOX_RECORDS, OUTPUT_RETRY};
use sortie_model::record::{OutputPolicy, OutputRule, StreamSet};
use sortie_model::{Ordinal, Seq};
use sortie_store::journal::{Cursor, Dropped};

use super::super::compact::Block;
use super::super::{JobMailboxes, LiveValues, MailboxPool, Most, Position, Slot};
use super::inline::Inline;
use super::table::{Child, Place};
use super::{Backed, Backing, Persisted, RestoreError, is_lost};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// All that the child will ever say: its files are sealed.
    Ever,
    /// What it has said so far.
    Now,
}

/// What stands between a child's end and the journal.
enum Step {
    Done(Persisted),
    Load(Block),
    /// What is unread seems to be little.
    Small,
    /// Who follows it to the disk is not done.
    Wait,
}

impl JobMailboxes {
    /// No mailboxes yet, of a job that outlives its daemon. The quota is at most that of the pool.
    pub fn backed(pool: Arc<MailboxPool>, rule: OutputRule, backing: Backing) -> Arc<Self> {
        Self::make(pool, rule, Some(Backed::new(backing)))
    }

    /// Whether all of it is on the disk, and nobody reads it: the same can be restored later.
    pub(crate) fn is_at_rest(self: &Arc<Self>) -> bool {
        let is_back = self.returning.load(Ordering::Relaxed) == 0;
        let at_rest = self.backed.as_ref().is_some_and(|it| it.is_at_rest());
        Arc::strong_count(self) == 1 && is_back && at_rest
    }

    /// Whether the mailboxes outlive their daemon.
    pub const fn is_backed(&self) -> bool {
        self.backed.is_some()
    }

    /// Returns when all records of the child so far are on the disk, or gives them back to go into
    /// the journal: called at the child's end, before that is committed. While the disk refuses it
    /// waits and tries again; the mailbox's [`Summary`](super::super::Summary) says so.
    ///
    /// # Cancel safety
    /// Dropping it has no effect; it can be called again.
    pub async fn persist(self: &Arc<Self>, ordinal: Ordinal) -> Persisted {
        self.bring(ordinal, For::Ever).await
    }

    /// The same for a child that goes on, and what it has said so far.
    ///
    /// # Cancel safety
    /// Dropping it has no effect; it can be called again.
    pub async fn persist_so_far(self: &Arc<Self>, ordinal: Ordinal) -> Persisted {
        self.bring(ordinal, For::Now).await
    }

    async fn bring(self: &Arc<Self>, ordinal: Ordinal, what: For) -> Persisted {
        let Some(backed) = &self.backed else { return Persisted::Nothing };
        loop {
            let mut progress = pin!(backed.progress.notified());
            progress.as_mut().enable();
            match self.persist_step(backed, ordinal, what) {
                Step::Done(persisted) => return persisted,
                Step::Load(block) => match self.load_compact(ordinal, block).await {
                    Ok(()) => {}
                    // Nobody will ever read it.
                    Err(error) if is_lost(&error) || self.is_removed() => {
                        return Persisted::Nothing;
                    }
                    Err(_) => tokio::time::sleep(OUTPUT_RETRY).await,
                },
                Step::Small => {
                    if let Some(persisted) = self.persist_small(backed, ordinal).await {
                        return persisted;
                    }
                }
                Step::Wait => progress.await,
            }
        }
    }

    fn persist_step(&self, backed: &Arc<Backed>, ordinal: Ordinal, what: For) -> Step {
        let shard = self.shard(ordinal);
        if shard.removed {
            return Step::Done(Persisted::Nothing);
        }
        let (compact, summary) = match shard.slot(ordinal) {
            None | Some(Slot::Untouched) => return Step::Done(Persisted::Nothing),
            Some(Slot::Compact(compact)) => (Some(compact), compact.summary()),
            Some(Slot::Grown(grown)) => {
                let state = grown.lock();
                if let Some(returning) = &state.returning {
                    // What comes back is on the disk.
                    let is_kept = what == For::Now && returning.behind.is_empty();
                    let kept = Persisted::Segments { next: returning.next, bytes: 0 };
                    return if is_kept { Step::Done(kept) } else { Step::Wait };
                }
                (None, state.summary())
            }
        };
        let mut table = backed.table();
        let place = table.children.get(&ordinal).map_or(Place::Undecided, |child| child.place);
        if matches!(place, Place::Files(_)) || compact.is_none() {
            let step = table.child(ordinal).persist_step(summary.next, summary.unread, what);
            if matches!(step, Step::Wait) {
                table.child(ordinal).ending |= what == For::Ever;
                table.urgent = true;
                table.make_due(ordinal);
                backed.wake(table);
            }
            return step;
        }
        let Some(compact) = compact else { return Step::Wait };
        if summary.unread.records == 0 {
            if let Some(child) = table.children.get_mut(&ordinal)
                && child.cursor().taken.highest() >= summary.next
                && child.stored < summary.next
            {
                child.stored = summary.next;
                table.moved(ordinal);
                backed.moved.notify_waiters();
            }
            return Step::Done(Persisted::Nothing);
        }
        if compact.is_on_disk() {
            return Step::Load(compact.block().clone());
        }
        let records = compact.records().unwrap_or_default();
        let inline = Inline { next: summary.next, with_errors: summary.with_errors, records };
        // A compact mailbox is no more than a block may have.
        Step::Done(inline.encode().map_or(Persisted::Nothing, Persisted::Inline))
    }

    /// None if it is not small after all.
    async fn persist_small(
        self: &Arc<Self>,
        backed: &Arc<Backed>,
        ordinal: Ordinal,
    ) -> Option<Persisted> {
        let most = Most {
            records: COMPACT_MAILBOX_RECORDS,
            bytes: COMPACT_MAILBOX_BYTES,
            values: LiveValues::Encoded,
        };
        let summary = self.summary(ordinal);
        let kept = self.keep(ordinal, Position::start(), StreamSet::ALL, most).await;
        let inline = kept.ok().filter(|kept| !kept.more).and_then(|kept| {
            let (next, with_errors) = (summary.next, summary.with_errors);
            Inline { next, with_errors, records: kept.records }.encode()
        });
        let mut table = backed.table();
        let child = table.child(ordinal);
        match (inline, child.place) {
            (Some(block), Place::Undecided | Place::Inline) => {
                child.place = Place::Inline;
                Some(Persisted::Inline(block))
            }
            // Nothing of it was in the journal yet, or its place would be another.
            (None, Place::Undecided | Place::Inline) => {
                child.place = Place::Files(Position::start());
                None
            }
            (_, Place::Files(_)) => None,
        }
    }

    /// Cursors of children that moved since the last call, at most `most`; the others stay for the
    /// next one.
    pub fn take_moved(&self, most: usize) -> Vec<(Ordinal, Cursor)> {
        self.backed.as_ref().map(|backed| backed.table().take_moved(most)).unwrap_or_default()
    }

    /// What the output policy took of a child's records, for the journal.
    pub fn lost_to_policy(&self, ordinal: Ordinal) -> Dropped {
        let Some(backed) = &self.backed else { return Dropped::default() };
        let table = backed.table();
        table.children.get(&ordinal).map(|child| child.lost_to_policy).unwrap_or_default()
    }

    /// Whether records are dropped while their child runs.
    pub const fn may_drop(&self) -> bool {
        !matches!(self.rule.policy, OutputPolicy::Block)
    }

    /// The output policy took that before the node ended.
    pub(super) fn restore_dropped(
        &self,
        ordinal: Ordinal,
        dropped: Dropped,
    ) -> Result<(), RestoreError> {
        if dropped == Dropped::default() {
            return Ok(());
        }
        let mut shard = self.shard(ordinal);
        let grown = self.grow(shard.slot_mut(ordinal), ordinal);
        let grown = grown.map_err(|_| RestoreError::Removed)?;
        drop(shard);
        let before = Tally { records: dropped.records, bytes: dropped.bytes };
        let ledger = &mut grown.lock().ledger;
        ledger.note_dropped(before);
        if dropped.cut {
            ledger.note_cut();
        }
        self.note_dropped(before);
        Ok(())
    }

    /// What a child has said and nobody has taken, if it is little, for the journal: of one that
    /// runs where nobody else keeps it.
    pub fn small(&self, ordinal: Ordinal) -> Option<Bytes> {
        let backed = self.backed.as_ref()?;
        let shard = self.shard(ordinal);
        let Slot::Compact(compact) = shard.slot(ordinal)? else { return None };
        let summary = compact.summary();
        let place = backed.table().children.get(&ordinal).map(|child| child.place);
        if matches!(place, Some(Place::Files(_))) || summary.unread.records == 0 {
            return None;
        }
        let records = compact.records().ok()?;
        Inline { next: summary.next, with_errors: summary.with_errors, records }.encode()
    }

    /// The journal did not take these: they come again.
    pub fn moved_again(&self, cursors: &[(Ordinal, Cursor)]) {
        if let Some(backed) = &self.backed {
            let mut table = backed.table();
            cursors.iter().for_each(|(ordinal, _)| table.moved(*ordinal));
        }
    }

    /// Returns when [`take_moved`](Self::take_moved) has something, or the job was removed. Never,
    /// if the mailboxes do not outlive their daemon.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    pub async fn moved(&self) {
        let Some(backed) = &self.backed else { return std::future::pending().await };
        loop {
            let mut moved = pin!(backed.moved.notified());
            moved.as_mut().enable();
            if backed.table().has_news() {
                return;
            }
            moved.await;
        }
    }

    /// The journal has these cursors, on the disk: files that nobody needs any more go.
    pub fn cursors_committed(self: &Arc<Self>, cursors: &[(Ordinal, Cursor)]) {
        let Some(backed) = &self.backed else { return };
        for (ordinal, cursor) in cursors {
            let mut table = backed.table();
            let Some(child) = table.children.get_mut(ordinal) else { continue };
            child.committed.merge(cursor);
            if matches!(child.place, Place::Files(_)) && !child.lost && table.make_due(*ordinal) {
                backed.wake(table);
            } else {
                drop(table);
            }
            backed.tell(*ordinal, Seq(0));
            backed.forget_settled(self, *ordinal);
        }
    }
}

impl Child {
    /// Of a mailbox that is not compact, or has files.
    fn persist_step(&mut self, next: Seq, unread: Tally, what: For) -> Step {
        let small = unread.records <= COMPACT_MAILBOX_RECORDS as u64
            && unread.weight() <= COMPACT_MAILBOX_BYTES as u64;
        match self.place {
            _ if self.lost => {
                Step::Done(Persisted::Segments { next: self.stored, bytes: self.sealed_bytes() })
            }
            Place::Undecided if unread.records == 0 && self.stored >= next => {
                Step::Done(Persisted::Nothing)
            }
            Place::Undecided | Place::Inline if small && unread.records > 0 => Step::Small,
            Place::Inline if unread.records == 0 => Step::Done(Persisted::Nothing),
            Place::Files(_) if what == For::Now && self.stored >= next => {
                Step::Done(Persisted::Segments { next: self.stored, bytes: self.sealed_bytes() })
            }
            Place::Files(_) => match self.sealed {
                Some((sealed, bytes)) if sealed >= next => {
                    Step::Done(Persisted::Segments { next: sealed, bytes })
                }
                _ => Step::Wait,
            },
            Place::Inline => {
                // More came after it was given back, so that was not its end.
                self.place = Place::Undecided;
                Step::Wait
            }
            Place::Undecided => Step::Wait,
        }
    }

    fn sealed_bytes(&self) -> u64 {
        self.sealed.map_or(0, |(_, bytes)| bytes)
    }
}
