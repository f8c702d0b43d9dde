//! Sessions, jobs, processes and results outlive their node (`docs/semantics.md`, section 4.2).

use std::fs;

use sortie_tests::jobs::{entry, numbers, start, state};
use sortie_tests::{Home, processes_marked, two, wait_for};

#[test]
fn a_process_runs_on_and_nothing_of_it_is_lost_or_comes_twice() {
    let mut home = Home::running("solo", &[]);
    let (gate, own) = (home.path().join("gate"), home.path().join("own"));
    let line = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; echo $i >> \"$1\"; done; \
                while [ ! -e \"$0\" ]; do sleep 0.02; done; echo last; exit 7";
    let words =
        ["--", "sh", "-c", line, gate.to_str().expect("UTF-8"), own.to_str().expect("UTF-8")];
    start(&home, &words);
    let mut taken = String::new();
    for _ in 0..4 {
        home.live_again("solo");
        assert_eq!(state(&home, "1"), "running");
        taken.push_str(&home.sortie(&["receive", "1"]).out);
    }
    let explained = home.sortie(&["explain", "1"]);
    assert!(explained.out.contains("taken over by the next at"), "{explained:?}");
    fs::write(&gate, "").expect("a file");
    let rest = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!(rest.code, 100, "{rest:?}");
    taken.push_str(&rest.out);
    assert_eq!(taken, numbers(400) + "last\n");
    assert_eq!(fs::read_to_string(&own).expect("a file"), numbers(400), "it ran once");
    assert_eq!(entry(&home, "2")["exit_code"], 7);
    home.live_again("solo");
    assert_eq!(
        (home.sortie(&["receive", "1"]).out, state(&home, "1")),
        (String::new(), "failed".into())
    );
}

#[test]
fn an_end_that_came_while_no_node_was_there_is_known_to_the_next() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let line = "echo before; while [ ! -e \"$0\" ]; do sleep 0.02; done; echo after >&2; exit 3";
    start(&home, &["--", "sh", "-c", line, gate.to_str().expect("UTF-8")]);
    let mark = gate.to_str().expect("UTF-8").to_owned();
    wait_for("the process", || (!processes_marked(&mark).is_empty()).then_some(()));
    home.kill_daemon();
    fs::write(&gate, "").expect("a file");
    wait_for("its end", || processes_marked(&mark).is_empty().then_some(()));
    home.live_again("solo");
    let ran = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!((ran.code, &ran.out[..]), (100, "before\n"), "{ran:?}");
    assert!(ran.err.contains("after\n"), "{ran:?}");
    assert_eq!(entry(&home, "2")["exit_code"], 3);
}

#[test]
fn jobs_ids_keys_and_what_was_taken_are_as_they_were() {
    let mut home = Home::running("solo", &[]);
    start(&home, &["--key", "once", "--name", "one", "--", "sh", "-c", "echo out; echo err >&2"]);
    start(&home, &["--", "sh", "-c", "echo second; exit 4"]);
    assert_eq!(home.sortie(&["wait", "1", "3"]).code, 100);
    assert_eq!(home.sortie(&["receive", "1", "--stream", "output"]).out, "out\n");
    let before = home.json(&["get", "--children"]);
    home.live_again("solo");
    let after = home.json(&["get", "--children"]);
    assert_eq!(before, after);
    // The same key is the same job, with another spec it is an error.
    let again = ["--key", "once", "--name", "one", "--", "sh", "-c", "echo out; echo err >&2"];
    let ran = home.sortie(&[&["start", "-q"][..], &again].concat());
    assert_eq!((ran.code, ran.out.trim()), (0, "1"), "{ran:?}");
    let other = home.sortie(&["start", "--key", "once", "--", "true"]);
    assert!(other.code != 0 && other.err.contains("once"), "{other:?}");
    let rest = home.sortie(&["receive", "1"]);
    assert_eq!((&rest.out[..], &rest.err[..]), ("", "err\n"));
    assert_eq!(home.sortie(&["remove", "one"]).code, 0);
    let next = home.sortie(&["start", "-q", "--", "true"]);
    home.live_again("solo");
    let ids = home.sortie(&["get", "-q"]);
    assert_eq!(ids.lines(), ["3", next.out.trim()]);
    assert_eq!(home.sortie(&["receive", "3"]).out, "second\n");
}

