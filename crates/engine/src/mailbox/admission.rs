//! What the quota and the output policy of a session say to new records (`docs/semantics.md`,
//! section 1.3).

use sortie_model::limits::{CHILD_CREDIT_BYTES, STOP_OUTPUT_BYTES};
use sortie_model::record::OutputPolicy;

use crate::mailbox::{Mailbox, Tally};

/// What the quota says to new records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Store them.
    Store,
    /// Store them after as much of the oldest was dropped.
    MakeRoom {
        /// In units of [`Tally::weight`].
        weight: u64,
    },
    /// Not now: the producer pauses until records were taken.
    Pause,
    /// Not at all: the child fails, and [`Mailbox::cut`] has to follow.
    Fail,
    /// Not any more: [`Mailbox::skip`] has to follow.
    Skip,
}

impl Mailbox {
    /// What the quota and the policy say to `new` records.
    ///
    /// Under [`OutputPolicy::Block`] what the producer could not yet know is still taken: up to
    /// [`CHILD_CREDIT_BYTES`] beyond the quota, so that records under credit never wait on a link.
    /// While its child is being stopped it is [`STOP_OUTPUT_BYTES`], and then nothing more, unless
    /// all of it was [made before](Self::set_made).
    pub const fn admission(&self, new: Tally) -> Admission {
        if self.cut {
            return Admission::Skip;
        }
        let (unread, new) = (self.unread.weight(), new.weight());
        let over = unread.saturating_add(new).saturating_sub(self.quota);
        if over == 0 {
            return Admission::Store;
        }
        match self.policy {
            OutputPolicy::Fail => Admission::Fail,
            OutputPolicy::DropOldest => Admission::MakeRoom { weight: over },
            OutputPolicy::Block if unread < self.quota => Admission::Store,
            OutputPolicy::Block if over <= CHILD_CREDIT_BYTES as u64 => Admission::Store,
            OutputPolicy::Block if !self.ending => Admission::Pause,
            OutputPolicy::Block if self.made => Admission::Store,
            OutputPolicy::Block if over <= STOP_OUTPUT_BYTES as u64 => Admission::Store,
            OutputPolicy::Block => Admission::Skip,
        }
    }

    /// Drops new records instead of recording them, and counts them. Their numbers are used up, so
    /// whoever sends them goes on as if they were stored.
    pub const fn skip(&mut self, new: Tally) {
        self.dropped = self.dropped.plus(new);
        self.next = self.next.after(new.records);
    }

    /// These new records are the first over the quota, and the policy is to fail: they are skipped,
    /// and so is what follows.
    pub const fn cut(&mut self, new: Tally) {
        self.skip(new);
        self.cut = true;
    }

    /// Whether it was cut: the child fails, however it ends.
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether the producer pauses at the quota.
    pub const fn blocks(&self) -> bool {
        matches!(self.policy, OutputPolicy::Block) && !self.ending
    }

    /// The process had ended before, and what it said is on the disk: a stop drops nothing of it.
    pub const fn set_made(&mut self, made: bool) {
        self.made = made;
    }

    /// The child is being stopped, or is no more: an end that waits for room would wait for a
    /// reader that may never come.
    pub const fn set_ending(&mut self, ending: bool) {
        self.ending = ending;
    }
}
