//! What a node that is there again says of jobs that it was told of before, in another life of
//! its own or of ours: it does not know them, or does, and may have forgotten some children.

use sortie_model::{NodeId, Ordinal, Reason, Timestamp};

use sortie_model::spec::StopSpec;
use sortie_wire::host_proto::{ChildSet, Verdict};

use crate::parent_job::{Effects, JobEffect, ParentJob};

/// What a node says that does not know a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// What ran of it was killed, since its owner was silent or did not ask for it.
    pub expired: bool,
    /// It was told of it, if at all, in an earlier life, or by an earlier one of ours.
    pub later: bool,
    /// Processes of such jobs outlive its lives: it knows of each that ever began.
    pub remembers: bool,
}

/// What a node that knows a job has forgotten of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Nothing: it knows of each child that ever began.
    Whole,
    /// Children that had only just begun, perhaps: its machine failed.
    Torn,
}

impl ParentJob {
    /// The node says that it does not know this job: what is said to run there does not. If it
    /// never heard of it, what was sent may be sent again, unless it was told to stop: then it has
    /// never run. `reached` as in [`Self::on_lost`].
    pub fn on_unknown(
        &mut self,
        (node, said, since): (NodeId, Unknown, Timestamp),
        reached: impl Fn(Ordinal) -> bool,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        if said.expired || (said.later && !(said.remembers && self.outlives_its_node())) {
            return self.on_lost((node, since), reached, now, effects);
        }
        let Some(index) = self.nodes.find(node) else { return };
        for ordinal in self.on_node(index) {
            let (phase, told) = self.row(ordinal).map(|row| (row.phase, row.told_to_stop)).unzip();
            let told = told.unwrap_or(false);
            match phase {
                _ if self.is_parked(ordinal) => {}
                Some(phase) if phase.is_sent() && told => {
                    self.end_here(ordinal, Verdict::Stopped, now, effects);
                }
                Some(phase) if phase.is_sent() => self.unsuspended(ordinal, effects),
                Some(phase) if phase.holds_slot() => {
                    self.fail(ordinal, Reason::NodeLost { since }, now, effects);
                }
                _ => {}
            }
        }
        self.apply_max_fails(now, effects);
        self.advance(now, effects);
    }

    /// The node knows what it was told in an earlier life, or by an earlier one of ours: what ran
    /// there ran on. Processes that were sent and are not known to have begun, to one whose memory
    /// is torn, are not sent again.
    pub fn on_adopted(
        &mut self,
        (node, memory): (NodeId, Memory),
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let Some(index) = self.nodes.find(node) else { return };
        let begun = self.on_node(index).into_iter().filter_map(|ordinal| {
            let row = self.row(ordinal)?;
            // Of a life that did not begin yet, that is when the one before did.
            let runs = row.phase.holds_slot() && !row.phase.is_sent() && row.begin.is_some();
            (runs && !self.is_parked(ordinal)).then_some((ordinal, row.incarnation))
        });
        self.adopted(begun.collect(), now);
        // A function that it knows it was told of in its present life, which forgets nothing.
        if memory == Memory::Torn && self.outlives_its_node() {
            let mut sent = self.on_node(index);
            sent.retain(|ordinal| {
                self.row(*ordinal).is_some_and(|row| row.phase.is_sent() && !row.is_unsaid())
            });
            // One that began, of which nothing was heard yet, must not run on. Also where there is
            // none: the node hears that what it has forgotten is settled.
            let children = ChildSet::Some(sent.clone());
            effects.push(JobEffect::Stop { node: index, children, how: StopSpec::NOW });
            for ordinal in sent {
                let told = self.row(ordinal).is_some_and(|row| row.told_to_stop);
                let uncertain = Verdict::Failed(Reason::StartUncertain);
                let verdict = if told { Verdict::Stopped } else { uncertain };
                self.end_here(ordinal, verdict, now, effects);
            }
            self.apply_max_fails(now, effects);
        }
    }
}
