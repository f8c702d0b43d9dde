//! The library without async: a client with a thread of its own.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::convert::Infallible;

use sortie::blocking::{CallError, Client, Session};
use sortie::{AskError, HomePaths, Node, Selector, State, TaskContext};
use sortie_tests::PATIENCE;

#[sortie::task]
async fn double(n: u64) -> Result<u64, Infallible> {
    Ok(2 * n)
}

#[sortie::task]
async fn wait_for_stop(context: TaskContext, (): ()) -> Result<(), Infallible> {
    context.cancelled().await;
    Ok(())
}

#[sortie::task]
async fn add(context: TaskContext, first: u64) -> Result<u64, AskError> {
    Ok(first + context.ask::<u64>("and?").await? + context.ask::<u64>("and then?").await?)
}

/// Calls something with a session, once over a link and once of a node in this process.
fn with_session(act: impl Fn(&Session)) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let home = tempfile::tempdir().expect("a directory");
    let paths = HomePaths::within(home.path());
    let node = Node::builder("a").without_processes().home(paths.clone());
    let node = node.register(double).register(wait_for_stop).register(add);
    let node = runtime.block_on(node.start()).expect("a node");
    act(&Client::connect_home(&paths, PATIENCE).expect("a client").session());
    act(&Client::of(node.client()).expect("a client").temporary().expect("a session"));
    runtime.block_on(node.shut_down());
}

#[test]
fn a_program_without_async_maps_and_waits() {
    with_session(|session| {
        let job = session.start(session.map(double, 0..100)).expect("a start");
        assert_eq!(job.join().expect("results"), (0..100).map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!(job.wait().expect("an end").state, State::Completed);
        assert_eq!(job.view().expect("a job").tally.of(State::Completed), 100);
        job.remove().expect("a removal");
        let error = job.view().expect_err("it is gone");
        assert!(matches!(error, CallError::Failed(_)), "{error}");
    });
}

#[test]
fn a_program_without_async_answers_what_its_functions_ask() {
    with_session(|session| {
        let job = session.start(session.run(add, 1)).expect("a start");
        let asked = |prompt| {
            job.wait().expect_err("it asks before it ends");
            let question = job.questions().expect("questions").pop().expect("one");
            assert_eq!(question.question.prompt, prompt);
            question
        };
        let first = asked("and?");
        job.answer_question(&first, &20).expect("it asks");
        job.answer(asked("and then?").child, "300").expect("it asks");
        job.answer_question(&first, &20).expect_err("that is over");
        assert_eq!(job.join().expect("a sum"), [321]);
    });
}

#[test]
fn results_are_an_iterator_in_either_order() {
    with_session(|session| {
        let job = session.start(session.map(double, 0..100)).expect("a start");
        let mut values: Vec<_> = job.results().map(|result| result.expect("one").value).collect();
        values.sort_unstable();
        assert_eq!(values, (0..100).map(|n| 2 * n).collect::<Vec<_>>());
        let job = session.start(session.map(double, [3, 1, 2])).expect("a start");
        let results = job.results().in_order().map(|result| result.expect("one").value);
        assert_eq!(results.collect::<Vec<_>>(), [6, 2, 4]);
    });
}

#[test]
fn an_iterator_that_is_dropped_leaves_the_rest_to_the_next() {
    with_session(|session| {
        let job = session.start(session.map(double, 0..20)).expect("a start");
        job.wait().expect("an end");
        let first = job.results().next().expect("an item").expect("a result").ordinal;
        let mut rest = job.results();
        let second = rest.next().expect("an item").expect("a result").ordinal;
        let rest = rest.in_order().map(|result| result.expect("a result").ordinal.0);
        let mut all: Vec<u32> = rest.chain([first.0, second.0]).collect();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_job_is_found_and_stopped() {
    with_session(|session| {
        let job = session.start(session.run(wait_for_stop, ())).expect("a start");
        let poll = job.wait_timeout(std::time::Duration::ZERO).expect("a poll");
        assert!(poll.is_none());
        let found = session.find(Selector::Id(job.id())).expect("a job");
        assert_eq!(found.instance(), job.instance());
        assert_eq!(found.stop().expect("a stop").state, State::Stopped);
        assert!(found.receive().expect("records").is_empty());
    });
}

#[tokio::test]
async fn a_call_inside_a_runtime_is_an_error() {
    let node = Node::builder("a").without_processes().register(double).start().await;
    let node = node.expect("a node");
    let client = Client::of(node.client()).expect("a client");
    let session = client.session();
    let error = session.start(session.run(double, 1)).expect_err("it would block");
    assert!(matches!(error, CallError::InsideRuntime));
    assert!(error.to_string().contains("async"), "{error}");
    // Off the runtime's threads the same client works.
    let called = std::thread::spawn(move || {
        let job = session.start(session.run(double, 1)).expect("a start");
        job.join().expect("a result")
    });
    let waited = async {
        while !called.is_finished() {
            tokio::task::yield_now().await;
        }
        called.join()
    };
    assert_eq!(waited.await.expect("no panic"), [2]);
    drop(client);
}

#[test]
fn a_node_that_does_not_run_is_an_error() {
    let home = tempfile::tempdir().expect("a directory");
    let error = Client::connect_home(&HomePaths::within(home.path()), PATIENCE);
    let error = error.expect_err("nobody is there");
    assert!(matches!(error.failed(), Some(sortie::ConnectError::NotRunning)), "{error}");
    assert!(!matches!(error, CallError::InsideRuntime));
}
