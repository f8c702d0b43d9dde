//! What a link promises, whatever carries it: every test runs over QUIC and in memory.

use std::time::Duration;

use bytes::Bytes;
use sortie_model::{Incarnation, limits};
use sortie_wire::codec::TooLarge;
use sortie_wire::frame::open_head;
use sortie_wire::host_proto::InputPiece;
use sortie_wire::link_proto::{Heartbeat, MemberUpdate};
use sortie_wire::session_proto::{Acknowledged, Answer};
use sortie_wire::version::SPOKEN;
use sortie_wire::{Message, frame};

use super::*;
use crate::{CloseCode, CloseReason, SendError, Side, StreamCode, StreamError};

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod over_quic {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Carrier::Quic).await; })+
        }
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Carrier::Memory).await; })+
        }
    };
}

on_both! {
    both_ends_know_each_other_from_their_certificates,
    arrivals_end_with_their_endpoint,
    control_messages_arrive_in_order,
    frames_with_payload_arrive_as_they_were_sent,
    a_request_is_answered_on_its_own_stream,
    finish_is_an_end_and_drop_is_a_reset,
    a_stopped_stream_tells_its_sender,
    a_stalled_stream_holds_its_sender_and_nobody_else,
    four_thousand_streams_are_open_at_once,
    streams_that_nobody_takes_are_bounded,
    control_frames_pile_up_only_so_far,
    closing_says_why_on_both_ends,
    dropping_every_handle_closes_the_link,
    silence_counts_control_frames_only,
    a_forbidden_frame_closes_the_link,
    a_dropped_send_ends_its_stream,
    a_closed_endpoint_turns_dials_away,
    a_node_that_is_not_meant_is_not_dialled,
    a_message_too_large_is_an_error_and_no_more,
}

async fn both_ends_know_each_other_from_their_certificates(carrier: Carrier) {
    let ends = linked(carrier).await;
    let [a, b] = &ends._members;
    assert_eq!(*ends.here.peer(), Peer::Node { id: b.id, name: name("b") });
    assert_eq!(*ends.there.peer(), Peer::Node { id: a.id, name: name("a") });
    for (link, dialled) in [(&ends.here, Side::Here), (&ends.there, Side::There)] {
        let facts = link.facts();
        assert_eq!(facts.incarnation, Incarnation(7));
        assert_eq!(facts.program, "0.1.0-test");
        assert_eq!(facts.version, SPOKEN.max);
        assert!(facts.clock_skew.abs() < 10_000_000);
        assert_eq!(facts.dialled, dialled);
    }
    assert_eq!(ends.there.facts().address.as_deref(), Some("test.example:7070"));
    assert_ne!(ends.here.id(), ends.there.id());
}

async fn arrivals_end_with_their_endpoint(carrier: Carrier) {
    let mut member = Cluster::new(carrier).member("a");
    assert!(member.endpoint.dial("nowhere", Expect::AnyNode, SOON).await.is_err());
    member.endpoint.close("").await;
    drop(member.endpoint);
    assert!(soon("the end of arrivals", member.arrivals.next()).await.is_none());
}

async fn control_messages_arrive_in_order(carrier: Carrier) {
    let mut ends = linked(carrier).await;
    let count = 20_000;
    for number in 0..count {
        ends.here.send(&Heartbeat { number, heard: 0 }).expect("room in the queue");
    }
    for number in 0..count {
        let frame = soon("a control message", ends.there_control.next()).await.expect("a frame");
        assert_eq!(frame.open::<Heartbeat>(), Ok(Heartbeat { number, heard: 0 }));
    }
    ends.there.send(&Heartbeat { number: 5, heard: 0 }).expect("room in the queue");
    let back = soon("an answer", ends.here_control.next()).await.expect("a frame");
    assert_eq!(back.open::<Heartbeat>(), Ok(Heartbeat { number: 5, heard: 0 }));
}

