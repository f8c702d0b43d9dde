//! Actors as children of jobs, on simulated nodes.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use sortie::testkit::{Clients, Cluster, ClusterBuilder, cluster};
use sortie::{
    Arrived, CallError, Job, Ordinal as Place, Reason, RestartType, SendError, State, TaskContext,
    limits,
};
use sortie_ractor::{ActorAddress, MESSAGES_AHEAD, Protocol, Received, RemoteActor, Request, body};
use tokio::sync::Semaphore;

/// What can be said to a clerk.
struct Clerking;

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Emit the number.
    Note(u32),
    /// Wait until the test lets it go on.
    Hold,
    Panic,
    Fail,
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    /// How many orders were handled.
    Handled,
    /// Let go of the question.
    Ignore,
    Panic,
}

impl Protocol for Clerking {
    type Cast = Order;
    type Call = Question;
    type Answer = usize;
}

struct Clerk {
    context: TaskContext,
    gate: Arc<Semaphore>,
    handed: Arc<AtomicUsize>,
}

/// A message type of the actor's own.
enum ClerkMessage {
    FromElsewhere(Received<Clerking>),
    ToItself,
}

impl From<Received<Clerking>> for ClerkMessage {
    fn from(received: Received<Clerking>) -> Self {
        Self::FromElsewhere(received)
    }
}

impl Actor for Clerk {
    type Msg = ClerkMessage;
    type State = usize;
    type Arguments = bool;

    async fn pre_start(
        &self,
        myself: ActorRef<ClerkMessage>,
        starts: bool,
    ) -> Result<usize, ActorProcessingErr> {
        if !starts {
            return Err("there is no desk".into());
        }
        myself.cast(ClerkMessage::ToItself)?;
        Ok(0)
    }

    async fn handle(
        &self,
        myself: ActorRef<ClerkMessage>,
        message: ClerkMessage,
        handled: &mut usize,
    ) -> Result<(), ActorProcessingErr> {
        let ClerkMessage::FromElsewhere(message) = message else { return Ok(()) };
        match message.request {
            Request::Cast(order) => {
                self.handed.fetch_add(1, Ordering::AcqRel);
                match order {
                    Order::Note(number) => self.context.emit(&number).await?,
                    Order::Hold => self.gate.acquire().await?.forget(),
                    Order::Panic => std::panic::panic_any("on purpose"),
                    Order::Fail => return Err("no paper".into()),
                    Order::Stop => myself.stop(None),
                }
                *handled += 1;
            }
            Request::Call(Question::Handled, reply) => reply.send(*handled)?,
            Request::Call(Question::Ignore, reply) => drop(reply),
            Request::Call(Question::Panic, _reply) => std::panic::panic_any("asked for"),
        }
        Ok(())
    }
}

/// Two nodes with clerks, what their gates hold back, and how many orders clerks began with.
fn office() -> (ClusterBuilder, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (gate, handed) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (own_gate, own_handed) = (Arc::clone(&gate), Arc::clone(&handed));
    let clerk = body::<Clerking, Clerk, bool>(move |context, starts| {
        let (gate, handed) = (Arc::clone(&own_gate), Arc::clone(&own_handed));
        (Clerk { context, gate, handed }, starts)
    });
    (cluster().nodes(2).task("clerk", clerk), gate, handed)
}

async fn hire(cluster: &Cluster, restart: RestartType) -> (Job, RemoteActor<Clerking>) {
    let session = cluster.client(1).expect("it is up").session();
    let job = session.task("clerk", &true).expect("an input").on("node2").expect("nodes");
    let job = job.restart(restart).start().await.expect("a start");
    let clerk = RemoteActor::of(&job.child(Place(0)));
    (job, clerk)
}

async fn notes(job: &Job) -> Vec<u32> {
    let mut values = job.values::<u32>();
    let mut notes = Vec::new();
    while let Some(Ok(note)) = values.next().await {
        notes.push(note);
    }
    notes
}

async fn reason(job: &Job) -> Option<Reason> {
    job.wait().await.expect("an end");
    let children = job.children().await.expect("children");
    children.into_iter().next().and_then(|child| child.reason)
}

#[test]
fn casts_of_two_senders_come_in_order_and_a_stop_waits_for_them() {
    let (office, ..) = office();
    let came = office.seed(3).drop(0.01).run(async |cluster| {
        let (job, even) = hire(cluster, RestartType::Temporary).await;
        // An address travels as a value, and is opened elsewhere.
        let address = serde_json::to_string(&even.address()).expect("an encoding");
        let address: ActorAddress<Clerking> = serde_json::from_str(&address).expect("an address");
        let odd = address.open(job.session());
        let cast = |clerk: RemoteActor<Clerking>, from: u32| async move {
            for number in 0..100 {
                clerk.cast(&Order::Note(from + 2 * number)).await.expect("it is taken");
            }
        };
        tokio::join!(cast(even.clone(), 0), cast(odd, 1));
        job.stop().await.expect("a stop");
        notes(&job).await
    });
    let came = came.expect("a cluster");
    assert_eq!(came.len(), 200);
    for from in 0..2 {
        let of_one: Vec<u32> = came.iter().filter(|it| *it % 2 == from).copied().collect();
        assert!(of_one.is_sorted(), "{of_one:?}");
    }
}

