//! Jobs below jobs, on three real nodes, with a process as the leaf.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::Path;
use std::time::{Duration, Instant};

use sortie::{
    Client, Intensity, Job, Query, Reason, Received, RestartType, Selector, Session, State,
};
use sortie_tests::{
    Home, PATIENCE, client, join_all, nested, none_nested, processes_marked, three, wait_for,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tree-node");

fn home(name: &str) -> Home {
    Home::running_program(Path::new(PROGRAM), name)
}

/// A number of seconds that only the processes of one test sleep.
fn mark(test: u32) -> String {
    format!("{}{}", 40_000 + test, std::process::id())
}

/// A job here, below it a job on `b`, and below that a process on `c`, which runs.
async fn tree(session: &Session, mark: &str) -> Job {
    let job = session.task("relay", &(["b", "c"], mark)).expect("an input").start().await;
    let job = job.expect("a start");
    wait_for("the leaf", || (!processes_marked(mark).is_empty()).then_some(()));
    job
}

/// The one job that a child on that node has below it.
async fn below(client: &Client) -> Job {
    let sessions = nested(client).await;
    let [session] = &sessions[..] else { panic!("one session of a child: {sessions:?}") };
    let session = client.session_named(&session.id.to_string());
    session.find(Selector::Last).await.expect("its job")
}

/// An end that a child was told of: of which child and life, the state, the reason.
type Told = (Option<u32>, u32, Option<String>, Option<String>);

fn told(received: &Received) -> Told {
    received.value().expect("a shape")
}

async fn ended(job: &Job) -> State {
    job.wait_timeout(PATIENCE).await.expect("an answer").expect("an end").state
}

/// The owner of a job with one child says where the child's own jobs are.
#[track_caller]
fn check_explained(home: &Home, what: &[&str], place: &str, command: &str) {
    let explained = home.sortie(&[&["explain"][..], what].concat());
    for word in ["it has jobs of its own: 1, 1 of them unfinished", place, command] {
        assert!(explained.out.contains(word), "no `{word}` in {explained:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_at_each_level_reaches_what_is_below_it_on_every_node() {
    let homes = three(PROGRAM);
    let [a, b, c] = [client(&homes[0]).await, client(&homes[1]).await, client(&homes[2]).await];
    let session = a.session();

    let job = tree(&session, &mark(1)).await;
    let sessions = nested(&b).await;
    let place = sessions.iter().find_map(|session| session.below.clone()).expect("a parent");
    assert_eq!((place.node.as_str(), place.incarnation.0), ("a", 0), "{place}");
    check_explained(&homes[0], &[&job.id().to_string()], "on a", "sortie get --session ");
    let above = nested(&a).await[0].id.to_string();
    check_explained(&homes[0], &["last", "--session", &above], "on b", "get --node b --session ");
    let asked = Instant::now();
    assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
    assert!(processes_marked(&mark(1)).is_empty(), "the stop waits for what is below");
    assert!(asked.elapsed() < Duration::from_secs(8), "the grace of the leaf, not of its parents");
    none_nested(&[&a, &b, &c]).await;

    let job = tree(&session, &mark(2)).await;
    assert_eq!(below(&a).await.stop().await.expect("a stop").state, State::Stopped);
    assert!(processes_marked(&mark(2)).is_empty());
    assert_eq!(ended(&job).await, State::Failed, "it saw that what it waited for was stopped");

    let job = tree(&session, &mark(3)).await;
    assert_eq!(below(&b).await.stop_now().await.expect("a stop").state, State::Stopped);
    assert!(processes_marked(&mark(3)).is_empty());
    assert_eq!(ended(&job).await, State::Failed);

    let job = tree(&session, &mark(4)).await;
    assert_eq!(job.stop_now().await.expect("a stop").state, State::Stopped);
    wait_for("the leaf's end", || processes_marked(&mark(4)).is_empty().then_some(()));
    none_nested(&[&a, &b, &c]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_child_ends_what_is_below_it() {
    let homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    for (test, how, state) in [
        (11, "return", State::Completed),
        (12, "fail", State::Failed),
        (13, "panic", State::Failed),
    ] {
        let input = (how, (["b", "c"], mark(test)));
        let job = a.session().task("leave", &input).expect("an input");
        let job = job.grace(Duration::from_millis(300)).start().await.expect("a start");
        assert_eq!(ended(&job).await, state, "{how}");
        wait_for("the leaf's end", || processes_marked(&mark(test)).is_empty().then_some(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_in_the_middle_ends_what_is_below_it_and_fails_what_is_above() {
    let mut homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    let job = tree(&a.session(), &mark(21)).await;
    let mut monitor = job.monitor().await.expect("an answer");
    homes[1].kill_daemon();
    let killed = Instant::now();
    wait_for("the leaf's end", || processes_marked(&mark(21)).is_empty().then_some(()));
    let most = sortie::limits::LEASE + Duration::from_secs(8);
    assert!(killed.elapsed() < most, "after {:?}", killed.elapsed());
    assert_eq!(ended(&job).await, State::Failed);
    let children = job.children().await.expect("children");
    let Some(Reason::Error { message, .. }) = &children[0].reason else { panic!("{children:?}") };
    // The leaf may run before the word that the child in the middle began has arrived.
    let (lost, uncertain) = ("below: node lost since", "below: its node was lost before");
    assert!(message.starts_with(lost) || message.starts_with(uncertain), "{message}");
    let told: Vec<Told> = job.receive().await.expect("records").iter().map(told).collect();
    let mut above = Vec::new();
    while let Some(notice) = monitor.next().await.expect("an answer") {
        above.push((notice.ordinal.map(|child| child.0), notice.state));
    }
    assert_eq!(above, [(Some(0), Some(State::Failed)), (None, Some(State::Failed))]);
    let [(Some(0), 0, Some(state), Some(reason)), (None, 0, Some(_), None)] = &told[..] else {
        panic!("one notice of the child and one of the job: {told:?}")
    };
    let codes = ["node_lost", "start_uncertain"];
    assert!(state == "Failed" && codes.contains(&reason.as_str()), "{state}: {reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_grows_into_itself_ends_at_its_deepest_level_with_a_clear_error() {
    let home = home("a");
    let a = client(&home).await;
    let job = a.session().task("deeper", &(0_u32, false)).expect("an input").throttle(1);
    let job = job.start().await.expect("a start");
    let found = tokio::time::timeout(PATIENCE, job.typed::<(u32, String)>()).await;
    let found = found.expect("no deadlock").expect("results");
    let [(level, refusal)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*level, sortie::limits::TREE_LEVELS);
    assert!(refusal.contains("at most 16 levels deep"), "{refusal}");
    none_nested(&[&a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_jobs_are_being_started_leaves_nothing() {
    let homes = three(PROGRAM);
    let [a, b, c] = [client(&homes[0]).await, client(&homes[1]).await, client(&homes[2]).await];
    for (test, now) in [(31, false), (32, true), (33, false)] {
        let mark = mark(test);
        let job = a.session().task("sow", &("b,c", &mark)).expect("an input").on("b");
        let job = job.expect("a node").start().await.expect("a start");
        wait_for("some leaves", || (processes_marked(&mark).len() > 3).then_some(()));
        let stopped = if now { job.stop_now().await } else { job.stop().await };
        assert_eq!(stopped.expect("a stop").state, State::Stopped);
        wait_for("their end", || processes_marked(&mark).is_empty().then_some(()));
        none_nested(&[&a, &b, &c]).await;
        assert!(processes_marked(&mark).is_empty(), "nothing starts after the stop");
    }
    let query = Query { children: true, ..Query::default() };
    let entries = a.session().get(query).await.expect("entries");
    assert!(entries.entries.iter().all(|entry| entry.state() == State::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_starts_again_has_a_new_tree_and_nothing_of_the_one_before() {
    let mut homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    let (mark, lock) = (mark(41), homes[0].path().join("one-leaf"));
    // Whoever comes while another one is there says so in the file, and which it is in another one.
    let (path, leaves) = (lock.display(), homes[0].path().join("leaves"));
    let held = format!("0; exec 9>>{path}; flock -n 9 || echo twice >>{path}");
    let leaf = format!("{held}; echo $$ >>{}; sleep {mark}", leaves.display());
    let job = a.session().task("keep", &(["b", "c"], leaf)).expect("an input").start().await;
    let job = job.expect("a start");
    let nth = |number: usize| {
        let all = std::fs::read_to_string(&leaves).unwrap_or_default();
        all.split_inclusive('\n').nth(number)?.strip_suffix('\n').map(str::to_owned)
    };
    let first = wait_for("the leaf", || nth(0));
    let killed = std::process::Command::new("kill").args(["-9", &first]).status();
    assert!(killed.expect("kill runs").success());
    wait_for("the second leaf", || nth(1));
    homes[1].kill_daemon();
    homes[1].run_program(Path::new(PROGRAM), "b");
    wait_for("the third leaf", || nth(2));
    assert_eq!(job.stop().await.expect("a stop").state, State::Stopped);
    assert_eq!(processes_marked(&mark), Vec::<u32>::new());
    let said = std::fs::read_to_string(&lock).expect("the lock's file");
    assert_eq!(said, "", "two at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_escalates_fails_the_child_above_each_time_until_its_job_gives_up() {
    let homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    let session = a.session();
    let outside = session.job(sortie::Command::new("true")).escalating().start().await;
    assert_eq!(outside.expect_err("there is no child above").code(), sortie::ErrorCode::Usage);

    let mark = mark(51);
    let twice = Intensity::new(2, Duration::from_secs(3600)).expect("within the bounds");
    let gate = homes[0].path().join("gate");
    let input = ("c", &mark, gate.display().to_string());
    let job = session.task("tied", &input).expect("an input").on("b").expect("a node");
    let job = job.restart(RestartType::Transient).intensity(twice).start().await;
    let job = job.expect("a start");
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
    assert_eq!(ended(&job).await, State::Failed);
    assert_eq!(processes_marked(&mark), Vec::<u32>::new(), "its other job is stopped with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_end_stops_the_jobs_that_are_bound_to_it_and_a_good_one_none() {
    let homes = three(PROGRAM);
    let a = client(&homes[0]).await;
    let session = a.session();
    let job = |script: &str, node: &str| {
        let job = session.job(sortie::Command::new("sh").args(["-c", script])).on(node);
        job.expect("a node").start()
    };
    let stays = format!("exec sleep {}", mark(61));
    let gate = homes[0].path().join("gate");
    let waits = format!("until test -e {}; do sleep 0.05; done; exit", gate.display());
    let (good, bad) =
        (job(&format!("{waits} 0"), "b").await, job(&format!("{waits} 3"), "b").await);
    let (good, bad) = (good.expect("a start"), bad.expect("a start"));
    let (first, second) = (job(&stays, "c").await, job(&stays, "a").await);
    let (first, second) = (first.expect("a start"), second.expect("a start"));
    first.bind_to(&good).await.expect("they are bound");
    bad.bind_to(&second).await.expect("they are bound");
    let itself = first.bind_to(&first).await.expect_err("a refusal");
    assert_eq!(itself.code(), sortie::ErrorCode::Usage);
    std::fs::write(&gate, "").expect("a file");
    assert_eq!((ended(&good).await, ended(&bad).await), (State::Completed, State::Failed));
    assert_eq!(ended(&second).await, State::Stopped);
    let by = second.view().await.expect("a job").stopped_by;
    assert!(by.as_ref().is_some_and(|by| by.contains("to which it is bound")), "{by:?}");
    assert_eq!(first.view().await.expect("a job").state, State::Running);
    first.bind_to(&second).await.expect("they are bound");
    assert_eq!(ended(&first).await, State::Stopped, "the other one has ended badly before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bond_of_a_child_is_about_that_child_and_its_final_end() {
    let homes = [home("a"), home("b")];
    join_all(&homes.each_ref());
    let a = client(&homes[0]).await;
    let session = a.session();
    let job = |script: &str, nodes: &str| {
        let job = session.job(sortie::Command::new("sh").args(["-c", script])).on(nodes);
        job.expect("nodes")
    };
    let states = async |job: &Job| -> Vec<State> {
        let children = job.children().await.expect("children");
        children.iter().map(|child| child.state).collect()
    };
    let stays = format!("exec sleep {}", mark(71));
    let [kept, other] = [job(&stays, "a,b").start().await, job(&stays, "a").start().await];
    let (kept, other) = (kept.expect("a start"), other.expect("a start"));
    wait_for("all to run", || (processes_marked(&mark(71)).len() == 3).then_some(()));
    // Each life waits for a file of its own, and fails.
    let gates = homes[0].path().display();
    let waits = |file: &str| format!("until test -e {gates}/{file}; do sleep 0.05; done");
    let (first, second) = (waits("first"), waits("second"));
    let first = format!("touch {gates}/begun; {first}");
    let script = format!("if test -e {gates}/first; then {second}; else {first}; fi; exit 3");
    let once = Intensity::new(1, Duration::from_secs(3600)).expect("within the bounds");
    let fails = job(&script, "b").restart(RestartType::Transient).intensity(once).start().await;
    let fails = fails.expect("a start");
    let child = fails.child(sortie::Ordinal(0));
    let (here, there) = (kept.child(sortie::Ordinal(0)), kept.child(sortie::Ordinal(1)));
    let mut monitor = child.monitor().await.expect("an answer");
    child.bind_to(&there).await.expect("they are bound");
    other.bind_to(&here).await.expect("they are bound");
    for (refused, code) in [
        (here.bind_to(&here).await, sortie::ErrorCode::Usage),
        (here.bind_to(&kept.child(sortie::Ordinal(2))).await, sortie::ErrorCode::NotFound),
    ] {
        assert_eq!(refused.expect_err("a refusal").code(), code);
    }

    wait_for("its first life", || homes[0].path().join("begun").exists().then_some(()));
    std::fs::write(homes[0].path().join("first"), "").expect("a file");
    assert_eq!(ended_child(&mut monitor).await, (0, Some(State::Failed)));
    while states(&fails).await != [State::Running] {}
    assert_eq!(states(&kept).await, [State::Running, State::Running], "another life followed");
    std::fs::write(homes[0].path().join("second"), "").expect("a file");
    assert_eq!(ended(&fails).await, State::Failed);
    while states(&kept).await != [State::Running, State::Stopped] {}
    assert_eq!(ended_child(&mut monitor).await, (1, Some(State::Failed)));
    assert!(monitor.next().await.expect("an answer").is_none(), "nothing of it can follow");

    // Between a child and a job it acts both ways, also on what has ended.
    assert_eq!(states(&other).await, [State::Running]);
    other.stop().await.expect("a stop");
    assert_eq!(ended(&kept).await, State::Stopped);
    assert_eq!(states(&kept).await, [State::Stopped, State::Stopped]);
    let late = job(&stays, "a,b").start().await.expect("a start");
    child.bind_to(&late).await.expect("they are bound");
    assert_eq!(ended(&late).await, State::Stopped);
}

/// The next end that a monitor of a child tells.
async fn ended_child(monitor: &mut sortie::Monitor) -> (u32, Option<State>) {
    let notice = tokio::time::timeout(PATIENCE, monitor.next()).await.expect("in time");
    let notice = notice.expect("an answer").expect("a notice");
    (notice.incarnation.0, notice.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_sees_the_variables_that_a_process_in_its_place_would() {
    let homes = [home("a"), home("b")];
    join_all(&homes.each_ref());
    let a = client(&homes[0]).await;
    let job = a.session().task("look", "COLOUR").expect("an input").on("b").expect("a node");
    let job = job.env("COLOUR", "red").start().await.expect("a start");
    let found: Vec<Vec<Option<String>>> = job.typed().await.expect("results");
    let (number, child) = (job.id().to_string(), (job.id().0 + 1).to_string());
    let expected = ["red", "b", &number, &child, "C.UTF-8"].map(|value| Some(value.to_owned()));
    assert_eq!(found, [expected.to_vec()]);
}
