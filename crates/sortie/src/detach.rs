//! Detached processes: they belong to no session and no job.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use sortie_model::detached::{DetachSpec, Detached};
use sortie_model::reason::SpawnStep;
use sortie_model::spec::NulByte;
use sortie_model::{NodeName, Reason};
use sortie_wire::session_proto::{Answer, Ask};

use crate::client::Client;
use crate::command::{Command, word};
use crate::error::RequestError;

/// A process that is to be detached: a command, and what it finds ([`Client::detach`]). Nothing
/// happens before that, and dropping one does nothing.
///
/// ```
/// use sortie::{Command, Detach};
///
/// let command = Command::new("serve").arg("--port=80");
/// let server = Detach::new(command).directory("/srv").env("A", "1");
/// # let _ = server;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is started before `Client::detach`"]
pub struct Detach {
    spec: Result<DetachSpec, NulByte>,
}

/// A process that was detached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachedProcess {
    /// Where it runs.
    pub node: NodeName,
    /// Its process id there, which is that of its session and its process group, too.
    pub pid: u32,
    /// The file on that node to which its standard output and error output go.
    pub log: PathBuf,
}

/// Why a process was not detached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetachError {
    /// A word, a variable or the directory has a NUL byte. Nothing was sent.
    #[error(transparent)]
    Nul(#[from] NulByte),
    /// The request failed. After [`RequestError::Lost`] the process may run.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The system refused to start it; no process and no log is left.
    #[error("could not start the process ({step}): {}", io::Error::from_raw_os_error(*errno))]
    Spawn {
        /// What was tried.
        step: SpawnStep,
        /// The operating system's error number.
        errno: i32,
    },
}

impl DetachError {
    /// Whether the same may succeed later. It has no key: after [`RequestError::Lost`] the process
    /// may run, and the same once more starts another one.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Nul(_) => false,
            Self::Request(error) => error.is_retryable(),
            Self::Spawn { step, errno } => {
                Reason::Spawn { step: *step, errno: *errno }.is_retryable()
            }
        }
    }
}

impl Detach {
    /// That command, in the node's clean environment and the home of the node's user.
    pub fn new(command: Command) -> Self {
        let spec = command.into_spec().map(|spec| DetachSpec {
            body: spec.body,
            directory: None,
            environment: spec.environment,
        });
        Self { spec }
    }

    /// Its working directory; a relative one is taken from that of [`Detach::inherit_directory`],
    /// else from the home of the node's user. One that is not there is refused
    /// ([`ErrorCode::BadDirectory`](crate::ErrorCode::BadDirectory)).
    pub fn directory(self, directory: impl AsRef<OsStr>) -> Self {
        self.try_with(|spec| {
            spec.directory = Some(word(directory.as_ref())?);
            Ok(())
        })
    }

    /// The directory in which it begins instead of the home of the node's user, such as
    /// [`std::env::current_dir`] where the node is on this machine. [`Detach::directory`] wins over
    /// it.
    pub fn inherit_directory(self, directory: impl AsRef<OsStr>) -> Self {
        self.try_with(|spec| {
            spec.environment.inherited_directory = Some(word(directory.as_ref())?);
            Ok(())
        })
    }

    /// Sets a variable; later calls win. One without a name, or with `=` in it, is left out, and so
    /// is what says to a job's child whose it is.
    pub fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.try_with(|spec| {
            spec.environment.set.push((word(name.as_ref())?, word(value.as_ref())?));
            Ok(())
        })
    }

    /// The environment that it starts from instead of the node's clean one, such as
    /// [`std::env::vars_os`] where the node is on this machine.
    pub fn inherit_env<N, V>(self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.try_with(|spec| {
            let pairs = variables.into_iter();
            let words =
                pairs.map(|(name, value)| Ok((word(name.as_ref())?, word(value.as_ref())?)));
            spec.environment.inherited = Some(words.collect::<Result<_, NulByte>>()?);
            Ok(())
        })
    }

    fn try_with(mut self, change: impl FnOnce(&mut DetachSpec) -> Result<(), NulByte>) -> Self {
        if let Ok(spec) = &mut self.spec
            && let Err(nul) = change(spec)
        {
            self.spec = Err(nul);
        }
        self
    }
}

