//! The journal's tables and their keys. Numbers in keys are big-endian, so that they sort.

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_model::{EntryId, IdempotencyKey, JobInstance, Ordinal, SessionInstance, Timestamp};
use uuid::Uuid;

use crate::journal::error::Fault;
use crate::journal::value;

type Bytes = &'static [u8];

/// A table, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Numbers about the journal itself, by their names.
    About,
    /// Sessions, by instance.
    Sessions,
    /// Jobs, by session and number.
    Jobs,
    /// Their plans, by the same.
    Plans,
    /// Where a job is, by instance.
    Instances,
    /// Jobs that are not finished, by session and number.
    Unfinished,
    /// Jobs that are, by end, session and number.
    Finished,
    /// Idempotency keys, by session and key.
    Keys,
    /// Children, by job and block.
    Children,
    /// Cursors, by job and block.
    Cursors,
    /// Output of children that was too little for a file, by job and ordinal.
    Outputs,
    /// The last checkpoints of functions, by job and ordinal.
    Checkpoints,
    /// What of a child's records was taken before what comes before them, by job and ordinal.
    Apart,
    /// Jobs and sessions of which something is left to remove.
    Removed,
}

impl Kept {
    pub(crate) const ALL: [Self; 14] = [
        Self::About,
        Self::Sessions,
        Self::Jobs,
        Self::Plans,
        Self::Instances,
        Self::Unfinished,
        Self::Finished,
        Self::Keys,
        Self::Children,
        Self::Cursors,
        Self::Outputs,
        Self::Checkpoints,
        Self::Apart,
        Self::Removed,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::About => "about",
            Self::Sessions => "sessions",
            Self::Jobs => "jobs",
            Self::Plans => "plans",
            Self::Instances => "instances",
            Self::Unfinished => "unfinished",
            Self::Finished => "finished",
            Self::Keys => "keys",
            Self::Children => "children",
            Self::Cursors => "cursors",
            Self::Outputs => "outputs",
            Self::Checkpoints => "checkpoints",
            Self::Apart => "apart",
            Self::Removed => "removed",
        }
    }

    const fn definition(self) -> TableDefinition<'static, Bytes, Bytes> {
        TableDefinition::new(self.name())
    }

    pub(crate) fn of(
        self,
        transaction: &ReadTransaction,
    ) -> Result<ReadOnlyTable<Bytes, Bytes>, Fault> {
        Ok(transaction.open_table(self.definition())?)
    }

    pub(crate) fn open(self, transaction: &WriteTransaction) -> Result<Open<'_>, Fault> {
        let table = transaction.open_table(self.definition())?;
        Ok(Open { table, kept: self, written: false })
    }

    /// Whether journals of earlier releases, in which nothing was written since, do not have it.
    pub(crate) const fn is_new(self) -> bool {
        matches!(self, Self::Checkpoints | Self::Apart)
    }

    /// The entry with that key.
    pub(crate) fn read<T: DeserializeOwned>(
        self,
        table: &impl ReadableTable<Bytes, Bytes>,
        key: &[u8],
    ) -> Result<Option<T>, Fault> {
        let found = table.get(key)?;
        found.map(|bytes| self.unseal(key, bytes.value())).transpose()
    }

    pub(crate) fn unseal<T: DeserializeOwned>(self, key: &[u8], bytes: &[u8]) -> Result<T, Fault> {
        value::unseal(key, bytes).ok_or(Fault::Entry(self.name()))
    }
}

/// A table in a transaction that writes.
pub(crate) struct Open<'t> {
    table: Table<'t, Bytes, Bytes>,
    kept: Kept,
    pub(crate) written: bool,
}

impl Open<'_> {
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Fault> {
        self.kept.read(&self.table, key)
    }

    /// How long the entry is, if there is one.
    pub(crate) fn length(&self, key: &[u8]) -> Result<u64, Fault> {
        Ok(self.table.get(key)?.map_or(0, |entry| entry.value().len() as u64))
    }

    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool, Fault> {
        Ok(self.table.get(key)?.is_some())
    }

    /// Entries that pass the codec's bound are refused before they come here.
    pub(crate) fn put<T: Serialize>(&mut self, key: &[u8], entry: &T) -> Result<(), Fault> {
        let sealed = value::seal(key, entry).map_err(|_| Fault::Entry(self.kept.name()))?;
        self.put_sealed(key, &sealed)
    }

    pub(crate) fn put_sealed(&mut self, key: &[u8], sealed: &[u8]) -> Result<(), Fault> {
        self.written = true;
        self.table.insert(key, sealed)?;
        Ok(())
    }

    /// Says whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Result<bool, Fault> {
        let was_there = self.table.remove(key)?.is_some();
        self.written |= was_there;
        Ok(was_there)
    }

    /// The first keys that begin so, at most `most`.
    pub(crate) fn keys(&self, prefix: &[u8], most: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let mut keys = Vec::new();
        for entry in self.table.range::<&[u8]>(prefix..)?.take(most) {
            let (key, _) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            keys.push(key.value().to_vec());
        }
        Ok(keys)
    }
}

