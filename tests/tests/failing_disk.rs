//! A disk that fails under a node's journal (`docs/semantics.md`, section 4.2), by what `strace`
//! injects, and one that is full under its guardian. Where the former is not there or may not
//! trace, or nothing can be mounted, nothing is tested and said so;
//! `cargo xtask chaos --scenario disk` has each call of the journal fail in turn.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::{fs, io};

use serde_json::Value;
use sortie_tests::jobs::{entry, numbers, start, state};
use sortie_tests::{Home, two, wait_for};

/// Has every call fail from now on by which the node's journal is written.
fn failing(home: &Home) -> Option<Child> {
    let failing = traced(home);
    if failing.is_none() {
        eprintln!("skipped: `strace` is not here, or may not trace");
    }
    failing
}

/// Has them work again.
fn mend(mut strace: Child) {
    strace.kill().expect("a tracer to kill");
    strace.wait().expect("its end");
}

fn traced(home: &Home) -> Option<Child> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync"]);
    strace.args(["-e", "inject=pwrite64,fdatasync:error=EIO"]);
    strace.arg("-P").arg(home.path().join("sessions/journal"));
    let pid = home.daemon_pid().to_string();
    let mut strace = strace.args(["-p", &pid]).stderr(Stdio::null()).spawn().ok()?;
    let tasks = format!("/proc/{pid}/task");
    let is_traced = |status: String| !status.contains("TracerPid:\t0\n");
    let all_traced = || {
        let tasks = fs::read_dir(&tasks).expect("a living node").flatten();
        let mut statuses =
            tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        statuses.all(is_traced)
    };
    let traces = wait_for("every thread to be traced", || match strace.try_wait() {
        Ok(None) => all_traced().then_some(true),
        _ => Some(false),
    });
    traces.then_some(strace)
}

#[test]
fn a_receive_whose_confirmation_the_disk_does_not_take_fails_and_comes_again() {
    let mut home = Home::running("solo", &[]);
    start(&home, &["--", "echo", "said"]);
    assert_eq!(home.sortie(&["wait", "1"]).code, 0);
    let Some(strace) = failing(&home) else { return };
    let received = home.sortie(&["receive", "1"]);
    assert_eq!((received.code, &received.out[..]), (1, "said\n"), "{received:?}");
    assert!(received.err.contains("it may come again"), "{received:?}");
    let waited = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!(waited.code, 1, "{waited:?}");
    assert_eq!(home.sortie(&["start", "--", "true"]).code, 1);
    mend(strace);
    home.live_again("solo");
    let again = home.sortie(&["receive", "1"]);
    assert_eq!((again.code, &again.out[..]), (0, "said\n"), "{again:?}");
    assert_eq!(home.sortie(&["receive", "1"]).out, "");
}

#[test]
fn who_stops_a_job_hears_that_a_failed_journal_does_not_have_it() {
    let mut home = Home::running("solo", &[]);
    start(&home, &["--", "sleep", "600"]);
    start(&home, &["--", "sleep", "600"]);
    assert_eq!(home.sortie(&["stop", "1"]).code, 0);
    let Some(strace) = failing(&home) else { return };
    let stopped = home.sortie(&["stop", "3"]);
    assert_eq!(stopped.code, 1, "{stopped:?}");
    assert!(stopped.err.contains("what job 3 was told is forgotten if"), "{stopped:?}");
    assert_eq!(state(&home, "3"), "stopped", "it is in effect all the same");
    mend(strace);
    home.live_again("solo");
    let again = home.sortie(&["stop", "1", "3"]);
    assert_eq!((again.code, &again.err[..]), (0, ""), "{again:?}");
}

/// A map whose lines note themselves in the home's `ran` and wait for a file `go`, two at once;
/// these two run.
fn mapped(home: &Home) {
    let lines: String = (0..LINES).map(|line| format!("{line}\n")).collect();
    fs::write(home.path().join("lines"), lines).expect("a file");
    let each = "echo {} >> \"$0/ran\"; while [ ! -e \"$0/go\" ]; do sleep 0.02; done; echo {}";
    let folder = home.path().to_str().expect("UTF-8");
    let lines = format!("{folder}/lines");
    start(home, &["-j", "2", "--map", &lines, "--", "sh", "-c", each, folder]);
    wait_for("two lines", || (ran(home).len() == 2).then_some(()));
}

