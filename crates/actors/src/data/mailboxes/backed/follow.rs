//! The one who brings a job's mailboxes to the disk: in rounds, off the runtime's workers, and only
//! as long as there is something to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Weak};

use futures_util::future::join_all;
use sortie_model::limits::{
    BATCH_BYTES, BATCH_RECORDS, OUTPUT_REMOVED_AT_ONCE, OUTPUT_REREAD_BYTES, OUTPUT_RETRY,
    OUTPUT_ROUND_BYTES, OUTPUT_ROUND_CHILDREN, OUTPUT_WRITERS,
};
use sortie_model::record::StreamSet;
use sortie_model::{ChildKey, Ordinal, Record, Seq};
use sortie_store::journal::Cursor;
use sortie_store::segment::{OutputLog, SegmentError, Swept, Taken};
use sortie_store::{RecoverError, Store};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::{FullBecause, JobMailboxes, LiveValues, Most, Position, ReadError, blocking};
use super::table::{Child, Place, Work};
use super::{Backed, is_lost};

/// How often the removal of files is tried; what is left then goes at the node's next start.
const REMOVALS: u32 = 10;

/// Works until there is nothing to do, or the job is gone.
pub(super) async fn follow(backed: Arc<Backed>, job: Weak<JobMailboxes>) {
    loop {
        let mut more = pin!(backed.work.notified());
        more.as_mut().enable();
        let work = backed.table().work();
        match work {
            Work::Nothing => return,
            Work::Remove => return Arc::clone(&backed).remove_files().await,
            Work::Wait(until) => {
                tokio::select! {
                    () = more => {}
                    () = tokio::time::sleep_until(until) => {}
                }
            }
            Work::Round => {
                let Some(job) = job.upgrade() else { return };
                backed.round(&job).await;
            }
        }
    }
}

/// What was read of a mailbox.
#[derive(Debug)]
struct Read {
    records: Vec<Record>,
    bytes: usize,
    /// Everything before was taken, or is among the records or on the disk.
    upto: Seq,
    /// Where reading goes on.
    position: Position,
    /// Nothing was left.
    all: bool,
}

/// What a round stores of a child.
#[derive(Debug)]
struct Write {
    child: ChildKey,
    read: Read,
    ending: bool,
    damaged: bool,
    cursor: Cursor,
    committed: Taken,
    log: Option<OutputLog>,
    /// The file may stay open.
    place: Option<OwnedSemaphorePermit>,
}

impl Backed {
    async fn round(self: &Arc<Self>, job: &Arc<JobMailboxes>) {
        let Ok(_turn) = job.pool.storing.acquire().await else { return };
        let round = self.table().begin_round(OUTPUT_ROUND_CHILDREN);
        let (mut writes, mut bytes) = (Vec::new(), 0);
        for ordinal in round {
            if bytes >= OUTPUT_ROUND_BYTES {
                self.table().make_due(ordinal);
            } else if let Some(write) = self.collect(job, ordinal, OUTPUT_ROUND_BYTES - bytes).await
            {
                bytes += write.read.bytes;
                writes.push(write);
            }
        }
        // Syncs that wait together are one for the disk.
        let share = writes.len().div_ceil(OUTPUT_WRITERS).max(1);
        let (mut writes, mut shares) = (writes.into_iter(), Vec::new());
        while writes.len() > 0 {
            shares.push(self.store_all(job, writes.by_ref().take(share).collect()));
        }
        join_all(shares).await;
        let mut table = self.table();
        if bytes < OUTPUT_ROUND_BYTES {
            table.pause();
        }
        drop(table);
        self.progress.notify_waiters();
    }

    async fn store_all(&self, job: &JobMailboxes, writes: Vec<Write>) {
        let children: Vec<_> = writes.iter().map(|write| write.child.ordinal).collect();
        let store = Arc::clone(&self.backing.store);
        let all = move || writes.into_iter().map(|write| write.run(&store)).collect::<Vec<_>>();
        match blocking(all).await {
            Some(written) => {
                written.into_iter().for_each(|(write, result)| self.settle(write, result));
                children.into_iter().for_each(|ordinal| self.forget_settled(job, ordinal));
            }
            // The runtime is going, or something is wrong with a child: none is to wait for ever.
            None => {
                let at = Instant::now() + OUTPUT_RETRY;
                children.into_iter().for_each(|ordinal| self.table().refused(ordinal, at));
            }
        }
    }

