//! Children that have everything at once: a question, an inbox with senders that wait, and jobs of
//! their own on another node. In virtual time.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie::answer::StopReturns;
use sortie::testkit::{Clients, Cluster, ClusterBuilder, cluster};
use sortie::{
    Arrived, ChildView, ErrorCode, Job, Monitor, Ordinal, Reason, RequestError, RestartType,
    Selection, Selector, SendError, Session, StartError, State, StopSpec, TaskContext, TaskSession,
    limits,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(4);
/// Long enough for whatever is on its way to arrive, and no more.
const MOMENT: Duration = Duration::from_millis(100);
/// Senders beyond those for whose messages there is room.
const WAITING: usize = 3;

/// How a hub takes its question's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Manner {
    /// It returns.
    Obeys,
    /// It goes on, and must be aborted.
    Ignores,
    /// It does not wait for an answer.
    Leaves,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Session(#[from] RequestError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Nodes(#[from] sortie::BadNodeExpr),
    #[error(transparent)]
    Input(#[from] sortie::EncodeError),
}

/// Counts leaves that live.
#[derive(Clone, Default)]
struct Leaves(Arc<AtomicUsize>);

impl Leaves {
    fn alive(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

struct Alive(Leaves);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Never ends by itself, whatever it is told.
async fn leaf(leaves: Leaves) -> Result<(), Infallible> {
    leaves.0.fetch_add(1, Ordering::AcqRel);
    let _alive = Alive(leaves);
    pending().await
}

/// Starts a leaf on `node3` with so many seconds of grace, asks, and reads nothing before it has
/// the answer.
async fn hub(context: TaskContext, (manner, grace): (Manner, u64)) -> Result<Vec<u64>, Failed> {
    let mut inbox = context.inbox::<u64>().expect("it is the first time");
    let session = context.session().await?;
    let leaf = session.task("leaf", &())?.on("node3")?.grace(Duration::from_secs(grace));
    leaf.start().await?;
    if manner == Manner::Leaves {
        tokio::time::timeout(MOMENT, pending::<()>()).await.expect_err("it waits for its leaf");
        return Ok(Vec::new());
    }
    let answer = context.ask::<u64>("how many?").await;
    let Ok(count) = answer else {
        return if manner == Manner::Ignores { pending().await } else { Ok(Vec::new()) };
    };
    let mut read = Vec::new();
    for _ in 0..count {
        read.extend(inbox.recv().await);
    }
    Ok(read)
}

fn house() -> (ClusterBuilder, Leaves) {
    let leaves = Leaves::default();
    let counted = leaves.clone();
    let builder = cluster().nodes(3).task("hub", hub);
    (builder.task("leaf", move |_: TaskContext, (): ()| leaf(counted.clone())), leaves)
}

/// A hub on `node2` that is asking, whose inbox is full, with more senders.
struct Full {
    job: Job,
    monitor: Monitor,
    senders: Vec<JoinHandle<Result<(), SendError>>>,
}

async fn start(session: &Session, manner: Manner, restart: RestartType) -> Job {
    let job = session.task("hub", &(manner, GRACE.as_secs())).expect("an input");
    let job = job.on("node2").expect("nodes").grace(GRACE).restart(restart);
    job.start().await.expect("a start")
}

async fn full(cluster: &Cluster, manner: Manner, restart: RestartType) -> Full {
    let session = cluster.client(1).expect("it is up").session();
    let job = start(&session, manner, restart).await;
    let monitor = job.monitor().await.expect("an answer");
    let child = job.child(Ordinal(0));
    for number in 0..limits::INBOX_MESSAGES as u64 {
        child.send(&number).await.expect("there is room");
    }
    let one_more = |number: usize| {
        let (child, number) = (child.clone(), (limits::INBOX_MESSAGES + number) as u64);
        tokio::spawn(async move { child.send(&number).await })
    };
    let senders = (0..WAITING).map(one_more).collect();
    cluster.advance(MOMENT).await;
    let full = Full { job, monitor, senders };
    assert_eq!(full.state().await, State::Blocked);
    assert!(full.senders.iter().all(|sender| !sender.is_finished()), "the inbox is full");
    full
}

impl Full {
    async fn state(&self) -> State {
        self.job.view().await.expect("a view").state
    }

    async fn child(&self) -> ChildView {
        self.job.children().await.expect("children").remove(0)
    }

    async fn ended(&self) -> State {
        self.job.wait().await.expect("an end").state
    }

    /// What those who waited for room are told.
    async fn told(&mut self) -> Vec<Result<(), SendError>> {
        let mut all = Vec::new();
        for sender in self.senders.drain(..) {
            all.push(sender.await.expect("no panic"));
        }
        all
    }

    /// The states of the child's lives that ended, in order, then the job's.
    async fn notices(&mut self) -> Vec<(Option<u32>, u32, Option<State>)> {
        let mut all = Vec::new();
        while let Some(notice) = self.monitor.next().await.expect("an answer") {
            let child = notice.ordinal.map(|ordinal| ordinal.0);
            all.push((child, notice.incarnation.0, notice.state));
        }
        all
    }

    async fn is_asked_nothing(&self) {
        let child = self.child().await.id;
        let refused = self.job.answer(child, &1_u64).await.expect_err("it asks nothing");
        assert_eq!(refused.code(), ErrorCode::NotAsking, "{refused}");
    }
}

/// Nothing of children that ended is left on any node that is up.
async fn nothing_is_left(cluster: &Cluster, leaves: &Leaves) {
    assert_eq!(leaves.alive(), 0);
    for node in (1..=3).filter(|node| cluster.is_up(*node) == Some(true)) {
        let sessions = cluster.client(node).expect("it is up").sessions().await.expect("sessions");
        assert!(sessions.iter().all(|session| session.below.is_none()), "{sessions:?}");
    }
}

#[test]
fn a_stop_ends_all_of_it_once_and_tells_everybody() {
    for (manner, within) in [
        (Manner::Obeys, GRACE + SECOND),
        // Aborted after its grace.
        (Manner::Ignores, GRACE + SECOND),
    ] {
        let (builder, leaves) = house();
        let done = builder.run(async |cluster| {
            let mut full = full(cluster, manner, RestartType::Temporary).await;
            assert_eq!(leaves.alive(), 1);
            let stopped = Instant::now();
            assert_eq!(full.job.stop().await.expect("a stop").state, State::Stopped);
            assert!(stopped.elapsed() <= within, "{manner:?}: after {:?}", stopped.elapsed());
            nothing_is_left(cluster, &leaves).await;
            for told in full.told().await {
                let Err(SendError::Ended { arrived: Arrived::No }) = told else {
                    panic!("{manner:?}: {told:?}")
                };
            }
            full.is_asked_nothing().await;
            let stopped = Some(State::Stopped);
            assert_eq!(full.notices().await, [(Some(0), 0, stopped), (None, 0, stopped)]);
        });
        done.expect("a cluster");
    }
}

#[test]
fn a_stop_waits_for_what_cannot_be_reached_below_no_longer_than_it_says() {
    for (manner, how_long) in [(Manner::Obeys, GRACE), (Manner::Ignores, GRACE)] {
        let (builder, leaves) = house();
        let done = builder.run(async |cluster| {
            let full = full(cluster, manner, RestartType::Temporary).await;
            cluster.partition(2, 3);
            let stopped = Instant::now();
            full.job.stop().await.expect("a stop");
            let most = how_long + limits::TREE_STOP_MARGIN + MOMENT;
            assert!(stopped.elapsed() <= most, "{manner:?}: after {:?}", stopped.elapsed());
            assert_eq!(full.state().await, State::Stopped);
            assert_eq!(leaves.alive(), 1, "its lease runs");
            cluster.advance(limits::LEASE).await;
            nothing_is_left(cluster, &leaves).await;
        });
        done.expect("a cluster");
    }
}

#[test]
fn a_killed_node_ends_all_of_it_once_and_the_next_life_goes_on() {
    let (builder, leaves) = house();
    let done = builder.run(async |cluster| {
        let mut full = full(cluster, Manner::Obeys, RestartType::Permanent).await;
        cluster.kill(2).await.expect("it is up");
        cluster.advance(limits::LEASE + SECOND).await;
        assert_eq!(leaves.alive(), 0, "its lease is over");
        cluster.restart(2).await.expect("it is down");
        cluster.advance(10 * SECOND).await;
        assert_eq!(full.state().await, State::Blocked, "its next life asks");
        // What certainly came into no inbox goes to the next life.
        assert!(full.told().await.iter().all(Result::is_ok));
        let child = full.child().await.id;
        full.job.answer(child, &(WAITING as u64)).await.expect("it asks");
        // A permanent child starts again also when it has ended well.
        cluster.advance(5 * SECOND).await;
        assert_eq!(full.state().await, State::Blocked);
        full.job.stop().await.expect("a stop");
        nothing_is_left(cluster, &leaves).await;
        let lives = [State::Failed, State::Completed, State::Stopped];
        let mut expected: Vec<_> =
            (0..).zip(lives).map(|(life, state)| (Some(0), life, Some(state))).collect();
        expected.push((None, 0, Some(State::Stopped)));
        assert_eq!(full.notices().await, expected);
    });
    done.expect("a cluster");
}

#[test]
fn a_killed_node_that_stays_away_ends_all_of_it() {
    let (builder, leaves) = house();
    let done = builder.run(async |cluster| {
        let mut full = full(cluster, Manner::Ignores, RestartType::Temporary).await;
        cluster.kill(2).await.expect("it is up");
        cluster.advance(15 * SECOND).await;
        assert_eq!(full.ended().await, State::Failed);
        let reason = full.child().await.reason;
        assert!(matches!(reason, Some(Reason::NodeLost { .. })), "{reason:?}");
        for told in full.told().await {
            let Err(SendError::NodeLost { arrived: Arrived::No }) = told else {
                panic!("{told:?}")
            };
        }
        full.is_asked_nothing().await;
        nothing_is_left(cluster, &leaves).await;
        let failed = Some(State::Failed);
        assert_eq!(full.notices().await, [(Some(0), 0, failed), (None, 0, failed)]);
    });
    done.expect("a cluster");
}

#[test]
fn a_link_that_comes_back_changes_nothing_of_it() {
    let (builder, leaves) = house();
    let done = builder.run(async |cluster| {
        let mut full = full(cluster, Manner::Obeys, RestartType::Temporary).await;
        for _ in 0..3 {
            cluster.partition(1, 2);
            cluster.advance(5 * SECOND).await;
            cluster.heal(1, 2);
            cluster.advance(5 * SECOND).await;
            assert_eq!((full.state().await, leaves.alive()), (State::Blocked, 1));
            assert!(full.senders.iter().all(|sender| !sender.is_finished()));
        }
        let all = (limits::INBOX_MESSAGES + WAITING) as u64;
        let child = full.child().await.id;
        full.job.answer(child, &all).await.expect("it asks");
        assert!(full.told().await.iter().all(Result::is_ok));
        assert_eq!(full.ended().await, State::Completed);
        let read: Vec<Vec<u64>> = full.job.typed().await.expect("a result");
        assert_eq!(read, [(0..all).collect::<Vec<_>>()]);
        nothing_is_left(cluster, &leaves).await;
    });
    done.expect("a cluster");
}

#[test]
fn a_session_that_ends_while_a_child_waits_for_its_jobs_leaves_no_future_behind() {
    let (builder, leaves) = house();
    let done = builder.run(async |cluster| {
        let futures = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let client = cluster.client(1).expect("it is up");
        let mut before = usize::MAX;
        for round in 0..4 {
            let session = client.temporary().await.expect("a session");
            let job = session.task("hub", &(Manner::Leaves, 3_600)).expect("an input");
            let job = job.on("node2").expect("nodes").grace(3_600 * SECOND);
            let job = job.start().await.expect("a start");
            cluster.advance(SECOND).await;
            let state = job.view().await.expect("a view").state;
            assert_eq!((state, leaves.alive()), (State::Running, 1), "it waits for its leaf");
            drop((job, session));
            cluster.advance(60 * SECOND).await;
            nothing_is_left(cluster, &leaves).await;
            // The first round opens links and what goes with them.
            assert!(round < 2 || futures() <= before, "round {round}: {} {before}", futures());
            before = futures();
        }
    });
    done.expect("a cluster");
}

#[test]
fn however_often_a_child_is_told_to_stop_one_timer_waits_for_it() {
    let (builder, _) = house();
    let done = builder.run(async |cluster| {
        let futures = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let full = full(cluster, Manner::Ignores, RestartType::Temporary).await;
        let session = cluster.client(1).expect("it is up").session();
        let stop = async |grace: Duration| {
            let how = StopSpec { grace: Some(grace), ..StopSpec::default() };
            let all = Selection::of([Selector::Last]);
            session.stop(all, how, StopReturns::AtOnce).await.expect("a stop");
            cluster.advance(MOMENT).await;
        };
        stop(3_600 * SECOND).await;
        let before = futures();
        for _ in 0..20 {
            stop(3_600 * SECOND).await;
        }
        assert!(futures() <= before, "{} {before}", futures());
        // A stop that gives less time counts, one that gives more does not.
        stop(2 * SECOND).await;
        stop(3_600 * SECOND).await;
        assert_eq!(full.state().await, State::Stopping);
        cluster.advance(2 * SECOND).await;
        assert_eq!(full.state().await, State::Stopped);
    });
    done.expect("a cluster");
}
