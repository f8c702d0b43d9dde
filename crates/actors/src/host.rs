//! The executing side of a session on this node; its decisions are `sortie_engine::host`'s.
//!
//! The session's owner may be this very node: then reports go straight to its mailboxes.

mod adopt;
mod port;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use sortie_engine::host::{Host, HostEffect, Room, Start};
use sortie_link::Link;
use sortie_model::spec::StopSpec;
use sortie_model::{JobInstance, NodeId, SessionInstance, limits};
use sortie_wire::host_proto::{
    Acknowledge, AnswerChild, ChildOutcome, ChildSet, ForgetJob, HostSpec, Resume, Resumed,
    StartChildren, StopChildren, SuspendChildren, Verdict,
};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::child_job::{Chosen, EndedGroups, Group, GroupId, Left, Tell, Work};
use crate::data::credit::OwnerCredit;
use crate::data::messages::inboxes::{Inboxes, Way};
use crate::data::outbox::Outbox;
use crate::data::port::{ChildPort, JobPort};
use crate::data::session::SessionShared;
pub(crate) use crate::host::adopt::Adoption;
use crate::node::NodeShared;
use crate::node::hosts::Had;
use crate::node::hosts::dying::{Alive, Ends};

/// The moment after a duration, which another node may have chosen.
fn after(duration: Duration) -> Instant {
    Instant::now() + duration.min(limits::LONGEST)
}

/// What a host is told.
#[derive(Debug)]
pub(crate) enum HostMessage {
    /// Start children.
    Start(StartChildren),
    /// Take children over that run since before the node's present life.
    Adopt(Box<Adoption>),
    /// Stop children.
    Stop(StopChildren),
    /// Suspend children, or let them go on.
    Suspend(SuspendChildren),
    /// Somebody answers a child.
    Answer(AnswerChild),
    /// The owner has all of it.
    Forget(ForgetJob),
    /// The owner stored reports.
    Acknowledge(Acknowledge),
    /// The owner is back on a new connection.
    Resume(Link, Resume),
    /// Groups ended: see [`EndedGroups`].
    Ended,
    /// The grace of a stop is over: what is left of functions that were told is aborted.
    GraceOver,
    /// The owner was silent for too long, since that link, for what does not outlive that. Others
    /// wait until this is done.
    LeaseOver(u64, Alive),
    /// The session is over. Others wait until this is done.
    Over(Alive),
}

/// Whose children the host executes.
#[derive(Clone)]
pub(crate) enum Owner {
    /// A session of this node.
    Here(Arc<SessionShared>),
    /// Another node's session, over its link, if there has been one in this life of the node.
    There(NodeId, Option<Link>),
}

/// What a host begins with.
pub(crate) struct HostArguments {
    pub(crate) node: Arc<NodeShared>,
    pub(crate) session: SessionInstance,
    pub(crate) owner: Owner,
}

/// What waits to tell the host something; it ends when nobody wants to be told.
struct Waiting(AbortHandle);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The state of a host actor.
pub(crate) struct HostState {
    node: Arc<NodeShared>,
    host: Host,
    owner: Owner,
    credit: Arc<OwnerCredit>,
    /// Children that wait to run, as far as the owner's count knows of them.
    waiting: u64,
    outbox: Arc<Outbox>,
    ports: BTreeMap<JobInstance, Arc<JobPort>>,
    inboxes: Arc<Inboxes>,
    running: BTreeMap<GroupId, Group>,
    /// What ended before it began, of another node's, until something is started.
    before: Option<Ends>,
    /// How many groups there ever were.
    groups: u64,
    ended: Arc<EndedGroups>,
    /// What waits for the first grace to be over, and when that is.
    grace: Option<(Instant, Waiting)>,
}

/// The actor.
pub(crate) struct HostActor;

