use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sortie_actors::data::exchange::{ServerEnd, ToClient, ToServer};
use sortie_link::ControlReceiver;
use sortie_model::record::OutputRule;
use sortie_model::selector::{Selection, Selector};
use sortie_model::spec::{BodySpec, StopSpec};
use sortie_model::view::{Availability, EntryView, JobView, Kind, SessionState, Tally};
use sortie_model::{
    EntryId, JobInstance, JobSpec, SessionId, SessionInstance, SessionView, State, Timestamp,
};
use sortie_wire::session_proto::{
    Answer, Ask, Delivery, Entries, ReceiveMode, ReceiveSpec, Request, SessionRef, Trouble,
    WaitCount, WaitSpec,
};
use sortie_wire::{ErrorCode, RemoteError};

use super::*;
use crate::client::Client;
use crate::receiver::tests::{acknowledged, delivery, soon, the_end};
use crate::receiver::{ReceiveItem, Receiver};
use crate::reconnect::ReconnectWatch;
use crate::route::tests::{Listening, TIMEOUT, answer_one, arrival, listening};
use crate::session::Session;

const SESSION: SessionInstance = SessionInstance(uuid::Uuid::from_u128(7));

/// How often a loss and a return were told.
#[derive(Debug, Clone, Default)]
struct Told(Arc<[AtomicUsize; 2]>);

impl ReconnectWatch for Told {
    fn lost(&self, _: &NodeName, _: Duration) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }

    fn connected(&self, _: &NodeName) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }
}

impl Told {
    fn counts(&self) -> [usize; 2] {
        [0, 1].map(|which| self.0[which].load(Ordering::Relaxed))
    }
}

/// A node of the test, a client of it that goes on, and its first connection.
struct Both {
    node: Listening,
    session: Session,
    told: Told,
    up: (Link, ControlReceiver),
}

async fn both() -> Both {
    let mut node = listening();
    let client = soon(Client::connect_home(&node.paths, TIMEOUT)).await.expect("it listens");
    let up = arrival(&mut node.arrivals).await;
    let told = Told::default();
    let client = client.reconnecting(Reconnect::default().told_to(told.clone()));
    Both { node, session: client.session(), told, up }
}

impl Both {
    /// The client asks for its session once.
    async fn say_sessions(&self) {
        let request = answer_one(&self.up.0, Answer::Sessions(vec![default_session()])).await;
        assert_eq!(request.ask, Ask::Sessions);
    }

    async fn request(&self) -> (Request, ServerEnd) {
        let (sender, receiver) = soon(self.up.0.accept_bi()).await.expect("a request comes");
        soon(ServerEnd::accept(sender, receiver)).await.expect("a request")
    }

    /// The connection breaks, and the client makes another one.
    async fn break_off(&mut self, code: CloseCode) {
        self.up.0.close(code, "the test");
        self.up = arrival(&mut self.node.arrivals).await;
    }
}

fn default_session() -> SessionView {
    SessionView {
        id: SessionId(1),
        instance: SESSION,
        name: "default".to_owned(),
        node: "a".parse().expect("a name"),
        owner: "alice".to_owned(),
        temporary: false,
        jobs: 0,
        unfinished: 0,
        created: Timestamp(0),
        below: None,
        state: SessionState::Opened,
        availability: Availability::Available,
        epoch: 0,
        idle_timeout: None,
        expires: None,
        output: OutputRule::default(),
    }
}

fn one() -> Selection {
    Selection::of([Selector::Id(EntryId(1))])
}

async fn next(receiver: &mut Receiver) -> Result<(u64, Vec<u64>), RequestError> {
    match soon(receiver.next()).await? {
        Some(ReceiveItem::Records { number, records, .. }) => {
            Ok((number, records.iter().map(|record| record.seq.0).collect()))
        }
        other => panic!("records, not {other:?}"),
    }
}

/// A receive that has begun, and its node's end of it.
async fn receiving(both: &Both, mode: ReceiveMode) -> (Receiver, ServerEnd) {
    let (session, spec) = (both.session.clone(), ReceiveSpec::new(one(), mode));
    let begun = tokio::spawn(async move { session.receive(spec).await });
    both.say_sessions().await;
    let (_, end) = both.request().await;
    (soon(begun).await.expect("a task").expect("a receive"), end)
}

