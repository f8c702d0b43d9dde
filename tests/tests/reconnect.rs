//! Commands that read or wait go on when their node's connection breaks (`docs/semantics.md`,
//! section 4.3).
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sortie_tests::jobs::{numbers, start, state};
use sortie_tests::{Home, two, wait_for};

/// A command under way, and what it has written so far.
struct Reader {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Reader {
    fn begin(home: &Home, name: &str, words: &[&str]) -> Self {
        let path = |what: &str| home.path().join(format!("{name}.{what}"));
        let (out, err) = (path("out"), path("err"));
        let file = |path: &PathBuf| Stdio::from(File::create(path).expect("a file"));
        let mut command: Command = home.command(words);
        let command = command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err));
        Self { child: command.spawn().expect("a command"), out, err }
    }

    fn out(&self) -> String {
        fs::read_to_string(&self.out).expect("a file")
    }

    fn err(&self) -> String {
        fs::read_to_string(&self.err).expect("a file")
    }

    fn wrote(&self, lines: usize) -> Option<()> {
        (self.out().lines().count() >= lines).then_some(())
    }

    fn end(&mut self) -> Option<i32> {
        self.child.wait().expect("an end").code()
    }
}

/// Prints numbers up to `$1`, the second half once the gate is open, and fails with 3.
const COUNTS: &str = "i=0; while [ $i -lt $1 ]; do i=$((i+1)); echo $i; \
                      if [ $i = $(($1 / 2)) ]; then \
                      while [ ! -e \"$0\" ]; do sleep 0.02; done; fi; done; exit 3";

#[test]
fn who_reads_or_waits_goes_on_when_its_node_is_killed_and_nothing_comes_twice() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let text = gate.to_str().expect("UTF-8");
    // What one reader takes, the other one does not see.
    start(&home, &["--name", "one", "--", "sh", "-c", COUNTS, text, "400"]);
    start(&home, &["--name", "two", "--", "sh", "-c", COUNTS, text, "400"]);
    let mut follows = Reader::begin(&home, "follows", &["receive", "--follow", "one"]);
    let mut waits = Reader::begin(&home, "waits", &["wait", "on*"]);
    let words = ["receive", "--wait", "--events", "-o", "ndjson", "last"];
    let mut takes = Reader::begin(&home, "takes", &words);
    wait_for("the first half", || follows.wrote(200));
    wait_for("some of it to be taken", || takes.wrote(1));
    for _ in 0..2 {
        home.live_again("solo");
        // The words of the readers mean others by now.
        start(&home, &["--name", "once", "--", "true"]);
    }
    fs::write(&gate, "").expect("a file");
    assert_eq!((follows.end(), follows.out()), (Some(100), numbers(400)), "{}", follows.err());
    assert_eq!(waits.end(), Some(100), "{}", waits.err());
    assert_eq!(takes.end(), Some(100), "{}", takes.err());
    let records: Vec<serde_json::Value> =
        takes.out().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let text = records.iter().filter_map(|record| record["text"].as_str());
    assert_eq!(text.collect::<String>(), numbers(400));
    let events = records.iter().filter(|record| record["event"].is_string());
    assert_eq!(events.count(), 2, "one for the child, one for the job: {}", takes.out());
    let err = follows.err();
    assert!(err.contains("connection to node solo lost; reconnecting for up to 4m"), "{err}");
    assert!(err.contains("connected to node solo again"), "{err}");
    assert_eq!(home.sortie(&["receive", "two"]).out, "", "all of it was taken");
    let waited = waits.out();
    assert!(waited.contains(" one ") && !waited.contains("once"), "{waited}");
}

#[test]
fn a_node_that_was_killed_is_started_again_for_who_waits() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    start(&home, &["--", "sh", "-c", COUNTS, gate.to_str().expect("UTF-8"), "40"]);
    let mut takes = Reader::begin(&home, "takes", &["receive", "--wait", "1"]);
    wait_for("the first half", || takes.wrote(20));
    home.kill_daemon();
    wait_for("the next node", || takes.err().contains("node solo again").then_some(()));
    let err = takes.err();
    assert!(err.contains("started a node of your own"), "{err}");
    fs::write(&gate, "").expect("a file");
    assert_eq!((takes.end(), takes.out()), (Some(100), numbers(40)), "{err}");
    assert_eq!(state(&home, "1"), "failed");
}

