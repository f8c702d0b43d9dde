//! `stop`, and changing a job's throttle.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_engine::select::select;
use sortie_engine::session::Place;
use sortie_model::selector::Selection;
use sortie_model::spec::{StopSpec, Throttle};
use sortie_model::{EntryId, Ordinal, limits};
use sortie_wire::host_proto::ChildSet;
use sortie_wire::session_proto::{Answer, Entries};

use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::parent_job::ParentJobMessage;
use crate::serve::get;

/// Stops what is selected; stopping what is finished is no error. With `wait` it answers when all
/// are finished, at the latest [`limits::STOP_MARGIN`] after the longest grace.
pub(super) async fn stop(
    session: &Arc<SessionShared>,
    selection: Selection,
    (how, by): (StopSpec, &str),
    wait: bool,
) -> Answer {
    let selected = select(&selection, &session.table());
    let targets = targets(session, &selected.places);
    let mut changes = session.changes();
    for (job, children) in &targets {
        let (children, by) = (children.clone(), by.to_owned());
        job.tell(ParentJobMessage::Stop { children, how, by });
    }
    if wait {
        let grace = targets.iter().map(|(job, _)| how.grace.unwrap_or(job.rows().spec().grace));
        let most = grace.max().unwrap_or_default().saturating_add(limits::STOP_MARGIN);
        let all = async {
            while !targets.iter().all(|(job, children)| has_ended(job, children)) {
                changes.changed().await;
            }
        };
        // What is not finished by then shows its state: a node that is away, for one.
        let _ = tokio::time::timeout(most, all).await;
    }
    let entries = get::views(session, &selected.places);
    let total = entries.len() as u64;
    Answer::Entries(Entries { entries, total, troubles: selected.troubles })
}

/// Changes the throttle of the selected jobs.
pub(super) fn set_throttle(
    session: &SessionShared,
    selection: &Selection,
    throttle: Throttle,
) -> Answer {
    let selected = select(selection, &session.table());
    for place in &selected.places {
        if let Place::Job(id) = place
            && let Some(job) = session.table().job(*id)
        {
            job.tell(ParentJobMessage::Throttle(throttle));
        }
    }
    let entries = get::views(session, &selected.places);
    let total = entries.len() as u64;
    Answer::Entries(Entries { entries, total, troubles: selected.troubles })
}

/// Which children of which jobs; a job that is named stops whole.
fn targets(session: &SessionShared, places: &[Place]) -> Vec<(Arc<JobShared>, ChildSet)> {
    let mut by_job: BTreeMap<EntryId, Option<Vec<Ordinal>>> = BTreeMap::new();
    for place in places {
        match place {
            Place::Job(id) => {
                by_job.insert(*id, None);
            }
            Place::Child(id, ordinal) => {
                if let Some(some) = by_job.entry(*id).or_insert_with(|| Some(Vec::new())) {
                    some.push(*ordinal);
                }
            }
        }
    }
    let table = session.table();
    let found = by_job.into_iter().filter_map(|(id, some)| {
        let children = some.map_or(ChildSet::All, ChildSet::Some);
        Some((Arc::clone(table.job(id)?), children))
    });
    found.collect()
}

fn has_ended(job: &JobShared, children: &ChildSet) -> bool {
    let rows = job.rows();
    match children {
        ChildSet::All => rows.state().is_finished(),
        ChildSet::Some(some) => some
            .iter()
            .all(|ordinal| rows.child_state(*ordinal).is_none_or(|state| state.is_finished())),
    }
}
