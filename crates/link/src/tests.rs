//! Links over both transports, and what only QUIC has: certificates, handshakes, hostile peers.

mod hostile;
mod joining;
mod suite;
mod trusting;

use std::future::Future;
use std::time::Duration;

use sortie_model::{Incarnation, NodeId, NodeName};
use sortie_wire::host_proto::{InputPiece, InputRest};

use crate::memory::MemoryNetwork;
use crate::{
    Arrival, Arrivals, CertificateAuthority, ControlReceiver, DialError, Endpoint, Expect,
    Identity, Link, LocalFacts, NodeKey, Peer,
};

/// Within this everything on one machine happens, also on a busy one.
const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Quic,
    Memory,
}

/// Fails the test when `work` takes too long: no test hangs.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: nothing within {SOON:?}"),
    }
}

/// Waits for a condition that nothing announces.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            // tidy: waits because nothing announces the condition
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn facts(incarnation: u64) -> LocalFacts {
    LocalFacts {
        incarnation: Incarnation(incarnation),
        program: "0.1.0-test".to_owned(),
        address: Some("test.example:7070".to_owned()),
    }
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a node's name")
}

/// A cluster of one authority whose members share a network.
struct Cluster {
    carrier: Carrier,
    authority: CertificateAuthority,
    network: MemoryNetwork,
}

/// A member that listens.
struct Member {
    endpoint: Endpoint,
    arrivals: Arrivals,
    address: String,
    id: NodeId,
}

impl Cluster {
    fn new(carrier: Carrier) -> Self {
        let authority = CertificateAuthority::create().expect("a CA");
        Self { carrier, authority, network: MemoryNetwork::new() }
    }

    fn node_identity(&self, node: &str) -> Identity {
        let key = NodeKey::generate().expect("a key");
        self.authority.identify_node(&key, &name(node)).expect("a certificate")
    }

    fn user_identity(&self, user: &str) -> Identity {
        let key = NodeKey::generate().expect("a key");
        self.authority.identify_user(&key, user).expect("a certificate")
    }

    fn member(&self, node: &str) -> Member {
        self.member_with(node, self.node_identity(node))
    }

    fn member_with(&self, address: &str, identity: Identity) -> Member {
        let id = identity.peer().key();
        let (endpoint, arrivals) = match self.carrier {
            Carrier::Quic => {
                let any = ([127, 0, 0, 1], 0).into();
                Endpoint::bind(any, identity, facts(7)).expect("a free port")
            }
            Carrier::Memory => self.network.endpoint(address, identity, facts(7)),
        };
        let address = match self.carrier {
            Carrier::Quic => endpoint.local_addr().to_string(),
            Carrier::Memory => address.to_owned(),
        };
        Member { endpoint, arrivals, address, id }
    }

    fn client(&self, identity: Identity) -> Endpoint {
        match self.carrier {
            Carrier::Quic => Endpoint::client(identity, facts(1)),
            Carrier::Memory => self.network.endpoint("client", identity, facts(1)).0,
        }
    }
}

impl Member {
    async fn dial(&self, other: &Self) -> Result<(Link, ControlReceiver), DialError> {
        self.endpoint.dial(&other.address, Expect::Node(other.id), SOON).await
    }

    async fn arrival(&mut self) -> (Link, ControlReceiver) {
        match soon("an arrival", self.arrivals.next()).await {
            Some(Arrival::Link(link, control)) => (link, control),
            other => panic!("no link but {other:?}"),
        }
    }
}

/// Both ends of a link between two nodes.
struct Ends {
    here: Link,
    here_control: ControlReceiver,
    there: Link,
    there_control: ControlReceiver,
    _members: [Member; 2],
}

async fn linked(carrier: Carrier) -> Ends {
    let cluster = Cluster::new(carrier);
    let (a, mut b) = (cluster.member("a"), cluster.member("b"));
    let (here, here_control) = a.dial(&b).await.expect("a link");
    let (there, there_control) = b.arrival().await;
    Ends { here, here_control, there, there_control, _members: [a, b] }
}

/// A message that nodes send each other on unidirectional streams, with or without payload.
const fn piece(offset: u64) -> InputPiece {
    InputPiece { offset, rest: InputRest::More }
}