#[test]
fn what_a_receive_wrote_before_its_time_ran_out_does_not_come_again() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let line = "echo before; while [ ! -e \"$0\" ]; do sleep 0.02; done; echo after";
    start(&home, &["--", "sh", "-c", line, gate.to_str().expect("UTF-8")]);
    wait_for("its output", || (entry(&home, "2")["unread_bytes"] == 7).then_some(()));
    let ran = wait_for("it to be taken", || {
        // A time may run out before anything came.
        let ran = home.sortie(&["receive", "--wait", "--timeout", "200ms", "1"]);
        assert_eq!(ran.code, 124, "{ran:?}");
        (!ran.out.is_empty()).then_some(ran)
    });
    assert_eq!(ran.out, "before\n", "{ran:?}");
    home.live_again("solo");
    fs::write(&gate, "").expect("a file");
    let ran = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!((ran.code, &ran.out[..]), (0, "after\n"), "{ran:?}");
}

#[test]
fn what_waited_for_its_turn_runs_once_after_the_node_is_back() {
    let mut home = Home::running("solo", &[]);
    let (gate, done) = (home.path().join("gate"), home.path().join("done"));
    let line = "while [ ! -e \"$0\" ]; do sleep 0.02; done; echo x >> \"$1\"";
    let (gate_text, done_text) = (gate.to_str().expect("UTF-8"), done.to_str().expect("UTF-8"));
    for _ in 0..2 {
        start(&home, &["-j", "1", "--", "sh", "-c", line, gate_text, done_text]);
    }
    wait_for("both", || (processes_marked(gate_text).len() >= 2).then_some(()));
    home.live_again("solo");
    fs::write(&gate, "").expect("a file");
    assert_eq!(home.sortie(&["wait", "all"]).code, 0);
    assert_eq!(fs::read_to_string(&done).expect("a file"), "x\nx\n");
}

#[test]
fn a_stop_reaches_what_an_earlier_life_began_and_a_stopped_node_takes_all_along() {
    let mut home = Home::running("solo", &[]);
    let mark = format!("97533{}", std::process::id());
    let line = "trap '' TERM; (sleep \"$0\" & sleep \"$0\"); sleep \"$0\"";
    for _ in 0..2 {
        start(&home, &["--", "sh", "-c", line, &mark]);
    }
    wait_for("both trees", || (processes_marked(&mark).len() >= 6).then_some(()));
    home.live_again("solo");
    assert_eq!(home.sortie(&["stop", "1", "--grace", "100ms"]).code, 0);
    assert_eq!(state(&home, "1"), "stopped");
    assert!(processes_marked(&mark).len() <= 3, "one tree is left");
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
    wait_for("the other's end", || processes_marked(&mark).is_empty().then_some(()));
    home.live_again("solo");
    assert_eq!(state(&home, "3"), "stopped");
    assert_eq!(entry(&home, "3")["stopped_by"], "the end of its node");
}

#[test]
fn a_child_that_starts_again_keeps_what_each_of_its_lives_said() {
    let mut home = Home::running("solo", &[]);
    let (lived, gate) = (home.path().join("lived"), home.path().join("gate"));
    let line = "if [ ! -e \"$1\" ]; then touch \"$1\"; echo first; exit 1; fi; \
                i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done; \
                while [ ! -e \"$0\" ]; do sleep 0.02; done; echo last";
    let (gate_text, lived) = (gate.to_str().expect("UTF-8"), lived.to_str().expect("UTF-8"));
    start(&home, &["--restart", "transient", "--", "sh", "-c", line, gate_text, lived]);
    wait_for("the second life", || {
        let child = entry(&home, "2");
        (child["restarts"] == 1 && child["unread_bytes"].as_u64() >= Some(13_899)).then_some(())
    });
    for _ in 0..2 {
        home.live_again("solo");
        assert_eq!(state(&home, "1"), "running");
    }
    fs::write(&gate, "").expect("a file");
    let ran = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!((ran.code, ran.out), (0, format!("first\n{}last\n", numbers(3_000))));
}

#[test]
fn a_stop_that_was_under_way_goes_on_and_counts() {
    let mut home = Home::running("solo", &[]);
    let mark = format!("64208{}", std::process::id());
    let line = "trap '' TERM; while :; do sleep 0.05; done # $0";
    start(&home, &["--restart", "permanent", "--", "sh", "-c", line, &mark]);
    wait_for("the process", || (!processes_marked(&mark).is_empty()).then_some(()));
    assert_eq!(home.sortie(&["stop", "2", "--grace", "1s", "--no-wait"]).code, 0);
    wait_for("the stop", || (state(&home, "2") == "stopping").then_some(()));
    home.live_again("solo");
    assert_eq!(home.sortie(&["wait", "1", "--timeout", "60s"]).code, 102);
    assert_eq!((state(&home, "2"), processes_marked(&mark)), ("stopped".into(), vec![]));
}

