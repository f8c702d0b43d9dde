//! `start --detached`: processes that belong to no session and no job, through the real command.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sortie::{Command, Detach, DetachError, ErrorCode, Node, RequestError, SpawnStep};
use sortie_tests::{Home, Ran, children_of, client, join_all, wait_for};

/// Sleeps for longer than any test.
const SLEEP: &str = "exec sleep 1000";

/// A detached process, which nothing but this ends.
struct Detached {
    node: String,
    pid: u32,
    log: PathBuf,
}

impl Detached {
    fn of(entry: &Value) -> Self {
        let text =
            |field: &str| entry.get(field).and_then(Value::as_str).expect("a text").to_owned();
        let pid = entry.get("pid").and_then(Value::as_u64);
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        Self { node: text("node"), pid: pid.expect("a number"), log: text("log").into() }
    }

    fn runs(&self) -> bool {
        // One that has ended and was not collected has no words.
        fs::read(format!("/proc/{}/cmdline", self.pid)).is_ok_and(|words| !words.is_empty())
    }

    /// Its log, once it holds that.
    fn logged(&self, what: &str) -> String {
        wait_for(&format!("{what} in a log"), || {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            log.contains(what).then_some(log)
        })
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        kill(self.pid);
    }
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
    // It may have ended by itself.
    let _ = kill_process(pid, Signal::KILL);
}

/// What a command that must succeed has detached.
fn detach(home: &Home, options: &[&str], words: &[&str]) -> Vec<Detached> {
    let start = [&["start", "--detached"], options, &["-o", "json", "--"], words].concat();
    let ran = home.sortie(&start);
    assert_eq!(ran.code, 0, "{ran:?}");
    detached_in(&ran)
}

fn detached_in(ran: &Ran) -> Vec<Detached> {
    let document: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(document.get("schema"), Some(&Value::from(1)));
    let list = document.get("detached").and_then(Value::as_array);
    list.expect("a list").iter().map(Detached::of).collect()
}

