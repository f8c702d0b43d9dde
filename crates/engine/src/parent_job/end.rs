//! How a child comes to its end, once.

use sortie_model::{Ordinal, Reason, Timestamp};
use sortie_wire::host_proto::{ChildOutcome, Verdict};

use crate::parent_job::row::Phase;
use crate::parent_job::{Effects, JobEffect, ParentJob};

impl ParentJob {
    /// The child's end: terminal states are final, so a later word about it changes nothing.
    pub(super) fn finish(
        &mut self,
        ordinal: Ordinal,
        outcome: ChildOutcome,
        time: Timestamp,
        effects: &mut Effects,
    ) {
        let Some(row) = self.rows.get_mut(ordinal.0 as usize) else { return };
        if row.phase.is_finished() {
            return;
        }
        row.end = Some(time);
        let phase = Phase::of(&outcome.verdict);
        row.set_outcome(outcome);
        self.close_question(ordinal, effects);
        self.suspensions.forget(ordinal);
        self.set_phase(ordinal, phase, effects);
        self.supervise_ended(ordinal, effects);
    }

    pub(super) fn fail(
        &mut self,
        ordinal: Ordinal,
        reason: Reason,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        self.end_here(ordinal, Verdict::Failed(reason), now, effects);
    }

    /// A child that waits for a slot ends: it was stopped, or what it was to read is lost.
    pub(super) fn end_queued(
        &mut self,
        ordinal: Ordinal,
        stopped: bool,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let lost = Verdict::Failed(Reason::InputLost);
        self.line.withdraw(ordinal);
        self.end_here(ordinal, if stopped { Verdict::Stopped } else { lost }, now, effects);
    }

    /// The child ends without a report.
    pub(super) fn end_here(
        &mut self,
        ordinal: Ordinal,
        verdict: Verdict,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        self.finish(ordinal, ChildOutcome::of(verdict), now, effects);
        if !self.is_supervised() {
            effects.push(JobEffect::Close(ordinal));
        }
    }
}
