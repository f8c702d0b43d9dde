//! What executing nodes report, and what of it is believed.

use sortie_model::spec::StopSpec;
use sortie_model::{ChildIncarnation, NodeId, Ordinal, Reason};
use sortie_wire::host_proto::{ChildEnd, ChildOutcome, ChildStart, Verdict};

use crate::parent_job::row::{Phase, Row};
use crate::parent_job::{Effects, FalseReport, ParentJob};
use crate::placement::NodeIndex;

/// With which a stop ends what its signal did not.
const KILL: i32 = 9;

impl ParentJob {
    /// A node reported. Reports about finished children are discarded: the owner's word stands.
    ///
    /// # Errors
    /// [`FalseReport`] when a child is not on that node; nothing of the report was applied.
    pub fn on_report(
        &mut self,
        node: NodeId,
        started: &[ChildStart],
        ended: Vec<ChildEnd>,
        effects: &mut Effects,
    ) -> Result<(), FalseReport> {
        let node = self.nodes.find(node).ok_or(FalseReport)?;
        let ordinals = started.iter().map(|start| start.ordinal);
        let mut ordinals = ordinals.chain(ended.iter().map(|end| end.ordinal));
        if !ordinals.all(|it| self.row_on(it, node).is_some() || self.ran_before(it)) {
            return Err(FalseReport);
        }
        let mut now = self.identity.created;
        for start in started {
            now = now.max(start.time);
            self.begin = Some(self.begin.map_or(start.time, |begin| begin.min(start.time)));
            if let Some(row) = self.row_mut(start.ordinal)
                && row.node == Some(node)
                && row.phase.is_sent()
                && row.incarnation == start.incarnation
            {
                (row.begin, row.end, row.outcome) = (Some(start.time), None, None);
                self.set_phase(start.ordinal, self.begun_phase(start.ordinal), effects);
                self.supervise_begun(start.ordinal);
            }
        }
        for end in ended {
            now = now.max(end.end_time);
            // A word about an earlier incarnation is late.
            let present = self.row_on(end.ordinal, node);
            if present.is_none_or(|row| row.incarnation != end.incarnation) {
                continue;
            }
            if let (Some(begin), Some(row)) = (end.begin_time, self.row_mut(end.ordinal)) {
                row.begin = Some(begin);
                self.begin = Some(self.begin.map_or(begin, |first| first.min(begin)));
            }
            let outcome = self.with_its_stop(end.ordinal, end.outcome);
            self.finish(end.ordinal, outcome, end.end_time, effects);
        }
        self.apply_max_fails(now, effects);
        self.advance(now, effects);
        Ok(())
    }

    /// A child that was told to stop and died of a signal that its stop sends was stopped: its
    /// node's daemon may have been killed in between, and the next one knows only of the death.
    fn with_its_stop(&self, ordinal: Ordinal, mut outcome: ChildOutcome) -> ChildOutcome {
        let told = self.row(ordinal).is_some_and(|row| row.told_to_stop);
        let sent = self.any_stop().map_or(StopSpec::default().signal, |(how, _)| how.signal);
        if told
            && let Verdict::Failed(Reason::Signal { number, core_dumped: false, .. }) =
                outcome.verdict
            && [sent, KILL].contains(&number)
        {
            outcome.verdict = Verdict::Stopped;
        }
        outcome
    }

    pub(super) fn row_on(&self, ordinal: Ordinal, node: NodeIndex) -> Option<&Row> {
        // What still waits was not told to its node.
        let told = |row: &&Row| {
            row.node == Some(node) && !matches!(row.phase, Phase::Queued | Phase::Resting)
        };
        self.rows.get(ordinal.0 as usize).filter(told)
    }

    /// Whether the child started again: then a node may still say something about an incarnation
    /// that the owner is done with.
    pub fn ran_before(&self, ordinal: Ordinal) -> bool {
        let again =
            |row: &Row| row.incarnation > ChildIncarnation(0) || row.phase == Phase::Resting;
        self.row(ordinal).is_some_and(again)
    }

    /// Whether the child is there and on that node: what a record's sender must prove.
    pub fn runs_on(&self, ordinal: Ordinal, node: NodeId) -> bool {
        self.nodes.find(node).is_some_and(|node| self.row_on(ordinal, node).is_some())
    }

    /// Whether the child runs, or ran last, on another node than that one.
    pub fn is_elsewhere(&self, ordinal: Ordinal, here: NodeId) -> bool {
        let node = self.row(ordinal).and_then(|row| row.node).and_then(|node| self.nodes.id(node));
        node.is_some_and(|node| node != here)
    }

    /// Whether that life of the child is on, on that node.
    pub fn is_life_on(&self, ordinal: Ordinal, life: ChildIncarnation, node: NodeId) -> bool {
        let row = self.nodes.find(node).and_then(|node| self.row_on(ordinal, node));
        row.is_some_and(|row| row.incarnation == life && row.phase.holds_slot())
    }
}
