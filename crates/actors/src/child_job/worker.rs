//! A registered function in a process of its own, as a child.

mod exchange;

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Lock, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use sortie_engine::function_end::{WorkerSaid, taken_along, told_before_its_end, worker_outcome};
use sortie_engine::host::Start;
use sortie_engine::inbox::Taken;
use sortie_exec::worker::{
    WorkerReport, WorkerReports, answer_frame, message_frame, order_frame, program,
};
use sortie_exec::{ProcessIo, ProcessSpec, Stopper, stop_channel};
use sortie_model::facts::{Interruption, ProcessFacts};
use sortie_model::reason::LimitKind;
use sortie_model::spec::{BodySpec, StopSpec};
use sortie_model::{Body, Motion, QuestionNumber, Reason, Stream};
use sortie_wire::guardian_proto::StandardInput;
use sortie_wire::host_proto::{ChildOutcome, Verdict};
use sortie_wire::worker_proto::{WorkerEnd, WorkerInbox, WorkerMessage, WorkerOrder};
use tokio::sync::{Mutex, Notify};

use self::exchange::Exchanges;
use crate::child_job::function::input_of;
use crate::child_job::process::{plan, surroundings};
use crate::child_job::{Ending, Left, Slot};
use crate::data::messages::gate::Gate;
use crate::data::port::{ChildPort, JobPort};
use crate::node::guardians::Guardians;

/// Spawns what drives the worker process.
pub(super) fn run(
    port: &Arc<JobPort>,
    guardians: &Arc<Guardians>,
    child: Start,
    left: Left,
) -> Slot {
    let port = ChildPort::new(Arc::clone(port), &child);
    let ending = Ending::new(Arc::clone(&port), left);
    let (stopper, stops) = stop_channel(port.job().spec.grace);
    let (guardians, this, own) = (Arc::clone(guardians), Arc::clone(&port), stopper.clone());
    let future = tokio::spawn(async move {
        let mut ending = ending;
        this.mark_restart().await;
        let Some(guardian) = guardians.alive().await else {
            return this.ended(ChildOutcome::of(Verdict::Failed(Reason::GuardianLost)));
        };
        let order = match order(&this, &child) {
            Ok(order) => order,
            Err(reason) => return this.ended(ChildOutcome::of(Verdict::Failed(reason))),
        };
        let (environment, directory) = surroundings(this.job(), child.id);
        let spec = ProcessSpec {
            program: program(),
            environment,
            directory: Some(directory),
            input: StandardInput::Channel,
            init: None,
            keep: None,
        };
        let io = Io {
            port: Arc::clone(&this),
            exchanges: Exchanges::new(Arc::clone(&this)),
            stopper: own,
            order: Lock::new(Some(order)),
            reports: Mutex::default(),
            inbox: OnceLock::new(),
            wants: AtomicBool::new(false),
            wanted: Notify::new(),
            said: Lock::new(WorkerSaid::Nothing),
            causes: Lock::default(),
            told: OnceLock::new(),
            open: Lock::default(),
            asked: Notify::new(),
        };
        let plan = plan(&this.job().spec);
        let run = sortie_exec::run(&guardian, spec, plan, (&io, &stops));
        let (facts, along) = run_along(run, &io).await;
        let facts = told_before_its_end(facts, io.told_before_its_end());
        let said = io.said.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = worker_outcome(&facts, said, this.job().spec.timeout);
        ending.end_with(match along {
            Some(reason) => taken_along(outcome, &facts, reason),
            None => outcome,
        });
        this.settle().await;
    });
    Slot { port, future: future.abort_handle(), stop: Some(stopper), abort_at: None }
}

/// Runs the worker to its end, which a job of its own may bring about: then it says with what
/// reason.
async fn run_along(
    run: impl Future<Output = ProcessFacts>,
    io: &Io,
) -> (ProcessFacts, Option<Reason>) {
    let mut run = pin!(run);
    let reason = tokio::select! {
        biased;
        // Before the function, which may see the same failure by itself.
        reason = io.port.escalated() => reason,
        facts = &mut run => return (facts, None),
    };
    // Its token fires, and it has its grace to return; the verdict stands.
    let how = StopSpec::default();
    io.port.tell_stop(how);
    io.stopper.stop(how);
    (run.await, Some(reason))
}

fn order(port: &ChildPort, child: &Start) -> Result<Bytes, Reason> {
    let (port, resumed) = (port.job(), port.last_checkpoint());
    let BodySpec::Task { name, types, .. } = &port.spec.body else {
        return Err(Reason::UnknownTask { name: String::new() });
    };
    let input = input_of(&port.spec, child)?;
    let order = WorkerOrder {
        name: name.clone(),
        types: *types,
        input: input.clone(),
        ordinal: child.ordinal,
        node: port.node.clone(),
        resumed,
    };
    order_frame(&order).map_err(|_| Reason::Limit { which: LimitKind::Value })
}

/// A worker's pipes and its channel at its child's port.
struct Io {
    port: Arc<ChildPort>,
    exchanges: Exchanges,
    stopper: Stopper,
    order: Lock<Option<Bytes>>,
    reports: Mutex<WorkerReports>,
    inbox: OnceLock<Arc<Gate>>,
    /// The worker waits for a message.
    wants: AtomicBool,
    /// It begins to.
    wanted: Notify,
    said: Lock<WorkerSaid>,
    /// Why its process was signalled.
    causes: Lock<Vec<Interruption>>,
    /// The causes, and a stop, of which the child was told before its end: known at its end.
    told: OnceLock<Vec<Interruption>>,
    /// The question that the worker asked last, until it is over.
    open: Lock<Option<QuestionNumber>>,
    /// There is one.
    asked: Notify,
}

