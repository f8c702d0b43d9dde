//! Tasks as values: `#[sortie::task]`, and the typed results of their jobs.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream;
use sortie::{
    ErrorCode, Job, LimitKind, Node, NodeStartError, Query, Reason, ResultError, State, Stream,
    TaskContext,
};
use sortie_tests::soon;

#[derive(Debug, thiserror::Error)]
#[error("{0} is odd")]
struct Odd(u64);

#[sortie::task]
async fn double(n: u64) -> Result<u64, Infallible> {
    Ok(2 * n)
}

#[sortie::task(name = "halve-it")]
async fn halve(context: TaskContext, n: u64) -> Result<u64, Odd> {
    context.information("halving").await;
    if n.is_multiple_of(2) { Ok(n / 2) } else { Err(Odd(n)) }
}

#[sortie::task]
async fn count_up(context: TaskContext, to: u64) -> Result<u64, sortie::EmitError> {
    for n in 1..to {
        context.emit(&n).await?;
    }
    Ok(to)
}

#[sortie::task]
async fn late_first(context: TaskContext, n: u64) -> Result<u64, Infallible> {
    if n == 0 {
        context.cancelled().await;
    }
    Ok(n)
}

#[sortie::task]
async fn length(text: String) -> Result<usize, Infallible> {
    Ok(text.len())
}

#[sortie::task]
async fn nothing((): ()) -> Result<(), Infallible> {
    Ok(())
}

