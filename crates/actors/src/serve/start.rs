//! `start` and `invoke`: a job is accepted, then its input is taken in.

use std::sync::Arc;

use sortie_engine::session::check_spec;
use sortie_engine::terminal::check_terminal;
use sortie_exec::registry::NotCallable;
use sortie_exec::working_directory;
use sortie_model::restart::RestartSpec;
use sortie_model::spec::{BodySpec, Escalation, Fan, Hosting, InputSpec, OsBytes, Placement};
use sortie_model::view::NodeState;
use sortie_model::{IdempotencyKey, JobSpec, NodeId, NodeName, limits};
use sortie_wire::session_proto::{Answer, Plan};
use sortie_wire::{ErrorCode, RemoteError, map_items};
use tokio::time::Instant;

use crate::data::exchange::{
    ExchangeError, ServerEnd, ServerReceiver, ServerSender, ToClient, ToServer,
};
use crate::data::input_log::{InputLog, Pace};
use crate::data::job::JobShared;
use crate::data::session::SessionShared;
use crate::data::stay::{Asker, Stay};
use crate::node::NodeShared;
use crate::session::{self, StartOrder, Started};

/// A temporary session: it ends with the exchange that opened it.
pub(super) async fn open_temporary(
    node: Arc<NodeShared>,
    by: Asker,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let ServerEnd { mut sender, mut receiver } = end;
    let session = match node.open_temporary(&by.name).await {
        Ok(session) => session,
        Err(error) => return sender.finish_with(Answer::Refused(error)).await,
    };
    let told = sender.send(ToClient::Answer(Answer::Session(session.view(&by)))).await;
    if told.is_ok() {
        // Whatever the client does with its end, it has nothing more to say.
        tokio::select! {
            biased;
            _ = receiver.next() => {}
            () = sender.abandoned() => {}
        }
    }
    node.end_session(&session);
    told
}

/// What a start would do.
pub(super) async fn plan(session: &SessionShared, spec: &JobSpec) -> Answer {
    let nodes = match check(session, spec).await {
        Ok(nodes) => nodes,
        Err(error) => return Answer::Refused(error),
    };
    let lost = |id: NodeId| {
        session.node.sights.get(id).is_some_and(|sight| sight.state == NodeState::Lost)
    };
    let unreachable = nodes.iter().filter(|(_, id)| lost(*id));
    let unreachable = unreachable.map(|(name, _)| name.clone()).collect();
    let children = sortie_engine::placement::known_children(&spec.fan, nodes.len() as u32);
    let nodes = nodes.into_iter().map(|(name, _)| name).collect();
    Answer::Plan(Plan { nodes, unreachable, children })
}

/// Starts a job and takes its input in.
pub(super) async fn start(
    stay: &Stay,
    key: IdempotencyKey,
    spec: Box<JobSpec>,
    end: ServerEnd,
) -> Result<(), ExchangeError> {
    let ServerEnd { mut sender, receiver } = end;
    let map = !matches!(spec.fan, Fan::PerNode { .. });
    let takes_input = map || spec.input.is_fed();
    let nodes = match check(stay.session(), &spec).await {
        Ok(nodes) => nodes,
        Err(error) => return sender.finish_with(Answer::Refused(error)).await,
    };
    let pace = match spec.hosting {
        Hosting::Temporary => Pace::Readers,
        Hosting::Persistent => Pace::Store,
    };
    let started = session::start(stay, StartOrder { key, spec, nodes, pace }).await;
    let Started { job, again } = match started {
        Ok(started) => started,
        Err(error) => return sender.finish_with(Answer::Refused(error)).await,
    };
    let view = Box::new(job.view(true));
    if again && takes_input {
        sender.send(ToClient::Answer(Answer::Started(view))).await?;
        return repeated((stay, &job), sender).await;
    }
    let Some(log) = job.input.clone().filter(|_| takes_input) else {
        return sender.finish_with(Answer::Started(view)).await;
    };
    if let Err(error) = sender.send(ToClient::Answer(Answer::Started(view))).await {
        log.lose();
        return Err(error);
    }
    let shape = if map { Shape::Items } else { Shape::Bytes };
    let taken = tokio::select! {
        biased;
        error = stay.parted(), if stay.is_held() => Err(error),
        taken = take_input(&job, &log, shape, receiver) => taken,
    };
    let taken = match taken {
        Ok(()) => job.keep_input(&log, true).await,
        Err(error) => {
            // Why the rest is lost was said already.
            let _ = job.keep_input(&log, false).await;
            Err(error)
        }
    };
    match taken {
        Ok(()) => {
            log.finish();
            sender.finish_with(Answer::InputStored).await
        }
        Err(error) => {
            log.lose();
            sender.finish_with(Answer::Refused(error)).await
        }
    }
}

