//! `send` to a child that asks: brings it the answer, and says whether it was taken.

use std::sync::Arc;

use bytes::Bytes;
use sortie_engine::parent_job::{Answered, NotAsking, ParentJob, QuestionKey};
use sortie_engine::select::nothing_named;
use sortie_engine::session::Place;
use sortie_exec::task::read_value;
use sortie_model::selector::{Selection, Selector};
use sortie_model::spec::BodySpec;
use sortie_model::{EntryId, Ordinal, QuestionNumber, State, limits};
use sortie_wire::session_proto::Answer;
use sortie_wire::{ErrorCode, RemoteError};
use tokio::sync::oneshot;

use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::parent_job::ParentJobMessage;
use crate::serve::{refuse, wait};

/// Answers the child that the selector names, or the only one that asks of the job that it names.
/// Done once the child took the answer: its node says so, or is lost.
pub(super) async fn answer(
    session: &SessionShared,
    child: Selector,
    number: Option<QuestionNumber>,
    answer: Bytes,
) -> Answer {
    if answer.len() > limits::ANSWER_BYTES {
        let (length, most) = (answer.len(), limits::ANSWER_BYTES);
        let text = format!("an answer of {length} bytes is longer than the {most} allowed");
        return refuse(RemoteError::new(ErrorCode::Limit, text));
    }
    let (job, ordinal) = match named(session, child).await {
        Ok(found) => found,
        Err(error) => return refuse(error),
    };
    let id = job.rows().child_id(ordinal).unwrap_or(job.identity.id);
    let is_line = || read_value::<String>(&answer).is_ok();
    if !matches!(job.rows().spec().body, BodySpec::Task { .. }) && !is_line() {
        let text = format!("{id} is a program: the answer to its prompt is a text");
        return refuse(RemoteError::new(ErrorCode::Usage, text));
    }
    let mut changes = session.changes();
    let (reply, said) = oneshot::channel();
    job.tell(ParentJobMessage::Answer { to: (ordinal, number), answer, reply });
    // The actor of a finished job is gone, and its children ask nothing.
    let key = match said.await.unwrap_or(Err(NotAsking::Nothing)) {
        Ok(key) => key,
        Err(why) => return refuse(not_asking(&job, (ordinal, id), why)),
    };
    loop {
        changes.mark();
        match outcome(&job, key) {
            _ if session.is_over() => return refuse(wait::ended(session)),
            Answered::Taken => return Answer::Done,
            Answered::Missed => {
                let text = format!("{id} did not take the answer: it asked no more when it came");
                return refuse(RemoteError::new(ErrorCode::NotAsking, text));
            }
            Answered::Sent => changes.changed().await,
        }
    }
}

fn outcome(job: &JobShared, key: QuestionKey) -> Answered {
    job.rows().answered(key)
}

/// The one child that is meant.
async fn named(
    session: &SessionShared,
    selector: Selector,
) -> Result<(Arc<JobShared>, Ordinal), RemoteError> {
    let usage = |text: String| RemoteError::new(ErrorCode::Usage, text);
    let selected = session.select(&Selection::of([selector.clone()])).await;
    let none = || nothing_named(&selector);
    let place = match selected.places.as_slice() {
        [] => return Err(none()),
        [place] => *place,
        _ => {
            return Err(usage(format!("`{selector}` names several entries; an answer is for one")));
        }
    };
    let (Place::Job(id) | Place::Child(id, _)) = place;
    let job = session.bring(id).await?.ok_or_else(none)?;
    if let Place::Child(_, ordinal) = place {
        return Ok((job, ordinal));
    }
    let rows = job.rows();
    let asking: Vec<Ordinal> = rows.asking().map(|(ordinal, _)| ordinal).take(FEW + 1).collect();
    let ordinal = match asking.as_slice() {
        // Its first child says why it cannot be answered.
        [] if rows.children() == 1 => Ordinal(0),
        [] => return Err(nobody_asks(&rows)),
        [ordinal] => *ordinal,
        several => {
            let ids = some_of(&rows, several.iter().copied());
            return Err(usage(format!("several children of {id} ask: {ids}"))
                .hint("`sortie send CHILD TEXT` answers one of them"));
        }
    };
    drop(rows);
    Ok((job, ordinal))
}

/// No child asks of a job that has several, or none yet.
fn nobody_asks(rows: &ParentJob) -> RemoteError {
    let id = rows.identity().id;
    let text = format!("no child of {id} asks");
    let error = |text| RemoteError::new(ErrorCode::NotAsking, text);
    if rows.spec().input.is_open() && rows.children() > 0 {
        let ids = some_of(rows, (0..rows.children()).map(Ordinal));
        return error(format!("{text}, and its children have an input each: {ids}"))
            .hint("`sortie send CHILD TEXT` writes to that of one of them");
    }
    error(text).hint(format!("`sortie get {id} --children` lists its children, with their states"))
}

/// Children that are named where one was to be chosen.
const FEW: usize = 8;

/// The numbers of these children, or of the first few of them.
fn some_of(rows: &ParentJob, mut children: impl Iterator<Item = Ordinal>) -> String {
    let few = children.by_ref().take(FEW).filter_map(|ordinal| rows.child_id(ordinal));
    let ids = few.map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
    let more = if children.next().is_some() { " and more" } else { "" };
    format!("{ids}{more}")
}

fn not_asking(job: &JobShared, (ordinal, id): (Ordinal, EntryId), why: NotAsking) -> RemoteError {
    let state = job.rows().child_state(ordinal).unwrap_or(State::Stopped);
    let text = match why {
        NotAsking::Nothing => format!("{id} asks nothing: it is {state}"),
        other => format!("{id} cannot be answered: {other}"),
    };
    RemoteError::new(ErrorCode::NotAsking, text).hint(format!("`sortie explain {id}`"))
}
