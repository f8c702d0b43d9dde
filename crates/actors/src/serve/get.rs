//! `get`, and the entries of every other answer.

use std::collections::HashMap;
use std::sync::Arc;

use sortie_engine::select::{Selected, run};
use sortie_engine::session::{Place, SessionTable};
use sortie_model::selector::Query;
use sortie_model::view::EntryView;
use sortie_model::{ChildView, EntryId, JobView, NodeName, Ordinal, Question, limits};
use sortie_wire::session_proto::Entries;

use crate::data::job::JobShared;
use crate::data::session::SessionShared;

/// One page of what a query finds.
pub(super) fn get(session: &SessionShared, query: &Query) -> Entries {
    // Views are made when the table is free again: they lock each job, and cost more.
    let (page, jobs) = {
        let table = session.table();
        let page = run(query, &table);
        let jobs = jobs_of(&page.places, &table);
        (page, jobs)
    };
    let entries = shown(session, &page.places, &jobs);
    Entries { entries, total: page.total, troubles: page.troubles }
}

/// What a selection names, in its order: a page of it, if there is more.
pub(super) fn listed(session: &SessionShared, selected: Selected) -> Entries {
    let Selected { places, troubles } = selected;
    let entries = views(session, &places);
    Entries { entries, total: places.len() as u64, troubles }
}

/// These entries as they are now, without those that are gone; no more than one answer may hold.
pub(super) fn views(session: &SessionShared, places: &[Place]) -> Vec<EntryView> {
    let jobs = jobs_of(places, &session.table());
    shown(session, places, &jobs)
}

/// The number of what is at that place.
pub(super) fn id_of(session: &SessionShared, place: Place) -> Option<EntryId> {
    match place {
        Place::Job(id) => Some(id),
        Place::Child(id, ordinal) => {
            let job = session.table().job(id).cloned()?;
            let rows = job.rows();
            rows.child_id(ordinal)
        }
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
    cut(&mut view.command);
    view
}

/// The child as it is shown.
pub(super) fn child_view(job: &JobShared, place: Ordinal) -> Option<ChildView> {
    let mut view = job.child_view(place)?;
    cut(&mut view.command);
    Some(view)
}

/// Nodes that a stop has not reached because they cannot be reached.
fn stop_pending(session: &SessionShared, job: &JobShared) -> Vec<NodeName> {
    let rows = job.rows();
    let used = rows.nodes().filter(|(id, _)| *id != session.node.me.id && rows.uses(*id));
    let away = used
        .filter(|(id, _)| session.node.sights.get(*id).is_none_or(|sight| sight.link.is_none()));
    away.map(|(_, name)| name.clone()).collect()
}

type Jobs = HashMap<EntryId, Arc<JobShared>>;

fn jobs_of(places: &[Place], table: &SessionTable<Arc<JobShared>>) -> Jobs {
    let ids = places.iter().map(|(Place::Job(id) | Place::Child(id, _))| *id);
    ids.filter_map(|id| Some((id, Arc::clone(table.job(id)?)))).collect()
}

fn shown(session: &SessionShared, places: &[Place], jobs: &Jobs) -> Vec<EntryView> {
    let selected = places.iter().filter(|place| matches!(place, Place::Job(_)));
    // Children's numbers belong to answers about one job.
    let ids = selected.count() == 1;
    let mut entries = Vec::new();
    let mut bytes = 0;
    for place in places.iter().take(limits::PAGE_MOST) {
        let entry = match place {
            Place::Job(id) => jobs.get(id).map(|job| EntryView::Job(job_view(session, job, ids))),
            Place::Child(id, ordinal) => {
                jobs.get(id).and_then(|job| child_view(job, *ordinal)).map(EntryView::Child)
            }
        };
        let Some(entry) = entry else { continue };
        bytes += weight(&entry);
        if bytes > limits::ENTRIES_BYTES {
            break;
        }
        entries.push(entry);
    }
    entries
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
