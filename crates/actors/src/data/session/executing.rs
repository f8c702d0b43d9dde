//! What a session tells the nodes that execute for it.

use std::sync::Arc;

use bytes::Bytes;
use sortie_engine::parent_job::{Executor, MotionOrder, NodeIndex, Owner, QuestionKey};
use sortie_model::spec::StopSpec;
use sortie_model::{NodeId, Ordinal, limits};
use sortie_wire::host_proto::{
    AnswerChild, ChildBatch, ChildFrom, ChildSet, ForgetJob, StartChildren, StopChildren,
    SuspendChildren,
};
use sortie_wire::version::OPEN_INPUT;

use crate::data::attachment::Begun;
use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::host::HostMessage;
use crate::parent_job::ParentJobMessage;

impl SessionShared {
    /// Starts children on a node: here through memory, elsewhere over the link once it is up.
    pub(crate) fn start_on(
        self: &Arc<Self>,
        job: &JobShared,
        node: NodeIndex,
        children: ChildBatch,
    ) -> Begun {
        let Some(id) = job.rows().node_id(node) else { return Begun::No };
        let (session, instance) = (self.identity.instance, job.identity.instance);
        let spec = |executor| {
            let level = self.identity.above.as_ref().map_or(0, |above| above.level);
            let node = &self.node.me.name();
            let owner = Owner { node, level, hosting: job.hosting() };
            Some(Box::new(job.rows().host_spec(executor, owner)))
        };
        if id == self.node.me.id {
            let spec = spec(Executor::OwnNode);
            self.tell_host(HostMessage::Start(StartChildren {
                session,
                job: instance,
                spec,
                children,
            }));
            return Begun::Yes;
        }
        let attachment = self.attachment(id);
        let is_old = || {
            let link = self.node.sights.get(id).and_then(|sight| sight.link);
            link.is_some_and(|link| link.facts().version < OPEN_INPUT)
        };
        let has_open_input = job.rows().spec().input.is_open();
        if has_open_input && is_old() {
            job.tell(ParentJobMessage::TooOld(id));
            return Begun::No;
        }
        let spec = || spec(Executor::OtherNode);
        let which = ordinals_of(&children);
        let begun = attachment.send_start((instance, job.hosting()), children, spec);
        job.rows_mut().on_told(which, begun == Begun::Yes);
        match begun {
            Begun::Yes | Begun::Waits => {}
            Begun::Later => job.say_again(id),
            Begun::No => self.reach(job, node),
        }
        begun
    }

    /// Asks for a connection to a node of the job, which hears whether there is one.
    pub(crate) fn reach(self: &Arc<Self>, job: &JobShared, node: NodeIndex) {
        let (id, wait) = {
            let rows = job.rows();
            (rows.node_id(node), rows.spec().connect_timeout)
        };
        if let Some(id) = id {
            self.node.want_link(id, (Arc::clone(self), job.identity.instance), wait);
        }
    }

    /// Starts children again on a node; their records go on where those before ended.
    pub(crate) fn start_again_on(
        self: &Arc<Self>,
        job: &JobShared,
        node: NodeIndex,
        children: &[Ordinal],
    ) {
        let again = {
            let rows = job.rows();
            let again = children.iter();
            let again =
                again.filter_map(|child| rows.again(*child, job.mailboxes.begin_life(*child)));
            again.collect::<Vec<_>>()
        };
        let here = job.rows().node_id(node) == Some(self.node.me.id);
        if here || job.durable.is_none() {
            self.start_on(job, node, ChildBatch::Again(again));
            return;
        }
        // Its node goes on from what is kept here.
        let children = again.into_iter().map(|again| {
            let from = job.checkpoints.before((again.ordinal, again.incarnation));
            ChildFrom { again, from }
        });
        in_batches(children, |some| self.start_on(job, node, ChildBatch::From(some)));
    }

    /// Stops children on a node. On a node that is away the rows remember it.
    pub(crate) fn stop_on(
        &self,
        job: &JobShared,
        node: NodeIndex,
        children: ChildSet,
        how: StopSpec,
    ) {
        let Some(id) = job.rows().node_id(node) else { return };
        let (session, instance) = (self.identity.instance, job.identity.instance);
        let stop = StopChildren { session, job: instance, children, how };
        if id == self.node.me.id {
            self.tell_host(HostMessage::Stop(stop));
        } else {
            self.attachment(id).send(&stop);
        }
    }