async fn frames_with_payload_arrive_as_they_were_sent(carrier: Carrier) {
    let ends = linked(carrier).await;
    let mut sender = ends.here.open_uni(0).await.expect("a stream");
    let sizes = [0, 1, 100, 4_095, 4_096, 70_000, 1 << 20, 3 << 20, 9 << 20];
    let pattern = |size: usize| (0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    let sending = tokio::spawn(async move {
        for size in sizes {
            let bytes = Bytes::from(pattern(size));
            let payload = vec![bytes.slice(..size / 3), bytes.slice(size / 3..)];
            sender.send_with_payload(&piece(size as u64), payload).await.expect("sent");
            sender.send(&piece(0)).await.expect("sent");
        }
        let mut two = Vec::new();
        frame::write_message(&piece(1), &mut two).expect("small");
        frame::write_message(&piece(2), &mut two).expect("small");
        sender.send_raw(two).await.expect("sent");
        sender.finish().expect("unfinished before")
    });
    let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    for size in sizes {
        let frame = soon("a frame", receiver.next()).await.expect("whole").expect("not the end");
        let (head, payload) = open_head::<InputPiece>(frame).expect("a piece");
        assert_eq!(head, piece(size as u64));
        assert!(payload == pattern(size), "{size} bytes");
        let small = soon("a frame", receiver.next()).await.expect("whole").expect("not the end");
        assert_eq!(small.open(), Ok(piece(0)));
    }
    for offset in [1, 2] {
        let small = soon("a frame", receiver.next()).await.expect("whole").expect("not the end");
        assert_eq!(small.open(), Ok(piece(offset)));
    }
    assert_eq!(soon("the end", receiver.next()).await, Ok(None));
    let mut finished = sending.await.expect("no panic");
    assert_eq!(soon("delivery", finished.delivered()).await, Ok(()));
}

async fn a_request_is_answered_on_its_own_stream(carrier: Carrier) {
    let cluster = Cluster::new(carrier);
    let mut node = cluster.member("a");
    let client = cluster.client(cluster.user_identity("eve"));
    let expect = Expect::Node(node.id);
    let (link, _control) = client.dial(&node.address, expect, SOON).await.expect("a link");
    let (serving, _serving_control) = node.arrival().await;
    assert!(matches!(serving.peer(), Peer::User { name, .. } if name == "eve"));

    let (mut ask, mut answers) = link.open_bi().await.expect("a stream");
    ask.send(&Acknowledged { number: 3 }).await.expect("sent");
    let (mut answer, mut asked) = soon("a request", serving.accept_bi()).await.expect("a stream");
    let request = soon("a request", asked.next()).await.expect("whole").expect("a frame");
    assert_eq!(request.open(), Ok(Acknowledged { number: 3 }));
    answer.send(&Answer::Done).await.expect("sent");
    let frame = soon("an answer", answers.next()).await.expect("whole").expect("a frame");
    assert_eq!(frame.open(), Ok(Answer::Done));
    answer.finish().expect("unfinished before");
    assert_eq!(soon("the end", answers.next()).await, Ok(None));
}

async fn finish_is_an_end_and_drop_is_a_reset(carrier: Carrier) {
    let ends = linked(carrier).await;
    let mut finished = ends.here.open_uni(0).await.expect("a stream");
    finished.send(&piece(1)).await.expect("sent");
    finished.finish().expect("unfinished before");
    let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    assert!(matches!(soon("a frame", receiver.next()).await, Ok(Some(_))));
    assert_eq!(soon("the end", receiver.next()).await, Ok(None));

    let mut dropped = ends.here.open_uni(0).await.expect("a stream");
    dropped.send(&piece(1)).await.expect("sent");
    let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    assert!(matches!(soon("a frame", receiver.next()).await, Ok(Some(_))));
    drop(dropped);
    let end = soon("the reset", receiver.next()).await;
    assert_eq!(end, Err(StreamError::Reset(StreamCode::DROPPED)));

    let mut reset = ends.here.open_uni(0).await.expect("a stream");
    reset.send(&piece(1)).await.expect("sent");
    let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    reset.reset(StreamCode::NO_SESSION);
    let end = soon("the reset", async {
        loop {
            match receiver.next().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        }
    });
    assert_eq!(end.await, Err(StreamError::Reset(StreamCode::NO_SESSION)));

    let mut torn = ends.here.open_uni(0).await.expect("a stream");
    let mut bytes = Vec::new();
    frame::write_message(&piece(1), &mut bytes).expect("small");
    bytes.pop();
    torn.send_raw(bytes).await.expect("sent");
    torn.finish().expect("unfinished before");
    let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    assert_eq!(soon("the end", receiver.next()).await, Err(StreamError::Truncated));
    assert!(!ends.there.is_closed());
}

async fn a_stopped_stream_tells_its_sender(carrier: Carrier) {
    let ends = linked(carrier).await;
    for word in [Some(StreamCode::ABANDONED), None] {
        let mut sender = ends.here.open_uni(0).await.expect("a stream");
        sender.send(&piece(1)).await.expect("sent");
        let receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
        match word {
            Some(code) => receiver.stop(code),
            None => drop(receiver),
        }
        let stopped = soon("the stop", async {
            loop {
                match sender.send(&piece(2)).await {
                    Ok(()) => tokio::task::yield_now().await,
                    Err(error) => break error,
                }
            }
        });
        let code = word.unwrap_or(StreamCode::DROPPED);
        assert_eq!(stopped.await, StreamError::Stopped(code));
    }
}

async fn a_stalled_stream_holds_its_sender_and_nobody_else(carrier: Carrier) {
    let mut ends = linked(carrier).await;
    let mut bulk = ends.here.open_uni(-1).await.expect("a stream");
    let chunk = Bytes::from(vec![7; 256 << 10]);
    let (progress, mut sent) = tokio::sync::watch::channel(0_usize);
    let sending = tokio::spawn(async move {
        for _ in 0..256 {
            bulk.send_with_payload(&piece(0), vec![chunk.clone()]).await.expect("sent");
            progress.send_modify(|sent| *sent += chunk.len());
        }
        bulk.finish().expect("unfinished before");
    });
    let mut stalled = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    // 64 MiB are offered, and nobody reads: the window fills and the sender stops.
    let least = limits::STREAM_WINDOW_BYTES as usize / 2;
    soon("a full window", sent.wait_for(|sent| *sent > least)).await.expect("still sending");
    for number in 0..100 {
        ends.here.send(&Heartbeat { number, heard: 0 }).expect("room in the queue");
        let frame = soon("a heartbeat", ends.there_control.next()).await.expect("a frame");
        assert_eq!(frame.kind, Heartbeat::KIND);
    }
    let mut other = ends.here.open_uni(0).await.expect("a stream");
    other.send_with_payload(&piece(9), vec![vec![1; 1 << 20].into()]).await.expect("sent");
    let mut quick = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    assert!(matches!(soon("the other", quick.next()).await, Ok(Some(_))));
    let held = *sent.borrow();
    assert!(held <= 2 * limits::STREAM_WINDOW_BYTES as usize, "{held} bytes left unread");
    assert!(!sending.is_finished());

    let mut received = 0;
    while let Some(frame) = soon("a frame", stalled.next()).await.expect("whole") {
        received += frame.body.len() - 4 - 2;
    }
    assert_eq!(received, 64 << 20);
    sending.await.expect("no panic");
}

async fn four_thousand_streams_are_open_at_once(carrier: Carrier) {
    let ends = linked(carrier).await;
    let count = u64::from(limits::STREAMS_PER_LINK);
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for offset in 0..count {
        let mut sender = soon("a stream", ends.here.open_uni(0)).await.expect("a stream");
        soon("a send", sender.send(&piece(offset))).await.expect("sent");
        senders.push(sender);
        let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
        assert!(matches!(soon("a frame", receiver.next()).await, Ok(Some(_))));
        receivers.push(receiver);
    }
    let one_more = tokio::time::timeout(Duration::from_millis(50), ends.here.open_uni(0)).await;
    assert!(one_more.is_err(), "one stream more than allowed");
    for sender in senders {
        sender.finish().expect("unfinished before");
    }
    for mut receiver in receivers {
        assert_eq!(soon("the end", receiver.next()).await, Ok(None));
    }
    let mut again = soon("a freed place", ends.here.open_uni(0)).await.expect("a stream");
    again.send(&piece(0)).await.expect("sent");
}

async fn streams_that_nobody_takes_are_bounded(carrier: Carrier) {
    let ends = linked(carrier).await;
    let mut senders = Vec::new();
    let opening = async {
        loop {
            let mut sender = ends.here.open_uni(0).await.expect("a stream");
            sender.send(&piece(0)).await.expect("sent");
            senders.push(sender);
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), opening).await.is_err());
    assert!(senders.len() <= limits::STREAMS_PER_LINK as usize, "{}", senders.len());
    assert!(senders.len() >= limits::STREAMS_AT_FIRST as usize, "{}", senders.len());
    // Taking them lets the sender go on, once it gives up those that were not wanted.
    drop(senders);
    let taking = async {
        while let Ok(receiver) = ends.there.accept_uni().await {
            drop(receiver);
        }
    };
    let opening = async {
        for _ in 0..2 * limits::STREAMS_PER_LINK {
            let mut sender = ends.here.open_uni(0).await.expect("a stream");
            // It may have been stopped already, which is as good.
            let _ = sender.send(&piece(0)).await;
        }
    };
    tokio::select! {
        () = taking => panic!("the link is down"),
        () = soon("many streams", opening) => {}
    }
}

