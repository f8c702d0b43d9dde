//! Who is let in, who is not, and what each side is told.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::QuicClientConfig;
use sortie_model::reason::ReachStep;
use sortie_wire::link_proto::Heartbeat;
use sortie_wire::permit::Role;

use super::*;
use crate::endpoint::Us;
use crate::listen::QuicNet;
use crate::transport::quic::settings;
use crate::{BindError, CloseCode, CloseReason, TrustFault, Validity, tls};

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Cluster {
    /// A certificate of this cluster, from and until so many days from now.
    fn dated(&self, node: &str, days: (i32, i32)) -> Identity {
        let at = |days: i32| {
            let span = DAY * days.unsigned_abs();
            let now = SystemTime::now();
            if days < 0 { now - span } else { now + span }
        };
        let key = NodeKey::generate().expect("a key");
        let public = key.public_key().expect("a key");
        let validity = Validity { from: at(days.0), until: at(days.1) };
        let leaf = self.authority.issue_node(&public, &name(node), validity);
        let authority = self.authority.certificate_der().to_vec();
        Identity::new(leaf.expect("a certificate"), authority, &key).expect("an identity")
    }
}

async fn dial(client: &Identity, server: &Member) -> Result<(Link, ControlReceiver), DialError> {
    let endpoint = Endpoint::client(client.clone(), facts(1));
    let dialled = endpoint.dial(&server.address, Expect::AnyNode, SOON).await;
    // Dropping the endpoint does not harm the link.
    drop(endpoint);
    dialled
}

async fn refused_with(client: &Identity, server: &mut Member, expected: &str) -> DialError {
    let error = dial(client, server).await.expect_err("no trust");
    assert_eq!(error.step(), ReachStep::Authenticate, "{error:?}");
    assert!(error.to_string().contains(expected), "{error}");
    assert!(error.to_string().contains(&server.address), "{error}");
    // Nothing arrived: the next arrival is the next good dial's.
    error
}

async fn nothing_came(cluster: &Cluster, server: &mut Member) {
    let (link, _control) = dial(&cluster.node_identity("good"), server).await.expect("a link");
    let (serving, _serving_control) = server.arrival().await;
    assert!(matches!(serving.peer(), Peer::Node { name, .. } if name.as_str() == "good"));
    drop(link);
}

#[tokio::test]
async fn a_node_of_another_ca_is_not_trusted() {
    let (ours, theirs) = (Cluster::new(Carrier::Quic), Cluster::new(Carrier::Quic));
    let mut server = theirs.member("b");
    let error = refused_with(&ours.node_identity("a"), &mut server, "another cluster").await;
    assert!(matches!(error, DialError::Trust { fault: TrustFault::OtherAuthority, .. }));
    nothing_came(&theirs, &mut server).await;
}

#[tokio::test]
async fn a_client_of_another_ca_never_thinks_that_its_link_is_up() {
    let (ours, theirs) = (Cluster::new(Carrier::Quic), Cluster::new(Carrier::Quic));
    let mut server = ours.member("b");
    // It trusts our CA, so that its own side of the handshake succeeds.
    let key = NodeKey::generate().expect("a key");
    let public = key.public_key().expect("a key");
    let long = Validity::long_from(SystemTime::now());
    let leaf = theirs.authority.issue_node(&public, &name("a"), long).expect("a certificate");
    let authority = ours.authority.certificate_der().to_vec();
    let stranger = Identity::new(leaf, authority, &key).expect("an identity");
    let error = refused_with(&stranger, &mut server, "does not accept our certificate").await;
    assert!(matches!(error, DialError::Trust { fault: TrustFault::WeAreStrangers, .. }));
    nothing_came(&ours, &mut server).await;
}

#[tokio::test]
async fn a_certificate_beyond_its_dates_says_how_far() {
    let cluster = Cluster::new(Carrier::Quic);
    let good = cluster.node_identity("a");

    let mut server = cluster.member_with("early", cluster.dated("early", (2, 9)));
    let error = refused_with(&good, &mut server, "not yet valid").await;
    assert!(error.to_string().contains("48 h") || error.to_string().contains("47 h"), "{error}");
    assert!(error.is_retryable());

    let mut server = cluster.member_with("late", cluster.dated("late", (-400, -20)));
    let error = refused_with(&good, &mut server, "expired").await;
    assert!(error.to_string().contains("20 days"), "{error}");

    let mut server = cluster.member("b");
    for days in [(2, 9), (-400, -20)] {
        let dated = cluster.dated("a", days);
        let error = refused_with(&dated, &mut server, "dates of our certificate").await;
        assert!(matches!(error, DialError::Trust { fault: TrustFault::OurDates, .. }));
    }
    nothing_came(&cluster, &mut server).await;
}

#[tokio::test]
async fn a_fresh_certificate_holds_for_a_clock_that_is_a_little_slow() {
    let validity = Validity::long_from(SystemTime::now());
    assert!(validity.from <= SystemTime::now() - Duration::from_secs(5 * 60));
    assert!(validity.until >= SystemTime::now() + 9 * 365 * DAY);
}

