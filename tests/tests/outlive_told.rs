//! What was told, and what was due, while a node was killed holds without it
//! (`docs/semantics.md`, section 4.2).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use sortie::Timestamp;
use sortie_tests::jobs::entry;
use sortie_tests::{Home, processes_marked, two, wait_for};

/// Ignores TERM.
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.05; done # $0";

/// Says that it listens (`$1`) and that it was told to end (`$2`); ends when its gate `$0` opens.
const LISTENS: &str = "trap ': > \"$2\"' TERM; : > \"$1\"; \
                       while [ ! -e \"$0\" ]; do sleep 0.02; done; exit 3";

/// A mark of this test in a process's command line.
fn mark(number: u32) -> String {
    format!("{number}{}", std::process::id())
}

fn ok(home: &Home, arguments: &[&str]) {
    let ran = home.sortie(arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
}

fn until_it_runs(mark: &str) {
    wait_for("the process", || (!processes_marked(mark).is_empty()).then_some(()));
}

fn until_it_is_gone(mark: &str) {
    wait_for("its end", || processes_marked(mark).is_empty().then_some(()));
}

#[test]
fn a_grace_goes_on_with_the_next_node_where_it_was() {
    let mut home = Home::running("solo", &[]);
    let (long, short) = (mark(61_001), mark(61_002));
    for mark in [&long, &short] {
        ok(&home, &["start", "--", "sh", "-c", STUBBORN, mark]);
        until_it_runs(mark);
    }
    ok(&home, &["stop", "1", "--grace", "60s", "--no-wait"]);
    let told = Instant::now();
    ok(&home, &["stop", "4", "--grace", "4s", "--no-wait"]);
    wait_for("both", || {
        let stopping = |id| entry(&home, id)["state"] == "stopping";
        (stopping("2") && stopping("4")).then_some(())
    });
    for _ in 0..2 {
        home.live_again("solo");
    }
    let waited = home.sortie(&["wait", "3", "--timeout", "60s"]);
    assert_eq!(waited.code, 102, "{waited:?}");
    // From the default of 10 s it would take longer, as it would from the beginning.
    assert!(told.elapsed() > Duration::from_secs(3), "not before its grace is over");
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
    assert_eq!(processes_marked(&short), Vec::<u32>::new());
    assert!(!processes_marked(&long).is_empty(), "its grace is a longer one");
    assert_eq!(entry(&home, "1")["state"], "stopping");
    ok(&home, &["stop", "1", "--now"]);
    assert_eq!(entry(&home, "2")["state"], "stopped");
}

#[test]
fn who_waits_hears_at_once_that_the_node_was_killed_and_waits_on() {
    let mut home = Home::running("solo", &[]);
    let mark = mark(61_006);
    ok(&home, &["start", "--", "sleep", &mark]);
    until_it_runs(&mark);
    let mut wait = home.command(["wait", "1"]);
    let mut wait = wait.stderr(Stdio::piped()).spawn().expect("a command");
    wait_for("its request", || {
        let explained = home.sortie(&["explain", "1"]);
        (explained.code == 0 && !processes_marked("wait").is_empty()).then_some(())
    });
    // tidy: waits because what a command has asked so far cannot be seen
    std::thread::sleep(Duration::from_millis(300));
    home.kill_daemon();
    let killed = Instant::now();
    let mut said = String::new();
    let mut lines = BufReader::new(wait.stderr.take().expect("a pipe"));
    lines.read_line(&mut said).expect("a line");
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
    assert!(said.contains("connection to node solo lost; reconnecting for up to 4m"), "{said}");
    ok(&home, &["stop", "1", "--now"]);
    assert_eq!(wait.wait().expect("it ends").code(), Some(102), "it waited on");
}

#[test]
fn a_grace_ends_while_no_node_is_there() {
    let mut home = Home::running("solo", &[]);
    let mark = mark(61_003);
    ok(&home, &["start", "--", "sh", "-c", STUBBORN, &mark]);
    until_it_runs(&mark);
    ok(&home, &["stop", "1", "--grace", "700ms", "--no-wait"]);
    wait_for("the stop", || (entry(&home, "2")["state"] == "stopping").then_some(()));
    home.kill_daemon();
    until_it_is_gone(&mark);
    home.live_again("solo");
    assert_eq!(home.sortie(&["wait", "1", "--timeout", "60s"]).code, 102);
    assert_eq!(entry(&home, "2")["state"], "stopped");
}

#[test]
fn a_time_out_is_kept_while_no_node_is_there() {
    let mut home = Home::running("solo", &[]);
    let (willing, stubborn) = (mark(61_004), mark(61_005));
    ok(&home, &["start", "--timeout", "1s", "--", "sleep", &willing]);
    let line = ["start", "--timeout", "1s", "--grace", "300ms", "--", "sh", "-c", STUBBORN];
    ok(&home, &[&line[..], &[&stubborn]].concat());
    until_it_runs(&willing);
    until_it_runs(&stubborn);
    home.kill_daemon();
    until_it_is_gone(&willing);
    until_it_is_gone(&stubborn);
    home.live_again("solo");
    assert_eq!(home.sortie(&["wait", "all", "--timeout", "60s"]).code, 100);
    for child in ["2", "4"] {
        assert_eq!(entry(&home, child)["reason"]["code"], "timeout");
    }
}

#[test]
fn when_it_ended_is_when_it_ended() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let text = gate.to_str().expect("UTF-8");
    let line = "while [ ! -e \"$0\" ]; do sleep 0.02; done";
    ok(&home, &["start", "--", "sh", "-c", line, text]);
    until_it_runs(text);
    let processes = processes_marked(text);
    home.kill_daemon();
    fs::write(&gate, "").expect("a file");
    // Its guardian has collected it then, and knows when.
    let is_gone = |process: &u32| !Path::new(&format!("/proc/{process}")).exists();
    wait_for("its end", || processes.iter().all(is_gone).then_some(()));
    let gone = Timestamp::of(SystemTime::now());
    home.live_again("solo");
    ok(&home, &["wait", "1", "--timeout", "60s"]);
    for id in ["1", "2"] {
        let entry = entry(&home, id);
        let end = entry["end_time"].as_str().and_then(Timestamp::parse_rfc3339).expect("a time");
        let begin = entry["begin_time"].as_str().and_then(Timestamp::parse_rfc3339);
        assert!(begin.is_some_and(|begin| begin < end) && end <= gone, "{entry}");
    }
}

