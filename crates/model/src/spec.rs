//! What a submission asks for (`docs/semantics.md`, section 3.1).

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::nodeset::NodeExpr;
use crate::question::PromptMark;
use crate::restart::{RestartSpec, StopSequence};
use crate::{JobName, limits};

/// Bytes that a process gets as an argument, a variable or a directory: anything but NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct OsBytes(Bytes);

/// A NUL byte where the operating system takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an argument, a variable or a directory cannot contain a NUL byte")]
pub struct NulByte;

impl OsBytes {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Bytes> for OsBytes {
    type Error = NulByte;

    fn try_from(bytes: Bytes) -> Result<Self, NulByte> {
        if bytes.contains(&0) { Err(NulByte) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<&str> for OsBytes {
    type Error = NulByte;

    fn try_from(text: &str) -> Result<Self, NulByte> {
        Self::try_from(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<OsBytes> for Bytes {
    fn from(bytes: OsBytes) -> Self {
        bytes.0
    }
}

impl fmt::Debug for OsBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// What every child of the job executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodySpec {
    /// A program and its arguments, executed without a shell.
    Command {
        /// The program, then its arguments; never empty.
        words: Vec<OsBytes>,
    },
    /// A script, written to a file on the executing node and run there: by the interpreter its
    /// `#!` line names, else by `sh`.
    Script {
        /// The script's text.
        text: Bytes,
        /// Its arguments.
        arguments: Vec<OsBytes>,
    },
    /// A function registered under a name on the executing node.
    Task {
        /// The name.
        name: String,
        /// The input: MessagePack with field names.
        input: Bytes,
        /// The types that it was started with. A node whose function has others refuses it; nothing
        /// is compared where one side does not say its types.
        types: Option<TaskTypes>,
        /// Where its children run.
        run_in: RunIn,
    },
}

/// Where a function runs (`docs/semantics.md`, section 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum RunIn {
    /// Inside the node: cheap, and whatever ends the process ends all that runs in it.
    #[default]
    Thread,
    /// In a worker process of its own, which is the executing node's program once more.
    Background,
}

impl BodySpec {
    /// Whether each child is a process of its own.
    pub const fn is_process(&self) -> bool {
        !matches!(self, Self::Task { run_in: RunIn::Thread, .. })
    }

    /// Whether it is a command that names no program.
    pub fn is_empty_command(&self) -> bool {
        let Self::Command { words } = self else { return false };
        words.first().is_none_or(|word| word.as_bytes().is_empty())
    }
}

/// The types of a function's input and output, as a hash of how they are written in its source:
/// the same source gives the same hash in every build. Two types of one name look alike, so it
/// finds functions that were changed, not every difference between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskTypes(pub u64);

/// Where the children go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// One child on the session's own node; its location shows as `localhost`.
    Here,
    /// The nodes that an expression names when the job is accepted, in its order of first mention.
    Nodes {
        /// Which nodes.
        on: NodeExpr,
        /// Which of them to leave out.
        exclude: Option<NodeExpr>,
    },
}

/// Whether and how one submission becomes many children.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fan {
    /// One child per node of the placement, `copies` times over: all nodes once, then all of them
    /// again.
    PerNode {
        /// Children on each node.
        copies: NonZeroU32,
    },
    /// One child per input item, each on one of the nodes.
    Spread,
    /// One child per input item on every node, item by item.
    Each,
}

/// At most how many children are in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Throttle {
    /// This many, in any case [`limits::IN_PROGRESS_PER_JOB`].
    AtMost(NonZeroU32),
    /// No bound of the job's own, but [`limits::IN_PROGRESS_PER_JOB`].
    Unlimited,
}

impl Default for Throttle {
    fn default() -> Self {
        NonZeroU32::new(limits::THROTTLE_DEFAULT).map_or(Self::Unlimited, Self::AtMost)
    }
}

/// What the children read on their standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputSpec {
    /// Nothing: at its end from the start.
    None,
    /// The submission's input stream: it reaches one child, or is broadcast in order to all.
    Stream,
    /// What is typed at a terminal of that size at first. The only child's standard streams are one
    /// pseudo terminal, which controls it.
    Terminal(WindowSize),
    /// What is written to each child while it runs (`docs/semantics.md`, section 3.7): its input
    /// stays open until somebody closes it.
    Open {
        /// With what its output ends when the child waits for an answer; unknown if none.
        prompt: Option<PromptMark>,
    },
}

impl InputSpec {
    /// Whether something follows the submission.
    pub const fn is_fed(&self) -> bool {
        matches!(self, Self::Stream | Self::Terminal(_))
    }

    /// Whether it can be written to while the child runs.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

/// The size of a terminal's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines of characters.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Its width in pixels, 0 if that is not known.
    pub width: u16,
    /// Its height in pixels, 0 if that is not known.
    pub height: u16,
}

impl Default for WindowSize {
    /// 24 lines of 80 characters.
    fn default() -> Self {
        Self { rows: 24, columns: 80, width: 0, height: 0 }
    }
}

/// When a job stops the rest of its children by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxFails {
    /// Never.
    Unlimited,
    /// Once more than this many children failed (0: at the first).
    Count(u32),
    /// Once this share of all children failed, in percent, at the earliest with the first failure.
    /// While a map reads its inputs, all are those that it has read.
    Percent(u8),
}