fn one(home: &Home, script: &str) -> Detached {
    let mut all = detach(home, &[], &["sh", "-c", script]);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn it_outlives_the_stop_of_its_node_and_nobody_has_it() {
    let home = Home::running("a", &[]);
    let children = children_of(home.daemon_pid());
    let process = one(&home, &format!("echo out; echo err >&2; {SLEEP}"));
    assert_eq!(process.logged("err"), "out\nerr\n");
    assert_eq!(process.node, "a");
    let place = home.path().join("detached");
    assert!(process.log.starts_with(&place), "{:?}", process.log);
    assert_eq!(children_of(home.daemon_pid()), children, "what starts it was collected");
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let own = process.pid.to_string();
    assert_eq!(fields[2..4], [own.as_str(), own.as_str()], "its own group and session");
    let open = fs::read_dir(format!("/proc/{}/fd", process.pid)).expect("it runs");
    assert_eq!(open.count(), 3, "its standard streams, and nothing of the node's");

    assert_eq!(home.json(&["get"])["jobs"], Value::Array(Vec::new()));
    assert_eq!(home.json(&["tree"])["jobs"], Value::Array(Vec::new()));
    assert_eq!(home.sortie(&["stop", "all"]).code, 0);
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
    wait_for("the end of the node", || (!home.path().join("node.addr").exists()).then_some(()));
    assert!(process.runs());
}

#[test]
fn it_outlives_the_death_of_its_node_and_of_its_guardian() {
    let mut home = Home::running("a", &[]);
    let first = one(&home, SLEEP);
    let guardian = children_of(home.daemon_pid());
    guardian.into_iter().for_each(kill);
    home.kill_daemon();
    home.live_again("a");
    // Children run once more: whatever the dead guardian had left was killed by now.
    assert_eq!(home.sortie(&["invoke", "--", "true"]).code, 0);
    let second = one(&home, SLEEP);
    assert!(first.runs() && second.runs());
    let guardian = children_of(home.daemon_pid());
    guardian.into_iter().for_each(kill);
    wait_for("the next guardian", || {
        (home.sortie(&["invoke", "--", "true"]).code == 0).then_some(())
    });
    assert!(first.runs() && second.runs());
}

#[test]
fn a_child_detaches_one_and_its_stop_does_not_reach_it() {
    let home = Home::running("a", &[]);
    let sortie = sortie_tests::sortie_binary();
    let script = format!(
        "{} start --detached -o json -- sh -c 'env; echo .; {SLEEP}'; {SLEEP}",
        sortie.display()
    );
    assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
    let ends: [(&[&str], &[&str]); 2] = [
        (&[], &["stop", "last", "--now"]),
        (&["--session", "work"], &["session", "close", "work"]),
    ];
    for (session, end) in ends {
        let start = [&["start"], session, &["--", "sh", "-c", &script]].concat();
        assert_eq!(home.sortie(&start).code, 0);
        let read = [&["receive", "last", "--keep"], session].concat();
        let ran = wait_for("the process", || {
            let ran = home.sortie(&read);
            ran.out.ends_with('\n').then_some(ran)
        });
        let mut all = detached_in(&ran);
        let process = all.remove(0);
        let environment = process.logged("\n.\n");
        for name in ["SORTIE_SESSION", "SORTIE_JOB", "SORTIE_CHILD", "SORTIE_TREE"] {
            assert!(!environment.contains(&format!("{name}=")), "{environment}");
        }
        assert!(environment.contains("SORTIE_NODE=a\n"), "{environment}");
        let ran = home.sortie(end);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(process.runs(), "{end:?}");
    }
}

#[test]
fn each_of_several_nodes_starts_one_in_surroundings_of_its_own() {
    let mut homes = ["a", "b"].map(|name| Home::running(name, &[]));
    join_all(&homes.each_ref());
    let [a, b] = &homes;
    let script = format!("env; pwd; echo .; {SLEEP}");
    let words = ["sh", "-c", script.as_str()];
    let command = ["start", "--detached", "--on", "a,b", "-e", "SET=1", "-o", "json", "--"];
    let mut start = a.command([command.as_slice(), &words].concat());
    let there = start.env("OURS", "2").current_dir("/usr").output().expect("to run");
    let document: Value = serde_json::from_slice(&there.stdout).expect("JSON");
    let all: Vec<_> =
        document["detached"].as_array().expect("a list").iter().map(Detached::of).collect();
    let [on_a, on_b] = &all[..] else { panic!("two: {document}") };
    assert_eq!([on_a.node.as_str(), on_b.node.as_str()], ["a", "b"]);
    assert!(on_a.log.starts_with(a.path()) && on_b.log.starts_with(b.path()));
    let (log_a, log_b) = (on_a.logged("\n.\n"), on_b.logged("\n.\n"));
    assert!(log_a.contains("SET=1\n") && log_b.contains("SET=1\n"), "{log_a}\n{log_b}");
    assert!(log_a.contains("OURS=2\n") && log_a.contains("\n/usr\n."), "{log_a}");
    assert!(!log_b.contains("OURS=2\n") && !log_b.contains("\n/usr\n."), "{log_b}");
    assert!(log_b.contains("SORTIE_NODE=b\n"), "{log_b}");

    // By another client's node, in the words of people, and as numbers alone.
    let listed = a.sortie(&["start", "--detached", "--node", "b", "--", "true"]);
    let lines = listed.lines();
    assert_eq!((listed.code, lines.len()), (0, 2), "{listed:?}");
    assert!(lines[0].split_whitespace().eq(["NODE", "PID", "LOG"]), "{listed:?}");
    assert!(lines[1].starts_with("b "), "{listed:?}");
    let quiet = a.sortie(&["start", "--detached", "-q", "-a", "-j", "1", "--", "true"]);
    let pids: Vec<u32> = quiet.lines().iter().filter_map(|line| line.parse().ok()).collect();
    assert_eq!((quiet.code, pids.len()), (0, 2), "{quiet:?}");

    // Each fault names its node, our own too.
    let ran = a.sortie(&["start", "--detached", "--on", "a,b", "--", "/no/such"]);
    let nodes: Vec<&str> = ran.err.lines().map(|line| &line[..11]).collect();
    assert_eq!((ran.code, &nodes[..]), (100, &["sortie: a: ", "sortie: b: "][..]), "{ran:?}");

    // A node that is not there is that node's failure alone.
    homes[1].kill_daemon();
    let [a, _] = &homes;
    let ran = a.sortie(&["start", "--detached", "--on", "a,b", "-o", "json", "--", "true"]);
    assert_eq!(ran.code, 101, "{ran:?}");
    assert_eq!(detached_in(&ran).len(), 1, "{ran:?}");
    assert!(ran.err.contains("b: "), "{ran:?}");
    let ran = a.sortie(&["start", "--detached", "--on", "b", "--", "true"]);
    assert_eq!((ran.code, ran.out.as_str()), (125, ""), "{ran:?}");
}

#[test]
fn what_cannot_be_started_says_so_and_leaves_nothing() {
    let home = Home::running("a", &[]);
    let check = |options: &[&str], program: &str, code: i32, says: &str| {
        let start = [&["start", "--detached"], options, &["--", program]].concat();
        let ran = home.sortie(&start);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{ran:?}");
        assert!(ran.err.contains(says) && ran.err.contains(program), "{ran:?}");
    };
    check(&[], "/no/such/program", 127, "(exec)");
    check(&["-e", "PATH=/nowhere"], "sleep", 127, "(exec)");
    check(&[], "/etc/passwd", 126, "(exec)");
    let ran = home.sortie(&["start", "--detached", "-C", "/no/such", "--", "true"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(files_in(&home.path().join("detached")), Vec::<String>::new());
    for (options, code) in [(&["--on", "nobody"][..], 4), (&["--on", "x*"], 0)] {
        let ran = home.sortie(&[&["start", "--detached"], options, &["--", "true"]].concat());
        assert_eq!(ran.code, code, "{ran:?}");
    }
}

#[test]
fn what_is_for_jobs_is_refused_by_name_before_anything_is_done() {
    let home = Home::new();
    let options = [
        "--map=/dev/null",
        "--task=f",
        "--restart=permanent",
        "--ordered-stop",
        "--timeout=1s",
        "--grace=1s",
        "--drain=1s",
        "--output-limit=1MiB",
        "--max-fails=1",
        "--fail-fast",
        "--init=true",
        "--stdin=/dev/null",
        "--prompt=? ",
        "--key=k",
        "--name=n",
        "--job-name=n",
        "--session=1",
        "--detached-session",
        "--embedded=2",
    ];
    for option in options {
        let ran = home.sortie(&["start", "--detached", option, "--", "true"]);
        let name = option.split('=').next().expect("a name");
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
        assert!(ran.err.contains("--detached") && ran.err.contains(name), "{ran:?}");
    }
    let ran = home.sortie(&["start", "--detached", "--session", "1", "--", "true"]);
    assert!(ran.err.contains("belongs to none") && ran.err.lines().count() == 2, "{ran:?}");
    for option in ["-t", "-i", "--as-job"] {
        let ran = home.sortie(&["start", "--detached", option, "--", "true"]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
        assert!(ran.err.contains(option), "{ran:?}");
    }
    assert_eq!(files_in(home.path()), Vec::<String>::new(), "no node was started for it");
}

#[test]
fn a_script_is_sent_and_a_plan_touches_nothing() {
    let home = Home::running("a", &[]);
    let script = home.path().join("said");
    fs::write(&script, "echo \"$1 and $2\"; cat; echo end\n").expect("written");
    let file = script.to_str().expect("a text");
    let options = ["start", "--detached", "--script", file];
    let plan = home.json(&[&options[..], &["--dry-run"]].concat());
    assert_eq!(plan["plan"]["nodes"], serde_json::json!(["a"]));
    assert!(!home.path().join("detached").exists());
    let ran = home.sortie(&[&options[..], &["-o", "json", "--", "one", "two"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(detached_in(&ran)[0].logged("end"), "one and two\nend\n");
}

#[tokio::test]
async fn a_program_detaches_one_by_its_client() {
    let home = Home::running("a", &[]);
    let client = client(&home).await;
    let script = format!("echo $A in $PWD; {SLEEP}");
    let command = Command::new("sh").args(["-c", &script]);
    let what = Detach::new(command).inherit_directory("/usr").directory("lib").env("A", "1");
    let started = client.detach(what).await.expect("it starts");
    let process = Detached { node: started.node.to_string(), pid: started.pid, log: started.log };
    assert_eq!(process.logged("\n"), "1 in /usr/lib\n");
    let error = client.detach(Command::new("/no/such")).await.expect_err("it is not there");
    assert!(matches!(error, DetachError::Spawn { step: SpawnStep::Exec, errno: 2 }), "{error:?}");
    let error = client.detach(Command::new("")).await.expect_err("it is empty");
    assert!(is(&error, ErrorCode::Usage), "{error:?}");

    let node = Node::builder("homeless").start().await.expect("a node");
    let error = node.client().detach(Command::new("true")).await.expect_err("it has no home");
    assert!(is(&error, ErrorCode::Usage), "{error:?}");
    node.shut_down().await;
}

fn is(error: &DetachError, code: ErrorCode) -> bool {
    matches!(error, DetachError::Request(RequestError::Refused(refused)) if refused.code == code)
}