    /// Reads what is new of a child, and takes nothing.
    async fn collect(
        self: &Arc<Self>,
        job: &Arc<JobMailboxes>,
        ordinal: Ordinal,
        most: usize,
    ) -> Option<Write> {
        let from = match self.table().child(ordinal) {
            Child { lost: true, .. } | Child { place: Place::Inline, .. } => return None,
            Child { place: Place::Files(position), .. } => *position,
            Child { place: Place::Undecided, .. } => Position::start(),
        };
        let read = match self.read(job, (ordinal, from), most).await {
            Ok(read) => read,
            Err(error) => {
                let mut table = self.table();
                let child = table.child(ordinal);
                child.trouble = Some(FullBecause::DiskFailed);
                child.lost = is_lost(&error);
                if !child.lost {
                    table.refused(ordinal, Instant::now() + OUTPUT_RETRY);
                }
                return None;
            }
        };
        let mut table = self.table();
        let child = table.child(ordinal);
        match child.place {
            Place::Inline => return None,
            Place::Undecided
                if read.records.is_empty() && child.cursor().taken.highest() >= read.upto =>
            {
                let raised = read.upto > child.stored;
                child.stored = child.stored.max(read.upto);
                if raised {
                    table.moved(ordinal);
                    self.moved.notify_waiters();
                }
                return None;
            }
            // Whoever ends the child waits for the files from now on.
            Place::Undecided => child.place = Place::Files(Position::start()),
            Place::Files(_) => {}
        }
        let (cursor, committed) = (child.cursor(), child.committed.taken);
        let (ending, damaged) = (child.ending, child.damaged);
        let (log, place) = table.logs.remove(&ordinal).unzip();
        drop(table);
        let place = place.or_else(|| Arc::clone(&job.pool.open_outputs).try_acquire_owned().ok());
        let child = self.child(ordinal);
        Some(Write { child, read, ending, damaged, cursor, committed, log, place })
    }

    /// Reads a child's mailbox from a position on, about so many bytes.
    async fn read(
        &self,
        job: &Arc<JobMailboxes>,
        (ordinal, from): (Ordinal, Position),
        most: usize,
    ) -> Result<Read, ReadError> {
        let upto = job.summary(ordinal).next;
        let (records, position) = (Vec::new(), from);
        let mut read = Read { records, bytes: 0, upto, position, all: false };
        while !read.all && read.bytes < most {
            let bytes = BATCH_BYTES.min(most - read.bytes);
            let batch = Most { records: BATCH_RECORDS, bytes, values: LiveValues::Encoded };
            let kept = job.keep(ordinal, read.position, StreamSet::ALL, batch).await?;
            read.position = kept.next;
            read.bytes += kept.records.iter().map(|record| record.body.len() + 1).sum::<usize>();
            read.records.extend(kept.records);
            read.all = !kept.more;
        }
        if let Some(last) = read.records.last() {
            let end = last.seq.after(1);
            read.upto = if read.all { read.upto.max(end) } else { end };
        }
        Ok(read)
    }

    /// Notes what became of a write.
    fn settle(&self, write: Write, result: Result<(), RecoverError>) {
        let Write {
            child: key, read: Read { upto, position, all, .. }, ending, log, place, ..
        } = write;
        let mut table = self.table();
        if table.removed {
            return;
        }
        let child = table.child(key.ordinal);
        let told = match (result, &log) {
            (Ok(()), Some(log)) => {
                child.trouble = None;
                let before = child.stored;
                child.stored = before.max(if all { upto } else { log.next() });
                let is_sealed = ending && all;
                child.place =
                    if log.is_empty() { Place::Undecided } else { Place::Files(position) };
                child.sealed = is_sealed.then(|| (child.stored, log.bytes()));
                let goes_on = !all || (child.ending && !ending);
                let (raised, told) = (child.stored > before, log.told());
                if goes_on {
                    table.make_due(key.ordinal);
                }
                if raised {
                    table.moved(key.ordinal);
                    self.moved.notify_waiters();
                }
                told
            }
            (result, _) => {
                if let Err(error) = result {
                    child.trouble = Some(FullBecause::of_output(&error));
                    child.damaged |= is_damage(&error);
                }
                table.refused(key.ordinal, Instant::now() + OUTPUT_RETRY);
                Seq(0)
            }
        };
        if let (Some(log), Some(place)) = (log, place) {
            let is_done = table.child(key.ordinal).sealed.is_some() || log.is_empty();
            if !is_done {
                table.logs.insert(key.ordinal, (log, place));
            }
        }
        drop(table);
        self.tell(key.ordinal, told);
    }

