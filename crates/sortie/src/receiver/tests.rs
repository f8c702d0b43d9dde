use std::time::Duration;

use bytes::Bytes;
use sortie_actors::data::exchange::{self, ServerEnd, ServerReceiver};
use sortie_model::{Body, Ordinal, Seq, Stream, Timestamp};
use sortie_wire::{ErrorCode, RemoteError};
use tokio::time::timeout;

use super::*;

/// Longer than anything here takes; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// The value, within the deadline.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens in time")
}

pub(crate) fn source(child: u64) -> Source {
    let location = "a".to_owned();
    let (child, job) = (EntryId(child), EntryId(1));
    Source { child, job, ordinal: Ordinal(0), location, place: None }
}

pub(crate) fn records(seqs: std::ops::Range<u64>) -> Vec<Record> {
    let record = |seq| Record {
        seq: Seq(seq),
        stream: Stream::Output,
        time: Timestamp(0),
        body: Body::Value(Bytes::from(rmp_serde::to_vec_named(&seq).expect("a number"))),
    };
    seqs.map(record).collect()
}

pub(crate) fn delivery(number: u64, seqs: std::ops::Range<u64>) -> ToClient {
    ToClient::Records { number, source: source(2), records: records(seqs) }
}

pub(crate) fn the_end() -> ToClient {
    let (failures, entries) = (Vec::new(), Entries::default());
    ToClient::Delivery(Delivery::End { failures, entries, deadlock: None })
}

pub(crate) async fn acknowledged(receiver: &mut ServerReceiver) -> Option<u64> {
    match soon(receiver.next()).await.expect("the client sends what can be read") {
        Some(ToServer::Acknowledged(number)) => Some(number),
        Some(other) => panic!("an acknowledgement, not {other:?}"),
        None => None,
    }
}

fn both() -> (Receiver, ServerEnd) {
    let (client, server) = exchange::local();
    (Receiver::new(client), server)
}

async fn next_number(receiver: &mut Receiver) -> u64 {
    match soon(receiver.next()).await {
        Ok(Some(ReceiveItem::Records { number, .. })) => number,
        other => panic!("records, not {other:?}"),
    }
}

#[tokio::test]
async fn the_node_hears_of_an_acknowledgement_before_the_reader_waits() {
    let (mut receiver, mut server) = both();
    server.sender.send(delivery(1, 0..2)).await.expect("there is room");
    let number = next_number(&mut receiver).await;
    receiver.acknowledge(number);
    assert!(server.receiver.next().now_or_never().is_none(), "not before the next call");
    assert!(receiver.next().now_or_never().is_none(), "there is nothing more yet");
    assert_eq!(acknowledged(&mut server.receiver).await, Some(1));
}

#[tokio::test]
async fn what_was_not_acknowledged_is_never_confirmed() {
    let (mut receiver, mut server) = both();
    server.sender.send(delivery(1, 0..2)).await.expect("there is room");
    server.sender.send(delivery(2, 2..4)).await.expect("there is room");
    next_number(&mut receiver).await;
    next_number(&mut receiver).await;
    receiver.acknowledge(1);
    assert!(receiver.next().now_or_never().is_none());
    drop(receiver);
    assert_eq!(acknowledged(&mut server.receiver).await, Some(1));
    assert_eq!(acknowledged(&mut server.receiver).await, None);
}

#[tokio::test]
async fn acknowledgements_are_gathered_while_more_is_ready() {
    const DELIVERIES: u64 = 200;
    let (mut receiver, mut server) = both();
    let node = tokio::spawn(async move {
        let mut confirmed = Vec::new();
        for number in 1..=DELIVERIES {
            server.sender.send(delivery(number, number..number + 1)).await.expect("it reads");
        }
        server.sender.send(the_end()).await.expect("it reads");
        drop(server.sender);
        while let Some(number) = acknowledged(&mut server.receiver).await {
            confirmed.push(number);
        }
        confirmed
    });
    let mut seen = 0;
    while let Some(item) = soon(receiver.next()).await.expect("nothing fails") {
        if let ReceiveItem::Records { number, .. } = item {
            seen += 1;
            assert_eq!(number, seen);
            receiver.acknowledge(number);
        }
    }
    assert_eq!(seen, DELIVERIES);
    let confirmed = soon(node).await.expect("the node ends");
    assert!(confirmed.is_sorted());
    assert_eq!(confirmed.last(), Some(&DELIVERIES));
    assert!(confirmed.len() < DELIVERIES as usize, "{}", confirmed.len());
}

