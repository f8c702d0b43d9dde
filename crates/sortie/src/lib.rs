//! Jobs, sessions and supervision over QUIC-linked nodes.
//!
//! A session starts a job; the job's children run on this node and on others; their records are
//! received once, or kept. What each word promises is said in `docs/semantics.md` of the project,
//! and the items here name its sections.
//!
//! Two nodes in one process, and a function mapped over both:
//!
//! ```
//! use std::convert::Infallible;
//!
//! use sortie::Node;
//!
//! #[sortie::task]
//! async fn double(n: u64) -> Result<u64, Infallible> {
//!     Ok(2 * n)
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let a = Node::builder("a").register(double).start().await?;
//!     let _b = Node::builder("b").register(double).join(&a).start().await?;
//!
//!     let job = a.session().map(double, 1..=10).on("a,b")?.start().await?;
//!     let doubled: Vec<u64> = job.await?;
//!     assert_eq!(doubled, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
//!     Ok(())
//! }
//! ```
//!
//! # Where to look
//! * [`Session`] has the verbs, [`Job`] the same for one job, [`JobBuilder`] every choice of a
//!   start.
//! * [`task`] makes a function something that nodes register and sessions start by its value.
//! * [`Client`] reaches a node in another process; its sessions and jobs are the same types.
//! * [`Client::open_session`] opens a session that outlives this program, on any node, and
//!   [`Client::connect_session`] comes back to it, also from another machine: its jobs run on
//!   meanwhile, and their results wait (`docs/semantics.md`, section 4.1).
//! * [`Client::reconnecting`] has what reads and waits go on when the connection to a node breaks,
//!   or the node is replaced (`docs/semantics.md`, section 4.3).
//! * A job of a task is awaited for all of its results; [`Job::results`] gives them as they come,
//!   each with its child.
//! * [`Job::stream`], [`Job::values`], [`Job::receive`] and [`Receiver`] are four ways to the
//!   records, from the simplest to the one that leaves acknowledgements to the caller.
//! * [`Job::child`] sends messages to a running child, which reads them from its
//!   [`inbox`](TaskContext::inbox). Functions send them to each other by way of
//!   [`TaskSession::session_above`].
//! * [`JobBuilder::background`] runs a function in a process of its own, which it can crash without
//!   harm; [`init_with`] is what such a program begins with.
//! * [`TaskContext::ask`] lets a running function ask; [`Job::questions`] and [`Job::answer`] are
//!   the other side of it.
//! * [`Client::detach`] starts a process that belongs to nobody and outlives its node.
//! * [`scope`] runs code whose jobs cannot outlive it.
//! * [`TaskSession`] gives a function jobs of its own: so jobs form trees, which stop as a whole.
//!   [`Job::monitor`], [`Job::bind_to`] and [`JobBuilder::escalating`] are for who supervises.
//! * [`blocking`] is for programs without async.
//!
//! Handles are `Clone + Send + Sync + 'static`, and dropping one stops nothing, but for temporary
//! sessions ([`Client::temporary`]) and scopes ([`JobScope`]).
//!
//! The library takes no setting from the environment, and looks for no home by itself:
//! [`HomePaths`] says where one lies. Only where mailboxes of a node spill to that has neither a
//! home nor [`NodeBuilder::spill_to`] is said by `TMPDIR`.

pub mod answer;
pub mod blocking;
mod builder;
mod child;
mod client;
mod command;
mod detach;
mod embedded;
mod error;
mod home;
mod input;
mod job;
mod monitor;
mod nested;
mod node;
mod program;
mod receiver;
mod reconnect;
mod registry;
mod route;
mod scope;
mod session;
mod task;
#[cfg(feature = "testkit")]
pub mod testkit;
mod threads;
mod watch;