async fn two_nodes() -> (Node, Node) {
    let a = Node::builder("a").without_processes().register(double).register(halve);
    let a = a.register(count_up).register(late_first).register(nothing).register(length);
    let a = a.start().await.expect("a node");
    let b = Node::builder("b").without_processes().register(double).register(halve);
    let b = b.register(count_up).register(late_first).join(&a).start().await.expect("a node");
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_over_two_nodes_gives_its_results_in_the_order_of_its_inputs() {
    let (a, _b) = two_nodes().await;
    let job = a.session().map(double, 0..2_000).on("a,b").expect("nodes").start().await;
    let doubled: Vec<u64> = soon(job.expect("a start")).await.expect("results");
    assert_eq!(doubled, (0..2_000).map(|n| 2 * n).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_still_a_function() {
    assert_eq!(double(4).await, Ok(8));
    let (a, _b) = two_nodes().await;
    let session = a.session();
    let job = session.run(halve, 8).start().await.expect("a start");
    assert_eq!(job.view().await.expect("a job").command, "halve-it");
    assert_eq!(soon(job).await.expect("a result"), [4]);
    // A task is its name elsewhere: any client can start it.
    let job = session.task("halve-it", &6_u64).expect("an input").start().await;
    assert_eq!(soon(job.expect("a start").typed::<u64>()).await.expect("a result"), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_are_pulled_as_they_are_needed_and_may_come_over_time() {
    let (a, _b) = two_nodes().await;
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    let inputs = (0..1_000_000_u64).inspect(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    // A persistent session would store them all, so that it needs us no more.
    let temporary = a.client().temporary().await.expect("a session");
    let job = temporary.map(late_first, std::iter::repeat_n(0, 32).chain(inputs));
    let job = job.start().await.expect("a start");
    // All places are taken by children that wait, so nothing more is pulled than is read ahead.
    let wait = job.wait_timeout(Duration::from_secs(1)).await.expect("a poll");
    assert!(wait.is_none());
    assert!(pulled.load(Ordering::Relaxed) < 500_000, "{pulled:?} inputs were pulled");
    soon(job.stop()).await.expect("a stop");

    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let inputs =
        stream::unfold(
            receiver,
            |mut receiver| async move { Some((receiver.recv().await?, receiver)) },
        );
    let job = a.session().map_stream(double, inputs).start().await.expect("a start");
    let mut results = job.results();
    for n in 0..3 {
        sender.send(n).await.expect("it listens");
        let result = soon(results.next()).await.expect("an item").expect("a result");
        assert_eq!((result.ordinal.0, result.value), (n as u32, 2 * n));
    }
    drop(sender);
    assert!(soon(results.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_comes_with_its_child_and_the_other_results_stay() {
    let (a, _b) = two_nodes().await;
    let job = a.session().map(halve, [2, 4, 5, 6, 7]).on("b").expect("nodes");
    let job = job.start().await.expect("a start");
    let error = soon(job.clone()).await.expect_err("a failure");
    let children = job.children().await.expect("children");
    assert_eq!(error.child(), Some(children[2].id));
    assert_eq!(error.location(), Some("b"));
    assert!(matches!(error.reason(), Some(Reason::Error { message, .. }) if message == "5 is odd"));
    assert!(!error.is_retryable());
    assert!(error.to_string().ends_with("on b failed: gave an error: 5 is odd"), "{error}");

    let mut results = job.results();
    let mut values = Vec::new();
    let mut failed = Vec::new();
    while let Some(result) = soon(results.next()).await {
        match result {
            Ok(result) => values.push((result.ordinal.0, result.value)),
            Err(error) => failed.push(error.child().expect("a child")),
        }
    }
    values.sort_unstable();
    assert_eq!(values, [(0, 1), (1, 2), (3, 3)]);
    assert_eq!(failed, [children[2].id, children[4].id]);
    // Other streams are other readers' business.
    let rest = job.receive().await.expect("records");
    assert_eq!(rest.len(), 5);
    assert!(rest.iter().all(|received| received.record.stream == Stream::Information));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_in_order_wait_for_the_first_child_and_put_failures_in_their_place() {
    let (a, _b) = two_nodes().await;
    let job = a.session().map(count_up, [3, 1, 2]).on("a,b").expect("nodes").start().await;
    let mut results = job.expect("a start").results().in_order();
    let mut values = Vec::new();
    while let Some(result) = soon(results.next()).await {
        let result = result.expect("a result");
        values.push((result.ordinal.0, result.value));
    }
    assert_eq!(values, [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2)]);

    let job = a.session().map(late_first, 0..100).on("a,b").expect("nodes").start().await;
    let job = job.expect("a start");
    let mut results = job.results();
    let first = soon(results.next()).await.expect("an item").expect("a result");
    assert_ne!(first.value, 0, "it waits");
    let mut results = results.in_order();
    let none = tokio::time::timeout(Duration::from_millis(200), results.next()).await;
    assert!(none.is_err(), "nothing overtakes the first child");
    let done = async {
        while job.view().await.expect("a job").tally.of(State::Completed) < 99 {
            tokio::task::yield_now().await;
        }
    };
    soon(done).await;
    soon(job.stop()).await.expect("a stop");
    let stopped = soon(results.next()).await.expect("an item");
    // It returned when it was told to, and is stopped all the same; what it gave stays.
    let mut values = vec![stopped.expect("what it returned").value];
    let stopped = soon(results.next()).await.expect("an item").expect_err("it was stopped");
    assert!(matches!(stopped, ResultError::Stopped { children: 1 }));
    while let Some(result) = soon(results.next()).await {
        values.push(result.expect("a result").value);
    }
    let expected: Vec<u64> = (0..100).filter(|n| *n != first.value).collect();
    assert_eq!(values, expected);

    let job = a.session().map(halve, [2, 3, 4]).start().await.expect("a start");
    let mut results = job.results().in_order();
    assert_eq!(soon(results.next()).await.expect("an item").expect("a result").value, 1);
    assert!(soon(results.next()).await.expect("an item").is_err());
    assert_eq!(soon(results.next()).await.expect("an item").expect("a result").value, 2);
    assert!(soon(results.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_job_says_that_its_results_are_not_all_there() {
    let (a, _b) = two_nodes().await;
    let job = a.session().map(late_first, [0, 0]).start().await.expect("a start");
    let awaited = tokio::spawn(job.clone().into_future());
    soon(job.stop()).await.expect("a stop");
    let error = soon(awaited).await.expect("no panic").expect_err("it was stopped");
    // It may have been stopped before it read its inputs, and then no child was.
    assert!(matches!(error, ResultError::Stopped { .. }), "{error}");

    let job = a.session().map(late_first, [1, 0, 0]).start().await.expect("a start");
    let children = async {
        while job.view().await.expect("a job").tally.of(State::Running) < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon(children).await;
    soon(job.stop()).await.expect("a stop");
    let mut results = job.results().in_order();
    let mut stops = 0;
    let mut values = Vec::new();
    while let Some(result) = soon(results.next()).await {
        match result {
            Ok(result) => values.push(result.value),
            Err(ResultError::Stopped { children: 1 }) => stops += 1,
            Err(error) => panic!("a stop, not {error}"),
        }
    }
    assert_eq!((values, stops), (vec![1, 0, 0], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_without_encoding_is_an_error_of_the_results() {
    let (a, _b) = two_nodes().await;
    let texts = || ["a".to_owned(), "x".repeat(sortie::limits::VALUE_BYTES), "b".to_owned()];
    let job = a.session().map(length, texts()).start().await.expect("a start");
    let error = soon(job.clone()).await.expect_err("an input is missing");
    assert!(matches!(error, ResultError::InputLost(Some(_))), "{error}");
    assert!(!error.is_retryable());
    let mut results = job.results().in_order();
    assert_eq!(soon(results.next()).await.expect("an item").expect("a result").value, 1);
    let error = soon(results.next()).await.expect("an item").expect_err("an input is missing");
    assert!(matches!(error, ResultError::InputLost(Some(_))), "{error}");
    assert!(soon(results.next()).await.is_none());
    // A handle that did not send it knows that it broke off, and not why.
    let found = a.session().handle(&job.view().await.expect("a job")).typed::<usize>();
    let error = soon(found.clone()).await.expect_err("an input is missing");
    assert!(matches!(error, ResultError::InputLost(None)), "{error}");
    let errors =
        [soon(found.results().next()).await, soon(found.results().in_order().next()).await];
    for error in errors.map(|item| item.expect("an item").expect_err("an input is missing")) {
        assert!(matches!(error, ResultError::InputLost(None)), "{error}");
    }
    let [_, huge, _] = texts();
    let unsent = a.session().run(length, huge);
    let error = unsent.dry_run().await.expect_err("it has no encoding");
    assert_eq!(error.code(), ErrorCode::Usage);
    assert!(matches!(unsent.start().await.expect_err("the same"), sortie::StartError::Input(_)));
}

mod changed {
    use std::convert::Infallible;

    /// What `double` was before.
    #[sortie::task]
    pub(crate) async fn double(n: u32) -> Result<u32, Infallible> {
        Ok(2 * n)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_other_types_is_refused_here_and_fails_its_child_elsewhere() {
    let a = Node::builder("a").without_processes().register(double).start().await;
    let a = a.expect("a node");
    let b = Node::builder("b").without_processes().register(changed::double).join(&a).start();
    let _b = b.await.expect("a node");
    let c = Node::builder("c").without_processes().task("double", |_, n: u64| double(n));
    let _c = c.join(&a).start().await.expect("a node");
    let session = a.session();

    let refused = session.run(changed::double, 1).start().await.expect_err("other types");
    assert_eq!(refused.code(), ErrorCode::TaskTypes);
    assert!(!refused.is_retryable());
    let jobs = session.get(Query::default()).await.expect("jobs").entries;
    assert!(jobs.is_empty(), "there is no job");

    let job = session.run(double, 1).on("a,b,c").expect("nodes").start().await;
    let job = job.expect("a start");
    let error = soon(job.clone()).await.expect_err("b knows another");
    assert_eq!(error.location(), Some("b"));
    let reason = error.reason().expect("a reason");
    assert_eq!((reason.code(), reason.is_retryable()), ("task_types", false));
    let mut results = job.results();
    let mut values = 0;
    while let Some(Ok(result)) = soon(results.next()).await {
        // A function that was registered by a string is not compared.
        assert_eq!(result.value, 2);
        values += 1;
    }
    assert_eq!(values, 2);
    // Nor is a start by a string.
    let job = session.task("double", &1_u32).expect("an input").on("b").expect("nodes");
    let job = job.start().await.expect("a start").typed::<u32>();
    assert_eq!(soon(job).await.expect("a result"), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_another_type_names_its_child() {
    let (a, _b) = two_nodes().await;
    let job = a.session().run(double, 1).start().await.expect("a start");
    let wrong: Job<String> = job.typed();
    let error = soon(wrong).await.expect_err("a number is no text");
    assert!(matches!(error, ResultError::Value { .. }), "{error}");
    assert_eq!(soon(job).await.expect("it is still there"), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_gives_nothing_has_no_results() {
    let (a, _b) = two_nodes().await;
    let job = a.session().run(nothing, ()).copies(3).start().await.expect("a start");
    assert_eq!(soon(job).await.expect("no failure"), []);
}

#[tokio::test]
async fn what_a_builder_was_told_wrong_is_an_error_of_the_nodes_start() {
    let node = Node::builder("a").without_processes().register(double).register(double);
    let error = node.start().await.expect_err("a name is taken");
    assert!(matches!(error, NodeStartError::TaskName(name) if name == "double"));
    let home = tempfile::tempdir().expect("a directory");
    let first = Node::builder("a").without_processes().start().await.expect("a node");
    let second = Node::builder("b").home(sortie::HomePaths::within(home.path())).join(&first);
    let error = second.start().await.expect_err("it has an identity of its own");
    assert!(matches!(error, NodeStartError::HomeJoins), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_writes_more_than_it_may_is_stopped_and_fails() {
    let node = Node::builder("a").without_processes().register(count_up).start().await;
    let node = node.expect("a node");
    // Numbers below 128 take a byte each; the last one is what the function returns.
    for (to, fits) in [(10, true), (11, false), (u64::MAX, false)] {
        let job = node.session().run(count_up, to).output_limit(10);
        let job = job.grace(Duration::from_millis(200)).start().await;
        let job = job.expect("a start");
        let view = job.wait().await.expect("an end");
        let child = job.children().await.expect("children").swap_remove(0);
        let written = job.receive().await.expect("records");
        assert_eq!(written.len(), 10, "up to {to}");
        if fits {
            assert_eq!((view.state, child.reason), (State::Completed, None));
        } else {
            let limit = Reason::Limit { which: LimitKind::Output };
            assert_eq!((view.state, child.reason), (State::Failed, Some(limit)), "up to {to}");
        }
    }
}
