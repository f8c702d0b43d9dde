//! `start --detached`: a process that belongs to no session and no job (`docs/semantics.md`,
//! section 3.8). Once it runs the node knows nothing of it but where its log is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sortie_engine::detached::{DetachRefused, check, make_room};
use sortie_exec::detach::{DetachError, DetachFolder, DetachLog, DetachOrder, detach};
use sortie_exec::process::program;
use sortie_exec::{detached_environment, working_directory};
use sortie_model::detached::{DetachSpec, Detached};
use sortie_model::limits;
use sortie_model::spec::OsBytes;
use sortie_wire::session_proto::Answer;
use sortie_wire::{ErrorCode, RemoteError};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::node::NodeShared;
use crate::serve::start::{NO_PROCESSES, check_directory};

/// Where a node keeps the logs of detached processes, and whose turn it is: one is started after
/// the other, so that no two make room for themselves by the same log.
#[derive(Debug)]
pub(crate) struct Detaching {
    /// None where the node has no home: nobody would find the log.
    folder: Option<PathBuf>,
    turn: Arc<Mutex<()>>,
}

impl Detaching {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, turn: Arc::default() }
    }

    /// Waits for its turn, not for ever: one that is started from a file system that hangs takes
    /// its time.
    async fn turn(&self) -> Result<OwnedMutexGuard<()>, RemoteError> {
        let turn = tokio::time::timeout(limits::DETACH_TIME, Arc::clone(&self.turn).lock_owned());
        turn.await.map_err(|_| {
            let text = "this node is still starting other detached processes: try again";
            RemoteError::new(ErrorCode::Limit, text)
        })
    }
}

/// How long the start may take with what is done for the log: a disk that hangs keeps nobody
/// waiting.
const ANSWER_TIME: Duration = limits::DETACH_TIME.saturating_mul(2);

/// Starts the process.
///
/// # Errors
/// A refusal; nothing was started then, unless the sentence says that it may run all the same.
pub(super) async fn answer(node: &NodeShared, spec: DetachSpec) -> Result<Answer, RemoteError> {
    let usage = |refused: DetachRefused| RemoteError::new(ErrorCode::Usage, refused.to_string());
    check(&spec).map_err(usage)?;
    let Some(folder) = node.detaching.folder.clone() else {
        let text = "this node has no home, so there is no place for the log of a detached process";
        return Err(RemoteError::new(ErrorCode::Usage, text).hint("start it without `--detached`"));
    };
    if node.guardians.current().is_none() {
        return Err(RemoteError::new(ErrorCode::NoGuardian, NO_PROCESSES));
    }
    let inherited = spec.environment.inherited_directory.as_ref();
    let directory = working_directory(spec.directory.as_ref(), inherited, &node.basics);
    if spec.directory.is_some() {
        check_directory(&directory).await?;
    }
    let program = program(&spec.body).ok_or_else(|| usage(DetachRefused::Function))?;
    let environment = detached_environment(&spec.environment, &node.basics, &node.me.name());
    let id = node.world.fresh_id().to_string();
    let turn = node.detaching.turn().await?;
    if node.is_ending() {
        return Err(node.shuts_down());
    }
    let order = move |log| DetachOrder { program, environment, directory, log, descriptors: None };
    // It is done to its end, and in its turn, also where nobody waits for it any more.
    let started = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        start(&folder, &id, order)
    });
    let started = match tokio::time::timeout(ANSWER_TIME, started).await {
        Ok(Ok(started)) => started?,
        Ok(Err(_)) => {
            let text = "the start of a detached process broke off";
            return Err(RemoteError::new(ErrorCode::Internal, text));
        }
        Err(_) => {
            let text = "the disk of this node's home does not answer: the process may begin yet";
            return Err(RemoteError::new(ErrorCode::Storage, text));
        }
    };
    Ok(match started {
        Ok((pid, log)) => Answer::Detached(Detached { node: node.me.name(), pid, log }),
        Err(failed) => Answer::NotDetached { step: failed.step, errno: failed.errno },
    })
}