#[test]
fn a_stop_of_a_node_that_was_killed_ends_what_it_left() {
    let mut home = Home::running("solo", &[]);
    let mark = format!("75319{}", std::process::id());
    start(&home, &["--", "sleep", &mark]);
    wait_for("the process", || (!processes_marked(&mark).is_empty()).then_some(()));
    home.kill_daemon();
    let stopped = home.sortie(&["node", "stop"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    wait_for("its end", || processes_marked(&mark).is_empty().then_some(()));
    assert!(!home.path().join("node.addr").exists());
}

#[test]
fn a_foreground_command_does_not_outlive_its_node() {
    let mut home = Home::running("solo", &[]);
    let mark = format!("86421{}", std::process::id());
    let mut invoke = home.command(["invoke", "--", "sleep", &mark]).spawn().expect("a command");
    let running = || processes_marked(&mark).into_iter().any(|pid| pid != invoke.id());
    wait_for("the process", || running().then_some(()));
    home.kill_daemon();
    let end = invoke.wait().expect("it ends");
    assert_ne!(end.code(), Some(0));
    wait_for("its end", || processes_marked(&mark).is_empty().then_some(()));
}

#[test]
fn a_session_of_ones_own_outlives_its_node_with_what_is_set_in_it() {
    let [a, mut b] = two();
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    assert_eq!(a.sortie(&["session", "env", "--session", "work", "GREETING=hello"]).code, 0);
    let gate = b.path().join("gate");
    let line = "echo $GREETING; while [ ! -e \"$0\" ]; do sleep 0.02; done; echo end";
    let text = gate.to_str().expect("UTF-8");
    let ran = a.sortie(&["start", "--session", "work", "--", "sh", "-c", line, text]);
    assert_eq!(ran.code, 0, "{ran:?}");
    b.live_again("b");
    wait_for("b", || (a.sortie(&["node", "ping", "b"]).code == 0).then_some(()));
    let more = a.sortie(&["invoke", "--session", "work", "--", "sh", "-c", "echo $GREETING"]);
    assert_eq!((more.code, &more.out[..]), (0, "hello\n"), "{more:?}");
    fs::write(&gate, "").expect("a file");
    let ran = a.sortie(&["receive", "--session", "work", "--wait", "1"]);
    assert_eq!((ran.code, &ran.out[..]), (0, "hello\nend\n"), "{ran:?}");
    assert_eq!(a.sortie(&["session", "close", "work"]).code, 0);
    b.live_again("b");
    let sessions = b.json(&["session", "get"]);
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(1), "{sessions}");
}

/// Kills at any moment: no process starts twice or is lost, each line comes once, each end is
/// known.
#[test]
fn a_node_that_is_killed_again_and_again_loses_nothing() {
    const JOBS: usize = 12;
    let mut home = Home::running("solo", &[]);
    let ran = home.path().join("ran");
    let line = "echo $0 >> \"$1\"; i=0; \
                while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit $0";
    let mut taken = vec![String::new(); JOBS];
    let mut kills = 0;
    for job in 0..JOBS {
        let number = (job + 1).to_string();
        let words =
            ["--key", &number, "--", "sh", "-c", line, &number, ran.to_str().expect("UTF-8")];
        let asked = home.sortie(&[&["start", "-q"][..], &words].concat());
        assert_eq!((asked.code, asked.out.trim().parse()), (0, Ok(2 * job + 1)), "{asked:?}");
        if job % 3 == 2 {
            home.live_again("solo");
            kills += 1;
        }
        let before = home.sortie(&["receive", &(2 * (job / 2) + 1).to_string()]);
        taken[job / 2].push_str(&before.out);
    }
    while home.sortie(&["wait", "all", "--timeout", "200ms"]).code == 124 {
        home.live_again("solo");
        kills += 1;
    }
    assert!(kills >= 4);
    for (job, taken) in taken.iter_mut().enumerate() {
        let (id, child) = ((2 * job + 1).to_string(), (2 * job + 2).to_string());
        taken.push_str(&home.sortie(&["receive", &id]).out);
        assert_eq!(*taken, numbers(60), "job {id}");
        assert_eq!(entry(&home, &child)["exit_code"], job + 1);
    }
    let mut ran: Vec<usize> = fs::read_to_string(&ran)
        .expect("a file")
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    ran.sort_unstable();
    assert_eq!(ran, (1..=JOBS).collect::<Vec<_>>(), "each ran once");
}

#[test]
fn what_does_not_outlive_its_node_writes_nothing_to_the_journal() {
    let home = Home::running("solo", &[]);
    let state = || {
        let journal = home.path().join("sessions/journal");
        let about = fs::metadata(journal).expect("a journal");
        (about.len(), about.modified().expect("a time"))
    };
    let before = state();
    for _ in 0..3 {
        let ran = home.sortie(&["invoke", "--", "seq", "20000"]);
        assert_eq!((ran.code, &ran.out), (0, &numbers(20_000)), "{}", ran.err);
    }
    assert_eq!(state(), before);
    start(&home, &["--", "true"]);
    assert_ne!(state(), before, "a start that outlives it does");
}

#[test]
fn what_the_disk_did_not_take_in_time_is_not_lost_with_its_node() {
    let mut home = Home::running("solo", &[]);
    // In the place of the folder for output: nothing can be written there.
    let output = home.path().join("sessions").join("output");
    fs::write(&output, "").expect("a file");
    start(&home, &["--", "sh", "-c", "seq 1 20000; exit 7"]);
    wait_for("its end", || (state(&home, "1") == "failed").then_some(()));
    let kept = home.sortie(&["receive", "--keep", "1"]);
    assert_eq!((kept.code, kept.lines().len()), (0, 20_000));
    home.kill_daemon();
    fs::remove_file(&output).expect("a file");
    home.live_again("solo");
    let ran = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!((ran.code, ran.out), (100, numbers(20_000)));
    assert_eq!(entry(&home, "2")["exit_code"], 7);
    home.live_again("solo");
    assert_eq!(
        (home.sortie(&["receive", "1"]).out, state(&home, "1")),
        ("".into(), "failed".into())
    );
}

/// Lines of a process of which its guardian has handed on whole files.
const MANY: u32 = 1_000_000;

/// Prints lines, then waits until its gate opens: `$0` and its number, `$1`.
const PRINTS: &str = "seq 1 1000000; while [ ! -e \"$0$1\" ]; do sleep 0.02; done; echo \"end $1\"";

/// Bytes of output that a guardian or a node has in files below that folder of its sessions.
fn bytes_below(home: &Home, folder: &str) -> u64 {
    fn below(path: &std::path::Path) -> u64 {
        let Ok(entries) = fs::read_dir(path) else { return 0 };
        let entries = entries.flatten().map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => below(&entry.path()),
            // A file may go while it is looked at.
            _ => entry.metadata().map_or(0, |facts| facts.len()),
        });
        entries.sum()
    }
    below(&home.path().join("sessions").join(folder))
}

