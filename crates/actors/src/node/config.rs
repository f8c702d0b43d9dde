//! What a node is made of.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use sortie_exec::registry::Registry;
use sortie_exec::{LaunchOptions, NodeBasics};
use sortie_link::memory::MemoryNetwork;
use sortie_link::{
    Arrivals, BindError, CertificateAuthority, Endpoint, Identity, LocalFacts, NodeKey,
};
use sortie_model::NodeName;
use sortie_wire::link_proto::Roster;
use tokio::runtime::Handle;

use crate::node::Keeper;
use crate::world::World;

/// What a node is made of.
pub struct NodeConfig {
    /// Its name; the identity says the same.
    pub name: NodeName,
    /// Its certificate and key.
    pub identity: Identity,
    /// Its key and its user's, to join another cluster with.
    pub keys: NodeKeys,
    /// The CA, if this node holds it.
    pub authority: Option<CertificateAuthority>,
    /// Where its links come from.
    pub network: Network,
    /// Where others reach it, `host:port`, if not where it listens.
    pub advertise: Option<String>,
    /// Its labels, sorted by key.
    pub labels: Vec<(String, String)>,
    /// The cluster as it was last known.
    pub roster: Option<Roster>,
    /// The functions that it can run.
    pub registry: Registry,
    /// How it hosts process children; not at all if none.
    pub guardian: Option<LaunchOptions>,
    /// Where mailboxes and inputs spill to.
    pub directory: PathBuf,
    /// Where its journal is and the output of sessions that outlive it; none do if none is given.
    pub store: Option<PathBuf>,
    /// Where the logs of detached processes are; it starts none if none is given.
    pub detached: Option<PathBuf>,
    /// The user whose node it is.
    pub user: String,
    /// What process children find in a clean environment.
    pub basics: NodeBasics,
    /// Keeps what must survive the process.
    pub keeper: Arc<dyn Keeper>,
    /// Its wall clock and its source of identities.
    pub world: Arc<dyn World>,
    /// Where its functions run: one that blocks its thread must not keep the node from answering.
    /// In the node's own runtime if none is given.
    pub functions: Option<Handle>,
}

/// Where the links of a node come from.
pub enum Network {
    /// QUIC: it listens at that address; port 0 is any free port.
    Quic(SocketAddr),
    /// A network within this process: it is dialled at that address, which may be any text.
    Memory(MemoryNetwork, String),
}

/// The keys that a join needs.
#[derive(Debug)]
pub struct NodeKeys {
    /// The node's.
    pub node: NodeKey,
    /// Its user's.
    pub user: NodeKey,
}

impl Network {
    /// An endpoint on it, what arrives there, and the address at which it is found.
    pub(super) fn bind(
        &self,
        identity: Identity,
        facts: LocalFacts,
    ) -> Result<(Endpoint, Arrivals, String), BindError> {
        match self {
            Self::Quic(listen) => {
                let (endpoint, arrivals) = Endpoint::bind(*listen, identity, facts)?;
                let address = endpoint.local_addr().to_string();
                Ok((endpoint, arrivals, address))
            }
            Self::Memory(network, address) => {
                let (endpoint, arrivals) = network.endpoint(address, identity, facts);
                Ok((endpoint, arrivals, address.clone()))
            }
        }
    }
}
