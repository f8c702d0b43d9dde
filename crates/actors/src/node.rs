//! A node: what all of its actors, links and requests share, how it starts and how it ends.

mod adopt;
mod cluster;
mod config;
pub(crate) mod guardians;
pub(crate) mod hosts;
mod housekeeping;
mod join;
mod listen;
mod peers;
pub(crate) mod recover;
mod sessions;
mod shut_down;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use sortie_engine::roster::Membership;
use sortie_engine::roster::tokens::Tokens;
use sortie_exec::registry::Registry;
use sortie_exec::{LaunchError, NodeBasics};
use sortie_link::{BindError, CertificateAuthority, Endpoint, Joined, LocalFacts};
use sortie_model::{Incarnation, NodeId, NodeName, SessionInstance};
use sortie_store::Store;
use sortie_wire::link_proto::{Member, Roster};
use sortie_wire::session_proto::Request;
use tokio::runtime::Handle;
use tokio::time::Instant;

pub use crate::node::cluster::NoKeeper;
pub use crate::node::config::{Network, NodeConfig, NodeKeys};
pub(crate) use crate::node::hosts::{Hosted, HostsPast};
pub(crate) use crate::node::peers::{PeerSight, Sights};
pub use crate::node::recover::RecoverError;
pub(crate) use crate::node::sessions::Sessions;

use crate::data::credit::{OwnerCredit, PerNode};
use crate::data::exchange::{self, ClientEnd};
use crate::data::input::feed::InputTraffic;
use crate::data::input::inlet::NodeInputs;
use crate::data::mailboxes::MailboxPool;
use crate::data::messages::inboxes::NodeInboxes;
use crate::node::guardians::Guardians;
use crate::peer::PeerMessage;
use crate::serve::{self, detach::Detaching};
use crate::world::World;

/// What is asked of a node's memory failed; the text says what and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// A file that people edit has a mistake; they can correct it.
    #[error("{0}")]
    Mistake(String),
    /// The disk, or what was written to it.
    #[error("{0}")]
    Storage(String),
}

/// Keeps what a node must not forget with its process. A node without a home keeps nothing.
pub trait Keeper: Send + Sync + fmt::Debug {
    /// The node has new identities, of another cluster.
    ///
    /// # Errors
    /// [`KeepError`] when they could not be kept: the join fails then.
    fn joined(&self, joined: &Joined) -> Result<(), KeepError>;
    /// The roster changed.
    ///
    /// # Errors
    /// [`KeepError`]; the node goes on with what it has in memory.
    fn roster(&self, roster: &Roster) -> Result<(), KeepError>;
    /// The node's own labels or advertised address changed.
    ///
    /// # Errors
    /// [`KeepError`]; the node goes on with what it has in memory.
    fn own(&self, member: &Member) -> Result<(), KeepError>;
    /// The groups for node expressions, by name, as they are now.
    ///
    /// # Errors
    /// [`KeepError`] when the user's file has a mistake.
    fn groups(&self) -> Result<BTreeMap<String, Vec<String>>, KeepError>;
}

