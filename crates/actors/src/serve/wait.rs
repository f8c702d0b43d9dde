//! `wait`: until enough entries are settled, or finished.

use std::sync::Arc;

use sortie_engine::select::{JobFacts, Selected};
use sortie_engine::session::Place;
use sortie_engine::wait::{Course, Until, answered, course};
use sortie_model::{Deadlock, Ordinal, State};
use sortie_wire::session_proto::{Answer, WaitSpec};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::data::session::archive::Jobs;
use crate::serve::{get, refuse};

/// Waits, at most for the given time. What is waited for is not changed by it.
pub(super) async fn wait(session: &SessionShared, spec: WaitSpec) -> Answer {
    let Selected { places, troubles } = session.select(&spec.selection).await;
    let mut watched = Watched::new(&places, &session.table());
    let until = Until::of(spec.finished);
    let mut changes = session.changes();
    let over = async {
        loop {
            // Marked as seen before the states are read: a change after that wakes us.
            changes.mark();
            watched.look();
            match course(&watched.states, spec.count, until) {
                _ if session.is_over() => return Err(ended(session)),
                Course::Over => return Ok(()),
                Course::Blocked(place) => {
                    let blocked = places.get(place).and_then(|place| deadlock(session, *place));
                    let gone = || ended(session);
                    return Err(blocked.map_or_else(gone, |deadlock| refusal(&deadlock)));
                }
                Course::Waiting => {}
            }
            changes.changed().await;
        }
    };
    let ended = match spec.timeout {
        None => Some(over.await),
        Some(limit) => tokio::time::timeout(limit, over).await.ok(),
    };
    let shown: Vec<Place> = match ended {
        Some(Err(error)) => return refuse(error),
        None => places,
        Some(Ok(())) => {
            let answered = answered(&watched.states, spec.count, until);
            answered.into_iter().filter_map(|place| places.get(place).copied()).collect()
        }
    };
    match get::listed(session, Selected { places: shown, troubles }).await {
        Ok(entries) => Answer::Waited { entries, timed_out: ended.is_none() },
        Err(error) => refuse(error),
    }
}

/// What is waited for, in input order, with the states that were read last.
pub(super) struct Watched {
    /// Nothing of what cannot move any more: archived, or gone.
    entries: Vec<Option<(Arc<JobShared>, Option<Ordinal>)>>,
    pub(super) states: Vec<State>,
    /// The places of those that may still move.
    moving: Vec<usize>,
}

impl Watched {
    /// What was removed meanwhile counts as stopped.
    pub(super) fn new(places: &[Place], table: &Jobs) -> Self {
        let (mut entries, mut states, mut moving) = (Vec::new(), Vec::new(), Vec::new());
        for (at, place) in places.iter().enumerate() {
            let (id, child) = match place {
                Place::Job(id) => (*id, None),
                Place::Child(id, ordinal) => (*id, Some(*ordinal)),
            };
            let state = match (table.job(id), table.archived(id), child) {
                (Some(job), ..) => {
                    moving.push(at);
                    entries.push(Some((Arc::clone(job), child)));
                    states.push(State::NotStarted);
                    continue;
                }
                (None, Some(row), None) => Some(row.state()),
                (None, Some(row), Some(child)) => row.child_state(child),
                (None, None, _) => None,
            };
            entries.push(None);
            states.push(state.unwrap_or(State::Stopped));
        }
        Self { entries, states, moving }
    }

    /// Reads the states again of what is not finished.
    pub(super) fn look(&mut self) {
        let Self { entries, states, moving } = self;
        moving.retain(|place| {
            let (Some(Some((job, child))), Some(state)) =
                (entries.get(*place), states.get_mut(*place))
            else {
                return false;
            };
            let rows = job.rows();
            *state = child.map_or_else(
                || rows.state(),
                |child| rows.awaited_state(child).unwrap_or(State::Stopped),
            );
            !state.is_finished()
        });
    }
}

/// What is blocked there, and who asks; none once the entry is gone.
pub(super) fn deadlock(session: &SessionShared, place: Place) -> Option<Deadlock> {
    let blocked = get::id_of(session, place)?;
    Some(Deadlock { blocked, asks: get::questions(session, place, 1).pop() })
}

/// The error of who waits for what can never come.
fn refusal(deadlock: &Deadlock) -> RemoteError {
    let error = RemoteError::new(ErrorCode::Deadlock, deadlock.to_string());
    let Some((child, _)) = deadlock.asks else { return error };
    let blocked = deadlock.blocked;
    error
        .hint(format!("`sortie send {child} TEXT` answers, `sortie receive {blocked} --wait`, too"))
}

/// The error of who waits in a session that is over: closed or idle for too long, unless its node
/// ends and takes it along.
pub(crate) fn ended(session: &SessionShared) -> RemoteError {
    if session.node.is_ending() {
        return session.node.shuts_down();
    }
    RemoteError::new(ErrorCode::NoSession, "the session has ended")
}
