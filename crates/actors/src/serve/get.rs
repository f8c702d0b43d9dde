//! `get`, and the entries of every other answer.

use std::collections::HashMap;
use std::sync::Arc;

use sortie_engine::select::{Page, Selected};
use sortie_engine::session::Place;
use sortie_model::selector::Query;
use sortie_model::spec::{BodySpec, InputSpec};
use sortie_model::view::EntryView;
use sortie_model::{ChildView, EntryId, JobView, NodeName, Ordinal, Question, limits};
use sortie_wire::RemoteError;
use sortie_wire::session_proto::Entries;

use crate::data::archived::Archived;
use crate::data::job::JobShared;
use crate::data::mailboxes::FullBecause;
use crate::data::session::SessionShared;

/// One page of what a query finds.
///
/// # Errors
/// As for [`views`].
pub(super) async fn get(session: &SessionShared, query: &Query) -> Result<Entries, RemoteError> {
    let Page { places, total, troubles } = session.query(query).await;
    Ok(Entries { entries: views(session, &places).await?, total, troubles })
}

/// What a selection names, in its order: a page of it, if there is more.
///
/// # Errors
/// As for [`views`].
pub(super) async fn listed(
    session: &SessionShared,
    selected: Selected,
) -> Result<Entries, RemoteError> {
    let Selected { places, troubles } = selected;
    let entries = views(session, &places).await?;
    Ok(Entries { entries, total: places.len() as u64, troubles })
}

