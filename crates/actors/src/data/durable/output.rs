//! What children said, on its way to the disk.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use sortie_engine::mailbox::Tally;
use sortie_engine::parent_job::ParentJob;
use sortie_model::record::OutputRule;
use sortie_model::spec::BodySpec;
use sortie_model::{JobInstance, Ordinal, limits};
use sortie_store::Store;
use sortie_store::journal::{Change, Cursor, Dropped, JobFacts, JournalError};
use sortie_store::segment::Swept;

use crate::data::durable::{Durable, Kept, PAGE, job_facts};
use crate::data::job::JobShared;
use crate::data::mailboxes::{Backing, JobMailboxes, Persisted, StoredListener};
use crate::node::NodeShared;
use crate::node::recover::RecoverError;

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
    // Of so many that a request to the journal may have them, however many end at once.
    let moved = cursors.chunks(PAGE).map(|cursors| cursors.to_vec());
    changes.extend(moved.map(|cursors| Change::CursorsMoved { job: instance, cursors }));
    (changes, there)
}

/// Puts back what children of a job had, as far as it was kept.
///
/// # Errors
/// [`RecoverError::Journal`], [`RecoverError::Output`]; output of a child that cannot be read is
/// left out, and said in the node's log.
pub(crate) async fn restore(job: &JobShared, store: &Store) -> Result<(), RecoverError> {
    let instance = job.identity.instance;
    let mut cursors = pages(|from| store.journal().cursors(instance, from, PAGE))?;
    let mut outputs = pages(|from| store.journal().outputs(instance, from, PAGE))?;
    if !job.rows().state().is_finished() {
        job.checkpoints.restore(pages(|from| store.journal().checkpoints(instance, from, PAGE))?);
    }
    let children = job.rows().children();
    let has_files = store.output().has_job(instance)?;
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
    /// Children of which a life ended and whose output is not on the disk. First those that have
    /// ended: to the journal they have not, so that after this node's death both come once more
    /// from who keeps them, the guardian or another node. Then those that live again, which they
    /// are not to do before: whoever finds their next life would not ask for this any more. What a
    /// function of this node said is in its memory alone, and its end is kept.
    pub(crate) fn unsaid(
        &self,
        ended: &BTreeSet<Ordinal>,
        there: &BTreeSet<Ordinal>,
    ) -> (BTreeSet<Ordinal>, BTreeSet<Ordinal>) {
        let rows = self.rows();
        let is_function = matches!(rows.spec().body, BodySpec::Task { .. });
        let is_kept = |child: &Ordinal| !is_function || rows.is_elsewhere(*child, self.here);
        let missing = ended.difference(there).copied().filter(is_kept);
        missing.partition(|child| rows.has_ended(*child))
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

    /// Keeps what of that is little: as it is now, and behind what was kept before. What has become
    /// too much meanwhile goes to files; no lock is held where its disk is waited for.
    async fn keep_small(&self, durable: &Durable, children: &BTreeSet<Ordinal>) -> Kept {
        let mut in_files = BTreeSet::new();
        loop {
            let one_by_one = self.committing.lock().await;
            let (mut outputs, mut grown) = (Vec::new(), None);
            for ordinal in children.difference(&in_files) {
                if let Some(block) = self.mailboxes.small(*ordinal) {
                    outputs.push((*ordinal, block));
                    continue;
                }
                match self.mailboxes.persist_so_far(*ordinal).now_or_never() {
                    Some(Persisted::Inline(block)) => outputs.push((*ordinal, block)),
                    Some(_) => {}
                    None => {
                        grown = Some(*ordinal);
                        break;
                    }
                }
            }
            if let Some(ordinal) = grown {
                drop(one_by_one);
                if !matches!(self.mailboxes.persist_so_far(ordinal).await, Persisted::Inline(_)) {
                    in_files.insert(ordinal);
                }
                continue;
            }
            let job = self.identity.instance;
            // Of so many children that a request to the journal may have them.
            let changes = outputs.chunks(SMALL_OUTPUTS).map(|outputs| {
                let outputs = outputs.to_vec();
                Change::OutputStored { job, outputs }
            });
            return durable.keep(changes.collect()).await;
        }
    }

    /// What the journal is to have of it now.
    pub(crate) fn facts_to_keep(&self, rows: &ParentJob) -> JobFacts {
        let unread = self.mailboxes.unread().records > 0;
        let Tally { records, bytes } = self.mailboxes.dropped();
        let dropped = Dropped { records, bytes, cut: false };
        let facts = job_facts(rows, unread, self.with_errors());
        JobFacts { dropped, input: self.input_to_keep(rows), ..facts }
    }
}