#[test]
fn what_a_process_said_is_there_though_the_journal_does_not_know_that_it_began() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate").display().to_string();
    fs::write(home.path().join("lines"), "1\n2\n").expect("a file");
    let lines = home.path().join("lines").display().to_string();
    start(&home, &["-j", "1", "--map", &lines, "--", "sh", "-c", PRINTS, &gate, "{}"]);
    wait_for("the first line", || (state(&home, "2") == "running").then_some(()));
    home.kill_daemon();
    // The journal as it is when a node is killed while it writes what came next.
    let journal = home.path().join("sessions/journal");
    let before = fs::read(&journal).expect("a journal");
    home.live_again("solo");
    fs::write(format!("{gate}1"), "").expect("a file");
    let whole = u64::from(MANY) * 6;
    wait_for("what it said in files of the node, and not of the guardian", || {
        let [node, guardian] =
            ["output", "processes/output"].map(|folder| bytes_below(&home, folder));
        (node > 2 * whole && guardian < whole / 2).then_some(())
    });
    home.kill_daemon();
    fs::write(&journal, before).expect("a journal");
    home.live_again("solo");
    fs::write(format!("{gate}2"), "").expect("a file");
    let received = home.sortie(&["receive", "--wait", "3"]);
    assert_eq!(received.code, 0, "{}", received.err);
    assert_eq!(received.out, format!("{}end 2\n", numbers(MANY)));
}

/// Notes each of its lives in a file, `$0`; the first one fails, and says more than the journal
/// takes.
const TWICE: &str = "echo >> \"$0\"; [ \"$(wc -l < \"$0\")\" = 1 ] || exec echo second; \
                     seq 1 20000; exit 7";

#[test]
fn a_process_lives_again_only_when_the_disk_has_what_it_said() {
    let mut home = Home::running("solo", &[]);
    let output = home.path().join("sessions").join("output");
    fs::write(&output, "").expect("a file");
    let lives = home.path().join("lives").display().to_string();
    start(&home, &["--restart", "transient", "--", "sh", "-c", TWICE, &lives]);
    wait_for("its next life to wait", || {
        let explained = home.sortie(&["explain", "1"]).out;
        explained.contains("nothing begins that cannot be").then_some(())
    });
    home.kill_daemon();
    assert_eq!(fs::read_to_string(&lives).expect("a file"), "\n", "it lived once");
    fs::remove_file(&output).expect("a file");
    home.live_again("solo");
    let ran = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!((ran.code, ran.out), (0, format!("{}second\n", numbers(20_000))), "{}", ran.err);
    assert_eq!(fs::read_to_string(&lives).expect("a file"), "\n\n", "and again");
}
