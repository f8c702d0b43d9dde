//! The executing side's unacknowledged reports: numbered on the shared stream, by record on a
//! child's own stream. What the owner has not acknowledged is sent again on the next connection.

mod bulk;
mod checkpoints;
mod kept;
mod pending;
mod shared;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_engine::untold::Untold;
use sortie_link::Link;
use sortie_model::{
    ChildIncarnation, ChildKey, JobInstance, Motion, NodeId, Ordinal, Record, Seq, SessionInstance,
};
use sortie_wire::frame::Message;
use sortie_wire::host_proto::{
    Acknowledge, ChildAsk, ChildEnd, ChildMotion, ChildStart, Report, Resume,
};
use sortie_wire::version::CHECKPOINTS;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::data::attachment::say;
use crate::data::credit::{Held, OwnerCredit};
pub(crate) use crate::data::outbox::bulk::{Bulk, after_end};
use crate::data::outbox::kept::KeptChildren;
use crate::data::outbox::pending::{Head, Pending, Sent};
pub(crate) use crate::data::outbox::pending::{ask_bytes, weight_of};
use crate::node::guardians::Guardians;

/// The outbox of one session on this node.
#[derive(Debug)]
pub(crate) struct Outbox {
    owner: NodeId,
    session: SessionInstance,
    state: Mutex<State>,
    /// Something waits to be sent.
    wake: Notify,
    credit: Arc<OwnerCredit>,
    kept: KeptChildren,
}

#[derive(Debug)]
struct State {
    pending: BTreeMap<JobInstance, Pending>,
    /// Sent and not acknowledged, oldest first.
    unacknowledged: VecDeque<Sent>,
    /// What records in `pending` and `unacknowledged` take of the owner's credit.
    held: Held,
    last_number: u64,
    bulk: BTreeMap<ChildKey, Arc<Bulk>>,
    /// The last checkpoints of children.
    untold: Untold,
    /// Ends that go a way of their own, and wait until the last checkpoint before them is stored.
    ends: BTreeMap<ChildKey, (Arc<Bulk>, ChildEnd)>,
    /// By which the clock of `untold` goes.
    began: Instant,
    /// Whether the owner, on the present connection, wants to know of them.
    tells_checkpoints: bool,
    link: Option<Link>,
    /// Whether the session is over: nobody wants anything of it.
    closed: bool,
    /// Counts connections, so that a sender of an old one ends.
    generation: u64,
}

