//! What the data plane and the requests share of one session.

pub(crate) mod archive;
mod executing;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use ractor::ActorRef;
use sortie_engine::bonds::Bonds;
use sortie_engine::hold::Hold;
use sortie_engine::session_scope::Scope;
use sortie_link::Link;
use sortie_model::record::OutputRule;
use sortie_model::view::session_is_called;
use sortie_model::{
    ChildIncarnation, JobInstance, NodeId, Ordinal, Reason, SessionId, SessionInstance, State,
    Timestamp, limits,
};
use sortie_wire::host_proto::InputPosition;
use sortie_wire::session_proto::{Event, Happening};
use sortie_wire::{ErrorCode, RemoteError};
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use crate::data::attachment::Attachment;
use crate::data::changes::{Changes, Seen};
use crate::data::durable::Durable;
use crate::data::input::feed::FalsePosition;
use crate::data::job::JobShared;
use crate::data::messages::posts::Posts;
use crate::data::nested::Above;
use crate::data::session::archive::{Brought, Jobs};
use crate::data::stay::Asker;
use crate::data::window::Windows;
use crate::host::HostMessage;
use crate::node::NodeShared;
use crate::parent_job::ParentJobMessage;
use crate::session::SessionMessage;

/// What a session is, from its opening on.
#[derive(Debug, Clone)]
pub(crate) struct SessionIdentity {
    pub(crate) id: SessionId,
    pub(crate) instance: SessionInstance,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) temporary: bool,
    pub(crate) created: Timestamp,
    /// What is kept of output that nobody receives.
    pub(crate) output: OutputRule,
    /// The child whose jobs it holds, if any.
    pub(crate) above: Option<Above>,
}

impl SessionIdentity {
    /// Whether a user means it by that word: its name, its number or its identity.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        session_is_called((self.id, self.instance, &self.name), word)
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct SessionShared {
    pub(crate) node: Arc<NodeShared>,
    pub(crate) identity: SessionIdentity,
    /// Where it is kept, if it outlives its node.
    pub(crate) durable: Option<Arc<Durable>>,
    table: RwLock<Jobs>,
    /// Which of them were brought back.
    brought: Brought,
    attachments: Mutex<BTreeMap<NodeId, Arc<Attachment>>>,
    bonds: Mutex<Bonds>,
    changes: Changes,
    events: broadcast::Sender<Happening>,
    host: OnceLock<ActorRef<HostMessage>>,
    actor: OnceLock<ActorRef<SessionMessage>>,
    over: AtomicBool,
    /// Whether what it belongs to ends: nothing more is started.
    closing: AtomicBool,
    /// Messages to its children.
    pub(crate) posts: Posts,
    /// Who uses it; none where nobody needs to hold it.
    hold: Option<Mutex<Hold>>,
    /// What its readers have in hand.
    pub(crate) windows: Windows,
    /// Its actor will look then whether it was idle for too long.
    idle_look: Mutex<Option<AbortHandle>>,
    /// What was set in it.
    scope: Mutex<Scope>,
    /// Held by a start, and by the end.
    pub(crate) starting: tokio::sync::Mutex<()>,
}

/// What changed in one step of a job.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) children: Vec<(Ordinal, ChildIncarnation, State, Option<Box<Reason>>)>,
    pub(crate) parent: Vec<State>,
    /// Children of which nothing follows, besides those that ended just now.
    pub(crate) settled: Vec<Ordinal>,
    /// Whether questions or answers did.
    pub(crate) questions: bool,
}

