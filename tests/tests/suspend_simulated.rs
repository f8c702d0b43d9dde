//! Suspending when time passes and networks break: on a cluster in one thread and virtual time.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sortie::testkit::{Clients, ClusterBuilder, cluster};
use sortie::{EntryView, Job, Query, Reason, Selection, Selector, State, TaskContext};

const SECOND: Duration = Duration::from_secs(1);

/// What a child shows of itself.
#[derive(Default)]
struct Walk {
    steps: AtomicU64,
    gone: AtomicBool,
}

struct Gone(Arc<Walk>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.store(true, Relaxed);
    }
}

/// Two nodes with a function that goes a step a second, each behind a checkpoint.
fn walks() -> (ClusterBuilder, Arc<Walk>) {
    let walk = Arc::new(Walk::default());
    let shared = Arc::clone(&walk);
    let walks = move |context: TaskContext, (): ()| {
        let walk = Gone(Arc::clone(&shared));
        async move {
            while !context.is_cancelled() {
                let step = walk.0.steps.fetch_add(1, Relaxed);
                let _ = context.checkpoint(&step).await;
                // tidy: waits because that is the child's work, in virtual time.
                tokio::time::sleep(SECOND).await;
            }
            Ok::<_, Infallible>(())
        }
    };
    (cluster().nodes(2).seed(7).task("walk", walks), walk)
}

async fn state(job: &Job) -> State {
    job.view().await.expect("a job").state
}

async fn reason(session: &sortie::Session, job: &Job) -> Option<Reason> {
    let selection = Selection::of([Selector::Id(job.id())]);
    let query = Query { selection, children: true, ..Query::default() };
    let entries = session.get(query).await.expect("an answer").entries;
    entries.into_iter().find_map(|entry| match entry {
        EntryView::Child(child) => child.reason,
        EntryView::Job(_) => None,
    })
}

#[test]
fn the_run_time_limit_of_a_function_stands_still_with_it() {
    let (cluster, walk) = walks();
    let ended = cluster.run(async |cluster| {
        let session = cluster.client(1).expect("it is up").session();
        let job = session.task("walk", &()).expect("an input").timeout(10 * SECOND);
        let job = job.start().await.expect("a start");
        cluster.advance(4 * SECOND).await;
        assert_eq!(job.suspend().await.expect("an answer").state, State::Suspended);
        let steps = walk.steps.load(Relaxed);
        cluster.advance(60 * SECOND).await;
        assert_eq!((state(&job).await, walk.steps.load(Relaxed)), (State::Suspended, steps));
        assert_eq!(job.resume().await.expect("an answer").state, State::Running);
        cluster.advance(4 * SECOND).await;
        assert_eq!(state(&job).await, State::Running);
        assert!(walk.steps.load(Relaxed) >= steps + 3);
        cluster.advance(4 * SECOND).await;
        assert_eq!(state(&job).await, State::Failed);
        reason(&session, &job).await
    });
    assert_eq!(ended.expect("a cluster"), Some(Reason::Timeout { limit: 10 * SECOND }));
}

#[test]
fn an_order_reaches_a_node_that_was_away_and_the_last_one_counts() {
    let (cluster, walk) = walks();
    let ended = cluster.run(async |cluster| {
        let session = cluster.client(1).expect("it is up").session();
        let job = session.task("walk", &()).expect("an input").on("node2").expect("nodes");
        let job = job.start().await.expect("a start");
        cluster.advance(3 * SECOND).await;
        cluster.partition(1, 2);
        // It answers when its wait is over: nobody knows what the child does.
        assert_eq!(job.suspend().await.expect("an answer").state, State::Suspending);
        cluster.heal(1, 2);
        cluster.advance(5 * SECOND).await;
        assert_eq!(state(&job).await, State::Suspended);
        let steps = walk.steps.load(Relaxed);
        cluster.partition(1, 2);
        assert_eq!(job.resume().await.expect("an answer").state, State::Suspended);
        assert_eq!(walk.steps.load(Relaxed), steps);
        cluster.heal(1, 2);
        cluster.advance(5 * SECOND).await;
        assert!(walk.steps.load(Relaxed) > steps);
        state(&job).await
    });
    assert_eq!(ended.expect("a cluster"), State::Running);
}

#[test]
fn a_suspended_child_whose_owner_is_silent_is_killed_as_ever() {
    let (cluster, walk) = walks();
    let ended = cluster.run(async |cluster| {
        let session = cluster.client(1).expect("it is up").session();
        let job = session.task("walk", &()).expect("an input").on("node2").expect("nodes");
        let job = job.start().await.expect("a start");
        cluster.advance(3 * SECOND).await;
        assert_eq!(job.suspend().await.expect("an answer").state, State::Suspended);
        assert!(!walk.gone.load(Relaxed));
        cluster.partition(1, 2);
        cluster.advance(20 * SECOND).await;
        assert!(walk.gone.load(Relaxed), "it outlives the lease");
        reason(&session, &job).await
    });
    let reason = ended.expect("a cluster");
    assert!(matches!(reason, Some(Reason::NodeLost { .. })), "{reason:?}");
}

#[test]
fn what_its_owner_forgets_while_it_is_suspended_is_gone() {
    let (cluster, walk) = walks();
    let gone = cluster.run(async |cluster| {
        let client = cluster.client(1).expect("it is up");
        let session = client.temporary().await.expect("a session");
        let job = session.task("walk", &()).expect("an input").on("node2").expect("nodes");
        let job = job.start().await.expect("a start");
        cluster.advance(3 * SECOND).await;
        assert_eq!(job.suspend().await.expect("an answer").state, State::Suspended);
        drop((session, job));
        cluster.advance(5 * SECOND).await;
        walk.gone.load(Relaxed)
    });
    assert!(gone.expect("a cluster"));
}
