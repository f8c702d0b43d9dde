//! What children said, and how far it was read, on its way to the disk.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use sortie_engine::mailbox::Tally;
use sortie_engine::parent_job::ParentJob;
use sortie_model::record::OutputRule;
use sortie_model::spec::BodySpec;
use sortie_model::{JobInstance, Ordinal, limits};
use sortie_store::Store;
use sortie_store::journal::{Change, Cursor, Dropped, JobFacts, JournalError};
use sortie_store::segment::Swept;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::data::durable::{Durable, Kept, PAGE, job_facts};
use crate::data::job::JobShared;
use crate::data::mailboxes::{Backing, JobMailboxes, Persisted, StoredListener};
use crate::node::NodeShared;

/// How often it is kept what the readers of a long receive have confirmed.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);
/// Blocks of small output that go into one change: a block has [`limits::INLINE_OUTPUT_BYTES`] at
/// most.
const SMALL_OUTPUTS: usize = 256;

/// Mailboxes of a job that outlives its node.
pub(crate) fn mailboxes(
    node: &NodeShared,
    store: &Arc<Store>,
    (job, rule): (JobInstance, OutputRule),
) -> Arc<JobMailboxes> {
    let guardians = Arc::clone(&node.guardians);
    let stored = guardians
        .current()
        .map(|_| -> StoredListener { Arc::new(move |child, next| guardians.stored(child, next)) });
    let backing = Backing { store: Arc::clone(store), job, stored };
    JobMailboxes::backed(Arc::clone(&node.pool), rule, backing)
}

/// What these children, which have ended, said: it is in files when this returns, or comes back to
/// be kept with their ends. A disk that takes nothing is not waited for without end: then it is
/// kept when the disk takes it again. Those that were waited for before, the `late` ones, are only
/// looked at. Says also of which nothing is missing.
pub(crate) async fn output_of(
    job: &JobShared,
    ended: &BTreeSet<Ordinal>,
    late: &BTreeSet<Ordinal>,
) -> (Vec<Change>, BTreeSet<Ordinal>) {
    let instance = job.identity.instance;
    let persist = |ordinal: Ordinal| {
        let mailboxes = Arc::clone(&job.mailboxes);
        let wait = if late.contains(&ordinal) { limits::OUTPUT_LOOK } else { limits::OUTPUT_WAIT };
        async move {
            let persisting = mailboxes.persist(ordinal);
            (ordinal, tokio::time::timeout(wait, persisting).await)
        }
    };
    let mut there = BTreeSet::new();
    let (mut outputs, mut bytes, mut cursors) = (Vec::new(), 0, Vec::new());
    let mut changes = Vec::new();
    for (ordinal, persisted) in join_all(ended.iter().copied().map(persist)).await {
        let Ok(persisted) = persisted else { continue };
        there.insert(ordinal);
        match persisted {
            Persisted::Nothing => {}
            Persisted::Inline(block) => {
                if bytes + block.len() > limits::JOURNAL_GROUP_BYTES / 4 {
                    let outputs = std::mem::take(&mut outputs);
                    changes.push(Change::OutputStored { job: instance, outputs });
                    bytes = 0;
                }
                bytes += block.len();
                outputs.push((ordinal, block));
            }
            Persisted::Segments { next, .. } => {
                cursors.push((ordinal, Cursor { stored: next, ..Cursor::default() }));
            }
        }
        let dropped = job.mailboxes.lost_to_policy(ordinal);
        if dropped != Dropped::default() {
            cursors.push((ordinal, Cursor { dropped, ..Cursor::default() }));
        }
    }
    if !outputs.is_empty() {
        changes.push(Change::OutputStored { job: instance, outputs });
    }
    if !cursors.is_empty() {
        changes.push(Change::CursorsMoved { job: instance, cursors });
    }
    (changes, there)
}

/// Puts back what children of a job had, as far as it was kept.
///
/// # Errors
/// [`JournalError`]; output that cannot be read is left out, and said in the node's log.
pub(crate) async fn restore(job: &JobShared, store: &Store) -> Result<(), JournalError> {
    let instance = job.identity.instance;
    let mut cursors = pages(|from| store.journal().cursors(instance, from, PAGE))?;
    let mut outputs = pages(|from| store.journal().outputs(instance, from, PAGE))?;
    if !job.rows().state().is_finished() {
        job.checkpoints.restore(pages(|from| store.journal().checkpoints(instance, from, PAGE))?);
    }
    let children = job.rows().children();
    let has_files = store.output().has_job(instance);
    for ordinal in (0..children).map(Ordinal) {
        let settled = job.rows().is_settled(ordinal);
        let cursor = cursors.remove(&ordinal);
        let output: Option<Bytes> = outputs.remove(&ordinal);
        // One of which the journal does not know that it began may have said something: its files
        // are not written in the journal's steps.
        if cursor.is_none() && output.is_none() && !has_files {
            if settled {
                job.mailboxes.close(ordinal);
            }
            continue;
        }
        let cursor = cursor.unwrap_or_default();
        if let Err(error) = job.mailboxes.restore(ordinal, cursor, output, settled).await {
            let (job, child) = (instance, ordinal.0);
            tracing::error!(%error, %job, child, "output of a child is not what it was");
        }
    }
    Ok(())
}

/// Removes in the background what jobs left that are not in memory: the output of their children,
/// and their input. What cannot be removed goes at the node's next start.
pub(crate) fn remove(store: &Arc<Store>, jobs: Vec<JobInstance>) {
    let store = Arc::clone(store);
    // Nobody waits for it.
    drop(tokio::task::spawn_blocking(move || {
        for job in jobs {
            while let Ok(Swept::More) =
                store.output().remove_job(job, limits::OUTPUT_REMOVED_AT_ONCE)
            {}
            let _ = store.inputs().remove(job);
        }
    }));
}

