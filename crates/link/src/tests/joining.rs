//! The join: whom each side believes, and what both are told.

use sortie_model::reason::ReachStep;
use sortie_wire::{ErrorCode, RemoteError, frame};

use super::trusting::raw_connect;
use super::*;
use crate::tls::{Verdict, joining_client};
use crate::{JoinError, JoinExchange, JoinPlea, JoinSecret, JoinToken, Joined, join};

const SECRET: JoinSecret = JoinSecret([9; 16]);

struct Applicant {
    name: NodeName,
    node_key: NodeKey,
    user_key: NodeKey,
}

impl Applicant {
    fn new(node: &str) -> Self {
        let key = || NodeKey::generate().expect("a key");
        Self { name: name(node), node_key: key(), user_key: key() }
    }

    async fn join(&self, address: &str, token: &JoinToken) -> Result<Joined, JoinError> {
        let plea = JoinPlea {
            name: &self.name,
            address: "new.example:7070",
            labels: &[("rack".to_owned(), "7".to_owned())],
            user: "jo",
            node_key: &self.node_key,
            user_key: &self.user_key,
        };
        join(address, token, &plea, SOON).await
    }
}

fn token(cluster: &Cluster) -> JoinToken {
    JoinToken { secret: SECRET, authority: cluster.authority.fingerprint() }
}

async fn exchange(member: &mut Member) -> JoinExchange {
    match soon("a join", member.arrivals.next()).await {
        Some(Arrival::Join(exchange)) => exchange,
        other => panic!("no join but {other:?}"),
    }
}

#[tokio::test]
async fn a_node_joins_and_its_certificates_work() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut authority = cluster.member("a");
    let address = authority.address.clone();
    let applicant = Applicant::new("new");
    let (node_id, user_id) = (applicant.node_key.node_id(), applicant.user_key.node_id());
    let invitation = token(&cluster);
    let joining = tokio::spawn(async move { applicant.join(&address, &invitation).await });
    let asked = exchange(&mut authority).await;
    assert_eq!(asked.request().secret, SECRET);
    assert_eq!(asked.request().name, name("new"));
    assert_eq!(asked.request().address, "new.example:7070");
    assert_eq!(asked.node_id(), node_id);
    soon("the grant", asked.grant(&cluster.authority, authority.id)).await.expect("granted");
    let joined = joining.await.expect("no panic").expect("joined");
    assert_eq!(joined.authority_node, authority.id);
    assert_eq!(*joined.node.peer(), Peer::Node { id: node_id, name: name("new") });
    assert_eq!(*joined.user.peer(), Peer::User { name: "jo".to_owned(), key: user_id });

    for identity in [joined.node, joined.user] {
        let peer = identity.peer().clone();
        let endpoint = Endpoint::client(identity, facts(1));
        let expect = Expect::Node(authority.id);
        let _link = endpoint.dial(&authority.address, expect, SOON).await.expect("a link");
        assert_eq!(*authority.arrival().await.0.peer(), peer);
    }
}

#[tokio::test]
async fn a_refused_node_is_told_why() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut authority = cluster.member("a");
    let (address, invitation) = (authority.address.clone(), token(&cluster));
    let joining =
        tokio::spawn(async move { Applicant::new("new").join(&address, &invitation).await });
    let asked = exchange(&mut authority).await;
    let error = RemoteError::new(ErrorCode::TokenUsed, "this token was used before");
    soon("the refusal", asked.refuse(error)).await;
    let error = joining.await.expect("no panic").expect_err("refused");
    let JoinError::Dial(error) = error else { panic!("{error:?}") };
    assert_eq!(error.step(), ReachStep::Authorise);
    assert!(error.to_string().contains("this token was used before"), "{error}");
}

#[tokio::test]
async fn an_exchange_that_is_dropped_ends_the_join() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut authority = cluster.member("a");
    let (address, invitation) = (authority.address.clone(), token(&cluster));
    let joining =
        tokio::spawn(async move { Applicant::new("new").join(&address, &invitation).await });
    drop(exchange(&mut authority).await);
    assert!(soon("the end", joining).await.expect("no panic").is_err());
}

