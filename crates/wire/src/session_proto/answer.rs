//! What a node answers, once per request.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::detached::Detached;
use sortie_model::reason::SpawnStep;
use sortie_model::view::EntryView;
use sortie_model::{ChildView, JobView, NodeName, NodeView, SessionView, State, Timestamp};

use crate::message_proto::Undelivered;
use crate::remote_error::RemoteError;
use crate::session_proto::SessionScope;

/// A selector that named nothing, or an entry to which the verb does not apply; the others are
/// done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The selector, as typed, or the entry's number.
    pub about: String,
    /// What is wrong.
    pub error: RemoteError,
}

/// Entries, with what could not be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// The entries, in order.
    pub entries: Vec<EntryView>,
    /// How many there would be without the page.
    pub total: u64,
    /// Selectors that named nothing, entries left out.
    pub troubles: Vec<Trouble>,
}

/// What the resolved plan of a start looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The nodes, in order.
    pub nodes: Vec<NodeName>,
    /// The nodes of them that are lost, as far as the session's node has heard.
    pub unreachable: Vec<NodeName>,
    /// How many children, when that is known.
    pub children: Option<u64>,
}

/// A join token and where to bring it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinOffer {
    /// `host:port` of the node that takes it.
    pub address: String,
    /// The token, which works once, within [`TOKEN_LIFE`](sortie_model::limits::TOKEN_LIFE). It
    /// lets a node in: keep it secret.
    pub token: String,
}

/// One child in an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildExplanation {
    /// The child.
    pub child: ChildView,
    /// The last lines of its error stream: at most
    /// [`EXPLAIN_LINES`](sortie_model::limits::EXPLAIN_LINES), of
    /// [`EXPLAIN_LINE_BYTES`](sortie_model::limits::EXPLAIN_LINE_BYTES) each.
    pub last_errors: Vec<Vec<u8>>,
}

/// One screen about a job or a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job, or the child's job.
    pub job: JobView,
    /// The child that was asked for, or the children worth showing: failed ones first, at most
    /// [`EXPLAIN_CHILDREN`](sortie_model::limits::EXPLAIN_CHILDREN).
    pub children: Vec<ChildExplanation>,
    /// States so far, oldest first.
    pub history: Vec<(State, Timestamp)>,
    /// Why it is where it is, a sentence each.
    pub because: Vec<String>,
    /// What to type next.
    pub next: Vec<String>,
}

/// What a node says of its own health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The node.
    pub node: NodeName,
    /// Its program's version.
    pub version: String,
    /// Its wall clock.
    pub clock: Timestamp,
    /// How process trees are contained.
    pub containment: String,
    /// One row per check.
    pub checks: Vec<Check>,
}

/// One check of a diagnosis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found, and what to do.
    pub finding: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The request was refused; nothing was done.
    Refused(RemoteError),
    /// It was done.
    Done,
    /// A session was opened.
    Session(SessionView),
    /// A job was started, or the key's job found.
    Started(Box<JobView>),
    /// All input was stored.
    InputStored,
    /// What a start would do.
    Plan(Plan),
    /// Entries.
    Entries(Entries),
    /// The wait is over.
    Waited {
        /// The entries it was about, in input order; for one of many, only that one.
        entries: Entries,
        /// Whether the time ran out.
        timed_out: bool,
    },
    /// One screen.
    Explanation(Box<Explanation>),
    /// Sessions.
    Sessions(Vec<SessionView>),
    /// Nodes.
    Nodes(Vec<NodeView>),
    /// The round trip between the asked node and the named one; none between a node and itself.
    Pong {
        /// The node.
        node: NodeName,
        /// The round trip.
        round_trip: Option<Duration>,
    },
    /// Where to join, with what.
    Token(JoinOffer),
    /// A node's health.
    Diagnosis(Box<Diagnosis>),
    /// The message is in its child's inbox.
    Accepted,
    /// The child's answer to a call: MessagePack with field names.
    Reply(Bytes),
    /// The message, or the answer to it, did not come where it should.
    Undelivered(Undelivered),
    /// What is set in the session.
    Scope(SessionScope),
    /// The process runs, and nobody holds it.
    Detached(Detached),
    /// The process could not be started.
    NotDetached {
        /// What was tried.
        step: SpawnStep,
        /// The operating system's error number.
        errno: i32,
    },
}
