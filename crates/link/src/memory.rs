//! A network within one process, for tests and simulations: endpoints with the same links, the same
//! handshake and the same backpressure as over QUIC, cables that can be cut, and a weather that
//! delays and loses packets by a seed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sortie_model::limits;
use sortie_wire::close::CloseCode;
use tokio::time::timeout;

use crate::backoff::mix;
use crate::control::ControlReceiver;
use crate::dial::{CloseUnlessUp, dial_error};
use crate::endpoint::{Arrival, Arrivals, Endpoint, Inner, Us};
use crate::error::{DialError, Expect, TrustFault};
use crate::handshake::{LocalFacts, answer, greet};
use crate::identity::Identity;
use crate::link::Link;
use crate::tls::Verdict;
use crate::transport::Connection;
use crate::transport::memory::{Closings, MemoryConnection, connect};
use crate::transport::way::Way;
pub use crate::transport::way::Weather;
use crate::trust::Peer;

/// A network within one process. Cheap to clone.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    endpoints: HashMap<String, (u64, Weak<Inner>)>,
    /// Endpoints that were made.
    made: u64,
    cables: BTreeMap<[String; 2], Cable>,
    weather: Weather,
    seed: u64,
    closings: Arc<Closings>,
}

/// What lies between two addresses.
struct Cable {
    /// From the address that sorts first to the other one, and back.
    ways: [Arc<Way>; 2],
    connections: Vec<MemoryConnection>,
}

impl MemoryNetwork {
    /// A network without endpoints.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with the chance by which the weather decides.
    pub fn seeded(seed: u64) -> Self {
        let network = Self::default();
        network.lock().seed = seed;
        network
    }

    /// An endpoint that is dialled at `address`, which may be any text. It replaces an earlier one.
    pub fn endpoint(
        &self,
        address: &str,
        identity: Identity,
        facts: LocalFacts,
    ) -> (Endpoint, Arrivals) {
        let mut registry = self.lock();
        registry.made += 1;
        let (network, number) = (self.clone(), registry.made);
        let net = MemoryNet { network, address: address.to_owned(), number };
        let (endpoint, arrivals) = Endpoint::in_memory(Us { identity, facts }, net);
        let weak = Arc::downgrade(endpoint.inner());
        registry.endpoints.insert(address.to_owned(), (number, weak));
        (endpoint, arrivals)
    }

    /// From now on nothing passes between the two addresses, and neither side is told: links stay
    /// up and silent, dials get no answer.
    pub fn cut(&self, one: &str, other: &str) {
        self.lock().cable(one, other).ways.iter().for_each(|way| way.cut());
    }

    /// The same in one direction: what `from` sends does not arrive at `to`.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.lock().way(from, to).cut();
    }

    /// Everything passes again, in both directions. A link that one side gave up meanwhile ends on
    /// the other.
    pub fn heal(&self, one: &str, other: &str) {
        let mut registry = self.lock();
        let cable = registry.cable(one, other);
        cable.ways.iter().for_each(|way| way.heal());
        cable.connections.iter().for_each(MemoryConnection::heal);
    }

    /// What happens to packets from now on, on every way of the network.
    pub fn set_weather(&self, weather: &Weather) {
        let mut registry = self.lock();
        registry.weather = weather.clone();
        for way in registry.cables.values().flat_map(|cable| &cable.ways) {
            way.set_weather(weather.clone());
        }
    }

    /// The endpoint at `address` is gone, as its process would be: it sends nothing any more, no
    /// goodbye either, dials nobody and is not there when dialled. What is on its way from it still
    /// arrives; who is linked to it hears nothing.
    pub fn vanish(&self, address: &str) {
        let mut registry = self.lock();
        registry.endpoints.remove(address);
        for (ends, cable) in &registry.cables {
            if ends.iter().any(|end| end == address) {
                cable.connections.iter().for_each(|one| one.vanish_from(address));
            }
        }
    }

    /// How links were closed since this was asked last, in order; by whichever side was first.
    pub fn take_closings(&self) -> Vec<(CloseCode, String)> {
        let closings = Arc::clone(&self.lock().closings);
        closings.take()
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
        let (weather, seed) = (&self.weather, self.seed);
        let new = |[first, second]: &[String; 2]| Cable {
            ways: [(first, second), (second, first)]
                .map(|(from, to)| Arc::new(Way::new(weather.clone(), way_seed(seed, from, to)))),
            connections: Vec::new(),
        };
        self.cables.entry(ends).or_insert_with_key(new)
    }

    fn number_at(&self, address: &str) -> Option<u64> {
        self.endpoints.get(address).map(|(number, _)| *number)
    }

    fn at(&self, address: &str) -> Option<Arc<Inner>> {
        self.endpoints.get(address).and_then(|(_, endpoint)| endpoint.upgrade())
    }

    /// The way from one address to another.
    fn way(&mut self, from: &str, to: &str) -> Arc<Way> {
        let [forth, back] = &self.cable(from, to).ways;
        Arc::clone(if from <= to { forth } else { back })
    }
}

