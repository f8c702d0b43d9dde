//! A child and what hangs below it, when both end at once.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sortie::testkit::{Clients, cluster};
use sortie::{Node, Ordinal, Reason, RequestError, StartError, State, TaskContext, TaskSession};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("it saw that its job failed")]
    Saw,
}

#[sortie::task]
async fn breaks(_: ()) -> Result<(), Failed> {
    Err(Failed::Saw)
}

/// Looks all the time whether its job has failed, and fails with an error of its own.
#[sortie::task]
async fn hasty(context: TaskContext, _: u32) -> Result<(), Failed> {
    let job = context.session().await?.run(breaks, ()).escalating().start().await?;
    while !job.view().await?.state.is_finished() {
        tokio::task::yield_now().await;
    }
    Err(Failed::Saw)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_sees_its_job_fail_is_taken_along_and_does_not_fail_by_itself() {
    let node = Node::builder("a").without_processes().register(breaks).register(hasty);
    let session = node.start().await.expect("a node").session();
    let job = session.map(hasty, 0..500_u32).throttle(4).start().await.expect("a start");
    assert_eq!(job.wait().await.expect("an end").state, State::Failed);
    let children = job.children().await.expect("children");
    assert_eq!(children.len(), 500);
    for child in children {
        let reason = child.reason;
        assert!(matches!(reason, Some(Reason::Escalated { .. })), "{:?}: {reason:?}", child.id);
    }
}

static BELOW_WAS_TOLD: AtomicBool = AtomicBool::new(false);

async fn below(context: TaskContext, (): ()) -> Result<(), Infallible> {
    context.cancelled().await;
    BELOW_WAS_TOLD.store(true, Ordering::Release);
    Ok(())
}

/// Takes one message, and ends a second later beside a job that stays.
async fn above(context: TaskContext, (): ()) -> Result<(), Failed> {
    let session = context.session().await?;
    session.task("below", &()).expect("an input").start().await?;
    let mut inbox = context.inbox::<()>().expect("it is the first time");
    inbox.next().await;
    // tidy: waits because that is the child's work, in virtual time.
    tokio::time::sleep(SECOND).await;
    Ok(())
}

#[test]
fn a_child_that_ends_stops_what_is_below_it_while_its_inbox_settles() {
    let tests = cluster().nodes(2).task("below", below).task("above", above);
    let ended = tests.run(async |cluster| {
        let session = cluster.client(1).expect("it is up").session();
        let job = session.task("above", &()).expect("an input").on("node2").expect("a node");
        let job = job.start().await.expect("a start");
        job.child(Ordinal(0)).send(&()).await.expect("it is taken");
        // Nobody hears any more what became of its messages.
        cluster.partition(1, 2);
        cluster.advance(2 * SECOND).await;
        let told = BELOW_WAS_TOLD.load(Ordering::Acquire);
        cluster.heal(1, 2);
        (told, job.wait().await.expect("an end").state)
    });
    assert_eq!(ended.expect("a cluster"), (true, State::Completed));
}
