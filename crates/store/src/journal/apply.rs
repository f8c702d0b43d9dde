//! Changes, one after the other, in one transaction.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};
use sortie_model::{EntryId, IdempotencyKey, JobInstance, Ordinal, SessionInstance, Timestamp};

use crate::journal::block::{self, BLOCK, ChildBlock, CursorBlock};
use crate::journal::change::{Change, Checkpoint, PreparedStart, Started};
use crate::journal::entries::{
    Apart, ChildRun, Cursor, HistoryTotals, JobEntry, JobFacts, KeyEntry, SessionEntry,
};
use crate::journal::error::{Fault, JOURNAL_VERSION, JournalError};
use crate::journal::tables::{
    ABOUT_COMMIT, ABOUT_HISTORY, ABOUT_VERSION, Kept, Left, Open, block_key, finished_key,
    instance_key, job_key, key_key, output_key, parse_job, session_key,
};
use crate::segment::Taken;

/// A job as the journal has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredJob {
    pub(crate) key: IdempotencyKey,
    pub(crate) entry: JobEntry,
}

/// All tables, open for one transaction.
pub(crate) struct Tables<'t> {
    about: Open<'t>,
    sessions: Open<'t>,
    jobs: Open<'t>,
    plans: Open<'t>,
    instances: Open<'t>,
    unfinished: Open<'t>,
    finished: Open<'t>,
    keys: Open<'t>,
    children: Open<'t>,
    cursors: Open<'t>,
    outputs: Open<'t>,
    checkpoints: Open<'t>,
    apart: Open<'t>,
    removed: Open<'t>,
    totals: HistoryTotals,
}

impl<'t> Tables<'t> {
    pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Self, Fault> {
        let about = Kept::About.open(transaction)?;
        let totals = about.get(ABOUT_HISTORY)?.unwrap_or_default();
        Ok(Self {
            about,
            sessions: Kept::Sessions.open(transaction)?,
            jobs: Kept::Jobs.open(transaction)?,
            plans: Kept::Plans.open(transaction)?,
            instances: Kept::Instances.open(transaction)?,
            unfinished: Kept::Unfinished.open(transaction)?,
            finished: Kept::Finished.open(transaction)?,
            keys: Kept::Keys.open(transaction)?,
            children: Kept::Children.open(transaction)?,
            cursors: Kept::Cursors.open(transaction)?,
            outputs: Kept::Outputs.open(transaction)?,
            checkpoints: Kept::Checkpoints.open(transaction)?,
            apart: Kept::Apart.open(transaction)?,
            removed: Kept::Removed.open(transaction)?,
            totals,
        })
    }

    /// Whether anything was written.
    pub(crate) fn is_written(&self) -> bool {
        let all = [
            &self.about,
            &self.sessions,
            &self.jobs,
            &self.plans,
            &self.instances,
            &self.unfinished,
            &self.finished,
            &self.keys,
            &self.children,
            &self.cursors,
            &self.outputs,
            &self.checkpoints,
            &self.apart,
            &self.removed,
        ];
        all.iter().any(|table| table.written)
    }

    /// The journal has this program's version from this transaction on.
    pub(crate) fn raise_version(&mut self) -> Result<(), Fault> {
        self.about.put(ABOUT_VERSION, &JOURNAL_VERSION)
    }

    /// The last entries of a transaction: its number, by which it is found again.
    pub(crate) fn finish(&mut self, number: u64) -> Result<(), Fault> {
        if self.finished.written {
            self.about.put(ABOUT_HISTORY, &self.totals)?;
        }
        self.about.put(ABOUT_COMMIT, &number)
    }

    /// Checks the key and makes the job, in one step.
    pub(crate) fn start(
        &mut self,
        start: &PreparedStart,
    ) -> Result<Result<Started, JournalError>, Fault> {
        let new = &start.new;
        let session = session_key(new.session);
        let Some(owner) = self.sessions.get::<SessionEntry>(&session)? else {
            return Ok(Err(JournalError::NoSession));
        };
        let key = key_key(new.session, &new.key);
        if let Some(found) = self.keys.get::<KeyEntry>(&key)? {
            return Ok(match [new.digest, new.of_all].contains(&found.spec) {
                true => Ok(Started::Same(found.job)),
                false => Err(JournalError::KeyReused { job: found.job }),
            });
        }
        let (id, instance) = (new.entry.id, instance_key(new.entry.instance));
        let at = job_key(new.session, id);
        let (spec, removed) = (new.digest, None);
        self.keys.put(&key, &KeyEntry { job: id, spec, removed })?;
        self.plans.put_sealed(&at, &start.plan)?;
        self.instances.put(&instance, &(new.session, id))?;
        self.jobs.put(&at, &StoredJob { key: new.key.clone(), entry: new.entry.clone() })?;
        self.index(new.session, id, &new.entry.facts)?;
        self.put_children(new.entry.instance, &new.children)?;
        self.raise(owner, new.next_id)?;
        Ok(Ok(Started::New))
    }