type Started = Result<(u32, OsBytes), sortie_exec::SpawnError>;

/// Makes room for the log, makes it, and starts the process. Blocks.
fn start(
    folder: &Path,
    id: &str,
    order: impl FnOnce(DetachLog) -> DetachOrder,
) -> Result<Started, RemoteError> {
    let (log, file) = log_in(folder, id)?;
    match detach(order(log.clone()), file) {
        Ok(pid) => Ok(Ok((pid, log.path()))),
        Err(error) if error.may_run() => {
            let path = log.path();
            let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
            let text = format!("{error}; if it runs all the same, its log is {path}");
            Err(RemoteError::new(ErrorCode::Internal, text))
        }
        Err(error) => {
            // Nobody writes to it. One that cannot be removed goes in its turn.
            let _ = log.remove();
            match error {
                DetachError::Spawn(failed) => Ok(Err(failed)),
                DetachError::NotInitialised => {
                    Err(RemoteError::new(ErrorCode::NoGuardian, NO_PROCESSES))
                }
                error => Err(RemoteError::new(ErrorCode::Internal, with_cause(&error))),
            }
        }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn log_in(folder: &Path, id: &str) -> Result<(DetachLog, std::fs::File), RemoteError> {
    let fault = |error: io::Error| {
        let text = format!("cannot keep a log in {}: {error}", folder.display());
        RemoteError::new(ErrorCode::Storage, text)
    };
    let place = DetachFolder::prepare(folder).map_err(fault)?;
    let logs = place.logs().map_err(fault)?;
    let most = limits::DETACHED_LOGS;
    // One whose process is not known goes only where none is surely over.
    let go = make_room(&logs, most, |log| log.is_over() == Some(true))
        .or_else(|_| make_room(&logs, most, |log| log.is_over() != Some(false)))
        .map_err(|no_room| {
            let text = format!("{no_room}, and their node keeps no more logs than that");
            let place = folder.display();
            let hint = format!(
                "end one of them: `{place}/ID.process` begins with the process id of the one that \
                 writes `{place}/ID.log`"
            );
            RemoteError::new(ErrorCode::Limit, text).hint(hint)
        })?;
    go.into_iter().try_for_each(DetachLog::remove).map_err(fault)?;
    place.make(id).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_logs_than_may_be_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = directory.path().join("detached");
        let place = DetachFolder::prepare(&folder).expect("ours");
        let own = rustix::process::getpid();
        for number in 0..limits::DETACHED_LOGS {
            let (log, _) = place.make(&format!("{number:05}")).expect("made");
            // Of two nobody knows whether they run, and two are over.
            if number != 1 && number != 3 {
                log.note(own).expect("noted");
            }
            if number == 5 || number == 7 {
                let over = folder.join(format!("{number:05}.process"));
                std::fs::write(over, "1 0 no-boot\n").expect("written");
            }
        }
        let count = || place.logs().expect("logs").len();
        let in_turn = ["00005", "00007", "00001", "00003"];
        for (id, gone) in ["90001", "90002", "90003", "90004"].into_iter().zip(in_turn) {
            let (log, _) = log_in(&folder, id).expect("one need not run");
            log.note(own).expect("noted");
            assert_eq!(count(), limits::DETACHED_LOGS);
            assert!(!folder.join(gone).with_extension("log").exists(), "{gone}");
        }
        let refused = log_in(&folder, "90005").expect_err("all of them run");
        assert_eq!(refused.code, ErrorCode::Limit);
        assert!(refused.message.contains("1024"), "{refused}");
        let hint = refused.hint.unwrap_or_default();
        assert!(hint.contains("/ID.process` begins with the process id"), "{hint}");
        assert_eq!(count(), limits::DETACHED_LOGS, "nothing was made, and nothing removed");
    }
}
