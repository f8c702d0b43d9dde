//! The journal of a node: its persistent sessions, their jobs, children, keys and cursors, and the
//! history of what is finished (`docs/semantics.md`, sections 1.1, 1.2 and 3.1).
//!
//! One thread writes. It gathers what waits into one commit and answers each request when that is
//! on the disk, by a plain call on its own thread. Readers see what was committed, and block only
//! for the disk. What is refused is not there; what is acknowledged is, whatever happens next.

mod apply;
mod backend;
mod block;
mod change;
mod entries;
mod error;
mod opening;
mod read;
mod tables;
#[cfg(test)]
mod tests;
mod value;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use sortie_model::limits;

pub use change::{Change, Checkpoint, Durability, Started};
pub use entries::{
    Apart, ChildFacts, ChildRun, Cursor, Dropped, FinishedJob, HistoryTotals, InputState, JobEntry,
    JobFacts, JobPlan, KeyEntry, NewJob, SessionEntry, SpecDigest, Told,
};
pub use error::{Fault, JOURNAL_VERSION, JournalError, OpenError};
pub use read::Order;

use crate::disk::{self, Disk, SystemDisk};
use crate::journal::change::{PreparedStart, Work};
use crate::journal::opening::Files;
use crate::journal::tables::job_key;
use crate::journal::writer::{Answer, Message, Request, Shared, Writer};
use crate::reserve::Reserve;

/// What a request takes by itself, in bytes.
const REQUEST_BYTES: usize = 256;

/// Bounds of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalBounds {
    /// Disk that is kept for stops and ends, in bytes. Default: [`limits::JOURNAL_RESERVE_BYTES`].
    pub reserve: u64,
    /// Memory for pages of the file, in bytes. Default: [`limits::JOURNAL_CACHE_BYTES`].
    pub cache: usize,
}

impl Default for JournalBounds {
    fn default() -> Self {
        Self { reserve: limits::JOURNAL_RESERVE_BYTES, cache: limits::JOURNAL_CACHE_BYTES }
    }
}

/// A node's journal. Used from many threads at once.
///
/// Dropping it waits until what was asked for is done and on the disk.
pub struct Journal {
    shared: Arc<Shared>,
    queue: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal in a directory, which is made if it is not there. The version is looked at
    /// before anything is touched. It takes about as long for a million finished jobs as for none.
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
        let files = Files::lock(Arc::clone(&disk), directory, bounds.cache)?;
        let failed = |source| OpenError::Io { directory: directory.to_owned(), source };
        let path = directory.join("reserve");
        let mut reserve = Reserve::new(disk, path, bounds.reserve, limits::JOURNAL_RESERVE_RETRY);
        let opened = match files.open() {
            // What the engine has to mend needs room, too.
            Err(OpenError::Io { source, .. })
                if disk::is_lack_of_space(&source) && reserve.give_up() =>
            {
                files.open()
            }
            opened => opened,
        }?;
        reserve.take().map_err(failed)?;
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(opened.database)),
            queued_bytes: AtomicUsize::new(0),
            version: AtomicU32::new(opened.version),
        });
        let (queue, receiver) = sync_channel(limits::JOURNAL_QUEUE);
        let writer = Writer {
            shared: Arc::clone(&shared),
            files,
            reserve,
            queue: receiver,
            commit: opened.commit,
            unsynced: 0,
            purging: opened.purging,
            failed: None,
        };
        let thread = std::thread::Builder::new().name("sortie-journal".to_owned());
        let writer = thread.spawn(|| writer.run()).map_err(failed)?;
        Ok(Self { shared, queue, writer: Mutex::new(Some(writer)) })
    }

    /// Asks for a job: the key is checked and the job made in one step, which is on the disk when
    /// `done` is called, on the journal's thread. `done` should be short: the next commit waits for
    /// it.
    ///
    /// # Errors
    /// [`JournalError::Busy`], [`JournalError::TooLarge`] and [`JournalError::Closed`] at once, and
    /// then `done` is dropped; what comes later comes to `done`.
    pub fn start(
        &self,
        new: NewJob,
        done: impl FnOnce(Result<Started, JournalError>) + Send + 'static,
    ) -> Result<(), JournalError> {
        let key = job_key(new.session, new.entry.id);
        let plan = value::seal(&key, &new.plan).map_err(|_| JournalError::TooLarge)?;
        if !new.fits() {
            return Err(JournalError::TooLarge);
        }
        let weight = plan.len() + new.entry.command.len() + change::runs_weight(&new.children);
        let start = Work::Start(Box::new(PreparedStart { new, plan }));
        self.queue(start, Durability::Durable, weight, move |answer: Answer| {
            // A start always says what it became.
            done(answer.and_then(|started| started.ok_or(JournalError::Closed)));
        })
    }

    /// Asks for changes, all of them or none. `done` is called on the journal's thread, when they
    /// are on the disk if that was asked for; it should be short.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn change(
        &self,
        changes: Vec<Change>,
        durability: Durability,
        done: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) -> Result<(), JournalError> {
        if changes.len() > limits::JOURNAL_CHANGES || !changes.iter().all(Change::fits) {
            return Err(JournalError::TooLarge);
        }
        let weight = changes.iter().map(Change::weight).sum();
        self.queue(Work::Changes(changes), durability, weight, move |answer: Answer| {
            done(answer.map(|_| ()));
        })
    }

    fn queue(
        &self,
        work: Work,
        durability: Durability,
        weight: usize,
        done: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), JournalError> {
        let (queued, weight) = (&self.shared.queued_bytes, weight + REQUEST_BYTES);
        let before = queued.fetch_add(weight, Ordering::Relaxed);
        let busy = before > 0 && before.saturating_add(weight) > limits::JOURNAL_QUEUE_BYTES;
        let request = Message::Request(Request { work, durability, weight, done: Box::new(done) });
        let sent =
            if busy { Err(TrySendError::Full(request)) } else { self.queue.try_send(request) };
        sent.map_err(|error| {
            queued.fetch_sub(weight, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => JournalError::Busy,
                TrySendError::Disconnected(_) => JournalError::Closed,
            }
        })
    }
}

impl Journal {
    /// Whether it takes anything still: it did not fail and was not closed.
    pub fn is_open(&self) -> bool {
        self.shared.database.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The version of what is in it. An older program's journal has that program's until the first
    /// commit, and [`JOURNAL_VERSION`] from then on.
    pub fn version(&self) -> u32 {
        self.shared.version.load(Ordering::Relaxed)
    }

    /// Waits until what was asked for is done and on the disk, and gives the directory free. What
    /// is asked from now on is refused: [`JournalError::Closed`].
    pub fn close(&self) {
        // A thread that is gone needs no word.
        let _ = self.queue.send(Message::Close);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}
