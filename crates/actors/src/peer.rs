//! One other node: its link, its heartbeats, when it is dialled, suspected or given up. Its
//! decisions are `sortie_engine::peer`'s.

mod dial;
mod silence;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use sortie_engine::link_rule::{Standing, Stays, which_stays};
use sortie_engine::parent_job::{Memory, Unknown};
use sortie_engine::peer::{Keep, Peer, PeerEffect};
use sortie_link::{Backoff, CloseCode, ControlReceiver, Link, Side};
use sortie_model::reason::ReachStep;
use sortie_model::view::NodeState;
use sortie_model::{Incarnation, JobInstance, NodeId, SessionInstance, Timestamp, limits};
use sortie_wire::host_proto::Resumed;
use sortie_wire::link_proto::Heartbeat;

use crate::data::attachment::{Attached, Attachment, Life};
use crate::data::session::SessionShared;
use crate::data::traffic;
use crate::node::{NodeShared, PeerSight};
use crate::parent_job::ParentJobMessage;

/// What a peer actor is told.
#[derive(Debug)]
pub(crate) enum PeerMessage {
    /// A job of a session wants to execute there, and waits so long for the first connection.
    Want(Arc<SessionShared>, JobInstance, Duration),
    /// The node itself wants a link to it.
    Connect(Duration, Keep),
    /// A connection came up, dialled by us or by it.
    Up(Link, ControlReceiver),
    /// A dial failed.
    DialFailed(ReachStep, String),
    /// Time to dial.
    Dial,
    /// The time is over for which a job waits that wanted it then.
    WaitOver(SessionInstance, JobInstance, Duration),
    /// The connection with that number ended.
    Closed(u64, CloseCode),
    /// A heartbeat came over the connection with that number.
    Beat(u64, Heartbeat),
    /// It answered a resume, over the connection with that number.
    Resumed(u64, Resumed),
    /// It is time for the next heartbeat.
    Tick,
}

/// The state of a peer actor.
pub(crate) struct PeerState {
    node: Arc<NodeShared>,
    id: NodeId,
    peer: Peer,
    link: Option<Link>,
    sessions: BTreeMap<SessionInstance, Arc<SessionShared>>,
    /// Sessions that are over, of which the node is not known to have heard so.
    over: VecDeque<Arc<Attachment>>,
    life: Option<Incarnation>,
    /// When the connection came up.
    up_since: Option<Duration>,
    /// What its owner has not asked for on this connection has ended, as far as it ends with its
    /// owner's silence.
    unasked_ended: bool,
    backoff: Backoff,
    /// Whether a dial is under way. Never two: their connections could come up here in another
    /// order than there, and each end would keep another one.
    dialling: Arc<AtomicBool>,
    last_heard: Timestamp,
}

/// The actor.
pub(crate) struct PeerActor;

impl Actor for PeerActor {
    type Msg = PeerMessage;
    type State = PeerState;
    type Arguments = (Arc<NodeShared>, NodeId);

