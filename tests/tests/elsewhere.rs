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
use serde_json::Value;
use sortie_tests::{Home, Ran, join_all, processes_marked, wait_for};

/// Two nodes of one cluster.
fn two() -> (Home, Home) {
    let (a, b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
    (a, b)
}

fn entry(home: &Home, id: &str) -> Value {
    home.json(&["get", id])["jobs"][0].clone()
}

fn state(home: &Home, id: &str) -> String {
    entry(home, id)["state"].as_str().expect("a state").to_owned()
}

fn start(home: &Home, arguments: &[&str]) -> Ran {
    let ran = home.sortie(&[&["start"][..], arguments].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

fn numbers(most: u32) -> String {
    (1..=most).map(|number| format!("{number}\n")).collect()
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

/// A process that prints so many lines, notes each in a file of its own, and ends with 7 once its
/// gate is there.
struct Counting {
    gate: PathBuf,
    own: PathBuf,
}

const COUNT: &str = "i=0; while [ $i -lt $2 ]; do i=$((i+1)); echo $i; echo $i >> \"$1\"; done; \
                     while [ ! -e \"$0\" ]; do sleep 0.02; done; echo last; exit 7";

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

    /// Lets it end, and checks that the rest of its lines comes once.
    fn finish(&self, home: &Home, mut taken: String, lines: u32) {
        fs::write(&self.gate, "").expect("a file");
        let rest = home.sortie(&["receive", "--wait", "1"]);
        assert_eq!(rest.code, 100, "{rest:?}");
        taken.push_str(&rest.out);
        assert_eq!(taken, numbers(lines) + "last\n");
        assert_eq!(fs::read_to_string(&self.own).expect("a file"), numbers(lines), "it ran once");
        assert_eq!(entry(home, "2")["exit_code"], 7);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn they_outlive_the_silence_of_their_owners_node() {
    let (a, b) = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 400);
    wait_for("its lines", || fs::read_to_string(&work.own).ok().filter(|own| *own == numbers(400)));
    let taken = a.sortie(&["receive", "1"]).out;
    signal(&a, Signal::STOP);
    wait_for("the owner to be lost", || (sees(&b, "a") == "lost").then_some(()));
    assert!(work.is_running(), "it outlives that");
    signal(&a, Signal::CONT);
    wait_for("the owner to be back", || (sees(&b, "a") == "alive").then_some(()));
    assert_eq!(state(&a, "1"), "running");
    work.finish(&a, taken, 400);
}

#[test]
fn silence_of_their_own_node_ends_nothing_and_a_stop_reaches_them_when_it_is_back() {
    let (a, b) = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 10);
    wait_for("its lines", || fs::read_to_string(&work.own).ok().filter(|own| *own == numbers(10)));
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
    assert_eq!(a.sortie(&["receive", "1"]).out, numbers(10));
}

#[test]
fn an_owner_that_is_killed_again_and_again_finds_them() {
    let (mut a, b) = two();
    let work = Counting::new(&b);
    // More than goes inline, so that it has a stream of its own.
    work.start_on(&a, "b", 30_000);
    let mut taken = String::new();
    for _ in 0..4 {
        wait_for("some output", || {
            let more = a.sortie(&["receive", "1"]);
            assert!(more.code == 0, "{more:?}");
            taken.push_str(&more.out);
            (!more.out.is_empty()).then_some(())
        });
        a.live_again("a");
        assert_eq!(state(&a, "1"), "running");
    }
    work.finish(&a, taken, 30_000);
}

#[test]
fn what_ended_while_their_owner_was_away_is_known_to_the_next_one() {
    let (mut a, b) = two();
    let work = Counting::new(&b);
    work.start_on(&a, "b", 3);
    wait_for("its start", || (state(&a, "1") == "running").then_some(()));
    a.kill_daemon();
    fs::write(&work.gate, "").expect("a file");
    wait_for("its end", || (!work.is_running()).then_some(()));
    a.live_again("a");
    work.finish(&a, String::new(), 3);
}

#[test]
fn a_foreground_command_takes_its_children_elsewhere_along_as_before() {
    let (mut a, b) = two();
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
