//! What a parent job and the nodes that execute its children say to each other (kinds 100 to 199).
//!
//! Commands travel on the control stream, from the owning node. Reports travel on unidirectional
//! streams, from the executing node: one shared stream per session, whose reports are numbered and
//! acknowledged by number, and one stream for each child whose output passed the inline limit,
//! whose records are acknowledged by their own numbers. In a report, starts come before records,
//! records before questions, these before suspensions, and these before ends.

mod ask;
mod checkpoint;
mod input;
mod note;
mod suspend;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::spec::{BodySpec, EnvironmentSpec, Hosting, InputSpec, OsBytes, StopSpec};
use sortie_model::{
    ChildIncarnation, JobInstance, NodeName, Ordinal, Reason, Seq, SessionInstance, Stream,
    Timestamp, limits,
};

use crate::frame::{Kind, Message};
pub use crate::host_proto::ask::{AnswerChild, ChildAsk, OpenQuestion};
pub use crate::host_proto::checkpoint::{Checkpoint, CheckpointHead, Checkpoints, ChildFrom};
pub use crate::host_proto::input::{
    InputPiece, InputPosition, InputProgress, InputRead, InputRest, InputStream,
};
pub use crate::host_proto::note::HostedNote;
pub use crate::host_proto::suspend::{ChildMotion, SuspendChildren};
use crate::link_proto::kinds;

/// What an executing node must know of a job, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// What each child executes; `{}`, `{#}` and `{node}` are put in from the child's item.
    pub body: BodySpec,
    /// Whether the words hold placeholders.
    pub template: bool,
    /// What the children's standard input is; what is fed to it follows.
    pub input: InputSpec,
    /// Run-time limit of each child.
    pub timeout: Option<Duration>,
    /// Between stop signal and kill, unless a stop says otherwise.
    pub grace: Duration,
    /// How long pipes are read after a process's end.
    pub drain: Duration,
    /// Bytes of output after which a child fails.
    pub output_limit: Option<u64>,
    /// Runs first in each process child.
    pub init: Option<String>,
    /// The working directory.
    pub directory: Option<OsBytes>,
    /// The environment.
    pub environment: EnvironmentSpec,
    /// How the children are hosted.
    pub hosting: Hosting,
    /// The session's number and the owning node, for the children's environment.
    pub session: u32,
    /// The job's number in its session.
    pub job: u64,
    /// The owning node's name.
    pub owner_node: NodeName,
    /// How many levels of jobs the job is below a user's own session.
    pub level: u32,
}

/// Children to start, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildBatch {
    /// Children without an item of input: the ordinals `first`, `first + step` …; a child's number
    /// is its ordinal plus `id_base`.
    Range {
        /// The first ordinal.
        first: Ordinal,
        /// From one ordinal to the next, at least 1.
        step: u32,
        /// How many.
        count: u32,
        /// The number of the job's child with ordinal 0.
        id_base: u64,
    },
    /// Children of a map.
    Items(Vec<ChildItem>),
    /// Children that ran before and ended: each begins a new incarnation.
    Again(Vec<ChildAgain>),
    /// The same, of which some go on from checkpoints. Only to nodes that speak version
    /// [`CHECKPOINTS`](crate::version::CHECKPOINTS) or a later one.
    From(Vec<ChildFrom>),
}

/// A child that is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildAgain {
    /// The child.
    pub ordinal: Ordinal,
    /// Its number in its session.
    pub id: u64,
    /// Which of its incarnations this is.
    pub incarnation: ChildIncarnation,
    /// The number of its next record: they go on where those of the incarnation before ended.
    pub next: Seq,
    /// The number and bytes of its item of input, if it has one.
    pub item: Option<(u64, Bytes)>,
}

/// One child of a map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildItem {
    /// The child.
    pub ordinal: Ordinal,
    /// Its number in its session.
    pub id: u64,
    /// The item's number, from 1.
    pub number: u64,
    /// The item: a line of a command's map, or a function's encoded input.
    pub item: Bytes,
}

/// Owner to host: start these. The same incarnation of a child twice is started once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartChildren {
    /// The session they belong to.
    pub session: SessionInstance,
    /// Their job.
    pub job: JobInstance,
    /// The job's spec; always in the first message about a job on this link, later ones omit it.
    pub spec: Option<Box<HostSpec>>,
    /// Which children.
    pub children: ChildBatch,
}

/// Which children of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildSet {
    /// All that the host has.
    All,
    /// These.
    Some(Vec<Ordinal>),
}

/// Owner to host: stop these. A child that is still queued there never starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopChildren {
    /// The session they belong to.
    pub session: SessionInstance,
    /// Their job.
    pub job: JobInstance,
    /// Which children.
    pub children: ChildSet,
    /// How.
    pub how: StopSpec,
}

/// Owner to host: forget the job; what is unfinished is killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetJob {
    /// Its session.
    pub session: SessionInstance,
    /// The job.
    pub job: JobInstance,
}

/// Owner to host: the session is over; what is unfinished is killed, everything is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSession {
    /// The session.
    pub session: SessionInstance,
}