const TAKES: ReceiveMode = ReceiveMode::TakeUntil { finished: true };

#[tokio::test]
async fn a_receive_goes_on_behind_what_it_brought_and_acknowledges_it_once_more() {
    let mut both = both().await;
    let (mut receiver, mut end) = receiving(&both, TAKES).await;
    for message in [delivery(1, 0..2), delivery(2, 2..4)] {
        end.sender.send(message).await.expect("the client reads");
    }
    assert_eq!(next(&mut receiver).await.expect("records"), (1, vec![0, 1]));
    assert_eq!(next(&mut receiver).await.expect("records"), (2, vec![2, 3]));
    // Written out only as far as that when the connection breaks.
    receiver.acknowledge(1);
    let going_on = tokio::spawn(async move {
        let item = next(&mut receiver).await;
        (receiver, item)
    });
    both.break_off(CloseCode::REPLACED).await;
    let (request, mut end) = both.request().await;
    assert_eq!(request.session, SessionRef::Instance(SESSION), "this very session");
    for message in [delivery(1, 0..3), delivery(2, 3..6), the_end()] {
        end.sender.send(message).await.expect("the client reads");
    }
    let (mut receiver, item) = soon(going_on).await.expect("a task");
    assert_eq!(item.expect("what is to be acknowledged"), (3, vec![]));
    assert_eq!(next(&mut receiver).await.expect("the rest"), (4, vec![4, 5]));
    receiver.acknowledge(2);
    assert!(matches!(soon(receiver.next()).await, Ok(Some(ReceiveItem::End(_)))));
    receiver.acknowledge(4);
    let finishing = tokio::spawn(receiver.finish());
    assert_eq!(acknowledged(&mut end.receiver).await, Some(2), "its own second delivery");
    assert_eq!(acknowledged(&mut end.receiver).await, None);
    end.sender.finish().await.expect("the client waits");
    soon(finishing).await.expect("a task").expect("the node is there");
    assert_eq!(both.told.counts(), [1, 1]);
}

#[tokio::test]
async fn what_the_node_had_not_noted_at_the_end_is_taken_again_and_not_shown() {
    let mut both = both().await;
    let (mut receiver, mut end) = receiving(&both, TAKES).await;
    for message in [delivery(1, 0..2), the_end()] {
        end.sender.send(message).await.expect("the client reads");
    }
    assert_eq!(next(&mut receiver).await.expect("records"), (1, vec![0, 1]));
    assert!(matches!(soon(receiver.next()).await, Ok(Some(ReceiveItem::End(_)))));
    receiver.acknowledge(1);
    let finishing = tokio::spawn(receiver.finish());
    both.break_off(CloseCode::REPLACED).await;
    let (request, mut end) = both.request().await;
    let Ask::Receive(spec) = request.ask else { panic!("a receive, not {request:?}") };
    assert_eq!(spec.mode, ReceiveMode::Take);
    for message in [delivery(1, 0..2), delivery(2, 2..3), the_end()] {
        // The client may have read enough.
        let _ = end.sender.send(message).await;
    }
    let _ = end.sender.finish().await;
    let mut confirmed = BTreeSet::new();
    while let Ok(Some(ToServer::Acknowledged(number))) = soon(end.receiver.next()).await {
        confirmed.insert(number);
    }
    assert_eq!(confirmed, BTreeSet::from([1]), "what was not shown stays");
    soon(finishing).await.expect("a task").expect("all is noted");
}

