//! A peer with a good certificate that speaks garbage: no crash, no hang, no growth.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "all of this file is a test")]

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sortie_link::{
    Arrival, Arrivals, CertificateAuthority, ControlReceiver, Endpoint, Expect, FrameReceiver,
    Identity, Link, LocalFacts, NodeKey,
};
use sortie_model::{ChildIncarnation, Incarnation, JobInstance, Ordinal, SessionInstance};
use sortie_wire::frame::{open_head, write_head, write_message};
use sortie_wire::host_proto::{InputPiece, InputRest, InputStream, StartChildren};
use sortie_wire::link_proto::{Heartbeat, Hello, HelloAck, Member, MemberUpdate, Roster};
use sortie_wire::message_proto::{
    AnswerKind, ChildLife, FromChild, InboxWord, MessageFlow, MessageKind, MessageStream, Posted,
    ToChild,
};
use sortie_wire::version::{ALPN_LINK, SPOKEN};
use sortie_wire::{DecodeError, Frame, Message, TooLarge};

const FRAMES: usize = 10_000;
/// Allocators keep some of what they had; a leak of one small frame each would show.
const GROWTH_BYTES: u64 = 8 << 20;
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_mutated_frames_do_no_harm() {
    let authority = CertificateAuthority::create().expect("a CA");
    let (endpoint, arrivals) =
        Endpoint::bind(([127, 0, 0, 1], 0).into(), identity(&authority, "target"), facts())
            .expect("a free port");
    let serving = tokio::spawn(serve(arrivals));
    let mut attacker = Attacker::new(&identity(&authority, "mallory"), &endpoint);

    for number in 0..FRAMES / 5 {
        attacker.attack(number).await;
    }
    let before = resident_bytes();
    for number in FRAMES / 5..FRAMES {
        attacker.attack(number).await;
    }
    let after = resident_bytes();
    let grown = after.saturating_sub(before);
    assert!(grown < GROWTH_BYTES, "grew by {grown} bytes from {before}");
    assert!(attacker.connections > 100, "nothing was refused");
    assert!(attacker.connections < FRAMES, "everything was refused");

    // A good peer is served as before.
    let good = Endpoint::client(identity(&authority, "good"), facts());
    let address = endpoint.local_addr().to_string();
    let (link, _control) = good.dial(&address, Expect::AnyNode, SOON).await.expect("still there");
    link.send(&Heartbeat { number: 1, heard: 0 }).expect("room in the queue");
    assert!(!serving.is_finished());
    drop(link);
    endpoint.close("").await;
    drop(endpoint);
    serving.await.expect("no panic in a server");
}

fn life() -> ChildLife {
    let (job, incarnation) = (JobInstance(Default::default()), ChildIncarnation(1));
    ChildLife { job, ordinal: Ordinal(3), incarnation }
}

fn identity(authority: &CertificateAuthority, name: &str) -> Identity {
    let key = NodeKey::generate().expect("a key");
    authority.identify_node(&key, &name.parse().expect("a name")).expect("a certificate")
}

fn facts() -> LocalFacts {
    LocalFacts { incarnation: Incarnation(1), program: "test".to_owned(), address: None }
}

/// Takes whatever comes and decodes it, as a node does.
async fn serve(mut arrivals: Arrivals) {
    let mut links = tokio::task::JoinSet::new();
    while let Some(arrival) = arrivals.next().await {
        let Arrival::Link(link, control) = arrival else { continue };
        links.spawn(serve_link(link, control));
        while let Some(ended) = links.try_join_next() {
            ended.expect("no panic in a link");
        }
    }
    links.abort_all();
}

async fn serve_link(link: Link, mut control: ControlReceiver) {
    let read_control = async {
        while let Some(frame) = control.next().await {
            if let Err(error) = opened(frame) {
                link.close(sortie_link::CloseCode::GARBAGE, &error.to_string());
            }
        }
    };
    let read_streams = async {
        while let Ok(stream) = link.accept_uni().await {
            read_stream(stream, &link).await;
        }
    };
    let read_pairs = async {
        while let Ok((_send, stream)) = link.accept_bi().await {
            read_stream(stream, &link).await;
        }
    };
    tokio::join!(read_control, read_streams, read_pairs);
}

async fn read_stream(mut stream: FrameReceiver, link: &Link) {
    while let Ok(Some(frame)) = stream.next().await {
        if let Err(error) = opened(frame) {
            link.close(sortie_link::CloseCode::GARBAGE, &error.to_string());
        }
    }
}

fn opened(frame: Frame) -> Result<(), DecodeError> {
    match frame.kind {
        4 => frame.open::<Heartbeat>().map(drop),
        5 => frame.open::<Roster>().map(drop),
        6 => frame.open::<MemberUpdate>().map(drop),
        100 => frame.open::<StartChildren>().map(drop),
        122 => frame.open::<InputStream>().map(drop),
        123 => open_head::<InputPiece>(frame).map(drop),
        124 => frame.open::<MessageStream>().map(drop),
        190 => open_head::<ToChild>(frame).map(drop),
        191 => open_head::<FromChild>(frame).map(drop),
        _ => Ok(()),
    }
}

/// A client with a certificate that keeps to nothing else.
struct Attacker {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
    target: std::net::SocketAddr,
    chance: u64,
    up: Option<Up>,
    connections: usize,
}

struct Up {
    connection: quinn::Connection,
    control: quinn::SendStream,
    _answers: quinn::RecvStream,
}

