use std::net::UdpSocket;

use sortie_actors::data::exchange::{ServerEnd, ToClient};
use sortie_link::{Arrival, Arrivals, CertificateAuthority, CloseCode, NodeKey};
use sortie_model::NodeName;
use sortie_model::detached::DetachSpec;
use sortie_model::reason::ReachStep;
use sortie_model::selector::Selection;
use sortie_model::spec::{BodySpec, EnvironmentSpec};
use sortie_wire::session_proto::{Delivery, Entries, ReceiveMode, ReceiveSpec};
use sortie_wire::{ErrorCode, RemoteError};

use super::*;
use crate::client::Client;
use crate::home::{Home, HomePaths};
use crate::receiver::ReceiveItem;
use crate::receiver::tests::soon;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Where no answer comes.
const SHORT: Duration = Duration::from_millis(200);

/// A home whose node listens, as far as links go.
pub(crate) struct Listening {
    _directory: tempfile::TempDir,
    pub(crate) home: Home,
    pub(crate) paths: HomePaths,
    pub(crate) endpoint: Endpoint,
    pub(crate) arrivals: Arrivals,
}

fn facts() -> LocalFacts {
    LocalFacts { incarnation: Incarnation(1), program: "test".to_owned(), address: None }
}

pub(crate) fn listening() -> Listening {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let paths = HomePaths::within(directory.path().join("home"));
    let mut home = Home::create_or_open(paths.clone(), None, "alice").expect("a new home");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let identity = home.identities().node().clone();
    let (endpoint, arrivals) = Endpoint::bind(listen, identity, facts()).expect("a free port");
    home.announce(endpoint.local_addr()).expect("it is announced");
    Listening { _directory: directory, home, paths, endpoint, arrivals }
}

pub(crate) async fn arrival(arrivals: &mut Arrivals) -> (Link, ControlReceiver) {
    match soon(arrivals.next()).await.expect("the endpoint is there") {
        Arrival::Link(link, control) => (link, control),
        Arrival::Join(_) => panic!("a link, not a join"),
    }
}

/// Answers one request of a link.
pub(crate) async fn answer_one(link: &Link, answer: Answer) -> Request {
    let (sender, receiver) = soon(link.accept_bi()).await.expect("a request comes");
    let (request, end) = soon(ServerEnd::accept(sender, receiver)).await.expect("a request");
    end.sender.finish_with(answer).await.expect("the client waits");
    request
}

#[tokio::test]
async fn a_client_of_a_home_reaches_its_own_node_and_no_other() {
    let mut node = listening();
    let client = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect("it listens");
    let (link, _control) = arrival(&mut node.arrivals).await;
    let asking = tokio::spawn(async move { client.stop_node().await });
    let request = answer_one(&link, Answer::Done).await;
    assert_eq!(request.ask, Ask::StopNode);
    soon(asking).await.expect("it ends").expect("the node agrees");

    // Another node of the same cluster at the announced address is not the home's.
    let authority = node.home.identities().authority().expect("a new home holds its CA");
    let authority = CertificateAuthority::from_pem(&authority.to_pem()).expect("it reads");
    let key = NodeKey::generate().expect("a key");
    let name: NodeName = "other".parse().expect("a name");
    let other = authority.identify_node(&key, &name).expect("a certificate");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let (other, _arrivals) = Endpoint::bind(listen, other, facts()).expect("a free port");
    node.home.announce(other.local_addr()).expect("it is announced");
    let error = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect_err("an impostor");
    assert_eq!(error.step(), Some(ReachStep::Authenticate), "{error}");
}

