//! Suspending: what runs stands still on every node, what waits does not start, and all of it goes
//! on where it was.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sortie_tests::{Home, Ran, processes_marked, two, wait_for};

/// Counts for ever, and says how far it is in a file of its own, before the next line comes.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; echo $i > $DIR/$SORTIE_CHILD.new; \
                     mv $DIR/$SORTIE_CHILD.new $DIR/$SORTIE_CHILD; sleep 0.05; done";

fn ok(home: &Home, arguments: &[&str]) -> Ran {
    let ran = home.sortie(arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

fn state(home: &Home, selector: &str) -> String {
    text(&home.json(&["get", selector])["jobs"][0]["state"])
}

/// The states of the job's children, in child order.
fn states(home: &Home, selector: &str) -> Vec<String> {
    let jobs = home.json(&["get", "--children", selector]);
    let entries = jobs["jobs"].as_array().into_iter().flatten();
    entries.skip(1).map(|child| text(&child["state"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// How many lines the job has written; nothing is taken.
fn lines(home: &Home, selector: &str) -> usize {
    ok(home, &["receive", "--keep", "--no-prefix", selector]).lines().len()
}

fn more_lines(home: &Home, selector: &str) {
    let before = lines(home, selector);
    wait_for("more output", || (lines(home, selector) > before + 4).then_some(()));
}

/// Runs a verb until everything does what it was told: on a busy machine that may take longer than
/// the verb waits.
fn until_done(home: &Home, arguments: &[&str]) -> Ran {
    wait_for("what was told", || {
        let ran = home.sortie(arguments);
        assert!([0, 124].contains(&ran.code), "{ran:?}");
        (ran.code == 0).then_some(ran)
    })
}

/// Looks for a while at something that must not change.
fn stays<T: PartialEq + std::fmt::Debug>(what: impl Fn() -> T) {
    let (before, begin) = (what(), Instant::now());
    while begin.elapsed() < Duration::from_millis(400) {
        assert_eq!(what(), before);
    }
}

/// How far the children are that count in this folder.
fn counts(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_none());
    let mut files: Vec<_> = files.collect();
    files.sort();
    let counts = files.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default());
    counts.filter_map(|text| text.trim().parse().ok()).collect()
}

/// Children that were suspended do not count on, and nothing comes that they did not write before.
fn stand_still(home: &Home, selector: &str, folder: &Path) {
    let before = counts(folder);
    // A child may stand between its line and its count.
    let most = before.iter().sum::<u64>() as usize + before.len();
    stays(|| {
        assert!(lines(home, selector) <= most, "it writes on");
        counts(folder)
    });
    assert_eq!(counts(folder), before);
}

#[test]
fn a_receive_that_waited_says_what_is_not_finished() {
    let home = Home::running("solo", &[]);
    ok(&home, &["start", "--", "sleep", "600"]);
    until_done(&home, &["suspend", "1"]);
    let ran = ok(&home, &["receive", "1", "--wait"]);
    assert!(ran.err.contains("1 is Suspended, not finished; `--force` waits on"), "{ran:?}");
    assert_eq!(ok(&home, &["receive", "1"]).err, "");
    ok(&home, &["stop", "1", "--now"]);
}

#[test]
fn a_job_on_two_nodes_stands_still_and_goes_on_without_a_line_lost_or_repeated() {
    let [a, _b] = two();
    let folder = tempfile::tempdir().expect("a folder");
    let directory = format!("DIR={}", folder.path().display());
    ok(&a, &["start", "--on", "*", "-e", &directory, "--", "sh", "-c", COUNT]);
    wait_for("both to count", || (counts(folder.path()).len() == 2).then_some(()));
    for _ in 0..2 {
        let ran = until_done(&a, &["suspend", "last"]);
        assert!(ran.out.contains("Suspended") && ran.err.is_empty(), "{ran:?}");
        assert_eq!(states(&a, "last"), ["suspended", "suspended"]);
        stand_still(&a, "last", folder.path());
        let ran = ok(&a, &["wait", "last"]);
        assert!(ran.err.contains("is Suspended, not finished; `--force` waits on"), "{ran:?}");
        assert_eq!(a.sortie(&["wait", "last", "--force", "--timeout", "300ms"]).code, 124);
        let ran = until_done(&a, &["resume", "last"]);
        assert!(ran.out.contains("Running"), "{ran:?}");
        assert_eq!(states(&a, "last"), ["running", "running"]);
        more_lines(&a, "last");
    }
    let ran = ok(&a, &["stop", "last"]);
    assert!(ran.out.contains("Stopped"), "{ran:?}");
    let job = a.json(&["get", "--children", "last"]);
    for child in job["jobs"].as_array().into_iter().flatten().skip(1) {
        let ran = ok(&a, &["receive", &child["id"].to_string()]);
        let expected: Vec<String> = (1..=ran.lines().len()).map(|line| line.to_string()).collect();
        assert_eq!(ran.lines(), expected);
    }
}

#[test]
fn one_child_is_suspended_alone_and_stopped_while_it_is() {
    let [a, _b] = two();
    let trap = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    ok(&a, &["start", "--on", "a,b", "--", "sh", "-c", trap]);
    wait_for("both", || (lines(&a, "1") == 2).then_some(()));
    until_done(&a, &["suspend", "3"]);
    assert_eq!(
        (states(&a, "1"), state(&a, "1")),
        (vec!["running".into(), "suspended".into()], "running".into())
    );
    ok(&a, &["stop", "3"]);
    assert_eq!(states(&a, "1"), ["running", "stopped"]);
    assert_eq!(a.json(&["get", "3"])["jobs"][0]["exit_code"], 7);
    assert_eq!(ok(&a, &["receive", "3"]).out, "ready\nbye\n");
    until_done(&a, &["suspend", "2"]);
    assert_eq!(state(&a, "1"), "suspended");
    ok(&a, &["stop", "1", "--now"]);
    assert_eq!(state(&a, "1"), "stopped");
}

#[test]
fn what_ignores_the_signal_is_killed_after_the_grace_also_when_it_was_suspended() {
    let [a, _b] = two();
    let mark = format!("54323{}", std::process::id());
    let script = format!("trap '' TERM; echo ready; (setsid sleep {mark} &); sleep {mark}");
    ok(&a, &["start", "--on", "b", "--", "sh", "-c", &script]);
    wait_for("its tree", || (processes_marked(&mark).len() >= 3).then_some(()));
    until_done(&a, &["suspend", "last"]);
    let ran = a.sortie(&["stop", "last", "--grace", "300ms"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(state(&a, "last"), "stopped");
    assert_eq!(processes_marked(&mark), Vec::<u32>::new());
}

#[test]
fn what_waits_for_its_turn_does_not_start_before_the_resume() {
    let home = Home::running("solo", &[]);
    let list = home.path().join("list");
    std::fs::write(&list, "1000\n0\n0\n").expect("a file");
    let list = list.to_str().expect("a text");
    ok(&home, &["start", "-j", "1", "--map", list, "--", "sleep", "{}"]);
    wait_for("three children", || {
        (states(&home, "1") == ["running", "not_started", "not_started"]).then_some(())
    });
    until_done(&home, &["suspend", "1"]);
    assert_eq!(state(&home, "1"), "suspended");
    // Its slot is free now, and nobody takes it.
    ok(&home, &["stop", "2", "--now"]);
    assert_eq!(state(&home, "1"), "suspended");
    stays(|| states(&home, "1"));
    assert_eq!(states(&home, "1"), ["stopped", "not_started", "not_started"]);
    until_done(&home, &["resume", "1"]);
    assert_eq!(home.sortie(&["wait", "1"]).code, 102);
    assert_eq!(states(&home, "1"), ["stopped", "completed", "completed"]);
}

#[test]
fn where_there_is_nothing_to_do_is_a_warning_and_who_is_not_there_an_error() {
    let home = Home::running("solo", &[]);
    ok(&home, &["invoke", "--as-job", "--", "true"]);
    ok(&home, &["wait", "1"]);
    for verb in ["suspend", "resume"] {
        let ran = ok(&home, &[verb, "1"]);
        assert!(ran.err.starts_with("sortie: warning: 1 is Completed: "), "{ran:?}");
        assert!(ran.out.contains("Completed"), "{ran:?}");
    }
    ok(&home, &["start", "--", "sleep", "1000"]);
    wait_for("its child", || (states(&home, "3") == ["running"]).then_some(()));
    let ran = until_done(&home, &["resume", "3"]);
    assert_eq!(ran.err, "sortie: warning: 3 is Running: it was not suspended\n");
    let ran = home.sortie(&["suspend", "99", "3"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("no job or child has the id 99"), "{ran:?}");
    assert_eq!(state(&home, "3"), "suspended");
    // A second time changes nothing, and is no warning.
    assert!(ok(&home, &["suspend", "3"]).err.is_empty());
    let ran = home.sortie(&["suspend", "99", "--allow-empty"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    let explained = ok(&home, &["explain", "3"]);
    assert!(explained.out.contains("sortie resume 3"), "{explained:?}");
}

#[test]
fn a_session_that_is_closed_takes_its_suspended_jobs_along() {
    let [a, _b] = two();
    let mark = format!("43210{}", std::process::id());
    ok(&a, &["session", "new", "--name", "work"]);
    ok(&a, &["start", "--session", "work", "--on", "*", "--", "sleep", &mark]);
    wait_for("both processes", || (processes_marked(&mark).len() == 2).then_some(()));
    until_done(&a, &["suspend", "last", "--session", "work"]);
    ok(&a, &["session", "close", "work"]);
    wait_for("both ends", || processes_marked(&mark).is_empty().then_some(()));
}

#[test]
fn what_outlives_its_node_stands_still_until_somebody_lets_it_go_on() {
    let mut home = Home::running("solo", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let directory = format!("DIR={}", folder.path().display());
    ok(&home, &["start", "-e", &directory, "--timeout", "60s", "--", "sh", "-c", COUNT]);
    wait_for("it to count", || (counts(folder.path()).len() == 1).then_some(()));
    until_done(&home, &["suspend", "1"]);
    let before = counts(folder.path());
    for _ in 0..2 {
        home.live_again("solo");
        assert_eq!(state(&home, "1"), "suspended");
        assert_eq!(counts(folder.path()), before);
    }
    stand_still(&home, "1", folder.path());
    until_done(&home, &["resume", "1"]);
    wait_for("it to count on", || (counts(folder.path()) > before).then_some(()));
    until_done(&home, &["suspend", "1"]);
    stand_still(&home, "1", folder.path());
    home.live_again("solo");
    ok(&home, &["stop", "1"]);
    let ran = ok(&home, &["receive", "1"]);
    let expected: Vec<String> = (1..=ran.lines().len()).map(|line| line.to_string()).collect();
    assert_eq!(ran.lines(), expected);
}

/// A full `sortie` whose functions come to checkpoints, or do not.
fn of_functions() -> Home {
    let mut home = Home::of(Path::new(env!("CARGO_BIN_EXE_checking-sortie")));
    home.run("solo", &[]);
    home
}

#[test]
fn a_function_stands_still_at_its_next_checkpoint() {
    let home = of_functions();
    for more in [&[][..], &["--background"]] {
        let folder = tempfile::tempdir().expect("a folder");
        let input = serde_json::to_string(folder.path()).expect("a path in UTF-8");
        let start = ["start", "--task", "steps", "--input", &input];
        ok(&home, &[&start[..], more].concat());
        wait_for("some steps", || (lines(&home, "last") > 10).then_some(()));
        until_done(&home, &["suspend", "last"]);
        assert_eq!(state(&home, "last"), "suspended");
        stand_still(&home, "last", folder.path());
        until_done(&home, &["resume", "last"]);
        assert_eq!(state(&home, "last"), "running");
        more_lines(&home, "last");
        until_done(&home, &["suspend", "last"]);
        ok(&home, &["stop", "last"]);
        assert_eq!(state(&home, "last"), "stopped");
        let ran = ok(&home, &["receive", "last"]);
        let expected: Vec<String> = (1..=ran.lines().len()).map(|line| line.to_string()).collect();
        assert_eq!(ran.lines(), expected);
    }
}

#[test]
fn a_function_without_a_checkpoint_stays_suspending_until_it_is_resumed_or_ends() {
    let home = of_functions();
    ok(&home, &["start", "--task", "deaf", "--input", "null"]);
    wait_for("its child", || (states(&home, "1") == ["running"]).then_some(()));
    let ran = home.sortie(&["suspend", "1"]);
    assert_eq!(ran.code, 124, "{ran:?}");
    assert!(ran.err.contains("1 is Suspending still"), "{ran:?}");
    assert_eq!(
        (state(&home, "1"), states(&home, "1")),
        ("suspending".into(), vec!["suspending".into()])
    );
    until_done(&home, &["resume", "1"]);
    assert_eq!(state(&home, "1"), "running");
    ok(&home, &["suspend", "1", "--no-wait"]);
    ok(&home, &["stop", "1"]);
    assert_eq!(state(&home, "1"), "stopped");
}

#[test]
fn a_function_that_starts_again_goes_on_from_its_last_checkpoint() {
    let home = of_functions();
    for more in [&[][..], &["--background"]] {
        let start = ["start", "--task", "fails_twice", "--input", "6"];
        let again = ["--restart", "transient", "--intensity", "5/1m"];
        ok(&home, &[&start[..], &again, more].concat());
        assert_eq!(home.sortie(&["wait", "last"]).code, 0);
        let ran = ok(&home, &["receive", "last", "--stream", "output"]);
        assert_eq!(ran.lines(), ["1", "2", "3", "4", "5", "6"], "{ran:?}");
    }
}

#[test]
fn a_child_whose_process_has_ended_stands_still_and_goes_on_like_any_other() {
    let home = Home::running("solo", &[]);
    ok(&home, &["session", "new", "--name", "full", "--quota", "1MiB"]);
    let mark = home.path().join("over");
    let line = "seq 600000; touch \"$0\"";
    let place = mark.to_str().expect("UTF-8");
    ok(&home, &["start", "--session", "full", "--", "sh", "-c", line, place]);
    wait_for("the end of its process", || {
        (mark.exists() && processes_marked(place).is_empty()).then_some(())
    });
    let is = |wanted: &str| {
        let job = home.json(&["get", "--session", "full", "1"]);
        assert_eq!(text(&job["jobs"][0]["state"]), wanted, "{job}");
    };
    is("running");
    for _ in 0..2 {
        until_done(&home, &["suspend", "--session", "full", "1"]);
        is("suspended");
        until_done(&home, &["resume", "--session", "full", "1"]);
        is("running");
    }
    let got = ok(&home, &["receive", "--session", "full", "--wait", "1"]);
    assert_eq!(got.lines().len(), 600_000);
}