impl Attacker {
    fn new(identity: &Identity, target: &Endpoint) -> Self {
        let pem = identity.to_pem();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(identity.authority_der().to_vec().into()).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("an identity");
        tls.alpn_protocols = vec![ALPN_LINK.to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("a config");
        Self {
            endpoint: quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a free port"),
            config: quinn::ClientConfig::new(Arc::new(tls)),
            target: target.local_addr(),
            chance: 1,
            up: None,
            connections: 0,
        }
    }

    /// One mutated frame, somewhere.
    async fn attack(&mut self, number: usize) {
        let place = self.below(8);
        let frame = self.mutated();
        if place == 0 && number.is_multiple_of(16) {
            // Instead of a hello.
            let connection = self.connect().await;
            if let Ok((mut send, _receive)) = connection.open_bi().await {
                let _ = send.write_all(&frame).await;
                let _ = send.finish();
                connection.closed().await;
            }
            return;
        }
        if self.up.as_ref().is_none_or(|up| up.connection.close_reason().is_some()) {
            self.up = Some(self.greet().await);
        }
        let Some(up) = &mut self.up else { return };
        // Every error says that the target has closed the connection, which is its right.
        match place {
            0..3 => drop(up.control.write_all(&frame).await),
            3..6 => {
                if let Ok(mut send) = up.connection.open_uni().await {
                    let _ = send.write_all(&frame).await;
                    if place == 3 {
                        let _ = send.reset(7_u32.into());
                    }
                }
            }
            _ => {
                if let Ok((mut send, mut receive)) = up.connection.open_bi().await {
                    let _ = send.write_all(&frame).await;
                    let _ = receive.stop(7_u32.into());
                }
            }
        }
    }

    async fn connect(&mut self) -> quinn::Connection {
        self.connections += 1;
        let connecting =
            self.endpoint.connect_with(self.config.clone(), self.target, "node.sortie");
        connecting.expect("a config").await.expect("the target still answers")
    }

    async fn greet(&mut self) -> Up {
        let connection = self.connect().await;
        let (mut control, mut answers) = connection.open_bi().await.expect("a stream");
        let hello = Hello {
            versions: SPOKEN,
            incarnation: Incarnation(1),
            program: String::new(),
            clock: 0,
            address: None,
        };
        let mut bytes = Vec::new();
        write_message(&hello, &mut bytes).expect("small");
        control.write_all(&bytes).await.expect("sent");
        let mut prefix = [0; 6];
        answers.read_exact(&mut prefix).await.expect("an acknowledgement");
        let (kind, length) = sortie_wire::frame::read_prefix(prefix, 4096).expect("a frame");
        let mut body = vec![0; length];
        answers.read_exact(&mut body).await.expect("an acknowledgement");
        let frame = Frame { kind, body: body.into() };
        frame.open::<HelloAck>().expect("an acknowledgement");
        Up { connection, control, _answers: answers }
    }

    fn mutated(&mut self) -> Vec<u8> {
        let mut bytes = self.good();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.below(256) as u8),
                2 => bytes.extend_from_within(at..),
                3 => bytes.splice(..bytes.len().min(4), [0xff; 4]).for_each(drop),
                // Bodies more often than prefixes, so that decoders are reached.
                _ if bytes.len() > 6 => {
                    let at = 6 + self.below(bytes.len() - 6);
                    bytes[at] ^= 1 << self.below(8);
                }
                _ => {}
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        bytes
    }

    fn good(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let text = "x".repeat(self.below(200));
        let written = match self.below(8) {
            0 => write_message(&Heartbeat { number: 1 << self.below(60), heard: 0 }, &mut bytes),
            1 => {
                let labels = vec![("rack".to_owned(), text.clone()); self.below(8)];
                let update = MemberUpdate { address: text, labels, roster_version: 3 };
                write_message(&update, &mut bytes)
            }
            2 => {
                let member = Member {
                    node: sortie_model::NodeId([3; 16]),
                    name: "a".parse().expect("a name"),
                    address: text,
                    labels: vec![],
                };
                let members = vec![member; self.below(20)];
                let authority = sortie_model::NodeId([3; 16]);
                write_message(&Roster { version: 1, authority, members }, &mut bytes)
            }
            3 => {
                let what = match self.below(3) {
                    0 => Posted::Closed,
                    1 => Posted::Answered { number: 1 << self.below(60) },
                    _ => Posted::Message { number: 1 << self.below(60), kind: MessageKind::Call },
                };
                self.with_payload(&ToChild { child: life(), what }, &mut bytes)
            }
            4 => {
                let number = 1 << self.below(60);
                let what = match self.below(3) {
                    0 => InboxWord::Open { accepted: number, taken: 0 },
                    1 => InboxWord::Closed { accepted: number },
                    _ => InboxWord::Answer { number, how: AnswerKind::Value },
                };
                self.with_payload(&FromChild { child: life(), what }, &mut bytes)
            }
            5 => {
                let session = SessionInstance(life().job.0);
                write_message(&MessageStream { session, flow: MessageFlow::ToChildren }, &mut bytes)
            }
            _ => {
                let head = InputPiece { offset: 1 << self.below(60), rest: InputRest::More };
                self.with_payload(&head, &mut bytes)
            }
        };
        written.expect("small");
        bytes
    }

    fn with_payload<M: Message>(&mut self, head: &M, to: &mut Vec<u8>) -> Result<(), TooLarge> {
        let payload = self.below(5_000);
        let written = write_head(head, payload, to);
        to.resize(to.len() + payload, 7);
        written
    }

    /// A number from 0 to below `bound`, or 0; the same in every run.
    fn below(&mut self, bound: usize) -> usize {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.chance >> 33) as usize % bound.max(1)
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number of pages") * 4096
}
