//! The executing side of a session on this node; its decisions are `sortie_engine::host`'s.
//!
//! The session's owner may be this very node: then reports go straight to its mailboxes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use sortie_engine::host::{Host, HostEffect, Room, Start};
use sortie_link::Link;
use sortie_model::reason::SpawnStep;
use sortie_model::spec::BodySpec;
use sortie_model::{JobInstance, NodeId, Ordinal, Reason, SessionInstance, limits};
use sortie_wire::host_proto::{
    Acknowledge, ChildOutcome, ForgetJob, HostSpec, Resume, Resumed, StartChildren, StopChildren,
    Verdict,
};

use crate::child_job::{ChildJob, ChildJobArguments, ChildJobMessage, Work};
use crate::data::credit::OwnerCredit;
use crate::data::outbox::Outbox;
use crate::data::port::{ChildPort, JobPort, Target};
use crate::data::session::SessionShared;
use crate::node::NodeShared;

/// What a host is told.
#[derive(Debug)]
pub(crate) enum HostMessage {
    /// Start children.
    Start(StartChildren),
    /// Stop children.
    Stop(StopChildren),
    /// The owner has all of it.
    Forget(ForgetJob),
    /// The owner stored reports.
    Acknowledge(Acknowledge),
    /// The owner is back on a new connection.
    Resume(Link, Resume),
    /// The session is over, or its owner silent for too long.
    Over,
}

/// Whose children the host executes.
#[derive(Clone)]
pub(crate) enum Owner {
    /// A session of this node.
    Here(Arc<SessionShared>),
    /// Another node's session, over its link.
    There(NodeId, Link),
}

/// What a host begins with.
pub(crate) struct HostArguments {
    pub(crate) node: Arc<NodeShared>,
    pub(crate) session: SessionInstance,
    pub(crate) owner: Owner,
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
    /// Running child-job actors, with how many children each has.
    running: BTreeMap<ractor::ActorId, Group>,
}

struct Group {
    actor: ActorRef<ChildJobMessage>,
    job: JobInstance,
    count: u32,
}

/// The actor.
pub(crate) struct HostActor;

impl Actor for HostActor {
    type Msg = HostMessage;
    type State = HostState;
    type Arguments = HostArguments;

    async fn pre_start(
        &self,
        _: ActorRef<HostMessage>,
        arguments: HostArguments,
    ) -> Result<HostState, ActorProcessingErr> {
        let HostArguments { node, session, owner } = arguments;
        let owner_id = match &owner {
            Owner::Here(_) => node.me.id,
            Owner::There(id, _) => *id,
        };
        let credit = node.credits.of(owner_id);
        let outbox = Outbox::new(session, Arc::clone(&credit));
        if let Owner::There(_, link) = &owner {
            outbox.attach(link, None);
        }
        let host = Host::new(limits::PROCESSES_PER_NODE);
        let (ports, running) = (BTreeMap::new(), BTreeMap::new());
        Ok(HostState { node, host, owner, credit, waiting: 0, outbox, ports, running })
    }

