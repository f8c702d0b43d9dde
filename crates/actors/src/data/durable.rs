//! What a session that outlives its node keeps in the node's journal, and in which moment
//! (`docs/semantics.md`, section 4.2).
//!
//! A start is in the journal before it is answered and before anything of it runs. What a job
//! decides is in the journal before it is carried out; readers may see it a moment earlier.

pub(crate) mod committing;
mod entries;
pub(crate) mod output;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sortie_engine::session::StartRefused;
use sortie_model::{EntryId, SessionInstance, limits};
use sortie_store::Store;
use sortie_store::journal::{Change, Durability, JournalError, NewJob, Started};
use sortie_wire::{ErrorCode, RemoteError};
use tokio::sync::oneshot;

use crate::session;

pub(crate) use entries::{
    first_children, job_entry, job_facts, kept_child, rows_of, session_entry,
};

/// Rows of the journal that are read at once.
pub(crate) const PAGE: usize = 4_096;
/// The pause before a request that found the journal busy is made again.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// Whether something is on the disk, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kept {
    Yes,
    /// The disk is full: it may be there when it is tried again.
    NotYet,
    /// The journal takes nothing any more.
    Never,
}

impl Kept {
    /// What a reader is told whose confirmation is not on the disk: some may come again.
    pub(crate) fn of_confirmation(self) -> Result<(), RemoteError> {
        self.but("that this was received is not noted: it may come again")
    }

    /// What is told who told that job something: it is in effect, and may be forgotten.
    pub(crate) fn of_word(self, job: EntryId) -> Result<(), RemoteError> {
        let text = format!("what job {job} was told is forgotten if its node ends now");
        match self {
            Self::NotYet => {
                let text = format!("the disk has not taken it yet, and {text}");
                let hint = "it is in effect, and is noted when the disk takes it";
                Err(RemoteError::new(ErrorCode::Storage, text).hint(hint))
            }
            kept => kept.but(&text),
        }
    }

    fn but(self, consequence: &str) -> Result<(), RemoteError> {
        let (text, hint) = match self {
            Self::Yes => return Ok(()),
            Self::NotYet => ("the disk is full", "free some space"),
            Self::Never => ("the journal takes nothing more", "the node has to be started again"),
        };
        let text = format!("{text}, and {consequence}");
        Err(RemoteError::new(ErrorCode::Storage, text).hint(hint))
    }
}

/// Where one session's things are kept.
#[derive(Debug)]
pub(crate) struct Durable {
    store: Arc<Store>,
    session: SessionInstance,
    /// It was said once that the journal failed.
    failed: AtomicBool,
    /// The journal takes nothing more.
    closed: AtomicBool,
}

impl Durable {
    pub(crate) fn new(store: &Arc<Store>, session: SessionInstance) -> Arc<Self> {
        let [failed, closed] = [(); 2].map(|()| AtomicBool::new(false));
        Arc::new(Self { store: Arc::clone(store), session, failed, closed })
    }

    pub(crate) const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Keeps a new job, unless its key has one.
    ///
    /// # Errors
    /// [`ErrorCode::KeyReused`], [`ErrorCode::Storage`].
    pub(crate) async fn start(&self, new: NewJob) -> Result<Started, RemoteError> {
        let journal = self.store.journal();
        let started = when_not_busy(|done| {
            // Who asked may be gone: the job is found by its key then.
            journal.start(new.clone(), move |started| drop(done.send(started)))
        });
        started.await.map_err(|error| match error {
            JournalError::KeyReused { job } => {
                session::refusal(&StartRefused::KeyReused { key: new.key.clone(), job })
            }
            error => self.refusal(&error),
        })
    }

    /// Keeps a change of the session itself.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`].
    pub(crate) async fn session(&self, change: Change) -> Result<(), RemoteError> {
        self.ask(vec![change]).await.map_err(|error| self.refusal(&error))
    }

    /// Keeps changes; on the disk when this returns, and it says whether they are. If not, the node
    /// goes on with what it has in memory.
    pub(crate) async fn keep(&self, changes: Vec<Change>) -> Kept {
        if changes.is_empty() {
            return Kept::Yes;
        }
        let Err(error) = self.ask(changes).await else { return Kept::Yes };
        let kept = if error.is_retryable() { Kept::NotYet } else { Kept::Never };
        if matches!(error, JournalError::Closed | JournalError::Failed(_)) {
            self.closed.store(true, Ordering::Release);
        }
        // In good order a node closes it at its end, and what it failed of comes before that.
        let is_closed = matches!(error, JournalError::Closed);
        if !is_closed && !self.failed.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, ?kept, "what becomes of jobs is not kept");
        }
        kept
    }

    /// Whether the journal has refused something for good: nothing decided since is on the disk.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    async fn ask(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        let journal = self.store.journal();
        when_not_busy(|done| {
            let changes = changes.clone();
            journal.change(changes, Durability::Durable, move |answer| drop(done.send(answer)))
        })
        .await
    }

    /// What a client is told whose request the journal did not take.
    fn refusal(&self, error: &JournalError) -> RemoteError {
        let code = match error {
            JournalError::TooLarge => ErrorCode::Limit,
            JournalError::NoSession => ErrorCode::NoSession,
            _ => ErrorCode::Storage,
        };
        match error {
            JournalError::DiskFull => {
                let place = self.store.directory().display();
                RemoteError::new(code, format!("{error}: nothing more fits in {place}"))
                    .hint("free some space; nothing was started, and jobs that run go on")
            }
            JournalError::Failed(_) | JournalError::Closed => {
                RemoteError::new(code, error.to_string())
                    .hint("`sortie doctor` says more; the node has to be started again")
            }
            _ => RemoteError::new(code, error.to_string()),
        }
    }

    pub(crate) const fn instance(&self) -> SessionInstance {
        self.session
    }
}

/// Asks the journal until it is not busy, and waits for its answer.
async fn when_not_busy<T>(
    ask: impl Fn(oneshot::Sender<Result<T, JournalError>>) -> Result<(), JournalError>,
) -> Result<T, JournalError> {
    loop {
        let (done, answer) = oneshot::channel();
        let answer = match ask(done) {
            Ok(()) => answer.await.unwrap_or(Err(JournalError::Closed)),
            Err(error) => Err(error),
        };
        match answer {
            Err(JournalError::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
            answer => return answer,
        }
    }
}

/// Cuts rows to what one request may have.
pub(crate) fn in_requests<T: Clone>(rows: &[T]) -> impl Iterator<Item = Vec<T>> {
    rows.chunks(limits::JOURNAL_CHANGES).map(<[T]>::to_vec)
}
