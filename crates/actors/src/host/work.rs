//! What children execute on this node.

use std::sync::Arc;

use sortie_exec::registry::NotCallable;
use sortie_model::Reason;
use sortie_model::reason::SpawnStep;
use sortie_model::spec::{BodySpec, RunIn};
use sortie_wire::host_proto::HostSpec;

use crate::child_job::Work;
use crate::host::HostState;
use crate::node::guardians::Guardians;

impl HostState {
    /// What the children execute here, or why nothing can.
    pub(super) fn work(&self, spec: &HostSpec) -> Work {
        match &spec.body {
            BodySpec::Task { name, types, run_in, .. } => {
                let name = name.clone();
                match (self.node.registry.find(&name, *types, *run_in), run_in) {
                    (Ok(task), RunIn::Thread) => Work::Function(task),
                    (Ok(_), RunIn::Background) => self.by_guardian(Work::Worker),
                    (Err(NotCallable::Unknown), _) => Work::Nothing(Reason::UnknownTask { name }),
                    (Err(NotCallable::OtherTypes), _) => Work::Nothing(Reason::TaskTypes { name }),
                    (Err(NotCallable::OnlyInside), _) => {
                        Work::Nothing(Reason::NoBackground { name })
                    }
                }
            }
            BodySpec::Command { .. } | BodySpec::Script { .. } => self.by_guardian(Work::Process),
        }
    }

    fn by_guardian(&self, work: fn(Arc<Guardians>) -> Work) -> Work {
        let guardians = &self.node.guardians;
        match guardians.current() {
            Some(_) => work(Arc::clone(guardians)),
            None => Work::Nothing(Reason::Spawn { step: SpawnStep::Guardian, errno: 0 }),
        }
    }
}
