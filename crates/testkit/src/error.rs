//! What can go wrong with a simulated cluster.

use std::io;

/// A simulated cluster cannot do what it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The operating system gives no runtime.
    #[error("the simulated runtime cannot be made")]
    Runtime(#[source] io::Error),
    /// A cluster has 1 to so many nodes.
    #[error("a simulated cluster has 1 to {} nodes", crate::builder::NODES)]
    Size,
    /// A key or a certificate could not be made.
    #[error("a simulated node's identity cannot be made")]
    Identity(#[from] sortie_link::AuthorityError),
    /// A key that was made could not be read back.
    #[error("a simulated node's key cannot be read")]
    Key(#[from] sortie_link::BadPem),
    /// A node did not start.
    #[error("a simulated node does not start")]
    Start(#[from] sortie_actors::NodeError),
    /// There is no such node: they are numbered from 1.
    #[error("there is no node {0} in the cluster")]
    NoNode(usize),
    /// The node was killed and not started again.
    #[error("node {0} is down")]
    Down(usize),
    /// The node is up.
    #[error("node {0} is up already")]
    Up(usize),
}

impl ClusterError {
    /// Whether the same call can succeed later: when the node is up again, or down.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Down(_) | Self::Up(_))
    }
}
