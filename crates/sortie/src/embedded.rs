//! A throw-away cluster in one process.

use crate::client::Client;
use crate::node::{Node, NodeStartError};
use crate::registry::Registry;

/// Nodes `node1` … `nodeN` in this process, linked by QUIC on loopback. They end with the process,
/// or with [`Embedded::shut_down`].
#[derive(Debug)]
pub struct Embedded {
    nodes: Vec<Node>,
}

/// The most nodes of an embedded cluster.
pub const EMBEDDED_NODES: usize = 1_000;

impl Embedded {
    /// Starts `count` nodes, at least 1 and at most [`EMBEDDED_NODES`]; `node1` holds the CA.
    ///
    /// # Errors
    /// [`NodeStartError`]; nothing is left running then.
    pub async fn start(count: usize) -> Result<Self, NodeStartError> {
        Self::start_with(count, &Registry::new()).await
    }

    /// The same; every node can run the functions of the registry.
    ///
    /// # Errors
    /// As for [`Embedded::start`].
    pub async fn start_with(count: usize, registry: &Registry) -> Result<Self, NodeStartError> {
        let first = Node::builder("node1").registry(registry).start().await?;
        let mut nodes = vec![first.clone()];
        for number in 2..=count.min(EMBEDDED_NODES) {
            let node = Node::builder(format!("node{number}")).registry(registry);
            nodes.push(node.join(&first).start().await?);
        }
        Ok(Self { nodes })
    }

    /// A client of `node1`.
    pub fn client(&self) -> Option<Client> {
        self.nodes.first().map(Node::client)
    }

    /// The nodes, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Ends every node.
    pub async fn shut_down(&self) {
        for node in &self.nodes {
            node.shut_down().await;
        }
    }
}
