//! Children whose output passes its quota under the policy `fail` (`docs/semantics.md`, section
//! 1.3).

use sortie_model::reason::LimitKind;
use sortie_model::spec::StopSpec;
use sortie_model::{Ordinal, Reason, Timestamp};
use sortie_wire::host_proto::{ChildOutcome, ChildSet, Verdict};

use crate::parent_job::{Effects, ParentJob, StopOrder};

/// Who stops such a child, as people are shown.
const BY: &str = "the output policy";

impl ParentJob {
    /// The child's mailbox takes nothing more: it is stopped. How it ends, [`cut`] says.
    pub fn on_over_quota(&mut self, ordinal: Ordinal, now: Timestamp, effects: &mut Effects) {
        if self.row(ordinal).is_none_or(|row| row.phase.is_finished()) {
            return;
        }
        let (children, how) = (ChildSet::Some(vec![ordinal]), StopSpec::default());
        self.on_stop(StopOrder { children, how, by: BY.to_owned() }, now, effects);
    }

    /// Whether the child failed of its quota: it does not start again, as there is no room for its
    /// output.
    pub(super) fn is_over_quota(&self, ordinal: Ordinal) -> bool {
        let failure = self.child_failure(ordinal);
        failure.is_some_and(|(reason, _)| reason == OVER_QUOTA)
    }
}

const OVER_QUOTA: Reason = Reason::Limit { which: LimitKind::Mailbox };

/// A child ended whose mailbox was cut: it has failed however it ended, since some of its output is
/// lost, unless what it failed of says more.
pub fn cut(outcome: &mut ChildOutcome) {
    if !matches!(outcome.verdict, Verdict::Failed(_)) {
        outcome.verdict = Verdict::Failed(OVER_QUOTA);
    }
}