impl Actor for HostActor {
    type Msg = HostMessage;
    type State = HostState;
    type Arguments = HostArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<HostMessage>,
        arguments: HostArguments,
    ) -> Result<HostState, ActorProcessingErr> {
        let HostArguments { node, session, owner } = arguments;
        let owner_id = match &owner {
            Owner::Here(_) => node.me.id,
            Owner::There(id, _) => *id,
        };
        let before = match &owner {
            Owner::Here(_) => None,
            Owner::There(id, _) => Some(node.ends_of(*id)),
        };
        let credit = node.credits.of(owner_id);
        let outbox = Outbox::new((owner_id, session), &credit, Some(Arc::clone(&node.guardians)));
        let way = match &owner {
            Owner::Here(session) => Way::Here(Arc::downgrade(session)),
            Owner::There(_, Some(link)) => {
                outbox.attach(link, None);
                Way::There(link.clone())
            }
            Owner::There(_, None) => Way::Away,
        };
        let inboxes = Inboxes::new(session, way);
        node.inboxes.add(owner_id, &inboxes);
        let host = Host::new(limits::PROCESSES_PER_NODE);
        let (ports, running) = (BTreeMap::new(), BTreeMap::new());
        let ended = EndedGroups::new(myself);
        let (waiting, groups) = (0, 0);
        Ok(HostState {
            node,
            host,
            owner,
            credit,
            waiting,
            outbox,
            ports,
            inboxes,
            running,
            before,
            groups,
            ended,
            grace: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<HostMessage>,
        message: HostMessage,
        state: &mut HostState,
    ) -> Result<(), ActorProcessingErr> {
        let mut effects = Vec::new();
        for group in state.ended.take() {
            if let Some(Group { job, count, .. }) = state.running.remove(&group) {
                state.host.on_ended(job, count, &mut effects);
            }
        }
        // Until what it was told is done.
        let _heard;
        match message {
            HostMessage::Start(start) => {
                if let Some(ends) = state.before.take().filter(|_| !state.node.is_ending()) {
                    state.node.outwait_deaths(state.owner_id(), ends).await;
                }
                let room = state.room();
                if let Err(error) = state.host.on_start(start, room, &mut effects) {
                    state.refuse_peer(&error);
                }
            }
            HostMessage::Adopt(adoption) => state.adopt(*adoption),
            HostMessage::Stop(stop) => state.host.on_stop(stop, &mut effects),
            HostMessage::Suspend(suspend) => state.host.on_suspend(suspend, &mut effects),
            HostMessage::Answer(answer) => state.answer(&answer),
            HostMessage::Forget(forget) => state.host.on_forget(forget.job, &mut effects),
            HostMessage::Acknowledge(acknowledge) => state.outbox.acknowledge(&acknowledge),
            HostMessage::Resume(link, resume) => state.resume(link, &resume, &mut effects),
            HostMessage::Ended => {}
            HostMessage::GraceOver => {
                state.grace = None;
                state.abort_due(&myself);
            }
            HostMessage::LeaseOver(link, heard) => {
                _heard = heard;
                state.host.on_lease_over(&mut effects);
                if state.host.is_empty() {
                    let session = (state.outbox.session(), state.owner_id());
                    state.node.retire(session, myself.get_id(), link);
                }
            }
            HostMessage::Over(_heard) => {
                state.host.on_over(&mut effects);
                state.perform(&myself, effects);
                state.outbox.close();
                myself.stop(None);
                return Ok(());
            }
        }
        let changes = effects
            .iter()
            .any(|effect| matches!(effect, HostEffect::Run { .. } | HostEffect::Discard(_)));
        state.perform(&myself, effects);
        if changes && matches!(state.owner, Owner::There(..)) {
            let mut had = Had::default();
            state.host.hostings().for_each(|hosting| had.note(hosting));
            let session = (state.outbox.session(), state.owner_id());
            state.node.host_has(session, myself.get_id(), had);
        }
        Ok(())
    }
}

impl HostState {
    fn owner_id(&self) -> NodeId {
        match &self.owner {
            Owner::Here(session) => session.node.me.id,
            Owner::There(id, _) => *id,
        }
    }

    /// How many children more may be started. This node's own sessions keep rows for theirs.
    fn room(&self) -> Room {
        match self.owner {
            Owner::Here(_) => Room::Own,
            Owner::There(..) => Room::For(self.credit.room_for_children()),
        }
    }

    /// Tells the owner's count how many children wait now.
    fn count_waiting(&mut self) {
        let waiting = self.host.queued();
        self.credit.add_children(waiting);
        self.credit.take_children(std::mem::replace(&mut self.waiting, waiting));
    }

    fn resume(&mut self, link: Link, resume: &Resume, effects: &mut Vec<HostEffect>) {
        let unknown = self.host.on_resume(resume, effects);
        self.outbox.attach(&link, Some(resume));
        self.inboxes.attach(&link);
        self.running.values().for_each(Group::say_again);
        // A link that is gone again will bring another resume.
        let expired = self.node.has_expired(resume.session, self.owner_id());
        let inputs = self.ports.iter().flat_map(|(job, port)| port.inputs.positions(*job));
        let inputs = inputs.collect();
        let remembers = self.host.remembers(self.node.remembers(), &unknown);
        let session = resume.session;
        let _ = link.send(&Resumed { session, unknown, expired, inputs, remembers });
        if let Owner::There(_, current) = &mut self.owner {
            *current = Some(link);
        }
    }

    fn refuse_peer(&self, error: &dyn std::error::Error) {
        if let Owner::There(_, Some(link)) = &self.owner {
            link.close(sortie_link::CloseCode::GARBAGE, &error.to_string());
        }
    }

    fn perform(&mut self, myself: &ActorRef<HostMessage>, effects: Vec<HostEffect>) {
        self.count_waiting();
        for effect in effects {
            match effect {
                HostEffect::Run { job, spec, children } => self.run(job, &spec, children),
                HostEffect::Stop { job, children, how } => self.stop(myself, job, children, how),
                HostEffect::Move { job, children, number, motion } => {
                    let children = Chosen::from(children);
                    let of_job = self.running.values_mut().filter(|group| group.job == job);
                    of_job.for_each(|group| group.suspend(&children, number, motion));
                }
                HostEffect::Reached { job, spec, checkpoints } => {
                    self.learn(job, &spec, checkpoints);
                }
                HostEffect::Moved { job, spec, moved } => {
                    let port = self.port(job, &spec);
                    port.iter().for_each(|port| moved.iter().for_each(|it| port.moved(*it)));
                }
                HostEffect::NeverRun { job, spec, children } => {
                    self.never_run(job, &spec, &children);
                }
                HostEffect::Discard(job) => self.discard(job),
            }
        }
    }

    fn run(&mut self, job: JobInstance, spec: &Arc<HostSpec>, mut children: Vec<Start>) {
        let Some(port) = self.port(job, spec) else { return };
        let work = self.work(spec);
        let (most, tell) = match (&work, &self.owner) {
            (Work::Process(_) | Work::Worker(_), _) => (1, Tell::AtOnce),
            (Work::Function(_), Owner::There(..)) => (limits::SLOTS_PER_GROUP, Tell::Later),
            _ => (limits::SLOTS_PER_GROUP, Tell::AtOnce),
        };
        while !children.is_empty() {
            let rest = children.split_off(most.min(children.len()));
            let some = std::mem::replace(&mut children, rest);
            self.credit.add_children(some.len() as u64);
            self.groups += 1;
            let id = GroupId(self.groups);
            let left = Left::new(some.len(), id, &self.ended, tell);
            self.running.insert(id, Group::start(&port, &work, some, &left));
        }
    }

    fn stop(
        &mut self,
        myself: &ActorRef<HostMessage>,
        job: JobInstance,
        children: ChildSet,
        how: StopSpec,
    ) {
        let Some(port) = self.ports.get(&job) else { return };
        let children = Chosen::from(children);
        let by = after(how.grace.unwrap_or(port.spec.grace));
        let of_job = self.running.values_mut().filter(|group| group.job == job);
        for group in of_job {
            group.stop(&children, how, by);
        }
        self.abort_due(myself);
    }

    /// Aborts functions whose grace is over, and sees to it that the next ones are.
    fn abort_due(&mut self, myself: &ActorRef<HostMessage>) {
        let now = Instant::now();
        let next = self.running.values_mut().filter_map(|group| group.abort_due(now)).min();
        self.grace.take_if(|(at, _)| Some(*at) != next);
        if let (Some(at), None) = (next, &self.grace) {
            let over = myself.send_after(at - now, || HostMessage::GraceOver);
            self.grace = Some((at, Waiting(over.abort_handle())));
        }
    }

    fn answer(&self, answer: &AnswerChild) {
        let of_job = self.running.values().filter(|group| group.job == answer.job);
        of_job.for_each(|group| group.answer(answer));
    }

    fn never_run(&mut self, job: JobInstance, spec: &Arc<HostSpec>, children: &[Start]) {
        let Some(port) = self.port(job, spec) else { return };
        for child in children {
            self.credit.add_children(1);
            ChildPort::new(Arc::clone(&port), child).ended(ChildOutcome::of(Verdict::Stopped));
        }
    }

    /// Whatever runs of the job is killed with its groups: slots abort, processes die with their
    /// handles. Nobody hears of it.
    fn discard(&mut self, job: JobInstance) {
        if let Some(port) = self.ports.remove(&job) {
            port.discard();
            let runs = self.running.values().any(|group| group.job == job);
            if let (Owner::There(owner, _), true) = (&self.owner, runs) {
                self.node.note_dying(*owner, &port.alive);
            }
        }
        self.running.retain(|_, group| group.job != job);
        self.outbox.forget(job);
        self.node.inputs.forget(self.owner_id(), job);
    }
}

impl Drop for HostState {
    fn drop(&mut self) {
        // A host may be killed before it hears that its session is over.
        let jobs: Vec<JobInstance> = self.ports.keys().copied().collect();
        jobs.into_iter().for_each(|job| self.discard(job));
        self.credit.take_children(self.waiting);
        self.node.inboxes.remove(self.owner_id(), &self.inboxes);
        self.inboxes.close();
    }
}
