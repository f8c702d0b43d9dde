//! A throw-away cluster in one process.

use crate::client::Client;
use crate::node::{Node, NodeStartError};
use crate::registry::Registry;

/// Nodes `node1` … `nodeN` in this process, linked by QUIC on loopback. They end with
/// [`Embedded::shut_down`], with the runtime in which they were started, or with the process;
/// dropping this ends nothing. Their functions run on threads of their own
/// ([`NodeBuilder::own_threads_for_functions`](crate::NodeBuilder::own_threads_for_functions)).
#[derive(Debug)]
pub struct Embedded {
    nodes: Vec<Node>,
}

/// The most nodes of an embedded cluster; who asks for more gets so many.
pub const EMBEDDED_NODES: usize = 1_000;

impl Embedded {
    /// Starts `count` nodes, one after the other; 0 counts as 1, and more than [`EMBEDDED_NODES`]
    /// as that. `node1` holds the CA.
    ///
    /// # Errors
    /// [`NodeStartError`]; nothing is left running then.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the nodes that run already end.
    pub async fn start(count: usize) -> Result<Self, NodeStartError> {
        Self::start_with(count, &Registry::new()).await
    }

    /// The same; every node can run the functions of the registry.
    ///
    /// # Errors
    /// As for [`Embedded::start`].
    ///
    /// # Cancel safety
    /// As for [`Embedded::start`].
    pub async fn start_with(count: usize, registry: &Registry) -> Result<Self, NodeStartError> {
        let mut starting = Starting::default();
        match starting.all(count, registry).await {
            Ok(()) => Ok(Self { nodes: std::mem::take(&mut starting.nodes) }),
            Err(error) => {
                end(&starting.nodes).await;
                Err(error)
            }
        }
    }

    /// A client of `node1`; there always is one.
    pub fn client(&self) -> Option<Client> {
        self.nodes.first().map(Node::client)
    }

    /// The nodes, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Ends every node, one after the other, the last one first; see [`Node::shut_down`].
    ///
    /// # Cancel safety
    /// A dropped call takes nothing back, but the nodes whose turn it was not yet go on. It can be
    /// repeated.
    pub async fn shut_down(&self) {
        end(&self.nodes).await;
    }
}

async fn end(nodes: &[Node]) {
    // The first one, which all others know best, last: nobody waits for one that has gone.
    for node in nodes.iter().rev() {
        node.shut_down().await;
    }
}

/// The nodes of a cluster that is not complete. Dropping it ends them.
#[derive(Default)]
struct Starting {
    nodes: Vec<Node>,
}

impl Starting {
    async fn all(&mut self, count: usize, registry: &Registry) -> Result<(), NodeStartError> {
        for number in 1..=count.clamp(1, EMBEDDED_NODES) {
            let node = Node::builder(format!("node{number}")).registry(registry);
            let node = node.own_threads_for_functions();
            let node = match self.nodes.first() {
                Some(first) => node.join(first),
                None => node,
            };
            self.nodes.push(node.start().await?);
        }
        Ok(())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        if let (false, Ok(runtime)) = (nodes.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { end(&nodes).await });
        }
    }
}