impl Outbox {
    pub(crate) fn new(
        (owner, session): (NodeId, SessionInstance),
        credit: &Arc<OwnerCredit>,
        guardians: Option<Arc<Guardians>>,
    ) -> Arc<Self> {
        let state = State {
            pending: BTreeMap::new(),
            unacknowledged: VecDeque::new(),
            held: Held::nothing(Arc::clone(&credit.shared)),
            last_number: 0,
            bulk: BTreeMap::new(),
            untold: Untold::default(),
            ends: BTreeMap::new(),
            began: Instant::now(),
            tells_checkpoints: false,
            link: None,
            closed: false,
            generation: 0,
        };
        let (state, wake, kept) =
            (Mutex::new(state), Notify::new(), KeptChildren::new((owner, session), guardians));
        Arc::new(Self { owner, session, state, wake, credit: Arc::clone(credit), kept })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection to the owner: what it has not stored is sent again, then what comes.
    pub(crate) fn attach(self: &Arc<Self>, link: &Link, resume: Option<&Resume>) {
        if let Some(resume) = resume {
            self.acknowledge_reports(resume.reports);
        }
        let (generation, bulk) = {
            let mut state = self.state();
            state.link = Some(link.clone());
            state.tells_checkpoints = link.facts().version >= CHECKPOINTS;
            state.generation += 1;
            if let Some(resume) = resume {
                // A host that begins anew in the same session goes on behind its predecessor: the
                // owner takes lower numbers for repetitions.
                state.last_number = state.last_number.max(resume.reports);
                let now = state.began.elapsed();
                state.untold.begin_again(now);
            }
            // Under the lock: which connection carries a child is the order of these.
            let bulk: Vec<_> =
                state.bulk.values().map(|bulk| (Arc::clone(bulk), bulk.rewind())).collect();
            if resume.is_some() {
                // An owner that began anew names none of those that it had pause.
                bulk.iter().for_each(|(bulk, _)| bulk.unpause());
            }
            if !state.tells_checkpoints {
                std::mem::take(&mut state.ends)
                    .into_values()
                    .for_each(|(bulk, end)| bulk.ended(end));
            }
            (state.generation, bulk)
        };
        if let Some(resume) = resume {
            self.acknowledge_children(&resume.children);
        }
        tokio::spawn(shared::send(Arc::clone(self), link.clone(), generation));
        for (child, generation) in bulk {
            tokio::spawn(bulk::send(child, self.session, (link.clone(), generation)));
        }
    }

    pub(crate) const fn session(&self) -> SessionInstance {
        self.session
    }

    /// The owner's node and session.
    pub(crate) const fn owner(&self) -> (NodeId, SessionInstance) {
        (self.owner, self.session)
    }

    /// The guardian keeps the child, and what it writes, until the owner has it.
    pub(crate) fn keeps(&self, child: ChildKey, life: ChildIncarnation) {
        self.kept.add(child, life);
    }

    /// What the guardian calls it.
    pub(crate) fn kept_name(&self, child: ChildKey) -> ChildKey {
        self.kept.name(child)
    }

    /// Says what is said again after a reconnection, if there is a connection now.
    pub(crate) fn say<M: Message>(&self, message: &M) {
        let link = self.state().link.clone();
        if let Some(link) = link {
            say(&link, message);
        }
    }

    /// The child began.
    pub(crate) fn started(&self, job: JobInstance, start: ChildStart) {
        if let Some(pending) = self.state().pending(job) {
            pending.started.push(start);
        }
        self.wake.notify_one();
    }

    /// A record for the shared stream, if there is room within the owner's credit; `held` is what
    /// was waited for.
    pub(crate) fn try_record(
        &self,
        (job, ordinal): (JobInstance, Ordinal),
        record: Record,
        held: &mut Option<Held>,
    ) -> Result<(), Record> {
        let mut state = self.state();
        if state.closed {
            return Ok(());
        }
        let Some(more) = self.credit.shared.claim(held, weight_of(record.body.len())) else {
            return Err(record);
        };
        state.held.join(more);
        state.pending.entry(job).or_default().push(ordinal, record);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// What a child asks, behind its records so far; a question comes with the credit that was
    /// waited for.
    pub(crate) fn asked(&self, job: JobInstance, ask: ChildAsk, held: Option<Held>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let weight = held.as_ref().map_or(0, Held::bytes);
        if let Some(held) = held {
            state.held.join(held);
        }
        let pending = state.pending.entry(job).or_default();
        pending.weight += weight;
        if !pending.asked.contains(&ask) {
            pending.asked.push(ask);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The child does what it was told to.
    pub(crate) fn moved(&self, job: JobInstance, moved: ChildMotion) {
        let mut state = self.state();
        if moved.motion == Motion::Suspended {
            state.untold.hurry(ChildKey { job, ordinal: moved.ordinal });
        }
        if let Some(pending) = state.pending(job) {
            pending.moved.insert(moved.ordinal, moved);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Waits for its turn at the owner's credit, for so many bytes of a question.
    pub(crate) async fn wait_for_question(&self, bytes: usize) -> Held {
        self.credit.shared.reserve(bytes).await
    }

    /// Waits for its turn at the owner's credit, for a record of so many bytes.
    pub(crate) async fn wait_for_room(&self, bytes: usize) -> Held {
        self.credit.shared.reserve(weight_of(bytes)).await
    }

    /// The child ended, and everything of it rode the shared stream.
    pub(crate) fn ended(&self, job: JobInstance, end: ChildEnd) {
        let mut state = self.state();
        state.untold.hurry(ChildKey { job, ordinal: end.ordinal });
        if let Some(pending) = state.pending(job) {
            pending.ended.push(end);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// A stream of the child's own, from its next record on: `mark`, if that says that a later life
    /// begins.
    pub(crate) fn open_bulk(self: &Arc<Self>, key: ChildKey, mark: Option<Seq>) -> Arc<Bulk> {
        let bulk = Arc::new(Bulk::new(key, mark, Arc::clone(&self.credit.own)));
        let link = {
            let mut state = self.state();
            if state.closed {
                bulk.discard();
                return bulk;
            }
            state.bulk.insert(key, Arc::clone(&bulk));
            state.link.clone().map(|link| (link, bulk.rewind()))
        };
        if let Some(carrier) = link {
            tokio::spawn(bulk::send(Arc::clone(&bulk), self.session, carrier));
        }
        bulk
    }

    /// The owner has stored something.
    pub(crate) fn acknowledge(&self, acknowledge: &Acknowledge) {
        self.acknowledge_reports(acknowledge.reports);
        self.acknowledge_children(&acknowledge.children);
        let state = self.state();
        if !state.pending.is_empty() || state.untold.is_waiting() {
            // What waited for that, if anything did.
            self.wake.notify_one();
        }
    }

    fn acknowledge_reports(&self, number: u64) {
        let stored = self.state().acknowledge_reports(number);
        stored.iter().for_each(|head| match head {
            Head::Report(report) => self.kept.reported(report),
            Head::Checkpoints(told) => self.told(told),
        });
    }

    fn acknowledge_children(&self, positions: &[sortie_wire::host_proto::ChildPosition]) {
        for position in positions {
            let key = ChildKey { job: position.job, ordinal: position.ordinal };
            let Some(bulk) = self.state().bulk.get(&key).cloned() else { continue };
            let ended = bulk.acknowledge(position);
            self.kept.stored(key, position.next);
            if let Some(life) = ended {
                let mut state = self.state();
                if state.bulk.get(&key).is_some_and(|present| Arc::ptr_eq(present, &bulk)) {
                    state.bulk.remove(&key);
                }
                state.untold.forget(key, life);
                drop(state);
                self.kept.ended(key, life);
            }
        }
    }

    /// The owner does not want to hear of the job any more.
    pub(crate) fn forget(&self, job: JobInstance) {
        self.kept.forget(job);
        let mut state = self.state();
        if let Some(pending) = state.pending.remove(&job) {
            state.held.give_back(pending.weight);
        }
        state.untold.forget_job(job);
        state.ends.retain(|child, _| child.job != job);
        // What was sent and is not stored comes again without it, under its number.
        let State { unacknowledged, held, untold, .. } = &mut *state;
        for sent in unacknowledged.iter_mut().filter(|sent| sent.head.job() == job) {
            let nothing = Head::Report(Arc::new(Report::empty(sent.number, job)));
            let bytes = std::mem::take(&mut sent.bytes);
            match std::mem::replace(&mut sent.head, nothing) {
                Head::Report(_) => held.give_back(bytes),
                Head::Checkpoints(_) => untold.acknowledged(bytes),
            }
            sent.payload.clear();
        }
        let gone: Vec<Arc<Bulk>> =
            state.bulk.values().filter(|b| b.job() == job).cloned().collect();
        state.bulk.retain(|key, _| key.job != job);
        drop(state);
        gone.iter().for_each(|bulk| bulk.discard());
    }

    /// The session is over: senders end, and what it held of the owner's credit is given back.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.pending.clear();
        state.unacknowledged.clear();
        state.held.clear();
        state.untold = Untold::default();
        state.ends.clear();
        state.generation += 1;
        state.link = None;
        let gone: Vec<Arc<Bulk>> = std::mem::take(&mut state.bulk).into_values().collect();
        drop(state);
        gone.iter().for_each(|bulk| bulk.discard());
        self.wake.notify_one();
    }
}

impl State {
    /// What the job has to report; nothing any more when the session is over.
    fn pending(&mut self, job: JobInstance) -> Option<&mut Pending> {
        (!self.closed).then(|| self.pending.entry(job).or_default())
    }

    /// Answers the reports that are stored now.
    fn acknowledge_reports(&mut self, number: u64) -> Vec<Head> {
        let stored = self.unacknowledged.partition_point(|sent| sent.number <= number);
        let stored: Vec<Sent> = self.unacknowledged.drain(..stored).collect();
        stored.iter().for_each(|sent| match sent.head {
            Head::Report(_) => self.held.give_back(sent.bytes),
            Head::Checkpoints(_) => self.untold.acknowledged(sent.bytes),
        });
        stored.into_iter().map(|sent| sent.head).collect()
    }
}

#[cfg(test)]
mod tests;
