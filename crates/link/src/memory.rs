//! A network within one process, for tests and simulations: endpoints with the same links, the same
//! handshake and the same backpressure as over QUIC, and cables that can be cut.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sortie_model::limits;
use sortie_wire::close::CloseCode;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::control::ControlReceiver;
use crate::dial::dial_error;
use crate::endpoint::{Arrival, Arrivals, Endpoint, Inner, Us};
use crate::error::{DialError, Expect, TrustFault};
use crate::handshake::{LocalFacts, answer, greet};
use crate::identity::Identity;
use crate::link::Link;
use crate::tls::Verdict;
use crate::transport::Connection;
use crate::transport::memory::{MemoryConnection, connect};
use crate::trust::Peer;

/// A network within one process. Cheap to clone.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    endpoints: HashMap<String, Weak<Inner>>,
    cables: HashMap<[String; 2], Cable>,
}

/// What lies between two addresses.
struct Cable {
    cut: watch::Sender<bool>,
    connections: Vec<MemoryConnection>,
}

impl MemoryNetwork {
    /// A network without endpoints.
    pub fn new() -> Self {
        Self::default()
    }

    /// An endpoint that is dialled at `address`, which may be any text. It replaces an earlier one.
    pub fn endpoint(
        &self,
        address: &str,
        identity: Identity,
        facts: LocalFacts,
    ) -> (Endpoint, Arrivals) {
        let net = MemoryNet { network: self.clone(), address: address.to_owned() };
        let (endpoint, arrivals) = Endpoint::in_memory(Us { identity, facts }, net);
        let weak = Arc::downgrade(endpoint.inner());
        self.lock().endpoints.insert(address.to_owned(), weak);
        (endpoint, arrivals)
    }

    /// From now on nothing passes between the two addresses, and neither side is told: links stay
    /// up and silent, dials get no answer.
    pub fn cut(&self, one: &str, other: &str) {
        self.lock().cable(one, other).cut.send_replace(true);
    }

    /// Everything passes again. A link that one side gave up meanwhile ends on the other.
    pub fn heal(&self, one: &str, other: &str) {
        let mut registry = self.lock();
        let cable = registry.cable(one, other);
        cable.cut.send_replace(false);
        cable.connections.iter().for_each(MemoryConnection::heal);
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Nothing panics while it holds the lock, so a poisoned state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn cable(&mut self, one: &str, other: &str) -> &mut Cable {
        let mut ends = [one.to_owned(), other.to_owned()];
        ends.sort_unstable();
        let new = || Cable { cut: watch::Sender::new(false), connections: Vec::new() };
        self.cables.entry(ends).or_insert_with(new)
    }
}

/// One endpoint's access to the network.
pub(crate) struct MemoryNet {
    network: MemoryNetwork,
    address: String,
}

impl MemoryNet {
    pub(crate) async fn dial(
        &self,
        us: &Us,
        (address, expect): (&str, Expect),
        wait: Duration,
    ) -> Result<(Link, ControlReceiver), DialError> {
        let dialling = async {
            let (connection, peer) = self.connect(us, address, expect).await?;
            greet(Connection::Memory(connection), us.identity.peer().role(), peer, &us.facts)
                .await
                .map_err(|fault| dial_error(address, fault, &Verdict::default()))
        };
        let no_answer = || DialError::NoAnswer { address: address.to_owned(), waited: wait };
        timeout(wait, dialling).await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Closes every connection of this endpoint and takes it off the network.
    pub(crate) fn close(&self, text: &str) {
        let mut registry = self.network.lock();
        registry.endpoints.remove(&self.address);
        for (ends, cable) in &mut registry.cables {
            if ends.contains(&self.address) {
                for connection in &cable.connections {
                    connection.close_from(&self.address, CloseCode::SHUTDOWN, text);
                }
            }
        }
    }

    async fn connect(
        &self,
        us: &Us,
        address: &str,
        expect: Expect,
    ) -> Result<(MemoryConnection, Peer), DialError> {
        let trust = |fault| DialError::Trust { address: address.to_owned(), fault };
        let mut cut = self.network.lock().cable(&self.address, address).cut.subscribe();
        if cut.wait_for(|cut| !cut).await.is_err() {
            std::future::pending::<()>().await;
        }
        let target = self.network.lock().endpoints.get(address).and_then(Weak::upgrade);
        let Some(target) = target else {
            return Err(DialError::NothingListens { address: address.to_owned() });
        };
        let them = target.us.load_full();
        if them.identity.fingerprint() != us.identity.fingerprint() {
            return Err(trust(TrustFault::OtherAuthority));
        }
        let peer = them.identity.peer().clone();
        match (&peer, expect) {
            (Peer::Node { id, .. }, Expect::Node(expected)) if *id != expected => {
                return Err(trust(TrustFault::OtherNode));
            }
            (Peer::User { .. }, _) => return Err(trust(TrustFault::OtherNode)),
            _ => {}
        }
        let (here, there) = connect([&self.address, address], cut);
        {
            let mut registry = self.network.lock();
            let cable = registry.cable(&self.address, address);
            cable.connections.retain(|known| known.close_reason().is_none());
            cable.connections.push(here.clone());
        }
        tokio::spawn(admit(there, us.identity.peer().clone(), target));
        Ok((here, peer))
    }
}

async fn admit(connection: MemoryConnection, peer: Peer, inner: Arc<Inner>) {
    let Some(arrivals) = inner.arrivals() else { return };
    let Ok(permit) = arrivals.reserve().await else { return };
    let us = inner.us.load_full();
    let local = (us.identity.peer(), &us.facts);
    let greeting = answer(Connection::Memory(connection.clone()), peer, local, || inner.room());
    match timeout(limits::HANDSHAKE_TIME, greeting).await {
        Ok(Ok((link, control))) => permit.send(Arrival::Link(link, control)),
        Ok(Err(fault)) => tracing::debug!(?fault, "a hello failed"),
        Err(_) => connection.close(CloseCode::NO_HELLO, ""),
    }
}
