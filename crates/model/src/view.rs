//! What the system shows of its objects: the answers of `get`, `wait`, `explain` and `watch`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::OutputRule;
use crate::{
    ChildIncarnation, ChildInstance, EntryId, Incarnation, JobInstance, NodeId, NodeName, Ordinal,
    Question, Reason, SessionId, SessionInstance, State, Timestamp,
};

/// What runs a job's children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// An operating-system process on this node.
    Background,
    /// Children on other nodes.
    Remote,
    /// A function inside a node's process.
    Thread,
}

impl Kind {
    /// The word in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Remote => "remote",
            Self::Thread => "thread",
        }
    }
}

/// How far a child says it is, in units of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Done so far.
    pub done: u64,
    /// Out of; 0 when unknown.
    pub total: u64,
}

/// How many children of a job are in which state, by [`State::ALL`]'s order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The counts.
    pub by_state: [u64; 10],
    /// Whether more children may come: the input is not at its end.
    pub open: bool,
}

impl Tally {
    /// Children so far.
    pub fn total(&self) -> u64 {
        self.by_state.iter().sum()
    }

    /// Children in that state.
    pub fn of(&self, state: State) -> u64 {
        self.by_state.get(state as usize).copied().unwrap_or(0)
    }

    /// Children that are finished.
    pub fn finished(&self) -> u64 {
        self.of(State::Completed) + self.of(State::Failed) + self.of(State::Stopped)
    }
}

/// A job, as its session shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its number in its session.
    pub id: EntryId,
    /// Its identity.
    pub instance: JobInstance,
    /// Its display name.
    pub name: String,
    /// What runs its children.
    pub kind: Kind,
    /// Computed from the children.
    pub state: State,
    /// Unfinished, or any child has an unread record.
    pub has_more_data: bool,
    /// The children's locations, in child order, joined by `,`, each once, with how many they are
    /// where they are several; those of [`crate::limits::LOCATIONS_SHOWN`] children, then `,…`.
    pub location: String,
    /// What was submitted; the template of a map. Cut to [`crate::limits::COMMAND_SHOWN_BYTES`].
    pub command: String,
    /// When it was accepted.
    pub created: Timestamp,
    /// When its first child ran.
    pub begin_time: Option<Timestamp>,
    /// When its last child ended.
    pub end_time: Option<Timestamp>,
    /// It is completed, and any child's error stream is not empty.
    pub with_errors: bool,
    /// How many children are in which state.
    pub tally: Tally,
    /// The first children's ids, at most [`crate::limits::CHILD_IDS_SHOWN`]; filled only in answers
    /// about one job.
    pub children: Vec<EntryId>,
    /// The session's number.
    pub session: SessionId,
    /// Who asked it to stop, if anybody did: a user, or the rule that did.
    pub stopped_by: Option<String>,
    /// Nodes whose stop is recorded and not delivered yet.
    pub stop_pending: Vec<NodeName>,
    /// Something that the user should know: a node left out, output that waits for a reader.
    pub notes: Vec<String>,
    /// How often children started again, all together.
    pub restarts: u64,
    /// Children whose output pauses, since their mailbox or the disk has no room for it.
    pub paused: u64,
}

impl JobView {
    /// Whether it failed though none of its children did: not all of them came, since its input
    /// broke off.
    pub fn lacks_children(&self) -> bool {
        self.state == State::Failed && self.tally.of(State::Failed) == 0
    }
}

/// A child, as its session shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildView {
    /// Its number in its session.
    pub id: EntryId,
    /// Its identity.
    pub instance: ChildInstance,
    /// Its job's number.
    pub parent: EntryId,
    /// Its place among its siblings.
    pub ordinal: Ordinal,
    /// Its state.
    pub state: State,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// Unfinished, or an unread record.
    pub has_more_data: bool,
    /// Its node's name, or `localhost`.
    pub location: String,
    /// The command with the map's input put in.
    pub command: String,
    /// When its last incarnation began to run.
    pub begin_time: Option<Timestamp>,
    /// When that ended.
    pub end_time: Option<Timestamp>,
    /// The process's exit status, also when it was stopped.
    pub exit_code: Option<i32>,
    /// The signal that ended the process, also when it was stopped.
    pub signal: Option<i32>,
    /// It is completed, and its error stream is not empty.
    pub with_errors: bool,
    /// What it reported last.
    pub progress: Option<Progress>,
    /// How many children of its job start before it; only while it is queued.
    pub queue_position: Option<u64>,
    /// Records stored for it and not taken yet, in bytes.
    pub unread_bytes: u64,
    /// Something that the user should know: what was left of its tree, lost output.
    pub notes: Vec<String>,
    /// How often it started again; state, reason and times are those of its last incarnation.
    pub restarts: u32,
    /// What it asks, while it is blocked.
    pub question: Option<Question>,
    /// Records that the output policy dropped.
    pub dropped_records: u64,
    /// Bytes of those.
    pub dropped_bytes: u64,
    /// Why its output pauses, if it does.
    pub paused: Option<String>,
}