pub use builder::NodeBuilder;
pub use child::{CallError, Child, SendError};
pub use client::{Client, UserIdentity};
pub use command::Command;
pub use detach::{Detach, DetachError, DetachedProcess};
pub use embedded::{EMBEDDED_NODES, Embedded};
pub use error::{
    AnswerError, ConnectError, DialFault, EncodeError, Misuse, RequestError, StartError, ValueError,
};
pub use home::{Damage, HomeError, HomePaths, KeptSessions, MakeFault, Mistake};
pub use input::{InputSender, ItemSender, ItemSplitter, Separator, TerminalSender};
pub use job::{
    ChildQuestion, ChildResult, Job, JobBuilder, JobStream, Received, ResultError, Results,
    ResultsInOrder, Untyped, Values,
};
pub use monitor::Monitor;
pub use nested::TaskSession;
pub use node::{Node, NodeStartError, Refusal, StartFault, init};
pub use program::init_with;
pub use receiver::{ReceiveEnd, ReceiveItem, Receiver};
pub use reconnect::{Dialling, Reconnect, ReconnectWatch};
pub use registry::Registry;
pub use scope::{JobScope, scope};
pub use session::Session;
pub use sortie_macros::task;
pub use task::{TaskFn, TaskFuture, TaskReturn};
pub use threads::node_threads;
pub use watch::Happenings;

pub use sortie_exec::inbox::{CallHandle, Inbox, InboxTaken, Message, MessageError};
pub use sortie_exec::sys::standard::{StandardStream, began_without};
pub use sortie_exec::task::{
    AskError, CheckpointError, EmitError, Live, ShapeError, TaskContext, TaskError, TaskOutput,
    Weight,
};
pub use sortie_model::detached::DetachSpec;
pub use sortie_model::id::{BadKey, BadNodeId};
pub use sortie_model::limits;
pub use sortie_model::name::BadName;
pub use sortie_model::nodeset::{BadNodeExpr, NodeExpr};
pub use sortie_model::quantity::BadQuantity;
pub use sortie_model::question::BadPromptMark;
pub use sortie_model::reason::{LimitKind, ReachStep, SpawnStep, WorkerFault};
pub use sortie_model::record::live::LiveValue;
pub use sortie_model::record::{OutputPolicy, OutputRule, StreamSet, UnknownStream};
pub use sortie_model::restart::{
    Backoff, BadRestart, Intensity, RestartSpec, RestartType, StopSequence, Strategy,
};
pub use sortie_model::selector::{BadSelector, Glob, Query, Selection, Selector};
pub use sortie_model::spec::{
    BodySpec, EnvironmentSpec, Escalation, Fan, Hosting, InputSpec, MaxFails, NulByte, OsBytes,
    Placement, RunIn, StopSpec, TaskTypes, Throttle, WindowSize,
};
pub use sortie_model::state::UnknownState;
pub use sortie_model::view::{
    Availability, ChildPlace, EntryView, Kind, NodeState, Progress, SessionState, Tally,
};
pub use sortie_model::{
    Body, Bound, ChildIncarnation, ChildInstance, ChildView, Deadlock, EntryId, IdempotencyKey,
    Incarnation, JobInstance, JobName, JobSpec, JobView, NodeId, NodeName, NodeView, Ordinal,
    Question, QuestionNumber, Reason, Record, Seq, SessionId, SessionInstance, SessionName,
    SessionView, State, Stream, Timestamp,
};
pub use sortie_wire::message_proto::Arrived;
pub use sortie_wire::session_proto::{EndNotice, ScopeChange, SessionOptions, SessionScope};
pub use sortie_wire::session_proto::{ReceiveMode, ReceiveSpec, WaitCount, WaitSpec};
pub use sortie_wire::{DecodeError, ErrorCode, RemoteError};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_go_anywhere() {
        const fn anywhere<T: Clone + Send + Sync + 'static>() {}
        anywhere::<Client>();
        anywhere::<Session>();
        anywhere::<Job>();
        anywhere::<Job<u64>>();
        anywhere::<UserIdentity>();
        anywhere::<Registry>();
        anywhere::<Child>();
        const fn sendable<T: Send + 'static>() {}
        sendable::<JobBuilder>();
        sendable::<JobScope>();
        sendable::<Receiver>();
        sendable::<Happenings>();
        sendable::<Monitor>();
        sendable::<InputSender>();
        sendable::<TerminalSender>();
        sendable::<ItemSender>();
        const fn streams<T: futures_core::Stream + Send + Unpin + 'static>() {}
        streams::<JobStream>();
        streams::<Values<u64>>();
        streams::<Results<u64>>();
        streams::<ResultsInOrder<u64>>();
    }
}