/// A start was repeated by its key: the job has the input of the first one, once that is there.
async fn repeated(
    (stay, job): (&Stay, &JobShared),
    mut sender: ServerSender,
) -> Result<(), ExchangeError> {
    let whole = match &job.input {
        _ if job.rows().broke_off() => false,
        None => true,
        Some(log) => tokio::select! {
            biased;
            whole = log.is_whole() => whole,
            error = stay.parted(), if stay.is_held() => {
                return sender.finish_with(Answer::Refused(error)).await;
            }
            () = sender.abandoned() => return Ok(()),
        },
    };
    if whole {
        return sender.finish_with(Answer::InputStored).await;
    }
    sender.finish_with(Answer::Refused(came_in_part(job))).await
}

fn came_in_part(job: &JobShared) -> RemoteError {
    let id = job.identity.id;
    let text = format!("job {id} has this key, and only a part of its input came");
    let hint =
        format!("`sortie receive {id}` shows what came of it; start the rest with another key");
    RemoteError::new(ErrorCode::KeyReused, text).hint(hint)
}

/// What the input of a job is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Bytes for standard input.
    Bytes,
    /// Whole items of a map.
    Items,
}

async fn take_input(
    job: &JobShared,
    log: &InputLog,
    shape: Shape,
    mut receiver: ServerReceiver,
) -> Result<(), RemoteError> {
    // When what came is to be certain, though the rest of it may take long to come.
    let mut due = None;
    loop {
        let message = tokio::select! {
            biased;
            () = at(due), if due.is_some() => {
                job.keep_input(log, false).await?;
                due = None;
                continue;
            }
            message = receiver.next() => message,
        };
        let Ok(Some(ToServer::Input { bytes, last })) = message else {
            let text = "the client died before the end of its input";
            return Err(RemoteError::new(ErrorCode::Gone, text));
        };
        if shape == Shape::Items {
            let mut items = bytes.clone();
            loop {
                match map_items::take(&mut items) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        return Err(RemoteError::new(ErrorCode::Usage, error.to_string()));
                    }
                }
            }
        }
        if !bytes.is_empty() {
            use crate::data::input_log::InputError;
            match log.write(bytes).await {
                // The job has what it needs; the rest is read and forgotten.
                Ok(()) if log.lasts() => {
                    due.get_or_insert_with(|| Instant::now() + limits::INPUT_KEPT);
                }
                Ok(()) | Err(InputError::Unwanted) => {}
                Err(error @ InputError::TooLarge) => {
                    return Err(RemoteError::new(ErrorCode::Limit, error.to_string()));
                }
                Err(error @ InputError::Disk(_)) => {
                    return Err(RemoteError::new(ErrorCode::Storage, error.to_string())
                        .hint("what came before it runs, and the rest is lost"));
                }
            }
        }
        if last {
            return Ok(());
        }
    }
}