#[tokio::test]
async fn the_secret_is_never_shown_to_another_ca() {
    let (ours, theirs) = (Cluster::new(Carrier::Quic), Cluster::new(Carrier::Quic));
    let mut fake = theirs.member("a");
    let joined = Applicant::new("new").join(&fake.address, &token(&ours)).await;
    let JoinError::Dial(error) = joined.expect_err("another CA") else { panic!("no dial error") };
    assert_eq!(error.step(), ReachStep::Authenticate);
    assert!(error.to_string().contains("another cluster"), "{error}");
    // No request came: the next arrival is a link.
    let member = theirs.member("b");
    let _link = member.dial(&fake).await.expect("a link");
    fake.arrival().await;
}

#[tokio::test]
async fn a_certificate_of_the_ca_that_is_no_nodes_takes_no_joins() {
    // A user's key cannot serve a join, although its chain has the right CA.
    let cluster = Cluster::new(Carrier::Quic);
    let user = cluster.user_identity("eve");
    let config = quinn::ServerConfig::with_crypto(crate::tls::server(&user).expect("a config"));
    let any = ([127, 0, 0, 1], 0).into();
    let fake = quinn::Endpoint::server(config, any).expect("a free port");
    let address = fake.local_addr().expect("bound").to_string();
    let accepting = tokio::spawn(async move {
        while let Some(incoming) = fake.accept().await {
            let _ = incoming.await;
        }
    });
    let joined = Applicant::new("new").join(&address, &token(&cluster)).await;
    let JoinError::Dial(error) = joined.expect_err("a user") else { panic!("no dial error") };
    assert_eq!(error.step(), ReachStep::Authenticate, "{error}");
    accepting.abort();
}

#[tokio::test]
async fn only_the_key_of_a_request_is_believed() {
    let cluster = Cluster::new(Carrier::Quic);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    // A request that wants to be a CA, another node and a user at once.
    let names = vec![format!("{}.node.sortie", "ab".repeat(16)), "user.sortie".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let request = params.serialize_request(&key).expect("a request");
    let public = crate::PublicKey::of_request(request.der()).expect("a key");
    let validity = crate::Validity::long_from(std::time::SystemTime::now());
    let leaf = cluster.authority.issue_node(&public, &name("a"), validity).expect("a certificate");
    let peer = Peer::of_certificate(&leaf.clone().into()).expect("a node");
    assert_eq!(peer, Peer::Node { id: public.node_id(), name: name("a") });
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).expect("a certificate");
    assert!(!leaf.is_ca());

    let mut broken = request.der().to_vec();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    assert!(crate::PublicKey::of_request(&broken).is_err(), "not signed by its key");
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&p256).expect("a request");
    assert!(crate::PublicKey::of_request(request.der()).is_err(), "another kind of key");
}

#[tokio::test]
async fn garbage_instead_of_a_join_harms_nobody() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut authority = cluster.member("a");
    let huge = {
        let mut prefix = u32::MAX.to_le_bytes().to_vec();
        prefix.extend([44, 1]);
        prefix
    };
    let mut wrong = Vec::new();
    frame::write_message(&piece(1), &mut wrong).expect("small");
    for bytes in [b"GET / HTTP/1.1\r\n".to_vec(), huge, wrong, vec![0, 0, 0, 0, 44, 1]] {
        let config = joining_client(cluster.authority.fingerprint(), &Verdict::default());
        let config = config.expect("a config");
        let connection = raw_connect(config, &authority.address).await.expect("a connection");
        let (mut send, _receive) = connection.open_bi().await.expect("a stream");
        send.write_all(&bytes).await.expect("sent");
        let _ = send.finish();
        let why = soon("the close", connection.closed()).await;
        assert!(matches!(why, quinn::ConnectionError::ApplicationClosed(_)), "{why}");
    }
    let member = cluster.member("b");
    let _link = member.dial(&authority).await.expect("a link");
    authority.arrival().await;
}