#[tokio::test]
async fn a_user_cannot_pass_for_a_node() {
    let cluster = Cluster::new(Carrier::Quic);
    let user = cluster.user_identity("eve");
    let any = ([127, 0, 0, 1], 0).into();
    let bound = Endpoint::bind(any, user.clone(), facts(1));
    assert!(matches!(bound, Err(BindError::NotANode)));

    // Also not with a server of its own making.
    let config = quinn::ServerConfig::with_crypto(tls::server(&user).expect("a config"));
    let fake = quinn::Endpoint::server(config, any).expect("a free port");
    let address = fake.local_addr().expect("bound").to_string();
    let accepting = tokio::spawn(async move {
        while let Some(incoming) = fake.accept().await {
            let _ = incoming.await;
        }
    });
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let dialled = client.dial(&address, Expect::AnyNode, SOON).await;
    let error = dialled.expect_err("a user is no node");
    assert_eq!(error.step(), ReachStep::Authenticate, "{error}");
    accepting.abort();
}

#[tokio::test]
async fn a_peer_without_certificate_gets_no_link() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut server = cluster.member("b");
    let nameless = nameless_link_client(&cluster);
    let connection = raw_connect(nameless, &server.address).await.expect("TLS itself succeeds");
    let why = soon("the close", connection.closed()).await;
    let quinn::ConnectionError::ApplicationClosed(close) = why else { panic!("{why}") };
    assert_eq!(close.error_code.into_inner(), u64::from(CloseCode::NO_CERTIFICATE.0));
    nothing_came(&cluster, &mut server).await;
}

/// Speaks the link protocol and shows no certificate.
fn nameless_link_client(cluster: &Cluster) -> Arc<QuicClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = cluster.authority.certificate_der().to_vec();
    roots.add(authority.into()).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![sortie_wire::version::ALPN_LINK.to_vec()];
    Arc::new(QuicClientConfig::try_from(config).expect("a config"))
}

/// A connection of a peer that does not keep to our handshake.
pub(super) async fn raw_connect(
    config: Arc<QuicClientConfig>,
    address: &str,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a free port");
    let mut config = quinn::ClientConfig::new(config);
    config.transport_config(settings::known_peer(Role::Node));
    let target = address.parse().expect("an address");
    let connecting = endpoint.connect_with(config, target, crate::trust::ANY_NODE);
    connecting.expect("a good config").await
}

#[tokio::test]
async fn nothing_of_an_earlier_handshake_is_used_again() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut server = cluster.member("b");
    let (_first, _control) = dial(&cluster.node_identity("a"), &server).await.expect("a link");
    let (_serving, _serving_control) = server.arrival().await;

    // The server shows its new certificate to the same client at once, and asks for the client's.
    let renamed = cluster.node_identity("renamed");
    let id = renamed.peer().key();
    server.endpoint.replace_identity(renamed).expect("a good identity");
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let dialled = client.dial(&server.address, Expect::Node(id), SOON).await;
    let (second, _control) = dialled.expect("the new identity");
    assert_eq!(*second.peer(), Peer::Node { id, name: name("renamed") });
    let (serving, _serving_control) = server.arrival().await;
    assert!(matches!(serving.peer(), Peer::Node { name, .. } if name.as_str() == "a"));

    client.replace_identity(cluster.node_identity("a2")).expect("a good identity");
    let dialled = client.dial(&server.address, Expect::Node(id), SOON).await;
    let (_third, _control) = dialled.expect("a link");
    let (serving, _serving_control) = server.arrival().await;
    assert!(matches!(serving.peer(), Peer::Node { name, .. } if name.as_str() == "a2"));
}

#[tokio::test]
async fn a_new_ca_replaces_the_old_one_and_leaves_links_alone() {
    let (old, new) = (Cluster::new(Carrier::Quic), Cluster::new(Carrier::Quic));
    let mut server = old.member("b");
    let (link, _control) = dial(&old.node_identity("a"), &server).await.expect("a link");
    let (_serving, mut serving_control) = server.arrival().await;
    let identity = new.node_identity("b");
    server.id = identity.peer().key();
    server.endpoint.replace_identity(identity).expect("a good identity");

    link.send(&Heartbeat { number: 1, heard: 0 }).expect("room in the queue");
    assert!(soon("a heartbeat", serving_control.next()).await.is_some());
    refused_with(&old.node_identity("a"), &mut server, "another cluster").await;
    nothing_came(&new, &mut server).await;
}

