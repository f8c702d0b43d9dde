//! The executing side's unacknowledged reports: numbered on the shared stream, by record on a
//! child's own stream. What the owner has not acknowledged is sent again on the next connection.

mod bulk;
mod shared;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_link::Link;
use sortie_model::{ChildKey, JobInstance, Ordinal, Record, SessionInstance, limits};
use sortie_wire::host_proto::{Acknowledge, ChildEnd, ChildStart, RecordRun, Report, Resume};
use tokio::sync::Notify;

pub(crate) use crate::data::outbox::bulk::{Bulk, after_end};

/// The outbox of one session on this node.
#[derive(Debug)]
pub(crate) struct Outbox {
    session: SessionInstance,
    state: Mutex<State>,
    /// Something waits to be sent.
    wake: Notify,
    /// Something was acknowledged.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<JobInstance, Pending>,
    /// Sent and not acknowledged, oldest first.
    unacknowledged: std::collections::VecDeque<Sent>,
    /// Bytes of records in `pending` and `unacknowledged`.
    bytes: usize,
    last_number: u64,
    bulk: HashMap<ChildKey, Arc<Bulk>>,
    link: Option<Link>,
    /// Counts connections, so that a sender of an old one ends.
    generation: u64,
}

/// What a job has to report and has not been put into a frame yet.
#[derive(Debug, Default)]
struct Pending {
    started: Vec<ChildStart>,
    runs: Vec<RecordRun>,
    payload: Vec<Bytes>,
    /// What the records weigh against the link's credit, in bytes.
    weight: usize,
    /// How many records there are.
    heads: usize,
    ended: Vec<ChildEnd>,
}

/// A report on its way: its frame, to be sent again if need be.
#[derive(Debug, Clone)]
struct Sent {
    number: u64,
    head: Arc<Report>,
    payload: Vec<Bytes>,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn new(session: SessionInstance) -> Arc<Self> {
        let (state, wake, room) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self { session, state, wake, room })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection to the owner: what it has not stored is sent again, then what comes.
    pub(crate) fn attach(self: &Arc<Self>, link: &Link, resume: Option<&Resume>) {
        let (generation, bulk) = {
            let mut state = self.state();
            state.link = Some(link.clone());
            state.generation += 1;
            if let Some(resume) = resume {
                state.acknowledge_reports(resume.reports);
            }
            let bulk: Vec<Arc<Bulk>> = state.bulk.values().cloned().collect();
            (state.generation, bulk)
        };
        if let Some(resume) = resume {
            self.acknowledge_children(&resume.children);
        }
        tokio::spawn(shared::send(Arc::clone(self), link.clone(), generation));
        for child in bulk {
            tokio::spawn(bulk::send(child, self.session, link.clone()));
        }
    }

    /// The child began.
    pub(crate) fn started(&self, job: JobInstance, start: ChildStart) {
        self.state().pending.entry(job).or_default().started.push(start);
        self.wake.notify_one();
    }

    /// A record for the shared stream, if there is room within the link's credit.
    pub(crate) fn try_record(
        &self,
        job: JobInstance,
        ordinal: Ordinal,
        record: Record,
    ) -> Result<(), Record> {
        let mut state = self.state();
        let bytes = weight_of(record.body.len());
        if state.bytes + bytes > limits::LINK_CREDIT_BYTES {
            return Err(record);
        }
        state.bytes += bytes;
        state.pending.entry(job).or_default().push(ordinal, record);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits until something was acknowledged.
    pub(crate) async fn wait_for_room(&self, bytes: usize) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.state().bytes + weight_of(bytes) <= limits::LINK_CREDIT_BYTES {
                return;
            }
            room.await;
        }
    }

    /// The child ended, and everything of it rode the shared stream.
    pub(crate) fn ended(&self, job: JobInstance, end: ChildEnd) {
        self.state().pending.entry(job).or_default().ended.push(end);
        self.wake.notify_one();
    }

    /// A stream of the child's own, from its next record on.
    pub(crate) fn open_bulk(self: &Arc<Self>, key: ChildKey) -> Arc<Bulk> {
        let bulk = Arc::new(Bulk::new(key));
        let link = {
            let mut state = self.state();
            state.bulk.insert(key, Arc::clone(&bulk));
            state.link.clone()
        };
        if let Some(link) = link {
            tokio::spawn(bulk::send(Arc::clone(&bulk), self.session, link));
        }
        bulk
    }

    /// The owner has stored something.
    pub(crate) fn acknowledge(&self, acknowledge: &Acknowledge) {
        self.state().acknowledge_reports(acknowledge.reports);
        self.room.notify_waiters();
        self.acknowledge_children(&acknowledge.children);
    }

    fn acknowledge_children(&self, positions: &[sortie_wire::host_proto::ChildPosition]) {
        for position in positions {
            let key = ChildKey { job: position.job, ordinal: position.ordinal };
            let bulk = self.state().bulk.get(&key).cloned();
            if bulk.is_some_and(|bulk| bulk.acknowledge(position)) {
                self.state().bulk.remove(&key);
            }
        }
    }

    /// The owner does not want to hear of the job any more.
    pub(crate) fn forget(&self, job: JobInstance) {
        let mut state = self.state();
        if let Some(pending) = state.pending.remove(&job) {
            state.bytes = state.bytes.saturating_sub(pending.weight);
        }
        let gone: Vec<Arc<Bulk>> =
            state.bulk.values().filter(|b| b.job() == job).cloned().collect();
        state.bulk.retain(|key, _| key.job != job);
        drop(state);
        gone.iter().for_each(|bulk| bulk.discard());
        self.room.notify_waiters();
    }

    /// The session is over: senders end.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.link = None;
        let gone: Vec<Arc<Bulk>> = state.bulk.drain().map(|(_, bulk)| bulk).collect();
        drop(state);
        gone.iter().for_each(|bulk| bulk.discard());
        self.wake.notify_one();
        self.room.notify_waiters();
    }
}

impl State {
    fn acknowledge_reports(&mut self, number: u64) {
        while let Some(sent) = self.unacknowledged.front()
            && sent.number <= number
        {
            self.bytes = self.bytes.saturating_sub(sent.bytes);
            self.unacknowledged.pop_front();
        }
    }
}

impl Pending {
    fn push(&mut self, ordinal: Ordinal, record: Record) {
        self.weight += weight_of(record.body.len());
        self.heads += 1;
        let seq = record.seq;
        let run = RecordRun::pack(ordinal, [record], &mut self.payload);
        match self.runs.last_mut() {
            Some(last)
                if last.ordinal == ordinal
                    && last.first.after(last.records.len() as u64) == seq =>
            {
                last.records.extend(run.records);
            }
            _ => self.runs.push(run),
        }
    }
}

/// What a record with so many bytes counts against credit: an empty one is not free.
pub(crate) const fn weight_of(length: usize) -> usize {
    length + limits::RECORD_OVERHEAD_BYTES as usize
}
