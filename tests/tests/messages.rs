//! Messages to running children: in order, once, bounded, and always with an answer.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie::testkit::{Clients, ClusterBuilder, cluster};
use sortie::{
    Arrived, CallError, Child, Client, EmitError, ErrorCode, HomePaths, Job, Node, Ordinal,
    RestartType, SendError, Session, State, TaskContext, limits,
};
use sortie_tests::{PATIENCE, dropped_after, soon};
use tokio::sync::Semaphore;

/// What is sent to a desk.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Letter {
    /// The desk emits it.
    Note(u32),
    /// The desk answers with twice the number.
    Double(u64),
    /// The desk lets go of it.
    Ignore,
    /// The desk reads nothing until the test lets it.
    Hold,
    /// The desk reads nothing any more.
    Stay,
    Panic,
    End,
}

/// Lets desks go on that were told to hold.
static GO_ON: Semaphore = Semaphore::const_new(0);

async fn work(context: TaskContext, (): ()) -> Result<(), EmitError> {
    let mut inbox = context.inbox::<Letter>().expect("it is the first time");
    assert!(context.inbox::<Letter>().is_err(), "an inbox is opened once");
    while let Some(letter) = inbox.next().await {
        match letter.value {
            Letter::Note(number) => context.emit(&number).await?,
            Letter::Double(number) => letter.call.reply(&(2 * number)).expect("it is small"),
            Letter::Ignore => {}
            Letter::Hold => {
                letter.call.reply(&0).expect("it is small");
                GO_ON.acquire().await.expect("it is never closed").forget();
            }
            Letter::Stay => {
                letter.call.reply(&0).expect("it is small");
                std::future::pending().await
            }
            Letter::Panic => std::panic::panic_any("on purpose"),
            Letter::End => return Ok(()),
        }
    }
    context.emit(&u32::MAX).await
}

#[sortie::task]
async fn desk(context: TaskContext, (): ()) -> Result<(), EmitError> {
    work(context, ()).await
}

/// Ends when it is told to, and never opens its inbox.
#[sortie::task]
async fn deaf(context: TaskContext, (): ()) -> Result<(), Infallible> {
    context.cancelled().await;
    Ok(())
}

/// A node with a home and one beside it, and the session of the first: from within its process, and
/// over a link.
struct House {
    sessions: [Session; 2],
    _home: tempfile::TempDir,
}

impl House {
    async fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let paths = HomePaths::within(home.path());
        let a = Node::builder("a").without_processes().home(paths.clone()).register(desk);
        let a = a.register(deaf).start().await.expect("a node");
        let b = Node::builder("b").without_processes().register(desk).register(deaf);
        b.join(&a).start().await.expect("a node");
        let client = Client::connect_home(&paths, PATIENCE).await.expect("a client");
        Self { sessions: [a.session(), client.session()], _home: home }
    }
}

async fn desks(session: &Session, on: &str) -> (Job, Child) {
    let job = session.run(desk, ()).on(on).expect("nodes").start().await.expect("a start").typed();
    let child = job.child(Ordinal(0));
    (job, child)
}

async fn values(job: &Job) -> Vec<u32> {
    let values = job.values::<u32>();
    let mut values = std::pin::pin!(values);
    let mut all = Vec::new();
    while let Some(Ok(value)) = soon(values.next()).await {
        all.push(value);
    }
    all
}

async fn double(child: &Child, number: u64) -> Result<u64, CallError> {
    soon(child.call(&Letter::Double(number))).await
}

