//! Children that stand still by an order of which this life of their owner knows nothing. The
//! journal has what a job was told, and of a child that its node had not confirmed when the owner
//! ended nothing but that: the node may hold it back, or may not have heard the order.

use sortie_model::{Motion, Ordinal};
use sortie_wire::host_proto::ChildSet;

use crate::aggregate::Told;
use crate::parent_job::suspensions::Suspension;
use crate::parent_job::{Effects, JobEffect, ParentJob};
use crate::placement::NodeIndex;

impl ParentJob {
    /// A job that was told to suspend tells that to what it had sent before its node ended.
    pub(super) fn suspend_sent(&mut self) {
        if self.told != Told::Suspend {
            return;
        }
        let order = self.suspensions.next_order(Motion::Suspended);
        let sent = (0u32..).map(Ordinal).zip(&self.rows);
        let sent = sent.filter(|(_, row)| row.phase.is_sent() && !row.told_to_stop);
        let sent: Vec<Ordinal> = sent.map(|(ordinal, _)| ordinal).collect();
        for ordinal in sent {
            self.suspensions.note(ordinal, Suspension::of(order, Motion::Running));
        }
    }

    /// These stand still on their node, and no order to them is known. They are to do what their
    /// job was told: without such a word they would stand still for ever.
    pub(super) fn lead_back(
        &mut self,
        node: NodeIndex,
        mut children: Vec<Ordinal>,
        effects: &mut Effects,
    ) {
        children.retain(|ordinal| self.row(*ordinal).is_some_and(|row| !row.told_to_stop));
        if children.is_empty() {
            return;
        }
        let motion = match self.told {
            Told::Suspend => Motion::Suspended,
            _ => Motion::Running,
        };
        let order = self.suspensions.next_order(motion);
        for ordinal in children.iter().copied() {
            self.suspensions.note(ordinal, Suspension::of(order, Motion::Suspended));
            self.show_motion(ordinal, effects);
        }
        effects.push(JobEffect::Move { node, children: ChildSet::Some(children), order });
    }
}
