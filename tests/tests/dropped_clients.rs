//! Dropped futures of clients, sessions, watchers and inputs: each is dropped at every await point,
//! and afterwards everything works. Jobs and results have theirs in `dropped.rs`.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;

use bytes::Bytes;
use sortie::answer::Busy;
use sortie::{
    Body, Client, Command, EndNotice, ErrorCode, HomePaths, Monitor, Node, ReceiveItem,
    ReceiveMode, ReceiveSpec, RequestError, ScopeChange, Selection, Selector, Session,
    SessionOptions, SessionState, State,
};
use sortie_tests::{Home, PATIENCE, at_every_point, dropped_after, soon};

#[sortie::task]
async fn double(n: u64) -> Result<u64, Infallible> {
    Ok(2 * n)
}

/// A node, and clients of it: within its process, and over a link.
struct House {
    clients: [Client; 2],
    paths: HomePaths,
    _home: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let paths = HomePaths::within(home.path());
        let node = Node::builder("a").without_processes().home(paths.clone()).register(double);
        let node = node.start().await.expect("a node");
        let linked = Client::connect_home(&paths, PATIENCE).await.expect("a client");
        Self { clients: [node.client(), linked], paths, _home: home }
    }
}

fn code_of<T: std::fmt::Debug>(refused: Result<T, RequestError>) -> Option<ErrorCode> {
    match refused.expect_err("a refusal") {
        RequestError::Refused(error) => Some(error.code),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_connects_and_asks_again() {
    let house = House::open().await;
    let connect = || Client::connect_home(&house.paths, PATIENCE);
    let client = at_every_point(connect).await.expect("a client");
    let identity = sortie::UserIdentity::of_home(&house.paths).expect("an identity");
    let address = house.paths.announced().expect("a file").expect("a running node");
    let connect = || Client::connect(&address, &identity, None, PATIENCE);
    let other = at_every_point(connect).await.expect("a client");
    for client in [&client, &other, &house.clients[0]] {
        assert_eq!(at_every_point(|| client.nodes(None)).await.expect("nodes").len(), 1);
        at_every_point(|| client.ping(None)).await.expect("a sign");
        at_every_point(|| client.diagnose()).await.expect("a diagnosis");
        let label = || vec![("rack".to_owned(), "r1".to_owned())];
        let label = || client.set_labels("a".parse().expect("a name"), label());
        let nodes = at_every_point(label).await.expect("nodes");
        assert_eq!(nodes.first().map(|node| node.labels.len()), Some(1));
        at_every_point(|| client.cluster_init(None)).await.expect("an offer");
        at_every_point(|| client.cluster_token()).await.expect("an offer");
    }
    at_every_point(|| other.clone().close()).await;
    assert_eq!(soon(client.nodes(None)).await.expect("nodes").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_whose_opening_is_dropped_are_known_or_gone() {
    let house = House::open().await;
    for client in &house.clients {
        let session = at_every_point(|| client.temporary()).await.expect("a session");
        assert_eq!(soon(doubled(&session, 4)).await, [8]);
        drop(session);
        let options =
            || SessionOptions { name: Some("w".parse().expect("a name")), ..no_options() };
        let open = || client.open_session(options());
        let session = at_every_point(open).await.expect("a session");
        let name = session.view_at_start().expect("it was opened").instance.to_string();
        // Those whose opening was dropped can be found, used and closed.
        for view in soon(client.sessions()).await.expect("sessions") {
            if view.name == "w" && view.instance.to_string() != name {
                let found = client.session_named(&view.instance.to_string());
                assert_eq!(soon(doubled(&found, 2)).await, [4]);
                soon(found.close()).await.expect("it is closed");
            }
        }
        let connect = || client.connect_session(&name, Busy::Refuse);
        let again = at_every_point(connect).await.expect("it is its own");
        at_every_point(|| again.scope()).await.expect("a scope");
        let change = || again.change_scope(ScopeChange::default());
        at_every_point(change).await.expect("a scope");
        assert_eq!(soon(doubled(&again, 3)).await, [6]);
        let named = client.session_named(&name);
        let view = at_every_point(|| named.disconnect()).await.expect("it is given free");
        assert_eq!(view.state, SessionState::Disconnected);
        assert_eq!(code_of(soon(again.scope()).await), Some(ErrorCode::SessionTaken));
        // A close that was dropped may be carried out; nothing of the session is left either way.
        for polls in 0.. {
            match soon(dropped_after(polls, named.close())).await {
                None => {}
                Some(Ok(())) => break,
                Some(closed) => {
                    assert_eq!(code_of(closed), Some(ErrorCode::NoSession));
                    break;
                }
            }
        }
        let left = soon(client.sessions()).await.expect("sessions");
        // One that is closed is shown until all of it has ended.
        let is_over = |state| state == SessionState::Closed;
        assert!(left.iter().all(|it| it.name == "default" || is_over(it.state)), "{left:?}");
    }
}

fn no_options() -> SessionOptions {
    SessionOptions::default()
}

async fn doubled(session: &Session, n: u64) -> Vec<u64> {
    let job = session.run(double, n).start().await.expect("a start");
    job.await.expect("results")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_notice_event_or_record_is_asked_for_again_and_is_the_same() {
    let house = House::open().await;
    for client in &house.clients {
        let session = soon(client.temporary()).await.expect("a session");
        let job = session.map(double, 1..=4).start().await.expect("a start");
        soon(job.wait()).await.expect("an end");
        let mut monitor = at_every_point(|| job.monitor()).await.expect("a monitor");
        let mut notices = Vec::new();
        for polls in (0..4).cycle() {
            match soon(dropped_after(polls, monitor.next())).await {
                Some(Ok(Some(notice))) => notices.push(notice),
                Some(ended) => {
                    assert_eq!(ended.expect("no error"), None);
                    break;
                }
                None => {}
            }
        }
        let ended: Vec<_> = notices.iter().map(|notice: &EndNotice| notice.state).collect();
        assert_eq!(ended, [Some(State::Completed); 5]);
        let all = || Selection::of([Selector::Last]);
        let again: Monitor = at_every_point(|| session.monitor(all())).await.expect("a monitor");
        drop(again);

        let mut events = at_every_point(|| session.watch(Selection::default())).await.expect("one");
        assert!(soon(dropped_after(1, events.next())).await.is_none(), "nothing happens");
        // The node may begin to watch behind the first starts: nothing says when it does.
        let mut rounds = 0..1_000;
        loop {
            let polls = rounds.next().expect("a start is seen") % 2;
            let one = session.run(double, 7).start().await.expect("a start");
            soon(one.wait()).await.expect("an end");
            if dropped_after(polls, events.next()).await.is_some() {
                break;
            }
        }

        let spec = || ReceiveSpec::new(all(), ReceiveMode::Take);
        let receive = || session.receive(spec());
        let mut receiver = at_every_point(receive).await.expect("a receive");
        let mut values = 0;
        for polls in (0..4).cycle() {
            match soon(dropped_after(polls, receiver.next())).await {
                Some(Ok(Some(ReceiveItem::Records { number, records, .. }))) => {
                    values +=
                        records.iter().filter(|it| !matches!(it.body, Body::Bytes(_))).count();
                    receiver.acknowledge(number);
                }
                Some(Ok(Some(_))) | None => {}
                Some(Ok(None)) => break,
                Some(Err(error)) => panic!("{error}"),
            }
        }
        assert_eq!(values, 1);
        let receiver = soon(session.receive(spec())).await.expect("a receive");
        assert!(soon(dropped_after(0, receiver.finish())).await.is_none(), "it was not polled");
    }
}

#[tokio::test]
async fn a_dropped_send_of_input_loses_the_input_and_says_so() {
    let home = Home::running("solo", &[]);
    let paths = HomePaths::within(home.path());
    let client = Client::connect_home(&paths, PATIENCE).await.expect("a client");
    let session = client.session();
    // Wherever it is dropped, the next call says that the input is lost, or it was sent as a whole.
    for polls in 1..6 {
        let cat = session.job(Command::new("cat"));
        let (job, mut input) = soon(cat.start_with_input()).await.expect("a start");
        let piece = Bytes::from(vec![b'x'; 3 << 20]);
        let whole = soon(dropped_after(polls, input.send(piece))).await;
        if let Some(sent) = whole {
            sent.expect("it was sent");
            soon(input.finish()).await.expect("it is stored");
            assert_eq!(soon(job.wait()).await.expect("an end").state, State::Completed);
        } else {
            let lost = soon(input.send(Bytes::from_static(b"y"))).await.expect_err("it was cut");
            assert!(matches!(lost, RequestError::Lost), "{lost}");
            drop(input);
            let view = soon(job.wait()).await.expect("an end");
            assert_eq!(view.state, State::Failed);
        }
    }
}