fn arrived_not(result: Result<(), SendError>) -> bool {
    matches!(result, Err(SendError::Ended { arrived: Arrived::No }))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_each_sender_come_in_its_order() {
    const NOTES: u32 = 300;
    let house = House::start().await;
    for (session, on) in
        house.sessions.iter().zip(["a", "b"]).chain(house.sessions.iter().zip(["b", "a"]))
    {
        let (job, child) = desks(session, on).await;
        let send = |child: Child, from: u32| async move {
            for number in 0..NOTES {
                soon(child.send(&Letter::Note(from + 2 * number))).await.expect("it is taken");
            }
        };
        let even = tokio::spawn(send(child.clone(), 0));
        send(job.child(Ordinal(0)), 1).await;
        even.await.expect("a sender");
        soon(child.send(&Letter::End)).await.expect("it is taken");
        let values = values(&job).await;
        assert_eq!(values.len(), 2 * NOTES as usize);
        for from in 0..2 {
            let of_one: Vec<u32> = values.iter().filter(|it| *it % 2 == from).copied().collect();
            assert!(of_one.is_sorted(), "{of_one:?}");
        }
        assert!(arrived_not(soon(child.send(&Letter::End)).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_or_fails_and_is_never_silent() {
    let house = House::start().await;
    for (session, on) in
        house.sessions.iter().zip(["a", "b"]).chain(house.sessions.iter().zip(["b", "a"]))
    {
        let (job, child) = desks(session, on).await;
        assert_eq!(double(&child, 21).await.expect("an answer"), 42);
        let ignored = soon(child.call::<_, u64>(&Letter::Ignore)).await;
        assert!(matches!(ignored, Err(CallError::Unanswered)), "{ignored:?}");
        let odd = soon(child.call::<_, u64>("no letter")).await;
        assert!(matches!(odd, Err(CallError::Unreadable)), "{odd:?}");
        let shape = soon(child.call::<_, String>(&Letter::Double(1))).await;
        assert!(matches!(shape, Err(CallError::Shape(_))), "{shape:?}");
        let long = "x".repeat(limits::MESSAGE_BYTES);
        assert!(matches!(soon(child.send(&long)).await, Err(SendError::Message(_))));
        // The call itself ends the child: with an answer that is none.
        let end = soon(child.call::<_, u64>(&Letter::End)).await;
        assert!(matches!(end, Err(CallError::Unanswered)), "{end:?}");
        soon(job.wait()).await.expect("an end");
        let (job, child) = desks(session, on).await;
        let panicked = soon(child.call::<_, u64>(&Letter::Panic)).await;
        assert!(matches!(panicked, Err(CallError::Unanswered)), "{panicked:?}");
        assert_eq!(soon(job.wait()).await.expect("an end").state, State::Failed);
        let late = double(&child, 1).await;
        let Err(CallError::Send(SendError::Ended { arrived: Arrived::No })) = late else {
            panic!("{late:?}")
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_lets_its_senders_wait_and_stops_nobody_else() {
    let house = House::start().await;
    for session in &house.sessions {
        let (stalled, child) = desks(session, "b").await;
        let (_, other) = desks(session, "b").await;
        assert_eq!(soon(child.call::<_, u64>(&Letter::Hold)).await.expect("it holds"), 0);
        for number in 0..limits::INBOX_MESSAGES as u32 {
            soon(child.send(&Letter::Note(number))).await.expect("there is room");
        }
        let number = limits::INBOX_MESSAGES as u32;
        let one_too_many = Letter::Note(number);
        let mut waiting = Box::pin(child.send(&one_too_many));
        assert!(dropped_after(1, &mut waiting).await.is_none(), "the inbox is full");
        // Each of these comes and goes over the same link.
        for number in 0..100 {
            assert_eq!(double(&other, number).await.expect("an answer"), 2 * number);
        }
        assert_eq!(soon(stalled.view()).await.expect("a view").state, State::Running);
        assert!(dropped_after(1, &mut waiting).await.is_none(), "the inbox is still full");
        GO_ON.add_permits(1);
        soon(waiting).await.expect("there is room");
        soon(child.send(&Letter::End)).await.expect("there is room");
        assert_eq!(values(&stalled).await, (0..=number).collect::<Vec<_>>());
        soon(session.child(other.job(), Ordinal(0)).send(&Letter::End)).await.expect("room");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_waits_for_the_start_and_a_stop_lets_the_child_read_to_the_end() {
    let house = House::start().await;
    for session in &house.sessions {
        let job: Job = session
            .map(desk, [(), ()])
            .throttle(1)
            .on("b")
            .expect("nodes")
            .start()
            .await
            .expect("a start")
            .typed();
        let (first, second) = (job.child(Ordinal(0)), job.child(Ordinal(1)));
        soon(first.send(&Letter::Note(1))).await.expect("it runs");
        let mut waiting = Box::pin(second.send(&Letter::Note(2)));
        assert!(dropped_after(1, &mut waiting).await.is_none(), "it does not run yet");
        soon(first.send(&Letter::End)).await.expect("it runs");
        soon(waiting).await.expect("it runs now");
        soon(job.stop()).await.expect("a stop");
        // The message was read, then came the end of the inbox.
        assert_eq!(values(&job).await, [1, 2, u32::MAX]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_never_opens_its_inbox_leaves_its_senders_waiting_until_it_ends() {
    let house = House::start().await;
    for session in &house.sessions {
        let job = session.run(deaf, ()).on("b").expect("nodes").start().await.expect("a start");
        let child = job.child(Ordinal(0));
        let mut waiting = Box::pin(child.send(&Letter::End));
        assert!(dropped_after(1, &mut waiting).await.is_none());
        let nobody = soon(job.child(Ordinal(7)).send(&Letter::End)).await;
        assert!(matches!(nobody, Err(SendError::Request(_))), "{nobody:?}");
        soon(job.stop()).await.expect("a stop");
        assert!(arrived_not(soon(waiting).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_sends_so_many_messages_at_once_and_other_requests_are_served() {
    const CHILDREN: u32 = 8;
    const SURPLUS: usize = 6;
    let house = House::start().await;
    let [_, session] = &house.sessions;
    let job = session.map(deaf, [(); CHILDREN as usize]).on("a,b").expect("nodes").start().await;
    let job = job.expect("a start");
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..limits::MESSAGES_PER_LINK + SURPLUS {
        // Each handle is a sender of its own.
        let child = job.child(Ordinal(number as u32 % CHILDREN));
        sends.spawn(async move { child.send(&Letter::End).await });
    }
    for _ in 0..SURPLUS {
        let refused = soon(sends.join_next()).await.expect("one more").expect("a sender");
        let Err(SendError::Request(error)) = refused else { panic!("{refused:?}") };
        assert_eq!((error.code(), error.is_retryable()), (ErrorCode::Limit, true));
    }
    assert_eq!(soon(job.view()).await.expect("a view").state, State::Running);
    soon(job.stop()).await.expect("a stop");
    while let Some(sent) = soon(sends.join_next()).await {
        assert!(arrived_not(sent.expect("a sender")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_incarnation_gets_what_comes_after_the_end_of_the_last() {
    let house = House::start().await;
    for session in &house.sessions {
        let job = session.run(desk, ()).on("b").expect("nodes").restart(RestartType::Transient);
        let job: Job = job.start().await.expect("a start").typed();
        let child = job.child(Ordinal(0));
        soon(child.send(&Letter::Note(1))).await.expect("it is taken");
        soon(child.send(&Letter::Panic)).await.expect("it is taken");
        // Whichever life takes it: both may be the one.
        while let Err(error) = double(&child, 1).await {
            assert_ne!(error.arrived(), Arrived::No, "{error}");
        }
        soon(child.send(&Letter::Note(2))).await.expect("it is taken");
        soon(child.send(&Letter::End)).await.expect("it is taken");
        assert_eq!(values(&job).await, [1, 2]);
        assert_eq!(soon(job.wait()).await.expect("an end").restarts, 1);
    }
}

/// Drops what `verb` gives at each await point in turn, until one comes to its end.
async fn at_every_point<F: Future>(mut verb: impl FnMut(u32) -> F) -> (u32, F::Output) {
    for polls in 0..10_000 {
        if let Some(output) = soon(dropped_after(polls as usize, verb(polls))).await {
            return (polls, output);
        }
    }
    panic!("it never ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_send_or_call_harms_nobody_and_comes_once_at_most() {
    let house = House::start().await;
    for (session, on) in
        house.sessions.iter().zip(["a", "b"]).chain(house.sessions.iter().zip(["b", "a"]))
    {
        let (job, child) = desks(session, on).await;
        let send = |number| {
            let child = &child;
            async move { child.send(&Letter::Note(number)).await }
        };
        let (last, sent) = at_every_point(send).await;
        sent.expect("it is taken");
        let call = |_| async { double(&child, 4).await };
        assert_eq!(at_every_point(call).await.1.expect("an answer"), 8);
        // No place of a call is left taken.
        for _ in 0..2 * limits::CALLS_PER_CHILD {
            let call = child.call::<_, u64>(&Letter::Double(1));
            soon(dropped_after(3, call)).await.transpose().expect("no error");
        }
        assert_eq!(double(&child, 5).await.expect("an answer"), 10);
        soon(child.send(&Letter::End)).await.expect("it is taken");
        let mut came = values(&job).await;
        let all = came.len();
        came.sort_unstable();
        came.dedup();
        assert_eq!(came.len(), all, "none comes twice");
        assert!(came.contains(&last));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_from_an_inbox_that_is_dropped_loses_nothing() {
    #[sortie::task]
    async fn impatient(context: TaskContext, (): ()) -> Result<(), EmitError> {
        let mut inbox = context.inbox::<u32>().expect("it is the first time");
        for polls in (0..4).cycle() {
            match dropped_after(polls, inbox.recv()).await {
                Some(Some(number)) => context.emit(&number).await?,
                Some(None) => break,
                None => tokio::task::yield_now().await,
            }
        }
        Ok(())
    }
    let node = Node::builder("a").without_processes().register(impatient).start().await;
    let session = node.expect("a node").session();
    let job: Job = session.run(impatient, ()).start().await.expect("a start").typed();
    let child = job.child(Ordinal(0));
    for number in 0..100_u32 {
        soon(child.send(&number)).await.expect("it is taken");
    }
    soon(job.stop()).await.expect("a stop");
    assert_eq!(values(&job).await, (0..100).collect::<Vec<_>>());
}

fn simulated() -> ClusterBuilder {
    cluster().nodes(2).task("desk", work)
}

async fn simulated_desk(session: &Session) -> (Job, Child) {
    let job = session.task("desk", &()).expect("an input").on("node2").expect("nodes");
    let job = job.start().await.expect("a start");
    let child = job.child(Ordinal(0));
    (job, child)
}

#[test]
fn a_link_that_breaks_loses_no_message_and_brings_none_twice() {
    for seed in 0..10 {
        let came = simulated().seed(seed).drop(0.01).run(async |cluster| {
            let session = cluster.client(1).expect("it is up").session();
            let (job, child) = simulated_desk(&session).await;
            let sender = child.clone();
            let sending = tokio::spawn(async move {
                for number in 0..200 {
                    // tidy: waits because each break needs messages, in virtual time.
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    sender.send(&Letter::Note(number)).await.expect("it is taken");
                    let twice: u64 = sender.call(&Letter::Double(7)).await.expect("an answer");
                    assert_eq!(twice, 14);
                }
                sender.send(&Letter::End).await.expect("it is taken");
            });
            for _ in 0..5 {
                cluster.advance(Duration::from_millis(7_000 + 37 * seed)).await;
                cluster.partition(1, 2);
                cluster.advance(Duration::from_secs(2)).await;
                cluster.heal(1, 2);
            }
            sending.await.expect("the sender");
            values(&job).await
        });
        assert_eq!(came.expect("a cluster"), (0..200).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_lost_node_answers_with_an_error() {
    let errors = simulated().run(async |cluster| {
        let session = cluster.client(1).expect("it is up").session();
        let (_, child) = simulated_desk(&session).await;
        // Not at the gate, which another test opens for its own desk.
        let held: u64 = child.call(&Letter::Stay).await.expect("it stays");
        assert_eq!(held, 0);
        // One call is in the inbox, one message is not.
        let in_it = child.clone();
        let called = tokio::spawn(async move { in_it.call::<_, u64>(&Letter::Double(1)).await });
        cluster.advance(Duration::from_secs(1)).await;
        cluster.kill(2).await.expect("it is up");
        let sent = child.send(&Letter::End).await;
        (called.await.expect("a caller"), sent)
    });
    let (called, sent) = errors.expect("a cluster");
    let Err(CallError::Send(SendError::NodeLost { arrived: Arrived::Yes })) = called else {
        panic!("{called:?}")
    };
    assert!(matches!(sent, Err(SendError::NodeLost { arrived: Arrived::Maybe })), "{sent:?}");
}
