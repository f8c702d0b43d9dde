//! What a client and the node that serves its session say to each other (kinds 200 to 299).
//!
//! Every request has a bidirectional stream of its own: the client writes one [`Request`], the node
//! answers with one or more frames. Resetting the stream abandons the request. The name of an
//! [`Ask`] is the verb's.

mod answer;
mod happening;
mod session;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::detached::DetachSpec;
use sortie_model::nodeset::NodeExpr;
use sortie_model::record::StreamSet;
use sortie_model::selector::{Query, Selection, Selector};
use sortie_model::spec::{StopSpec, Throttle};
use sortie_model::{
    Bound, ChildKey, Deadlock, EntryId, IdempotencyKey, JobSpec, Motion, NodeName, Ordinal,
    Question, QuestionNumber, Reason, State, Timestamp,
};

use crate::frame::{Kind, Message};
use crate::host_proto::RecordRun;
use crate::link_proto::kinds;
use crate::message_proto::MessageKind;
use crate::remote_error::RemoteError;
pub use crate::session_proto::answer::{
    Answer, Check, ChildExplanation, Diagnosis, Entries, Explanation, JoinOffer, Plan, Trouble,
};
pub use crate::session_proto::happening::{EndNotice, Event, Happening};
pub use crate::session_proto::session::{ScopeChange, SessionOptions, SessionRef, SessionScope};

