//! Why a child failed (`docs/semantics.md`, section 2.4). Every reason has a stable code, a
//! sentence for people and an answer to "may it be tried again?".

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{EntryId, Timestamp};

/// Which step of a start failed on the executing node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SpawnStep {
    /// Entering the working directory.
    Chdir,
    /// Finding the program, or reading it.
    Exec,
    /// Making the process, its pipes or its control group.
    Fork,
    /// No guardian runs on that node, so it hosts no process children.
    Guardian,
}

/// Which step towards a node failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReachStep {
    /// Its name gave no address.
    Resolve,
    /// Nothing answered at its address.
    Connect,
    /// It, or we, could not prove who is there.
    Authenticate,
    /// It knows us and refused.
    Authorise,
}

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LimitKind {
    /// The job's limit on bytes of output (`JobBuilder::output_limit`).
    Output,
    /// The mailbox reached its quota under the output policy `fail`. No child of this release fails
    /// so (`docs/semantics.md`, section 7).
    Mailbox,
    /// The number of children. No child of this release fails so: a map that has
    /// [`CHILDREN_PER_JOB`](crate::limits::CHILDREN_PER_JOB) reads no further input.
    Children,
    /// The size of one value: [`VALUE_BYTES`](crate::limits::VALUE_BYTES).
    Value,
}

/// What the worker process of a background function did instead of giving its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WorkerFault {
    /// It exited with status 0: something in it called `exit`.
    Exited,
    /// It said what makes no sense, and was killed.
    Garbage,
}

/// Why a child failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The process ended with a status other than 0.
    Exit {
        /// The status, 1 to 255.
        code: i32,
    },
    /// A signal ended the process.
    Signal {
        /// The signal's number.
        number: i32,
        /// Its name without `SIG`, as in `KILL`.
        name: String,
        /// Whether the kernel wrote a core.
        core_dumped: bool,
    },
    /// The process could not be started.
    Spawn {
        /// What was tried.
        step: SpawnStep,
        /// The operating system's error number.
        errno: i32,
    },
    /// The function returned an `Err`, its input is not of its type, or what it returned has no
    /// encoding.
    Error {
        /// The error's type, with its path; `input` or `output` where the value was the fault,
        /// `command` where no command could be made.
        kind: String,
        /// The message with its chain of sources, joined by `: `, cut to about
        /// [`ERROR_TEXT_BYTES`](crate::limits::ERROR_TEXT_BYTES).
        message: String,
    },
    /// The function panicked.
    Panic {
        /// The panic's message.
        message: String,
    },
    /// The child ran longer than it may.
    Timeout {
        /// How long it may run.
        limit: Duration,
    },
    /// The kernel killed the process for memory.
    Oom,
    /// A rule forbids it: in this release only that a node of an older version is asked for nothing
    /// that it does not know.
    Denied {
        /// The rule's name.
        rule: String,
    },
    /// The node could not be reached before the child started.
    Unreachable {
        /// Which step failed.
        step: ReachStep,
    },
    /// The node was lost while the child ran.
    NodeLost {
        /// When it was last heard.
        since: Timestamp,
    },
    /// The child's session expired. No child of this release fails so: one whose session was idle
    /// for too long is stopped.
    SessionExpired,
    /// It was restarted too often.
    RestartLimit {
        /// How many restarts.
        restarts: u32,
        /// In which time.
        period: Duration,
        /// How the child ended the last time, in words: `exited with status 3`, `ended well`.
        last: String,
    },
    /// Sent to a node that was lost before it confirmed the start.
    StartUncertain,
    /// A limit was passed.
    Limit {
        /// Which one.
        which: LimitKind,
    },
    /// The client died before the end of its input, while the child still read it, or the node that
    /// had it did.
    InputLost,
    /// No function of that name is registered on the executing node.
    UnknownTask {
        /// The name.
        name: String,
    },
    /// The function of that name has other types on the executing node.
    TaskTypes {
        /// The name.
        name: String,
    },
    /// The function of that name runs only inside the executing node: its program did not give it
    /// to `sortie::init_with`.
    NoBackground {
        /// The name.
        name: String,
    },
    /// The worker process of a background function ended by itself before the function did.
    NoResult {
        /// What it did instead.
        fault: WorkerFault,
    },
    /// A job that the child started and that takes it along failed.
    Escalated {
        /// The job, in the child's own session.
        job: EntryId,
        /// Its first failed child, and why it failed.
        cause: String,
    },
    /// The guardian of its node died, and killed with it what it held.
    GuardianLost,
}

