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
    ) {
        let Some(id) = job.rows().node_id(node) else { return };
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
            return;
        }
        let attachment = self.attachment(id);
        if job.rows().spec().input.is_open() && attachment.is_older_than(OPEN_INPUT) {
            return job.tell(ParentJobMessage::TooOld(id));
        }
        match attachment
            .send_start((instance, job.hosting()), children, || spec(Executor::OtherNode))
        {
            Begun::Yes => {}
            Begun::Later => job.hear_again(id),
            Begun::No => self.reach(job, node),
        }
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
            return self.start_on(job, node, ChildBatch::Again(again));
        }
        // Its node goes on from what is kept here.
        let (mut some, mut bytes) = (Vec::new(), 0);
        for again in again {
            let from = job.checkpoints.before((again.ordinal, again.incarnation));
            bytes += from.as_ref().map_or(0, |(_, value)| value.len());
            some.push(ChildFrom { again, from });
            if bytes >= limits::CHECKPOINTS_AHEAD_BYTES {
                self.start_on(job, node, ChildBatch::From(std::mem::take(&mut some)));
                bytes = 0;
            }
        }
        if !some.is_empty() {
            self.start_on(job, node, ChildBatch::From(some));
        }
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

    pub(super) fn forget_on_hosts(&self, job: &JobShared) {
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