fn pages<T>(
    mut page: impl FnMut(Ordinal) -> Result<Vec<(Ordinal, T)>, JournalError>,
) -> Result<HashMap<Ordinal, T>, JournalError> {
    let (mut all, mut from) = (HashMap::new(), Ordinal(0));
    loop {
        let rows = page(from)?;
        let Some((last, _)) = rows.last() else { return Ok(all) };
        from = Ordinal(last.0.saturating_add(1));
        all.extend(rows);
    }
}

impl JobShared {
    /// Processes that have ended and whose output is not on the disk: to the journal they have not,
    /// so that after this node's death both come once more from who keeps them, the guardian or
    /// another node. What a function said is in this node's memory alone, and its end is kept.
    pub(crate) fn late(
        &self,
        touched: &BTreeSet<Ordinal>,
        ended: &BTreeSet<Ordinal>,
        there: &BTreeSet<Ordinal>,
    ) -> BTreeSet<Ordinal> {
        let rows = self.rows();
        if matches!(rows.spec().body, BodySpec::Task { .. }) {
            return BTreeSet::new();
        }
        let missing = ended.difference(there).copied();
        missing.filter(|child| touched.contains(child) && rows.has_ended(*child)).collect()
    }

    /// Which of these passed their quota, where that is a failure: kept in one step with the stop
    /// that it comes to, so that they fail also when this node dies then.
    pub(crate) fn cut_of<'c>(&self, children: impl Iterator<Item = &'c Ordinal>) -> Option<Change> {
        let children = children.filter(|_| self.mailboxes.may_cut());
        let cut = children.filter_map(|ordinal| {
            let dropped = self.mailboxes.lost_to_policy(*ordinal);
            dropped.cut.then_some((*ordinal, Cursor { dropped, ..Cursor::default() }))
        });
        let cursors: Vec<_> = cut.collect();
        let job = self.identity.instance;
        (!cursors.is_empty()).then_some(Change::CursorsMoved { job, cursors })
    }

    /// Keeps what children on other nodes have said: their nodes forget it when they hear that it
    /// is stored. A disk that takes nothing is waited for; false when it will never be there.
    pub(crate) async fn keep_said(&self, children: &BTreeSet<Ordinal>) -> bool {
        let Some(durable) = &self.durable else { return true };
        self.write_so_far(children).await;
        // What was taken before it was stored counts as taken from then on.
        self.commit_cursors().await;
        loop {
            match self.keep_small(durable, children).await {
                Kept::Yes => return true,
                Kept::NotYet if self.mailboxes.is_removed() => return true,
                Kept::NotYet => tokio::time::sleep(limits::JOURNAL_RESERVE_RETRY).await,
                Kept::Never => return false,
            }
        }
    }

    /// Keeps what these children have said so far; not how far it was taken.
    ///
    /// # Cancel safety
    /// Cancel safe: what it began may be kept all the same.
    pub(crate) async fn keep_output(
        &self,
        durable: &Durable,
        children: &BTreeSet<Ordinal>,
    ) -> Kept {
        self.write_so_far(children).await;
        self.keep_small(durable, children).await
    }

    /// Has what is too much for the journal in files. Nobody who commits waits for that.
    async fn write_so_far(&self, children: &BTreeSet<Ordinal>) {
        for ordinal in children {
            if self.mailboxes.small(*ordinal).is_none() {
                self.mailboxes.persist_so_far(*ordinal).await;
            }
        }
    }

    /// Keeps what of that is little: as it is now, and behind what was kept before.
    async fn keep_small(&self, durable: &Durable, children: &BTreeSet<Ordinal>) -> Kept {
        let _one_by_one = self.committing.lock().await;
        let mut outputs = Vec::new();
        for ordinal in children {
            if let Some(block) = self.mailboxes.small(*ordinal) {
                outputs.push((*ordinal, block));
            } else if let Persisted::Inline(block) = self.mailboxes.persist_so_far(*ordinal).await {
                outputs.push((*ordinal, block));
            }
        }
        let job = self.identity.instance;
        // Of so many children that a request to the journal may have them.
        let changes = outputs.chunks(SMALL_OUTPUTS).map(|outputs| {
            let outputs = outputs.to_vec();
            Change::OutputStored { job, outputs }
        });
        durable.keep(changes.collect()).await
    }

    /// What the journal is to have of it now.
    pub(crate) fn facts_to_keep(&self, rows: &ParentJob) -> JobFacts {
        let unread = self.mailboxes.unread().records > 0;
        let Tally { records, bytes } = self.mailboxes.dropped();
        let dropped = Dropped { records, bytes, cut: false };
        let facts = job_facts(rows, unread, self.with_errors());
        JobFacts { dropped, input: self.input_to_keep(rows), ..facts }
    }

    /// Keeps how far its readers have confirmed. What is not kept is tried again by the next call.
    pub(crate) async fn commit_cursors(&self) -> Kept {
        let Some(durable) = &self.durable else { return Kept::Yes };
        // What another call has taken is kept when the lock is free.
        let _one_by_one = self.committing.lock().await;
        loop {
            let cursors = self.mailboxes.take_moved(PAGE);
            let emptied = self.was_emptied();
            if cursors.is_empty() && !emptied {
                return Kept::Yes;
            }
            let (job, moved) = (self.identity.instance, cursors.clone());
            let mut changes = vec![Change::CursorsMoved { job, cursors: moved }];
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
                    self.mailboxes.cursors_committed(&cursors);
                }
                kept => {
                    self.mailboxes.moved_again(&cursors);
                    return kept;
                }
            }
        }
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