/// These entries as they are now, without those that are gone; no more than one answer may hold.
///
/// # Errors
/// [`ErrorCode::Storage`](sortie_wire::ErrorCode) when the journal cannot be read.
pub(super) async fn views(
    session: &SessionShared,
    places: &[Place],
) -> Result<Vec<EntryView>, RemoteError> {
    let selected = places.iter().filter(|place| matches!(place, Place::Job(_)));
    // Children's numbers belong to answers about one job.
    let ids = selected.count() == 1;
    let places = places.get(..limits::PAGE_MOST).unwrap_or(places);
    let rows = archived(session, places);
    let mut archived = HashMap::new();
    for (row, entry) in session.entries(rows).await? {
        archived.insert(entry.id, row.view(entry, session.identity.id, ids));
    }
    let (mut entries, mut bytes, mut last) = (Vec::new(), 0, None);
    for place in places {
        let entry = match place {
            // Views are made when the table is free again: they lock each job, and cost more.
            Place::Job(id) => match archived.remove(id) {
                Some(mut view) => {
                    cut(&mut view.command);
                    Some(EntryView::Job(view))
                }
                None => {
                    // It may have been put away since the rows were looked at.
                    let job = session.bring(*id).await?;
                    job.map(|job| EntryView::Job(job_view(session, &job, ids)))
                }
            },
            Place::Child(id, ordinal) => {
                child_at(session, (*id, *ordinal), &mut last).await?.map(EntryView::Child)
            }
        };
        let Some(entry) = entry else { continue };
        bytes += weight(&entry);
        if bytes > limits::ENTRIES_BYTES {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The rows of those jobs that are archived.
fn archived(session: &SessionShared, places: &[Place]) -> Vec<Archived> {
    let table = session.table();
    let rows = places.iter().filter_map(|place| match place {
        Place::Job(id) => table.archived(*id).cloned(),
        Place::Child(..) => None,
    });
    rows.collect()
}

/// The child at that place; `last` is the job of the one before, which is often its own.
async fn child_at(
    session: &SessionShared,
    (id, ordinal): (EntryId, Ordinal),
    last: &mut Option<Arc<JobShared>>,
) -> Result<Option<ChildView>, RemoteError> {
    if last.as_ref().is_none_or(|job| job.identity.id != id) {
        *last = session.bring(id).await?;
    }
    Ok(last.as_ref().and_then(|job| child_view(session, job, ordinal)))
}

/// The number of what is at that place.
pub(super) fn id_of(session: &SessionShared, place: Place) -> Option<EntryId> {
    match place {
        Place::Job(id) => Some(id),
        Place::Child(id, ordinal) => session.table().facts(id)?.child_id(ordinal),
    }
}

/// What the children at that place ask and nobody has answered, in child order; the first so many.
pub(super) fn questions(
    session: &SessionShared,
    place: Place,
    most: usize,
) -> Vec<(EntryId, Question)> {
    let (Place::Job(id) | Place::Child(id, _)) = place;
    let Some(job) = session.table().job(id).cloned() else { return Vec::new() };
    let rows = job.rows();
    let ordinals: Vec<Ordinal> = match place {
        Place::Job(_) => rows.asking().map(|(ordinal, _)| ordinal).take(most).collect(),
        Place::Child(_, ordinal) => vec![ordinal],
    };
    let asked = ordinals.into_iter().filter_map(|ordinal| {
        let id = rows.child_id(ordinal)?;
        Some((id, rows.question(ordinal)?))
    });
    asked.collect()
}

/// The job as it is shown. `ids` says whether its children's numbers are wanted.
pub(super) fn job_view(session: &SessionShared, job: &JobShared, ids: bool) -> JobView {
    let mut view = job.view(ids);
    if view.stopped_by.is_some() && !view.state.is_finished() {
        view.stop_pending = stop_pending(session, job);
    }
    if held_back(session, job).is_some() {
        let here = u64::from(job.rows().unfinished_on(session.node.me.id));
        view.paused = view.paused.max(here);
    }
    cut(&mut view.command);
    view
}

/// The child as it is shown.
pub(super) fn child_view(
    session: &SessionShared,
    job: &JobShared,
    place: Ordinal,
) -> Option<ChildView> {
    let mut view = job.child_view(place)?;
    let is_here = job.rows().runs_on(place, session.node.me.id);
    let is_on = !view.state.is_finished() && view.queue_position.is_none();
    let may_be_held = view.paused.is_none() && is_here && is_on;
    if may_be_held && view.begin_time.is_none() {
        if is_kept(job) && session.node.guardians.lacks_room() {
            let because = FullBecause::DiskFull;
            view.notes.push(format!("not begun: {because}"));
            view.paused = Some(because.to_string());
        }
    } else if may_be_held && let Some(because) = held_back(session, job) {
        view.notes.push(format!("output paused: {because}"));
        view.paused = Some(because.to_string());
    }
    cut(&mut view.command);
    Some(view)
}

/// Why this node's guardian reads nothing at present of what the job's children write here, if it
/// is the guardian that reads it.
fn held_back(session: &SessionShared, job: &JobShared) -> Option<FullBecause> {
    session.node.guardians.holds_back().filter(|_| is_kept(job))
}

/// Whether the guardians of its nodes keep its children.
fn is_kept(job: &JobShared) -> bool {
    let rows = job.rows();
    let (body, input) = (&rows.spec().body, &rows.spec().input);
    let is_process = matches!(body, BodySpec::Command { .. } | BodySpec::Script { .. });
    is_process && !matches!(input, InputSpec::Terminal(_)) && job.durable.is_some()
}

/// Nodes that a stop has not reached because they cannot be reached.
fn stop_pending(session: &SessionShared, job: &JobShared) -> Vec<NodeName> {
    let rows = job.rows();
    let used = rows.nodes().filter(|(id, _)| *id != session.node.me.id && rows.uses(*id));
    let away = used
        .filter(|(id, _)| session.node.sights.get(*id).is_none_or(|sight| sight.link.is_none()));
    away.map(|(_, name)| name.clone()).collect()
}

/// Bytes of an entry's fields that have no small bound, and a guess for the others.
fn weight(entry: &EntryView) -> usize {
    const FIXED: usize = 512;
    let notes = |notes: &[String]| notes.iter().map(String::len).sum::<usize>();
    FIXED
        + match entry {
            EntryView::Job(job) => {
                let pending = job.stop_pending.len() * limits::NODE_NAME_BYTES;
                let ids = job.children.len() * 10;
                job.command.len() + job.location.len() + notes(&job.notes) + pending + ids
            }
            EntryView::Child(child) => {
                let reason = child.reason.as_ref().map_or(0, |reason| reason.to_string().len());
                child.command.len() + notes(&child.notes) + reason
            }
        }
}

/// Cuts a command to what is shown of it.
fn cut(command: &mut String) {
    if command.len() <= limits::COMMAND_SHOWN_BYTES {
        return;
    }
    let mut end = limits::COMMAND_SHOWN_BYTES - '…'.len_utf8();
    while !command.is_char_boundary(end) {
        end -= 1;
    }
    command.truncate(end);
    command.push('…');
    command.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_cut_at_a_character() {
        let mut short = "é".repeat(limits::COMMAND_SHOWN_BYTES / 2);
        let whole = short.clone();
        cut(&mut short);
        assert_eq!(short, whole);
        let mut long = format!("x{}", "é".repeat(limits::COMMAND_SHOWN_BYTES));
        cut(&mut long);
        assert!(long.ends_with('…') && long.len() <= limits::COMMAND_SHOWN_BYTES);
    }
}
