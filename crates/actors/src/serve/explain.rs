//! `explain`: one screen about a job or a child.

mod because;
mod last_errors;

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_engine::select::nothing_named;
use sortie_engine::session::Place;
use sortie_model::selector::{Selection, Selector};
use sortie_model::spec::{BodySpec, Throttle};
use sortie_model::view::NodeState;
use sortie_model::{ChildView, JobView, NodeName, Ordinal, State, Timestamp, limits};
use sortie_wire::session_proto::{Answer, ChildExplanation, Explanation};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::serve::{get, refuse};
use because::{Facts, because, next};

/// Explains what the selector names; the newest, if it names several.
pub(super) async fn explain(session: &SessionShared, selector: Selector) -> Answer {
    let selected = session.select(&Selection::of([selector.clone()])).await;
    let Some(place) = selected.places.last().copied() else {
        return refuse(nothing_named(&selector));
    };
    let (Place::Job(id) | Place::Child(id, _)) = place;
    let job = match session.bring(id).await {
        Ok(Some(job)) => job,
        Ok(None) => {
            return refuse(RemoteError::new(ErrorCode::Gone, format!("job {id} was removed")));
        }
        Err(error) => return refuse(error),
    };
    let child = match place {
        Place::Job(_) => None,
        Place::Child(_, ordinal) => Some(ordinal),
    };
    let mut explanation = screen(session, &job, child).await;
    let others = selected.places.len() - 1;
    if others > 0 {
        explanation.because.push(format!("`{selector}` names {others} more; this is the newest"));
    }
    Answer::Explanation(Box::new(explanation))
}

async fn screen(
    session: &SessionShared,
    job: &Arc<JobShared>,
    child: Option<Ordinal>,
) -> Explanation {
    let shown = child.map_or_else(|| worth_showing(job), |ordinal| vec![ordinal]);
    let mut children = Vec::new();
    for ordinal in shown {
        let Some(view) = get::child_view(session, job, ordinal) else { continue };
        let errors = view.state == State::Failed || child.is_some();
        let last_errors =
            if errors { last_errors::of(&job.mailboxes, ordinal).await } else { Vec::new() };
        children.push(ChildExplanation { child: view, last_errors });
    }
    let view = get::job_view(session, job, true);
    let asked = child.and_then(|_| children.first().map(|explained| &explained.child));
    let facts = facts(session, job, &view, asked);
    let history = match asked {
        None => job.rows().history().to_vec(),
        Some(asked) => states_of(&view, asked),
    };
    let (because, next) = (because(&facts), next(&facts));
    Explanation { children, history, because, next, job: view }
}

/// The states so far of a child.
fn states_of(job: &JobView, child: &ChildView) -> Vec<(State, Timestamp)> {
    let begin = child.begin_time.map(|time| (State::Running, time));
    let end = child.end_time.map(|time| (child.state, time));
    [Some((State::NotStarted, job.created)), begin, end].into_iter().flatten().collect()
}

/// Failed children first, then those that keep the job going; all others only where there are few.
fn worth_showing(job: &JobShared) -> Vec<Ordinal> {
    let rows = job.rows();
    let few = rows.children() as usize <= limits::EXPLAIN_CHILDREN;
    let mut by_rank: BTreeMap<u8, Vec<Ordinal>> = BTreeMap::new();
    for ordinal in (0..rows.children()).map(Ordinal) {
        let rank = match rows.child_state(ordinal) {
            Some(State::Failed) => 0,
            Some(State::Blocked) => 1,
            Some(State::Disconnected | State::Suspended | State::Suspending) => 2,
            Some(State::Stopping) => 3,
            Some(State::Running) => 4,
            _ if few => 5,
            _ => continue,
        };
        let found = by_rank.entry(rank).or_default();
        if found.len() < limits::EXPLAIN_CHILDREN {
            found.push(ordinal);
        }
    }
    by_rank.into_values().flatten().take(limits::EXPLAIN_CHILDREN).collect()
}

fn facts(
    session: &SessionShared,
    job: &JobShared,
    view: &JobView,
    child: Option<&ChildView>,
) -> Facts {
    let away = away(session, job, child);
    let place = child.map_or(Place::Job(view.id), |child| Place::Child(view.id, child.ordinal));
    let now = session.node.uptime();
    let resting = job.rows().resting(child.map(|child| child.ordinal), now);
    let asking = get::questions(session, place, limits::EXPLAIN_CHILDREN);
    let rows = job.rows();
    let mut failed: BTreeMap<&'static str, u64> = BTreeMap::new();
    if child.is_none() && rows.counts().of(State::Failed) > 0 {
        let reasons = (0..rows.children()).filter_map(|child| rows.child_failure(Ordinal(child)));
        reasons.for_each(|(reason, _)| *failed.entry(reason.code()).or_default() += 1);
    }
    let throttle = match rows.line().limit() {
        Throttle::AtMost(most) => Some(most.get()),
        Throttle::Unlimited => None,
    };
    Facts {
        id: child.map_or(view.id, |child| child.id),
        job: view.id,
        state: child.map_or(view.state, |child| child.state),
        more_data: child.map_or(view.has_more_data, |child| child.has_more_data),
        is_child: child.is_some(),
        is_function: matches!(rows.spec().body, BodySpec::Task { .. }),
        tally: view.tally,
        failed: failed.into_iter().collect(),
        waiting: rows.line().waiting(),
        before: child.and_then(|child| child.queue_position),
        asking,
        resting,
        throttle,
        unkept: rows.unkept(),
        away,
        stopped_by: view.stopped_by.clone(),
    }
}

/// Nodes that are waited for and do not answer, with what is known of it.
fn away(
    session: &SessionShared,
    job: &JobShared,
    child: Option<&ChildView>,
) -> Vec<(NodeName, String)> {
    let used: Vec<_> = {
        let rows = job.rows();
        let concerns = |name: &NodeName| child.is_none_or(|child| child.location == name.as_str());
        let used = rows.nodes().filter(|(id, name)| rows.uses(*id) && concerns(name));
        used.map(|(id, name)| (id, name.clone())).collect()
    };
    if child.is_some_and(|child| child.state.is_finished()) {
        return Vec::new();
    }
    let others = used.into_iter().filter(|(id, _)| *id != session.node.me.id);
    let away = others.filter_map(|(id, name)| {
        let sight = session.node.sights.get(id);
        let up = sight.as_ref().is_some_and(|sight| sight.link.is_some());
        let told = session.attachment(id).has_told(job.identity.instance);
        let lost_since = sight.as_ref().and_then(|sight| sight.lost_since).filter(|_| told);
        let what = match (sight.map(|sight| sight.state), lost_since) {
            (Some(NodeState::Alive), _) if up => return None,
            (Some(NodeState::Suspect), _) => "it is silent".to_owned(),
            (_, Some(since)) => {
                let then = "what runs there goes on, and is heard once it is back";
                format!("it is lost since {since}; {then}")
            }
            _ => match session.node.sights.failure(id) {
                Some((step, text)) => format!("it cannot be reached ({step}): {text}"),
                None => "the connection is being made".to_owned(),
            },
        };
        Some((name, what))
    });
    away.collect()
}
