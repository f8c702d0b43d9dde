//! What the journal keeps: the nouns of sessions, jobs and children as they outlive their node.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sortie_model::facts::WaitsFor;
use sortie_model::record::OutputRule;
use sortie_model::spec::{OsBytes, StopSpec, Throttle};
use sortie_model::view::{Kind, Tally};
use sortie_model::{
    ChildIncarnation, EntryId, IdempotencyKey, JobInstance, JobSpec, NodeId, NodeName, Ordinal,
    Seq, SessionId, SessionInstance, State, Stream, Timestamp, limits,
};
use sortie_wire::codec;
use sortie_wire::host_proto::ChildOutcome;

use crate::lasting_input::InputMark;
use crate::segment::Taken;

/// A session (`docs/semantics.md`, section 1.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// Its number on its node.
    pub id: SessionId,
    /// Its identity.
    pub instance: SessionInstance,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// When it was opened.
    pub created: Timestamp,
    /// The number that the next job or child gets; the journal raises it and never lowers it.
    pub next_id: EntryId,
    /// Raised by every takeover.
    pub epoch: u64,
    /// How long it may be disconnected; for ever if none.
    pub idle_timeout: Option<Duration>,
    /// Since when no client holds it; none while one does.
    pub disconnected: Option<Timestamp>,
    /// What is kept of output that nobody receives.
    pub output: OutputRule,
    /// Its working directory, if one was set.
    pub directory: Option<OsBytes>,
    /// Variables that were set in it; none as a value removes one.
    pub environment: Vec<(OsBytes, Option<OsBytes>)>,
}

/// What was submitted, and where it goes: read when the job is taken up again, not to show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPlan {
    /// The submission.
    pub spec: JobSpec,
    /// The nodes it was accepted for, in order.
    pub nodes: Vec<(NodeName, NodeId)>,
}

/// By what a submission is known again: the SHA-256 of the encoded bytes of [`JobSpec::asked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecDigest(pub [u8; 32]);

impl SpecDigest {
    /// That of a submission. One that cannot be encoded is not a submission.
    ///
    /// # Errors
    /// [`TooLarge`](codec::TooLarge).
    pub fn of(spec: &JobSpec) -> Result<Self, codec::TooLarge> {
        Self::of_all(&spec.asked())
    }

    /// By what journals of before version 2 know it: all of it.
    ///
    /// # Errors
    /// [`TooLarge`](codec::TooLarge).
    pub fn of_all(spec: &JobSpec) -> Result<Self, codec::TooLarge> {
        Ok(Self(Sha256::digest(codec::encode(spec)?).into()))
    }
}

/// A submission that becomes a job, unless its key has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The session.
    pub session: SessionInstance,
    /// The key.
    pub key: IdempotencyKey,
    /// What is shown of it.
    pub entry: JobEntry,
    /// What was submitted, as it runs.
    pub plan: JobPlan,
    /// By what the key knows the submission again, as it came.
    pub digest: SpecDigest,
    /// By what a key of before version 2 does: [`SpecDigest::of_all`].
    pub of_all: SpecDigest,
    /// Its first children.
    pub children: Vec<ChildRun>,
    /// The number after those that it takes.
    pub next_id: EntryId,
}

/// A job without its plan and its children: what a page of `get` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEntry {
    /// Its number.
    pub id: EntryId,
    /// Its identity.
    pub instance: JobInstance,
    /// Its display name.
    pub name: String,
    /// What was submitted, as it is shown: at most [`sortie_model::limits::COMMAND_SHOWN_BYTES`].
    pub command: String,
    /// What runs its children.
    pub kind: Kind,
    /// When it was accepted.
    pub created: Timestamp,
    /// Children that were known at the start; their numbers follow the job's.
    pub known_children: u64,
    /// What changes.
    pub facts: JobFacts,
}

/// What the parent was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// Nothing.
    #[default]
    Nothing,
    /// To stop.
    Stop,
    /// To suspend.
    Suspend,
}

/// What of the job's input is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputState {
    /// Nothing.
    #[default]
    Nothing,
    /// So much, and more may come.
    Begun(InputMark),
    /// All of it.
    Whole(InputMark),
    /// Nothing any more, and not all of it came: that of a map that is over.
    BrokeOff,
}

impl InputState {
    /// What of it stays when its job is over: the items of a map, which say what its children were,
    /// where they are no more than [`limits::MAP_KEPT_BYTES`].
    pub const fn behind_its_end(self, map: bool) -> Self {
        match self {
            Self::Whole(mark) if map && mark.bytes <= limits::MAP_KEPT_BYTES => self,
            _ => Self::Nothing,
        }
    }

    /// How many bytes are certain.
    pub const fn bytes(&self) -> u64 {
        match self {
            Self::Begun(mark) | Self::Whole(mark) => mark.bytes,
            Self::Nothing | Self::BrokeOff => 0,
        }
    }
}

/// What changes of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFacts {
    /// Its state, computed from its children.
    pub state: State,
    /// The children's locations, as they are shown.
    pub location: String,
    /// How many children are in which state.
    pub tally: Tally,
    /// When its first child ran.
    pub begin: Option<Timestamp>,
    /// When its last child ended; a finished job has it, and is in the history by it.
    pub end: Option<Timestamp>,
    /// Any error stream is not empty.
    pub with_errors: bool,
    /// Any record was not taken, as far as the journal was told.
    pub unread: bool,
    /// What the output policy took of all children together.
    pub dropped: Dropped,
    /// How often children started again.
    pub restarts: u64,
    /// What it was told.
    pub told: Told,
    /// How it or some of its children were told to stop, and by whom.
    pub stop: Option<(StopSpec, String)>,
    /// Another throttle than it was submitted with.
    pub throttle: Option<Throttle>,
    /// What of its input is on the disk.
    pub input: InputState,
    /// Bytes of disk that its output has, as far as the journal was told.
    pub output_bytes: u64,
}