    async fn handle(
        &self,
        myself: ActorRef<HostMessage>,
        message: HostMessage,
        state: &mut HostState,
    ) -> Result<(), ActorProcessingErr> {
        let mut effects = Vec::new();
        match message {
            HostMessage::Start(start) => {
                state.node.forget_expiry(start.session, state.owner_id());
                let room = state.room();
                if let Err(error) = state.host.on_start(start, room, &mut effects) {
                    state.refuse_peer(&error);
                }
            }
            HostMessage::Stop(stop) => state.host.on_stop(stop, &mut effects),
            HostMessage::Forget(forget) => state.host.on_forget(forget.job, &mut effects),
            HostMessage::Acknowledge(acknowledge) => state.outbox.acknowledge(&acknowledge),
            HostMessage::Resume(link, resume) => state.resume(link, &resume, &mut effects),
            HostMessage::Over => {
                state.host.on_over(&mut effects);
                state.perform(&myself, effects).await;
                state.outbox.close();
                myself.stop(None);
                return Ok(());
            }
        }
        state.perform(&myself, effects).await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<HostMessage>,
        event: SupervisionEvent,
        state: &mut HostState,
    ) -> Result<(), ActorProcessingErr> {
        let gone = match event {
            SupervisionEvent::ActorTerminated(cell, ..)
            | SupervisionEvent::ActorFailed(cell, _) => state.running.remove(&cell.get_id()),
            _ => None,
        };
        if let Some(Group { job, count, .. }) = gone {
            let mut effects = Vec::new();
            state.host.on_ended(job, count, &mut effects);
            state.perform(&myself, effects).await;
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
        // A link that is gone again will bring another resume.
        let expired = self.node.has_expired(resume.session, self.owner_id());
        let inputs = self.ports.iter().flat_map(|(job, port)| port.inputs.positions(*job));
        let inputs = inputs.collect();
        let _ = link.send(&Resumed { session: resume.session, unknown, expired, inputs });
        if let Owner::There(_, current) = &mut self.owner {
            *current = link;
        }
    }

    fn refuse_peer(&self, error: &dyn std::error::Error) {
        if let Owner::There(_, link) = &self.owner {
            link.close(sortie_link::CloseCode::GARBAGE, &error.to_string());
        }
    }

    async fn perform(&mut self, myself: &ActorRef<HostMessage>, effects: Vec<HostEffect>) {
        self.count_waiting();
        for effect in effects {
            match effect {
                HostEffect::Run { job, spec, children } => {
                    self.run(myself, job, &spec, children).await;
                }
                HostEffect::Stop { job, children, how } => {
                    let children = Arc::new(children);
                    for group in self.running.values().filter(|group| group.job == job) {
                        let children = Arc::clone(&children);
                        let _ = group.actor.cast(ChildJobMessage::Stop { children, how });
                    }
                }
                HostEffect::NeverRun { job, spec, children } => {
                    self.never_run(job, &spec, children);
                }
                HostEffect::Discard(job) => self.discard(job),
            }
        }
    }

    async fn run(
        &mut self,
        myself: &ActorRef<HostMessage>,
        job: JobInstance,
        spec: &Arc<HostSpec>,
        mut children: Vec<Start>,
    ) {
        let Some(port) = self.port(job, spec) else { return };
        let work = self.work(spec);
        let most = if matches!(work, Work::Process(_)) { 1 } else { limits::SLOTS_PER_ACTOR };
        while !children.is_empty() {
            let rest = children.split_off(most.min(children.len()));
            let some = std::mem::replace(&mut children, rest);
            let count = some.len() as u32;
            self.credit.add_children(u64::from(count));
            let arguments =
                ChildJobArguments { port: Arc::clone(&port), work: work.clone(), children: some };
            let spawned = ChildJob::spawn_linked(None, ChildJob, arguments, myself.get_cell());
            match spawned.await {
                Ok((actor, _)) => {
                    self.running.insert(actor.get_id(), Group { actor, job, count });
                }
                // The node ends, and its children with it.
                Err(_) => self.credit.take_children(u64::from(count)),
            }
        }
    }

    /// What the children execute here, or why nothing can.
    fn work(&self, spec: &HostSpec) -> Work {
        match &spec.body {
            BodySpec::Task { name, .. } => match self.node.registry.find(name) {
                Some(task) => Work::Function(task),
                None => Work::Nothing(Reason::UnknownTask { name: name.clone() }),
            },
            BodySpec::Command { .. } | BodySpec::Script { .. } => match &self.node.guardian {
                Some(guardian) if guardian.is_alive() => Work::Process(guardian.clone()),
                _ => Work::Nothing(Reason::Spawn { step: SpawnStep::Guardian, errno: 0 }),
            },
        }
    }

    fn port(&mut self, job: JobInstance, spec: &Arc<HostSpec>) -> Option<Arc<JobPort>> {
        if let Some(port) = self.ports.get(&job) {
            return Some(Arc::clone(port));
        }
        let target = match &self.owner {
            Owner::Here(session) => Target::Here(session.job(job)?),
            Owner::There(..) => Target::There(Arc::clone(&self.outbox)),
        };
        let port = Arc::new(JobPort {
            job,
            spec: Arc::clone(spec),
            node: self.node.me.name(),
            world: Arc::clone(&self.node.world),
            basics: self.node.basics.clone(),
            inputs: self.node.inputs.of(self.owner_id(), job),
            target,
            owner: Arc::clone(&self.credit),
        });
        self.ports.insert(job, Arc::clone(&port));
        Some(port)
    }

    fn never_run(&mut self, job: JobInstance, spec: &Arc<HostSpec>, children: Vec<Ordinal>) {
        let Some(port) = self.port(job, spec) else { return };
        for ordinal in children {
            self.credit.add_children(1);
            ChildPort::new(Arc::clone(&port), ordinal).ended(ChildOutcome::of(Verdict::Stopped));
        }
    }

    /// Whatever runs of the job is killed with its actors: slots abort, processes die with their
    /// handles. Nobody hears of it.
    fn discard(&mut self, job: JobInstance) {
        self.outbox.forget(job);
        self.ports.remove(&job);
        self.node.inputs.forget(self.owner_id(), job);
        for group in self.running.values().filter(|group| group.job == job) {
            group.actor.kill();
        }
        self.running.retain(|_, group| group.job != job);
    }
}