pub(crate) const ABOUT_VERSION: &[u8] = b"version";
pub(crate) const ABOUT_COMMIT: &[u8] = b"commit";
pub(crate) const ABOUT_HISTORY: &[u8] = b"history";

pub(crate) fn session_key(session: SessionInstance) -> [u8; 16] {
    *session.0.as_bytes()
}

pub(crate) fn job_key(session: SessionInstance, job: EntryId) -> [u8; 24] {
    let mut key = [0; 24];
    let bytes = session.0.as_bytes().iter().copied().chain(job.0.to_be_bytes());
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

pub(crate) fn instance_key(job: JobInstance) -> [u8; 16] {
    *job.0.as_bytes()
}

pub(crate) fn block_key(job: JobInstance, block: u32) -> [u8; 20] {
    let mut key = [0; 20];
    let bytes = job.0.as_bytes().iter().copied().chain(block.to_be_bytes());
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

pub(crate) fn output_key(job: JobInstance, ordinal: Ordinal) -> [u8; 20] {
    block_key(job, ordinal.0)
}

/// What a key of [`Kept::Outputs`], [`Kept::Checkpoints`] or [`Kept::Apart`] says of the child.
pub(crate) fn parse_output(key: &[u8]) -> Option<Ordinal> {
    parse_block(key).map(Ordinal)
}

pub(crate) fn key_key(session: SessionInstance, key: &IdempotencyKey) -> Vec<u8> {
    [session.0.as_bytes().as_slice(), key.as_str().as_bytes()].concat()
}

/// Moments before 1970 sort before those after.
pub(crate) fn finished_key(end: Timestamp, session: SessionInstance, job: EntryId) -> [u8; 32] {
    let mut key = [0; 32];
    let moment = (end.0 as u64) ^ (1 << 63);
    let bytes = moment.to_be_bytes().into_iter().chain(job_key(session, job));
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

/// What a key of [`Kept::Finished`] says.
pub(crate) fn parse_finished(key: &[u8]) -> Option<(Timestamp, SessionInstance, EntryId)> {
    let (moment, job) = key.split_first_chunk::<8>()?;
    let end = Timestamp((u64::from_be_bytes(*moment) ^ (1 << 63)) as i64);
    let (session, id) = parse_job(job)?;
    Some((end, session, id))
}

/// What a key of [`Kept::Jobs`] says.
pub(crate) fn parse_job(key: &[u8]) -> Option<(SessionInstance, EntryId)> {
    let (session, id) = key.split_first_chunk::<16>()?;
    let id = EntryId(u64::from_be_bytes(id.try_into().ok()?));
    Some((SessionInstance(Uuid::from_bytes(*session)), id))
}

/// What a key of [`Kept::Children`] or [`Kept::Cursors`] says of the block.
pub(crate) fn parse_block(key: &[u8]) -> Option<u32> {
    let (_, block) = key.split_first_chunk::<16>()?;
    Some(u32::from_be_bytes(block.try_into().ok()?))
}

const REMOVED_JOB: u8 = 0;
const REMOVED_SESSION: u8 = 1;

/// What of a key of [`Kept::Removed`] is left to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Job(JobInstance),
    Session(SessionInstance),
}

impl Left {
    pub(crate) fn key(self) -> [u8; 17] {
        let (kind, uuid) = match self {
            Self::Job(job) => (REMOVED_JOB, job.0),
            Self::Session(session) => (REMOVED_SESSION, session.0),
        };
        let mut key = [kind; 17];
        key.iter_mut().skip(1).zip(uuid.as_bytes()).for_each(|(to, from)| *to = *from);
        key
    }

    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        let (kind, uuid) = key.split_first()?;
        let uuid = Uuid::from_slice(uuid).ok()?;
        match *kind {
            REMOVED_JOB => Some(Self::Job(JobInstance(uuid))),
            REMOVED_SESSION => Some(Self::Session(SessionInstance(uuid))),
            _ => None,
        }
    }
}