impl Reason {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Exit { .. } => "exit",
            Self::Signal { .. } => "signal",
            Self::Spawn { .. } => "spawn",
            Self::Error { .. } => "error",
            Self::Panic { .. } => "panic",
            Self::Timeout { .. } => "timeout",
            Self::Oom => "oom",
            Self::Denied { .. } => "denied",
            Self::Unreachable { .. } => "unreachable",
            Self::NodeLost { .. } => "node_lost",
            Self::SessionExpired => "session_expired",
            Self::RestartLimit { .. } => "restart_limit",
            Self::StartUncertain => "start_uncertain",
            Self::Limit { .. } => "limit",
            Self::InputLost => "input_lost",
            Self::UnknownTask { .. } => "unknown_task",
            Self::TaskTypes { .. } => "task_types",
            Self::NoBackground { .. } => "no_background",
            Self::NoResult { .. } => "no_result",
            Self::Escalated { .. } => "escalated",
            Self::GuardianLost => "guardian_lost",
        }
    }

    /// Whether the same child might do better elsewhere or later: the fault lies with the place,
    /// not with the work. A command that fails by itself is not retryable in this sense.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::NodeLost { .. }
                | Self::Oom
                | Self::GuardianLost
                | Self::Spawn { step: SpawnStep::Fork | SpawnStep::Guardian, .. }
        )
    }

    /// Whether the node, not the child, is what failed.
    pub const fn is_about_the_node(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NodeLost { .. } | Self::StartUncertain)
    }
}

impl fmt::Display for SpawnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chdir => "chdir",
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Guardian => "guardian",
        })
    }
}

impl fmt::Display for ReachStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Authenticate => "authenticate",
            Self::Authorise => "authorise",
        })
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "output",
            Self::Mailbox => "mailbox",
            Self::Children => "children",
            Self::Value => "value",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { code } => write!(f, "exited with status {code}"),
            Self::Signal { name, core_dumped: false, .. } => write!(f, "died of signal {name}"),
            Self::Signal { name, .. } => write!(f, "died of signal {name}, core dumped"),
            Self::Spawn { step: SpawnStep::Guardian, errno: 0 } => f.write_str(
                "could not start: its node hosts no processes (its program did not call \
                     `sortie::init()` first)",
            ),
            Self::Spawn { step, errno } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "could not start ({step}): {error}")
            }
            Self::Error { message, .. } => write!(f, "gave an error: {message}"),
            Self::Panic { message } => write!(f, "panicked: {message}"),
            Self::Timeout { limit } => write!(f, "ran longer than {}", Seconds(*limit)),
            Self::Oom => f.write_str("killed by the kernel: out of memory"),
            Self::Denied { rule } => write!(f, "not permitted by rule {rule}"),
            Self::Unreachable { step } => write!(f, "node unreachable ({step})"),
            Self::NodeLost { since } => write!(f, "node lost since {since}"),
            Self::SessionExpired => f.write_str("its session expired"),
            Self::RestartLimit { restarts, period, last } => {
                let within = Seconds(*period);
                match restarts {
                    0 => f.write_str("ended, and may not be restarted")?,
                    1 => write!(f, "ended again after a restart within {within}")?,
                    more => write!(f, "ended again after {more} restarts within {within}")?,
                }
                write!(f, "; its last end: {last}")
            }
            Self::StartUncertain => {
                f.write_str("its node was lost before it confirmed the start; it may have run")
            }
            Self::Limit { which } => write!(f, "passed its {which} limit"),
            Self::InputLost => {
                f.write_str("its input was lost with the client or the node that had it")
            }
            Self::UnknownTask { name } => write!(f, "no function `{name}` is registered there"),
            Self::TaskTypes { name } => {
                write!(f, "the function `{name}` takes or gives other types there")
            }
            Self::NoBackground { name } => {
                write!(f, "the function `{name}` cannot run in the background there")
            }
            Self::NoResult { fault } => f.write_str(fault.sentence()),
            Self::Escalated { job, cause } => write!(f, "job {job} below it failed: {cause}"),
            Self::GuardianLost => f.write_str(
                "killed with its node's guardian, the helper process that held it, which died",
            ),
        }
    }
}

impl WorkerFault {
    /// The stable word that JSON shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Garbage => "garbage",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Exited => "its process exited with status 0 before the function returned",
            Self::Garbage => "its process said what makes no sense, and was killed",
        }
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_what_happened_in_one_sentence() {
        let spawn = Reason::Spawn { step: SpawnStep::Chdir, errno: 2 };
        assert_eq!(
            spawn.to_string(),
            "could not start (chdir): No such file or directory (os error 2)"
        );
        let timeout = Reason::Timeout { limit: Duration::from_millis(1500) };
        assert_eq!(timeout.to_string(), "ran longer than 1.5 s");
        assert_eq!(timeout.code(), "timeout");
        let last = Reason::Error { kind: "E".to_owned(), message: "no paper".to_owned() };
        assert_eq!(last.to_string(), "gave an error: no paper");
        let period = Duration::from_secs(5);
        let limit = Reason::RestartLimit { restarts: 1, period, last: last.to_string() };
        assert_eq!(
            limit.to_string(),
            "ended again after a restart within 5 s; its last end: gave an error: no paper"
        );
    }

    #[test]
    fn only_the_places_fault_is_retryable() {
        assert!(Reason::NodeLost { since: Timestamp(0) }.is_retryable());
        assert!(!Reason::Exit { code: 1 }.is_retryable());
        assert!(!Reason::StartUncertain.is_retryable());
    }
}
