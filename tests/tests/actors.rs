//! Users' own actors on nodes in processes of their own.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::Path;

use sortie::{
    CallError, Client, HomePaths, Job, Ordinal, Reason, RestartType, SendError, Session, State,
};
use sortie_ractor::RemoteActor;
use sortie_tests::{Counting, Home, PATIENCE, join_all};

fn home(name: &str) -> Home {
    Home::running_program(Path::new(env!("CARGO_BIN_EXE_actor-node")), name)
}

async fn session(home: &Home) -> Session {
    let paths = HomePaths::within(home.path());
    Client::connect_home(&paths, PATIENCE).await.expect("a running node").session()
}

async fn counter(session: &Session, on: &str) -> (Job, RemoteActor<Counting>) {
    let job = session.task("counter", &100_u64).expect("an input").on(on).expect("nodes");
    let job = job.restart(RestartType::Transient).start().await.expect("a start");
    let counter = RemoteActor::of(&job.child(Ordinal(0)));
    (job, counter)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_on_another_node_is_cast_to_called_and_started_again() {
    let (a, b) = (home("a"), home("b"));
    join_all(&[&a, &b]);
    let (one, other) = (session(&a).await, session(&a).await);
    let (job, counter) = counter(&one, "b").await;
    let elsewhere = counter.address().open(&other);
    let cast = |counter: RemoteActor<Counting>, from: u64| async move {
        for number in 0..50 {
            counter.cast(&(1_000 + from + 2 * number)).await.expect("it is taken");
        }
    };
    tokio::join!(cast(counter.clone(), 0), cast(elsewhere, 1));
    let sum = 100 + (1_000..1_100).sum::<u64>();
    assert_eq!(counter.call(&()).await.expect("an answer"), ("b".to_owned(), sum));
    let ask = one.task("ask", &counter.address()).expect("an input").start().await;
    assert_eq!(ask.expect("a start").typed::<u64>().await.expect("a result"), [sum]);

    counter.cast(&13).await.expect("it is taken");
    // The next incarnation begins anew, and has the same address.
    while counter.call(&()).await.ok() != Some(("b".to_owned(), 100)) {}
    counter.cast(&1).await.expect("it is taken");
    assert_eq!(counter.call(&()).await.expect("an answer").1, 101);
    assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
    let mut values = job.values::<u64>();
    let mut came = Vec::new();
    while let Some(Ok(value)) = values.next().await {
        came.push(value);
    }
    assert_eq!(came.len(), 101);
    for from in 0..2 {
        let of_one: Vec<u64> =
            came.iter().take(100).filter(|it| *it % 2 == from).copied().collect();
        assert!(of_one.is_sorted(), "{of_one:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_on_any_node_reach_an_actor_on_any_other_by_its_address() {
    let (a, mut b, c) = (home("a"), home("b"), home("c"));
    join_all(&[&a, &b, &c]);
    // Its children end with their nodes' silence.
    let client = sortie_tests::client(&a).await;
    let session = client.temporary().await.expect("a session");
    let (job, counter) = counter(&session, "b").await;
    let address = counter.address();
    let mut adding = Vec::new();
    for (node, first) in [("a", 1_000), ("b", 1_001), ("c", 1_002)] {
        let job = session.task("add", &(address, first)).expect("an input").on(node);
        adding.push(job.expect("a node").start().await.expect("a start"));
    }
    for job in &adding {
        assert_eq!(job.wait().await.expect("an end").state, State::Completed);
    }
    let ask = async |node: &str| -> Job {
        let job = session.task("ask", &address).expect("an input").on(node).expect("a node");
        job.start().await.expect("a start")
    };
    let sum = 100 + (1_000..1_300).sum::<u64>();
    assert_eq!(ask("c").await.typed::<u64>().await.expect("a result"), [sum]);
    for node in ["a", "c"] {
        let job = session.task("ask", &address).expect("an input").on(node).expect("a node");
        let job = job.background().start().await.expect("a start");
        assert_eq!(job.typed::<u64>().await.expect("a result"), [sum], "from a worker on {node}");
    }
    let mut values = job.values::<u64>();
    let mut came = Vec::new();
    while came.len() < 300 {
        came.push(values.next().await.expect("a value").expect("a number"));
    }
    for sender in 0..3 {
        let of_one: Vec<u64> = came.iter().filter(|it| *it % 3 == sender).copied().collect();
        assert_eq!(of_one.len(), 100);
        assert!(of_one.is_sorted(), "{of_one:?}");
    }

    let failure = async |asking: &Job| {
        let end = tokio::time::timeout(PATIENCE, asking.wait()).await.expect("no silence");
        assert_eq!(end.expect("an end").state, State::Failed);
        match asking.children().await.expect("children").swap_remove(0).reason {
            Some(Reason::Error { message, .. }) => message,
            other => panic!("an error, not {other:?}"),
        }
    };
    b.kill_daemon();
    assert_eq!(failure(&ask("c").await).await, "the node of the child is lost");
    job.stop().await.expect("a stop");
    for node in ["a", "c"] {
        assert_eq!(failure(&ask(node).await).await, "the child has ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_killed_daemon_hear_of_it() {
    let (a, mut b) = (home("a"), home("b"));
    join_all(&[&a, &b]);
    let session = session(&a).await;
    let (job, counter) = counter(&session, "b").await;
    counter.call(&()).await.expect("an answer");
    b.kill_daemon();
    let lost = tokio::time::timeout(PATIENCE, counter.call(&())).await.expect("no silence");
    let Err(CallError::Send(SendError::NodeLost { .. })) = lost else { panic!("{lost:?}") };
    // Who asks now hears so, too, though the child may run on there.
    let later = tokio::time::timeout(PATIENCE, counter.call(&())).await.expect("no silence");
    let Err(CallError::Send(SendError::NodeLost { .. })) = later else { panic!("{later:?}") };
    assert_eq!(job.view().await.expect("a job").state, State::Running);
}