/// The environment of a process child.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// The base: the caller's environment for a child on the user's own node, nothing elsewhere
    /// (then the node's clean, documented one).
    pub inherited: Option<Vec<(OsBytes, OsBytes)>>,
    /// The caller's working directory, for a child on the user's own node; elsewhere the home of
    /// the node's user. [`JobSpec::directory`] wins over both.
    pub inherited_directory: Option<OsBytes>,
    /// What the submission sets, in order; later ones win. One without a name, or with `=` in it,
    /// is left out.
    pub set: Vec<(OsBytes, OsBytes)>,
}

/// What the children belong to. It decides whether input is stored ahead of them
/// (`docs/semantics.md`, section 3.1), and whether they outlive the silence of their owner's node
/// (section 4): to an executing node [`Hosting::Persistent`] says that the job outlives its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hosting {
    /// To the owner's command, with which they end: input is taken as they need it.
    Temporary,
    /// To the owner's session: input is stored as it comes.
    Persistent,
}

/// What the failure of a job does to the child that started it (`docs/semantics.md`, section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Escalation {
    /// Nothing: whoever awaits the job sees it.
    #[default]
    Awaited,
    /// The child fails, too.
    FailsChild,
}

/// One submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The display name; `Job<id>` if none.
    pub name: Option<JobName>,
    /// What was submitted, as text for people.
    pub command: String,
    /// What each child executes.
    pub body: BodySpec,
    /// Where.
    pub placement: Placement,
    /// One or many.
    pub fan: Fan,
    /// At most how many at once.
    pub throttle: Throttle,
    /// Standard input.
    pub input: InputSpec,
    /// Run-time limit of each child; no limit if none.
    pub timeout: Option<Duration>,
    /// Between stop signal and kill; zero kills at once.
    pub grace: Duration,
    /// How long pipes are read after a process's end.
    pub drain: Duration,
    /// Bytes of output after which a process child fails with `limit{output}`; no limit if none.
    pub output_limit: Option<u64>,
    /// When to stop the rest.
    pub max_fails: MaxFails,
    /// Runs first in each child of a command, by `sh -c`; its output comes first. A function with
    /// it is refused.
    pub init: Option<String>,
    /// The working directory of process children; if none, the session's, else the caller's on its
    /// own node and the home of the node's user elsewhere.
    pub directory: Option<OsBytes>,
    /// The environment.
    pub environment: EnvironmentSpec,
    /// How the children are hosted.
    pub hosting: Hosting,
    /// How long the first connection to a node may take.
    pub connect_timeout: Duration,
    /// When children start again by themselves.
    pub restart: RestartSpec,
    /// In which order a stop reaches the children; what the strategy asks for is done anyway.
    pub stop_sequence: StopSequence,
    /// What its failure does to the child that started it.
    pub escalation: Escalation,
}

impl JobSpec {
    /// What was asked for, from whatever shell: with no variables that it only inherits, which
    /// differ between two terminals. By this a key's submission is known again.
    pub fn asked(&self) -> Self {
        let mut asked = self.clone();
        if let Some(inherited) = &mut asked.environment.inherited {
            inherited.clear();
        }
        asked
    }

    /// A submission of `body` on this node, with every other choice at its default.
    pub fn new(command: impl Into<String>, body: BodySpec) -> Self {
        Self {
            name: None,
            command: command.into(),
            body,
            placement: Placement::Here,
            fan: Fan::PerNode { copies: NonZeroU32::MIN },
            throttle: Throttle::default(),
            input: InputSpec::None,
            timeout: None,
            grace: limits::GRACE,
            drain: limits::DRAIN,
            output_limit: None,
            max_fails: MaxFails::Unlimited,
            init: None,
            directory: None,
            environment: EnvironmentSpec::default(),
            hosting: Hosting::Persistent,
            connect_timeout: limits::CONNECT_TIME,
            restart: RestartSpec::default(),
            stop_sequence: StopSequence::AtOnce,
            escalation: Escalation::Awaited,
        }
    }
}

/// How `stop` goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSpec {
    /// The number of the signal that asks process children; TERM unless said otherwise. A function
    /// is told by its token, whichever it is.
    pub signal: i32,
    /// How long until the kill; zero kills at once. The job's own grace if none.
    pub grace: Option<Duration>,
}

/// The number of the signal that asks a process to end.
pub const TERM: i32 = 15;

impl Default for StopSpec {
    fn default() -> Self {
        Self { signal: TERM, grace: None }
    }
}

impl StopSpec {
    /// Kill at once; a function is aborted at its next await.
    pub const NOW: Self = Self { signal: 9, grace: Some(Duration::ZERO) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_byte_is_refused_where_the_system_takes_none() {
        assert_eq!(OsBytes::try_from("a\0b"), Err(NulByte));
        assert_eq!(OsBytes::try_from("\u{1b}[0m").map(|ok| ok.as_bytes().len()), Ok(4));
    }
}