#[tokio::test]
async fn identities_read_back_from_their_files() {
    let cluster = Cluster::new(Carrier::Quic);
    let node = cluster.node_identity("a-node.example");
    let text = node.to_pem();
    let again = Identity::from_pem(&text).expect("what was written");
    assert_eq!(again.peer(), node.peer());
    assert_eq!(again.fingerprint(), cluster.authority.fingerprint());
    assert_eq!(NodeKey::from_pem(&text).expect("the key").node_id(), node.peer().key());
    assert!(!format!("{node:?}").contains("PRIVATE"));

    let user = cluster.user_identity("Jörg \"the owner\"");
    let again = Identity::from_pem(&user.to_pem()).expect("what was written");
    assert_eq!(again.peer(), user.peer());

    let authority = cluster.authority.to_pem();
    let authority = CertificateAuthority::from_pem(&authority).expect("what was written");
    let key = NodeKey::generate().expect("a key");
    let issued = authority.identify_node(&key, &name("c")).expect("a certificate");
    let server = cluster.member("b");
    assert!(dial(&issued, &server).await.is_ok());

    for bad in
        ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &authority.to_pem()]
    {
        assert!(Identity::from_pem(bad).is_err(), "{bad}");
    }
    let other = NodeKey::generate().expect("a key");
    let leaf = cluster.authority.issue_node(
        &other.public_key().expect("a key"),
        &name("x"),
        Validity::long_from(SystemTime::now()),
    );
    let ca = cluster.authority.certificate_der().to_vec();
    assert!(Identity::new(leaf.expect("a certificate"), ca, &key).is_err());
    for bad in ["", &"u".repeat(65), "line\nbreak"] {
        assert!(cluster.authority.identify_user(&key, bad).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_dial_says_which_step_failed() {
    let cluster = Cluster::new(Carrier::Quic);
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let fails = async |address: &str, wait, step, expected: &str| {
        let dialled = client.dial(address, Expect::AnyNode, wait).await;
        let error = dialled.expect_err("nothing to reach");
        assert_eq!(error.step(), step, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    for bad in ["", "host", ":7", "host:", "host:port", "host:70000"] {
        fails(bad, SOON, ReachStep::Resolve, "`host:port`").await;
    }
    let unknown = "no-such-host.invalid:7";
    fails(unknown, SOON, ReachStep::Resolve, "cannot resolve `no-such-host.invalid:7`").await;

    // A port that is bound by nobody is refused by the system, which is quick.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    fails(&address, SOON, ReachStep::Connect, "nothing listens at UDP").await;
    let by_name = address.replace("127.0.0.1", "localhost");
    fails(&by_name, SOON, ReachStep::Connect, "nothing listens at UDP").await;

    // A socket that nobody reads is as silent as a firewall, which no machine has towards itself.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound").to_string();
    let short = Duration::from_millis(200);
    fails(&address, short, ReachStep::Connect, "does the node there hang").await;
    let elsewhere = DialError::NoAnswer { address: "10.0.0.1:7".to_owned(), waited: short };
    assert!(elsewhere.to_string().contains("firewall"), "{elsewhere}");
}

#[tokio::test]
async fn a_name_is_dialled_at_each_of_its_addresses() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut server = cluster.member("b");
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let by_name = server.address.replace("127.0.0.1", "localhost");
    let (_link, _control) =
        client.dial(&by_name, Expect::Node(server.id), SOON).await.expect("a link");
    let (serving, _serving_control) = server.arrival().await;
    assert!(serving.facts().seen_at.starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn a_second_address_serves_the_same_node() {
    let cluster = Cluster::new(Carrier::Quic);
    let mut server = cluster.member("b");
    let second = server.endpoint.listen_also(([0, 0, 0, 0], 0).into()).expect("a free port");
    assert_ne!(second.port(), server.endpoint.local_addr().port());
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let address = format!("127.0.0.1:{}", second.port());
    let dialled = client.dial(&address, Expect::Node(server.id), SOON).await;
    assert!(dialled.is_ok());
    server.arrival().await;
    assert!(client.listen_also(([127, 0, 0, 1], 0).into()).is_err());
}

#[tokio::test]
async fn a_restarted_node_is_noticed_before_the_idle_time() {
    let cluster = Cluster::new(Carrier::Quic);
    let identity = cluster.node_identity("b");
    let us = Us { identity: identity.clone(), facts: facts(7) };
    // The first life has a runtime of its own, which ends without a word, as kill -9 does.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let any = ([127, 0, 0, 1], 0).into();
    let bind = async move { Endpoint::bind_on(QuicNet::default(), any, us) };
    let bound = runtime.spawn(bind).await.expect("no panic");
    let (endpoint, mut arrivals) = bound.expect("a free port");
    let address = endpoint.local_addr();
    let client = Endpoint::client(cluster.node_identity("a"), facts(1));
    let dialled = client.dial(&address.to_string(), Expect::AnyNode, SOON).await;
    let (link, _control) = dialled.expect("a link");
    let arrival = soon("an arrival", arrivals.next()).await;
    let ending = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(SOON));
    ending.await.expect("no panic");
    drop((endpoint, arrivals, arrival));

    let us = Us { identity, facts: facts(8) };
    let bound = soon("the port", async {
        loop {
            match Endpoint::bind_on(QuicNet::default(), address, us.clone()) {
                Ok(bound) => break bound,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let (_second, _arrivals) = bound.await;
    assert!(!link.is_closed());
    link.send(&Heartbeat { number: 1, heard: 0 }).expect("room in the queue");
    assert_eq!(soon("the reset", link.closed()).await, CloseReason::Restarted);
}