#[tokio::test]
async fn a_receive_that_is_finished_while_it_is_broken_is_settled() {
    let mut both = both().await;
    let (mut receiver, mut end) = receiving(&both, TAKES).await;
    end.sender.send(delivery(1, 0..2)).await.expect("the client reads");
    assert_eq!(next(&mut receiver).await.expect("records"), (1, vec![0, 1]));
    both.up.0.close(CloseCode::REPLACED, "the test");
    let (_, begun) = {
        // Dropped once it has asked for the next receive.
        let mut going_on = std::pin::pin!(receiver.next());
        let asked = tokio::select! {
            _ = &mut going_on => None,
            asked = async {
                both.up = arrival(&mut both.node.arrivals).await;
                both.request().await
            } => Some(asked),
        };
        asked.expect("nothing came that could be handed out")
    };
    receiver.acknowledge(1);
    let finishing = tokio::spawn(receiver.finish());
    // It may not have heard yet that the receive had begun.
    let _ = begun.sender.finish().await;
    let (request, mut end) = both.request().await;
    let Ask::Receive(spec) = request.ask else { panic!("a receive, not {request:?}") };
    assert_eq!(spec.mode, ReceiveMode::Take);
    for message in [delivery(1, 0..2), the_end()] {
        end.sender.send(message).await.expect("the client reads");
    }
    assert_eq!(acknowledged(&mut end.receiver).await, Some(1));
    assert_eq!(acknowledged(&mut end.receiver).await, None);
    end.sender.finish().await.expect("the client waits");
    soon(finishing).await.expect("a task").expect("all is noted");
}

#[tokio::test]
async fn what_was_handed_out_and_not_acknowledged_is_not_settled() {
    let both = both().await;
    let (mut receiver, mut end) = receiving(&both, TAKES).await;
    for message in [delivery(1, 0..2), delivery(2, 2..4)] {
        end.sender.send(message).await.expect("the client reads");
    }
    next(&mut receiver).await.expect("records");
    next(&mut receiver).await.expect("records");
    receiver.acknowledge(1);
    both.up.0.close(CloseCode::REPLACED, "the test");
    let error = soon(receiver.finish()).await.expect_err("some may come again");
    assert!(matches!(error, RequestError::Lost), "{error}");
    assert_eq!(both.told.counts(), [0, 0]);
}

#[tokio::test]
async fn a_session_that_another_client_has_by_then_ends_the_reader() {
    let mut both = both().await;
    let (mut receiver, _end) = receiving(&both, TAKES).await;
    let going_on = tokio::spawn(async move { next(&mut receiver).await });
    both.break_off(CloseCode::REPLACED).await;
    let (_, mut end) = both.request().await;
    let busy = RemoteError::new(ErrorCode::SessionBusy, "another client holds it");
    end.sender.send(ToClient::Delivery(Delivery::Refused(busy))).await.expect("it reads");
    let error = soon(going_on).await.expect("a task").expect_err("it is another's");
    assert_eq!(error.code(), ErrorCode::SessionBusy);
}

#[tokio::test]
async fn a_node_that_said_goodbye_is_not_dialled() {
    let both = both().await;
    let (mut receiver, _end) = receiving(&both, TAKES).await;
    let going_on = tokio::spawn(async move { next(&mut receiver).await });
    both.up.0.close(CloseCode::SHUTDOWN, "the test");
    let error = soon(going_on).await.expect("a task").expect_err("it was stopped");
    assert!(matches!(error, RequestError::Lost), "{error}");
    assert_eq!(both.told.counts(), [0, 0]);
}

#[tokio::test]
async fn who_keeps_is_shown_what_comes_after_the_lines_that_were_asked_for() {
    let mut both = both().await;
    let spec = ReceiveSpec { tail: Some(2), ..ReceiveSpec::new(one(), ReceiveMode::Follow) };
    let session = both.session.clone();
    let begun = tokio::spawn(async move { session.receive(spec).await });
    both.say_sessions().await;
    let (_, mut end) = both.request().await;
    let mut receiver = soon(begun).await.expect("a task").expect("a receive");
    end.sender.send(delivery(0, 7..9)).await.expect("the client reads");
    assert_eq!(next(&mut receiver).await.expect("records"), (0, vec![7, 8]));
    let going_on = tokio::spawn(async move { next(&mut receiver).await });
    both.break_off(CloseCode::REPLACED).await;
    let (request, mut end) = both.request().await;
    let Ask::Receive(spec) = request.ask else { panic!("a receive, not {request:?}") };
    assert_eq!(spec.tail, None, "the last two are others by now");
    end.sender.send(delivery(0, 0..12)).await.expect("the client reads");
    let item = soon(going_on).await.expect("a task");
    assert_eq!(item.expect("records"), (0, vec![9, 10, 11]));
}