impl SessionShared {
    pub(crate) fn new(
        node: Arc<NodeShared>,
        identity: SessionIdentity,
        hold: Option<Hold>,
        durable: Option<Arc<Durable>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            identity,
            durable,
            table: RwLock::default(),
            brought: Brought::default(),
            attachments: Mutex::default(),
            bonds: Mutex::default(),
            changes: Changes::default(),
            events: broadcast::Sender::new(limits::EVENTS_QUEUED),
            host: OnceLock::new(),
            actor: OnceLock::new(),
            over: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            posts: Posts::default(),
            hold: hold.map(Mutex::new),
            windows: Windows::default(),
            idle_look: Mutex::default(),
            scope: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Jobs> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Short steps only: numbers are reserved and jobs put in or out, nothing is awaited.
    pub(crate) fn table_mut(&self) -> RwLockWriteGuard<'_, Jobs> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn attachments(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Attachment>>> {
        self.attachments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bonds(&self) -> MutexGuard<'_, Bonds> {
        self.bonds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn job(&self, instance: JobInstance) -> Option<Arc<JobShared>> {
        self.table().instance(instance).map(|(_, job)| Arc::clone(job))
    }

    pub(crate) fn set_actor(&self, actor: ActorRef<SessionMessage>, host: ActorRef<HostMessage>) {
        // Set once, right after the spawns; a second set cannot happen.
        let _ = (self.actor.set(actor), self.host.set(host));
    }

    pub(crate) fn actor(&self) -> Option<&ActorRef<SessionMessage>> {
        self.actor.get()
    }

    /// The session is over; its waiters and watchers hear of it. Says whether this was the first
    /// word.
    pub(crate) fn mark_over(&self) -> bool {
        let first = !self.over.swap(true, Ordering::AcqRel);
        if let Some(look) = self.idle_look().take() {
            look.abort();
        }
        self.posts.end();
        self.changes.rise();
        first
    }

    /// What is started from now on is refused. A start that is under way holds [`Self::starting`].
    pub(crate) fn refuse_starts(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn refuses_starts(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The jobs in memory as they are now.
    pub(crate) fn jobs(&self) -> Vec<Arc<JobShared>> {
        self.table().jobs().map(|(_, job)| Arc::clone(job)).collect()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Who uses it; none where nobody needs to hold it.
    pub(crate) fn hold(&self) -> Option<MutexGuard<'_, Hold>> {
        let hold = self.hold.as_ref()?;
        Some(hold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same for a client that uses the session.
    ///
    /// # Errors
    /// [`ErrorCode::Denied`] when it is another user's.
    pub(crate) fn hold_for(&self, by: &Asker) -> Result<Option<MutexGuard<'_, Hold>>, RemoteError> {
        let hold = self.hold();
        if hold.is_some() && by.name != self.identity.owner {
            let SessionIdentity { name, owner, .. } = &self.identity;
            let text = format!("the session `{name}` is {owner}'s, and you are {}", by.name);
            return Err(RemoteError::new(ErrorCode::Denied, text));
        }
        Ok(hold)
    }

    /// What was set in it.
    pub(crate) fn scope(&self) -> MutexGuard<'_, Scope> {
        self.scope.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When its actor looks whether it was idle for too long.
    pub(crate) fn idle_look(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.idle_look.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody else may use the session now: what readers of past epochs have in hand is on offer
    /// when this returns, and those who wait are told.
    pub(crate) fn parted(&self) {
        let epoch = self.hold().map(|hold| hold.epoch());
        if let Some(epoch) = epoch {
            self.windows.withdraw_all_but(epoch);
        }
        self.changes.rise();
    }

    /// Jobs of it that are not finished.
    pub(crate) fn unfinished(&self) -> u64 {
        let table = self.table();
        table.jobs().filter(|(_, job)| !job.rows().state().is_finished()).count() as u64
    }

    /// Resolves news for waiters: a version that rises with every change of any job.
    pub(crate) fn changes(&self) -> Seen {
        self.changes.subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Happening> {
        self.events.subscribe()
    }

    /// Tells waiters and watchers, the child's change before the parent's.
    pub(crate) fn publish(&self, job: &JobShared, news: &News) {
        let nothing = news.children.is_empty() && news.parent.is_empty();
        if nothing && news.settled.is_empty() && !news.questions {
            return;
        }
        let finished = news.parent.iter().any(|state| state.is_finished());
        if self.events.receiver_count() > 0 {
            self.send_events(job, news);
        }
        self.changes.rise();
        self.stop_bound_to(job, news);
        // Of what outlives the node when its end is kept.
        if finished && job.durable.is_none() {
            self.forget_on_hosts(job);
            job.end_input();
        }
    }

    fn send_events(&self, job: &JobShared, news: &News) {
        let rows = job.rows();
        let parent = job.identity.id;
        let children = news.children.iter().filter_map(|(ordinal, incarnation, state, reason)| {
            let (id, state, incarnation) = (rows.child_id(*ordinal)?, *state, *incarnation);
            let question = rows.question(*ordinal).filter(|_| state == State::Blocked);
            let (reason, ordinal) = (reason.as_deref().cloned(), Some(*ordinal));
            Some(Event::Changed { id, job: parent, ordinal, incarnation, state, reason, question })
        });
        let own = news.parent.iter().map(|state| Event::Changed {
            id: parent,
            job: parent,
            ordinal: None,
            incarnation: ChildIncarnation(0),
            state: *state,
            reason: None,
            question: None,
        });
        for event in children.chain(own) {
            // Without a watcher an event has no reader.
            let _ = self.events.send(Happening { time: self.node.world.now(), event });
        }
    }

    pub(crate) fn announce(&self, event: Event) {
        // Without a watcher an event has no reader.
        let _ = self.events.send(Happening { time: self.node.world.now(), event });
        self.changes.rise();
    }

    /// Where this session stands with a node, made on first use.
    pub(crate) fn attachment(&self, node: NodeId) -> Arc<Attachment> {
        let traffic = || self.node.input_traffic.of(node);
        let make = || Attachment::new(self.identity.instance, node, traffic());
        Arc::clone(self.attachments().entry(node).or_insert_with(make))
    }

    /// Whether another node was told of jobs of this session and may execute children of them.
    pub(crate) fn may_run_on(&self, node: NodeId) -> bool {
        let attachment = self.attachments().get(&node).cloned();
        attachment.is_some_and(|attachment| attachment.has_told_any())
    }

    pub(crate) fn tell_host(&self, message: HostMessage) {
        if let Some(host) = self.host.get() {
            let _ = host.cast(message);
        }
    }

    /// Children on a node say over that connection how far they have read their input.
    ///
    /// # Errors
    /// [`FalsePosition`].
    pub(crate) fn on_input_read(
        &self,
        (node, link): (NodeId, &Link),
        positions: Vec<InputPosition>,
    ) -> Result<(), FalsePosition> {
        let attachment = self.attachment(node);
        if !attachment.is_current(link) {
            return Ok(());
        }
        for position in positions {
            let log = || {
                let job = self.job(position.job)?;
                let rows = job.rows();
                let reads = rows.spec().input.is_fed()
                    && !rows.state().is_finished()
                    && rows.runs_on(position.ordinal, node);
                job.input.clone().filter(|_| reads)
            };
            attachment.inputs.on_read(link, position, log)?;
        }
        Ok(())
    }

    /// A node reported what cannot be true: its connection is closed.
    pub(crate) fn distrust(&self, node: NodeId) {
        self.attachment(node).distrust();
    }

    /// Unfinished children of this session on a node.
    pub(crate) fn running_on(&self, node: NodeId) -> u64 {
        self.table().jobs().map(|(_, job)| u64::from(job.rows().unfinished_on(node))).sum()
    }

    /// Tells every job that uses a node, if there is anything to tell it.
    pub(crate) fn tell_jobs(
        &self,
        node: NodeId,
        message: impl Fn(JobInstance) -> Option<ParentJobMessage>,
    ) {
        for job in self.jobs().iter().filter(|job| job.rows().uses(node)) {
            if let Some(message) = message(job.identity.instance) {
                job.tell(message);
            }
        }
    }

    /// Nodes on which something of this session may run.
    pub(crate) fn attached_nodes(&self) -> Vec<Arc<Attachment>> {
        self.attachments().values().cloned().collect()
    }
}