const LINES: usize = 12;

fn ran(home: &Home) -> Vec<usize> {
    let ran = fs::read_to_string(home.path().join("ran")).unwrap_or_default();
    ran.lines().map(|line| line.parse().expect("a number")).collect()
}

/// Lets the lines go on while nothing can be noted: nothing more of them begins.
fn goes_on_as_far_as_it_is_noted(home: &Home, why: &str) {
    fs::write(home.path().join("go"), "").expect("a file");
    let running = || entry(home, "1").pointer("/progress/running").and_then(Value::as_u64);
    wait_for("both ends", || (running() == Some(0)).then_some(()));
    let explained = home.sortie(&["explain", "1"]);
    assert!(explained.out.contains(why), "{explained:?}");
    assert_eq!(ran(home).len(), 2, "nothing that is not noted has begun");
}

fn all_ran_once(home: &Home) {
    let received = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!((received.code, received.out.lines().count()), (0, LINES), "{received:?}");
    let mut ran = ran(home);
    ran.sort_unstable();
    assert_eq!(ran, (0..LINES).collect::<Vec<_>>(), "each line once");
}

#[test]
fn no_line_of_a_map_runs_twice_whose_journal_failed_while_it_was_read() {
    let home = Home::running("solo", &[]);
    mapped(&home);
    let Some(strace) = failing(&home) else { return };
    goes_on_as_far_as_it_is_noted(&home, "the journal failed");
    mend(strace);
    assert_eq!(ran(&home).len(), 2, "what failed once stays so");
    let again = home.sortie(&["node", "restart"]);
    assert_eq!(again.code, 0, "{again:?}");
    all_ran_once(&home);
}

/// A file system of four mebibytes, if we may mount one. Dropping it unmounts it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir_all(&path).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=700", "none"]).arg(&path);
        let mounted = mount.stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }

    /// Leaves no room at all.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let full = fs::write(&ballast, vec![0; 8 << 20]).expect_err("a full disk");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A node whose guardian keeps what processes write on a small disk, which goes before its home.
fn over_a_small_disk() -> Option<(Home, SmallDisk)> {
    let mut home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
    home.kill_daemon();
    let Some(disk) = SmallDisk::mount(home.path().join("sessions/processes")) else {
        eprintln!("skipped: nothing can be mounted here");
        return None;
    };
    home.run("solo", &[]);
    Some((home, disk))
}

#[test]
fn doctor_writes_to_the_home_and_says_that_its_disk_is_full() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(home.path().join("small")) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let check = || {
        let mut doctor = home.command(["doctor"]);
        let output = doctor.env("SORTIE_HOME", &disk.0).output().expect("a program to run");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(check().starts_with("ok       home "), "{}", check());
    let ballast = disk.fill();
    let checked = check();
    assert!(checked.starts_with("problem  home "), "{checked}");
    assert!(checked.contains("cannot write") && checked.contains("make room"), "{checked}");
    fs::remove_file(ballast).expect("it was written");
    assert!(check().starts_with("ok       home "), "{}", check());
    assert_eq!(fs::read_dir(&disk.0).expect("a folder").count(), 0, "nothing is left");
}

/// How many lines a job says that has no room when its node begins again.
const SAID: u32 = 2_000_000;

/// A node that begins again where its mailboxes have no room for what a job said, which failed.
fn without_room() -> Option<(Home, SmallDisk)> {
    let mut home = Home::running("solo", &[]);
    start(&home, &["--", "sh", "-c", &format!("seq {SAID}; exit 4")]);
    assert_eq!(home.sortie(&["wait", "1"]).code, 100);
    home.kill_daemon();
    // Where the next node's mailboxes have their files.
    let Some(disk) = SmallDisk::mount(home.path().join("spill")) else {
        eprintln!("skipped: nothing can be mounted here");
        return None;
    };
    disk.fill();
    home.run("solo", &[]);
    let job = entry(&home, "1");
    assert_eq!((&job["has_more_data"], &job["state"]), (&true.into(), &"failed".into()), "{job}");
    Some((home, disk))
}

