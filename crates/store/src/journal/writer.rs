//! The one thread that writes the journal. It gathers what waits into one commit, and answers when
//! that is on the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, Durability as Commit};
use sortie_model::limits;

use crate::journal::apply::Tables;
use crate::journal::change::{Change, Durability, Started, Work};
use crate::journal::error::{Fault, JOURNAL_VERSION, JournalError};
use crate::journal::opening::Files;
use crate::reserve::Reserve;

/// What a removed row counts among what is not synced, in bytes.
const REMOVED_BYTES: usize = 128;

/// What a request became.
pub(crate) type Answer = Result<Option<Started>, JournalError>;

/// What is to be done, and whom to tell.
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) durability: Durability,
    pub(crate) weight: usize,
    pub(crate) done: Box<dyn FnOnce(Answer) + Send>,
}

pub(crate) enum Message {
    Request(Request),
    Close,
}

/// What the writer and the readers share.
pub(crate) struct Shared {
    /// None once the journal failed or was closed.
    pub(crate) database: RwLock<Option<Database>>,
    pub(crate) queued_bytes: AtomicUsize,
    /// The version of what is in it.
    pub(crate) version: AtomicU32,
}

impl Shared {
    fn close(&self) {
        close(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// One that failed may panic when it is dropped.
fn close(database: Option<Database>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) files: Files,
    pub(crate) reserve: Reserve,
    pub(crate) queue: Receiver<Message>,
    /// The number of the last commit.
    pub(crate) commit: u64,
    /// Bytes of changes that were committed and not synced.
    pub(crate) unsynced: usize,
    /// There is something to remove in steps.
    pub(crate) purging: bool,
    pub(crate) failed: Option<Arc<Fault>>,
}

enum Next {
    Request(Request),
    Idle,
    Close,
}

impl Writer {
    pub(crate) fn run(mut self) {
        loop {
            match self.next() {
                Next::Request(first) => {
                    let (group, closed) = self.gather(first);
                    self.commit_group(group);
                    if closed {
                        break;
                    }
                }
                Next::Idle => {
                    self.reserve.try_again();
                    if self.purging {
                        self.commit_group(Vec::new());
                    }
                }
                Next::Close => break,
            }
        }
        if self.unsynced > 0 {
            self.unsynced = limits::JOURNAL_UNSYNCED_BYTES;
            self.commit_group(Vec::new());
        }
        self.shared.close();
    }

    /// Waits, but not while there is something to do by itself.
    fn next(&self) -> Next {
        let message = if self.purging && self.failed.is_none() {
            self.queue.try_recv().map_err(|error| error == TryRecvError::Empty)
        } else if self.reserve.is_given_up() {
            let received = self.queue.recv_timeout(limits::JOURNAL_RESERVE_RETRY);
            received.map_err(|error| error == RecvTimeoutError::Timeout)
        } else {
            self.queue.recv().map_err(|_| false)
        };
        match message {
            Ok(Message::Request(request)) => Next::Request(request),
            Err(true) => Next::Idle,
            Ok(Message::Close) | Err(false) => Next::Close,
        }
    }

    /// What waits already goes into the same commit; nothing is waited for, since more gathers
    /// while this commit is written.
    fn gather(&self, first: Request) -> (Vec<Request>, bool) {
        let mut bytes = first.weight;
        let mut group = vec![first];
        while bytes < limits::JOURNAL_GROUP_BYTES {
            match self.queue.try_recv() {
                Ok(Message::Request(request)) => {
                    bytes += request.weight;
                    group.push(request);
                }
                Ok(Message::Close) => return (group, true),
                Err(_) => break,
            }
        }
        let weight = group.iter().map(|request| request.weight).sum();
        self.shared.queued_bytes.fetch_sub(weight, Ordering::Relaxed);
        (group, false)
    }

    fn commit_group(&mut self, group: Vec<Request>) {
        let answers = match &self.failed {
            Some(fault) => refuse_all(&group, &JournalError::Failed(Arc::clone(fault))),
            None => self.decide(&group).unwrap_or_else(|fault| {
                let fault = Arc::new(fault);
                self.failed = Some(Arc::clone(&fault));
                self.shared.close();
                refuse_all(&group, &JournalError::Failed(fault))
            }),
        };
        for (request, answer) in group.into_iter().zip(answers) {
            // One who panics about an answer harms no one else.
            let _ = catch_unwind(AssertUnwindSafe(|| (request.done)(answer)));
        }
    }

    /// Commits what can be, and says what became of each.
    ///
    /// # Errors
    /// The journal failed, and nothing is acknowledged any more.
    fn decide(&mut self, group: &[Request]) -> Result<Vec<Answer>, Fault> {
        self.reserve.try_again();
        loop {
            let (number, mut answers) = (self.commit + 1, Vec::new());
            let fault = match guarded(|| self.attempt(number, group, &mut answers)) {
                Ok(()) => return Ok(answers),
                Err(fault) => fault,
            };
            if !fault.is_lack_of_space() || self.files.sync_failed.is_set() {
                return Err(fault);
            }
            if self.reopen()? == number {
                // It is in the file, though the commit failed; a further one makes it last.
                let kept = std::mem::take(&mut answers);
                self.unsynced = limits::JOURNAL_UNSYNCED_BYTES;
                guarded(|| self.attempt(number + 1, &[], &mut answers))?;
                return Ok(kept);
            }
            if !self.reserve.give_up() {
                return Ok(refuse_all(group, &JournalError::DiskFull));
            }
        }
    }

    fn attempt(
        &mut self,
        number: u64,
        group: &[Request],
        answers: &mut Vec<Answer>,
    ) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else { return Err(Fault::Panicked) };
        let weight: usize = group.iter().map(|request| request.weight).sum();
        // What is removed is synced at times, so that its room can be used again.
        let removed = if self.purging { limits::JOURNAL_PURGE_ROWS * REMOVED_BYTES } else { 0 };
        let unsynced = self.unsynced.saturating_add(weight + removed);
        let durable = unsynced >= limits::JOURNAL_UNSYNCED_BYTES
            || group.iter().any(|request| request.durability == Durability::Durable);
        let mut transaction = database.begin_write()?;
        // The state of the file's pages goes with each commit, so that a start after a crash does
        // not have to read all of it.
        transaction.set_quick_repair(durable);
        if !durable {
            // Refused only with savepoints, which are not used.
            let _ = transaction.set_durability(Commit::None);
        }
        let mut purging = self.purging;
        let forced = group.is_empty() && self.unsynced >= limits::JOURNAL_UNSYNCED_BYTES;
        let written = {
            let mut tables = Tables::open(&transaction)?;
            for request in group {
                answers.push(self.apply(&mut tables, request)?);
                purging |= request.removes();
            }
            if purging {
                purging = tables.purge(limits::JOURNAL_PURGE_ROWS)?;
            }
            let written = tables.is_written() || forced;
            if written {
                if shared.version.load(Ordering::Relaxed) < JOURNAL_VERSION {
                    self.files.note_version()?;
                    tables.raise_version()?;
                }
                tables.finish(number)?;
            }
            written
        };
        self.purging = purging;
        if !written {
            return Ok(transaction.abort()?);
        }
        transaction.commit()?;
        shared.version.store(JOURNAL_VERSION, Ordering::Relaxed);
        self.commit = number;
        self.unsynced = if durable { 0 } else { unsynced.max(1) };
        Ok(())
    }

    fn apply(&self, tables: &mut Tables<'_>, request: &Request) -> Result<Answer, Fault> {
        if request.is_new() && self.reserve.is_given_up() {
            return Ok(Err(JournalError::DiskFull));
        }
        match &request.work {
            Work::Start(start) => Ok(tables.start(start)?.map(Some)),
            Work::Changes(changes) => {
                changes.iter().try_for_each(|change| tables.change(change))?;
                Ok(Ok(None))
            }
        }
    }

    /// Opens the file again, which the engine wants after each failure, and says which commit was
    /// the last.
    fn reopen(&mut self) -> Result<u64, Fault> {
        let shared = Arc::clone(&self.shared);
        let mut database = shared.database.write().unwrap_or_else(PoisonError::into_inner);
        close(database.take());
        let opened = match guarded(|| self.files.open_database()) {
            // What the engine has to mend needs room, too.
            Err(fault) if fault.is_lack_of_space() && self.reserve.give_up() => {
                guarded(|| self.files.open_database())
            }
            opened => opened,
        }?;
        shared.version.store(opened.version, Ordering::Relaxed);
        self.commit = opened.commit;
        self.purging = opened.purging;
        self.unsynced = 0;
        *database = Some(opened.database);
        Ok(self.commit)
    }
}

impl Request {
    /// Whether it makes something new: what a full disk has no room for.
    fn is_new(&self) -> bool {
        match &self.work {
            Work::Start(_) => true,
            Work::Changes(changes) => {
                changes.iter().any(|change| matches!(change, Change::SessionOpened(_)))
            }
        }
    }

    fn removes(&self) -> bool {
        let removes = |change: &Change| {
            matches!(change, Change::SessionClosed(_) | Change::JobsRemoved { .. })
        };
        matches!(&self.work, Work::Changes(changes) if changes.iter().any(removes))
    }
}

fn refuse_all(group: &[Request], error: &JournalError) -> Vec<Answer> {
    group.iter().map(|_| Err(error.clone())).collect()
}

/// The storage engine panics where a file says what cannot be.
pub(crate) fn guarded<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(Fault::Panicked))
}