impl JobFacts {
    /// A job of which nothing has begun.
    pub fn new() -> Self {
        Self {
            state: State::NotStarted,
            location: String::new(),
            tally: Tally::default(),
            begin: None,
            end: None,
            with_errors: false,
            unread: false,
            dropped: Dropped::default(),
            restarts: 0,
            told: Told::Nothing,
            stop: None,
            throttle: None,
            input: InputState::Nothing,
            output_bytes: 0,
        }
    }

    /// Whether its input is still wanted: to be read, or to be shown.
    pub fn wants_input(&self) -> bool {
        self.finished().is_none() || matches!(self.input, InputState::Whole(_))
    }

    /// When the job ended, if it is finished.
    pub fn finished(&self) -> Option<Timestamp> {
        self.end.filter(|_| self.state.is_finished())
    }
}

impl Default for JobFacts {
    fn default() -> Self {
        Self::new()
    }
}

/// A child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildFacts {
    /// Its number.
    pub id: EntryId,
    /// Its node's place among the nodes of its job's plan.
    pub node: Option<u32>,
    /// Which of its lives this is.
    pub incarnation: ChildIncarnation,
    /// Its state.
    pub state: State,
    /// If it has not started, or is not there where it stood still, what for.
    pub waits_for: WaitsFor,
    /// It was told to stop.
    pub told_to_stop: bool,
    /// When it ran first.
    pub begin: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// How it ended, where that says more than the state.
    pub outcome: Option<Box<ChildOutcome>>,
}

/// Children whose ordinals and numbers follow each other and that are alike in everything else: a
/// million children that wait are one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildRun {
    /// The first one's place in its job.
    pub first: Ordinal,
    /// How many there are.
    pub count: u32,
    /// The first one; the others' numbers follow its own.
    pub facts: ChildFacts,
}

/// How far a child's records were stored and taken. It never goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// All records before this number were acknowledged as stored.
    pub stored: Seq,
    /// How far each stream was taken.
    pub taken: Taken,
    /// What the output policy took.
    pub dropped: Dropped,
    /// What was taken beyond that, in its order: at most [`limits::TAKEN_APART`] stretches. It lies
    /// in a table of its own, since there is seldom any.
    #[serde(skip)]
    pub apart: Vec<Apart>,
}

/// Records of a stream that were taken before what comes before them, which another reader has in
/// hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Apart {
    /// The stream.
    pub stream: Stream,
    /// The number of the first of them.
    pub from: Seq,
    /// The number after the last.
    pub to: Seq,
}

/// What an output policy took of a child's records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many records were dropped.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// All that follows is dropped, too, and the child fails.
    pub cut: bool,
}

impl Cursor {
    /// Whether a record was taken.
    pub fn has_taken(&self, stream: Stream, seq: Seq) -> bool {
        let apart = |it: &Apart| it.stream == stream && (it.from..it.to).contains(&seq);
        seq < self.taken.of(stream) || self.apart.iter().any(apart)
    }

    /// The number after the last record that was taken, of any stream.
    pub fn highest_taken(&self) -> Seq {
        self.apart.iter().map(|apart| apart.to).max().unwrap_or_default().max(self.taken.highest())
    }

    /// Adds what was taken apart, and leaves out what is not apart any more.
    pub fn put_apart(&mut self, more: impl IntoIterator<Item = Apart>) {
        let taken = self.taken;
        self.apart.extend(more);
        self.apart.retain(|apart| apart.from < apart.to && apart.to > taken.of(apart.stream));
        self.apart.sort_unstable();
        self.apart.dedup_by(|later, earlier| {
            let adjoins = later.stream == earlier.stream && later.from <= earlier.to;
            if adjoins {
                earlier.to = earlier.to.max(later.to);
            }
            adjoins
        });
        self.apart.truncate(limits::TAKEN_APART);
    }

    /// Of each number the higher one, and what either has apart.
    pub fn merge(&mut self, other: &Self) {
        self.stored = self.stored.max(other.stored);
        let (mine, theirs) = (self.dropped, other.dropped);
        self.dropped = Dropped {
            records: mine.records.max(theirs.records),
            bytes: mine.bytes.max(theirs.bytes),
            cut: mine.cut || theirs.cut,
        };
        for (mine, other) in self.taken.0.iter_mut().zip(&other.taken.0) {
            *mine = (*mine).max(*other);
        }
        self.put_apart(other.apart.iter().copied());
    }
}

/// Whose an idempotency key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// The job's number.
    pub job: EntryId,
    /// By what the submission is known again.
    pub spec: SpecDigest,
    /// When the job was removed; the key is remembered for a while.
    pub removed: Option<Timestamp>,
}

/// A finished job in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinishedJob {
    /// When it ended.
    pub end: Timestamp,
    /// Its session.
    pub session: SessionInstance,
    /// Its number.
    pub job: EntryId,
    /// Bytes of disk that it has: its output, its input if that stays, and its plan.
    pub bytes: u64,
}

/// What the history has all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryTotals {
    /// Finished jobs.
    pub jobs: u64,
    /// Bytes of disk that they have.
    pub bytes: u64,
}
