//! Jobs and children of a session that are bound to each other; the decisions are
//! `sortie_engine::bonds`'s.

use std::sync::Arc;

use sortie_engine::bonds::BondRefused;
use sortie_model::spec::StopSpec;
use sortie_model::{Bound, ChildKey, Ordinal, State};
use sortie_wire::host_proto::ChildSet;
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::job::JobShared;
use crate::data::session::{News, SessionShared};
use crate::parent_job::ParentJobMessage;

impl SessionShared {
    /// Binds two jobs or children.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] for what is not there, [`ErrorCode::Usage`] for one and itself,
    /// [`ErrorCode::Limit`].
    pub(crate) async fn bind(&self, first: Bound, second: Bound) -> Result<(), RemoteError> {
        let (one, two) = (self.job_of(first).await?, self.job_of(second).await?);
        // An end that comes after they were looked at finds the bond.
        let bound = {
            let mut bonds = self.bonds();
            bonds.bind((first, final_end(&one, first)), (second, final_end(&two, second)))
        };
        match bound.map_err(refusal)? {
            Some(stop) if stop == first => stop_bound((&one, first), &name(&two, second)),
            Some(_) => stop_bound((&two, second), &name(&one, first)),
            None => {}
        }
        Ok(())
    }

    async fn job_of(&self, one: Bound) -> Result<Arc<JobShared>, RemoteError> {
        let job = self.bring_instance(one.job()).await?.filter(|job| match one {
            Bound::Job(_) => true,
            Bound::Child(key) => job.rows().child_state(key.ordinal).is_some(),
        });
        let what = match one {
            Bound::Job(_) => "job",
            Bound::Child(_) => "child",
        };
        let text = || format!("the session has no such {what}: both must be of one session");
        job.ok_or_else(|| RemoteError::new(ErrorCode::NotFound, text()))
    }

    /// Something of a job has changed. What is bound to what has ended by that is stopped, unless
    /// it ended well.
    pub(crate) fn stop_bound_to(&self, job: &JobShared, news: &News) {
        let instance = job.identity.instance;
        let finished = news.parent.iter().copied().find(|state| state.is_finished());
        let mut children: Vec<Ordinal> = news.settled.clone();
        {
            let bonds = self.bonds();
            if bonds.is_empty() {
                return;
            }
            if finished.is_some() {
                children.extend(bonds.children_of(instance));
            }
        }
        let ended = news.children.iter().filter(|(_, _, state, _)| state.is_finished());
        children.extend(ended.map(|(ordinal, ..)| *ordinal));
        let children = children.into_iter().map(|ordinal| {
            let child = Bound::Child(ChildKey { job: instance, ordinal });
            (child, final_end(job, child))
        });
        for (one, end) in children.chain([(Bound::Job(instance), finished)]) {
            let Some(end) = end else { continue };
            let partners = self.bonds().on_ended(one, end);
            for partner in partners {
                if let Some(other) = self.job(partner.job()) {
                    stop_bound((&other, partner), &name(job, one));
                }
            }
        }
    }
}

/// How it ended, if nothing of it can follow.
fn final_end(job: &JobShared, one: Bound) -> Option<State> {
    let rows = job.rows();
    match one {
        Bound::Job(_) => Some(rows.state()).filter(|state| state.is_finished()),
        Bound::Child(key) => rows.final_end(key.ordinal),
    }
}

fn name(job: &JobShared, one: Bound) -> String {
    match one {
        Bound::Job(_) => format!("job {}", job.identity.id),
        Bound::Child(key) => match job.rows().child_id(key.ordinal) {
            Some(id) => format!("child {id}"),
            None => format!("a child of job {}", job.identity.id),
        },
    }
}

fn stop_bound((job, one): (&JobShared, Bound), ended: &str) {
    let by = format!("the end of {ended}, to which it is bound");
    let children = match one {
        Bound::Job(_) => ChildSet::All,
        Bound::Child(key) => ChildSet::Some(vec![key.ordinal]),
    };
    job.tell(ParentJobMessage::Stop { children, how: StopSpec::default(), by });
}

fn refusal(refused: BondRefused) -> RemoteError {
    let code = match refused {
        BondRefused::Itself => ErrorCode::Usage,
        BondRefused::TooMany => ErrorCode::Limit,
    };
    RemoteError::new(code, refused.to_string())
}
