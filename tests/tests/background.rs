//! Functions in the background: each in a worker process, which it may take along.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::Path;
use std::time::{Duration, Instant};

use sortie::{
    CallError, ChildView, Client, ErrorCode, HomePaths, Job, Kind, Ordinal, Reason, RestartType,
    Session, State, Stream, WorkerFault,
};
use sortie_tests::{Home, PATIENCE, join_all, memory_of, processes_marked, wait_for};

fn home(name: &str) -> Home {
    Home::running_program(Path::new(env!("CARGO_BIN_EXE_background-node")), name)
}

async fn session(home: &Home) -> Session {
    let paths = HomePaths::within(home.path());
    let client = Client::connect_home(&paths, Duration::from_secs(30)).await;
    client.unwrap_or_else(|error| panic!("no running node: {error}")).session()
}

async fn crash(session: &Session, how: &str) -> Job {
    let job = session.task("crash", how).expect("an input").background();
    job.start().await.expect("a start")
}

/// The job's only child, once it has ended.
async fn ended(job: &Job) -> ChildView {
    job.wait_timeout(PATIENCE).await.expect("an answer").expect("an end");
    let children = job.children().await.expect("children");
    children.into_iter().next().expect("a child")
}

/// The first text that the job's child emits.
async fn first_text(job: &Job) -> String {
    let text = tokio::time::timeout(PATIENCE, job.values::<String>().next()).await;
    text.expect("in time").expect("a value").expect("a text")
}

async fn check(session: &Session, how: &str, expected: &[Reason]) {
    let job = crash(session, how).await;
    let child = ended(&job).await;
    let reason = child.reason.expect("a reason");
    let reason = match reason {
        Reason::Signal { number, name, .. } => Reason::Signal { number, name, core_dumped: false },
        other => other,
    };
    assert!(expected.contains(&reason), "{how}: {reason:?}");
    assert_eq!(child.state, State::Failed, "{how}");
    assert_eq!(first_text(&job).await, "before", "what was emitted before a crash arrives");
}

