use sortie_link::memory::MemoryNetwork;
use sortie_link::{
    Arrival, Arrivals, CertificateAuthority, ControlReceiver, Endpoint, Expect, LocalFacts, NodeKey,
};
use sortie_model::{Ordinal, Seq, limits};
use uuid::Uuid;

use super::*;

struct Ends {
    here: Link,
    there: ControlReceiver,
    _kept: (ControlReceiver, Link, [Endpoint; 2], [Arrivals; 2]),
}

async fn linked() -> Ends {
    let (network, authority) =
        (MemoryNetwork::new(), CertificateAuthority::create().expect("a CA"));
    let member = |name: &str| {
        let key = NodeKey::generate().expect("a key");
        let name = name.parse().expect("a name");
        let identity = authority.identify_node(&key, &name).expect("a certificate");
        let id = identity.peer().key();
        let facts =
            LocalFacts { incarnation: Incarnation(1), program: "test".to_owned(), address: None };
        (network.endpoint(name.as_str(), identity, facts), id)
    };
    let ((a, a_arrivals), _) = member("a");
    let ((b, mut b_arrivals), id) = member("b");
    let (here, control) =
        a.dial("b", Expect::Node(id), limits::HANDSHAKE_TIME).await.expect("a link");
    let Some(Arrival::Link(there_link, there)) = b_arrivals.next().await else { panic!("a link") };
    Ends { here, there, _kept: (control, there_link, [a, b], [a_arrivals, b_arrivals]) }
}

const JOB: JobInstance = JobInstance(Uuid::from_u128(7));

fn position(ordinal: u32, next: u64) -> ChildPosition {
    ChildPosition { job: JOB, ordinal: Ordinal(ordinal), next: Seq(next), credit: 1 }
}

fn attachment() -> Arc<Attachment> {
    Attachment::new(SessionInstance(Uuid::from_u128(1)), NodeId([2; 16]))
}

#[tokio::test]
async fn a_child_whose_end_is_acknowledged_leaves_no_position() {
    let mut ends = linked().await;
    let attachment = attachment();
    attachment.attach(&ends.here);
    for ordinal in 0..100 {
        attachment.stored_child(&ends.here, position(ordinal, 1), Ended::No);
        attachment.stored_child(&ends.here, position(ordinal, 3), Ended::Yes);
    }
    attachment.stored_child(&ends.here, position(100, 5), Ended::No);
    let mut ended = HashSet::new();
    while ended.len() < 100 {
        let frame = ends.there.next().await.expect("acknowledgements");
        let Acknowledge { children, .. } = frame.open().expect("an acknowledgement");
        ended.extend(children.iter().filter(|at| at.next == Seq(3)).map(|at| at.ordinal));
    }
    let state = attachment.state();
    assert_eq!(state.positions.values().copied().collect::<Vec<_>>(), [position(100, 5)]);
    assert!(state.fresh.is_empty());
}

#[tokio::test]
async fn a_resume_that_cannot_be_sent_ends_the_connection() {
    let ends = linked().await;
    let attachment = attachment();
    let jobs = limits::FRAME_BYTES as u128 / 16;
    attachment.state().told = (0..=jobs).map(|job| JobInstance(Uuid::from_u128(job))).collect();
    attachment.attach(&ends.here);
    assert!(ends.here.is_closed());
}
