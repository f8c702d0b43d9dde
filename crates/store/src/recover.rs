//! What a node finds of its persistent sessions when it starts: nothing is read before it is asked
//! for, so a long history costs nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sortie_model::{ChildKey, EntryId, IdempotencyKey, JobInstance, Seq, SessionInstance};

use crate::disk::{Disk, SystemDisk};
use crate::journal::{Cursor, JobEntry, JobPlan, Journal, JournalBounds, JournalError, OpenError};
use crate::lasting_input::InputDirectory;
use crate::segment::{Known, OutputDirectory, OutputLog, OutputReader, SegmentError, Swept};

/// Why something that was kept cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The journal says.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A segment says.
    #[error(transparent)]
    Output(#[from] SegmentError),
    /// The directory of inputs cannot be looked through.
    #[error("cannot remove inputs that no job reads")]
    Input(#[source] std::io::Error),
}

impl RecoverError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_retryable(),
            Self::Output(error) => error.is_retryable(),
            Self::Input(_) => true,
        }
    }
}

/// A job that was not finished when its node ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredJob {
    /// The key that it was started with.
    pub key: IdempotencyKey,
    /// What is shown of it.
    pub entry: JobEntry,
    /// What was submitted. Its children are in the journal, page by page.
    pub plan: JobPlan,
}

/// The journal and the output of a node's persistent sessions, in one directory.
///
/// Dropping it waits until what the journal was asked for is done and on the disk.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    journal: Journal,
    output: OutputDirectory,
    inputs: InputDirectory,
}