#[test]
fn a_call_is_answered_and_one_that_is_let_go_of_is_an_error() {
    let (office, ..) = office();
    let done = office.run(async |cluster| {
        let (job, clerk) = hire(cluster, RestartType::Temporary).await;
        clerk.cast(&Order::Note(1)).await.expect("it is taken");
        assert_eq!(clerk.call(&Question::Handled).await.expect("an answer"), 1);
        let ignored = clerk.call(&Question::Ignore).await;
        assert!(matches!(ignored, Err(CallError::Unanswered)), "{ignored:?}");
        clerk.cast(&Order::Stop).await.expect("it is taken");
        assert_eq!(job.wait().await.expect("an end").state, State::Completed);
        let late = clerk.cast(&Order::Stop).await;
        assert!(matches!(late, Err(SendError::Ended { arrived: Arrived::No })), "{late:?}");
    });
    done.expect("a cluster");
}

#[test]
fn the_actors_failure_is_its_childs_and_callers_hear_of_it() {
    let (office, ..) = office();
    let done = office.run(async |cluster| {
        let (job, clerk) = hire(cluster, RestartType::Temporary).await;
        let called = clerk.call(&Question::Panic).await;
        assert!(matches!(called, Err(CallError::Unanswered)), "{called:?}");
        let Some(Reason::Error { message, .. }) = reason(&job).await else { panic!("a reason") };
        assert!(message.contains("asked for"), "{message}");

        let (job, clerk) = hire(cluster, RestartType::Temporary).await;
        clerk.cast(&Order::Fail).await.expect("it is taken");
        let Some(Reason::Error { message, .. }) = reason(&job).await else { panic!("a reason") };
        assert_eq!(message, "the actor failed: no paper");

        let session = cluster.client(1).expect("it is up").session();
        let job = session.task("clerk", &false).expect("an input").start().await.expect("a start");
        let Some(Reason::Error { message, .. }) = reason(&job).await else { panic!("a reason") };
        assert!(message.contains("there is no desk"), "{message}");
    });
    done.expect("a cluster");
}

#[test]
fn the_next_incarnation_gets_what_comes_later() {
    let (office, ..) = office();
    let came = office.run(async |cluster| {
        let (job, clerk) = hire(cluster, RestartType::Transient).await;
        clerk.cast(&Order::Note(1)).await.expect("it is taken");
        clerk.cast(&Order::Panic).await.expect("it is taken");
        // A new actor has handled nothing.
        while clerk.call(&Question::Handled).await.ok() != Some(0) {}
        clerk.cast(&Order::Note(2)).await.expect("it is taken");
        clerk.cast(&Order::Stop).await.expect("it is taken");
        (notes(&job).await, job.wait().await.expect("an end").restarts)
    });
    assert_eq!(came.expect("a cluster"), (vec![1, 2], 1));
}

#[test]
fn a_killed_node_is_an_error_for_who_calls() {
    let (office, ..) = office();
    let called = office.run(async |cluster| {
        let (_, clerk) = hire(cluster, RestartType::Temporary).await;
        clerk.cast(&Order::Hold).await.expect("it is taken");
        let caller = clerk.clone();
        let called = tokio::spawn(async move { caller.call(&Question::Handled).await });
        cluster.advance(Duration::from_secs(1)).await;
        cluster.kill(2).await.expect("it is up");
        called.await.expect("a caller")
    });
    let called = called.expect("a cluster");
    let Err(CallError::Send(SendError::NodeLost { .. })) = called else { panic!("{called:?}") };
}

#[test]
fn an_actor_is_handed_no_more_than_it_can_handle_and_is_killed_after_the_grace() {
    let (office, gate, handed) = office();
    let done = office.run(async |cluster| {
        let (job, clerk) = hire(cluster, RestartType::Temporary).await;
        clerk.cast(&Order::Hold).await.expect("it is taken");
        let caster = clerk.clone();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&accepted);
        let casting = tokio::spawn(async move {
            for number in 0..1_000 {
                caster.cast(&Order::Note(number)).await?;
                counting.fetch_add(1, Ordering::AcqRel);
            }
            Ok::<_, SendError>(())
        });
        cluster.advance(Duration::from_secs(20)).await;
        // All places are taken, and one letter waits for a place.
        let most = MESSAGES_AHEAD + limits::INBOX_MESSAGES + 1;
        let accepted = accepted.load(Ordering::Acquire);
        assert!((limits::INBOX_MESSAGES..=most).contains(&accepted), "{accepted}");
        assert_eq!(handed.load(Ordering::Acquire), 1, "it holds");
        gate.add_permits(1);
        casting.await.expect("a caster").expect("all are taken");
        clerk.cast(&Order::Hold).await.expect("it is taken");
        while handed.load(Ordering::Acquire) < 1_002 {
            cluster.advance(Duration::from_millis(10)).await;
        }
        assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
        cluster.advance(Duration::from_secs(1)).await;
        // Nobody waits at the gate any more.
        gate.add_permits(1);
        cluster.advance(Duration::from_secs(1)).await;
        assert_eq!(gate.available_permits(), 1);
    });
    done.expect("a cluster");
}
