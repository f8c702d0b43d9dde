//! Children on other nodes outlive the silence of their owner's node, and its end
//! (`docs/semantics.md`, section 4).
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use sortie_tests::jobs::{entry, numbers, start, state};
use sortie_tests::{Home, processes_marked, two, wait_for};

/// Receives what the first job has said, once there is something.
fn take_some(home: &Home, taken: &mut String) {
    wait_for("some output", || {
        let more = home.sortie(&["receive", "1"]);
        assert!(more.code == 0, "{more:?}");
        taken.push_str(&more.out);
        (!more.out.is_empty()).then_some(())
    });
}

/// How the node that `home` is of sees the other one.
fn sees(home: &Home, other: &str) -> String {
    let nodes = home.json(&["node", "get"]);
    let nodes = nodes["nodes"].as_array().expect("nodes");
    let node = nodes.iter().find(|node| node["name"] == other).expect("the other node");
    node["state"].as_str().expect("a state").to_owned()
}

fn signal(home: &Home, signal: Signal) {
    let pid = i32::try_from(home.daemon_pid()).expect("a process id");
    kill_process(Pid::from_raw(pid).expect("a process id"), signal).expect("a living node");
}

/// A process that prints numbered lines, so many at once and then some more all the time, notes
/// each in a file of its own, and ends with 7 once its gate is there.
struct Counting {
    gate: PathBuf,
    own: PathBuf,
}

const COUNT: &str = "i=0; while [ $i -lt $2 -o ! -e \"$0\" ]; do i=$((i+1)); echo $i >> \"$1\"; \
                     echo $i; [ $i -lt $2 ] || sleep 0.05; done; echo last; exit 7";

impl Counting {
    fn new(home: &Home) -> Self {
        Self { gate: home.path().join("gate"), own: home.path().join("own") }
    }

    fn start_on(&self, home: &Home, node: &str, lines: u32) {
        let (gate, own) = (text(&self.gate), text(&self.own));
        let lines = lines.to_string();
        start(home, &["--on", node, "--", "sh", "-c", COUNT, gate, own, &lines]);
    }

    fn is_running(&self) -> bool {
        !processes_marked(text(&self.gate)).is_empty()
    }

    /// What it has printed so far.
    fn printed(&self) -> String {
        fs::read_to_string(&self.own).unwrap_or_default()
    }

    /// Waits until it has printed so many lines.
    fn has_printed(&self, lines: u32) {
        wait_for("its lines", || self.printed().starts_with(&numbers(lines)).then_some(()));
    }

    /// Lets it end, and checks that the rest of its lines comes once.
    fn finish(&self, home: &Home, mut taken: String) {
        fs::write(&self.gate, "").expect("a file");
        let rest = home.sortie(&["receive", "--wait", "1"]);
        assert_eq!(rest.code, 100, "{rest:?}");
        taken.push_str(&rest.out);
        let printed = self.printed();
        let lines = printed.lines().count() as u32;
        assert_eq!(printed, numbers(lines), "it ran once");
        // Without all of it in the message: it may be long.
        let (whole, got) = (printed + "last\n", taken);
        assert!(whole == got, "{lines} lines, and {} were received", got.lines().count());
        assert_eq!(entry(home, "2")["exit_code"], 7);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn they_outlive_the_silence_of_their_owners_node() {
    let [a, b] = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 400);
    work.has_printed(400);
    let taken = a.sortie(&["receive", "1"]).out;
    signal(&a, Signal::STOP);
    wait_for("the owner to be lost", || (sees(&b, "a") == "lost").then_some(()));
    assert!(work.is_running(), "it outlives that");
    signal(&a, Signal::CONT);
    wait_for("the owner to be back", || (sees(&b, "a") == "alive").then_some(()));
    assert_eq!(state(&a, "1"), "running");
    work.finish(&a, taken);
}

#[test]
fn silence_of_their_own_node_ends_nothing_and_a_stop_reaches_them_when_it_is_back() {
    let [a, b] = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 10);
    work.has_printed(10);
    wait_for("its start", || (state(&a, "1") == "running").then_some(()));
    signal(&b, Signal::STOP);
    wait_for("the node to be lost", || (sees(&a, "b") == "lost").then_some(()));
    assert_eq!((state(&a, "1"), state(&a, "2")), ("running".into(), "running".into()));
    let explained = a.sortie(&["explain", "2"]);
    assert!(explained.out.contains("lost"), "{explained:?}");
    let stop = a.sortie(&["stop", "--no-wait", "1"]);
    assert_eq!(stop.code, 0, "{stop:?}");
    assert_eq!(state(&a, "1"), "stopping");
    signal(&b, Signal::CONT);
    wait_for("its stop", || (state(&a, "1") == "stopped").then_some(()));
    wait_for("its end", || (!work.is_running()).then_some(()));
    assert_eq!(a.sortie(&["receive", "1"]).out, work.printed());
}

