//! Scopes: jobs that cannot outlive the code that started them.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;
use std::time::Duration;

use sortie::{Job, JobScope, Node, Session, State, TaskContext};
use sortie_tests::soon;

#[sortie::task]
async fn wait_for_stop(context: TaskContext, (): ()) -> Result<(), Infallible> {
    context.cancelled().await;
    Ok(())
}

#[sortie::task]
async fn double(n: u64) -> Result<u64, Infallible> {
    Ok(2 * n)
}

async fn session() -> Session {
    let node = Node::builder("a").without_processes().register(wait_for_stop).register(double);
    node.start().await.expect("a node").session()
}

async fn endless(scope: &JobScope) -> Job<()> {
    let job = scope.session().run(wait_for_stop, ()).copies(3).unthrottled();
    scope.start(job).await.expect("a start")
}

async fn state(job: &Job<()>) -> State {
    job.view().await.expect("a job").state
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_end_with_their_scope_and_it_waits_for_them() {
    let session = session().await;
    let (job, sum) = soon(sortie::scope(&session, async |scope| {
        let doubled = scope.start(scope.session().map(double, [1, 2])).await.expect("a start");
        (endless(scope).await, doubled.await.expect("results").iter().sum::<u64>())
    }))
    .await;
    assert_eq!((state(&job).await, sum), (State::Stopped, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_and_an_early_return_end_the_scope() {
    let session = session().await;
    let mut started = None;
    let outcome: Result<(), &str> = soon(sortie::scope(&session, async |scope| {
        started = Some(endless(scope).await);
        Err("enough")?;
        unreachable!("it returned")
    }))
    .await;
    assert_eq!(outcome, Err("enough"));
    assert_eq!(state(&started.expect("a job")).await, State::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_comes_out_when_the_jobs_have_ended() {
    let session = session().await;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let panicking = tokio::spawn(async move {
        sortie::scope(&session, async |scope| {
            sender.send(endless(scope).await).expect("somebody waits");
            panic!("this is the end");
        })
        .await
    });
    let error = soon(panicking).await.expect_err("a panic").into_panic();
    assert_eq!(error.downcast_ref::<&str>(), Some(&"this is the end"));
    assert_eq!(state(&receiver.await.expect("a job")).await, State::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_scope_stops_its_jobs_and_nobody_waits_for_it() {
    let session = session().await;
    let mut started = None;
    let body = sortie::scope(&session, async |scope| {
        started = Some(endless(scope).await);
        std::future::pending::<()>().await;
    });
    tokio::time::timeout(Duration::from_millis(500), body).await.expect_err("it never ends");
    let job = started.expect("a job");
    assert_eq!(soon(job.wait()).await.expect("an end").state, State::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_given_up_does_not_escape_its_scope() {
    let session = session().await;
    let scope = JobScope::new(&session);
    for _ in 0..20 {
        let start = scope.start(session.run(wait_for_stop, ()));
        drop(futures_util::poll!(Box::pin(start)));
    }
    soon(scope.close()).await.expect("all are stopped");
    let jobs = session.get(sortie::Query::default()).await.expect("jobs").entries;
    assert_eq!(jobs.len(), 20);
    assert!(jobs.iter().all(|job| job.state() == State::Stopped), "{jobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_removed_is_no_error_of_its_scope() {
    let session = session().await;
    let scope = JobScope::new(&session);
    let job = scope.start(session.run(double, 1)).await.expect("a start");
    assert_eq!(soon(job.clone()).await.expect("a result"), [2]);
    job.remove().await.expect("a removal");
    soon(scope.close()).await.expect("nothing is left");
}