async fn control_frames_pile_up_only_so_far(carrier: Carrier) {
    let ends = linked(carrier).await;
    let large = MemberUpdate { address: "x".repeat(1 << 20), labels: vec![], roster_version: 0 };
    // Nobody reads at the other end: its window fills, then the queue.
    let refused = soon("a full queue", async {
        loop {
            if let Err(error) = ends.here.send(&large) {
                break error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(refused.await, SendError::TooSlow);
    let why = soon("the close", ends.here.closed()).await;
    assert!(matches!(why, CloseReason::Here { code: CloseCode::TOO_SLOW, .. }), "{why}");
    assert!(matches!(ends.here.send(&large), Err(SendError::Closed(_))));
}

async fn closing_says_why_on_both_ends(carrier: Carrier) {
    let mut ends = linked(carrier).await;
    let mut receiver = {
        let mut sender = ends.here.open_uni(0).await.expect("a stream");
        sender.send(&piece(1)).await.expect("sent");
        let receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
        ends.here.close(CloseCode::REPLACED, "by link 9");
        let fault = soon("the failure", sender.send(&piece(2))).await;
        assert!(matches!(fault, Err(StreamError::Closed(CloseReason::Here { .. }))), "{fault:?}");
        receiver
    };
    ends.here.close(CloseCode::DONE, "a second close does not count");
    let here = soon("the close", ends.here.closed()).await;
    assert_eq!(here, CloseReason::Here { code: CloseCode::REPLACED, text: "by link 9".into() });
    let there = soon("the close", ends.there.closed()).await;
    assert_eq!(there, CloseReason::There { code: CloseCode::REPLACED, text: "by link 9".into() });
    assert_eq!(soon("the end", ends.there_control.next()).await, None);
    let _ = soon("what was there", receiver.next()).await;
    let fault = soon("the failure", receiver.next()).await;
    assert!(matches!(fault, Err(StreamError::Closed(CloseReason::There { .. }))), "{fault:?}");
    assert!(matches!(ends.there.open_uni(0).await, Err(CloseReason::There { .. })));
}

async fn dropping_every_handle_closes_the_link(carrier: Carrier) {
    let Ends { here, here_control, there, there_control: _control, _members } =
        linked(carrier).await;
    let stream = here.open_uni(0).await.expect("a stream");
    drop(here);
    drop(here_control);
    assert!(!there.is_closed());
    drop(stream);
    let why = soon("the close", there.closed()).await;
    assert!(matches!(why, CloseReason::There { code: CloseCode::DONE, .. }), "{why}");
}

async fn silence_counts_control_frames_only(carrier: Carrier) {
    let mut ends = linked(carrier).await;
    until("some silence", || ends.there.silence() > Duration::from_millis(50)).await;
    let mut sender = ends.here.open_uni(0).await.expect("a stream");
    sender.send(&piece(1)).await.expect("sent");
    let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    assert!(matches!(soon("a frame", receiver.next()).await, Ok(Some(_))));
    let before = ends.there.silence();
    assert!(before > Duration::from_millis(50));
    ends.here.send(&Heartbeat { number: 1, heard: 0 }).expect("room in the queue");
    soon("a heartbeat", ends.there_control.next()).await.expect("a frame");
    assert!(ends.there.silence() < before);
}

async fn a_forbidden_frame_closes_the_link(carrier: Carrier) {
    // A heartbeat belongs on the control stream.
    let ends = linked(carrier).await;
    let mut sender = ends.here.open_uni(0).await.expect("a stream");
    sender.send(&Heartbeat { number: 1, heard: 0 }).await.expect("sent");
    let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    let fault = soon("the refusal", receiver.next()).await;
    assert!(matches!(fault, Err(StreamError::Protocol(_))), "{fault:?}");
    let why = soon("the close", ends.here.closed()).await;
    assert!(matches!(why, CloseReason::There { code: CloseCode::FORBIDDEN, .. }), "{why}");

    // A user's certificate does not speak the host protocol.
    let cluster = Cluster::new(carrier);
    let mut node = cluster.member("a");
    let client = cluster.client(cluster.user_identity("eve"));
    let dialled = client.dial(&node.address, Expect::AnyNode, SOON).await;
    let (link, _control) = dialled.expect("a link");
    let (serving, mut serving_control) = node.arrival().await;
    let update = MemberUpdate { address: String::new(), labels: vec![], roster_version: 1 };
    link.send(&update).expect("room in the queue");
    assert_eq!(soon("the refusal", serving_control.next()).await, None);
    let why = soon("the close", serving.closed()).await;
    assert!(matches!(why, CloseReason::Here { code: CloseCode::FORBIDDEN, .. }), "{why}");
    let why = soon("the close", link.closed()).await;
    assert!(matches!(why, CloseReason::There { code: CloseCode::FORBIDDEN, .. }), "{why}");
}

async fn a_dropped_send_ends_its_stream(carrier: Carrier) {
    let ends = linked(carrier).await;
    let mut sender = ends.here.open_uni(0).await.expect("a stream");
    let large = Bytes::from(vec![1; 12 << 20]);
    let head = piece(0);
    let sending = sender.send_with_payload(&head, vec![large]);
    assert!(tokio::time::timeout(Duration::from_millis(50), sending).await.is_err());
    assert_eq!(sender.send(&piece(1)).await, Err(StreamError::Ended));
    let mut receiver = soon("a stream", ends.there.accept_uni()).await.expect("a stream");
    assert!(matches!(sender.finish(), Err(StreamError::Ended)));
    let end = soon("the reset", receiver.next()).await;
    assert_eq!(end, Err(StreamError::Reset(StreamCode::DROPPED)));
}

async fn a_closed_endpoint_turns_dials_away(carrier: Carrier) {
    let cluster = Cluster::new(carrier);
    let (a, mut b) = (cluster.member("a"), cluster.member("b"));
    let (link, _control) = a.dial(&b).await.expect("a link");
    let (_serving, _serving_control) = b.arrival().await;
    soon("the end", b.endpoint.close("for the night")).await;
    let why = soon("the close", link.closed()).await;
    let text = "for the night".to_owned();
    assert_eq!(why, CloseReason::There { code: CloseCode::SHUTDOWN, text });
    let short = Duration::from_millis(500);
    let again = a.endpoint.dial(&b.address, Expect::Node(b.id), short).await;
    assert!(again.is_err(), "{again:?}");
    let from_closed = b.dial(&a).await;
    assert!(matches!(from_closed, Err(DialError::Closing { .. })));
}

async fn a_node_that_is_not_meant_is_not_dialled(carrier: Carrier) {
    let cluster = Cluster::new(carrier);
    let (a, b, c) = (cluster.member("a"), cluster.member("b"), cluster.member("c"));
    let dialled = a.endpoint.dial(&b.address, Expect::Node(c.id), SOON).await;
    let error = dialled.expect_err("another node");
    assert_eq!(error.step(), sortie_model::reason::ReachStep::Authenticate);
    assert!(error.to_string().contains("not the node that was meant"), "{error}");
    assert!(a.endpoint.dial(&b.address, Expect::AnyNode, SOON).await.is_ok());
}

async fn a_message_too_large_is_an_error_and_no_more(carrier: Carrier) {
    let mut ends = linked(carrier).await;
    let large = MemberUpdate {
        address: "x".repeat(limits::FRAME_BYTES),
        labels: vec![],
        roster_version: 0,
    };
    assert_eq!(ends.here.send(&large), Err(SendError::TooLarge(TooLarge)));
    let mut sender = ends.here.open_uni(0).await.expect("a stream");
    let payload = vec![Bytes::from(vec![0; limits::FRAME_BYTES])];
    let refused = sender.send_with_payload(&piece(0), payload).await;
    assert_eq!(refused, Err(StreamError::TooLarge(TooLarge)));
    sender.send(&piece(1)).await.expect("sent");
    ends.here.send(&Heartbeat { number: 1, heard: 0 }).expect("room in the queue");
    assert!(soon("a heartbeat", ends.there_control.next()).await.is_some());
}
