//! Which life of a child is on, and which are over: what messages to it go by.

use sortie_model::{ChildIncarnation, NodeId, Ordinal, Reason};

use crate::parent_job::ParentJob;
use crate::parent_job::row::Phase;
use crate::post::Over;

/// How the lives of a child stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lives {
    /// The last one that is over, if one is.
    pub over: Option<ChildIncarnation>,
    /// Why that is over.
    pub why: Over,
    /// Whether another one may come, or is on.
    pub more: bool,
}

impl ParentJob {
    /// Whether children may be in later lives than their first.
    pub const fn may_live_again(&self) -> bool {
        self.is_supervised() || self.lives_on
    }

    /// How the lives of a child stand; none if there is no such child.
    pub fn lives(&self, ordinal: Ordinal) -> Option<Lives> {
        let row = self.row(ordinal)?;
        let over = if row.phase.is_finished() || row.phase == Phase::Resting {
            Some(row.incarnation)
        } else {
            row.incarnation.0.checked_sub(1).map(ChildIncarnation)
        };
        let why = match self.child_failure(ordinal) {
            Some((Reason::NodeLost { .. }, _)) => Over::NodeLost,
            _ => Over::Ended,
        };
        Some(Lives { over, why, more: !self.is_settled(ordinal) })
    }

    /// Whether that life of the child is on, and on that node.
    pub fn lives_on(&self, ordinal: Ordinal, life: ChildIncarnation, node: NodeId) -> bool {
        let is_over = |lives: Lives| lives.over.is_some_and(|over| life <= over);
        self.runs_on(ordinal, node)
            && self.row(ordinal).is_some_and(|row| row.incarnation == life)
            && !self.lives(ordinal).is_none_or(is_over)
    }
}
