//! A running child's way out: its records and its end, to a mailbox here or to an outbox.

mod ask;
mod function;
mod store;
mod suspend;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sortie_engine::credit::inline_allowance;
use sortie_engine::function_end::{FunctionResult, StopDelivered, function_outcome};
use sortie_engine::host::Start;
use sortie_engine::nest::Nest;
use sortie_exec::{NodeBasics, StopToken};
use sortie_model::spec::StopSpec;
use sortie_model::{
    Body, ChildIncarnation, ChildKey, JobInstance, NodeName, Ordinal, Record, Seq, Stream,
    Timestamp,
};
use sortie_wire::host_proto::{ChildEnd, ChildOutcome, ChildStart, HostSpec};
use sortie_wire::message_proto::ChildLife;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::data::checkpoints::Checkpoints;
use crate::data::credit::{Held, OwnerCredit};
use crate::data::input::inlet::InputPorts;
use crate::data::job::JobShared;
use crate::data::messages::gate::Gate;
use crate::data::messages::inboxes::Inboxes;
use crate::data::nested::Below;
use crate::data::outbox::{Bulk, Outbox, weight_of};
use crate::data::port::ask::Asks;
use crate::data::port::suspend::Standing;
use crate::node::NodeShared;
use crate::node::hosts::dying::Alive;
use crate::world::World;

/// Where a job's reports go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The job lives on this node.
    Here(Arc<JobShared>),
    /// The job lives elsewhere.
    There(Arc<Outbox>),
}

/// What the children of one job on this node share.
#[derive(Debug)]
pub(crate) struct JobPort {
    pub(crate) job: JobInstance,
    pub(crate) spec: Arc<HostSpec>,
    pub(crate) node: NodeName,
    /// The node itself: a child may have jobs of its own there.
    pub(crate) host_node: Arc<NodeShared>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) basics: NodeBasics,
    pub(crate) inputs: Arc<InputPorts>,
    pub(crate) inboxes: Arc<Inboxes>,
    pub(crate) target: Target,
    /// Whose children are counted: each was added before it ran, and is taken at its end.
    pub(crate) owner: Arc<OwnerCredit>,
    /// What functions that start again go on from.
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// Whether nobody wants to hear of the job any more.
    pub(crate) discarded: Arc<AtomicBool>,
    /// Over when all who may run for it are dropped.
    pub(crate) alive: Alive,
}

impl JobPort {
    /// Nobody wants to hear of the job any more.
    pub(crate) fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
    }

    fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Acquire)
    }
}

/// One running child.
#[derive(Debug)]
pub(crate) struct ChildPort {
    shared: Arc<JobPort>,
    ordinal: Ordinal,
    id: u64,
    incarnation: ChildIncarnation,
    state: Mutex<State>,
    nest: Mutex<Nest<Below>>,
    token: StopToken,
    stored: Notify,
    standing: Mutex<Standing>,
    /// Most children ask nothing.
    asks: OnceLock<Box<Asks>>,
    /// Its inbox, once it was opened.
    inbox: OnceLock<Arc<Gate>>,
}

#[derive(Debug)]
struct State {
    next: Seq,
    /// What may still ride the shared stream, in bytes.
    inline: usize,
    bulk: Option<Arc<Bulk>>,
    begin: Option<Timestamp>,
    /// When it ended, where that is known before it is reported.
    end: Option<Timestamp>,
    ended: bool,
    /// What may still be written, in bytes.
    room: u64,
    /// What was written beyond that, and dropped.
    cut: u64,
    /// A record is on its way to the disk; the next one waits, so that order is kept.
    storing: bool,
}

