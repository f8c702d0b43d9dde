//! What children execute on this node.

use sortie_exec::Guardian;
use sortie_exec::registry::NotCallable;
use sortie_model::Reason;
use sortie_model::reason::SpawnStep;
use sortie_model::spec::{BodySpec, RunIn};
use sortie_wire::host_proto::HostSpec;

use crate::child_job::Work;
use crate::host::HostState;

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

    fn by_guardian(&self, work: fn(Guardian) -> Work) -> Work {
        match &self.node.guardian {
            Some(guardian) if guardian.is_alive() => work(guardian.clone()),
            _ => Work::Nothing(Reason::Spawn { step: SpawnStep::Guardian, errno: 0 }),
        }
    }
}
