//! A node in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use sortie_actors::{NodeError, NodeHandle};
use sortie_exec::LaunchError;
use sortie_link::{AuthorityError, CertificateAuthority};
use sortie_model::name::BadName;
use sortie_model::{NodeId, NodeName};
use sortie_store::journal::OpenError;
use sortie_wire::RemoteError;

use crate::builder::NodeBuilder;
use crate::client::Client;
use crate::home::{HomeError, HomeKeeper, is_of_place};
use crate::session::Session;

/// A running node in this process.
///
/// Cheap to clone. Dropping it stops nothing: [`Node::shut_down`] does, and the end of the runtime.
#[derive(Debug, Clone)]
pub struct Node {
    handle: NodeHandle,
    /// Gives the home free with the last clone.
    home: Option<Arc<HomeKeeper>>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeStartError {
    /// Its name is no node name.
    #[error("the node's name cannot be used: {0}")]
    Name(#[from] BadName),
    /// Two functions have the same name.
    #[error("two functions are registered as `{0}`")]
    TaskName(String),
    /// Its home cannot be used, or another node holds it.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It cannot listen, its guardian does not start, an address or a label cannot be used, or no
    /// key or certificate could be made.
    #[error(transparent)]
    Start(#[from] StartFault),
    /// The cluster that it was to join refused it: the name is taken, or the cluster is full.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The node that it was to join does not hold its cluster's CA. Join the one that does.
    #[error("the node to join does not hold its cluster's CA")]
    NoAuthority,
    /// It has a home, and was told to join a node of this process.
    #[error("a node with a home has a cluster of its own: let it join by a token, once it runs")]
    HomeJoins,
}

/// What kept a node from starting.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartFault(Fault);

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Identity(#[from] AuthorityError),
}

/// Why a cluster refused a node.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Refusal(pub(crate) RemoteError);

impl NodeStartError {
    /// Whether the user made a mistake that they can correct: one of
    /// [`HomeError::is_mistake`], or in a name.
    pub fn is_mistake(&self) -> bool {
        match self {
            Self::Name(_) | Self::TaskName(_) => true,
            Self::Home(error) => error.is_mistake(),
            Self::Start(StartFault(Fault::Node(
                NodeError::Store(OpenError::Io { source, .. })
                | NodeError::Guardian(LaunchError::Keep { source, .. }),
            ))) => is_of_place(source),
            _ => false,
        }
    }

    pub(crate) fn from_node(error: NodeError) -> Self {
        Self::Start(StartFault(Fault::Node(error)))
    }

    pub(crate) fn identity(error: AuthorityError) -> Self {
        Self::Start(StartFault(Fault::Identity(error)))
    }

    /// Whether the same start may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Home(error) => error.is_retryable(),
            Self::Start(_) => true,
            _ => false,
        }
    }
}

impl Node {
    /// A node with that name, to be put together and started.
    pub fn builder(name: impl Into<String>) -> NodeBuilder {
        NodeBuilder::new(Some(name.into()))
    }

    /// A node that is called as its home says, or after the machine.
    pub fn unnamed() -> NodeBuilder {
        NodeBuilder::new(None)
    }

    pub(crate) const fn new(handle: NodeHandle, home: Option<Arc<HomeKeeper>>) -> Self {
        Self { handle, home }
    }

    pub(crate) const fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    pub(crate) fn authority(&self) -> Result<Arc<CertificateAuthority>, NodeStartError> {
        self.handle.authority().ok_or(NodeStartError::NoAuthority)
    }

    /// The node's session `default`, which ends with the node.
    pub fn session(&self) -> Session {
        self.client().session()
    }

    /// A client of the node; its requests are not encoded.
    pub fn client(&self) -> Client {
        Client::of_node(self.handle.clone())
    }

    /// Its identity.
    pub fn id(&self) -> NodeId {
        self.handle.id()
    }

    /// Its name.
    pub fn name(&self) -> NodeName {
        self.handle.name()
    }

    /// Where it listens: with the real port where any free one was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// How its process children are contained, in a sentence; none when it hosts none.
    pub fn containment(&self) -> Option<String> {
        self.handle.containment()
    }

    /// Ends the node: its sessions end, its children are killed, its links are closed with the word
    /// that it shuts down. Returns when the others can know it: it waits for the children to be
    /// gone, and then for the links to close, each for at most
    /// [`limits::CLOSE_TIME`](crate::limits::CLOSE_TIME). The home is free then. A node that has
    /// ended stays so; asking again is no error.
    ///
    /// # Cancel safety
    /// A dropped call takes nothing back: once it was polled the node ends without it.
    pub async fn shut_down(&self) {
        let (handle, home) = (self.handle.clone(), self.home.clone());
        let ending = tokio::spawn(async move {
            handle.shut_down().await;
            if let Some(home) = home {
                home.withdraw();
            }
        });
        // A panic in it is no reason for another here.
        let _ = ending.await;
    }

    /// Resolves when the node has ended, also because a client asked for it. Its home is free once
    /// [`Node::shut_down`] was called, or the last handle is dropped.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&self) {
        self.handle.ended().await;
    }
}

/// The first line of `main` in every program whose nodes host process children: the program is
/// executed again as the guardian of those processes, and then this call does not return.
///
/// Programs whose functions are to run in the background begin with
/// [`init_with`](crate::init_with) instead.
///
/// In every other case it returns at once. It must come before there is another thread, so a
/// `main` under `#[tokio::main]` is too late: build the runtime after it. Called too late it has no
/// effect: nodes run functions only, and a start of a process on them is an error that says so.
pub fn init() {
    sortie_guardian::run_if_asked();
}