/// Where one child's own stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildPosition {
    /// The child's job.
    pub job: JobInstance,
    /// The child.
    pub ordinal: Ordinal,
    /// The number of the next record that the mailbox has not stored.
    pub next: Seq,
    /// Bytes that may be unacknowledged from there on: shrinks when the mailbox is at its quota.
    pub credit: u32,
}

impl ChildPosition {
    /// The same with all the credit that a child can have.
    #[must_use]
    pub const fn unpaused(self) -> Self {
        Self { credit: limits::CHILD_CREDIT_BYTES as u32, ..self }
    }
}

/// Owner to host: what the mailboxes have stored. Frees the outbox up to there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// The session.
    pub session: SessionInstance,
    /// The shared stream's reports up to this number are stored.
    pub reports: u64,
    /// Positions of children with a stream of their own.
    pub children: Vec<ChildPosition>,
}

/// Owner to host, first message about a session on a new connection: go on from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The session.
    pub session: SessionInstance,
    /// The last report of the shared stream that was stored.
    pub reports: u64,
    /// Positions of unfinished children with a stream of their own.
    pub children: Vec<ChildPosition>,
    /// The jobs that the owner believes this node executes.
    pub jobs: Vec<JobInstance>,
}

/// Host to owner, the answer: which of those jobs it does not know (it lost them with its life).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The session.
    pub session: SessionInstance,
    /// Jobs of the question that are not known here.
    pub unknown: Vec<JobInstance>,
    /// Whether the session ended here before, because its owner was silent for too long: then what
    /// ran of those jobs was killed. Otherwise they never came, and may be sent again.
    pub expired: bool,
    /// How far children have read their input. Those that are not named read none.
    pub inputs: Vec<InputPosition>,
    /// Whether a job that is not known never ran a process here in an earlier life of the node
    /// either, as far as the job outlives its owner's silence; where all are known, whether each
    /// process of them is that ever began.
    pub remembers: bool,
}

/// First message of a unidirectional stream from host to owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportStream {
    /// The session that the reports are about.
    pub session: SessionInstance,
    /// The one child whose stream this is; none on the shared stream.
    pub child: Option<(JobInstance, Ordinal)>,
}

/// A record without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordHead {
    /// Its stream.
    pub stream: Stream,
    /// Whether it is a typed value.
    pub value: bool,
    /// When it was made.
    pub time: Timestamp,
    /// How many bytes of the payload are its own.
    pub length: u32,
}

/// Consecutive records of one child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRun {
    /// The child.
    pub ordinal: Ordinal,
    /// The first record's number.
    pub first: Seq,
    /// The records.
    pub records: Vec<RecordHead>,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildOutcome {
    /// Completed, failed with a reason, or stopped.
    pub verdict: Verdict,
    /// The exit status, if a process gave one.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Processes of its tree that were left at its end and killed.
    pub left_behind: u32,
    /// Bytes of output that a limit cut off.
    pub cut_bytes: u64,
}

impl ChildOutcome {
    /// An outcome with nothing else to tell.
    pub const fn of(verdict: Verdict) -> Self {
        Self { verdict, exit_code: None, signal: None, left_behind: 0, cut_bytes: 0 }
    }
}

/// The terminal state, with why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed(Reason),
    /// Ended because of a stop.
    Stopped,
}

/// The item after a child's last record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    /// The child.
    pub ordinal: Ordinal,
    /// Which of its incarnations ended.
    pub incarnation: ChildIncarnation,
    /// The number after its last record's.
    pub end: Seq,
    /// When it began, if it did.
    pub begin_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Timestamp,
    /// How.
    pub outcome: ChildOutcome,
}

/// A child that began to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildStart {
    /// The child.
    pub ordinal: Ordinal,
    /// Which of its incarnations began.
    pub incarnation: ChildIncarnation,
    /// When.
    pub time: Timestamp,
}

/// Head of a report; the records' bytes follow as the frame's payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// On the shared stream: its number, from 1. On a child's own stream: 0.
    pub number: u64,
    /// The job.
    pub job: JobInstance,
    /// Children that began.
    pub started: Vec<ChildStart>,
    /// Records of any of its children.
    pub records: Vec<RecordRun>,
    /// Children that ended.
    pub ended: Vec<ChildEnd>,
    /// Children that ask, or ask no more: the newest word about each counts. What they said before
    /// stands in `records` or in an earlier report.
    pub asked: Vec<ChildAsk>,
    /// Children that were suspended or go on, as they were told to: the newest word about each
    /// counts.
    pub moved: Vec<ChildMotion>,
}

impl Report {
    /// A report that says nothing.
    pub fn empty(number: u64, job: JobInstance) -> Self {
        let (started, records, ended) = (Vec::new(), Vec::new(), Vec::new());
        Self { number, job, started, records, ended, asked: Vec::new(), moved: Vec::new() }
    }
}

kinds! {
    StartChildren = 100,
    StopChildren = 101,
    ForgetJob = 102,
    EndSession = 103,
    Acknowledge = 104,
    Resume = 105,
    Resumed = 106,
    InputRead = 108,
    ReportStream = 120,
    Report = 121,
    InputStream = 122,
    InputPiece = 123,
    AnswerChild = 125,
    Checkpoints = 126,
    SuspendChildren = 109,
}