impl From<Command> for Detach {
    fn from(command: Command) -> Self {
        Self::new(command)
    }
}

impl From<DetachSpec> for Detach {
    fn from(spec: DetachSpec) -> Self {
        Self { spec: Ok(spec) }
    }
}

impl Client {
    /// Starts a process on this node that belongs to no session and no job, and returns once its
    /// program runs, within [`limits::DETACH_TIME`](crate::limits::DETACH_TIME) and as long again
    /// for its turn (`docs/semantics.md`, section 3.8). Nothing of Sortie stops it: it outlives
    /// this client, the node and its guardian. It has no mailbox, reads nothing, and writes to a
    /// log on the node, of which a node keeps
    /// [`limits::DETACHED_LOGS`](crate::limits::DETACHED_LOGS).
    ///
    /// # Errors
    /// [`DetachError::Spawn`] when it cannot be started. [`DetachError::Request`] with
    /// [`ErrorCode::Usage`](crate::ErrorCode::Usage) when the command is empty or passes
    /// [`limits::SPEC_BYTES`](crate::limits::SPEC_BYTES), or the node has no home;
    /// [`ErrorCode::BadDirectory`](crate::ErrorCode::BadDirectory);
    /// [`ErrorCode::NoGuardian`](crate::ErrorCode::NoGuardian) when the node hosts no processes;
    /// [`ErrorCode::Limit`](crate::ErrorCode::Limit) when the processes of all logs run, or others
    /// take too long to start; [`ErrorCode::Storage`](crate::ErrorCode::Storage) when there is no
    /// room for the log; [`ErrorCode::Version`](crate::ErrorCode::Version) when the node is too
    /// old. A process that does not start in time, or whose starter was killed, is
    /// [`ErrorCode::Internal`](crate::ErrorCode::Internal), and may run all the same.
    ///
    /// # Cancel safety
    /// A dropped call may have started it, and nobody then knows which process it is.
    pub async fn detach(&self, what: impl Into<Detach>) -> Result<DetachedProcess, DetachError> {
        let spec = Box::new(what.into().spec?);
        match self.ask(Ask::Detach(spec)).await? {
            Answer::Detached(Detached { node, pid, log }) => {
                let log = OsString::from_vec(log.as_bytes().to_vec()).into();
                Ok(DetachedProcess { node, pid, log })
            }
            Answer::NotDetached { step, errno } => Err(DetachError::Spawn { step, errno }),
            _ => Err(RequestError::Unexpected.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_byte_is_an_error_wherever_it_stands() {
        let plain = || Detach::new(Command::new("true"));
        assert!(plain().env("A", "1").directory("/").inherit_directory("/").spec.is_ok());
        let wrong = [
            Detach::new(Command::new("tr\0ue")),
            Detach::new(Command::script("x").arg("\0")),
            plain().env("A\0", "1"),
            plain().directory("\0"),
            plain().inherit_directory("/\0"),
            plain().inherit_env([("A", "\0")]).env("B", "2"),
        ];
        assert!(wrong.into_iter().all(|detach| detach.spec.is_err()));
    }

    #[test]
    fn only_what_lies_with_the_node_may_be_tried_again() {
        let spawn = |step| DetachError::Spawn { step, errno: 2 };
        assert!(spawn(SpawnStep::Fork).is_retryable());
        assert!(!spawn(SpawnStep::Exec).is_retryable());
        assert!(DetachError::from(RequestError::Lost).is_retryable());
        assert!(spawn(SpawnStep::Exec).to_string().contains("No such file"));
    }
}