    /// Suspends children on a node, or lets them go on. On a node that is away the rows remember
    /// it.
    pub(crate) fn suspend_on(
        &self,
        job: &JobShared,
        node: NodeIndex,
        (children, order): (ChildSet, MotionOrder),
    ) {
        let Some(id) = job.rows().node_id(node) else { return };
        let (session, job) = (self.identity.instance, job.identity.instance);
        let MotionOrder { number, motion } = order;
        let suspend = SuspendChildren { session, job, children, number, motion };
        if id == self.node.me.id {
            self.tell_host(HostMessage::Suspend(suspend));
        } else {
            self.attachment(id).send(&suspend);
        }
    }

    /// Brings a child on a node the answer to its question. On a node that is away the rows
    /// remember it.
    pub(crate) fn answer_on(
        &self,
        job: &JobShared,
        node: NodeIndex,
        (key, answer): (QuestionKey, Bytes),
    ) {
        let Some(id) = job.rows().node_id(node) else { return };
        let QuestionKey { ordinal, incarnation, number } = key;
        let (session, job) = (self.identity.instance, job.identity.instance);
        let answer = AnswerChild { session, job, ordinal, incarnation, number, answer };
        if id == self.node.me.id {
            self.tell_host(HostMessage::Answer(answer));
        } else {
            self.attachment(id).send(&answer);
        }
    }

    pub(crate) fn forget_on_hosts(&self, job: &JobShared) {
        let (session, instance) = (self.identity.instance, job.identity.instance);
        let nodes: Vec<NodeId> = job.rows().nodes().map(|(id, _)| id).collect();
        for id in nodes {
            let forget = ForgetJob { session, job: instance };
            if id == self.node.me.id {
                self.tell_host(HostMessage::Forget(forget));
            } else {
                self.attachment(id).forget(&forget);
            }
        }
    }
}

/// The children of a batch.
fn ordinals_of(children: &ChildBatch) -> Box<dyn Iterator<Item = Ordinal>> {
    fn all(some: impl Iterator<Item = Ordinal>) -> Box<dyn Iterator<Item = Ordinal>> {
        Box::new(some.collect::<Vec<_>>().into_iter())
    }
    match children {
        ChildBatch::Range { first, step, count, .. } => {
            let (first, step) = (first.0, (*step).max(1));
            let all = (0..*count).map(move |nth| first.saturating_add(nth.saturating_mul(step)));
            Box::new(all.map(Ordinal))
        }
        ChildBatch::Items(items) => all(items.iter().map(|item| item.ordinal)),
        ChildBatch::Again(some) => all(some.iter().map(|again| again.ordinal)),
        ChildBatch::From(some) => all(some.iter().map(|from| from.again.ordinal)),
    }
}

/// Sends them in batches of about that size up to the first that is not sent: the job says that one
/// and what follows again.
fn in_batches(
    children: impl Iterator<Item = ChildFrom>,
    mut send: impl FnMut(Vec<ChildFrom>) -> Begun,
) {
    let (mut some, mut bytes) = (Vec::new(), 0);
    for child in children {
        bytes += child.from.as_ref().map_or(0, |(_, value)| value.len());
        some.push(child);
        if bytes >= limits::CHECKPOINTS_AHEAD_BYTES {
            bytes = 0;
            if send(std::mem::take(&mut some)) != Begun::Yes {
                return;
            }
        }
    }
    if !some.is_empty() {
        send(some);
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::{ChildIncarnation, Seq};
    use sortie_wire::host_proto::ChildAgain;

    use super::*;

    #[test]
    fn what_follows_a_batch_that_found_no_room_is_not_tried() {
        let per_batch = limits::CHECKPOINTS_AHEAD_BYTES / limits::CHECKPOINT_BYTES;
        let value = Bytes::from(vec![7; limits::CHECKPOINT_BYTES]);
        let child = |ordinal: usize| {
            let (incarnation, next) = (ChildIncarnation(1), Seq(0));
            let (ordinal, id) = (Ordinal(ordinal as u32), 2);
            let again = ChildAgain { ordinal, id, incarnation, next, item: None };
            ChildFrom { again, from: Some((ChildIncarnation(0), value.clone())) }
        };
        let tried = |answers: &[Begun]| {
            let (mut answers, mut tried) = (answers.iter(), Vec::new());
            in_batches((0..3 * per_batch + 1).map(child), |some| {
                tried.push(some.len());
                *answers.next().expect("it goes on only after a batch that is sent")
            });
            tried
        };
        assert_eq!(tried(&[Begun::Yes; 4]), [per_batch, per_batch, per_batch, 1]);
        for refused in [Begun::No, Begun::Later, Begun::Waits] {
            assert_eq!(tried(&[Begun::Yes, refused]), [per_batch, per_batch]);
        }
    }
}
