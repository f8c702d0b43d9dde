//! How far readers have confirmed, on its way to the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_model::Ordinal;
use sortie_store::journal::{Change, Cursor};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::data::durable::{Kept, PAGE};
use crate::data::job::JobShared;
use crate::data::mailboxes::JobMailboxes;

/// How often it is kept what the readers of a long receive have confirmed.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

impl JobShared {
    /// Keeps how far its readers have confirmed. What is not kept is tried again by the next call.
    pub(crate) async fn commit_cursors(&self) -> Kept {
        let Some(durable) = &self.durable else { return Kept::Yes };
        // What another call has taken is kept when the lock is free.
        let _one_by_one = self.committing.lock().await;
        loop {
            let moved = Moved::take(&self.mailboxes);
            let emptied = self.was_emptied();
            if moved.cursors.is_empty() && !emptied {
                return Kept::Yes;
            }
            let (job, cursors) = (self.identity.instance, moved.cursors.clone());
            let mut changes = vec![Change::CursorsMoved { job, cursors }];
            if emptied {
                let facts = Box::new(self.facts_to_keep(&self.rows()));
                let (session, job) = (durable.instance(), self.identity.id);
                changes.push(Change::JobChanged { session, job, facts });
            }
            match durable.keep(changes).await {
                Kept::Yes => {
                    if emptied {
                        self.say_unread(false);
                    }
                    moved.are_kept();
                }
                kept => return kept,
            }
        }
    }
}

/// Cursors on their way to the journal. Dropping it before they are kept puts them back, also when
/// nobody waits for that any more: the next one keeps them.
struct Moved<'m> {
    mailboxes: &'m Arc<JobMailboxes>,
    cursors: Vec<(Ordinal, Cursor)>,
}

impl<'m> Moved<'m> {
    fn take(mailboxes: &'m Arc<JobMailboxes>) -> Self {
        Self { mailboxes, cursors: mailboxes.take_moved(PAGE) }
    }

    fn are_kept(mut self) {
        self.mailboxes.cursors_committed(&std::mem::take(&mut self.cursors));
    }
}

impl Drop for Moved<'_> {
    fn drop(&mut self) {
        self.mailboxes.moved_again(&self.cursors);
    }
}

/// Keeps what the readers of these jobs confirm, for as long as somebody reads.
#[derive(Debug)]
pub(crate) struct Committing {
    jobs: Arc<Mutex<Vec<Arc<JobShared>>>>,
    done: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Kept>>,
}

impl Committing {
    /// Nothing is to be kept of jobs that end with their node. Without jobs nothing is ever.
    pub(crate) fn of(jobs: Option<Vec<Arc<JobShared>>>) -> Self {
        let Some(mut jobs) = jobs else {
            return Self { jobs: Arc::default(), done: None, task: None };
        };
        jobs.retain(|job| job.durable.is_some());
        let jobs = Arc::new(Mutex::new(jobs));
        let all = Arc::clone(&jobs);
        let (done, mut over) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                let last = tokio::select! {
                    _ = &mut over => true,
                    () = tokio::time::sleep(COMMIT_PAUSE) => false,
                };
                let now = all.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let kept = commit(&now).await;
                if last {
                    return kept;
                }
            }
        });
        Self { jobs, done: Some(done), task: Some(task) }
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<Arc<JobShared>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are read, too.
    pub(crate) fn add(&self, jobs: &[Arc<JobShared>]) {
        if self.task.is_some() {
            self.jobs().extend(jobs.iter().map(Arc::clone));
        }
    }

    /// Keeps what was confirmed of these. If it is kept they are not read any more.
    pub(crate) async fn finish_some(&self, jobs: &[Arc<JobShared>]) -> Kept {
        let kept = commit(jobs).await;
        if kept == Kept::Yes {
            self.jobs().retain(|job| !jobs.iter().any(|other| Arc::ptr_eq(job, other)));
        }
        kept
    }

    /// Keeps what the output policy drops of a job, until this is dropped; none where nothing is.
    pub(crate) fn of_drops(job: &Arc<JobShared>) -> Option<Self> {
        if job.durable.is_none() || !job.mailboxes.may_drop() {
            return None;
        }
        let (done, mut over) = oneshot::channel();
        let (mailboxes, job) = (Arc::clone(&job.mailboxes), Arc::downgrade(job));
        let task = tokio::spawn(async move {
            while !mailboxes.is_removed() {
                tokio::select! {
                    _ = &mut over => return Kept::Yes,
                    () = mailboxes.moved() => tokio::time::sleep(COMMIT_PAUSE).await,
                }
                let Some(job) = job.upgrade() else { return Kept::Yes };
                if job.commit_cursors().await == Kept::Never {
                    return Kept::Never;
                }
            }
            Kept::Yes
        });
        Some(Self { jobs: Arc::default(), done: Some(done), task: Some(task) })
    }

    /// Keeps everything that was confirmed, and says whether it is. Dropping it does the same,
    /// without anybody waiting.
    pub(crate) async fn finish(mut self) -> Kept {
        drop(self.done.take());
        match self.task.take() {
            // A panic in it is told by the runtime.
            Some(task) => task.await.unwrap_or(Kept::Never),
            None => Kept::Yes,
        }
    }
}

/// Keeps what was confirmed of each of these jobs. Says of the worst how it went.
async fn commit(jobs: &[Arc<JobShared>]) -> Kept {
    let mut worst = Kept::Yes;
    for job in jobs {
        worst = worst.max(job.commit_cursors().await);
    }
    worst
}
