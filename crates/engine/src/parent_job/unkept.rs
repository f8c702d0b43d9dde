//! Nothing of a job that outlives its node begins before the journal has it (`docs/semantics.md`,
//! section 4.2): a start that is not there would be one more in the node's next life.

use std::collections::BTreeSet;

use sortie_model::{Ordinal, Timestamp};
use sortie_wire::host_proto::{ChildBatch, Verdict};

use crate::parent_job::row::Phase;
use crate::parent_job::{Effects, JobEffect, ParentJob};

/// Why the journal did not take what was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unkept {
    /// The disk is full: it is tried again.
    Full,
    /// It takes nothing any more, until the node is started again.
    Failed,
}

/// What of a job's decisions the journal does not have yet.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    unkept: Option<Unkept>,
    /// Children that were given a slot since the journal was asked last.
    fresh: BTreeSet<Ordinal>,
}

impl ParentJob {
    /// Why nothing begins at present, if that is because it could not be kept.
    pub const fn unkept(&self) -> Option<Unkept> {
        self.keeping.unkept
    }

    /// The child is to begin, which is kept first where anything is.
    pub(super) fn is_to_begin(&mut self, ordinal: Ordinal) {
        if self.touched.is_some() {
            self.keeping.fresh.insert(ordinal);
        }
    }

    /// The journal has what was decided. What waited for that may begin, once the journal has that,
    /// too.
    pub fn on_kept(&mut self, now: Timestamp, effects: &mut Effects) {
        self.keeping.fresh.clear();
        if self.keeping.unkept.take().is_some() {
            self.advance(now, effects);
        }
    }

    /// The journal does not have what was decided: of these effects, which nobody heard of yet,
    /// the starts are taken back, and nothing begins until [`Self::on_kept`]. All others stand.
    pub fn on_not_kept(&mut self, why: Unkept, now: Timestamp, effects: &mut Effects) {
        self.keeping.unkept = Some(why);
        let fresh = std::mem::take(&mut self.keeping.fresh);
        // What is repeated to a node is never in one message with what begins.
        effects.retain(|effect| match effect {
            JobEffect::Start { children, .. } => {
                first_of(children).is_none_or(|first| !fresh.contains(&first))
            }
            JobEffect::StartAgain { children, .. } => {
                children.first().is_none_or(|first| !fresh.contains(first))
            }
            _ => true,
        });
        // From the last to the first, so that they keep their order at the head of the line.
        for ordinal in fresh.into_iter().rev() {
            match self.row(ordinal).map(|row| (row.phase, row.told_to_stop)) {
                Some((Phase::Sent, false)) => self.send_back(ordinal),
                // It was told to stop in the same breath, and its node will never hear of it.
                Some((Phase::Sent, true)) => {
                    self.end_here(ordinal, Verdict::Stopped, now, effects);
                }
                _ => {}
            }
        }
        self.advance(now, effects);
    }
}

fn first_of(children: &ChildBatch) -> Option<Ordinal> {
    match children {
        ChildBatch::Range { first, .. } => Some(*first),
        ChildBatch::Items(items) => items.first().map(|item| item.ordinal),
        ChildBatch::Again(some) => some.first().map(|again| again.ordinal),
        ChildBatch::From(some) => some.first().map(|from| from.again.ordinal),
    }
}
