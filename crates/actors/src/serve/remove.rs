//! `remove`: finished jobs go, with everything of theirs.

use std::sync::Arc;

use ractor::rpc::CallResult;
use sortie_engine::session::Place;
use sortie_model::EntryId;
use sortie_model::selector::{Selection, Selector};
use sortie_model::spec::StopSpec;
use sortie_wire::session_proto::{Answer, Entries, Trouble};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::session::SessionShared;
use crate::serve::{get, refuse, stop};
use crate::session::SessionMessage;

/// Removes what is selected; the entries that cannot be removed are an error each. With `force`
/// what is unfinished is stopped first.
pub(super) async fn remove(
    session: &Arc<SessionShared>,
    selection: Selection,
    by: &str,
    force: bool,
) -> Answer {
    let selected = session.select(&selection).await;
    if force {
        stop_first(session, &selected.places, by).await;
    }
    let mut troubles = selected.troubles;
    let mut entries = Vec::new();
    for place in selected.places {
        let id = match place {
            Place::Job(id) => id,
            Place::Child(parent, _) => {
                let hint = format!("children go with their job: `sortie remove {parent}`");
                troubles.push(is_child(session, place, parent, hint));
                continue;
            }
        };
        let view = match get::views(session, &[place]).await {
            Ok(view) => view,
            Err(error) => return refuse(error),
        };
        if drop_job(session, id).await {
            entries.extend(view);
        } else if session.table().facts(id).is_some() {
            troubles.push(not_finished(id));
        } else {
            troubles.push(gone(id));
        }
    }
    let total = entries.len() as u64;
    Answer::Entries(Entries { entries, total, troubles })
}

async fn stop_first(session: &Arc<SessionShared>, places: &[Place], by: &str) {
    let ids = places.iter().filter_map(|place| match place {
        Place::Job(id) => Some(Selector::Id(*id)),
        Place::Child(..) => None,
    });
    let selectors: Vec<Selector> = ids.collect();
    if !selectors.is_empty() {
        let selection = Selection { selectors, ..Selection::default() };
        stop::stop(session, selection, (StopSpec::default(), by), true).await;
    }
}

/// Removes one finished job; says whether it is gone.
pub(crate) async fn drop_job(session: &SessionShared, id: EntryId) -> bool {
    let Some(actor) = session.actor() else { return false };
    let removed = actor.call(|reply| SessionMessage::Remove(id, reply), None).await;
    matches!(removed, Ok(CallResult::Success(true)))
}

/// What is asked for is a matter of jobs, and this is a child.
pub(super) fn is_child(
    session: &SessionShared,
    place: Place,
    parent: EntryId,
    hint: String,
) -> Trouble {
    let id = get::id_of(session, place).map_or_else(String::new, |id| id.to_string());
    let error = RemoteError::new(ErrorCode::IsChild, format!("{id} is a child of job {parent}"));
    Trouble { about: id, error: error.hint(hint) }
}

/// Another removal was faster.
fn gone(id: EntryId) -> Trouble {
    let error = RemoteError::new(ErrorCode::NotFound, format!("job {id} was removed meanwhile"));
    Trouble { about: id.to_string(), error }
}

fn not_finished(id: EntryId) -> Trouble {
    let error = RemoteError::new(ErrorCode::NotFinished, format!("job {id} is not finished"));
    let hint = "stop it first, or use --force";
    Trouble { about: id.to_string(), error: error.hint(hint) }
}