/// Receives, and is told that this is not all.
fn a_part(home: &Home, words: &[&str], of: &str) -> String {
    let part = home.sortie(&[&["receive"], words].concat());
    let says = format!("not all output of {of} is back: the disk of its node's home is full");
    assert!(part.code == 1 && part.err.contains(&says), "{words:?}: {} {}", part.code, part.err);
    assert!(!part.err.contains("is Failed"), "{words:?}: no end before the last record");
    part.out
}

#[test]
fn what_had_no_room_when_its_node_began_again_comes_all_the_same() {
    let Some((mut home, _disk)) = without_room() else { return };
    for words in [["--keep", "1"], ["--follow", "1"]] {
        assert!(a_part(&home, &words, "job 1").starts_with(&numbers(10)), "{words:?}");
    }
    for words in [&["--wait", "--stream", "error", "1"][..], &["--stream", "error", "1"]] {
        assert_eq!(a_part(&home, words, "job 1"), "", "{words:?}");
    }
    assert_eq!(a_part(&home, &["--wait", "--events", "--stream", "error", "2"], "child 2"), "");
    let begin = a_part(&home, &["--stream", "output", "1"], "job 1");
    assert!(begin.starts_with(&numbers(10)), "{} bytes", begin.len());
    home.kill_daemon();
    home.run("solo", &[]);
    // It makes room as it goes on.
    let rest = home.sortie(&["receive", "1"]);
    assert_eq!(rest.code, 0, "{:?}", rest.err);
    assert!(rest.err.contains("exited with status 4"), "{}", rest.err);
    assert!(begin + &rest.out == numbers(SAID), "every line, once");
    home.kill_daemon();
    home.run("solo", &[]);
    let nothing = home.sortie(&["receive", "1"]);
    assert_eq!((nothing.code, &nothing.out[..]), (0, ""), "{:?}", nothing.err);
}

#[test]
fn an_end_is_told_behind_what_had_no_room_when_its_node_began_again() {
    let Some((home, _disk)) = without_room() else { return };
    // Of the child alone, which nobody else waits for.
    let all = home.sortie(&["receive", "--wait", "--events", "-o", "ndjson", "2"]);
    assert_eq!(all.code, 100, "{:?}", all.err);
    let is_event = |line: &&str| line.contains("\"event\"");
    let (events, records): (Vec<_>, Vec<_>) = all.out.lines().partition(is_event);
    assert!(records.len() > 1 && events.len() == 1, "{} {events:?}", records.len());
    assert_eq!(all.out.lines().last(), events.first().copied(), "the end comes last");
    let bytes = |line: &&str| {
        let record: Value = serde_json::from_str(line).expect("JSON");
        record["text"].as_str().map_or(0, str::len)
    };
    assert_eq!(records.iter().map(bytes).sum::<usize>(), numbers(SAID).len(), "all of it");
}

