//! What one child says and nobody takes, or the disk does not, holds up no other child
//! (`docs/semantics.md`, section 1.3).
#![expect(
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

use std::fs;

use serde_json::Value;
use sortie_tests::jobs::start;
use sortie_tests::{Home, two, wait_for};

/// A job of that session whose child on `b` says 12,000 bytes in each of its lives, which follow
/// one another at once, until it pauses at the session's quota of 1 MiB.
fn fills_its_mailbox(a: &Home, session: &str) {
    let new = ["session", "new", "--name", session, "--output-policy", "block", "--quota", "1MiB"];
    assert_eq!(a.sortie(&new).code, 0);
    let rules = ["--restart", "permanent", "--intensity", "100000/1d"];
    let words = ["--on", "b", "--", "sh", "-c", "printf '%012000d' 7"];
    let start = [&["start", "--session", session][..], &rules, &words].concat();
    let started = a.sortie(&start);
    assert_eq!(started.code, 0, "{started:?}");
    until_it_pauses(a, session);
}

/// Waits until a child of the session's first job has no room for what it says.
fn until_it_pauses(home: &Home, session: &str) {
    wait_for("the pause", || {
        let children = home.json(&["get", "--session", session, "--children", "1"]);
        children["jobs"].as_array()?.iter().any(|row| row["paused"].is_string()).then_some(())
    });
}

#[test]
fn a_child_that_fills_its_mailbox_in_many_lives_holds_up_no_other() {
    let [a, _b] = two();
    fills_its_mailbox(&a, "full");
    for session in ["full", "default"] {
        let hello = a.sortie(&["invoke", "--session", session, "--on", "b", "--", "echo", "hello"]);
        assert_eq!((hello.code, &hello.out[..]), (0, "hello\n"), "{session}: {hello:?}");
    }
    let stopped = a.sortie(&["stop", "--session", "full", "--grace", "1s", "1"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
}

#[test]
fn what_waited_for_room_is_not_taken_for_what_the_next_life_says() {
    let [a, mut b] = two();
    let new = ["session", "new", "--name", "full", "--output-policy", "block", "--quota", "1MiB"];
    assert_eq!(a.sortie(&new).code, 0);
    let lives = b.path().join("lives");
    // Each life says the same many lines, with its own number, so that it never ends by itself.
    let line = "n=$(cat \"$0\" 2>/dev/null || echo 0); n=$((n+1)); echo $n > \"$0\"; i=0; \
                while :; do i=$((i+1)); printf 'life %d line %d %0990d\\n' $n $i 0; done";
    let rules = ["--restart", "permanent", "--intensity", "100000/1d"];
    let words = ["--on", "b", "--", "sh", "-c", line, lives.to_str().expect("UTF-8")];
    let start = [&["start", "--session", "full"][..], &rules, &words].concat();
    assert_eq!(a.sortie(&start).code, 0);
    until_it_pauses(&a, "full");
    // It says goodbye: its life is over, with what it had not handed over.
    assert_eq!(b.sortie(&["node", "stop"]).code, 0);
    let child = || -> Value {
        let children = a.json(&["get", "--session", "full", "--children", "1"]);
        children["jobs"][1].clone()
    };
    wait_for("the end of its life", || (child()["state"] != "running").then_some(()));
    b.run("b", &[]);
    wait_for("its next life", || {
        let life = fs::read_to_string(&lives).unwrap_or_default();
        (child()["state"] == "running" && life.trim() == "2").then_some(())
    });
    let mut taken = String::new();
    wait_for("lines of the next life", || {
        taken.push_str(&a.sortie(&["receive", "--session", "full", "1"]).out);
        taken.contains("life 2 line 500 ").then_some(())
    });
    let second = taken.lines().filter(|line| line.starts_with("life 2 line "));
    let numbers: Vec<usize> =
        second.filter_map(|line| line.split(' ').nth(3)?.parse().ok()).collect();
    let first_lines: Vec<usize> = (1..=numbers.len()).collect();
    assert_eq!(numbers, first_lines, "every line of the next life, in order");
    let stopped = a.sortie(&["stop", "--session", "full", "--now", "1"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
}

#[test]
fn a_job_whose_output_cannot_be_written_holds_up_no_other() {
    let [a, b] = two();
    let gate = b.path().join("gate");
    let line = "while [ ! -e \"$0\" ]; do sleep 0.02; done; seq 100000; sleep 100";
    let words = ["--on", "b", "--", "sh", "-c", line, gate.to_str().expect("UTF-8")];
    start(&a, &words);
    let job = a.json(&["get", "1"])["jobs"][0]["instance_id"].as_str().map(str::to_owned);
    let folder = job.expect("its identity").replace('-', "");
    let place = a.path().join("sessions/output").join(folder);
    assert!(!place.exists(), "it has said nothing yet");
    fs::create_dir_all(a.path().join("sessions/output")).expect("the folder of outputs");
    fs::write(&place, "in the way").expect("a file");
    fs::write(&gate, "").expect("a file");
    wait_for("its output", || {
        let children = a.json(&["get", "--children", "1"]);
        let unread = children["jobs"][1]["unread_bytes"].as_u64()?;
        (unread > 0).then_some(())
    });
    for _ in 0..3 {
        let hello = a.sortie(&["invoke", "--session", "default", "--on", "b", "--", "echo", "hi"]);
        assert_eq!((hello.code, &hello.out[..]), (0, "hi\n"), "{hello:?}");
    }
    fs::remove_file(&place).expect("the file that is in the way");
    let stopped = a.sortie(&["stop", "--now", "1"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
}
