//! Waiting.

use std::time::Duration;

use sortie_actors::data::exchange::ToClient;
use sortie_model::{EntryId, IdempotencyKey};
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::{
    Answer, Ask, Delivery, Entries, ReceiveMode, ReceiveSpec, Request, SessionRef, WaitCount,
    WaitSpec,
};

use crate::harness::{House, Item, Reader, Work, select, soon};

fn spec(words: &str, count: WaitCount) -> WaitSpec {
    WaitSpec { selection: select(words), count, finished: false, timeout: None }
}

async fn wait(house: &House, spec: WaitSpec) -> (Vec<u64>, Entries, bool) {
    match house.ask(Ask::Wait(spec)).await {
        Answer::Waited { entries, timed_out } => {
            let ids = entries.entries.iter().map(|entry| entry.id().0).collect();
            (ids, entries, timed_out)
        }
        other => panic!("the end of a wait, not {other:?}"),
    }
}

#[tokio::test]
async fn all_are_waited_for_in_input_order() {
    let house = House::open().await;
    house.start(1, Work::gated(1, 0)).await;
    house.start(1, Work::of(1)).await;
    let poll = WaitSpec { timeout: Some(Duration::ZERO), ..spec("3 1 3", WaitCount::All) };
    let (_, _, timed_out) = wait(&house, poll).await;
    assert!(timed_out);
    let waiting = wait(&house, spec("3 1 3", WaitCount::All));
    let (waited, ()) = tokio::join!(waiting, async { house.let_pass(0) });
    assert_eq!((waited.0, waited.2), (vec![3, 1], false));
}

#[tokio::test]
async fn any_answers_with_one_entry_and_a_count_with_those_that_settled() {
    let house = House::open().await;
    house.start(1, Work::gated(1, 0)).await;
    house.start(1, Work::of(1)).await;
    house.start(1, Work::of(1)).await;
    assert_eq!(wait(&house, spec("1 3", WaitCount::Any)).await.0, [3]);
    house.until_finished(EntryId(5)).await;
    assert_eq!(wait(&house, spec("1 5 3", WaitCount::AtLeast(2))).await.0, [5, 3]);
}

#[tokio::test]
async fn a_child_can_be_waited_for_alone() {
    let house = House::open().await;
    house.start(2, Work::gated(1, 0)).await;
    house.let_pass(1);
    assert_eq!(wait(&house, spec("3", WaitCount::All)).await.0, [3]);
    let poll = WaitSpec { timeout: Some(Duration::ZERO), ..spec("1", WaitCount::All) };
    assert!(wait(&house, poll).await.2);
}

#[tokio::test]
async fn waiting_on_nothing_returns_at_once_and_unknown_entries_are_troubles() {
    let house = House::open().await;
    for count in [WaitCount::All, WaitCount::Any, WaitCount::AtLeast(3)] {
        let (ids, entries, timed_out) = wait(&house, spec("nothing*", count)).await;
        assert_eq!((ids.len(), entries.troubles.len(), timed_out), (0, 0, false));
        let (ids, entries, timed_out) = wait(&house, spec("nothing", count)).await;
        assert_eq!((ids.len(), timed_out), (0, false));
        assert_eq!(entries.troubles[0].error.code, ErrorCode::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_end_is_missed_however_close_the_wait_is() {
    let house = House::open().await;
    for _ in 0..200 {
        house.start(1, Work::of(0)).await;
        soon(wait(&house, spec("last", WaitCount::All))).await;
    }
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_waits() {
    let house = House::open().await;
    house.start(1, Work::gated(1, 0)).await;
    let waiting = house.ask(Ask::Wait(spec("1", WaitCount::All)));
    let (answer, ()) = tokio::join!(waiting, house.node.shut_down());
    let Answer::Refused(error) = answer else { panic!("refused, not {answer:?}") };
    assert_eq!(error.code, ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn a_session_that_ends_by_itself_is_told_apart_from_a_node_that_ends() {
    let house = House::open().await;
    let mut owner = house.open_request(Ask::OpenTemporary);
    let opened = soon(owner.receiver.next()).await.expect("the node answers");
    let Some(ToClient::Answer(Answer::Session(view))) = opened else {
        panic!("a session, not {opened:?}")
    };
    let session = || SessionRef::Instance(view.instance);
    let key = IdempotencyKey::try_from("key".to_owned()).expect("a key");
    let job = Box::new(House::spec(1, Work::gated(2, 1)));
    let start = Ask::Start { key, spec: job };
    let mut started = house.node.open(Request { session: session(), ask: start });
    let answer = soon(started.receiver.next()).await.expect("the node answers");
    assert!(matches!(answer, Some(ToClient::Answer(Answer::Started(_)))), "{answer:?}");
    let wait = Ask::Wait(spec("1", WaitCount::All));
    let mut waiter = house.node.open(Request { session: session(), ask: wait });
    let until_settled = ReceiveMode::TakeUntil { finished: false };
    let receive = Ask::Receive(Box::new(ReceiveSpec::new(select("1"), until_settled)));
    let receive = Request { session: session(), ask: receive };
    let mut reader = Reader { end: house.node.open(receive) };
    let first = reader.next().await;
    assert!(matches!(first, Ok((_, Item::Records(..)))), "{first:?}");
    // Both have begun; the session goes with its owner.
    drop(owner);
    let Err(end) = reader.next().await else { panic!("the session has ended") };
    let Delivery::Refused(error) = *end else { panic!("refused, not {end:?}") };
    assert_eq!(error.code, ErrorCode::NoSession);
    let answer = soon(waiter.receiver.next()).await.expect("the node answers");
    let Some(ToClient::Answer(Answer::Refused(error))) = answer else { panic!("{answer:?}") };
    assert_eq!(error.code, ErrorCode::NoSession);
}
