//! A home of which something was lost while no node ran (`docs/semantics.md`, section 4.2).
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sortie_tests::{Home, children_of, processes_marked, roots_marked, wait_for};

/// What `sortie doctor` finds about something.
fn finding(home: &Home, name: &str) -> (bool, String) {
    let ran = home.sortie(&["doctor", "-o", "json"]);
    let document: Value = serde_json::from_str(&ran.out).expect("JSON");
    let checks = document["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("nothing about {name}: {document}"));
    let ok = check["ok"].as_bool().expect("a truth value");
    assert!(ok || ran.code == 1, "{ran:?}");
    (ok, check["finding"].as_str().expect("a text").to_owned())
}

#[test]
fn an_identity_that_no_node_would_start_with_is_found_also_while_one_runs() {
    let mut home = Home::running("solo", &[]);
    let identity = home.path().join("identity");
    assert!(finding(&home, "identity").0);
    for name in ["node.pem", "user.pem", "ca.pem", "node.id"] {
        let file = identity.join(name);
        let whole = fs::read(&file).expect("a file");
        for damaged in [&b""[..], b"\xff", &whole[..whole.len() / 2]] {
            fs::write(&file, damaged).expect("overwritten");
            let (ok, found) = finding(&home, "identity");
            assert!(!ok && found.contains(&format!("identity/{name} is damaged")), "{found}");
            assert!(found.contains("put a copy back"), "{found}");
        }
        fs::write(&file, &whole).expect("put back");
    }
    fs::write(identity.join("node.id"), "0".repeat(64)).expect("overwritten");
    assert!(!finding(&home, "identity").0);
    fs::remove_file(identity.join("node.pem")).expect("removed");
    let (ok, found) = finding(&home, "identity");
    assert!(!ok && found.contains("cannot read") && found.contains("node.pem"), "{found}");
    home.kill_daemon();
    assert!(!finding(&home, "identity").0);
}

#[test]
fn a_node_whose_address_is_gone_is_no_node_that_does_not_run() {
    let mut home = Home::running("solo", &[]);
    let address = home.path().join("node.addr");
    let aside = home.path().join("aside");
    fs::rename(&address, &aside).expect("moved");
    let (ok, found) = finding(&home, "node");
    let kill = format!("`kill -9 {}`", home.daemon_pid());
    for said in ["node.addr", "is not there", &kill] {
        assert!(!ok && found.contains(said), "{found}");
    }
    fs::rename(&aside, &address).expect("moved");
    assert!(finding(&home, "node").1.contains("answers at"));
    home.kill_daemon();
    let (ok, found) = finding(&home, "node");
    assert!(ok && found.contains("none runs"), "{found}");
}

#[test]
fn a_guardian_that_was_stopped_is_found_with_its_node_and_without() {
    let mut home = Home::running("solo", &[]);
    let mark = format!("45922{}", std::process::id());
    assert_eq!(home.sortie(&["start", "--", "sleep", &mark]).code, 0);
    wait_for("its process", || (!processes_marked(&mark).is_empty()).then_some(()));
    let said = fs::read_to_string(home.path().join("lock")).expect("a file");
    assert_eq!(said.trim(), home.daemon_pid().to_string());
    let [guardian] = children_of(home.daemon_pid())[..] else { panic!("one guardian") };
    let tell = |signal| {
        let pid = Pid::from_raw(guardian.cast_signed()).expect("a process");
        kill_process(pid, signal).expect("a process");
    };
    let wake = format!("`kill -CONT {guardian}` wakes it");
    tell(Signal::STOP);
    let (ok, found) =
        wait_for("the stop", || Some(finding(&home, "solo: guardian")).filter(|(ok, _)| !ok));
    assert!(!ok && found.contains(&wake), "{found}");
    tell(Signal::CONT);
    wait_for("its going on", || finding(&home, "guardian").0.then_some(()));
    home.kill_daemon();
    tell(Signal::STOP);
    let (_, found) =
        wait_for("the stop", || Some(finding(&home, "processes")).filter(|(ok, _)| !ok));
    assert!(found.contains(&wake), "{found}");
    tell(Signal::CONT);
    home.live_again("solo");
    assert!(finding(&home, "guardian").0);
    assert_eq!(home.sortie(&["kill", "1"]).code, 0);
}

#[test]
fn a_journal_that_is_gone_is_missed_and_once_it_is_back_nothing_is_lost() {
    let mut home = Home::running("solo", &[]);
    let mark = format!("45921{}", std::process::id());
    assert_eq!(home.sortie(&["invoke", "--as-job", "--", "echo", "done"]).code, 0);
    assert_eq!(home.sortie(&["wait", "1"]).code, 0);
    let line = "echo said; exec sleep $0";
    assert_eq!(home.sortie(&["start", "--", "sh", "-c", line, &mark]).code, 0);
    wait_for("its output", || {
        (home.json(&["get", "4"])["jobs"][0]["unread_bytes"] == 5).then_some(())
    });
    assert!(finding(&home, "journal").0);
    home.kill_daemon();
    assert!(finding(&home, "sessions").0);
    assert!(finding(&home, "processes").1.contains("keeps what a node left running"));
    let journal = home.path().join("sessions/journal");
    let aside = home.path().join("aside");
    fs::rename(&journal, &aside).expect("moved");
    for emptied in [false, true] {
        if emptied {
            fs::write(&journal, "").expect("emptied");
        }
        let refused = home.sortie(&["get"]);
        assert_eq!(refused.code, 125, "{refused:?}");
        for said in
            ["sessions/journal is missing or empty", "put a copy back", "`sortie node stop`"]
        {
            assert!(refused.err.contains(said), "{refused:?}");
        }
        let run = home.sortie(&["node", "run"]);
        assert!(run.code == 1 && run.err.contains("missing or empty"), "{run:?}");
        let (ok, found) = finding(&home, "sessions");
        assert!(
            !ok && found.contains("missing or empty") && found.contains("node stop"),
            "{found}"
        );
    }
    assert_eq!(roots_marked(&mark).len(), 1, "it runs on");
    let stopped = home.sortie(&["node", "stop"]);
    assert_eq!((stopped.code, processes_marked(&mark)), (0, vec![]), "{stopped:?}");
    fs::rename(&aside, &journal).expect("moved");
    home.live_again("solo");
    assert_eq!(home.sortie(&["receive", "1"]).out, "done\n");
    let rest = home.sortie(&["receive", "--wait", "3"]);
    assert_eq!((rest.code, &rest.out[..]), (100, "said\n"), "{rest:?}");
    assert_eq!(home.json(&["get", "4"])["jobs"][0]["reason"]["code"], "signal");
}

#[test]
fn a_damaged_journal_is_refused_in_a_sentence_that_says_what_to_do() {
    let mut home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["start", "--", "true"]).code, 0);
    home.kill_daemon();
    let journal = home.path().join("sessions/journal");
    fs::write(&journal, vec![7; 100_000]).expect("overwritten");
    let refused = home.sortie(&["get"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.err.contains("sessions/journal is damaged: put a copy back"), "{refused:?}");
    let (ok, found) = finding(&home, "sessions");
    assert!(!ok && found.contains("is damaged"), "{found}");
    assert_eq!(fs::read(&journal).expect("a file"), vec![7; 100_000], "left as it is");
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["start", "--", "true"]).code, 0);
    home.kill_daemon();
    let files = ["journal", "version"].map(|name| home.path().join("sessions").join(name));
    fs::write(&files[1], "sortie journal 9\n").expect("overwritten");
    let before = files.each_ref().map(|file| fs::read(file).expect("a file"));
    let refused = home.sortie(&["get"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    for said in ["has version 9, and this program reads up to 2", "run the newer program"] {
        assert!(refused.err.contains(said), "{refused:?}");
    }
    let (ok, found) = finding(&home, "sessions");
    assert!(!ok && found.contains("has version 9"), "{found}");
    assert_eq!(files.map(|file| fs::read(file).expect("a file")), before);
}

#[test]
fn a_journal_of_an_older_version_is_raised_by_what_is_noted_and_not_by_who_only_looks() {
    let mut home = Home::new();
    let sessions = home.path().join("sessions");
    fs::create_dir(&sessions).expect("room");
    for name in ["journal", "version"] {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/store/tests/samples/1");
        fs::copy(sample.join(name), sessions.join(name)).expect("a sample");
    }
    for _ in 0..2 {
        let (ok, found) = finding(&home, "sessions");
        assert!(ok && found.contains("whole, version 1"), "{found}");
    }
    home.run("solo", &[]);
    assert!(finding(&home, "journal").1.contains("version 1"), "nothing was noted yet");
    assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
    let (ok, found) = finding(&home, "journal");
    assert!(ok && found.contains("version 2"), "{found}");
    home.kill_daemon();
    assert_eq!(fs::read(sessions.join("version")).expect("a file"), b"sortie journal 2\n");
}

#[test]
fn doctor_looks_at_the_room_and_what_is_kept_is_for_its_owner_alone() {
    let home = Home::running("solo", &[]);
    assert!(finding(&home, "disk").1.contains("MiB are free at"));
    let boot = home.path().join("sessions/boot");
    wait_for("the note of the boot", || boot.exists().then_some(()));
    assert_eq!(fs::metadata(&boot).expect("a file").mode() & 0o777, 0o600);
}