#[test]
fn a_node_that_was_stopped_stays_so_and_ends_who_waits() {
    let home = Home::running("solo", &[]);
    start(&home, &["--", "sleep", "1000"]);
    let mut waits = Reader::begin(&home, "waits", &["wait", "1"]);
    let mut takes = Reader::begin(&home, "takes", &["receive", "--wait", "1"]);
    wait_for("both to wait", || {
        let shown = home.json(&["session", "get"]);
        // tidy: waits because what a command has asked so far cannot be seen
        std::thread::sleep(std::time::Duration::from_millis(300));
        shown["sessions"].is_array().then_some(())
    });
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
    for reader in [&mut waits, &mut takes] {
        let code = reader.end();
        assert!(matches!(code, Some(101 | 102)), "{code:?}: {}", reader.err());
        assert!(!reader.err().contains("reconnecting"), "{}", reader.err());
        if code == Some(101) {
            assert!(reader.err().contains("node solo shuts down"), "{}", reader.err());
        }
    }
    assert!(!home.path().join("node.addr").exists(), "nobody started it again");
}

#[test]
fn a_stop_that_waits_goes_on_and_says_how_it_ended() {
    let mut home = Home::running("solo", &[]);
    let line = "trap 'echo told >> \"$0\"' TERM; while :; do sleep 0.05; done";
    let told = home.path().join("told");
    start(&home, &["--", "sh", "-c", line, told.to_str().expect("UTF-8")]);
    wait_for("the process", || (state(&home, "1") == "running").then_some(()));
    let words = ["stop", "1", "--grace", "4s"];
    let mut stops = Reader::begin(&home, "stops", &words);
    wait_for("the signal", || told.exists().then_some(()));
    home.live_again("solo");
    assert_eq!(stops.end(), Some(0), "{}", stops.err());
    assert!(stops.out().contains("Stopped"), "{}", stops.out());
}

#[test]
fn a_reader_of_another_nodes_session_goes_on_and_an_interrupt_ends_it_at_once() {
    let [a, mut b] = two();
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    let gate = b.path().join("gate");
    let gate_text = gate.to_str().expect("UTF-8");
    let words = ["start", "--session", "work", "--", "sh", "-c", COUNTS, gate_text, "40"];
    assert_eq!(a.sortie(&words).code, 0);
    let receive = |how| ["receive", "--session", "work", how, "1"];
    let mut follows = Reader::begin(&a, "follows", &receive("--follow"));
    let limited = ["receive", "--session", "work", "--follow", "--timeout", "14s", "1"];
    let mut in_time = Reader::begin(&a, "in_time", &limited);
    wait_for("the first half", || follows.wrote(20));
    let mut takes = Reader::begin(&a, "takes", &receive("--wait"));
    wait_for("the first half to be taken", || takes.wrote(20));
    b.kill_daemon();
    for reader in [&takes, &follows] {
        wait_for("the loss", || reader.err().contains("reconnecting").then_some(()));
    }
    let pid = Pid::from_child(&follows.child);
    kill_process(pid, Signal::INT).expect("it runs");
    assert_eq!(follows.end(), Some(130), "{}", follows.err());
    assert_eq!(in_time.end(), Some(124), "its time counts on: {}", in_time.err());
    b.live_again("b");
    fs::write(&gate, "").expect("a file");
    assert_eq!((takes.end(), takes.out()), (Some(100), numbers(40)), "{}", takes.err());
}

#[test]
fn a_foreground_command_in_a_session_that_lasts_goes_on_when_its_node_is_killed() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let gate_text = gate.to_str().expect("UTF-8");
    let words = ["invoke", "--session", "default", "--", "sh", "-c", COUNTS, gate_text, "40"];
    let mut runs = Reader::begin(&home, "runs", &words);
    wait_for("the first half", || runs.wrote(20));
    home.live_again("solo");
    fs::write(&gate, "").expect("a file");
    assert_eq!((runs.end(), runs.out()), (Some(3), numbers(40)), "{}", runs.err());
    assert!(runs.err().contains("connected to node solo again"), "{}", runs.err());
    let left = home.json(&["get"]);
    assert_eq!(left["jobs"].as_array().map(Vec::len), Some(0), "it is removed: {left}");
}

#[test]
fn an_interruption_while_the_node_is_away_stops_the_job_when_it_is_back() {
    let mut home = Home::running("solo", &[]);
    let told = home.path().join("told");
    let line = "trap 'echo > \"$0\"; exit 9' TERM; echo on; while :; do sleep 0.05; done";
    let words = ["invoke", "--session", "default", "--", "sh", "-c", line];
    let words: Vec<&str> = words.into_iter().chain(told.to_str()).collect();
    let mut runs = Reader::begin(&home, "runs", &words);
    wait_for("the process", || runs.wrote(1));
    home.kill_daemon();
    wait_for("the loss", || runs.err().contains("reconnecting").then_some(()));
    kill_process(Pid::from_child(&runs.child), Signal::INT).expect("it runs");
    // It starts the next node itself.
    assert_eq!(runs.end(), Some(130), "{}", runs.err());
    assert!(told.exists(), "its job was told: {}", runs.err());
    let left = home.json(&["get"]);
    assert_eq!(left["jobs"].as_array().map(Vec::len), Some(0), "it is removed: {left}");
}