/// The chance of one way: each goes its own, whatever is sent on others.
fn way_seed(seed: u64, from: &str, to: &str) -> u64 {
    let bytes = from.bytes().chain([0]).chain(to.bytes());
    bytes.fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)))
}

/// One endpoint's access to the network.
pub(crate) struct MemoryNet {
    network: MemoryNetwork,
    address: String,
    /// Tells it from others at the same address, before it and after.
    number: u64,
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
            let connection = Connection::Memory(connection);
            let greeting = greet(connection.clone(), us.identity.peer().role(), peer, &us.facts);
            tokio::pin!(greeting);
            let unless_up = CloseUnlessUp::new(&connection);
            let up = greeting.await;
            let up = up.map_err(|fault| dial_error(address, fault, &Verdict::default()))?;
            unless_up.up();
            Ok(up)
        };
        let no_answer = || DialError::NoAnswer { address: address.to_owned(), waited: wait };
        timeout(wait, dialling).await.unwrap_or_else(|_| Err(no_answer()))
    }

    /// Closes every connection of this endpoint and takes it off the network.
    pub(crate) fn close(&self, code: CloseCode, text: &str) {
        let mut registry = self.network.lock();
        if registry.number_at(&self.address) == Some(self.number) {
            registry.endpoints.remove(&self.address);
        }
        for (ends, cable) in &mut registry.cables {
            if ends.contains(&self.address) {
                for connection in &cable.connections {
                    connection.close_from(&self.address, code, text);
                }
            }
        }
    }

    /// Never resolves once the endpoint has vanished: what it does nobody sees.
    async fn while_there(&self) {
        let number = self.network.lock().number_at(&self.address);
        if number != Some(self.number) {
            std::future::pending::<()>().await;
        }
    }

    async fn connect(
        &self,
        us: &Us,
        address: &str,
        expect: Expect,
    ) -> Result<(MemoryConnection, Peer), DialError> {
        let trust = |fault| DialError::Trust { address: address.to_owned(), fault };
        let (out, back) = {
            let mut registry = self.network.lock();
            (registry.way(&self.address, address), registry.way(address, &self.address))
        };
        self.while_there().await;
        out.pass().await;
        self.while_there().await;
        let target = self.network.lock().at(address);
        let Some(target) = target else {
            back.pass().await;
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
        let ways = [Arc::clone(&out), Arc::clone(&back)];
        let closings = Arc::clone(&self.network.lock().closings);
        let (here, there) = connect([&self.address, address], ways, &closings);
        {
            let mut registry = self.network.lock();
            let cable = registry.cable(&self.address, address);
            cable.connections.retain(|known| !known.is_over());
            cable.connections.push(here.clone());
        }
        tokio::spawn(admit(there, us.identity.peer().clone(), target));
        back.pass().await;
        self.while_there().await;
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