/// A node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its guardian does not start.
    #[error(transparent)]
    Guardian(#[from] LaunchError),
    /// What it remembers of its cluster cannot be used.
    #[error("the roster of this home cannot be used: {0}")]
    Roster(#[from] sortie_engine::roster::RosterRefused),
    /// Its address or labels cannot be used.
    #[error(transparent)]
    Member(#[from] sortie_engine::roster::BadMember),
    /// What it keeps of its sessions cannot be opened.
    #[error(transparent)]
    Store(#[from] sortie_store::journal::OpenError),
    /// What it keeps of its sessions cannot be taken up.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// Its default session cannot be opened.
    #[error("the session `default` cannot be opened: {0}")]
    Session(sortie_wire::RemoteError),
    /// The actor system refused.
    #[error("the node's actors cannot be started")]
    Actors,
}

/// Who a node is.
#[derive(Debug, Clone)]
pub(crate) struct Me {
    pub(crate) id: NodeId,
    name: NodeName,
    pub(crate) incarnation: Incarnation,
}

impl Me {
    pub(crate) fn name(&self) -> NodeName {
        self.name.clone()
    }
}

/// What everything in a node shares.
pub(crate) struct NodeShared {
    pub(crate) me: Me,
    pub(crate) endpoint: Endpoint,
    pub(crate) registry: Registry,
    pub(crate) guardians: Arc<Guardians>,
    pub(crate) basics: NodeBasics,
    pub(crate) world: Arc<dyn World>,
    pub(crate) pool: Arc<MailboxPool>,
    pub(crate) inputs: NodeInputs,
    pub(crate) inboxes: NodeInboxes,
    pub(crate) credits: PerNode<OwnerCredit>,
    pub(crate) input_traffic: PerNode<InputTraffic>,
    pub(crate) input_directory: PathBuf,
    pub(crate) sights: Sights,
    pub(crate) sessions: Sessions,
    /// What outlives it.
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) detaching: Detaching,
    /// What the node itself runs on, whoever asks.
    pub(crate) runtime: Handle,
    /// What its functions run on.
    pub(crate) functions: Handle,
    pub(crate) user: String,
    keys: NodeKeys,
    authority: RwLock<Option<Arc<CertificateAuthority>>>,
    fingerprint: RwLock<[u8; 32]>,
    membership: RwLock<Membership>,
    rosters: tokio::sync::watch::Sender<u64>,
    tokens: Mutex<Tokens>,
    keeper: Arc<dyn Keeper>,
    peers: Mutex<BTreeMap<NodeId, ActorRef<PeerMessage>>>,
    hosts: Mutex<BTreeMap<(SessionInstance, NodeId), Hosted>>,
    /// Whether the node shuts down: no host is made any more. Read and set under the hosts' lock.
    ending: AtomicBool,
    past: HostsPast,
    root: OnceLock<ActorRef<RootMessage>>,
    started: Instant,
    /// Its start has succeeded.
    begun: OnceLock<()>,
    over: tokio::sync::watch::Sender<bool>,
}

impl fmt::Debug for NodeShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeShared").field("me", &self.me).finish_non_exhaustive()
    }
}

/// Nothing is told to the root: it supervises.
#[derive(Debug)]
pub(crate) enum RootMessage {}

/// The actor above all others of a node.
struct Root;

impl Actor for Root {
    type Msg = RootMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RootMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<RootMessage>,
        message: RootMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {}
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<RootMessage>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // What ends below takes only itself along.
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(%error, "an actor failed");
        }
        Ok(())
    }
}

/// A running node. Dropping the handle stops nothing; [`NodeHandle::shut_down`] does.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    node: Arc<NodeShared>,
}