/// A worker asks while its question before is open.
#[derive(Debug, thiserror::Error)]
#[error("a worker process asks out of turn")]
struct OutOfTurn;

impl Io {
    fn on_inbox(&self, word: WorkerInbox) {
        match (word, self.inbox.get()) {
            // A second time makes no sense, and changes nothing.
            (WorkerInbox::Open, _) => {
                if let Some(gate) = self.port.open_inbox() {
                    let _ = self.inbox.set(gate);
                }
            }
            (WorkerInbox::Want, Some(_)) => {
                self.wants.store(true, Ordering::Release);
                self.wanted.notify_one();
            }
            (WorkerInbox::Close, Some(gate)) => gate.close(),
            (WorkerInbox::Want | WorkerInbox::Close, None) => {}
        }
    }

    /// The answer to the worker's question, once there is one. Cancel safe.
    async fn next_answer(&self) -> Option<Bytes> {
        loop {
            let open = *self.open();
            let Some(number) = open else {
                self.asked.notified().await;
                continue;
            };
            let answer = self.port.answer_to(number).await;
            self.open().take_if(|open| *open == number);
            if let Some(answer) = answer {
                // Answers are far smaller than a frame may be.
                return answer_frame(number, answer).ok();
            }
        }
    }

    /// The message that the worker waits for. Cancel safe: it is asked for until it is given.
    async fn next_message(&self) -> Option<Bytes> {
        while !self.wants.load(Ordering::Acquire) {
            self.wanted.notified().await;
        }
        let gate = self.inbox.get()?;
        let none = (WorkerMessage::NoMore, Bytes::new());
        let (what, message) = gate.next().await.map_or(none, |taken| {
            let Taken { number, kind, message } = taken;
            (WorkerMessage::Message { number, kind }, message)
        });
        self.wants.store(false, Ordering::Release);
        message_frame(&what, &message).ok()
    }

    fn note(&self, said: WorkerSaid) {
        *self.said() = said;
    }

    fn said(&self) -> MutexGuard<'_, WorkerSaid> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called when the worker's end is known, and then gives the same.
    fn told_before_its_end(&self) -> &[Interruption] {
        self.told.get_or_init(|| {
            let mut causes = self.causes().clone();
            if causes.is_empty() && self.port.was_told_to_stop() {
                causes.push(Interruption::Stop);
            }
            causes
        })
    }

    fn causes(&self) -> MutexGuard<'_, Vec<Interruption>> {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, Option<QuestionNumber>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn makes_no_sense(&self, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(error, "a worker process makes no sense");
        self.note(WorkerSaid::Garbage);
        self.stopper.stop(StopSpec::NOW);
    }
}

impl ProcessIo for Io {
    fn started(&self, _: u32) {
        self.port.began();
    }

    async fn write(&self, stream: Stream, bytes: Bytes) {
        // The output stream is that of the function's values.
        let stream = if stream == Stream::Output { Stream::Information } else { stream };
        self.port.record(stream, Body::Bytes(bytes)).await;
    }

    fn interrupted(&self, why: Interruption) {
        self.causes().push(why);
        // Who stopped the child has told what is below it, too.
        if why != Interruption::Stop {
            self.port.tell_stop(StopSpec::default());
        }
    }

    fn moved(&self, motion: Motion) {
        self.port.does(motion);
    }

    fn exited(&self) {
        self.told_before_its_end();
        self.exchanges.end();
    }

    async fn report(&self, (bytes, sockets): (Bytes, Vec<OwnedFd>)) {
        let listening = *self.said() == WorkerSaid::Nothing;
        if listening {
            self.exchanges.serve(sockets).await;
        }
        let mut reports = self.reports.lock().await;
        reports.add(&bytes);
        drop(bytes);
        loop {
            match reports.take() {
                Ok(Some(WorkerReport::Record { stream, value })) => {
                    self.port.record(stream, Body::Value(value)).await;
                }
                Ok(Some(WorkerReport::Checkpoint(value))) => self.port.keep_checkpoint(value),
                Ok(Some(WorkerReport::Inbox(word))) => self.on_inbox(word),
                Ok(Some(WorkerReport::Reply(number, answer))) => {
                    if let Some(gate) = self.inbox.get() {
                        gate.answer(number, answer);
                    }
                }
                Ok(Some(WorkerReport::Ended(end))) => {
                    self.told_before_its_end();
                    if let WorkerEnd::Returned { value: Some(value) } = &end {
                        self.port.record(Stream::Output, Body::Value(value.clone())).await;
                    }
                    self.note(WorkerSaid::Ended(end));
                }
                Ok(Some(WorkerReport::Asked(asked))) => {
                    let number = self.port.begin_question(asked.prompt).await;
                    if number != Some(asked.number) {
                        return self.makes_no_sense(&OutOfTurn);
                    }
                    *self.open() = number;
                    self.asked.notify_one();
                }
                Ok(Some(WorkerReport::Withdrew(number))) => {
                    self.port.withdraw_question(number);
                }
                // Its socket is served already.
                Ok(Some(WorkerReport::Exchange)) => {}
                Ok(None) => return,
                Err(error) => return self.makes_no_sense(&error),
            }
        }
    }

    async fn next_input(&self) -> Option<Bytes> {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner).take();
        if order.is_some() {
            return order;
        }
        tokio::select! {
            biased;
            answer = self.next_answer() => answer,
            message = self.next_message() => message,
        }
    }

    async fn input_closed(&self) {}
}
