//! `stop`, and changing a job's throttle.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use sortie_engine::select::Selected;
use sortie_engine::session::Place;
use sortie_model::selector::Selection;
use sortie_model::spec::{StopSpec, Throttle};
use sortie_model::{EntryId, Ordinal, limits};
use sortie_wire::host_proto::ChildSet;
use sortie_wire::session_proto::{Answer, Entries, Trouble};

use crate::data::durable::Kept;
use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::parent_job::ParentJobMessage;
use crate::serve::{get, refuse, remove};

/// Stops what is selected; stopping what is finished is no error. With `wait` it answers when all
/// are finished, at the latest [`limits::STOP_MARGIN`] after the longest grace.
pub(super) async fn stop(
    session: &Arc<SessionShared>,
    selection: Selection,
    (how, by): (StopSpec, &str),
    wait: bool,
) -> Answer {
    let selected = session.select(&selection).await;
    let targets = targets(session, &selected.places);
    let mut changes = session.changes();
    for (job, children) in &targets {
        let (children, by) = (children.clone(), by.to_owned());
        job.tell(ParentJobMessage::Stop { children, how, by });
    }
    if wait {
        let grace = targets.iter().map(|(job, _)| {
            let rows = job.rows();
            let before = rows.stop().and_then(|(before, _)| before.grace);
            how.grace.or(before).unwrap_or(rows.spec().grace)
        });
        let most = grace.max().unwrap_or_default().saturating_add(limits::STOP_MARGIN);
        let all = async {
            while !targets.iter().all(|(job, children)| has_ended(job, children)) {
                changes.changed().await;
            }
        };
        // What is not finished by then shows its state: a node that is away, for one.
        let _ = tokio::time::timeout(most, all).await;
    }
    let unkept = until_kept(&targets).await;
    shown(session, &selected.places, [selected.troubles, unkept].concat()).await
}

/// Changes the throttle of the selected jobs; a child has none.
pub(super) async fn set_throttle(
    session: &SessionShared,
    selection: &Selection,
    throttle: Throttle,
) -> Answer {
    let Selected { places, mut troubles } = session.select(selection).await;
    let (jobs, children): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|place| matches!(place, Place::Job(_)));
    let told = targets(session, &jobs);
    told.iter().for_each(|(job, _)| job.tell(ParentJobMessage::Throttle(throttle)));
    troubles.extend(until_kept(&told).await);
    troubles.extend(children.into_iter().map(|place| {
        let (Place::Job(job) | Place::Child(job, _)) = place;
        let hint = format!("a throttle is a job's: `sortie throttle {job} -j N`");
        remove::is_child(session, place, job, hint)
    }));
    shown(session, &jobs, troubles).await
}

/// Waits until what these jobs were told is kept: what was answered holds also when the node dies
/// now. Where the disk takes nothing it waits [`limits::STOP_MARGIN`] and says so; it is in effect
/// all the same, and is tried again.
pub(super) async fn until_kept(told: &[(Arc<JobShared>, ChildSet)]) -> Vec<Trouble> {
    let over = tokio::time::Instant::now() + limits::STOP_MARGIN;
    let all = told.iter().map(|(job, _)| async move {
        let kept = tokio::time::timeout_at(over, job.word_kept()).await.unwrap_or(Kept::NotYet);
        let error = kept.of_word(job.identity.id).err()?;
        Some(Trouble { about: job.identity.id.to_string(), error })
    });
    join_all(all).await.into_iter().flatten().collect()
}

/// The answer of a verb that was about these entries.
pub(super) async fn shown(
    session: &SessionShared,
    places: &[Place],
    troubles: Vec<Trouble>,
) -> Answer {
    match get::views(session, places).await {
        Ok(entries) => {
            let total = entries.len() as u64;
            Answer::Entries(Entries { entries, total, troubles })
        }
        Err(error) => refuse(error),
    }
}

/// Which children of which jobs; a job that is named is meant whole. Archived ones are left out:
/// nothing of them moves.
pub(super) fn targets(
    session: &SessionShared,
    places: &[Place],
) -> Vec<(Arc<JobShared>, ChildSet)> {
    let table = session.table();
    let found = by_job(places).into_iter();
    found.filter_map(|(id, children)| Some((Arc::clone(table.job(id)?), children))).collect()
}

/// Which children of which jobs, by number.
pub(super) fn by_job(places: &[Place]) -> BTreeMap<EntryId, ChildSet> {
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
    let all = by_job.into_iter();
    all.map(|(id, some)| (id, some.map_or(ChildSet::All, ChildSet::Some))).collect()
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