impl NodeHandle {
    /// Starts a node in the present tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let store = recover::open_store(config.store.clone()).await?;
        let guardians = Guardians::launch(config.guardian.clone()).await?;
        let id = config.keys.node.node_id();
        let incarnation = Incarnation(config.world.now().0.unsigned_abs());
        let facts = LocalFacts {
            incarnation,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            address: None,
        };
        let fingerprint = config.identity.fingerprint();
        let (endpoint, arrivals, found_at) =
            config.network.bind(config.identity.clone(), facts.clone())?;
        let address = config.advertise.clone().unwrap_or(found_at);
        endpoint.replace_facts(LocalFacts { address: Some(address.clone()), ..facts });
        let name = config.name.clone();
        let own = Member { node: id, name: name.clone(), address, labels: config.labels };
        let membership = cluster::remembered(own, config.roster)?;
        let node = Arc::new(NodeShared {
            me: Me { id, name, incarnation },
            endpoint,
            registry: config.registry,
            guardians,
            basics: config.basics,
            world: config.world,
            pool: MailboxPool::new(config.directory.join("mailboxes")),
            inputs: NodeInputs::default(),
            inboxes: NodeInboxes::default(),
            credits: PerNode::default(),
            input_traffic: PerNode::default(),
            input_directory: config.directory.join("inputs"),
            sights: Sights::default(),
            sessions: Sessions::default(),
            store,
            detaching: Detaching::new(config.detached),
            runtime: Handle::current(),
            functions: config.functions.unwrap_or_else(Handle::current),
            user: config.user,
            keys: config.keys,
            authority: RwLock::new(config.authority.map(Arc::new)),
            fingerprint: RwLock::new(fingerprint),
            membership: RwLock::new(membership),
            rosters: tokio::sync::watch::Sender::new(0),
            tokens: Mutex::default(),
            keeper: config.keeper,
            peers: Mutex::default(),
            hosts: Mutex::default(),
            ending: AtomicBool::new(false),
            past: HostsPast::default(),
            root: OnceLock::new(),
            started: Instant::now(),
            begun: OnceLock::new(),
            over: tokio::sync::watch::Sender::new(false),
        });
        let starting = shut_down::Starting::of(&node);
        let (root, _) = Root::spawn(None, Root, ()).await.map_err(|_| NodeError::Actors)?;
        // Set once, here.
        let _ = node.root.set(root);
        node.take_up().await?;
        node.open_default_session().await.map_err(NodeError::Session)?;
        // Set once, here.
        let _ = node.begun.set(());
        starting.succeeded();
        if let Network::Quic(_) = config.network {
            MailboxPool::clear_away(&node.pool);
        }
        tokio::spawn(listen::run(Arc::clone(&node), arrivals));
        node.seek_authority();
        Ok(Self { node })
    }

    pub(crate) const fn of(node: Arc<NodeShared>) -> Self {
        Self { node }
    }

    /// Its identity.
    pub fn id(&self) -> NodeId {
        self.node.me.id
    }

    /// Its name.
    pub fn name(&self) -> NodeName {
        self.node.me.name()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.node.endpoint.local_addr()
    }

    /// How process children are contained; none when the node hosts none.
    pub fn containment(&self) -> Option<String> {
        self.node.guardians.current().map(|guardian| guardian.containment().to_string())
    }

    /// Asks the node, as its own user, without encoding anything.
    pub fn open(&self, request: Request) -> ClientEnd {
        let (client, server) = exchange::local();
        let (node, by) = (Arc::clone(&self.node), self.node.asker());
        let runtime = node.runtime.clone();
        // Not where the caller is: that may be a function, which blocks its thread.
        runtime.spawn(serve::serve(node, by, request, server));
        client
    }

    /// Takes a node in that runs in this process, without token and journey.
    ///
    /// # Errors
    /// The sentence that says why the roster refused it.
    pub fn admit(&self, member: Member) -> Result<(), sortie_wire::RemoteError> {
        self.node.admit(member)
    }

    /// The roster as the node knows it.
    pub fn roster(&self) -> Roster {
        self.node.membership().roster().clone()
    }

    /// The CA, if this node holds it.
    pub fn authority(&self) -> Option<Arc<CertificateAuthority>> {
        self.node.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the node says of itself to others.
    pub fn member(&self) -> Option<Member> {
        self.node.member(self.node.me.id)
    }

    /// Ends the node: its children are killed, its links closed with the word that it shuts down.
    pub async fn shut_down(&self) {
        let node = Arc::clone(&self.node);
        // It goes on when this call is dropped; a panic in it is no reason for another here.
        let _ = tokio::spawn(async move { node.shut_down().await }).await;
    }

    /// Ends the node as its death would, but in order: what outlives it runs on for the next one.
    pub async fn leave(&self) {
        let node = Arc::clone(&self.node);
        // As above.
        let _ = tokio::spawn(async move { node.leave().await }).await;
    }

    /// Resolves when the node has ended, also because a client asked for it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&self) {
        let mut over = self.node.over.subscribe();
        // The sender lives as long as the node that this handle holds.
        let _ = over.wait_for(|over| *over).await;
    }
}

impl NodeShared {
    /// The monotonic clock, from the node's start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn root(&self) -> Option<ractor::ActorCell> {
        self.root.get().map(ActorRef::get_cell)
    }
}
