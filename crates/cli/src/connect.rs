//! The node that a verb talks to: the user's own, another one, or a throw-away cluster.

use std::time::Duration;

use sortie::{
    Client, ConnectError, Embedded, ErrorCode, HomePaths, NodeId, NodeView, Registry, Session,
    SessionView, UserIdentity, limits,
};
use sortie_model::view::NodeState;

use crate::args::reach::Reach;
use crate::args::work::node_name;
use crate::exit::Cause;
use crate::failure::{ErrorStyle, Failure};
use crate::own_node;
use crate::reconnect::{Outcome, reconnecting};

/// What saying goodbye may take.
pub(crate) const GOODBYE: Duration = Duration::from_millis(500);

/// How long a node may take to answer that our own node has just tried to reach in vain.
const LOST_TIME: Duration = Duration::from_secs(2);

/// A connection, and what must live as long as it.
pub(crate) struct Connection {
    client: Client,
    embedded: Option<Embedded>,
    session: Option<String>,
    outcome: Outcome,
}

impl Connection {
    /// Connects as the options say, for what runs no functions.
    pub(crate) async fn open(reach: &Reach) -> Result<Self, Failure> {
        Self::open_with(reach, &Registry::new()).await
    }

    /// The same, for what only reads or waits: it goes on when the connection breaks.
    pub(crate) async fn open_lasting(reach: &Reach, style: ErrorStyle) -> Result<Self, Failure> {
        let Self { client, embedded, session, .. } = Self::open(reach).await?;
        let is_own = reach.is_own_node() && embedded.is_none();
        let own = if is_own { Some(own_node::home_paths()?) } else { None };
        let (client, outcome) = reconnecting(client, own, style);
        Ok(Self { client, embedded, session, outcome })
    }

    /// Why a command failed, as far as reconnecting knows more.
    pub(crate) fn explain(&self, failure: impl Into<Failure>) -> Failure {
        self.outcome.explain(failure.into())
    }

    /// The same; the nodes of a throw-away cluster can run the functions of the registry.
    pub(crate) async fn open_with(reach: &Reach, registry: &Registry) -> Result<Self, Failure> {
        let (session, outcome) = (reach.session.clone(), Outcome::default());
        if let Some(count) = reach.embedded {
            let embedded = Embedded::start_with(count, registry).await?;
            let none = || Failure::internal("an embedded cluster has at least one node");
            let client = embedded.client().ok_or_else(none)?;
            return Ok(Self { client, embedded: Some(embedded), session: None, outcome });
        }
        let paths = own_node::home_paths()?;
        let client = match &reach.node {
            None => own_node::connect(&paths).await?,
            Some(target) => {
                connect_to(&paths, target).await.map_err(|failure| failure.of(target))?
            }
        };
        Ok(Self { client, embedded: None, session, outcome })
    }

    /// The client.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The sessions on the node where a child runs: its jobs are in one of them.
    pub(crate) async fn sessions_at(&self, node: &NodeView) -> Result<Vec<SessionView>, Failure> {
        if node.is_self || self.embedded.is_some() {
            return Ok(self.client.sessions().await?);
        }
        let client = connect_to_node(&own_node::home_paths()?, node).await?;
        let sessions = client.sessions().await;
        client.close().await;
        Ok(sessions?)
    }

    /// The session that was asked for.
    pub(crate) fn session(&self) -> Session {
        match &self.session {
            Some(name) => self.client.session_named(name),
            None => self.client.session(),
        }
    }

    /// The session of a command that runs in the foreground: its own, unless one was named.
    pub(crate) async fn foreground_session(&self) -> Result<Session, Failure> {
        match &self.session {
            Some(name) => Ok(self.client.session_named(name)),
            None => Ok(self.client.temporary().await?),
        }
    }

    /// The name or number of the session that was asked for.
    pub(crate) fn session_name(&self) -> &str {
        self.session.as_deref().unwrap_or("default")
    }

    /// Whether the session outlives this command.
    pub(crate) const fn is_session_named(&self) -> bool {
        self.session.is_some()
    }

    /// Says goodbye, so that the node ends at once what belongs to this connection.
    pub(crate) async fn close(self) {
        let Self { client, embedded, .. } = self;
        let _ = tokio::time::timeout(GOODBYE, client.close()).await;
        if let Some(embedded) = embedded {
            shut_down(&embedded).await;
        }
    }
}

/// Ends all nodes at once: one after the other, each would try to reach those that are gone.
async fn shut_down(embedded: &Embedded) {
    let ends: Vec<_> = embedded
        .nodes()
        .iter()
        .cloned()
        .map(|node| tokio::spawn(async move { node.shut_down().await }))
        .collect();
    for end in ends {
        // A node that could not end ends with us.
        let _ = end.await;
    }
}

/// Connects to another node: by the name that our own node knows it by, or by its address.
pub(crate) async fn connect_to(paths: &HomePaths, target: &str) -> Result<Client, Failure> {
    let own = own_node::connect(paths).await?;
    let Some(name) = node_name(target) else {
        own.close().await;
        return dial(paths, target, None, limits::CONNECT_TIME).await;
    };
    // Of that one only: others that do not answer cost no time.
    let only = target.parse().map_err(Failure::usage)?;
    let found = own.nodes(Some(only)).await;
    own.close().await;
    let unknown = || {
        let message = format!("no node is called `{name}`");
        Failure::new(Cause::NotFound, ErrorCode::UnknownNode.as_str(), message)
            .hint("`sortie node get` lists the nodes; an address is host:port")
    };
    match found {
        Ok(nodes) => connect_to_node(paths, nodes.first().ok_or_else(unknown)?).await,
        Err(error) if error.code() == ErrorCode::UnknownNode => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

/// Connects to a node that our own has just looked for. One that it did not find is not waited for
/// as long as others.
pub(crate) async fn connect_to_node(paths: &HomePaths, node: &NodeView) -> Result<Client, Failure> {
    connect_to_node_within(paths, node, limits::CONNECT_TIME).await
}

/// The same within that time.
pub(crate) async fn connect_to_node_within(
    paths: &HomePaths,
    node: &NodeView,
    time: Duration,
) -> Result<Client, Failure> {
    let time = if node.state == NodeState::Lost { time.min(LOST_TIME) } else { time };
    dial(paths, &node.address, Some(node.id), time).await
}

/// Whether the client talks to our own node: a cluster has one node of each name.
pub(crate) async fn is_own(paths: &HomePaths, client: &Client) -> Result<bool, Failure> {
    let own = own_node::connect(paths).await?;
    let ours = own.ping(None).await?.node;
    own.close().await;
    Ok(client.ping(None).await?.node == ours)
}

async fn dial(
    paths: &HomePaths,
    address: &str,
    id: Option<NodeId>,
    time: Duration,
) -> Result<Client, Failure> {
    let identity = UserIdentity::of_home(paths).map_err(ConnectError::from)?;
    Ok(Client::connect(address, &identity, id, time).await?)
}
