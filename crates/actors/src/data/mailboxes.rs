//! The mailboxes of a node's jobs: where records wait for their readers (`docs/semantics.md`,
//! sections 1.3 and 3.3). Signatures first; the inside follows.
#![expect(missing_docs, clippy::unimplemented, unused_variables, reason = "signatures first")]

use std::path::PathBuf;
use std::sync::Arc;

use sortie_engine::mailbox::{OutputPolicy, Tally};
use sortie_model::record::StreamSet;
use sortie_model::{Ordinal, Record, Seq};

/// One per node: memory budget, spool directory, open files, node quota.
#[derive(Debug)]
pub struct MailboxPool {}
impl MailboxPool {
    /// Makes nothing on disk until something has to be written there.
    pub fn new(dir: PathBuf) -> Arc<Self> {
        unimplemented!()
    }
    pub fn memory_bytes(&self) -> u64 {
        unimplemented!()
    }
    pub fn disk_bytes(&self) -> u64 {
        unimplemented!()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The number that comes next: acknowledge up to here.
    pub next: Seq,
    /// Bytes until the quota. At 0 pause: await `room` before the next append.
    pub room: u64,
}

/// What `try_append` did.
#[derive(Debug)]
pub enum TryAppend {
    Done(Appended),
    /// It has to write to disk first: give the records to `append`.
    WouldSpill(Vec<Record>),
}

/// Why a full mailbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullBecause {
    Quota,
    NodeQuota,
    Disk,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    #[error("record {} is missing before record {}", expected.0, first.0)]
    Gap { expected: Seq, first: Seq },
    #[error("the mailbox is closed: its child has ended")]
    Closed,
    /// Block policy: here they are back; await `room`, then append them again.
    #[error("the mailbox is full")]
    Full { records: Vec<Record>, because: FullBecause },
    /// Fail policy: the child fails with `limit{output}`.
    #[error("the output passes its quota")]
    OverQuota { dropped: Tally },
    /// The job was removed.
    #[error("the job was removed")]
    Removed,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("the job was removed")]
    Removed,
    #[error("a mailbox file cannot be read")]
    Disk(#[source] std::io::Error),
}

/// A place in a mailbox, one per stream inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {}
impl Position {
    pub const START: Self = Self {};
}

/// Records on offer. Dropping it unacknowledged withdraws it.
#[derive(Debug)]
pub struct Offer {
    /// In order of their numbers. Use `std::mem::take` to move them out.
    pub records: Vec<Record>,
    /// Whether there is more to offer of these streams.
    pub more: bool,
}
impl Offer {
    pub fn ordinal(&self) -> Ordinal {
        unimplemented!()
    }
}

#[derive(Debug)]
pub struct Kept {
    pub records: Vec<Record>,
    pub next: Position,
    pub more: bool,
}

/// What `tail` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailUnit {
    /// Lines of byte records; each value record counts as one line.
    Lines,
    Records,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailStart {
    /// Keep from here.
    pub from: Position,
    /// Bytes of the first kept record that come before the wanted lines.
    pub skip_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub unread: Tally,
    pub dropped: Tally,
    pub with_errors: bool,
    pub closed: bool,
    pub next: Seq,
    pub full: Option<FullBecause>,
}

/// One per job: the mailboxes of its children, by ordinal.
#[derive(Debug)]
pub struct JobMailboxes {}
impl JobMailboxes {
    pub fn new(pool: Arc<MailboxPool>) -> Arc<Self> {
        unimplemented!()
    }
    pub fn with_policy(pool: Arc<MailboxPool>, policy: OutputPolicy) -> Arc<Self> {
        unimplemented!()
    }
    /// Never blocks and never touches a disk.
    pub fn try_append(
        &self,
        ordinal: Ordinal,
        first: Seq,
        records: Vec<Record>,
    ) -> Result<TryAppend, AppendError> {
        unimplemented!()
    }
    /// The records are numbered from `first` on, whatever their own numbers say.
    pub async fn append(
        &self,
        ordinal: Ordinal,
        first: Seq,
        records: Vec<Record>,
    ) -> Result<Appended, AppendError> {
        unimplemented!()
    }
    pub async fn room(&self, ordinal: Ordinal) {
        unimplemented!()
    }
    pub fn close(&self, ordinal: Ordinal) {
        unimplemented!()
    }
    /// None: nothing that is not on offer already. Waits while 16 offers are in flight.
    pub async fn offer(
        self: &Arc<Self>,
        ordinal: Ordinal,
        streams: StreamSet,
        most: Most,
    ) -> Result<Option<Offer>, ReadError> {
        unimplemented!()
    }
    pub fn acknowledge(&self, offer: Offer) {
        unimplemented!()
    }
    pub async fn keep(
        &self,
        ordinal: Ordinal,
        from: Position,
        streams: StreamSet,
        most: Most,
    ) -> Result<Kept, ReadError> {
        unimplemented!()
    }
    pub async fn tail(
        &self,
        ordinal: Ordinal,
        streams: StreamSet,
        count: u64,
        unit: TailUnit,
    ) -> Result<TailStart, ReadError> {
        unimplemented!()
    }
    pub fn summary(&self, ordinal: Ordinal) -> Summary {
        unimplemented!()
    }
    /// All children together.
    pub fn unread(&self) -> Tally {
        unimplemented!()
    }
    /// The first child from `from` on that has records which are not on offer.
    pub fn next_unread(&self, from: Ordinal) -> Option<Ordinal> {
        unimplemented!()
    }
    /// First the children that have records now, in child order, then others in order of arrival.
    pub fn ready(self: &Arc<Self>) -> Ready {
        unimplemented!()
    }
    /// Raised by every append, close and withdrawal.
    pub fn version(&self) -> u64 {
        unimplemented!()
    }
    /// Waits until the version is not `since`.
    pub async fn changed(&self, since: u64) -> u64 {
        unimplemented!()
    }
    pub fn remove_all(&self) {
        unimplemented!()
    }
}

/// How much one answer may hold; one record may pass the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    pub records: usize,
    pub bytes: usize,
}
/// [`BATCH_RECORDS`] and [`BATCH_BYTES`].
impl Default for Most {
    fn default() -> Self {
        use sortie_model::limits::{BATCH_BYTES, BATCH_RECORDS};
        Self { records: BATCH_RECORDS, bytes: BATCH_BYTES }
    }
}

/// One reader's queue of children with new records.
#[derive(Debug)]
pub struct Ready {}
impl Ready {
    /// None: nothing new now; await `changed`.
    pub fn next_child(&mut self) -> Option<Ordinal> {
        unimplemented!()
    }
}