    /// Tells the listener, if it does not know.
    pub(super) fn tell(&self, ordinal: Ordinal, upto: Seq) {
        let mut table = self.table();
        let Some(child) = table.children.get_mut(&ordinal) else { return };
        let upto = upto.max(child.committed.stored);
        if upto <= child.told {
            return;
        }
        child.told = upto;
        drop(table);
        if let Some(stored) = &self.backing.stored {
            // One who panics about it harms no one else.
            let _ = catch_unwind(AssertUnwindSafe(|| stored(self.child(ordinal), upto)));
        }
    }

    /// Forgets a child that ended, of which nothing is left anywhere.
    pub(super) fn forget_settled(&self, job: &JobMailboxes, ordinal: Ordinal) {
        let is_settled = |child: &Child| child.is_settled();
        if !self.table().children.get(&ordinal).is_some_and(is_settled) {
            return;
        }
        let summary = job.summary(ordinal);
        if summary.closed && summary.unread.records == 0 {
            let mut table = self.table();
            if table.children.get(&ordinal).is_some_and(is_settled) {
                table.children.remove(&ordinal);
            }
        }
    }

    /// Removes the files of a job that was removed.
    async fn remove_files(self: Arc<Self>) {
        let mut tries = 0;
        while tries < REMOVALS {
            let backed = Arc::clone(&self);
            let step = move || {
                let output = backed.backing.store.output();
                output.remove_job(backed.backing.job, OUTPUT_REMOVED_AT_ONCE)
            };
            match blocking(step).await {
                Some(Ok(Swept::More)) => {}
                Some(Ok(Swept::All)) | None => return,
                Some(Err(_)) => {
                    tries += 1;
                    tokio::time::sleep(OUTPUT_RETRY).await;
                }
            }
        }
    }
}

fn is_damage(error: &RecoverError) -> bool {
    let RecoverError::Output(error) = error else { return false };
    matches!(
        error,
        SegmentError::Damaged { .. } | SegmentError::Missing { .. } | SegmentError::Newer { .. }
    )
}

impl Write {
    fn run(mut self, store: &Store) -> (Self, Result<(), RecoverError>) {
        let log = match self.log.take() {
            Some(log) => Ok(log),
            None if self.damaged => store.write_behind_damage(self.child, self.cursor.stored),
            None => store.follow(self.child, &self.cursor),
        };
        let done = log.and_then(|mut log| {
            let written = self.write(&mut log);
            self.log = Some(log);
            Ok(written?)
        });
        (self, done)
    }

    fn write(&self, log: &mut OutputLog) -> Result<(), SegmentError> {
        if log.has_failed() {
            log.go_back()?;
        }
        // What an earlier try, or an earlier node, has written is there.
        let known = self.read.records.partition_point(|record| record.seq < log.next());
        let new = self.read.records.get(known..).unwrap_or_default();
        for run in new.chunk_by(|one, next| one.seq.after(1) == next.seq) {
            if let Some(first) = run.first() {
                log.skip_to(first.seq);
                log.append(run)?;
            }
        }
        if self.read.all {
            log.skip_to(self.read.upto);
        }
        if log.next() > self.cursor.taken.highest() {
            log.hold_place()?;
        }
        let ends = self.ending && self.read.all;
        // What is closed is read again when it is opened, and nothing that is damaged is.
        let closes =
            self.place.is_none() && (self.damaged || log.growing_bytes() >= OUTPUT_REREAD_BYTES);
        if ends || closes {
            log.seal()?;
        }
        log.sync()?;
        // What cannot be freed now is tried again with the next cursor.
        let _ = log.free(&self.committed);
        Ok(())
    }
}
