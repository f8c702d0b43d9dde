//! Peers that do not keep to the protocol, and networks that do not keep to their word.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use sortie_model::limits;
use sortie_wire::frame::write_message;
use sortie_wire::link_proto::{Heartbeat, Hello, HelloRefused};
use sortie_wire::version::VersionRange;
use sortie_wire::{ErrorCode, Frame};
use tokio::net::UdpSocket;

use super::trusting::raw_connect;
use super::*;
use crate::endpoint::Us;
use crate::handshake::Room;
use crate::listen::{HandshakeBounds, QuicNet};
use crate::{CloseCode, CloseReason, tls};

fn raw_client(cluster: &Cluster) -> Arc<QuicClientConfig> {
    let identity = cluster.node_identity("raw");
    tls::client(&identity, &tls::Verdict::default()).expect("a config")
}

fn bounded_member(cluster: &Cluster, bounds: HandshakeBounds) -> Member {
    let identity = cluster.node_identity("b");
    let id = identity.peer().key();
    let us = Us { identity, facts: facts(7) };
    let any = ([127, 0, 0, 1], 0).into();
    let (endpoint, arrivals) =
        Endpoint::bind_on(QuicNet::bounded(bounds), any, us).expect("a free port");
    let address = endpoint.local_addr().to_string();
    Member { endpoint, arrivals, address, id }
}

