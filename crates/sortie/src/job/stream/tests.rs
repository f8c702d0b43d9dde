use futures_util::FutureExt;
use sortie_actors::data::exchange::{self, ServerEnd, ToClient};
use sortie_model::{Deadlock, EntryId, Question, QuestionNumber, Reason, Timestamp};
use sortie_wire::session_proto::{Delivery, Entries};

use super::*;
use crate::receiver::tests::{acknowledged, delivery, soon, the_end};

fn stream(memory: &Arc<Memory>) -> (JobStream, ServerEnd) {
    let (client, server) = exchange::local();
    let receiver = Receiver::new(client);
    (JobStream::new(Arc::clone(memory), memory.take_stash(), async { Ok(receiver) }), server)
}

async fn next_seq(stream: &mut JobStream) -> Option<u64> {
    let item = soon(stream.next()).await?;
    Some(item.expect("nothing fails").record.seq.0)
}

#[tokio::test]
async fn a_record_is_acknowledged_when_the_next_one_is_polled() {
    let (mut stream, mut server) = stream(&Arc::default());
    server.sender.send(delivery(1, 0..2)).await.expect("there is room");
    assert_eq!(next_seq(&mut stream).await, Some(0));
    assert_eq!(next_seq(&mut stream).await, Some(1));
    assert!(server.receiver.next().now_or_never().is_none(), "the last one is still in use");
    assert!(stream.next().now_or_never().is_none(), "there is nothing more yet");
    assert_eq!(acknowledged(&mut server.receiver).await, Some(1));
}

#[tokio::test]
async fn a_stream_ends_with_its_job_and_confirms_everything() {
    let (mut stream, mut server) = stream(&Arc::default());
    server.sender.send(delivery(1, 0..1)).await.expect("there is room");
    server.sender.send(the_end()).await.expect("there is room");
    drop(server.sender);
    assert_eq!(next_seq(&mut stream).await, Some(0));
    assert_eq!(next_seq(&mut stream).await, None);
    assert_eq!(acknowledged(&mut server.receiver).await, Some(1));
    assert_eq!(next_seq(&mut stream).await, None);
}

#[tokio::test]
async fn what_a_dropped_stream_handed_out_is_not_seen_again() {
    let memory = Arc::default();
    let (mut first, mut server) = stream(&memory);
    server.sender.send(delivery(1, 0..3)).await.expect("there is room");
    assert_eq!(next_seq(&mut first).await, Some(0));
    assert_eq!(next_seq(&mut first).await, Some(1));
    drop(first);
    assert_eq!(acknowledged(&mut server.receiver).await, None, "nothing was acknowledged");

    // So the node offers all of it again.
    let (mut second, mut server) = stream(&memory);
    server.sender.send(delivery(1, 0..4)).await.expect("there is room");
    server.sender.send(the_end()).await.expect("there is room");
    drop(server.sender);
    assert_eq!(next_seq(&mut second).await, Some(2));
    assert_eq!(next_seq(&mut second).await, Some(3));
    assert_eq!(next_seq(&mut second).await, None);
    assert_eq!(acknowledged(&mut server.receiver).await, Some(1));
}

#[tokio::test]
async fn a_lost_node_is_the_last_item() {
    let (mut stream, mut server) = stream(&Arc::default());
    server.sender.send(delivery(1, 0..1)).await.expect("there is room");
    drop(server);
    assert_eq!(next_seq(&mut stream).await, Some(0));
    let error = soon(stream.next()).await.expect("an item").expect_err("an error");
    assert!(matches!(error, RequestError::Lost));
    assert!(soon(stream.next()).await.is_none());
}

#[tokio::test]
async fn a_blocked_job_ends_its_stream_with_an_error() {
    let (mut stream, mut server) = stream(&Arc::default());
    let question =
        Question { number: QuestionNumber(1), prompt: "your name?".to_owned(), time: Timestamp(0) };
    let deadlock = Deadlock { blocked: EntryId(1), asks: Some((EntryId(2), question)) };
    let (failures, entries, deadlock) = (Vec::new(), Entries::default(), Some(deadlock));
    let end = Delivery::End { failures, entries, deadlock };
    server.sender.send(ToClient::Delivery(end)).await.expect("there is room");
    drop(server.sender);
    let error = soon(stream.next()).await.expect("an item").expect_err("an error");
    assert_eq!(error.to_string(), "1 is blocked: 2 asks: your name?");
}

#[tokio::test]
async fn values_are_decoded_and_a_failed_child_is_an_error_at_the_end() {
    let (records, mut server) = stream(&Arc::default());
    server.sender.send(delivery(1, 5..7)).await.expect("there is room");
    let failure = Failure {
        child: EntryId(2),
        location: "a".to_owned(),
        reason: Reason::Panic { message: "no".to_owned() },
        exit_code: None,
    };
    let (failures, entries) = (vec![failure.clone()], Entries::default());
    let end = Delivery::End { failures, entries, deadlock: None };
    server.sender.send(ToClient::Delivery(end)).await.expect("there is room");
    drop(server.sender);

    let mut values = Values::<u64>::new(records);
    assert_eq!(soon(values.next()).await.expect("an item").expect("a value"), 5);
    assert_eq!(soon(values.next()).await.expect("an item").expect("a value"), 6);
    let error = soon(values.next()).await.expect("an item").expect_err("a failure");
    assert_eq!(error.reason(), Some(&failure.reason));
    assert_eq!(error.to_string(), "child 2 failed: panicked: no");
    assert!(soon(values.next()).await.is_none());
}

#[tokio::test]
async fn a_value_of_another_type_is_an_error_and_the_next_one_comes() {
    let (records, mut server) = stream(&Arc::default());
    server.sender.send(delivery(1, 5..6)).await.expect("there is room");
    server.sender.send(the_end()).await.expect("there is room");
    drop(server.sender);
    let mut values = Values::<String>::new(records);
    let error = soon(values.next()).await.expect("an item").expect_err("no text");
    assert!(matches!(error, ValueError::Shape(_)));
    assert!(soon(values.next()).await.is_none());
}