impl Store {
    /// Opens what is in the directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: &Path, bounds: JournalBounds) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(SystemDisk), directory, bounds)
    }

    /// The same on another disk.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        bounds: JournalBounds,
    ) -> Result<Self, OpenError> {
        let journal = Journal::open_on(Arc::clone(&disk), directory, bounds)?;
        let output = OutputDirectory::new(Arc::clone(&disk), &directory.join("output"));
        let inputs = InputDirectory::new(disk, &directory.join("input"));
        Ok(Self { directory: directory.to_owned(), journal, output, inputs })
    }

    /// Where all of it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until what the journal was asked for is done and on the disk, and gives the directory
    /// free, whoever else holds the store. What is asked of the journal from now on is refused as
    /// closed.
    pub fn close(&self) {
        self.journal.close();
    }

    /// The journal: sessions, finished jobs, children, keys and cursors.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Where output is: a guardian writes it by itself.
    pub const fn output(&self) -> &OutputDirectory {
        &self.output
    }

    /// Where inputs are.
    pub const fn inputs(&self) -> &InputDirectory {
        &self.inputs
    }

    /// Removes inputs that no unfinished job reads: of a removal, or an end, that was cut short. A
    /// job's input has to begin after its start was acknowledged; then this can go on while jobs
    /// start.
    ///
    /// # Errors
    /// [`RecoverError`]; what was removed is gone.
    pub fn remove_left_inputs(&self) -> Result<(), RecoverError> {
        for job in self.inputs.jobs().map_err(RecoverError::Input)? {
            let place = self.journal.job_place(job)?;
            let found = place.map(|(session, id)| self.journal.job(session, id)).transpose()?;
            let is_wanted = found.flatten().is_some_and(|(_, entry)| entry.facts.wants_input());
            if !is_wanted {
                self.inputs.remove(job).map_err(RecoverError::Input)?;
            }
        }
        Ok(())
    }

    /// Jobs of a session that are not finished and have higher numbers than `after`, ascending, at
    /// most `most`.
    ///
    /// # Errors
    /// [`RecoverError::Journal`].
    pub fn unfinished(
        &self,
        session: SessionInstance,
        after: Option<EntryId>,
        most: usize,
    ) -> Result<Vec<RecoveredJob>, RecoverError> {
        let mut jobs = Vec::new();
        for id in self.journal.unfinished(session, after, most)? {
            let (job, plan) = (self.journal.job(session, id)?, self.journal.plan(session, id)?);
            // One that was removed meanwhile has neither.
            jobs.extend(job.zip(plan).map(|((key, entry), plan)| RecoveredJob {
                key,
                entry,
                plan,
            }));
        }
        Ok(jobs)
    }

    /// The output of a child, to go on writing it. There is one writer for each child: a guardian
    /// that has it open must be gone.
    ///
    /// # Errors
    /// [`RecoverError`]; a log that is damaged is left as it is.
    pub fn write(&self, child: ChildKey) -> Result<OutputLog, RecoverError> {
        let cursor = self.cursor(child)?;
        let known = Known { stored: cursor.stored, taken: cursor.taken.highest() };
        Ok(OutputLog::open(self.output.clone(), child, known)?)
    }

    /// The output of a child whose records are numbered elsewhere and come again after a crash, to
    /// go on writing it behind what is there. What of `cursor` says that it was taken does not have
    /// to be there; a number that was taken may come again as another stream's.
    ///
    /// # Errors
    /// [`RecoverError::Output`]; a log that is damaged is left as it is.
    pub fn follow(&self, child: ChildKey, cursor: &Cursor) -> Result<OutputLog, RecoverError> {
        let taken = cursor.taken.highest().min(cursor.stored);
        let known = Known { stored: cursor.stored, taken };
        Ok(OutputLog::open(self.output.clone(), child, known)?)
    }

    /// The output of a child anew, from the number `next` on, behind files that
    /// [`follow`](Self::follow) refused as damaged. They stay where they are.
    ///
    /// # Errors
    /// [`RecoverError::Output`].
    pub fn write_behind_damage(
        &self,
        child: ChildKey,
        next: Seq,
    ) -> Result<OutputLog, RecoverError> {
        Ok(OutputLog::open_behind_damage(self.output.clone(), child, next)?)
    }

    /// How far a child's records were stored and taken.
    ///
    /// # Errors
    /// [`RecoverError::Journal`].
    pub fn cursor(&self, child: ChildKey) -> Result<Cursor, RecoverError> {
        let first = self.journal.cursors(child.job, child.ordinal, 1)?.pop();
        let own = first.filter(|(ordinal, _)| *ordinal == child.ordinal);
        Ok(own.map(|(_, cursor)| cursor).unwrap_or_default())
    }

    /// A reader of a child's output, from a record on.
    pub fn read(&self, child: ChildKey, from: Seq) -> OutputReader {
        OutputReader::new(self.output.clone(), child, from)
    }

    /// Output whose job is not in the journal: of a job whose removal was cut short. A job's output
    /// has to begin after its start was acknowledged; then this can go on while jobs start.
    ///
    /// # Errors
    /// [`RecoverError::Output`].
    pub fn orphans(&self) -> Result<Orphans<'_>, RecoverError> {
        let jobs = Box::new(self.output.jobs()?);
        Ok(Orphans { store: self, jobs, current: None })
    }
}

/// Output without a job, which is removed in steps.
pub struct Orphans<'s> {
    store: &'s Store,
    jobs: Box<dyn Iterator<Item = JobInstance>>,
    current: Option<JobInstance>,
}

impl fmt::Debug for Orphans<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orphans").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Orphans<'_> {
    /// Looks at the next job with output, and removes at most `most` files if it is an orphan.
    ///
    /// # Errors
    /// [`RecoverError`]; the next call tries the same again.
    pub fn step(&mut self, most: usize) -> Result<Swept, RecoverError> {
        let Some(job) = self.current.or_else(|| self.jobs.next()) else { return Ok(Swept::All) };
        self.current = Some(job);
        let is_kept = self.store.journal.job_place(job)?.is_some();
        if is_kept || self.store.output.remove_job(job, most)? == Swept::All {
            self.current = None;
        }
        Ok(Swept::More)
    }
}
