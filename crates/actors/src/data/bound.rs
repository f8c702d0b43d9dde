//! Jobs of a session that are bound to each other; the decisions are `sortie_engine::bonds`'s.

use sortie_engine::bonds::BondRefused;
use sortie_model::JobInstance;
use sortie_model::spec::StopSpec;
use sortie_wire::host_proto::ChildSet;
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::parent_job::ParentJobMessage;

impl SessionShared {
    /// Binds two jobs.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] for a job that is not there, [`ErrorCode::Usage`] for a job and
    /// itself, [`ErrorCode::Limit`].
    pub(crate) fn bind(&self, first: JobInstance, second: JobInstance) -> Result<(), RemoteError> {
        let find = |instance| {
            let gone = || RemoteError::new(ErrorCode::NotFound, "one of the jobs is not there");
            self.job(instance).ok_or_else(gone)
        };
        let (one, two) = (find(first)?, find(second)?);
        // An end that comes after the states were read finds the bond.
        let bound = {
            let mut bonds = self.bonds();
            bonds.bind((first, one.rows().state()), (second, two.rows().state()))
        };
        match bound.map_err(refusal)? {
            Some(stop) if stop == first => stop_bound(&one, &two),
            Some(_) => stop_bound(&two, &one),
            None => {}
        }
        Ok(())
    }

    /// A job has finished: so have those that are bound to it, unless it ended well.
    pub(crate) fn stop_bound_to(&self, job: &JobShared) {
        let state = job.rows().state();
        let partners = self.bonds().on_finished(job.identity.instance, state);
        for partner in partners.into_iter().filter_map(|partner| self.job(partner)) {
            stop_bound(&partner, job);
        }
    }
}

fn stop_bound(job: &JobShared, ended: &JobShared) {
    let by = format!("the end of job {}, to which it is bound", ended.identity.id);
    let how = StopSpec::default();
    job.tell(ParentJobMessage::Stop { children: ChildSet::All, how, by });
}

fn refusal(refused: BondRefused) -> RemoteError {
    let code = match refused {
        BondRefused::Itself => ErrorCode::Usage,
        BondRefused::TooMany => ErrorCode::Limit,
    };
    RemoteError::new(code, refused.to_string())
}