/// A request: which session, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The session; requests about the node ignore it.
    pub session: SessionRef,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Open a temporary session: it lives as long as this stream. Answer: [`Answer::Session`].
    OpenTemporary,
    /// Start a job. Answer: [`Answer::Started`]; then, when the spec takes input, the client sends
    /// [`InputData`] frames up to the last, and the node answers [`Answer::InputStored`].
    Start {
        /// Makes a repeated submission the same submission.
        key: IdempotencyKey,
        /// What to start.
        spec: Box<JobSpec>,
    },
    /// Answer: [`Answer::Plan`]. Touches nothing.
    DryRun {
        /// What would be started.
        spec: Box<JobSpec>,
    },
    /// Answer: [`Answer::Entries`].
    Get(Box<Query>),
    /// Answers: [`Delivery`] frames, up to [`Delivery::End`]; the client sends [`Acknowledged`].
    /// When the client ends its side, what it did not acknowledge is offered again. The node ends
    /// its side when what was acknowledged is freed.
    Receive(Box<ReceiveSpec>),
    /// Answer: [`Answer::Waited`].
    Wait(WaitSpec),
    /// Answer: [`Answer::Entries`], when all are finished or the grace and its margin are over.
    Stop {
        /// Which.
        selection: Selection,
        /// How.
        how: StopSpec,
        /// Whether to answer only when they are finished.
        wait: bool,
    },
    /// Answer: [`Answer::Entries`], as they were.
    Remove {
        /// Which.
        selection: Selection,
        /// Stop what is unfinished first.
        force: bool,
    },
    /// Answer: [`Answer::Explanation`].
    Explain(Selector),
    /// Answers: [`Answer::Done`] once it watches, then [`Happening`] frames, until the stream is
    /// reset or the session is over.
    Watch {
        /// Which jobs; empty is every job.
        selection: Selection,
    },
    /// Answer: [`Answer::Entries`].
    SetThrottle {
        /// Which jobs.
        selection: Selection,
        /// The new throttle.
        throttle: Throttle,
    },
    /// Answer: [`Answer::Sessions`].
    Sessions,
    /// Answer: [`Answer::Nodes`].
    Nodes {
        /// Which; all if none.
        expression: Option<NodeExpr>,
    },
    /// Answer: [`Answer::Pong`].
    Ping {
        /// Which node; the one that is asked if none.
        node: Option<NodeName>,
    },
    /// Answer: [`Answer::Done`], then the node shuts down.
    StopNode,
    /// Answer: [`Answer::Nodes`].
    SetLabels {
        /// Which node.
        node: NodeName,
        /// Labels to set; an empty value removes one.
        labels: Vec<(String, String)>,
    },
    /// Make this node reachable for others. Answer: [`Answer::Token`].
    ClusterInit {
        /// Where the others reach it, `host:port`, if not where it listens.
        advertise: Option<String>,
    },
    /// Answer: [`Answer::Token`].
    ClusterToken,
    /// Join another node's cluster. Answer: [`Answer::Nodes`].
    ClusterJoin {
        /// `host:port` of a member.
        address: String,
        /// The token it gave.
        token: String,
    },
    /// Answer: [`Answer::Diagnosis`].
    Diagnose,
    /// Answers: [`Answer::Done`] once it monitors, then a [`Happening`] with [`Event::Ended`] for
    /// each life of a child that ends, or has ended, and for each job, until nothing can end any
    /// more.
    Monitor {
        /// Which jobs and children; those that exist.
        selection: Selection,
    },
    /// Answer a blocked child. Answer: [`Answer::Done`] once the child took it.
    Answer {
        /// Which child: it, or the job of the only one that asks.
        child: Selector,
        /// Which of its questions; the open one if none is named.
        number: Option<QuestionNumber>,
        /// The answer: MessagePack with field names, at most
        /// [`ANSWER_BYTES`](sortie_model::limits::ANSWER_BYTES).
        answer: Bytes,
    },
    /// Send a message to a running child. Answers: [`Answer::Accepted`] once it is in the child's
    /// inbox; for a call then [`Answer::Reply`]. [`Answer::Undelivered`] instead of either.
    Send(MessageSpec),
    /// Bind two jobs or children of the session: when one fails or is stopped for good, the other
    /// is stopped. Answer: [`Answer::Done`].
    Bind {
        /// One of them.
        first: Bound,
        /// The other one.
        second: Bound,
    },
    /// Open a session that outlives its clients; the one that asks holds it. Answer:
    /// [`Answer::Session`].
    OpenSession(SessionOptions),
    /// Hold the session. Answer: [`Answer::Session`]; then the stream stays open, and says that
    /// the client is there, until the client resets it. [`Answer::Refused`] says that it parted
    /// from the session.
    Connect {
        /// Also when another client holds it.
        take: bool,
    },
    /// Give the session free. Answer: [`Answer::Session`].
    Disconnect,
    /// Stop what is unfinished in the session, drop its results, and forget it. Answer:
    /// [`Answer::Done`] when that is done.
    CloseSession,
    /// Set what lasts between the commands of the session; an empty change asks what is set.
    /// Answer: [`Answer::Scope`].
    Scope(ScopeChange),
    /// Open the session of the child that asks, or find it open: only from a worker, whose requests
    /// are about that session alone. It ends with the child. Answer: [`Answer::Session`].
    OpenBelow,
    /// Suspend entries, or let them go on. Answer: [`Answer::Entries`]; what does not run, or is
    /// not suspended, is a trouble with [`ErrorCode::NotRunning`](crate::ErrorCode::NotRunning) or
    /// [`ErrorCode::NotSuspended`](crate::ErrorCode::NotSuspended), and left as it is.
    Suspend {
        /// Which.
        selection: Selection,
        /// What they are to do.
        motion: Motion,
        /// Whether to answer only when they do, at the latest after
        /// [`SUSPEND_WAIT`](sortie_model::limits::SUSPEND_WAIT).
        wait: bool,
    },
    /// Answer: [`Answer::Done`], then the node ends as by its death: what outlives it runs on, and
    /// is taken up by the next node of its home. A node without a home refuses.
    LeaveNode,
    /// Start a process that belongs to no session. Answer: [`Answer::Detached`] or
    /// [`Answer::NotDetached`].
    Detach(Box<DetachSpec>),
}

/// A message to a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSpec {
    /// The child.
    pub child: ChildKey,
    /// Whether its answer is waited for.
    pub kind: MessageKind,
    /// The message: MessagePack with field names.
    pub message: Bytes,
}

