//! Two nodes linked through memory, for tests of what is below the actors.

use sortie_link::memory::MemoryNetwork;
use sortie_link::{
    Arrival, Arrivals, CertificateAuthority, ControlReceiver, Endpoint, Expect, Link, LocalFacts,
    NodeKey,
};
use sortie_model::{Incarnation, limits};

/// Both ends of one link.
pub(crate) struct Ends {
    pub(crate) here: Link,
    pub(crate) here_control: ControlReceiver,
    pub(crate) there: Link,
    pub(crate) there_control: ControlReceiver,
    _kept: ([Endpoint; 2], [Arrivals; 2]),
}

pub(crate) async fn linked() -> Ends {
    linked_in(Incarnation(1)).await
}

/// The same with both nodes in that life.
pub(crate) async fn linked_in(life: Incarnation) -> Ends {
    let (network, authority) =
        (MemoryNetwork::new(), CertificateAuthority::create().expect("a CA"));
    let member = |name: &str| {
        let key = NodeKey::generate().expect("a key");
        let name = name.parse().expect("a name");
        let identity = authority.identify_node(&key, &name).expect("a certificate");
        let id = identity.peer().key();
        let facts = LocalFacts { incarnation: life, program: "test".to_owned(), address: None };
        (network.endpoint(name.as_str(), identity, facts), id)
    };
    let ((a, a_arrivals), _) = member("a");
    let ((b, mut b_arrivals), id) = member("b");
    let (here, here_control) =
        a.dial("b", Expect::Node(id), limits::HANDSHAKE_TIME).await.expect("a link");
    let Some(Arrival::Link(there, there_control)) = b_arrivals.next().await else {
        panic!("a link")
    };
    Ends { here, here_control, there, there_control, _kept: ([a, b], [a_arrivals, b_arrivals]) }
}
