//! Records that come again, since the daemon that had them ended.

use std::sync::Arc;

use sortie_model::{Ordinal, Record, Seq, Stream};

use super::super::{AppendError, Appended, JobMailboxes, is_possible};
use super::table::Child;

impl JobMailboxes {
    /// Appends a record of a child that runs since before this daemon, under its own number: one
    /// that is here already is skipped, and one that was taken before is stored and free at once.
    /// Records that are missing before it are left out.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    pub async fn append_again(
        self: &Arc<Self>,
        ordinal: Ordinal,
        record: Record,
    ) -> Result<Appended, AppendError> {
        let mut next = self.summary(ordinal).next;
        if record.seq > next && is_possible(ordinal) {
            // What its node itself said between, such as that it starts again, went with the node.
            self.skip_to(ordinal, record.seq);
            next = record.seq;
        }
        if record.seq == next && self.was_taken(ordinal, &record) {
            if !is_possible(ordinal) {
                return Err(AppendError::NoSuchChild);
            }
            self.skip_to(ordinal, next.after(1));
            if record.stream == Stream::Error {
                self.note_errors(ordinal);
            }
            self.announce();
            if let Some(backed) = &self.backed {
                backed.forget_before(ordinal, next.after(1));
                if self.summary(ordinal).unread.records == 0 {
                    backed.all_taken(ordinal, next.after(1));
                }
            }
            // What is known is answered as an append answers it.
            return self.append(ordinal, record.seq, vec![record]).await;
        }
        self.append(ordinal, record.seq, vec![record]).await
    }

    /// Another life of the child begins, of which nothing was said: the number of its first record.
    /// That is behind all that was taken before the node ended, even where it was never stored: a
    /// reader knows records by their numbers.
    pub fn begin_life(&self, ordinal: Ordinal) -> Seq {
        let next = self.summary(ordinal).next;
        let Some(backed) = &self.backed else { return next };
        self.was_made(ordinal, false);
        let cursor = backed.table().children.get(&ordinal).map(Child::cursor);
        let next = cursor.map_or(next, |cursor| cursor.highest_taken().max(next));
        if is_possible(ordinal) {
            self.skip_to(ordinal, next);
            backed.forget_before(ordinal, next);
        }
        next
    }

    /// Whether all that comes of the child was made before it is stopped, if it is: its process had
    /// ended when this life of the node began. Then a stop drops nothing of it.
    pub fn was_made(&self, ordinal: Ordinal, made: bool) {
        // Any other is far from its quota.
        if let Some(grown) = self.grown(ordinal) {
            grown.lock().ledger.set_made(made);
        }
    }

    /// Whether the mailbox is that of an earlier life of the node, and some of what that one had
    /// may come again.
    pub fn may_come_again(&self, ordinal: Ordinal) -> bool {
        let Some(backed) = &self.backed else { return false };
        let table = backed.table();
        table.children.get(&ordinal).is_some_and(|child| child.before.is_some())
    }

    fn was_taken(&self, ordinal: Ordinal, record: &Record) -> bool {
        let Some(backed) = &self.backed else { return false };
        let table = backed.table();
        let before = table.children.get(&ordinal).and_then(|child| child.before.as_deref());
        before.is_some_and(|before| before.has_taken(record.stream, record.seq))
    }
}