fn signal(number: i32, name: &str) -> Reason {
    Reason::Signal { number, name: name.to_owned(), core_dumped: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_worker_fails_its_child_only() {
    let home = home("a");
    let session = session(&home).await;
    let sibling = session.task("polite", &()).expect("an input").start().await.expect("a start");
    check(&session, "abort", &[signal(6, "ABRT")]).await;
    check(&session, "overflow", &[signal(6, "ABRT"), signal(11, "SEGV")]).await;
    check(&session, "3", &[Reason::Exit { code: 3 }]).await;
    check(&session, "0", &[Reason::NoResult { fault: WorkerFault::Exited }]).await;
    check(&session, "panic", &[Reason::Panic { message: "on purpose".to_owned() }]).await;
    let view = sibling.view().await.expect("the node answers");
    assert_eq!((view.state, view.kind), (State::Running, Kind::Thread));
    sibling.stop().await.expect("a stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reads_messages_and_answers_calls() {
    let (a, b) = (home("a"), home("b"));
    join_all(&[&a, &b]);
    let session = session(&a).await;
    for on in ["a", "b"] {
        let clerk = session.task("clerk", &()).expect("an input").background().on(on);
        let job = clerk.expect("a node").start().await.expect("a start");
        let child = job.child(Ordinal(0));
        let calls = (0..50_u64).map(|number| {
            let child = child.clone();
            tokio::spawn(async move {
                let doubled: (u64, String) = child.call(&("double", number)).await?;
                assert_eq!((doubled.0, doubled.1.len()), (2 * number, 60_000));
                Ok::<_, CallError>(())
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("a caller").expect("an answer");
        }
        let ignored = child.call::<_, ()>(&("what", 1)).await;
        assert!(matches!(ignored, Err(CallError::Unanswered)), "{ignored:?}");
        let odd = child.call::<_, ()>(&7).await;
        assert!(matches!(odd, Err(CallError::Unreadable)), "{odd:?}");
        for number in 0..600 {
            child.send(&("note", number)).await.expect("it is taken");
        }
        job.stop().await.expect("a stop");
        let mut values = job.values::<u64>();
        let mut came = Vec::new();
        while let Some(Ok(value)) = values.next().await {
            came.push(value);
        }
        let all: Vec<u64> = (0..600).chain([u64::MAX]).collect();
        assert_eq!(came, all, "on {on}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reads_messages_while_it_asks() {
    let (a, b) = (home("a"), home("b"));
    join_all(&[&a, &b]);
    let session = session(&a).await;
    let calls = async |job: &Job| {
        for number in 0..20_u64 {
            let twice: u64 = job.child(Ordinal(0)).call(&number).await.expect("an answer");
            assert_eq!(twice, 2 * number);
        }
    };
    let asked = async |job: &Job, prompt: &str| {
        let waited = tokio::time::timeout(PATIENCE, job.wait()).await.expect("in time");
        assert_eq!(waited.expect_err("it asks").code(), ErrorCode::Deadlock);
        let questions = job.questions().await.expect("questions");
        assert_eq!(questions[0].question.prompt, prompt);
        questions[0].child
    };
    for on in ["a", "b"] {
        let start = async || {
            let job = session.task("both", &()).expect("an input").background().on(on);
            job.expect("a node").start().await.expect("a start")
        };
        let job = start().await;
        let child = asked(&job, "one").await;
        calls(&job).await;
        job.answer(child, &40_u64).await.expect("it asks");
        calls(&job).await;
        asked(&job, "two").await;
        job.answer(child, &2_u64).await.expect("it asks");
        let sum = tokio::time::timeout(PATIENCE, job.typed::<u64>()).await.expect("in time");
        assert_eq!(sum.expect("a result"), [42]);
        let job = start().await;
        asked(&job, "one").await;
        calls(&job).await;
        assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_answers_its_callers_with_an_error() {
    let home = home("a");
    let session = session(&home).await;
    let clerk = session.task("clerk", &()).expect("an input").background();
    let job = clerk.start().await.expect("a start");
    let died = job.child(Ordinal(0)).call::<_, ()>(&("abort", 1)).await;
    assert!(matches!(died, Err(CallError::Unanswered)), "{died:?}");
    assert_eq!(ended(&job).await.reason, Some(signal(6, "ABRT")));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_errors_come_back_from_workers_of_two_daemons() {
    let (a, b) = (home("a"), home("b"));
    join_all(&[&a, &b]);
    let session = session(&a).await;
    let parse = |text: &str| session.task("parse", text).expect("an input").background();
    let job = parse("7").on("a,b").expect("nodes").start().await.expect("a start");
    assert_eq!(job.typed::<u64>().await.expect("results"), [7, 7]);

    let job = parse("x").start().await.expect("a start");
    let child = ended(&job).await;
    let Some(Reason::Error { kind, message }) = child.reason else { panic!("{child:?}") };
    assert!(kind.ends_with("Refused"), "{kind}");
    assert_eq!(message, "refused: invalid digit found in string");
    let view = job.view().await.expect("a job");
    assert_eq!((view.kind, view.state), (Kind::Background, State::Failed));

    let pids = session.task_map("pid", [(); 4]).background().on("a,b").expect("nodes");
    let pids = pids.start().await.expect("a start").typed::<u32>().await.expect("results");
    let mut different = pids.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 4, "each child has a process: {pids:?}");
    assert!(!pids.contains(&a.daemon_pid()) && !pids.contains(&b.daemon_pid()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_its_environment_its_streams_and_nothing_of_the_node() {
    let home = home("a");
    let session = session(&home).await;
    let job = session.task("look", "COLOUR").expect("an input").background();
    let job = job.env("COLOUR", "red").start().await.expect("a start");
    let child = ended(&job).await;
    assert_eq!((child.state, child.with_errors), (State::Completed, true), "{child:?}");
    let records = job.receive().await.expect("records");
    let of = |stream: Stream| {
        let some = records.iter().filter(move |received| received.record.stream == stream);
        some.map(|received| received.record.body.bytes().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(of(Stream::Information), [b"to stdout\n"]);
    assert_eq!(of(Stream::Error), [b"to stderr\n"]);
    assert_eq!((of(Stream::Warning).len(), of(Stream::Progress).len()), (1, 1));
    type Seen = (Option<String>, String, u32, Vec<String>);
    let output = records.iter().find(|received| received.record.stream == Stream::Output);
    let (colour, node, ordinal, open): Seen = output.expect("a value").value().expect("a shape");
    assert_eq!((colour.as_deref(), node.as_str(), ordinal), (Some("red"), "a", 0));
    let sockets = open.iter().filter(|target| target.starts_with("socket:")).count();
    // Its channel; the other two are a runtime's for its signals.
    assert!(sockets <= 4, "{open:?}");
    let files = open.iter().filter(|target| target.starts_with('/') && !target.contains("/proc/"));
    assert_eq!(files.filter(|target| *target != "/dev/null").count(), 0, "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_without_end_is_ended_by_a_stop_and_by_a_timeout() {
    let home = home("a");
    let session = session(&home).await;
    let spin = || session.task("crash", "spin").expect("an input").background();
    let job = spin().grace(Duration::from_millis(300)).start().await.expect("a start");
    assert_eq!(first_text(&job).await, "before");
    let asked = Instant::now();
    assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
    assert!(asked.elapsed() >= Duration::from_millis(300), "it has its grace");
    assert_eq!(ended(&job).await.signal, Some(9));

    let limit = Duration::from_millis(500);
    let job = spin().timeout(limit).grace(Duration::from_millis(100)).start().await;
    let child = ended(&job.expect("a start")).await;
    assert_eq!(child.reason, Some(Reason::Timeout { limit }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_fires_the_token_first_and_ends_all_that_a_function_started() {
    let home = home("a");
    let session = session(&home).await;
    let job = session.task("polite", &()).expect("an input").background().start().await;
    let job = job.expect("a start");
    let mut texts = job.values::<String>();
    assert_eq!(texts.next().await.expect("a value").expect("a text"), "waiting");
    assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
    assert_eq!(texts.next().await.expect("a value").expect("a text"), "told");

    let mark = format!("97531{}", std::process::id());
    let job = session.task("family", &mark).expect("an input").background();
    let job = job.grace(Duration::from_millis(200)).start().await.expect("a start");
    wait_for("its processes", || (processes_marked(&mark).len() >= 3).then_some(()));
    assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
    assert_eq!(processes_marked(&mark), Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_mebibytes_that_nobody_reads_come_in_order_and_fill_no_memory() {
    const VALUES: u64 = 800;
    let home = home("a");
    let session = session(&home).await;
    let before = memory_of(home.daemon_pid());
    let job = session.task("flood", &VALUES).expect("an input").background().start().await;
    let job = job.expect("a start");
    assert_eq!(ended(&job).await.state, State::Completed);
    let grown = memory_of(home.daemon_pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "the node grew by {grown} bytes");
    let mut values = job.values::<(u64, String)>();
    for expected in 0..VALUES {
        let (number, text) = values.next().await.expect("a value").expect("a shape");
        assert_eq!((number, text.len()), (expected, 64 << 10));
    }
    assert!(values.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lies_fails_its_child_and_is_killed() {
    let home = home("a");
    let session = session(&home).await;
    let job = session.task("pid", &()).expect("an input").background().env("TEST_LIE", "1");
    let job = job.start().await.expect("a start");
    let child = ended(&job).await;
    assert_eq!(child.reason, Some(Reason::NoResult { fault: WorkerFault::Garbage }));
    let job = session.task("pid", &()).expect("an input").background().start().await;
    assert_eq!(ended(&job.expect("a start")).await.state, State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_takes_its_workers_along() {
    let mut home = home("a");
    let session = session(&home).await;
    let mark = format!("86420{}", std::process::id());
    let job = session.task("family", &mark).expect("an input").background().start().await;
    job.expect("a start");
    wait_for("its processes", || (processes_marked(&mark).len() >= 3).then_some(()));
    home.kill_daemon();
    wait_for("their end", || processes_marked(&mark).is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_crashes_starts_again_as_its_job_says() {
    let home = home("a");
    let session = session(&home).await;
    let job = session.task("crash", "abort").expect("an input").background();
    let job = job.restart(RestartType::Transient).start().await.expect("a start");
    let child = ended(&job).await;
    assert!(matches!(child.reason, Some(Reason::RestartLimit { .. })), "{child:?}");
    let mut texts = job.values::<String>();
    let mut runs = 0;
    while let Some(Ok(text)) = texts.next().await {
        assert_eq!(text, "before");
        runs += 1;
    }
    assert_eq!(runs, child.restarts + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_only_a_node_knows_does_not_run_in_the_background() {
    let (a, b) = (home("a"), home("b"));
    join_all(&[&a, &b]);
    let session = session(&a).await;
    let inside = || session.task("inside", &1_u64).expect("an input");
    let refused = inside().background().start().await.expect_err("a refusal");
    assert_eq!(refused.code(), ErrorCode::NoBackground);
    let job = inside().background().on("b").expect("nodes").start().await.expect("a start");
    let name = "inside".to_owned();
    assert_eq!(ended(&job).await.reason, Some(Reason::NoBackground { name }));
    let job = inside().start().await.expect("a start");
    assert_eq!(job.typed::<u64>().await.expect("results"), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asks_and_is_answered_one_question_after_the_other() {
    let (a, b) = (home("a"), home("b"));
    join_all(&[&a, &b]);
    let session = session(&a).await;
    for on in ["a", "b"] {
        let job = session.task("ask", &2).expect("an input").background().on(on).expect("a node");
        let job = job.start().await.expect("a start");
        for (prompt, answer) in [("number 1", 1), ("number 2", 20), ("the last", 300)] {
            let question = question(&job, prompt).await;
            job.answer_question(&question, &answer).await.expect("it asks");
        }
        let result: Vec<(u64, u32)> = job.typed().await.expect("a result");
        let [(sum, pid)] = result[..] else { panic!("one result, not {result:?}") };
        assert_eq!(sum, 321);
        assert!(![a.daemon_pid(), b.daemon_pid()].contains(&pid), "it runs in its own process");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_asks_is_stopped_at_once() {
    let home = home("a");
    let session = session(&home).await;
    let job = session.task("ask", &1).expect("an input").background();
    let job = job.start().await.expect("a start");
    question(&job, "number 1").await;
    let begun = Instant::now();
    let view = job.stop().await.expect("a stop");
    assert_eq!(view.state, State::Stopped);
    assert!(begun.elapsed() < Duration::from_secs(10), "it did not need its grace");
}

/// Waits until the job's child asks that.
async fn question(job: &Job, prompt: &str) -> sortie::ChildQuestion {
    loop {
        let waited = tokio::time::timeout(PATIENCE, job.wait()).await.expect("in time");
        let error = waited.expect_err("it asks before it ends");
        assert_eq!(error.code(), ErrorCode::Deadlock, "{error}");
        let mut questions = job.questions().await.expect("questions");
        questions.retain(|question| question.question.prompt == prompt);
        if let Some(question) = questions.pop() {
            return question;
        }
    }
}