#[tokio::test]
async fn without_a_node_a_home_says_so() {
    let node = listening();
    node.home.take_address_back().expect("it is gone");
    let error = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect_err("no address");
    assert!(matches!(error, ConnectError::NotRunning));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn an_address_that_a_killed_node_left_behind_is_no_node() {
    let mut node = listening();
    let paths = node.paths.clone();
    let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    node.home.announce(free.local_addr().expect("an address")).expect("it is announced");
    drop(free);
    let error = soon(Client::connect_home(&paths, TIMEOUT)).await.expect_err("nothing listens");
    assert!(matches!(error, ConnectError::NotRunning), "{error}");
    node.home.withdraw();
    // Somebody else has the port, and no node holds the home.
    let other = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("an address").to_string();
    std::fs::write(paths.state.join("node.addr"), address).expect("a home");
    let error = soon(Client::connect_home(&paths, SHORT)).await.expect_err("a stranger");
    assert!(matches!(error, ConnectError::NotRunning), "{error}");
}

#[tokio::test]
async fn a_node_that_is_there_and_says_nothing_is_named_with_its_process() {
    let mut node = listening();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    node.home.announce(silent.local_addr().expect("an address")).expect("it is announced");
    let error = soon(Client::connect_home(&node.paths, SHORT)).await.expect_err("silence");
    let ConnectError::Unresponsive { process } = error else { panic!("{error}") };
    assert_eq!(process, Some(std::process::id()));
    let named = ConnectError::Unresponsive { process }.to_string();
    assert!(named.contains(&std::process::id().to_string()) && !named.contains("firewall"));
}

#[tokio::test]
async fn a_node_that_took_the_home_during_the_dial_is_not_the_one_that_is_silent() {
    let mut node = listening();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    node.home.announce(silent.local_addr().expect("an address")).expect("it is announced");
    let paths = node.paths.clone();
    let dial = tokio::spawn(async move { Client::connect_home(&paths, SHORT).await });
    let dialled = tokio::task::spawn_blocking(move || silent.recv(&mut [0; 2_048]).map(|_| silent));
    let _silent = soon(dialled).await.expect("a thread").expect("a packet");
    std::fs::write(node.paths.state.join("lock"), "1\n").expect("a home");
    let error = soon(dial).await.expect("a task").expect_err("nobody answers");
    assert!(matches!(error, ConnectError::NotRunning), "{error}");
}

#[tokio::test]
async fn a_refusal_crosses_with_its_code_and_hint() {
    let mut node = listening();
    let client = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect("it listens");
    let (link, _control) = arrival(&mut node.arrivals).await;
    let asking = tokio::spawn(async move { client.cluster_token().await });
    let refusal = RemoteError::new(ErrorCode::NoAuthority, "the CA is elsewhere").hint("ask n1");
    answer_one(&link, Answer::Refused(refusal)).await;
    let error = soon(asking).await.expect("it ends").expect_err("it is refused");
    assert_eq!((error.code(), error.hint()), (ErrorCode::NoAuthority, Some("ask n1")));
}

#[tokio::test]
async fn a_node_that_is_too_old_to_detach_is_not_asked_to() {
    let mut node = listening();
    let _client = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect("it listens");
    let (link, _control) = arrival(&mut node.arrivals).await;
    let older = PeerFacts { version: 1, program: "0.0.9".to_owned(), ..link.facts().clone() };
    let body = BodySpec::Command { words: Vec::new() };
    let environment = EnvironmentSpec::default();
    let detach = Ask::Detach(Box::new(DetachSpec { body, directory: None, environment }));
    assert_eq!(check_version(&detach, link.facts()), Ok(()));
    assert_eq!(check_version(&Ask::StopNode, &older), Ok(()));
    let refused = check_version(&detach, &older).expect_err("it does not know the request");
    assert_eq!(refused.code, ErrorCode::Version);
    assert!(refused.message.contains("0.0.9"), "{refused}");
}

#[tokio::test]
async fn a_receive_is_not_over_before_its_node_has_ended_its_side() {
    let mut node = listening();
    let client = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect("it listens");
    let (link, _control) = arrival(&mut node.arrivals).await;
    let spec = ReceiveSpec::new(Selection::default(), ReceiveMode::Take);
    let session = client.session();
    let receiving = tokio::spawn(async move { session.receive(spec).await });
    let (sender, receiver) = soon(link.accept_bi()).await.expect("a request comes");
    let accepted = soon(ServerEnd::accept(sender, receiver)).await;
    let (_, mut end) = accepted.expect("a request");
    let mut receiver = soon(receiving).await.expect("it begins").expect("a receive");
    let entries = Entries::default();
    let last = Delivery::End { failures: Vec::new(), entries, deadlock: None };
    end.sender.send(ToClient::Delivery(last)).await.expect("the client reads");
    let item = soon(receiver.next()).await.expect("its end");
    assert!(matches!(item, Some(ReceiveItem::End(_))), "{item:?}");
    // It dies before it noted what was confirmed.
    link.close(CloseCode::SHUTDOWN, "the test");
    let error = soon(receiver.finish()).await.expect_err("some of it may come again");
    assert!(matches!(error, RequestError::Lost), "{error}");
}

#[tokio::test]
async fn a_connection_that_broke_is_made_again_by_the_next_request() {
    let mut node = listening();
    let client = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect("it listens");
    let (link, control) = arrival(&mut node.arrivals).await;
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.sessions().await });
    let (sender, receiver) = soon(link.accept_bi()).await.expect("a request comes");
    soon(ServerEnd::accept(sender, receiver)).await.expect("a request");
    link.close(CloseCode::SHUTDOWN, "the test");
    drop((link, control));
    let lost = soon(waiting).await.expect("it ends").expect_err("its answer is lost");
    assert!(matches!(lost, RequestError::Lost), "{lost}");

    let asking = tokio::spawn(async move { client.sessions().await });
    let (link, _control) = arrival(&mut node.arrivals).await;
    answer_one(&link, Answer::Sessions(Vec::new())).await;
    assert_eq!(soon(asking).await.expect("it ends").expect("an answer"), []);
}

#[tokio::test]
async fn the_node_hears_the_client_live_and_go() {
    let mut node = listening();
    let client = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect("it listens");
    let (link, mut control) = arrival(&mut node.arrivals).await;
    let frame = soon(control.next()).await.expect("a heartbeat");
    assert!(frame.open::<Heartbeat>().is_ok());
    let session = client.session();
    drop(client);
    assert!(!link.is_closed(), "a session holds the connection");
    drop(session);
    soon(async { while control.next().await.is_some() {} }).await;
    assert!(link.is_closed());
    drop(node.endpoint);
}