#[tokio::test]
async fn acknowledging_after_the_end_still_counts() {
    let (mut receiver, mut server) = both();
    server.sender.send(delivery(7, 0..1)).await.expect("there is room");
    server.sender.send(the_end()).await.expect("there is room");
    drop(server.sender);
    next_number(&mut receiver).await;
    assert!(matches!(soon(receiver.next()).await, Ok(Some(ReceiveItem::End(_)))));
    receiver.acknowledge(7);
    assert_eq!(soon(receiver.next()).await.expect("the end"), None);
    assert_eq!(acknowledged(&mut server.receiver).await, Some(7));
    assert_eq!(acknowledged(&mut server.receiver).await, None, "the exchange is over");
    assert_eq!(soon(receiver.next()).await.expect("still the end"), None);
}

#[tokio::test]
async fn finishing_early_confirms_what_was_acknowledged() {
    let (mut receiver, mut server) = both();
    server.sender.send(delivery(1, 0..1)).await.expect("there is room");
    server.sender.send(delivery(2, 1..2)).await.expect("there is room");
    let number = next_number(&mut receiver).await;
    receiver.acknowledge(number);
    drop(server.sender);
    soon(receiver.finish()).await.expect("the node is there");
    assert_eq!(acknowledged(&mut server.receiver).await, Some(1));
    assert_eq!(acknowledged(&mut server.receiver).await, None);
}

#[tokio::test]
async fn an_acknowledgement_that_came_too_late_is_an_error_also_behind_the_end() {
    let (mut receiver, mut server) = both();
    server.sender.send(delivery(1, 0..1)).await.expect("there is room");
    server.sender.send(the_end()).await.expect("there is room");
    let taken = RemoteError::new(ErrorCode::SessionTaken, "another client took it over");
    let refusal = ToClient::Delivery(Delivery::Refused(taken));
    server.sender.send(refusal).await.expect("there is room");
    drop(server.sender);
    next_number(&mut receiver).await;
    assert!(matches!(soon(receiver.next()).await, Ok(Some(ReceiveItem::End(_)))));
    receiver.acknowledge(1);
    let error = soon(receiver.finish()).await.expect_err("it counts for nothing");
    assert_eq!(error.code(), ErrorCode::SessionTaken);
}

#[tokio::test]
async fn a_call_that_is_dropped_at_the_end_is_gone_on_with_by_the_next() {
    let (mut receiver, mut server) = both();
    server.sender.send(delivery(1, 0..1)).await.expect("there is room");
    server.sender.send(the_end()).await.expect("there is room");
    next_number(&mut receiver).await;
    assert!(matches!(soon(receiver.next()).await, Ok(Some(ReceiveItem::End(_)))));
    receiver.acknowledge(1);
    for _ in 0..3 {
        assert!(receiver.next().now_or_never().is_none(), "the node has not answered");
    }
    assert_eq!(acknowledged(&mut server.receiver).await, Some(1));
    assert_eq!(acknowledged(&mut server.receiver).await, None);
    let failed = RemoteError::new(ErrorCode::Storage, "it could not be noted");
    let refusal = ToClient::Delivery(Delivery::Refused(failed));
    server.sender.send(refusal).await.expect("there is room");
    assert!(receiver.next().now_or_never().is_none(), "more may come");
    drop(server.sender);
    let error = soon(receiver.next()).await.expect_err("it may come again");
    assert_eq!(error.code(), ErrorCode::Storage);
    assert_eq!(soon(receiver.next()).await.expect("over"), None);
}

#[tokio::test]
async fn a_refusal_and_a_loss_are_errors_and_nothing_follows() {
    let (mut receiver, server) = both();
    let refusal = RemoteError::new(ErrorCode::Usage, "--keep and --wait exclude each other");
    let mut sender = server.sender;
    sender.send(ToClient::Delivery(Delivery::Refused(refusal))).await.expect("there is room");
    let error = soon(receiver.next()).await.expect_err("it is refused");
    assert_eq!(error.code(), ErrorCode::Usage);
    assert_eq!(soon(receiver.next()).await.expect("over"), None);

    let (mut receiver, server) = both();
    drop(server);
    assert!(matches!(soon(receiver.next()).await, Err(RequestError::Lost)));
    assert_eq!(soon(receiver.next()).await.expect("over"), None);
}

#[tokio::test]
async fn a_dropped_call_loses_no_records() {
    let (mut receiver, mut server) = both();
    for _ in 0..3 {
        assert!(receiver.next().now_or_never().is_none());
    }
    server.sender.send(delivery(1, 0..1)).await.expect("there is room");
    assert_eq!(next_number(&mut receiver).await, 1);
}
