//! A node is replaced by another one while its jobs run and somebody reads (`docs/semantics.md`,
//! section 4.2).
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::fs::{self, File};
use std::process::{Child, Stdio};

use sortie_tests::jobs::{entry, numbers, start, state};
use sortie_tests::{Home, processes_marked, two, wait_for};

/// A command whose output goes to a file of the home.
fn begin(home: &Home, name: &str, words: &[&str]) -> Child {
    let file = |kind: &str| {
        let path = home.path().join(format!("{name}.{kind}"));
        Stdio::from(File::create(path).expect("a file"))
    };
    let mut command = home.command(words);
    command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
    command.spawn().expect("a command")
}

fn said(home: &Home, name: &str) -> String {
    fs::read_to_string(home.path().join(name)).expect("a file")
}

/// Leaves its process id beside the gate `$0`, prints numbers from 1 on until that opens, then how
/// many there were; exits with `$1`.
const COUNTS: &str = ": > \"$0.$$\"; i=0; \
                      while [ ! -e \"$0\" ]; do i=$((i+1)); echo $i; sleep 0.01; done; \
                      echo $i in all; exit $1";

#[test]
fn jobs_run_on_under_load_and_readers_go_on_over_every_restart() {
    const JOBS: usize = 8;
    let home = Home::new();
    let gate = home.path().join("gate");
    let mark = gate.to_str().expect("UTF-8");
    let mut readers = Vec::new();
    for job in 0..JOBS {
        let code = job.to_string();
        start(&home, &["-q", "--", "sh", "-c", COUNTS, mark, &code]);
        let id = (2 * job + 1).to_string();
        readers.push(begin(&home, &id, &["receive", "--wait", &id]));
    }
    let mut waits = begin(&home, "all", &["wait", "all"]);
    // Every start ever made that lives: a fork that has not become `sleep` yet is marked, too.
    let shells = || {
        let names = fs::read_dir(home.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
        let pid = |name: String| name.strip_prefix("gate.")?.parse::<u32>().ok();
        let mut started: Vec<u32> = names.filter_map(pid).collect();
        started.sort_unstable();
        let alive = processes_marked(mark);
        assert!(started.iter().all(|pid| alive.contains(pid)), "{started:?} of {alive:?}");
        started
    };
    wait_for("the processes", || (shells().len() == JOBS).then_some(()));
    let lines = |job: usize| said(&home, &format!("{}.out", 2 * job + 1)).lines().count();
    wait_for("all readers", || (0..JOBS).all(|job| lines(job) > 0).then_some(()));
    let (pids, mut nodes) = (shells(), Vec::new());
    for _ in 0..3 {
        let ran = home.sortie(&["node", "restart"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        nodes.push(said(&home, "lock"));
        // Each has come that far by now, and goes on.
        let before: Vec<usize> = (0..JOBS).map(lines).collect();
        let go_on = || before.iter().enumerate().all(|(job, before)| lines(job) > *before);
        wait_for("more of each", || go_on().then_some(()));
        assert_eq!(shells(), pids, "the same processes");
    }
    fs::write(&gate, "").expect("a file");
    nodes.dedup();
    assert_eq!(nodes.len(), 3, "each restart was another node: {nodes:?}");
    for (job, reader) in readers.iter_mut().enumerate() {
        let id = (2 * job + 1).to_string();
        let code = reader.wait().expect("an end").code();
        let err = said(&home, &format!("{id}.err"));
        assert_eq!(code, Some(if job == 0 { 0 } else { 100 }), "{err}");
        let out = said(&home, &format!("{id}.out"));
        let printed = out.lines().last().and_then(|line| line.strip_suffix(" in all"));
        let printed: u32 = printed.expect("all of it").parse().expect("a number");
        assert_eq!(out, numbers(printed) + &format!("{printed} in all\n"), "job {id}");
        assert!(err.contains("reconnecting") && err.contains("connected to node"), "{err}");
        let child = (2 * job + 2).to_string();
        assert_eq!(entry(&home, &child)["exit_code"], job, "its end is known");
    }
    assert_eq!(waits.wait().expect("an end").code(), Some(100), "{}", said(&home, "all.err"));
}

#[test]
fn a_node_that_leaves_says_no_goodbye_and_the_next_one_takes_up_what_it_left() {
    let [a, mut b] = two();
    let gate = b.path().join("gate");
    let line = "echo one; while [ ! -e \"$0\" ]; do sleep 0.02; done; echo two; exit 4";
    let text = gate.to_str().expect("UTF-8");
    // Its own, another node's, and one that ends with its command.
    start(&b, &["--", "sh", "-c", line, text]);
    start(&a, &["--on", "b", "--", "sh", "-c", line, text]);
    let short = format!("{}{}", 82_000, std::process::id());
    let mut invoke = begin(&b, "invoke", &["invoke", "--", "sleep", &short]);
    let running = || processes_marked(&short).into_iter().any(|pid| pid != invoke.id());
    wait_for("all three", || {
        (processes_marked(text).len() >= 2 && state(&a, "1") == "running" && running())
            .then_some(())
    });
    let mut waits = begin(&b, "waits", &["receive", "--wait", "1"]);
    wait_for("its first line", || (said(&b, "waits.out") == "one\n").then_some(()));
    assert_eq!(b.sortie(&["node", "stop", "--keep"]).code, 0);
    assert!(!b.path().join("node.addr").exists());
    wait_for("the end of what ends with it", || processes_marked(&short).is_empty().then_some(()));
    assert_ne!(invoke.wait().expect("an end").code(), Some(0));
    assert!(processes_marked(text).len() >= 2, "the others run on");
    wait_for("the reader to wait", || said(&b, "waits.err").contains("reconnecting").then_some(()));
    b.live_again("b");
    fs::write(&gate, "").expect("a file");
    assert_eq!(waits.wait().expect("an end").code(), Some(100), "{}", said(&b, "waits.err"));
    assert_eq!(said(&b, "waits.out"), "one\ntwo\n");
    let far = a.sortie(&["receive", "--wait", "1"]);
    assert_eq!((far.code, far.out.as_str()), (100, "one\ntwo\n"), "{far:?}");
    assert_eq!(entry(&a, "2")["exit_code"], 4);
}

#[tokio::test]
async fn a_node_without_a_home_can_leave_nothing() {
    let node = sortie::Node::builder("a").start().await.expect("a node");
    let error = node.client().leave_node().await.expect_err("it has no home");
    assert_eq!(error.code(), sortie::ErrorCode::Usage, "{error}");
    node.shut_down().await;
}