    pub(crate) fn change(&mut self, change: &Change) -> Result<(), Fault> {
        match change {
            Change::SessionOpened(session) | Change::SessionChanged(session) => {
                self.put_session(session)
            }
            Change::SessionClosed(session) => {
                if self.sessions.remove(&session_key(*session))? {
                    self.removed.put_sealed(&Left::Session(*session).key(), &[])?;
                }
                Ok(())
            }
            Change::JobChanged { session, job, facts } => self.change_job(*session, *job, facts),
            Change::ChildrenChanged { session, job, runs, next_id } => {
                if self.instances.contains(&instance_key(*job))? {
                    self.put_children(*job, runs)?;
                    let owner = self.sessions.get(&session_key(*session))?;
                    if let (Some(owner), Some(next)) = (owner, next_id) {
                        self.raise(owner, *next)?;
                    }
                }
                Ok(())
            }
            Change::CursorsMoved { job, cursors } => self.move_cursors(*job, cursors),
            Change::OutputStored { job, outputs } => self.put_outputs(*job, outputs),
            Change::CheckpointsReached { job, checkpoints } => {
                self.put_checkpoints(*job, checkpoints)
            }
            Change::JobsRemoved { session, jobs, at } => {
                jobs.iter().try_for_each(|job| self.remove_job(*session, *job, Some(*at)))
            }
            Change::KeysForgotten { session, keys } => keys.iter().try_for_each(|key| {
                self.keys.remove(&key_key(*session, key))?;
                Ok(())
            }),
        }
    }

    fn put_session(&mut self, session: &SessionEntry) -> Result<(), Fault> {
        let key = session_key(session.instance);
        let before = self.sessions.get::<SessionEntry>(&key)?;
        let next_id = before.map_or(session.next_id, |before| before.next_id.max(session.next_id));
        self.sessions.put(&key, &SessionEntry { next_id, ..session.clone() })
    }

    fn raise(&mut self, session: SessionEntry, next_id: EntryId) -> Result<(), Fault> {
        if next_id <= session.next_id {
            return Ok(());
        }
        let key = session_key(session.instance);
        self.sessions.put(&key, &SessionEntry { next_id, ..session })
    }

    fn change_job(
        &mut self,
        session: SessionInstance,
        job: EntryId,
        facts: &JobFacts,
    ) -> Result<(), Fault> {
        let at = job_key(session, job);
        let Some(mut stored) = self.jobs.get::<StoredJob>(&at)? else { return Ok(()) };
        self.unindex(session, job, &stored.entry.facts)?;
        stored.entry.facts = facts.clone();
        self.jobs.put(&at, &stored)?;
        self.index(session, job, facts)
    }

    /// Puts a job among the unfinished ones or into the history.
    fn index(
        &mut self,
        session: SessionInstance,
        job: EntryId,
        facts: &JobFacts,
    ) -> Result<(), Fault> {
        let at = job_key(session, job);
        let Some(end) = facts.finished() else { return self.unfinished.put_sealed(&at, &[]) };
        let bytes = facts.output_bytes.saturating_add(facts.input.bytes());
        let bytes = bytes.saturating_add(self.plans.length(&at)?);
        self.totals.jobs += 1;
        self.totals.bytes = self.totals.bytes.saturating_add(bytes);
        self.finished.put(&finished_key(end, session, job), &bytes)
    }

    fn unindex(
        &mut self,
        session: SessionInstance,
        job: EntryId,
        facts: &JobFacts,
    ) -> Result<(), Fault> {
        let Some(end) = facts.finished() else {
            self.unfinished.remove(&job_key(session, job))?;
            return Ok(());
        };
        let at = finished_key(end, session, job);
        let bytes = self.finished.get::<u64>(&at)?;
        if self.finished.remove(&at)? {
            self.totals.jobs = self.totals.jobs.saturating_sub(1);
            self.totals.bytes = self.totals.bytes.saturating_sub(bytes.unwrap_or(0));
        }
        Ok(())
    }

    fn put_children(&mut self, job: JobInstance, runs: &[ChildRun]) -> Result<(), Fault> {
        let mut blocks = BTreeMap::new();
        for run in runs {
            for number in block::blocks_of(run) {
                let block: &mut ChildBlock = match blocks.entry(number) {
                    Entry::Occupied(block) => block.into_mut(),
                    Entry::Vacant(place) => {
                        let stored = self.children.get(&block_key(job, number))?;
                        place.insert(stored.unwrap_or_default())
                    }
                };
                block.put(number, run);
            }
        }
        blocks
            .iter()
            .try_for_each(|(number, block)| self.children.put(&block_key(job, *number), block))
    }