/// How a receive goes about it (`docs/semantics.md`, section 3.3). Choices that contradict each
/// other are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveSpec {
    /// Which entries.
    pub selection: Selection,
    /// Take or keep, and for how long.
    pub mode: ReceiveMode,
    /// Only these streams, at least one; what is not taken stays.
    pub streams: StreamSet,
    /// Only children on these nodes.
    pub on: Option<NodeExpr>,
    /// Only the last so many lines of bytes, or records of values, per child. Only where records
    /// stay.
    pub tail: Option<u32>,
    /// Only records made since. Only where records stay.
    pub since: Option<Timestamp>,
    /// Remove finished jobs once everything of them was received. Only with
    /// [`ReceiveMode::TakeUntil`], all streams and all nodes.
    pub auto_remove: bool,
    /// Also one event per entry that settles, a child's before its job's. Only where the receive
    /// waits.
    pub events: bool,
    /// What children ask is delivered, and its reader sees to the answers: a blocked entry does not
    /// end the receive. Only where it waits.
    pub answers: bool,
}

impl ReceiveSpec {
    /// A receive of all streams on all nodes, and nothing beside records.
    pub const fn new(selection: Selection, mode: ReceiveMode) -> Self {
        Self {
            selection,
            mode,
            streams: StreamSet::ALL,
            on: None,
            tail: None,
            since: None,
            auto_remove: false,
            events: false,
            answers: false,
        }
    }
}

/// Take or keep, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiveMode {
    /// What is there now; it is gone once acknowledged.
    Take,
    /// What is there now; it stays.
    Keep,
    /// What is there and what comes, in order of arrival, until every entry is settled (or, with
    /// `finished`, finished); it is gone once acknowledged.
    TakeUntil {
        /// Wait for finished rather than settled.
        finished: bool,
    },
    /// The same, and it stays.
    Follow,
}

/// What a wait is for (`docs/semantics.md`, section 3.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitSpec {
    /// Which entries.
    pub selection: Selection,
    /// How many of them.
    pub count: WaitCount,
    /// Wait for finished rather than settled.
    pub finished: bool,
    /// How long the whole call may take; zero is a poll. Without end if none.
    pub timeout: Option<Duration>,
}

/// How many entries a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitCount {
    /// All of them.
    All,
    /// One: the first in input order that is settled.
    Any,
    /// So many, or all of them where there are fewer.
    AtLeast(u32),
}

/// The child that the records of a delivery come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The child's number.
    pub child: EntryId,
    /// Its job's number.
    pub job: EntryId,
    /// Its place among its siblings.
    pub ordinal: Ordinal,
    /// Its node's name, or `localhost`.
    pub location: String,
    /// How many siblings share its node: more than 1 makes its prefix `node[k]`.
    pub place: Option<u32>,
}

/// What a receive brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Records of one child; their bytes follow as the frame's payload. `number` is what to
    /// acknowledge; 0 needs no acknowledgement.
    Records {
        /// What to acknowledge.
        number: u64,
        /// From which child.
        source: Source,
        /// The records; runs have the child's ordinal.
        runs: Vec<RecordRun>,
    },
    /// An entry settled.
    Settled {
        /// The entry.
        id: EntryId,
        /// Its state.
        state: State,
    },
    /// The receive is over.
    End {
        /// Reasons of failed children, in child order.
        failures: Vec<Failure>,
        /// The entries at the end, as for `get`.
        entries: Entries,
        /// What is blocked, if that is the end.
        deadlock: Option<Deadlock>,
    },
    /// The receive was refused, or broke.
    Refused(RemoteError),
    /// A child asks, once per question; its records before the question were delivered.
    Asked {
        /// Which child.
        source: Source,
        /// What.
        question: Question,
    },
}

/// A child that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The child.
    pub child: EntryId,
    /// Its node's name, or `localhost`.
    pub location: String,
    /// Why.
    pub reason: Reason,
    /// Its exit status.
    pub exit_code: Option<i32>,
}

/// Client to node: the records up to that delivery are written out; they may be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The delivery's number.
    pub number: u64,
}

/// Client to node: input of a job; its bytes follow as the frame's payload. The input of a map is
/// its items ([`crate::map_items`]), whole ones in each piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputData {
    /// Whether this is the end of the input.
    pub last: bool,
}

kinds! {
    Request = 200,
    Answer = 201,
    Delivery = 202,
    Acknowledged = 203,
    InputData = 204,
    Happening = 205,
}