#[test]
fn what_was_stopped_elsewhere_is_stopped_also_if_nobody_saw_its_end() {
    let [a, mut b] = two();
    for (job, child, limit) in [("1", "2", None), ("3", "4", Some("--output-limit=1MiB"))] {
        let [gate, ready, told] =
            ["gate", "ready", "told"].map(|name| b.path().join(format!("{name}{job}")));
        let texts = [&gate, &ready, &told].map(|path| path.to_str().expect("UTF-8"));
        let mut line = vec!["start", "--on", "b"];
        line.extend(limit);
        line.extend(["--", "sh", "-c", LISTENS]);
        line.extend(texts);
        ok(&a, &line);
        wait_for("its trap", || ready.exists().then_some(()));
        ok(&a, &["stop", job, "--grace", "60s", "--no-wait"]);
        wait_for("its signal", || told.exists().then_some(()));
        b.kill_daemon();
        fs::write(&gate, "").expect("a file");
        until_it_is_gone(texts[0]);
        b.live_again("b");
        assert_eq!(a.sortie(&["wait", job, "--timeout", "60s"]).code, 102, "{}", entry(&a, child));
        let end = entry(&a, child);
        assert_eq!((&end["state"], &end["exit_code"]), (&"stopped".into(), &3.into()), "{end}");
    }
}
