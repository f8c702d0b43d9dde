//! What the children of one job on this node share, and what is known of them before they run.

use std::sync::Arc;

use sortie_model::{JobInstance, Ordinal};
use sortie_store::journal::Checkpoint;
use sortie_wire::host_proto::HostSpec;

use crate::data::port::{JobPort, Target};
use crate::host::{HostState, Owner};
use crate::node::hosts::dying::Alive;

impl HostState {
    pub(super) fn port(&mut self, job: JobInstance, spec: &Arc<HostSpec>) -> Option<Arc<JobPort>> {
        let known = self.ports.get(&job);
        if let Some(port) = known.filter(|port| Arc::ptr_eq(&port.spec, spec)) {
            return Some(Arc::clone(port));
        }
        // Children that are there already go on with what was known of their job before.
        let discarded = known.map(|port| Arc::clone(&port.discarded)).unwrap_or_default();
        let target = match &self.owner {
            Owner::Here(session) => Target::Here(session.job(job)?),
            Owner::There(..) => Target::There(Arc::clone(&self.outbox)),
        };
        let port = Arc::new(JobPort {
            job,
            spec: Arc::clone(spec),
            host_node: Arc::clone(&self.node),
            node: self.node.me.name(),
            world: Arc::clone(&self.node.world),
            basics: self.node.basics.clone(),
            inputs: self.node.inputs.of(self.owner_id(), job),
            inboxes: Arc::clone(&self.inboxes),
            checkpoints: target.checkpoints(known),
            target,
            owner: Arc::clone(&self.credit),
            discarded,
            alive: Alive::default(),
        });
        self.ports.insert(job, Arc::clone(&port));
        Some(port)
    }

    /// Functions that are about to run go on from what their job's node kept.
    pub(super) fn learn(
        &mut self,
        job: JobInstance,
        spec: &Arc<HostSpec>,
        checkpoints: Vec<(Ordinal, Checkpoint)>,
    ) {
        let Some(port) = self.port(job, spec) else { return };
        for (child, checkpoint) in checkpoints {
            port.checkpoints.learn(child, checkpoint);
        }
    }
}