/// Waits until the job is stopped, and its node has done all that it was told before.
fn is_stopped(a: &Home, job: &str) {
    wait_for("its stop", || (state(a, job) == "stopped").then_some(()));
    let ran = a.sortie(&["invoke", "--on", "b", "--", "true"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn what_was_stopped_before_its_node_heard_of_it_never_runs() {
    let [a, b] = two();
    let ran = b.path().join("ran");
    assert_eq!(a.sortie(&["invoke", "--on", "b", "--", "true"]).code, 0);
    signal(&b, Signal::STOP);
    // The connection seems to be up.
    let words = ["start", "-q", "--map", "-", "--throttle", "200", "--on", "b", "--", "sh", "-c"];
    let words = [&words[..], &["echo {} >> \"$0\"", text(&ran)]].concat();
    let job = a.by_shell("seq 1 200 | \"$@\"", &words);
    assert_eq!(job.code, 0, "{job:?}");
    wait_for("the node to be lost", || (sees(&a, "b") == "lost").then_some(()));
    let stop = a.sortie(&["stop", "--no-wait", job.out.trim()]);
    assert_eq!(stop.code, 0, "{stop:?}");
    signal(&b, Signal::CONT);
    is_stopped(&a, job.out.trim());
    assert_eq!(fs::read_to_string(&ran).unwrap_or_default(), "");
}

#[test]
fn what_was_stopped_before_it_came_to_a_node_that_knows_its_job_never_begins() {
    let [a, b] = two();
    let ran = b.path().join("ran");
    let line = "echo {} >> \"$0\"; while :; do sleep 0.05; done";
    let words = ["start", "--map", "-", "--throttle", "1", "--on", "b", "--", "sh", "-c", line];
    let job = a.by_shell("seq 1 200 | \"$@\"", &[&words[..], &[text(&ran)]].concat());
    assert_eq!(job.code, 0, "{job:?}");
    wait_for("its first child", || (state(&a, "2") == "running").then_some(()));
    wait_for("its word", || ran.exists().then_some(()));
    signal(&b, Signal::STOP);
    assert_eq!(a.sortie(&["throttle", "1", "-j", "200"]).code, 0);
    wait_for("the node to be lost", || (sees(&a, "b") == "lost").then_some(()));
    let stop = a.sortie(&["stop", "--no-wait", "1"]);
    assert_eq!(stop.code, 0, "{stop:?}");
    signal(&b, Signal::CONT);
    is_stopped(&a, "1");
    assert_eq!(fs::read_to_string(&ran).expect("a file"), "1\n");
}

#[test]
fn a_machine_that_failed_once_ends_nothing_of_what_is_started_there_afterwards() {
    let [mut a, mut b] = two();
    let before = Counting::new(&b);
    before.start_on(&a, "b", 3);
    wait_for("its start", || (state(&a, "1") == "running").then_some(()));
    b.kill_daemon();
    // As it is where the machine has started anew.
    fs::write(b.path().join("sessions/boot"), "another").expect("a file");
    b.live_again("b");
    let (ran, gate) = (b.path().join("ran"), b.path().join("others"));
    let line = "echo {} >> \"$0\"; while [ ! -e \"$1\" ]; do sleep 0.05; done";
    let words = ["start", "--map", "-", "--throttle", "1", "--on", "b", "--", "sh", "-c", line];
    let words = [&words[..], &[text(&ran), text(&gate)]].concat();
    let started = a.by_shell("seq 1 3 | \"$@\"", &words);
    assert_eq!(started.code, 0, "{started:?}");
    wait_for("its first child", || (state(&a, "4") == "running").then_some(()));
    signal(&b, Signal::STOP);
    assert_eq!(a.sortie(&["throttle", "3", "-j", "3"]).code, 0);
    a.live_again("a");
    signal(&b, Signal::CONT);
    wait_for("the others", || {
        let failed = state(&a, "3") == "failed";
        assert!(!failed, "{}", a.sortie(&["explain", "5", "6"]).out);
        let ran = fs::read_to_string(&ran).unwrap_or_default();
        (ran.lines().count() == 3).then_some(())
    });
    fs::write(&gate, "").expect("a file");
    assert_eq!(a.sortie(&["wait", "3"]).code, 0);
    let mut ran = fs::read_to_string(&ran).expect("a file").into_bytes();
    ran.sort_unstable();
    assert_eq!(ran, b"\n\n\n123", "each ran once");
    before.finish(&a, String::new());
}

#[test]
fn an_owner_that_is_killed_again_and_again_finds_them() {
    let [mut a, b] = two();
    let work = Counting::new(&b);
    // More than goes inline, so that it has a stream of its own.
    work.start_on(&a, "b", 30_000);
    let mut taken = String::new();
    for _ in 0..4 {
        take_some(&a, &mut taken);
        a.live_again("a");
        assert_eq!(state(&a, "1"), "running");
    }
    wait_for("what was found there to be shown as that", || {
        a.sortie(&["explain", "1"]).out.contains("taken over by the next at").then_some(())
    });
    work.finish(&a, taken);
}

#[test]
fn what_ended_while_their_owner_was_away_is_known_to_the_next_one() {
    let [mut a, b] = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 3);
    wait_for("its start", || (state(&a, "1") == "running").then_some(()));
    a.kill_daemon();
    fs::write(&work.gate, "").expect("a file");
    wait_for("its end", || (!work.is_running()).then_some(()));
    a.live_again("a");
    work.finish(&a, String::new());
}

#[test]
fn a_session_that_is_closed_leaves_nothing_on_a_node_that_was_dead_and_is_not_missed_yet() {
    let [a, mut b] = two();
    let mark = text(b.path()).to_owned() + "/mark";
    assert_eq!(a.sortie(&["session", "new", "--name", "work"]).code, 0);
    let line = "while :; do sleep 0.05; done";
    let words = ["start", "--session", "work", "--on", "b", "--grace", "1s", "--", "sh", "-c"];
    let ran = a.sortie(&[&words[..], &[line, &mark]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let of_job = || a.json(&["get", "--session", "work"])["jobs"][0]["state"] == "running";
    wait_for("its start", || of_job().then_some(()));
    b.kill_daemon();
    // Its stop is not waited for so long that the node would be given up.
    let closed = a.sortie(&["session", "close", "work"]);
    assert_eq!(closed.code, 0, "{closed:?}");
    assert!(sees(&a, "b") != "lost" && !processes_marked(&mark).is_empty());
    b.live_again("b");
    wait_for("its end", || processes_marked(&mark).is_empty().then_some(()));
}

#[test]
fn a_foreground_command_takes_its_children_elsewhere_along_as_before() {
    let [mut a, b] = two();
    let mark = text(b.path()).to_owned() + "/mark";
    let line = "while :; do sleep 0.05; done";
    let mut command = a.command(["invoke", "--on", "b", "--", "sh", "-c", line, &mark]);
    let mut client = command.spawn().expect("a client");
    wait_for("its start", || (!processes_marked(&mark).is_empty()).then_some(()));
    a.kill_daemon();
    client.kill().expect("a client to kill");
    client.wait().expect("an end");
    wait_for("their end", || processes_marked(&mark).is_empty().then_some(()));
}

#[test]
fn a_node_that_is_killed_again_and_again_has_them_run_on() {
    let [a, mut b] = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 30_000);
    let mut taken = String::new();
    for _ in 0..4 {
        take_some(&a, &mut taken);
        b.live_again("b");
        assert_eq!(state(&a, "1"), "running");
    }
    work.finish(&a, taken);
    wait_for("nothing of it to be kept", || {
        let kept = b.path().join("sessions/processes/children");
        fs::read_dir(kept).ok().is_some_and(|mut files| files.next().is_none()).then_some(())
    });
}

#[test]
fn both_nodes_may_be_killed_while_it_ends() {
    let [mut a, mut b] = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 3);
    wait_for("its start", || (state(&a, "1") == "running").then_some(()));
    a.kill_daemon();
    b.kill_daemon();
    assert!(work.is_running(), "nobody ended it");
    fs::write(&work.gate, "").expect("a file");
    wait_for("its end", || (!work.is_running()).then_some(()));
    b.live_again("b");
    a.live_again("a");
    work.finish(&a, String::new());
}

#[test]
fn what_follows_on_a_node_that_was_killed_starts_there() {
    let [a, mut b] = two();
    let gate = b.path().join("gate");
    let line = "echo {}; while [ ! -e \"$0\" ]; do sleep 0.02; done";
    let words = ["--map", "-", "--throttle", "1", "--on", "b", "--", "sh", "-c", line, text(&gate)];
    let ran = a.by_shell("printf '1\\n2\\n3\\n' | \"$@\"", &[&["start"][..], &words].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    wait_for("its start", || (state(&a, "2") == "running").then_some(()));
    b.live_again("b");
    fs::write(&gate, "").expect("a file");
    let ran = a.sortie(&["receive", "--wait", "1"]);
    assert_eq!((ran.code, &ran.out[..]), (0, "1\n2\n3\n"), "{ran:?}");
}

#[test]
fn a_stopped_node_takes_them_along_and_says_so() {
    let [a, b] = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 3);
    wait_for("its start", || (state(&a, "1") == "running").then_some(()));
    let stop = b.sortie(&["node", "stop"]);
    assert_eq!(stop.code, 0, "{stop:?}");
    wait_for("its end", || (!work.is_running()).then_some(()));
    wait_for("the word of it", || (state(&a, "1") == "failed").then_some(()));
    assert_eq!(entry(&a, "2")["reason"]["code"], "node_lost");
}

#[test]
fn a_later_life_elsewhere_may_say_more_than_its_guardian_keeps() {
    let [a, b] = two();
    // The first life's end is acknowledged when the second one has begun.
    let first = text(b.path()).to_owned() + "/first";
    let line = "if [ ! -e \"$0\" ]; then touch \"$0\"; echo one; exit 1; fi; seq 1 1500000";
    start(&a, &["--on", "b", "--restart", "transient", "--", "sh", "-c", line, &first]);
    let ran = a.sortie(&["receive", "--wait", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let whole = "one\n".to_owned() + &numbers(1_500_000);
    assert!(ran.out == whole, "{} bytes", ran.out.len());
}

#[test]
fn an_owner_that_is_killed_asks_for_all_of_its_jobs_at_once() {
    let [mut a, b] = two();
    let gate = b.path().join("gate");
    let line = "echo $1; while [ ! -e \"$0\" ]; do sleep 0.05; done";
    for job in 0..12 {
        start(&a, &["--on", "b", "--", "sh", "-c", line, text(&gate), &job.to_string()]);
    }
    wait_for("their starts", || (processes_marked(text(&gate)).len() >= 12).then_some(()));
    a.live_again("a");
    fs::write(&gate, "").expect("a file");
    let all = a.sortie(&["wait", "all"]);
    assert_eq!(all.code, 0, "{all:?}");
    for job in 0..12 {
        let id = (2 * job + 1).to_string();
        assert_eq!(a.sortie(&["receive", &id]).out, format!("{job}\n"));
    }
}

#[test]
fn input_is_read_on_behind_the_death_of_its_owner() {
    let [mut a, b] = two();
    let goes_on = b.path().join("goes-on");
    let line = "read first; echo $first; while [ ! -e \"$0\" ]; do sleep 0.05; done; cat";
    let words = ["start", "--on", "b", "--stdin", "-", "--", "sh", "-c", line, text(&goes_on)];
    // More than is on its way to a child that does not read.
    let ran = a.by_shell("seq 1 1000000 | \"$@\"", &words);
    assert_eq!(ran.code, 0, "{ran:?}");
    let other = Counting::new(&b);
    other.start_on(&a, "b", 3);
    wait_for("its first word", || (a.sortie(&["receive", "1"]).out == "1\n").then_some(()));
    wait_for("the other's start", || (state(&a, "3") == "running").then_some(()));
    a.live_again("a");
    fs::write(&goes_on, "").expect("a file");
    let rest = a.sortie(&["receive", "--wait", "1"]);
    assert_eq!((rest.code, rest.err.as_str()), (0, ""));
    // Not as a text that a failure would show.
    assert!("1\n".to_owned() + &rest.out == numbers(1_000_000), "{} bytes", rest.out.len());
    fs::write(&other.gate, "").expect("a file");
    let rest = a.sortie(&["receive", "--wait", "3"]);
    assert_eq!((rest.code, rest.out), (100, other.printed() + "last\n"));
}

#[test]
fn a_suspended_child_stands_still_over_the_death_of_its_nodes_daemon() {
    let [a, mut b] = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 3);
    work.has_printed(10);
    let ran = a.sortie(&["suspend", "1"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    wait_for("it to stand still", || (state(&a, "1") == "suspended").then_some(()));
    let before = work.printed();
    b.live_again("b");
    wait_for("the node to be back", || (sees(&a, "b") == "alive").then_some(()));
    let other = start(&a, &["--on", "b", "--", "true"]);
    assert_eq!(a.sortie(&["wait", "3"]).code, 0, "{other:?}");
    assert_eq!((state(&a, "1"), work.printed()), ("suspended".into(), before.clone()));
    assert_eq!(a.sortie(&["resume", "1"]).code, 0);
    wait_for("it to go on", || (work.printed() != before).then_some(()));
    work.finish(&a, String::new());
}
