use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sortie_actors::data::exchange::{self, ServerEnd};
use sortie_model::spec::WindowSize;
use sortie_wire::terminal_items::{TerminalItem, TerminalItems};
use sortie_wire::{ErrorCode, RemoteError};

use super::*;
use crate::receiver::tests::soon;

async fn piece(server: &mut ServerEnd) -> Option<(Bytes, bool)> {
    match soon(server.receiver.next()).await.expect("the client sends what can be read")? {
        ToServer::Input { bytes, last } => Some((bytes, last)),
        other => panic!("input, not {other:?}"),
    }
}

#[tokio::test]
async fn input_arrives_as_it_was_sent_and_is_finished_when_it_is_stored() {
    let (client, mut server) = exchange::local();
    let sent = Bytes::from(vec![7; limits::RECORD_BYTES * 3 + 1]);
    let expected = sent.clone();
    let node = tokio::spawn(async move {
        let mut stored = Vec::new();
        while let Some((bytes, last)) = piece(&mut server).await {
            stored.extend_from_slice(&bytes);
            if last {
                break;
            }
        }
        server.sender.finish_with(Answer::InputStored).await.expect("the client waits");
        stored
    });
    let mut sender = InputSender::new(client);
    soon(sender.send(sent)).await.expect("there is room");
    soon(sender.finish()).await.expect("it is stored");
    assert_eq!(soon(node).await.expect("the node ends"), expected);
}

#[tokio::test]
async fn a_sender_that_is_dropped_never_says_last() {
    let (client, mut server) = exchange::local();
    let mut sender = InputSender::new(client);
    soon(sender.send(Bytes::from_static(b"half"))).await.expect("there is room");
    drop(sender);
    assert_eq!(piece(&mut server).await, Some((Bytes::from_static(b"half"), false)));
    assert_eq!(piece(&mut server).await, None);
}

#[tokio::test]
async fn a_job_that_takes_no_more_input_says_so_and_a_refusal_says_why() {
    let (client, server) = exchange::local();
    server.sender.finish_with(Answer::InputStored).await.expect("there is room");
    drop(server.receiver);
    let mut sender = InputSender::new(client);
    let closed = soon(sender.send(Bytes::from_static(b"x"))).await;
    assert!(matches!(closed, Err(RequestError::InputClosed)));

    let (client, server) = exchange::local();
    let full = RemoteError::new(ErrorCode::Limit, "the input store is full");
    server.sender.finish_with(Answer::Refused(full)).await.expect("there is room");
    drop(server.receiver);
    let error = soon(InputSender::new(client).finish()).await.expect_err("it is refused");
    assert_eq!(error.code(), ErrorCode::Limit);
}

#[tokio::test]
async fn finishing_after_everybody_stopped_reading_is_no_error() {
    let (client, server) = exchange::local();
    server.sender.finish_with(Answer::InputStored).await.expect("there is room");
    drop(server.receiver);
    soon(ItemSender::new(client).finish()).await.expect("nothing was lost");
}

#[tokio::test]
async fn a_repeated_start_whose_job_has_its_input_needs_none() {
    let (client, server) = exchange::local();
    drop(server);
    let mut sender = InputSender::new(client);
    let error = soon(sender.send(Bytes::from_static(b"x"))).await.expect_err("not wanted");
    assert!(matches!(error, RequestError::InputClosed));
    let (client, server) = exchange::local();
    drop(server);
    soon(InputSender::new(client).finish()).await.expect("the job has its input");
}

#[tokio::test]
async fn items_arrive_whole_and_in_order() {
    let (client, mut server) = exchange::local();
    let node = tokio::spawn(async move {
        let mut items = Vec::new();
        while let Some((mut bytes, last)) = piece(&mut server).await {
            while let Some(item) = map_items::take(&mut bytes).expect("whole items") {
                items.push(item);
            }
            if last {
                break;
            }
        }
        server.sender.finish_with(Answer::InputStored).await.expect("the client waits");
        items
    });
    let expected: Vec<_> = (0..1000).map(|n| Bytes::from(vec![b'x'; n])).collect();
    let mut sender = ItemSender::new(client);
    for item in &expected {
        soon(sender.send(item)).await.expect("there is room");
    }
    soon(sender.finish()).await.expect("all are stored");
    assert_eq!(soon(node).await.expect("the node ends"), expected);
}

#[tokio::test]
async fn items_are_taken_only_as_the_node_makes_room() {
    let (client, mut server) = exchange::local();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let feeding = tokio::spawn(async move {
        let mut sender = ItemSender::new(client);
        for _ in 0..100_000 {
            count.fetch_add(1, Ordering::Relaxed);
            sender.send(b"item").await?;
        }
        sender.finish().await
    });
    // The sender is at a standstill once nothing changes between two looks of ours that both let it
    // run as far as it can.
    let mut before = usize::MAX;
    while before != taken.load(Ordering::Relaxed) {
        before = taken.load(Ordering::Relaxed);
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }
    assert!((1..=limits::MAP_READ_AHEAD).contains(&before), "{before}");
    assert!(piece(&mut server).await.is_some());
    drop(server);
    assert!(soon(feeding).await.expect("it ends").is_err());
}

#[tokio::test]
async fn an_item_past_the_limit_is_refused_here() {
    let (client, _server) = exchange::local();
    let mut sender = ItemSender::new(client);
    let long = vec![0; limits::VALUE_BYTES + 1];
    let error = soon(sender.send(&long)).await.expect_err("it is too long");
    assert!(matches!(error, RequestError::Misused(Misuse::ItemTooLong)));
}

#[tokio::test]
async fn keys_and_sizes_of_a_terminal_travel_in_their_order() {
    let (client, mut server) = exchange::local();
    let mut sender = TerminalSender::new(client);
    let size = WindowSize { rows: 1, columns: 2, width: 3, height: 4 };
    soon(sender.keys(Bytes::from_static(b"ls"))).await.expect("there is room");
    soon(sender.resize(size)).await.expect("there is room");
    soon(sender.keys(Bytes::new())).await.expect("no keys are nothing to send");
    drop(sender);
    let mut items = TerminalItems::default();
    let mut come = Vec::new();
    while let Some((mut bytes, last)) = piece(&mut server).await {
        assert!(!last);
        while let Some(item) = items.take(&mut bytes).expect("whole items") {
            come.push(item);
        }
    }
    let keys = TerminalItem::Keys(Bytes::from_static(b"ls"));
    assert_eq!(come, [keys, TerminalItem::Size(size)]);
}
