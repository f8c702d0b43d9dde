//! `send` and `call`: a message to a running child, and what comes of it.

use bytes::Bytes;
use sortie_engine::parent_job::Lives;
use sortie_engine::post::TooManySenders;
use sortie_model::spec::BodySpec;
use sortie_model::{JobSpec, Ordinal, limits};
use sortie_wire::message_proto::{Arrived, MessageKind, Undelivered};
use sortie_wire::session_proto::{Answer, MessageSpec};
use sortie_wire::{ErrorCode, RemoteError};

use crate::data::exchange::{ExchangeError, ServerEnd, ToClient};
use crate::data::job::JobShared;
use crate::data::messages::posts::{Letter, Told};
use crate::data::session::SessionShared;
use crate::data::stay::Stay;
use crate::serve::refuse;

/// Sends a message and says what comes of it. A client that abandons the request abandons the
/// message: it may have been sent by then. So does one that parts from the session.
pub(super) async fn send(
    stay: &Stay,
    spec: MessageSpec,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let ServerEnd { mut sender, receiver: _receiver } = end;
    let answers = spec.kind != MessageKind::Send;
    let entered = tokio::select! {
        biased;
        error = stay.parted(), if stay.is_held() => Err(refuse(error)),
        entered = enter(stay.session(), spec) => entered,
        () = sender.abandoned() => return Ok(()),
    };
    let mut letter = match entered {
        Ok(letter) => letter,
        Err(answer) => return sender.finish_with(answer).await,
    };
    loop {
        let told = tokio::select! {
            biased;
            error = stay.parted(), if stay.is_held() => {
                return sender.finish_with(refuse(error)).await;
            }
            told = letter.told() => told,
            () = sender.abandoned() => return Ok(()),
        };
        let last = match told {
            Told::Accepted if answers => {
                sender.send(ToClient::Answer(Answer::Accepted)).await?;
                continue;
            }
            Told::Accepted => Answer::Accepted,
            Told::Answered(value) => Answer::Reply(value),
            Told::Failed(why) => Answer::Undelivered(why),
        };
        return sender.finish_with(last).await;
    }
}

async fn enter(session: &SessionShared, spec: MessageSpec) -> Result<Letter, Answer> {
    let MessageSpec { child, kind: spec_kind, message } = spec;
    if message.len() > limits::MESSAGE_BYTES {
        let text = format!("a message has at most {} bytes", limits::MESSAGE_BYTES);
        return Err(refuse(RemoteError::new(ErrorCode::Usage, text)));
    }
    let nothing = || refuse(RemoteError::new(ErrorCode::NotFound, "there is no such child"));
    let job = session.bring_instance(child.job).await.map_err(refuse)?.ok_or_else(nothing)?;
    let kind = accepted_as(spec_kind, job.rows().spec()).map_err(refuse)?;
    let lives = lives(session, &job, child.ordinal).await.ok_or_else(nothing)?;
    if spec_kind == MessageKind::Write && message.is_empty() {
        // An empty call would close the input.
        return Err(Answer::Reply(Bytes::new()));
    }
    if !lives.more {
        return Err(Answer::Undelivered(lives.why.undelivered(Arrived::No)));
    }
    let letter = session.posts.enter(&job, child.ordinal, (kind, message));
    let full = |full: TooManySenders| refuse(RemoteError::new(ErrorCode::Limit, full.to_string()));
    let letter = letter.map_err(full)?;
    if session.is_over() {
        return Err(Answer::Undelivered(Undelivered::Ended { arrived: Arrived::Maybe }));
    }
    Ok(letter)
}

/// As what a message travels to a child of that job, if it takes such a message.
fn accepted_as(kind: MessageKind, spec: &JobSpec) -> Result<MessageKind, RemoteError> {
    let usage = |text| RemoteError::new(ErrorCode::Usage, text);
    match (&spec.body, kind) {
        (BodySpec::Task { .. }, MessageKind::Write | MessageKind::CloseInput) => {
            let text = "the child is a function: it has no standard input";
            Err(RemoteError::new(ErrorCode::NotAsking, text))
        }
        (BodySpec::Task { .. }, kind) => Ok(kind),
        // Its answer is that the bytes are in the pipe.
        (_, MessageKind::Write | MessageKind::CloseInput) if spec.input.is_open() => {
            Ok(MessageKind::Call)
        }
        (_, MessageKind::Write | MessageKind::CloseInput) => {
            Err(usage("the standard input of the child is not open")
                .hint("`sortie start --open-stdin` opens that of a command"))
        }
        (_, MessageKind::Send | MessageKind::Call) => {
            Err(usage("the child is a program: it has standard input, and no inbox"))
        }
    }
}

/// How the lives of the child stand. One whose input was not read yet is waited for.
async fn lives(session: &SessionShared, job: &JobShared, ordinal: Ordinal) -> Option<Lives> {
    let mut changes = session.changes();
    loop {
        // Marked as seen before the rows are read: a change after that wakes us.
        changes.mark();
        {
            let rows = job.rows();
            let lives = rows.lives(ordinal);
            if lives.is_some() || !rows.is_open() || session.is_over() {
                return lives;
            }
        }
        // A child changes at the latest when it begins to run.
        changes.changed().await;
    }
}
