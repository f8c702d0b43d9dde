//! Jobs below functions that run in worker processes, on real nodes.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::Path;
use std::time::Duration;

use sortie::{ChildView, Intensity, Job, Reason, RestartType, Session, State, Stream};
use sortie_tests::{
    Home, PATIENCE, children_of, client, none_nested, processes_marked, three, wait_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tree-node");

fn home(name: &str) -> Home {
    Home::running_program(Path::new(PROGRAM), name)
}

/// A number of seconds that only the processes of one test sleep.
fn mark(test: u32) -> String {
    format!("{}{}", 50_000 + test, std::process::id())
}

/// A worker here, below it one on `b`, and below that a process on `c`, which runs.
async fn tree(session: &Session, mark: &str) -> Job {
    let job = session.task("relay", &(["b!", "c"], mark)).expect("an input").background();
    let job = job.start().await.expect("a start");
    wait_for("the leaf", || (!processes_marked(mark).is_empty()).then_some(()));
    job
}

/// The job's only child, once the job has ended.
async fn ended(job: &Job) -> ChildView {
    job.wait_timeout(PATIENCE).await.expect("an answer").expect("an end");
    let children = job.children().await.expect("children");
    children.into_iter().next().expect("a child")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_jobs_on_two_nodes_and_gives_their_sum() {
    let homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    // The large ones are more than a socket holds.
    let lengths: Vec<usize> = (0..40).map(|number| number * 50_000).collect();
    let expected: usize = lengths.iter().sum();
    for on in ["a", "b"] {
        let job = a.session().task("sum", &("a,c", &lengths)).expect("an input").background();
        let job = job.on(on).expect("a node").start().await.expect("a start");
        let found = tokio::time::timeout(PATIENCE, job.typed::<(u32, usize)>()).await;
        let found = found.expect("in time").expect("a result");
        let [(pid, sum)] = found[..] else { panic!("one result, not {found:?}") };
        assert_eq!(sum, expected, "on {on}");
        assert!(!homes.iter().any(|home| home.daemon_pid() == pid), "it runs in its own process");
    }
    none_nested(&[&a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_reaches_what_is_below_workers_on_every_node() {
    let homes = three(PROGRAM);
    let [a, b, c] = [client(&homes[0]).await, client(&homes[1]).await, client(&homes[2]).await];
    let session = a.session();
    let job = tree(&session, &mark(1)).await;
    assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
    assert!(processes_marked(&mark(1)).is_empty(), "the stop waits for what is below");
    none_nested(&[&a, &b, &c]).await;
    let job = tree(&session, &mark(2)).await;
    assert_eq!(job.stop_now().await.expect("a stop").state, State::Stopped);
    wait_for("the leaf's end", || processes_marked(&mark(2)).is_empty().then_some(()));
    none_nested(&[&a, &b, &c]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_worker_starts_jobs_leaves_nothing() {
    let homes = three(PROGRAM);
    let [a, b, c] = [client(&homes[0]).await, client(&homes[1]).await, client(&homes[2]).await];
    for (test, now) in [(31, false), (32, true)] {
        let mark = mark(test);
        let job = a.session().task("sow", &("b,c", &mark)).expect("an input").background().on("b");
        let job = job.expect("a node").start().await.expect("a start");
        wait_for("some leaves", || (processes_marked(&mark).len() > 3).then_some(()));
        let stopped = if now { job.stop_now().await } else { job.stop().await };
        assert_eq!(stopped.expect("a stop").state, State::Stopped);
        wait_for("their end", || processes_marked(&mark).is_empty().then_some(()));
        none_nested(&[&a, &b, &c]).await;
        assert!(processes_marked(&mark).is_empty(), "nothing starts after the stop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_worker_ends_what_is_below_it_and_fails_its_child_once() {
    let homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    for (test, how, state, code) in [
        (11, "return", State::Completed, None),
        (12, "fail", State::Failed, Some("error")),
        (13, "panic", State::Failed, Some("panic")),
        (14, "abort", State::Failed, Some("signal")),
        (15, "kill", State::Failed, Some("signal")),
    ] {
        let input = (how, (["b!", "c"], mark(test)));
        let job = a.session().task("leave", &input).expect("an input").background();
        let job = job.grace(Duration::from_millis(300)).start().await.expect("a start");
        let mut monitor = job.monitor().await.expect("an answer");
        let mut told = Vec::new();
        while let Some(notice) = monitor.next().await.expect("an answer") {
            told.push((notice.ordinal.map(|child| child.0), notice.state));
        }
        assert_eq!(told, [(Some(0), Some(state)), (None, Some(state))], "{how}");
        assert_eq!(ended(&job).await.reason.map(|reason| reason.code()), code, "{how}");
        wait_for("the leaf's end", || processes_marked(&mark(test)).is_empty().then_some(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_of_a_worker_goes_down() {
    let homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    let limit = Duration::from_secs(3);
    let job = a.session().task("relay", &(["b!", "c"], mark(21))).expect("an input").background();
    let job = job.timeout(limit).grace(Duration::from_millis(300)).start().await;
    assert_eq!(ended(&job.expect("a start")).await.reason, Some(Reason::Timeout { limit }));
    wait_for("the leaf's end", || processes_marked(&mark(21)).is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_escalates_takes_a_worker_along_each_time() {
    let homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    let mark = mark(51);
    let twice = Intensity::new(2, Duration::from_secs(3600)).expect("within the bounds");
    let gate = homes[0].path().join("gate");
    let input = ("c", &mark, gate.display().to_string());
    let job = a.session().task("tied", &input).expect("an input").background();
    let job = job.restart(RestartType::Transient).intensity(twice).on("b").expect("a node");
    let job = job.start().await.expect("a start");
    let mut monitor = job.monitor().await.expect("an answer");
    // The first life ends only now, so none is missed.
    std::fs::write(gate, "").expect("a file");
    for life in 0..3 {
        let notice = tokio::time::timeout(PATIENCE, monitor.next()).await.expect("in time");
        let notice = notice.expect("an answer").expect("a notice");
        assert_eq!((notice.incarnation.0, notice.state), (life, Some(State::Failed)));
        match notice.reason {
            Some(Reason::Escalated { cause, .. }) if life < 2 => {
                assert!(cause.ends_with("exited with status 3"), "{cause}");
            }
            Some(Reason::RestartLimit { .. }) if life == 2 => {}
            other => panic!("life {life}: {other:?}"),
        }
    }
    assert_eq!(ended(&job).await.state, State::Failed);
    assert_eq!(processes_marked(&mark), Vec::<u32>::new(), "its other job is stopped with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_workers_ends_at_its_deepest_level_with_a_clear_error() {
    let home = home("a");
    let a = client(&home).await;
    let job = a.session().task("deeper", &(0_u32, true)).expect("an input").background();
    let job = job.start().await.expect("a start");
    let found = tokio::time::timeout(PATIENCE, job.typed::<(u32, String)>()).await;
    let found = found.expect("no deadlock").expect("results");
    let [(level, refusal)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*level, sortie::limits::TREE_LEVELS);
    assert!(refusal.contains("at most 16 levels deep"), "{refusal}");
    none_nested(&[&a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_asks_for_more_at_once_than_it_may_waits() {
    let home = home("a");
    let a = client(&home).await;
    let count = 3 * sortie::limits::EXCHANGES_PER_WORKER;
    let job = a.session().task("busy", &count).expect("an input").background();
    let job = job.start().await.expect("a start");
    let came = tokio::time::timeout(PATIENCE, job.typed::<usize>()).await.expect("in time");
    assert_eq!(came.expect("a result"), [count]);
}

/// What the job's child printed.
async fn printed(job: &Job) -> Vec<u8> {
    let records = job.receive().await.expect("records");
    let out = records.iter().filter(|received| received.record.stream == Stream::Information);
    out.flat_map(|received| received.record.body.bytes().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lies_gets_nothing_but_its_own_session() {
    let home = home("a");
    let a = client(&home).await;
    let lie = |how: &str| {
        a.session().task("long", &1_usize).expect("an input").background().env("TEST_LIE", how)
    };
    let job = lie("asks").start().await.expect("a start");
    assert_eq!(ended(&job).await.state, State::Failed, "it says no end");
    let said = String::from_utf8(printed(&job).await).expect("a text");
    let (refused, own) = said.trim().rsplit_once('\n').expect("lines");
    let answers: Vec<&str> = refused.lines().map(|line| &line[line.len() - 6..]).collect();
    assert_eq!(answers, ["[0, 6]"; 6], "refused, no session: {said}");
    assert!(own.contains("below: [2, "), "a session: {own}");

    // It opens what it never asks on, until the node reads no more.
    let job = lie("flood").start().await.expect("a start");
    let mut open = Vec::new();
    while !open.ends_with(b"\n") {
        open.extend(printed(&job).await);
        assert_eq!(job.view().await.expect("a job").state, State::Running);
    }
    assert_eq!(job.stop_now().await.expect("a stop").state, State::Stopped);
    wait_for("its end", || (children_of(home.daemon_pid()).len() == 1).then_some(()));
    let job = a.session().task("long", &1_usize).expect("an input").background().start().await;
    assert_eq!(ended(&job.expect("a start")).await.state, State::Completed);
}