#[tokio::test]
async fn a_start_is_said_again_by_its_key_and_a_removal_is_not() {
    let mut both = both().await;
    let session = both.session.clone();
    let body = BodySpec::Command { words: Vec::new() };
    let starting =
        tokio::spawn(async move { session.start(JobSpec::new("true", body), None).await });
    both.say_sessions().await;
    let (first, _end) = both.request().await;
    both.break_off(CloseCode::REPLACED).await;
    let refused = Answer::Refused(RemoteError::new(ErrorCode::Usage, "the test"));
    let second = answer_one(&both.up.0, refused).await;
    assert_eq!(first.ask, second.ask, "with its key");
    let error = soon(starting).await.expect("a task").expect_err("it is refused");
    assert_eq!(error.code(), ErrorCode::Usage);

    let session = both.session.clone();
    let removing =
        tokio::spawn(async move { session.remove(one(), crate::answer::Unfinished::Refuse).await });
    let _asked = both.request().await;
    both.up.0.close(CloseCode::REPLACED, "the test");
    let error = soon(removing).await.expect("a task").expect_err("it may have been done");
    assert!(matches!(error, RequestError::Lost), "{error}");
}

#[tokio::test]
async fn a_request_that_fails_over_a_connection_that_is_up_is_not_sent_again() {
    let both = both().await;
    let session = both.session.clone();
    let asking = tokio::spawn(async move { session.get(Default::default()).await });
    both.say_sessions().await;
    drop(both.request().await);
    let error = soon(asking).await.expect("a task").expect_err("its answer is lost");
    assert!(matches!(error, RequestError::Lost), "{error}");
    assert_eq!(both.told.counts(), [0, 0]);
}

#[tokio::test]
async fn a_wait_is_over_in_its_time_also_while_nobody_answers() {
    let both = both().await;
    let spec = WaitSpec {
        selection: one(),
        count: WaitCount::All,
        finished: false,
        timeout: Some(Duration::from_millis(300)),
    };
    let session = both.session.clone();
    let waiting = tokio::spawn(async move { session.wait(spec).await });
    both.say_sessions().await;
    let _asked = both.request().await;
    both.node.home.take_address_back().expect("it is gone");
    both.up.0.close(CloseCode::REPLACED, "the test");
    let waited = soon(waiting).await.expect("a task").expect("no error");
    assert!(waited.timed_out);
    assert_eq!(both.told.counts(), [1, 0]);
}

fn a_job(id: u64, state: State) -> EntryView {
    EntryView::Job(JobView {
        id: EntryId(id),
        instance: JobInstance(uuid::Uuid::from_u128(u128::from(id))),
        name: format!("Job{id}"),
        kind: Kind::Background,
        state,
        has_more_data: false,
        location: "a".to_owned(),
        command: "true".to_owned(),
        created: Timestamp(0),
        begin_time: None,
        end_time: None,
        with_errors: false,
        tally: Tally::default(),
        children: Vec::new(),
        session: SessionId(1),
        stopped_by: None,
        stop_pending: Vec::new(),
        notes: Vec::new(),
        restarts: 0,
        paused: 0,
    })
}

