//! Child jobs that run on this node: one process, or up to 256 functions, per group.
//!
//! A group is plain data of its host, not an actor: the host is told by its children, and tells
//! them, without a hop between (an actor costs 8 us and 7 KiB for what a few words do). A function
//! is a slot: one future and a few words. What an end means is the engine's to say
//! (`sortie_engine::child_job`, `sortie_engine::function_end`); records and ends leave through the
//! child's port, not through here.

mod function;
mod open_input;
pub(crate) mod process;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::ActorRef;
use sortie_engine::function_end::FunctionResult;
use sortie_engine::host::Start;
use sortie_engine::suspend::Fresh;
use sortie_exec::task::Task;
use sortie_exec::{Adopted, Guardian, Stopper};
use sortie_model::spec::StopSpec;
use sortie_model::{JobInstance, Motion, Ordinal, Timestamp};
use sortie_wire::host_proto::{AnswerChild, ChildOutcome, ChildSet};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::data::port::{ChildPort, JobPort};
use crate::host::HostMessage;
use crate::node::guardians::Guardians;

/// What a group's children execute.
#[derive(Clone)]
pub(crate) enum Work {
    /// A registered function.
    Function(Arc<dyn Task>),
    /// A process.
    Process(Arc<Guardians>),
    /// A registered function in a process of its own.
    Worker(Arc<Guardians>),
    /// Nothing can run here: every child fails with the reason.
    Nothing(sortie_model::Reason),
}

/// A process that an earlier life of this node began.
#[derive(Debug)]
pub(crate) struct Survivor {
    pub(crate) start: Start,
    /// When it began, if that was heard.
    pub(crate) begin: Option<Timestamp>,
    /// How it was told to stop, if it was.
    pub(crate) stop: Option<StopSpec>,
    /// Whether it was told to stand still.
    pub(crate) motion: Motion,
    pub(crate) adopted: Adopted,
}

/// One running child.
struct Slot {
    port: Arc<ChildPort>,
    future: AbortHandle,
    /// How a process is told to stop, or to stand still.
    stop: Option<Stopper>,
    /// When a function that was told to stop is aborted.
    abort_at: Option<Instant>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // However the host ends, its children end with it.
        self.future.abort();
        self.port.kill_below();
    }
}

/// A group's number at its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupId(pub(crate) u64);

/// Children of one job that were started together. Dropping it kills what of it still runs.
pub(crate) struct Group {
    pub(crate) job: JobInstance,
    pub(crate) count: u32,
    slots: BTreeMap<Ordinal, Slot>,
    /// The first of what its slots say.
    abort_at: Option<Instant>,
}

impl Group {
    /// Runs the children; the host hears when the last of them has ended.
    pub(crate) fn start(
        port: &Arc<JobPort>,
        work: &Work,
        children: Vec<Start>,
        left: &Left,
    ) -> Self {
        let count = children.len() as u32;
        let slots = children.into_iter().map(|child| {
            let (ordinal, left) = (child.ordinal, left.clone());
            let slot = match work {
                Work::Function(task) => function::run(port, task, child, left),
                Work::Process(guardians) => process::run(port, guardians, child, left),
                Work::Worker(guardians) => worker::run(port, guardians, child, left),
                Work::Nothing(reason) => function::fail(port, &child, reason.clone(), left),
            };
            (ordinal, slot)
        });
        Self { job: port.job, count, slots: slots.collect(), abort_at: None }
    }

    /// Takes children over that run since before this node's present life.
    pub(crate) fn resume(
        port: &Arc<JobPort>,
        guardian: &Guardian,
        children: Vec<Survivor>,
        left: &Left,
    ) -> Self {
        let count = children.len() as u32;
        let slots = children.into_iter().map(|child| {
            (child.start.ordinal, process::resume(port, guardian, child, left.clone()))
        });
        Self { job: port.job, count, slots: slots.collect(), abort_at: None }
    }

    /// Tells these to stop. A function that has not returned by then is to be aborted
    /// ([`Self::abort_due`]); a later stop may only bring that forward.
    pub(crate) fn stop(&mut self, children: &Chosen, how: StopSpec, by: Instant) {
        let mut functions = false;
        self.for_each(children, |slot| {
            slot.port.tell_stop(how);
            match &slot.stop {
                Some(stop) => stop.stop(how),
                None => {
                    slot.abort_at = Some(slot.abort_at.map_or(by, |earlier| earlier.min(by)));
                    functions = true;
                }
            }
        });
        if functions {
            self.abort_at = Some(self.abort_at.map_or(by, |earlier| earlier.min(by)));
        }
    }

    /// Tells these to stand still, or to go on; those that were told to stop heed neither.
    pub(crate) fn suspend(&mut self, children: &Chosen, number: u64, motion: Motion) {
        self.for_each(children, |slot| {
            if slot.port.order_motion(number, motion) == Fresh::Yes {
                match &slot.stop {
                    Some(process) => process.move_to(motion),
                    None => slot.port.heed(motion),
                }
            }
        });
    }