    async fn pre_start(
        &self,
        myself: ActorRef<PeerMessage>,
        (node, id): (Arc<NodeShared>, NodeId),
    ) -> Result<PeerState, ActorProcessingErr> {
        myself.send_interval(limits::HEARTBEAT, || PeerMessage::Tick);
        let (peer, sessions) = (Peer::default(), BTreeMap::new());
        let seed =
            id.0.iter()
                .fold(node.me.incarnation.0, |seed, byte| seed.rotate_left(5) ^ u64::from(*byte));
        let (backoff, last_heard) = (Backoff::new(seed), node.world.now());
        Ok(PeerState {
            node,
            id,
            peer,
            link: None,
            sessions,
            over: VecDeque::new(),
            life: None,
            up_since: None,
            unasked_ended: false,
            backoff,
            dialling: Arc::default(),
            last_heard,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<PeerMessage>,
        message: PeerMessage,
        state: &mut PeerState,
    ) -> Result<(), ActorProcessingErr> {
        let (mut effects, now) = (Vec::new(), state.node.uptime());
        match message {
            PeerMessage::Want(session, job, wait) => {
                let instance = session.identity.instance;
                state.want(session, wait, &mut effects);
                myself.send_after(wait, move || PeerMessage::WaitOver(instance, job, now));
            }
            PeerMessage::Connect(wait, keep) => state.peer.on_wanted(wait, keep, now, &mut effects),
            PeerMessage::WaitOver(session, job, since) => state.wait_over(session, job, since),
            PeerMessage::Up(link, _) if !state.stays(&link) => {
                link.close(CloseCode::DUPLICATE, "another connection stays");
                // A dial of ours came to nothing; if another link is up there is no dial.
                state.peer.on_dial_failed(ReachStep::Connect, now, &mut effects);
            }
            PeerMessage::Up(link, control) => {
                let greeted = now.saturating_sub(link.age());
                state.peer.on_up(greeted, now, &mut effects);
                // A lease that is over ends what came over the connection before this one.
                state.perform(&myself, std::mem::take(&mut effects));
                state.up(&myself, link, control);
            }
            PeerMessage::DialFailed(step, error) => {
                tracing::debug!(node = %state.id, error, "a dial failed");
                state.peer.on_dial_failed(step, now, &mut effects);
                state.node.sights.failed(state.id, step, error);
            }
            PeerMessage::Dial => state.dial(&myself),
            PeerMessage::Closed(link, code) => state.closed(link, code, &mut effects),
            PeerMessage::Beat(link, beat) => state.heard(link, beat, &mut effects),
            PeerMessage::Resumed(link, answer) => state.resumed(link, answer),
            PeerMessage::Tick => state.tick(&mut effects),
        }
        state.perform(&myself, effects);
        state.show();
        Ok(())
    }
}

impl PeerState {
    fn want(&mut self, session: Arc<SessionShared>, wait: Duration, effects: &mut Vec<PeerEffect>) {
        if session.is_over() {
            return;
        }
        self.sessions.insert(session.identity.instance, Arc::clone(&session));
        match &self.link {
            Some(link) if !link.is_closed() => attach(&session, link, self.id),
            _ => self.peer.on_wanted(wait, Keep::WhileUsed, self.node.uptime(), effects),
        }
    }

    /// Whether a connection that came up is the one to use: both ends judge it by the same rule.
    fn stays(&self, link: &Link) -> bool {
        let life = link.facts().incarnation;
        let Some(old) = self.link.as_ref().filter(|old| !old.is_closed()) else {
            // Words of a former life may be late. Until the later one is given up they say nothing:
            // what this node was told to run runs there.
            let given_up = self.peer.state(self.node.uptime()) == NodeState::Lost;
            return given_up || self.life.is_none_or(|known| known <= life);
        };
        let standing = |link: &Link| Standing {
            dialled_by: match link.facts().dialled {
                Side::Here => self.node.me.id,
                Side::There => self.id,
            },
            incarnation: Some(link.facts().incarnation),
            up: Some(link.age()),
        };
        which_stays(&standing(old), &standing(link)) == Stays::Newer
    }

    fn up(&mut self, myself: &ActorRef<PeerMessage>, link: Link, control: ControlReceiver) {
        if let Some(old) = self.link.replace(link.clone()) {
            old.close(CloseCode::REPLACED, "a newer connection took its place");
        }
        let life = link.facts().incarnation;
        if self.life.replace(life).is_some_and(|before| before != life) {
            // Of its sessions those ended with its former life that do not outlive it.
            self.node.end_temporary_of(self.id);
        }
        (self.up_since, self.unasked_ended) = (Some(self.node.uptime()), false);
        // The owner's first word, which says that it heard us; before anything is started for it.
        self.beat();
        self.show();
        traffic::serve_node(&self.node, self.id, (&link, control), myself);
        for session in self.sessions.values() {
            attach(session, &link, self.id);
        }
        for attachment in &self.over {
            attachment.attach(&link);
        }
        self.node.greet(&link, self.id);
    }

    fn beat(&mut self) {
        let Some(link) = self.link.clone().filter(|link| !link.is_closed()) else { return };
        let beat = self.peer.beat(self.node.uptime());
        self.attachments().for_each(|it| it.on_beat_sent(link.id(), beat.number));
        // A link that takes no heartbeat is about to say that it is closed.
        let _ = link.send(&beat);
    }

    fn heard(&mut self, link: u64, beat: Heartbeat, effects: &mut Vec<PeerEffect>) {
        let Some(link) = self.link.clone().filter(|own| own.id() == link) else { return };
        match self.peer.on_beat(beat, self.node.uptime(), effects) {
            Ok(()) => self.attachments().for_each(|it| it.on_beat_heard(link.id(), beat.heard)),
            Err(error) => link.close(CloseCode::GARBAGE, &error.to_string()),
        }
    }

    fn closed(&mut self, link: u64, code: CloseCode, effects: &mut Vec<PeerEffect>) {
        if self.link.as_ref().map(Link::id) != Some(link) {
            return;
        }
        self.link = None;
        let goodbye = code == CloseCode::SHUTDOWN;
        self.peer.on_closed(goodbye, self.node.uptime(), effects);
    }

    fn resumed(&self, link: u64, answer: Resumed) {
        let Resumed { session, unknown, expired, inputs, remembers } = answer;
        // An older connection's answer, or a session's that ended meanwhile, is of no use.
        let Some(link) = self.link.as_ref().filter(|own| own.id() == link) else { return };
        let session = self.sessions.get(&session).filter(|session| !session.is_over());
        let Some(session) = session else { return };
        let attachment = session.attachment(self.id);
        let (life, known) = match attachment.resumed(link, &unknown) {
            Ok(said) => said,
            Err(error) => return link.close(CloseCode::GARBAGE, &error.to_string()),
        };
        let (since, id) = (self.last_heard, self.id);
        for job in unknown.iter().filter_map(|job| session.job(*job)) {
            let said = Unknown { expired, later: life == Life::Later, remembers };
            job.tell(ParentJobMessage::Unknown((id, said), since));
        }
        if let Err(error) = session.on_input_read((id, link), inputs) {
            link.close(CloseCode::GARBAGE, &error.to_string());
            return;
        }
        attachment.inputs.on_all_named(link);
        session.tell_jobs(id, |job| {
            let is_torn = !remembers && known.contains(&job);
            let memory = if is_torn { Memory::Torn } else { Memory::Whole };
            Some(ParentJobMessage::Reachable(id, (life == Life::Later).then_some(memory)))
        });
    }

    fn tick(&mut self, effects: &mut Vec<PeerEffect>) {
        self.part_with_ended();
        self.beat();
        let link = self.link.as_ref().filter(|link| !link.is_closed());
        let silence = link.map(Link::silence);
        if let Some(silence) = silence {
            self.last_heard = self.node.world.now().earlier_by(silence);
        }
        let now = self.node.uptime();
        self.peer.set_holds(self.holds(), now, effects);
        self.peer.on_tick(silence, now, effects);
        self.end_letters();
        self.end_unasked();
    }

    fn perform(&mut self, myself: &ActorRef<PeerMessage>, effects: Vec<PeerEffect>) {
        for effect in effects {
            match effect {
                PeerEffect::Dial { attempt: 0 } => self.dial(myself),
                PeerEffect::Dial { attempt } => {
                    myself.send_after(self.backoff.wait(attempt), || PeerMessage::Dial);
                }
                PeerEffect::Unreachable(step) => {
                    for session in self.sessions.values() {
                        self.tell_unreachable(session, step, |_| true);
                    }
                }
                PeerEffect::Lost => self.lost(),
                PeerEffect::Disconnected => self.disconnected(),
                PeerEffect::Gone => self.gone(),
                PeerEffect::Beat => self.beat(),
                PeerEffect::LeaseOver => {
                    self.node.end_temporary_of(self.id);
                    // A connection that lasts would never tell the owner what was killed here:
                    // on the next one it asks.
                    if let Some(link) = &self.link {
                        link.close(CloseCode::SILENT, "silent for too long");
                    }
                }
            }
        }
    }

    fn wait_over(&self, session: SessionInstance, job: JobInstance, since: Duration) {
        let Some(session) = self.sessions.get(&session) else { return };
        if let Some(step) = self.peer.on_wait_over(since) {
            self.tell_unreachable(session, step, |other| other == job);
        }
    }

    fn tell_unreachable(
        &self,
        session: &SessionShared,
        step: ReachStep,
        which: impl Fn(JobInstance) -> bool,
    ) {
        let id = self.id;
        let attachment = session.attachment(id);
        // What left this node on an earlier connection may run there: for that the node is not
        // unreachable but silent, until it is back or lost.
        session.tell_jobs(id, |job| {
            let waits = which(job) && !attachment.has_told(job);
            waits.then(|| {
                attachment.must_hear(job);
                ParentJobMessage::Unreachable(id, step)
            })
        });
    }

    /// What others see of the peer.
    fn show(&self) {
        let state = self.peer.state(self.node.uptime());
        let link = self.link.clone().filter(|link| !link.is_closed());
        let lease = self.peer.lease_until();
        let runs_on = state == NodeState::Lost && self.peer.is_known();
        let lost_since = runs_on.then_some(self.last_heard);
        self.node.sights.set(self.id, PeerSight { state, link, lost_since, lease });
    }
}

/// A connection carries the session: jobs that wait for the node go on.
fn attach(session: &SessionShared, link: &Link, node: NodeId) {
    let attachment = session.attachment(node);
    let attached = match attachment.is_current(link) {
        true if attachment.is_ready() => Attached::Ready,
        true => Attached::Asked,
        false => {
            let (attached, lost) = attachment.attach(link);
            for job in lost.into_iter().filter_map(|job| session.job(job)) {
                job.tell(ParentJobMessage::Lost(node, session.node.world.now()));
            }
            attached
        }
    };
    if attached != Attached::Ready {
        return;
    }
    session.tell_jobs(node, |_| Some(ParentJobMessage::Reachable(node, None)));
}
