//! `suspend` and `resume`.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_engine::parent_job::{ParentJob, Unmoved};
use sortie_engine::select::JobFacts;
use sortie_engine::session::Place;
use sortie_model::selector::Selection;
use sortie_model::{EntryId, Motion, Ordinal, State, limits};
use sortie_wire::host_proto::ChildSet;
use sortie_wire::session_proto::{Answer, Trouble};
use sortie_wire::{ErrorCode, RemoteError};
use tokio::sync::oneshot;

use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::parent_job::ParentJobMessage;
use crate::serve::stop;

/// Suspends what is selected, or lets it go on. What does not run, or was not told to suspend, is a
/// trouble and left as it is. With `wait` it answers when the rest does what it was told, at the
/// latest after [`limits::SUSPEND_WAIT`].
pub(super) async fn suspend(
    session: &Arc<SessionShared>,
    selection: &Selection,
    motion: Motion,
    wait: bool,
) -> Answer {
    let selected = session.select(selection).await;
    let targets = stop::targets(session, &selected.places);
    let mut troubles = of_archived(session, &selected.places, motion);
    let mut changes = session.changes();
    let mut told = Vec::new();
    for (job, children) in targets {
        let (reply, answer) = oneshot::channel();
        job.tell(ParentJobMessage::Move { children: children.clone(), motion, reply });
        told.push((job, children, answer));
    }
    let mut moving = Vec::new();
    for (job, children, answer) in told {
        // A job that has finished has nobody who answers.
        let unmoved = answer.await.unwrap_or_else(|_| all_of(&children));
        let unmoved = unmoved.iter().map(|it| trouble(of(&job, *it), motion));
        troubles.insert(job.identity.id, unmoved.collect());
        moving.push((job, children));
    }
    if wait {
        let all = async {
            while !moving.iter().all(|(job, children)| job.rows().does(children, motion)) {
                changes.changed().await;
            }
        };
        // What is not there by then shows its state: a function far from its next checkpoint, a
        // node that is away.
        let _ = tokio::time::timeout(limits::SUSPEND_WAIT, all).await;
    }
    let unkept = stop::until_kept(&moving).await;
    let troubles = selected.troubles.into_iter().chain(troubles.into_values().flatten());
    stop::shown(session, &selected.places, troubles.chain(unkept).collect()).await
}

/// What is archived has finished: by job.
fn of_archived(
    session: &SessionShared,
    places: &[Place],
    motion: Motion,
) -> BTreeMap<EntryId, Vec<Trouble>> {
    let table = session.table();
    let named = stop::by_job(places).into_iter();
    let archived = named.filter_map(|(id, children)| Some((table.archived(id)?, id, children)));
    let troubles = archived.map(|(row, id, children)| {
        let all = all_of(&children).into_iter();
        let said = all.map(|unmoved| match unmoved {
            Unmoved::Job => trouble((id, row.state()), motion),
            Unmoved::Child(ordinal) => {
                let state = row.child_state(ordinal).unwrap_or(row.state());
                trouble((row.child_id(ordinal).unwrap_or(id), state), motion)
            }
        });
        (id, said.collect())
    });
    troubles.collect()
}

fn all_of(children: &ChildSet) -> Vec<Unmoved> {
    match children {
        ChildSet::All => vec![Unmoved::Job],
        ChildSet::Some(some) => some.iter().copied().map(Unmoved::Child).collect(),
    }
}

/// The number of what did not move, and its state.
fn of(job: &JobShared, unmoved: Unmoved) -> (EntryId, State) {
    let rows = job.rows();
    match unmoved {
        Unmoved::Job => (rows.identity().id, rows.state()),
        Unmoved::Child(ordinal) => of_child(&rows, ordinal),
    }
}

fn trouble((id, state): (EntryId, State), motion: Motion) -> Trouble {
    let (code, why) = match motion {
        Motion::Suspended => (ErrorCode::NotRunning, "it does not run, and cannot be suspended"),
        Motion::Running => (ErrorCode::NotSuspended, "it was not suspended"),
    };
    let error = RemoteError::new(code, format!("{id} is {state}: {why}"));
    Trouble { about: id.to_string(), error }
}

fn of_child(rows: &ParentJob, ordinal: Ordinal) -> (EntryId, State) {
    // A selection names children that there are.
    let id = rows.child_id(ordinal).unwrap_or(rows.identity().id);
    (id, rows.child_state(ordinal).unwrap_or(State::NotStarted))
}