    fn move_cursors(
        &mut self,
        job: JobInstance,
        cursors: &[(Ordinal, Cursor)],
    ) -> Result<(), Fault> {
        if !self.instances.contains(&instance_key(job))? {
            return Ok(());
        }
        let mut blocks: BTreeMap<u32, Vec<&(Ordinal, Cursor)>> = BTreeMap::new();
        for moved in cursors {
            blocks.entry(moved.0.0 / BLOCK).or_default().push(moved);
        }
        for (number, moved) in blocks {
            let key = block_key(job, number);
            let mut block = self.cursors.get::<CursorBlock>(&key)?.unwrap_or_default();
            for (ordinal, cursor) in moved {
                block.merge(*ordinal, cursor);
                self.put_apart((job, *ordinal), block.taken(*ordinal), &cursor.apart)?;
            }
            self.cursors.put(&key, &block)?;
        }
        Ok(())
    }

    /// Adds to what was taken apart of a child whose streams were taken so far.
    fn put_apart(
        &mut self,
        (job, ordinal): (JobInstance, Ordinal),
        taken: Taken,
        more: &[Apart],
    ) -> Result<(), Fault> {
        let key = output_key(job, ordinal);
        let before = self.apart.get::<Vec<Apart>>(&key)?.unwrap_or_default();
        let mut cursor = Cursor { taken, apart: before.clone(), ..Cursor::default() };
        cursor.put_apart(more.iter().copied());
        if cursor.apart == before {
            return Ok(());
        }
        if cursor.apart.is_empty() {
            return self.apart.remove(&key).map(|_| ());
        }
        self.apart.put(&key, &cursor.apart)
    }

    fn put_outputs(&mut self, job: JobInstance, outputs: &[(Ordinal, Bytes)]) -> Result<(), Fault> {
        if !self.instances.contains(&instance_key(job))? {
            return Ok(());
        }
        outputs.iter().try_for_each(|(ordinal, output)| {
            self.outputs.put(&output_key(job, *ordinal), &output.as_ref())
        })
    }

    fn put_checkpoints(
        &mut self,
        job: JobInstance,
        checkpoints: &[(Ordinal, Option<Checkpoint>)],
    ) -> Result<(), Fault> {
        if !self.instances.contains(&instance_key(job))? {
            return Ok(());
        }
        checkpoints.iter().try_for_each(|(ordinal, checkpoint)| {
            let key = output_key(job, *ordinal);
            match checkpoint {
                Some((life, value)) => self.checkpoints.put(&key, &(life, value.as_ref())),
                None => self.checkpoints.remove(&key).map(|_| ()),
            }
        })
    }

    /// Removes a job; its key is remembered from that moment on, or goes too. Its children,
    /// cursors, outputs and checkpoints go in steps, and what else there is of them.
    fn remove_job(
        &mut self,
        session: SessionInstance,
        job: EntryId,
        remembered: Option<Timestamp>,
    ) -> Result<(), Fault> {
        let at = job_key(session, job);
        let Some(stored) = self.jobs.get::<StoredJob>(&at)? else { return Ok(()) };
        self.unindex(session, job, &stored.entry.facts)?;
        self.jobs.remove(&at)?;
        self.plans.remove(&at)?;
        self.instances.remove(&instance_key(stored.entry.instance))?;
        self.removed.put_sealed(&Left::Job(stored.entry.instance).key(), &[])?;
        let key = key_key(session, &stored.key);
        match (remembered, self.keys.get::<KeyEntry>(&key)?) {
            (Some(_), Some(entry)) => {
                self.keys.put(&key, &KeyEntry { removed: remembered, ..entry })
            }
            _ => self.keys.remove(&key).map(|_| ()),
        }
    }

    /// Removes at most so many rows of what was removed by name. Says whether more is left.
    pub(crate) fn purge(&mut self, mut rows: usize) -> Result<bool, Fault> {
        while rows > 0 {
            let Some(first) = self.removed.keys(&[], 1)?.pop() else { return Ok(false) };
            let removed = match Left::parse(&first) {
                Some(Left::Job(job)) => self.purge_job(job, rows)?,
                Some(Left::Session(session)) => self.purge_session(session, rows)?,
                None => 0,
            };
            if removed == 0 {
                self.removed.remove(&first)?;
            }
            rows = rows.saturating_sub(removed.max(1));
        }
        Ok(!self.removed.keys(&[], 1)?.is_empty())
    }

    fn purge_job(&mut self, job: JobInstance, rows: usize) -> Result<usize, Fault> {
        let mut removed = 0;
        let (children, cursors) = (&mut self.children, &mut self.cursors);
        let others = [&mut self.outputs, &mut self.checkpoints, &mut self.apart];
        for table in [children, cursors].into_iter().chain(others) {
            for key in table.keys(&instance_key(job), rows - removed)? {
                table.remove(&key)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn purge_session(&mut self, session: SessionInstance, rows: usize) -> Result<usize, Fault> {
        let prefix = session_key(session);
        let jobs = self.jobs.keys(&prefix, rows)?;
        for key in &jobs {
            if let Some((session, job)) = parse_job(key) {
                self.remove_job(session, job, None)?;
            }
        }
        let keys = self.keys.keys(&prefix, rows - jobs.len())?;
        for key in &keys {
            self.keys.remove(key)?;
        }
        Ok(jobs.len() + keys.len())
    }
}
