//! Children that an earlier life of the node left, and that its guardian kept.

use sortie_engine::host::Start;
use sortie_model::{ChildKey, JobInstance};
use sortie_wire::host_proto::HostSpec;

use crate::child_job::{Group, GroupId, Left, Survivor, Tell};
use crate::host::{HostState, Owner};

/// Children of one job that an earlier life of the node left.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) job: JobInstance,
    pub(crate) spec: HostSpec,
    /// The spec is what was noted of the children.
    pub(crate) partial: bool,
    pub(crate) children: Vec<Survivor>,
}

impl HostState {
    /// Takes them over.
    pub(super) fn adopt(&mut self, adoption: Adoption) {
        let Adoption { job, spec, partial, children } = adoption;
        let Some(guardian) = self.node.guardians.current() else { return };
        let lives: Vec<_> =
            children.iter().map(|it| (it.start.ordinal, it.start.incarnation)).collect();
        let spec = self.host.on_adopted(job, (spec, partial), &lives);
        let Some(port) = self.port(job, &spec) else { return };
        for child in children {
            if matches!(self.owner, Owner::There(..)) {
                let Start { ordinal, incarnation, .. } = child.start;
                self.outbox.keeps(ChildKey { job, ordinal }, incarnation);
            }
            self.credit.add_children(1);
            self.groups += 1;
            let id = GroupId(self.groups);
            let left = Left::new(1, id, &self.ended, Tell::AtOnce);
            self.running.insert(id, Group::resume(&port, &guardian, vec![child], &left));
        }
    }
}
