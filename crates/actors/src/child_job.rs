//! Children that run on this node: one process, or up to 256 functions, per actor.
//!
//! A function is a slot: one future and a few words. What an end means is the engine's to say
//! (`sortie_engine::child_job`, `sortie_engine::function_end`); records and ends leave through the
//! child's port, not through here.

mod function;
mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use sortie_engine::function_end::{FunctionResult, function_outcome};
use sortie_engine::host::Start;
use sortie_exec::task::Task;
use sortie_exec::{Guardian, Stopper};
use sortie_model::Ordinal;
use sortie_model::spec::StopSpec;
use sortie_wire::host_proto::ChildSet;
use tokio::task::AbortHandle;

use crate::data::port::{ChildPort, JobPort};

/// What a child-job actor is told.
#[derive(Debug)]
pub(crate) enum ChildJobMessage {
    /// Stop these.
    Stop {
        /// Which; all actors of a job are told the same.
        children: Arc<ChildSet>,
        /// How.
        how: StopSpec,
    },
    /// The grace of a stop is over: what is left is aborted.
    GraceOver(Arc<ChildSet>),
    /// Some ended; their own word, for bookkeeping only.
    Ended,
}

/// What an actor's children execute.
#[derive(Clone)]
pub(crate) enum Work {
    /// A registered function.
    Function(Arc<dyn Task>),
    /// A process.
    Process(Guardian),
    /// Nothing can run here: every child fails with the reason.
    Nothing(sortie_model::Reason),
}

/// Children of one job, to be run by one actor.
pub(crate) struct ChildJobArguments {
    pub(crate) port: Arc<JobPort>,
    pub(crate) work: Work,
    pub(crate) children: Vec<Start>,
}

/// One running child.
struct Slot {
    port: Arc<ChildPort>,
    future: AbortHandle,
    /// How a process is told to stop.
    stop: Option<Stopper>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // However the actor ends, its children end with it.
        self.future.abort();
    }
}

/// The state of a child-job actor.
pub(crate) struct ChildJobState {
    slots: BTreeMap<Ordinal, Slot>,
    grace: Duration,
}

/// The actor.
pub(crate) struct ChildJob;

impl Actor for ChildJob {
    type Msg = ChildJobMessage;
    type State = ChildJobState;
    type Arguments = ChildJobArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ChildJobMessage>,
        arguments: ChildJobArguments,
    ) -> Result<ChildJobState, ActorProcessingErr> {
        let ChildJobArguments { port, work, children } = arguments;
        let grace = port.spec.grace;
        let left = Left::new(children.len(), myself);
        let mut slots = BTreeMap::new();
        for child in children {
            let ordinal = child.ordinal;
            let slot = match &work {
                Work::Function(task) => function::run(&port, task, child, left.clone()),
                Work::Process(guardian) => process::run(&port, guardian, child, left.clone()),
                Work::Nothing(reason) => {
                    function::fail(&port, ordinal, reason.clone(), left.clone())
                }
            };
            slots.insert(ordinal, slot);
        }
        Ok(ChildJobState { slots, grace })
    }

    async fn handle(
        &self,
        myself: ActorRef<ChildJobMessage>,
        message: ChildJobMessage,
        state: &mut ChildJobState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChildJobMessage::Stop { children, how } => state.stop(&myself, children, how),
            ChildJobMessage::GraceOver(children) => state.abort(&children),
            ChildJobMessage::Ended => myself.stop(None),
        }
        Ok(())
    }
}

impl ChildJobState {
    fn stop(&self, myself: &ActorRef<ChildJobMessage>, children: Arc<ChildSet>, how: StopSpec) {
        let mut functions = false;
        for slot in self.named(&children) {
            slot.port.tell_stop();
            match &slot.stop {
                Some(stop) => stop.stop(how),
                None => functions = true,
            }
        }
        let grace = how.grace.unwrap_or(self.grace);
        if functions && grace.is_zero() {
            self.abort(&children);
        } else if functions {
            myself.send_after(grace, move || ChildJobMessage::GraceOver(children));
        }
    }

    /// Ends functions that did not return within their grace.
    fn abort(&self, children: &ChildSet) {
        self.named(children)
            .filter(|slot| slot.stop.is_none())
            .for_each(|slot| slot.future.abort());
    }

    fn named<'a>(&'a self, children: &'a ChildSet) -> Box<dyn Iterator<Item = &'a Slot> + 'a> {
        match children {
            ChildSet::All => Box::new(self.slots.values()),
            ChildSet::Some(some) => {
                Box::new(some.iter().filter_map(|ordinal| self.slots.get(ordinal)))
            }
        }
    }
}

/// Counts an actor's running children down; tells the actor when none is left.
#[derive(Clone)]
pub(crate) struct Left(Arc<LeftInner>);

struct LeftInner {
    count: std::sync::atomic::AtomicUsize,
    actor: ActorRef<ChildJobMessage>,
}

impl Left {
    fn new(count: usize, actor: ActorRef<ChildJobMessage>) -> Self {
        Self(Arc::new(LeftInner { count: count.into(), actor }))
    }

    fn one_ended(&self) {
        if self.0.count.fetch_sub(1, std::sync::atomic::Ordering::AcqRel) == 1 {
            // The actor may be gone already, and then nobody counts.
            let _ = self.0.actor.cast(ChildJobMessage::Ended);
        }
    }
}

/// Sees to it that a child has an end, however its future is dropped.
pub(crate) struct Ending {
    port: Arc<ChildPort>,
    left: Left,
}

impl Ending {
    fn new(port: Arc<ChildPort>, left: Left) -> Self {
        Self { port, left }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // An end that was reported before stands; this one says that the future was aborted.
        self.port.ended(function_outcome(FunctionResult::Dropped, self.port.stop_delivered()));
        self.left.one_ended();
    }
}