async fn at(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// What this node can tell before any job exists.
async fn check(
    session: &SessionShared,
    spec: &JobSpec,
) -> Result<Vec<(NodeName, NodeId)>, RemoteError> {
    let usage = |text: &str| Err(RemoteError::new(ErrorCode::Usage, text));
    if let Err(error) = check_spec(spec) {
        return usage(&error.to_string());
    }
    let nodes = session.node.nodes_of(&spec.placement)?;
    if session.is_over() {
        return Err(RemoteError::new(ErrorCode::NoSession, "the session has ended"));
    }
    match &spec.body {
        body if body.is_empty_command() => return usage("the command is empty"),
        _ if spec.restart != RestartSpec::default() && spec.input == InputSpec::Stream => {
            return usage("children that start again take no standard input: it is read once");
        }
        _ if spec.escalation == Escalation::FailsChild && session.identity.above.is_none() => {
            return usage("only a job that a child starts takes a child along");
        }
        BodySpec::Task { .. } if spec.input.is_open() => {
            return usage("a function has no standard input that could stay open");
        }
        BodySpec::Task { .. } if spec.init.is_some() => {
            return usage("--init runs before a command, not before a function");
        }
        _ => {}
    }
    let children = sortie_engine::placement::known_children(&spec.fan, nodes.len() as u32);
    if children.is_some_and(|count| count > u64::from(limits::CHILDREN_PER_JOB)) {
        let most = limits::CHILDREN_PER_JOB;
        return usage(&format!("a job has at most {most} children"));
    }
    if let Err(error) = check_terminal(spec, children) {
        return usage(&error.to_string());
    }
    if nodes.iter().any(|(_, id)| *id == session.node.me.id) {
        check_here(session, spec).await?;
    }
    Ok(nodes)
}

/// A program shows an error, and not its hint: what to do stands in the sentence.
pub(super) const NO_PROCESSES: &str = "this node hosts no processes: call `sortie::init()` \
                                       first in `main`, before there is a runtime or a thread";

async fn check_here(session: &SessionShared, spec: &JobSpec) -> Result<(), RemoteError> {
    match &spec.body {
        BodySpec::Task { name, types, run_in, .. } => {
            let found = session.node.registry.find(name, *types, *run_in);
            found.map_err(|error| not_callable(name, error))?;
        }
        BodySpec::Command { .. } | BodySpec::Script { .. } => {}
    }
    if spec.body.is_process() {
        // Among many nodes this one's failure is its child's alone.
        let hosts = session.node.guardians.current().is_some();
        if !hosts && matches!(spec.placement, Placement::Here) {
            return Err(RemoteError::new(ErrorCode::NoGuardian, NO_PROCESSES));
        }
        if spec.directory.is_some() {
            let inherited = spec.environment.inherited_directory.as_ref();
            let basics = &session.node.basics;
            let directory = working_directory(spec.directory.as_ref(), inherited, basics);
            check_directory(&directory).await?;
        }
    }
    Ok(())
}

fn not_callable(name: &str, error: NotCallable) -> RemoteError {
    match error {
        NotCallable::Unknown => {
            let text = format!("no function `{name}` is registered on this node");
            RemoteError::new(ErrorCode::UnknownTask, text)
        }
        NotCallable::OtherTypes => {
            let text = format!("the function `{name}` takes or gives other types on this node");
            RemoteError::new(ErrorCode::TaskTypes, text)
                .hint("build both programs from the same source")
        }
        NotCallable::OnlyInside => {
            let text = format!("the function `{name}` cannot run in the background on this node");
            RemoteError::new(ErrorCode::NoBackground, text)
                .hint("give it to `sortie::init_with`, in the first line of `main`")
        }
    }
}

/// Whether a working directory is there, on this node.
pub(super) async fn check_directory(directory: &OsBytes) -> Result<(), RemoteError> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(directory.as_bytes()));
    let wrong = |why: String| {
        let text = format!("cannot use `{}` as the working directory: {why}", path.display());
        Err(RemoteError::new(ErrorCode::BadDirectory, text))
    };
    // Off the runtime: a folder on a file system that hangs must not stop the node.
    match tokio::fs::metadata(path).await {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => wrong("it is not a directory".to_owned()),
        Err(error) => wrong(error.to_string()),
    }
}
