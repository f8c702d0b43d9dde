//! What an executing node is told of a job.

use sortie_model::NodeName;
use sortie_model::spec::{EnvironmentSpec, Fan, Hosting};
use sortie_wire::host_proto::HostSpec;

use crate::parent_job::ParentJob;

/// Whether the executing node is the session's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executor {
    /// It is: a child gets the caller's environment and directory.
    OwnNode,
    /// It is not: a child gets the node's clean environment and its user's home.
    OtherNode,
}

/// The session that a job belongs to, as executing nodes are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Its node's name.
    pub node: &'a NodeName,
    /// How many levels of jobs it is below a user's own session.
    pub level: u32,
    /// Whether the job outlives its node.
    pub hosting: Hosting,
}

impl ParentJob {
    /// What an executing node is told of this job.
    pub fn host_spec(&self, executor: Executor, owner: Owner<'_>) -> HostSpec {
        let spec = self.spec();
        let mut environment = spec.environment.clone();
        if executor == Executor::OtherNode {
            let set = environment.set;
            environment = EnvironmentSpec { set, ..EnvironmentSpec::default() };
        }
        HostSpec {
            body: spec.body.clone(),
            template: !matches!(spec.fan, Fan::PerNode { .. }),
            input: spec.input.clone(),
            timeout: spec.timeout,
            grace: spec.grace,
            drain: spec.drain,
            output_limit: spec.output_limit,
            init: spec.init.clone(),
            directory: spec.directory.clone(),
            environment,
            hosting: owner.hosting,
            session: self.identity().session.0,
            job: self.identity().id.0,
            owner_node: owner.node.clone(),
            level: owner.level,
        }
    }
}
