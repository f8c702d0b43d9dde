//! Children that outlived their node.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use sortie_model::{ChildIncarnation, JobInstance, Ordinal};
use sortie_wire::codec::encoded_length;
use sortie_wire::host_proto::HostSpec;

use crate::host::{Host, HostedJob, is_process};

impl Host {
    /// Children that run here since before this node's present life, or have ended since. A partial
    /// spec is enough to go on with them, and starts nothing.
    pub fn on_adopted(
        &mut self,
        job: JobInstance,
        (spec, partial): (HostSpec, bool),
        children: &[(Ordinal, ChildIncarnation)],
    ) -> Arc<HostSpec> {
        let is_process = is_process(&spec);
        let spec_bytes = encoded_length(&spec).unwrap_or(usize::MAX);
        if !self.jobs.contains_key(&job) {
            self.specs = self.specs.saturating_add(spec_bytes);
        }
        let hosted = self.jobs.entry(job).or_insert_with(|| HostedJob {
            spec: Arc::new(spec),
            partial,
            spec_bytes,
            accepted: HashMap::new(),
            learned: HashMap::new(),
            queued: VecDeque::new(),
            held: HashSet::new(),
            unborn: HashSet::new(),
            running: 0,
            is_adopted: true,
        });
        hosted.accepted.extend(children.iter().copied());
        hosted.running += children.len() as u32;
        if is_process {
            self.processes += children.len();
        }
        Arc::clone(&hosted.spec)
    }

    /// What the owner hears of the node's memory where these of its jobs are `unknown` here:
    /// whether whatever ever began is known. What was told to the node's present life is, also
    /// where its machine failed before that. Beside unknown jobs one answer is for all.
    pub fn remembers(&self, node_remembers: bool, unknown: &[JobInstance]) -> bool {
        node_remembers || (unknown.is_empty() && !self.jobs.values().any(|job| job.is_adopted))
    }
}