impl ChildPort {
    pub(crate) fn new(shared: Arc<JobPort>, child: &Start) -> Arc<Self> {
        let (ordinal, id, incarnation) = (child.ordinal, child.id, child.incarnation);
        let state = State {
            next: child.next,
            inline: inline_allowance(incarnation),
            bulk: None,
            begin: None,
            end: None,
            ended: false,
            room: u64::MAX,
            cut: 0,
            storing: false,
        };
        let (token, stored) = (StopToken::default(), Notify::new());
        let (state, asks, inbox) = (Mutex::new(state), OnceLock::new(), OnceLock::new());
        let nest = Mutex::new(Nest::new(shared.spec.level, shared.spec.grace));
        let standing = Mutex::default();
        Arc::new(Self {
            shared,
            ordinal,
            id,
            incarnation,
            state,
            nest,
            token,
            stored,
            standing,
            asks,
            inbox,
        })
    }

    pub(crate) fn job(&self) -> &JobPort {
        &self.shared
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The child's number in its session.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn incarnation(&self) -> ChildIncarnation {
        self.incarnation
    }

    /// Resolves when the child was told to stop, or something below it says that it fails.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.token.news()
    }

    pub(crate) fn wake(&self) {
        self.token.wake();
    }

    pub(crate) fn nest(&self) -> MutexGuard<'_, Nest<Below>> {
        self.nest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The child was told to stop: its function's token fires, and what is below it is stopped.
    pub(crate) fn tell_stop(&self, how: StopSpec) {
        self.token.fire();
        {
            // Under the lock under which it is opened, so that one of both sees the other.
            let _state = self.state();
            if let Some(inbox) = self.inbox.get() {
                inbox.tell_stop();
            }
        }
        self.stop_below(how);
    }

    /// Whether the child was told to stop before now.
    pub(crate) fn was_told_to_stop(&self) -> bool {
        self.token.has_fired()
    }

    /// What such an end of the child's function means. A job of its own that took it along has the
    /// last word.
    pub(crate) fn outcome_of(&self, result: FunctionResult) -> ChildOutcome {
        let escalated = self.nest().failure().cloned().map(FunctionResult::Escalated);
        let stop = if self.was_told_to_stop() { StopDelivered::Yes } else { StopDelivered::No };
        function_outcome(escalated.unwrap_or(result), stop)
    }

    /// At most so much may be written, in bytes; what comes beyond it is dropped and counted.
    pub(crate) fn limit_output(&self, limit: Option<u64>) {
        self.state().room = limit.unwrap_or(u64::MAX);
    }

    /// What was dropped for that limit, in bytes.
    pub(crate) fn cut_output(&self) -> u64 {
        self.state().cut
    }

    /// Resolves once something was.
    pub(crate) async fn over_limit(&self) {
        loop {
            let news = self.news();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.cut_output() > 0 {
                return;
            }
            news.await;
        }
    }

    /// Opens the child's inbox, once.
    pub(crate) fn open_inbox(&self) -> Option<Arc<Gate>> {
        let state = self.state();
        if state.ended || self.inbox.get().is_some() {
            return None;
        }
        let ChildKey { job, ordinal } = self.key();
        let gate =
            self.shared.inboxes.open(ChildLife { job, ordinal, incarnation: self.incarnation });
        if self.was_told_to_stop() {
            gate.tell_stop();
        }
        Some(Arc::clone(self.inbox.get_or_init(|| gate)))
    }

    /// The child's body has ended: waits until senders can know what became of their messages.
    pub(crate) async fn settle(&self) {
        if let Some(inbox) = self.inbox.get() {
            inbox.settle().await;
        }
    }

    fn key(&self) -> ChildKey {
        ChildKey { job: self.shared.job, ordinal: self.ordinal }
    }

    /// The child begins to run.
    pub(crate) fn began(&self) {
        let now = self.shared.world.now();
        let time = *self.state().begin.get_or_insert(now);
        let start = ChildStart { ordinal: self.ordinal, incarnation: self.incarnation, time };
        match &self.shared.target {
            Target::Here(job) => job.reported(Some(start), None),
            Target::There(outbox) => outbox.started(self.shared.job, start),
        }
    }

    /// Says in the child's records that a new incarnation begins here; not where there are none.
    pub(crate) async fn mark_restart(&self) {
        if self.state().next > Seq(0)
            && let Some(mark) = self.restart_mark()
        {
            self.record(Stream::Information, mark).await;
        }
    }

    /// The child's end: the item after its last record. Only the first end counts.
    pub(crate) fn ended(&self, outcome: ChildOutcome) {
        let mut state = self.state();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        self.end_questions();
        self.shared.owner.take_children(1);
        if let Some(inbox) = self.inbox.get() {
            inbox.end();
        }
        if self.shared.is_discarded() {
            return;
        }
        let end = ChildEnd {
            ordinal: self.ordinal,
            incarnation: self.incarnation,
            end: state.next,
            begin_time: state.begin,
            end_time: state.end.unwrap_or_else(|| self.shared.world.now()),
            outcome,
        };
        match (&self.shared.target, &state.bulk) {
            (Target::Here(job), _) => job.reported(None, Some(end)),
            (Target::There(outbox), Some(bulk)) => {
                outbox.ended_apart(self.key(), bulk, end);
            }
            (Target::There(outbox), None) => outbox.ended(self.shared.job, end),
        }
    }

    /// Adds a record if it can be done without waiting.
    pub(crate) fn try_record(&self, stream: Stream, body: Body) -> Result<(), Body> {
        self.try_with(stream, body, &mut None)
    }

    /// The same, with credit that was waited for.
    fn try_with(&self, stream: Stream, body: Body, held: &mut Option<Held>) -> Result<(), Body> {
        let mut state = self.state();
        if state.ended || self.shared.is_discarded() {
            return Ok(());
        }
        if state.storing {
            return Err(body);
        }
        let written = body.len() as u64;
        if state.cut > 0 || written > state.room {
            // It is stopped for that; until then it waits, as a process does at a pipe that nobody
            // reads.
            state.cut = state.cut.saturating_add(written);
            drop(state);
            self.wake();
            return Err(body);
        }
        let time = self.shared.world.now();
        let record = Record { seq: state.next, stream, time, body };
        self.put(&mut state, record, held).map_err(|record| record.body)
    }

    /// Adds a record that has its number, if that needs no wait.
    fn put(
        &self,
        state: &mut State,
        record: Record,
        held: &mut Option<Held>,
    ) -> Result<(), Record> {
        let (written, next) = (record.body.len() as u64, record.seq.after(1));
        let length = weight_of(record.body.len());
        match &self.shared.target {
            Target::Here(job) => job.try_store(self.ordinal, record)?,
            Target::There(outbox) => {
                if state.bulk.is_none() && length > state.inline {
                    let mark = self.is_mark(&record).then_some(record.seq);
                    state.bulk = Some(outbox.open_bulk(self.key(), mark));
                }
                match &state.bulk {
                    Some(bulk) => bulk.try_record(record, held)?,
                    None => outbox.try_record((self.shared.job, self.ordinal), record, held)?,
                }
            }
        }
        state.next = next;
        state.inline = state.inline.saturating_sub(length);
        state.room = state.room.saturating_sub(written);
        Ok(())
    }

    /// Waits for credit for a record of so many bytes, if the job lives elsewhere.
    async fn wait_for_credit(&self, length: usize) -> Option<Held> {
        let bulk = self.state().bulk.clone();
        match (&self.shared.target, bulk) {
            (Target::Here(_), _) => None,
            (Target::There(_), Some(bulk)) => Some(bulk.wait_for_room(length).await),
            (Target::There(outbox), None) => Some(outbox.wait_for_room(length).await),
        }
    }

    /// Adds a record, waiting while the mailbox is full or the child has no credit.
    pub(crate) async fn record(&self, stream: Stream, mut body: Body) {
        let mut held = None;
        loop {
            match self.try_with(stream, body, &mut held) {
                Ok(()) => return,
                Err(back) => body = back,
            }
            // Who waits for the child's own credit holds none that others may need.
            held = None;
            if self.cut_output() > 0 {
                return std::future::pending().await;
            }
            match &self.shared.target {
                Target::Here(job) => match self.store(job, stream, body).await {
                    None => return,
                    Some(back) => body = back,
                },
                Target::There(_) => held = self.wait_for_credit(body.len()).await,
            }
        }
    }
}