/// One line of a listing: a job, or one of the children below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryView {
    /// A job.
    Job(JobView),
    /// A child, listed by itself or under its parent.
    Child(ChildView),
}

impl EntryView {
    /// The entry's number.
    pub const fn id(&self) -> EntryId {
        match self {
            Self::Job(job) => job.id,
            Self::Child(child) => child.id,
        }
    }

    /// The entry's state.
    pub const fn state(&self) -> State {
        match self {
            Self::Job(job) => job.state,
            Self::Child(child) => child.state,
        }
    }
}

/// Whether a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeState {
    /// It answers.
    Alive,
    /// Silent for [`crate::limits::SUSPECT_AFTER`].
    Suspect,
    /// Silent for [`crate::limits::LOST_AFTER`], or never reached.
    Lost,
}

impl NodeState {
    /// The word in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Lost => "lost",
        }
    }
}

/// A node, as another one knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// Its identity.
    pub id: NodeId,
    /// Its life, if it was ever heard.
    pub incarnation: Option<Incarnation>,
    /// `host:port`.
    pub address: String,
    /// Whether it answers.
    pub state: NodeState,
    /// What it was labelled with, sorted by key.
    pub labels: Vec<(String, String)>,
    /// The program's version, if it was ever heard.
    pub version: Option<String>,
    /// Children that run there now for this node's sessions.
    pub running: u64,
    /// Whether it is the node that answers.
    pub is_self: bool,
}

/// A session, as its node shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its number.
    pub id: SessionId,
    /// Its identity.
    pub instance: SessionInstance,
    /// Its name.
    pub name: String,
    /// Where it lives.
    pub node: NodeName,
    /// Whose it is.
    pub owner: String,
    /// Whether it ends with its client's command.
    pub temporary: bool,
    /// Jobs in it.
    pub jobs: u64,
    /// Jobs of it that are not finished.
    pub unfinished: u64,
    /// When it was opened.
    pub created: Timestamp,
    /// The child whose jobs it holds; none where a user opened it.
    pub below: Option<ChildPlace>,
    /// How it stands with the client that asks.
    pub state: SessionState,
    /// Whether that client may use it.
    pub availability: Availability,
    /// Raised whenever its holder parts from it; 0 where nobody needs to hold it.
    pub epoch: u64,
    /// How long it may be idle; for ever if none.
    pub idle_timeout: Option<Duration>,
    /// When it is closed if no client comes; none while one is there.
    pub expires: Option<Timestamp>,
    /// What is kept of output that nobody receives.
    pub output: OutputRule,
}

impl SessionView {
    /// Whether a user means it by that word, on its node: its name, its number or its identity.
    pub fn is_called(&self, word: &str) -> bool {
        session_is_called((self.id, self.instance, &self.name), word)
    }
}

/// Whether a user means the session with that number, identity and name by that word.
pub fn session_is_called(
    (id, instance, name): (SessionId, SessionInstance, &str),
    word: &str,
) -> bool {
    name == word || id.to_string() == word || instance.to_string() == word
}

/// How a session stands with a client (`docs/semantics.md`, section 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SessionState {
    /// The client holds it, or needs not.
    Opened,
    /// Nobody holds it, or another client does.
    Disconnected,
    /// Its node cannot be reached.
    Broken,
    /// It is over.
    Closed,
}

/// Whether a client may use a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// It may.
    Available,
    /// Another client holds it.
    Busy,
    /// Nobody may.
    None,
}

impl SessionState {
    /// The word that tables show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "Opened",
            Self::Disconnected => "Disconnected",
            Self::Broken => "Broken",
            Self::Closed => "Closed",
        }
    }

    /// The word that JSON shows.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Disconnected => "disconnected",
            Self::Broken => "broken",
            Self::Closed => "closed",
        }
    }
}

impl Availability {
    /// The word that tables show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Busy => "Busy",
            Self::None => "None",
        }
    }

    /// The word that JSON shows.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Busy => "busy",
            Self::None => "none",
        }
    }
}

/// A child that has jobs of its own, as the node that executes it names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildPlace {
    /// The node where its job lives.
    pub node: NodeName,
    /// Its session there.
    pub session: SessionId,
    /// Its job.
    pub job: EntryId,
    /// Its number.
    pub child: EntryId,
    /// Which of its lives.
    pub incarnation: ChildIncarnation,
}

impl fmt::Display for ChildPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, session, job, child, .. } = self;
        write!(f, "child {child} of job {job} in session {session} on {node}")
    }
}