#[test]
fn what_begins_while_the_disk_is_full_waits_for_room_and_can_be_stopped() {
    let Some((home, disk)) = over_a_small_disk() else { return };
    let ballast = disk.fill();
    for file in ["ran", "stopped"] {
        start(&home, &["--", "touch", home.path().join(file).to_str().expect("UTF-8")]);
    }
    let why = "not begun: the disk has no room left";
    let waits = |child: &str| {
        let entry = entry(&home, child);
        let notes = entry.get("notes").and_then(Value::as_array);
        notes.is_some_and(|notes| notes.iter().any(|note| note == why)).then_some(())
    };
    wait_for("the first to wait", || waits("2"));
    wait_for("the second to wait", || waits("4"));
    let stopped = home.sortie(&["stop", "3"]);
    assert_eq!((stopped.code, state(&home, "3").as_str()), (0, "stopped"), "{stopped:?}");
    let suspended = home.sortie(&["suspend", "1"]);
    assert_eq!((suspended.code, state(&home, "2").as_str()), (0, "not_started"), "{suspended:?}");
    fs::remove_file(ballast).expect("it was written");
    let other = home.sortie(&["invoke", "--session", "default", "--", "echo", "other"]);
    assert_eq!((other.code, &other.out[..]), (0, "other\n"), "there is room: {other:?}");
    assert!(!home.path().join("ran").exists(), "it stands still");
    let resumed = home.sortie(&["resume", "1"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert_eq!(home.sortie(&["wait", "1"]).code, 0);
    let made = ["ran", "stopped"].map(|file| home.path().join(file).exists());
    assert_eq!(made, [true, false]);
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
    drop(disk);
}

#[test]
fn what_the_guardian_holds_back_on_a_full_disk_is_shown_and_nothing_of_it_is_lost() {
    let Some((home, disk)) = over_a_small_disk() else { return };
    let go = home.path().join("go");
    let script = "while [ ! -e \"$0\" ]; do sleep 0.02; done; seq 20000";
    start(&home, &["--", "sh", "-c", script, go.to_str().expect("UTF-8")]);
    wait_for("the process", || (state(&home, "1") == "running").then_some(()));
    assert_eq!(entry(&home, "2")["paused"], Value::Null);
    let ballast = disk.fill();
    fs::write(&go, "").expect("a file");
    let why = "the disk has no room left";
    wait_for("a pause", || (entry(&home, "2")["paused"] == why).then_some(()));
    assert_eq!(entry(&home, "1")["paused"], 1);
    let got = home.sortie(&["get"]);
    assert!(got.err.contains("`sortie explain 1` says why"), "{got:?}");
    let explained = home.sortie(&["explain", "1"]);
    assert!(explained.out.contains(why), "{explained:?}");
    let checked = home.sortie(&["doctor"]);
    assert!(checked.code == 1 && checked.out.contains(why), "{checked:?}");
    fs::remove_file(ballast).expect("it was written");
    let received = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!((received.code, received.out), (0, numbers(20_000)));
    assert_eq!(entry(&home, "2")["paused"], Value::Null);
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
    drop(disk);
}

#[test]
fn a_child_elsewhere_ends_while_what_it_said_waits_for_room() {
    const LINES: u32 = 2_000_000;
    let [mut a, b] = two();
    let gate = b.path().join("gate");
    let line = "seq $1; while [ ! -e \"$0\" ]; do sleep 0.02; done; echo last; exit 4";
    let (gate_path, lines) = (gate.to_str().expect("UTF-8"), LINES.to_string());
    start(&a, &["--on", "b", "--", "sh", "-c", line, gate_path, &lines]);
    wait_for("its output", || {
        let children = a.json(&["get", "--children", "1"]);
        let unread = children["jobs"][1]["unread_bytes"].as_u64()?;
        (unread == numbers(LINES).len() as u64).then_some(())
    });
    a.kill_daemon();
    let Some(disk) = SmallDisk::mount(a.path().join("spill")) else {
        return eprintln!("skipped: nothing can be mounted here");
    };
    disk.fill();
    a.run("a", &[]);
    fs::write(&gate, "").expect("a file");
    let waited = a.sortie(&["wait", "1", "--timeout", "60s"]);
    assert_eq!(waited.code, 100, "it ends before anybody reads: {waited:?}");
    let all = a.sortie(&["receive", "--wait", "1"]);
    assert_eq!(all.code, 100, "{:?}", all.err);
    assert!(all.out == numbers(LINES) + "last\n", "every line, once");
}

#[test]
fn jobs_whose_output_waits_for_room_are_received_together() {
    const LINES: u32 = 600_000;
    let mut home = Home::running("solo", &[]);
    for _ in 0..2 {
        start(&home, &["--", "seq", &LINES.to_string()]);
    }
    assert_eq!(home.sortie(&["wait", "all"]).code, 0);
    home.kill_daemon();
    let Some(disk) = SmallDisk::mount(home.path().join("spill")) else {
        return eprintln!("skipped: nothing can be mounted here");
    };
    disk.fill();
    home.run("solo", &[]);
    let all = home.sortie(&["receive", "--wait", "--no-prefix", "1", "3"]);
    assert_eq!(all.code, 0, "{:?}", all.err);
    // What ends within a line goes on with it where nobody else came between.
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    assert_eq!(digits(&all.out), 2 * digits(&numbers(LINES)), "everything, once");
    assert_eq!(home.sortie(&["receive", "1", "3"]).out, "", "and it is gone");
}
