//! What the journal has: one entry, or a page of them in order. A page has at most
//! [`limits::JOURNAL_PAGE`] rows and never reads more than it gives.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable};
use serde::de::DeserializeOwned;
use sortie_model::{
    EntryId, IdempotencyKey, JobInstance, Ordinal, SessionInstance, Timestamp, limits,
};

use crate::journal::apply::StoredJob;
use crate::journal::block::{BLOCK, ChildBlock, CursorBlock};
use crate::journal::error::{Fault, JournalError};
use crate::journal::tables::{
    ABOUT_HISTORY, Kept, block_key, finished_key, instance_key, job_key, key_key, output_key,
    parse_block, parse_finished, parse_job, parse_output, session_key,
};
use crate::journal::writer::guarded;
use crate::journal::{
    Apart, Checkpoint, ChildRun, Cursor, FinishedJob, HistoryTotals, JobEntry, JobPlan, Journal,
    KeyEntry, SessionEntry,
};

/// From which end of the history a page is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The longest finished first.
    OldestFirst,
    /// The last finished first.
    NewestFirst,
}

impl Journal {
    /// A session.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn session(&self, session: SessionInstance) -> Result<Option<SessionEntry>, JournalError> {
        self.entry(Kept::Sessions, &session_key(session))
    }

    /// All sessions, of which a node has at most [`limits::SESSIONS_PER_NODE`], by instance.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn sessions(&self) -> Result<Vec<SessionEntry>, JournalError> {
        self.read(|transaction| {
            let table = Kept::Sessions.of(transaction)?;
            let mut sessions = Vec::new();
            for entry in table.iter()? {
                let (key, bytes) = entry?;
                sessions.push(Kept::Sessions.unseal(key.value(), bytes.value())?);
            }
            Ok(sessions)
        })
    }

    /// A job.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn job(
        &self,
        session: SessionInstance,
        job: EntryId,
    ) -> Result<Option<(IdempotencyKey, JobEntry)>, JournalError> {
        let stored = self.entry::<StoredJob>(Kept::Jobs, &job_key(session, job))?;
        Ok(stored.map(|stored| (stored.key, stored.entry)))
    }

    /// Where the job with that identity is.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn job_place(
        &self,
        job: JobInstance,
    ) -> Result<Option<(SessionInstance, EntryId)>, JournalError> {
        self.entry(Kept::Instances, &instance_key(job))
    }

    /// What was submitted.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn plan(
        &self,
        session: SessionInstance,
        job: EntryId,
    ) -> Result<Option<JobPlan>, JournalError> {
        self.entry(Kept::Plans, &job_key(session, job))
    }

    /// Jobs of a session with higher numbers than `after`, ascending, at most `most`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn jobs(
        &self,
        session: SessionInstance,
        after: Option<EntryId>,
        most: usize,
    ) -> Result<Vec<JobEntry>, JournalError> {
        self.read(|transaction| {
            let table = Kept::Jobs.of(transaction)?;
            let (from, to) = job_range(session, after);
            let mut jobs = Vec::new();
            for entry in table.range::<&[u8]>(from.as_slice()..=&to)?.take(page(most)) {
                let (key, bytes) = entry?;
                let stored: StoredJob = Kept::Jobs.unseal(key.value(), bytes.value())?;
                jobs.push(stored.entry);
            }
            Ok(jobs)
        })
    }

    /// The numbers of a session's jobs that are not finished: what is taken up again at a start.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn unfinished(
        &self,
        session: SessionInstance,
        after: Option<EntryId>,
        most: usize,
    ) -> Result<Vec<EntryId>, JournalError> {
        self.read(|transaction| {
            let table = Kept::Unfinished.of(transaction)?;
            let (from, to) = job_range(session, after);
            let mut jobs = Vec::new();
            for entry in table.range::<&[u8]>(from.as_slice()..=&to)?.take(page(most)) {
                let (key, _) = entry?;
                let (_, id) = parse_job(key.value()).ok_or(Fault::Entry("unfinished"))?;
                jobs.push(id);
            }
            Ok(jobs)
        })
    }

    /// Children of a job from an ordinal on that ever moved, ascending, as runs: at most `most` of
    /// them. A known child without a row waits, and its number follows from the job's plan.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn children(
        &self,
        job: JobInstance,
        from: Ordinal,
        most: usize,
    ) -> Result<Vec<ChildRun>, JournalError> {
        self.blocks(Kept::Children, job, from, |block: ChildBlock, number, runs| {
            runs.extend(block.runs(number, from));
            runs.truncate(page(most));
            runs.len() < page(most)
        })
    }

    /// Cursors of a job's children from an ordinal on that were ever moved, at most `most`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn cursors(
        &self,
        job: JobInstance,
        from: Ordinal,
        most: usize,
    ) -> Result<Vec<(Ordinal, Cursor)>, JournalError> {
        let found = |block: CursorBlock, number, cursors: &mut Vec<(Ordinal, Cursor)>| {
            cursors.extend(block.cursors(number, from));
            cursors.truncate(page(most));
            cursors.len() < page(most)
        };
        let mut cursors = self.blocks(Kept::Cursors, job, from, found)?;
        // Those that have some are among them.
        for (ordinal, apart) in self.by_child::<Vec<Apart>>(Kept::Apart, (job, from), most)? {
            if let Ok(at) = cursors.binary_search_by_key(&ordinal, |(of, _)| *of)
                && let Some((_, cursor)) = cursors.get_mut(at)
            {
                cursor.put_apart(apart);
            }
        }
        Ok(cursors)
    }

    /// What children of a job from an ordinal on left that was too little for a file, at most
    /// `most`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn outputs(
        &self,
        job: JobInstance,
        from: Ordinal,
        most: usize,
    ) -> Result<Vec<(Ordinal, Bytes)>, JournalError> {
        let outputs = self.by_child::<Vec<u8>>(Kept::Outputs, (job, from), most)?;
        Ok(outputs.into_iter().map(|(ordinal, output)| (ordinal, output.into())).collect())
    }

    /// The last checkpoints of a job's children from an ordinal on, at most `most`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn checkpoints(
        &self,
        job: JobInstance,
        from: Ordinal,
        most: usize,
    ) -> Result<Vec<(Ordinal, Checkpoint)>, JournalError> {
        let all = self.by_child::<(_, Vec<u8>)>(Kept::Checkpoints, (job, from), most)?;
        Ok(all
            .into_iter()
            .map(|(ordinal, (life, value))| (ordinal, (life, value.into())))
            .collect())
    }

    /// Entries of a table that has one for a child, from an ordinal on.
    fn by_child<T: DeserializeOwned>(
        &self,
        kept: Kept,
        (job, from): (JobInstance, Ordinal),
        most: usize,
    ) -> Result<Vec<(Ordinal, T)>, JournalError> {
        self.read(|transaction| {
            let table = match kept.of(transaction) {
                // Nothing was written yet since a release that had no such table.
                Err(Fault::Storage(redb::Error::TableDoesNotExist(_))) if kept.is_new() => {
                    return Ok(Vec::new());
                }
                table => table?,
            };
            let (first, last) = (output_key(job, from), output_key(job, Ordinal(u32::MAX)));
            let mut all = Vec::new();
            for entry in table.range::<&[u8]>(first.as_slice()..=&last)?.take(page(most)) {
                let (key, bytes) = entry?;
                let ordinal = parse_output(key.value()).ok_or(Fault::Entry(kept.name()))?;
                all.push((ordinal, kept.unseal(key.value(), bytes.value())?));
            }
            Ok(all)
        })
    }

    /// Keys of a session behind `after`, in the order of their bytes, at most `most`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn keys(
        &self,
        session: SessionInstance,
        after: Option<&IdempotencyKey>,
        most: usize,
    ) -> Result<Vec<(IdempotencyKey, KeyEntry)>, JournalError> {
        self.read(|transaction| {
            let table = Kept::Keys.of(transaction)?;
            let prefix = session_key(session);
            let from = after.map_or(prefix.to_vec(), |after| {
                // The least that sorts behind it.
                let mut from = key_key(session, after);
                from.push(0);
                from
            });
            let mut keys = Vec::new();
            for entry in table.range::<&[u8]>(from.as_slice()..)?.take(page(most)) {
                let (key, bytes) = entry?;
                let Some(text) = key.value().strip_prefix(&prefix) else { break };
                let text = String::from_utf8_lossy(text).into_owned();
                let name = text.try_into().map_err(|_| Fault::Entry("keys"))?;
                keys.push((name, Kept::Keys.unseal(key.value(), bytes.value())?));
            }
            Ok(keys)
        })
    }

    /// What the history has all together.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn history(&self) -> Result<HistoryTotals, JournalError> {
        self.entry(Kept::About, ABOUT_HISTORY).map(Option::unwrap_or_default)
    }

    /// Finished jobs of all sessions in the order of their ends, at most `most`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn finished(&self, order: Order, most: usize) -> Result<Vec<FinishedJob>, JournalError> {
        self.read(|transaction| {
            let table = Kept::Finished.of(transaction)?;
            let mut jobs = Vec::new();
            let least = finished_key(Timestamp(i64::MIN), SessionInstance(nil()), EntryId(0));
            let mut range = table.range::<&[u8]>(least.as_slice()..)?;
            while jobs.len() < page(most) {
                let next = match order {
                    Order::OldestFirst => range.next(),
                    Order::NewestFirst => range.next_back(),
                };
                let Some(entry) = next else { break };
                let (key, bytes) = entry?;
                let (end, session, job) =
                    parse_finished(key.value()).ok_or(Fault::Entry("finished"))?;
                let bytes = Kept::Finished.unseal(key.value(), bytes.value())?;
                jobs.push(FinishedJob { end, session, job, bytes });
            }
            Ok(jobs)
        })
    }

    fn blocks<B: DeserializeOwned, R>(
        &self,
        kept: Kept,
        job: JobInstance,
        from: Ordinal,
        mut add: impl FnMut(B, u32, &mut Vec<R>) -> bool,
    ) -> Result<Vec<R>, JournalError> {
        self.read(|transaction| {
            let table = kept.of(transaction)?;
            let (first, last) = (block_key(job, from.0 / BLOCK), block_key(job, u32::MAX));
            let mut rows = Vec::new();
            for entry in table.range::<&[u8]>(first.as_slice()..=&last)? {
                let (key, bytes) = entry?;
                let block = kept.unseal(key.value(), bytes.value())?;
                let number = parse_block(key.value()).ok_or(Fault::Entry(kept.name()))?;
                if !add(block, number, &mut rows) {
                    break;
                }
            }
            Ok(rows)
        })
    }

    fn entry<T: DeserializeOwned>(
        &self,
        kept: Kept,
        key: &[u8],
    ) -> Result<Option<T>, JournalError> {
        self.read(|transaction| kept.read(&kept.of(transaction)?, key))
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, JournalError> {
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(JournalError::Closed)?;
        guarded(|| read(&database.begin_read()?)).map_err(|fault| match fault {
            Fault::Entry(table) => JournalError::Damaged { table },
            fault => JournalError::Failed(Arc::new(fault)),
        })
    }
}

fn page(most: usize) -> usize {
    most.min(limits::JOURNAL_PAGE)
}

fn job_range(session: SessionInstance, after: Option<EntryId>) -> (Vec<u8>, [u8; 24]) {
    let from = match after {
        None => job_key(session, EntryId(0)).to_vec(),
        // The least key that sorts behind it.
        Some(after) => [job_key(session, after).as_slice(), &[0]].concat(),
    };
    (from, job_key(session, EntryId(u64::MAX)))
}

const fn nil() -> uuid::Uuid {
    uuid::Uuid::nil()
}