#[tokio::test]
async fn handshakes_above_the_bound_prove_their_address_and_then_are_refused() {
    let cluster = Cluster::new(Carrier::Quic);
    let bounds = HandshakeBounds { retry_above: 2, most: 4, ..HandshakeBounds::default() };
    let mut server = bounded_member(&cluster, bounds);
    let relay = Relay::to(&server.address).await;
    // These greet the transport and then say nothing.
    let mut silent = Vec::new();
    for under_way in 0..4 {
        let connection = raw_connect(raw_client(&cluster), &relay.address).await;
        silent.push(connection.expect("within the bound"));
        let expected = if under_way < 2 { 0 } else { under_way - 1 };
        assert_eq!(relay.retries.load(Ordering::SeqCst), expected, "{under_way} were under way");
    }
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let dialled = client.dial(&server.address, Expect::AnyNode, SOON).await;
    let error = dialled.expect_err("one too many");
    let busy = matches!(error, DialError::Broken { reason: CloseReason::Busy, .. });
    assert!(busy && error.is_retryable(), "{error:?}");
    // A place is freed once one of them leaves.
    silent.pop().expect("four").close(0_u32.into(), b"");
    let link = soon("a free place", async {
        loop {
            match client.dial(&server.address, Expect::AnyNode, SOON).await {
                Ok(link) => break link,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let _link = link.await;
    server.arrival().await;
}

#[tokio::test]
async fn a_server_that_never_acknowledges_is_left_in_time() {
    let cluster = Cluster::new(Carrier::Quic);
    let config = tls::server(&cluster.node_identity("mute")).expect("a config");
    let any = ([127, 0, 0, 1], 0).into();
    let mute = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(config), any);
    let mute = mute.expect("a free port");
    let address = mute.local_addr().expect("bound").to_string();
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let accepting = tokio::spawn(async move {
        let incoming = mute.accept().await.expect("a dial");
        incoming.await.expect("a good handshake").closed().await
    });
    let short = Duration::from_millis(300);
    let dialled = client.dial(&address, Expect::AnyNode, short).await;
    assert!(matches!(dialled, Err(DialError::NoAnswer { .. })), "{dialled:?}");
    let why = soon("the close", accepting).await.expect("no panic");
    assert!(matches!(why, quinn::ConnectionError::ApplicationClosed(_)), "{why}");
}

#[tokio::test]
async fn a_node_has_room_for_so_many_links() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut server = cluster.member("b");
    let mut places = Vec::new();
    while let Room::Place(place) = server.endpoint.inner().room() {
        places.push(place);
    }
    assert_eq!(places.len(), limits::LINKS_PER_NODE);
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let dialled = client.dial(&server.address, Expect::AnyNode, SOON).await;
    let error = dialled.expect_err("no place");
    assert_eq!(error.step(), sortie_model::reason::ReachStep::Authorise);
    assert!(error.is_retryable() && error.to_string().contains("its limit"), "{error}");
    places.pop();
    let dialled = client.dial(&server.address, Expect::AnyNode, SOON).await;
    let (link, control) = dialled.expect("a place");
    let arrival = server.arrival().await;
    assert!(matches!(server.endpoint.inner().room(), Room::Full));
    // The link's own place is freed with it.
    drop((link, control, arrival));
    until("a freed place", || matches!(server.endpoint.inner().room(), Room::Place(_))).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed_in_time() {
    let cluster = Cluster::new(Carrier::Quic);
    let time = Duration::from_millis(300);
    let server = bounded_member(&cluster, HandshakeBounds { time, ..HandshakeBounds::default() });
    let silent = raw_connect(raw_client(&cluster), &server.address).await.expect("TLS succeeds");
    let why = soon("the close", silent.closed()).await;
    let quinn::ConnectionError::ApplicationClosed(close) = why else { panic!("{why}") };
    assert_eq!(close.error_code.into_inner(), u64::from(CloseCode::NO_HELLO.0));
}

#[tokio::test]
async fn before_its_hello_a_peer_has_one_stream_and_a_small_window() {
    let cluster = Cluster::new(Carrier::Quic);
    let server = cluster.member("b");
    let peer = raw_connect(raw_client(&cluster), &server.address).await.expect("TLS succeeds");
    let (mut first, _answers) = peer.open_bi().await.expect("the control stream");
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, peer.open_bi()).await.is_err());
    assert!(tokio::time::timeout(short, peer.open_uni()).await.is_err());
    // A hello that promises the most and never ends.
    let mut hello = (limits::HELLO_FRAME_BYTES as u32).to_le_bytes().to_vec();
    hello.extend([1, 0]);
    first.write_all(&hello).await.expect("sent");
    let more = vec![0; 2 * limits::STRANGER_WINDOW_BYTES as usize];
    let all = first.write_all(&more);
    assert!(soon("the close", all).await.is_err(), "more than a window was taken");
}

async fn raw_hello(
    server: &Member,
    cluster: &Cluster,
    bytes: &[u8],
) -> (quinn::Connection, Vec<u8>) {
    let peer = raw_connect(raw_client(cluster), &server.address).await.expect("TLS succeeds");
    let (mut send, mut answers) = peer.open_bi().await.expect("the control stream");
    send.write_all(bytes).await.expect("sent");
    let answer = soon("an answer", answers.read_to_end(4096)).await.unwrap_or_default();
    (peer, answer)
}

#[tokio::test]
async fn a_hello_of_another_version_is_refused_in_words() {
    let cluster = Cluster::new(Carrier::Quic);
    let server = cluster.member("b");
    let hello = Hello {
        versions: VersionRange { min: 900, max: 901 },
        incarnation: Incarnation(1),
        program: "from the future".to_owned(),
        clock: 0,
        address: None,
    };
    let mut bytes = Vec::new();
    write_message(&hello, &mut bytes).expect("small");
    let (peer, answer) = raw_hello(&server, &cluster, &bytes).await;
    let frame = Frame { kind: 3, body: answer[6..].to_vec().into() };
    let refused: HelloRefused = frame.open().expect("a refusal");
    assert_eq!(refused.error.code, ErrorCode::Version);
    assert!(refused.error.message.contains("900 to 901"), "{}", refused.error);
    soon("the close", peer.closed()).await;
}

#[tokio::test]
async fn anything_but_a_hello_closes_the_connection() {
    let cluster = Cluster::new(Carrier::Quic);
    let server = cluster.member("b");
    let mut heartbeat = Vec::new();
    write_message(&Heartbeat { number: 1, heard: 0 }, &mut heartbeat).expect("small");
    let too_long = [&[0xff, 0xff, 0, 0, 1, 0][..], &[0; 64]].concat();
    for bytes in [heartbeat, too_long, vec![3, 0, 0, 0, 1, 0, 1, 2, 3]] {
        let (peer, answer) = raw_hello(&server, &cluster, &bytes).await;
        assert!(answer.is_empty());
        let why = soon("the close", peer.closed()).await;
        let quinn::ConnectionError::ApplicationClosed(close) = why else { panic!("{why}") };
        assert_eq!(close.error_code.into_inner(), u64::from(CloseCode::GARBAGE.0));
    }
}

#[tokio::test]
async fn garbage_on_the_control_stream_closes_the_link() {
    for carrier in [Carrier::Quic, Carrier::Memory] {
        for garbage in [&[0xff; 64][..], &[1, 0, 0, 0, 0x0f, 0x27, 0], &[1, 0, 0, 0, 1, 0, 0]] {
            let mut ends = linked(carrier).await;
            ends.here.control_queue().push_raw(garbage);
            assert_eq!(soon("the end", ends.there_control.next()).await, None);
            let why = soon("the close", ends.here.closed()).await;
            let CloseReason::There { code, .. } = why else { panic!("{why}") };
            assert!([CloseCode::GARBAGE, CloseCode::FORBIDDEN].contains(&code), "{code}");
        }
    }
}

#[tokio::test]
async fn a_cut_cable_is_silent_and_heals() {
    let cluster = Cluster::new(Carrier::Memory);
    let (a, mut b) = (cluster.member("a"), cluster.member("b"));
    let (here, _here_control) = a.dial(&b).await.expect("a link");
    let (there, mut there_control) = b.arrival().await;
    cluster.network.cut("a", "b");
    here.send(&Heartbeat { number: 1, heard: 0 }).expect("room in the queue");
    let short = Duration::from_millis(50);
    assert!(tokio::time::timeout(short, there_control.next()).await.is_err());
    let dialled = b.endpoint.dial("a", Expect::Node(a.id), short).await;
    assert!(matches!(dialled, Err(DialError::NoAnswer { .. })));
    cluster.network.heal("a", "b");
    assert!(soon("a heartbeat", there_control.next()).await.is_some());

    // What one side gives up during a cut, the other learns of afterwards.
    cluster.network.cut("a", "b");
    here.close(CloseCode::SILENT, "");
    assert!(!there.is_closed());
    cluster.network.heal("b", "a");
    assert_eq!(soon("the close", there.closed()).await, CloseReason::Restarted);
}

/// Passes datagrams on and counts those that ask a client to prove its address.
struct Relay {
    address: String,
    retries: Arc<AtomicUsize>,
}

impl Relay {
    async fn to(target: &str) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a free port"));
        let address = front.local_addr().expect("bound").to_string();
        let retries = Arc::new(AtomicUsize::new(0));
        let target: SocketAddr = target.parse().expect("an address");
        let counted = Arc::clone(&retries);
        tokio::spawn(async move {
            let mut backs = HashMap::new();
            let mut buffer = vec![0; 65_536];
            loop {
                let (length, client) = front.recv_from(&mut buffer).await.expect("a socket");
                if let Entry::Vacant(place) = backs.entry(client) {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
                    back.connect(target).await.expect("a target");
                    let pair = (Arc::clone(&back), Arc::clone(&front));
                    tokio::spawn(answers(pair, client, Arc::clone(&counted)));
                    place.insert(back);
                }
                let _ = backs[&client].send(&buffer[..length]).await;
            }
        });
        Self { address, retries }
    }
}

async fn answers(
    (back, front): (Arc<UdpSocket>, Arc<UdpSocket>),
    client: SocketAddr,
    retries: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = back.recv(&mut buffer).await {
        // A long header of QUIC version 1 with the type `Retry`.
        if buffer[0] & 0xf0 == 0xf0 {
            retries.fetch_add(1, Ordering::SeqCst);
        }
        let _ = front.send_to(&buffer[..length], client).await;
    }
}