    /// Brings a child the answer to its question, if it is one of these.
    pub(crate) fn answer(&self, answer: &AnswerChild) {
        if let Some(slot) = self.slots.get(&answer.ordinal) {
            slot.port.answer(answer);
        }
    }

    /// Says once more what children ask, and which stand still.
    pub(crate) fn say_again(&self) {
        self.slots.values().for_each(|slot| {
            slot.port.ask_again();
            slot.port.stand_again();
        });
    }

    /// Ends functions that did not return within their grace. Gives when that of the next one is
    /// over.
    pub(crate) fn abort_due(&mut self, now: Instant) -> Option<Instant> {
        if self.abort_at.is_some_and(|first| first <= now) {
            for slot in self.slots.values_mut() {
                if slot.abort_at.take_if(|at| *at <= now).is_some() {
                    slot.future.abort();
                }
            }
            self.abort_at = self.slots.values().filter_map(|slot| slot.abort_at).min();
        }
        self.abort_at
    }

    /// Takes a step per slot or per chosen child, whichever are fewer: there may be many groups.
    fn for_each(&mut self, chosen: &Chosen, mut what: impl FnMut(&mut Slot)) {
        match chosen {
            Chosen::All => self.slots.values_mut().for_each(what),
            Chosen::Some(some) if some.len() < self.slots.len() => {
                some.iter().for_each(|ordinal| {
                    self.slots.get_mut(ordinal).into_iter().for_each(&mut what);
                });
            }
            Chosen::Some(some) => {
                let all = self.slots.iter_mut().filter(|(ordinal, _)| some.contains(ordinal));
                all.for_each(|(_, slot)| what(slot));
            }
        }
    }
}

/// Which children of a job are meant.
#[derive(Debug)]
pub(crate) enum Chosen {
    All,
    Some(BTreeSet<Ordinal>),
}

impl From<ChildSet> for Chosen {
    fn from(children: ChildSet) -> Self {
        match children {
            ChildSet::All => Self::All,
            ChildSet::Some(some) => Self::Some(some.into_iter().collect()),
        }
    }
}

/// Counts a group's running children down; the host is to know when none is left.
#[derive(Clone)]
pub(crate) struct Left(Arc<LeftInner>);

struct LeftInner {
    count: AtomicUsize,
    group: GroupId,
    ended: Arc<EndedGroups>,
    tell: Tell,
}

impl Left {
    pub(crate) fn new(count: usize, group: GroupId, ended: &Arc<EndedGroups>, tell: Tell) -> Self {
        let (count, ended) = (count.into(), Arc::clone(ended));
        Self(Arc::new(LeftInner { count, group, ended, tell }))
    }

    fn one_ended(&self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.add(self.0.group, self.0.tell);
        }
    }
}

/// When a host is told that a group ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Others may wait for the room.
    AtOnce,
    /// Nobody waits: it sees with its next message, at the latest when the owner has stored the
    /// ends. A wake-up less between a function's start and its report.
    Later,
}

/// Groups whose children have all ended, until their host looks.
#[derive(Debug)]
pub(crate) struct EndedGroups {
    ended: Mutex<Ended>,
    host: ActorRef<HostMessage>,
}

#[derive(Debug, Default)]
struct Ended {
    groups: Vec<GroupId>,
    /// Whether the host was told of any of them.
    told: bool,
}

impl EndedGroups {
    pub(crate) fn new(host: ActorRef<HostMessage>) -> Arc<Self> {
        Arc::new(Self { ended: Mutex::default(), host })
    }

    fn add(&self, group: GroupId, tell: Tell) {
        let mut ended = self.ended();
        ended.groups.push(group);
        if tell == Tell::AtOnce && !std::mem::replace(&mut ended.told, true) {
            // The host may be gone already, and then nobody counts.
            let _ = self.host.cast(HostMessage::Ended);
        }
    }

    pub(crate) fn take(&self) -> Vec<GroupId> {
        std::mem::take(&mut *self.ended()).groups
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it that a child has an end, however its future is dropped: once what is below it has
/// ended.
pub(crate) struct Ending {
    port: Arc<ChildPort>,
    left: Left,
    outcome: Option<ChildOutcome>,
}

impl Ending {
    fn new(port: Arc<ChildPort>, left: Left) -> Self {
        Self { port, left, outcome: None }
    }

    /// The child's function has ended like that.
    fn end_with(&mut self, outcome: ChildOutcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (port, left) = (Arc::clone(&self.port), self.left.clone());
        let below = port.end_below();
        // An end that was reported before stands; this one says that the future was aborted.
        let aborted = || port.outcome_of(FunctionResult::Dropped);
        let outcome = self.outcome.take().unwrap_or_else(aborted);
        let end = move |port: &ChildPort| {
            port.ended(outcome);
            left.one_ended();
        };
        let Some(below) = below else { return end(&port) };
        let runtime = port.job().host_node.runtime.clone();
        runtime.spawn(async move {
            port.close(below).await;
            end(&port);
        });
    }
}