#[tokio::test]
async fn what_another_reader_has_records_of_is_not_removed() {
    let mut both = both().await;
    let spec = ReceiveSpec { auto_remove: true, ..ReceiveSpec::new(one(), TAKES) };
    let session = both.session.clone();
    let begun = tokio::spawn(async move { session.receive(spec).await });
    both.say_sessions().await;
    let (_, mut end) = both.request().await;
    let mut receiver = soon(begun).await.expect("a task").expect("a receive");
    let error = RemoteError::new(ErrorCode::NotFinished, "another reader has records of it");
    let troubles = vec![Trouble { about: "1".to_owned(), error }];
    let jobs = [1, 4].map(|id| a_job(id, State::Completed));
    let entries = Entries { entries: jobs.into(), troubles, ..Entries::default() };
    let over = Delivery::End { failures: Vec::new(), entries, deadlock: None };
    end.sender.send(ToClient::Delivery(over)).await.expect("the client reads");
    assert!(matches!(soon(receiver.next()).await, Ok(Some(ReceiveItem::End(_)))));
    let finishing = tokio::spawn(receiver.finish());
    both.break_off(CloseCode::REPLACED).await;
    let (_, mut end) = both.request().await;
    end.sender.send(the_end()).await.expect("the client reads");
    end.sender.finish().await.expect("the client reads");
    let request = answer_one(&both.up.0, Answer::Entries(Entries::default())).await;
    let Ask::Remove { selection, force: false } = request.ask else { panic!("{request:?}") };
    assert_eq!(selection, Selection::of([Selector::Instance(uuid::Uuid::from_u128(4))]));
    soon(finishing).await.expect("a task").expect("all is noted");
}

#[tokio::test]
async fn a_stop_at_once_is_told_again_to_what_may_take_its_time() {
    let mut both = both().await;
    let session = both.session.clone();
    let how = StopSpec { grace: Some(Duration::ZERO), ..StopSpec::default() };
    let stopping = tokio::spawn(async move {
        session.stop(one(), how, crate::answer::StopReturns::WhenFinished).await
    });
    both.say_sessions().await;
    let _asked = both.request().await;
    both.break_off(CloseCode::REPLACED).await;
    let stops = [(1, State::Stopping), (4, State::Completed)].map(|(id, state)| a_job(id, state));
    let entries = Entries { entries: stops.into(), total: 2, ..Entries::default() };
    answer_one(&both.up.0, Answer::Entries(entries)).await;
    let told = answer_one(&both.up.0, Answer::Entries(Entries::default())).await;
    assert_eq!(told.ask, Ask::Stop { selection: one(), how, wait: true });
    both.up.0.close(CloseCode::SHUTDOWN, "the test");
    let error = soon(stopping).await.expect("a task").expect_err("it is over");
    assert!(matches!(error, RequestError::Lost), "{error}");
}

#[tokio::test]
async fn a_request_that_is_not_repeated_does_not_wait_while_others_dial_on() {
    let both = both().await;
    let session = both.session.clone();
    let waiting = tokio::spawn(async move { session.get(Default::default()).await });
    both.say_sessions().await;
    let _asked = both.request().await;
    both.node.home.take_address_back().expect("it is gone");
    both.up.0.close(CloseCode::REPLACED, "the test");
    let removed = both.session.remove(one(), crate::answer::Unfinished::Refuse);
    let error = soon(removed).await.expect_err("nobody is there");
    assert!(matches!(error, RequestError::Lost | RequestError::Unreachable(_)), "{error}");
    assert!(!waiting.is_finished(), "it goes on");
    waiting.abort();
}

#[tokio::test]
async fn what_was_told_to_stop_is_not_told_twice() {
    let mut both = both().await;
    let session = both.session.clone();
    let how = StopSpec::default();
    let stopping = tokio::spawn(async move {
        session.stop(one(), how, crate::answer::StopReturns::WhenFinished).await
    });
    both.say_sessions().await;
    let (first, _end) = both.request().await;
    assert!(matches!(first.ask, Ask::Stop { wait: true, .. }), "{first:?}");
    both.break_off(CloseCode::REPLACED).await;
    // Nothing is there that was not told.
    let nothing = || Entries::default();
    let asked = answer_one(&both.up.0, Answer::Entries(nothing())).await;
    assert!(matches!(asked.ask, Ask::Get(_)), "{asked:?}");
    let waited = Answer::Waited { entries: nothing(), timed_out: false };
    let asked = answer_one(&both.up.0, waited).await;
    assert!(matches!(asked.ask, Ask::Wait(_)), "{asked:?}");
    let asked = answer_one(&both.up.0, Answer::Entries(nothing())).await;
    assert!(matches!(asked.ask, Ask::Get(_)), "{asked:?}");
    assert_eq!(soon(stopping).await.expect("a task").expect("it is stopped"), nothing());
}
