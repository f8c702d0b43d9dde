//! What an output policy did outlives the node (`docs/semantics.md`, sections 1.3 and 4.2).
#![expect(
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

use std::fs;
use std::time::Duration;

use serde_json::Value;
use sortie_tests::{Home, roots_marked, wait_for};

/// A home with a session of that policy and 1 MiB of quota, named like it.
fn with_policy(policy: &str) -> Home {
    let home = Home::running("solo", &[]);
    let new = ["session", "new", "--name", policy, "--output-policy", policy, "--quota", "1MiB"];
    assert_eq!(home.sortie(&new).code, 0);
    home
}

fn entry(home: &Home, session: &str, id: &str) -> Value {
    home.json(&["get", "--session", session, id])["jobs"][0].clone()
}

/// What `explain` says of what was dropped.
fn dropped(home: &Home, session: &str) -> Option<String> {
    let said = home.sortie(&["explain", "--session", session, "1"]).out;
    said.lines().find(|line| line.contains("were dropped")).map(str::to_owned)
}

#[test]
fn what_was_dropped_stays_so_and_is_counted_on() {
    const LINES: usize = 400_000;
    let mut home = with_policy("drop-oldest");
    let (all, gate) = (home.path().join("all"), home.path().join("gate"));
    let line = format!(
        "seq {LINES}; touch \"$0\"; while [ ! -e \"$1\" ]; do sleep 0.02; done; seq {LINES} {}",
        2 * LINES
    );
    let words = [all.to_str().expect("UTF-8"), gate.to_str().expect("UTF-8")];
    let start = ["start", "--session", "drop-oldest", "--", "sh", "-c", &line];
    assert_eq!(home.sortie(&[&start[..], &words].concat()).code, 0);
    wait_for("all of it", || all.exists().then_some(()));
    let before = wait_for("a count that stands", || {
        let before = dropped(&home, "drop-oldest")?;
        // tidy: waits because what was dropped is kept 0.1 s later, of which nobody is told
        std::thread::sleep(Duration::from_millis(500));
        (dropped(&home, "drop-oldest")? == before).then_some(before)
    });
    home.live_again("solo");
    assert_eq!(dropped(&home, "drop-oldest"), Some(before.clone()));
    let unread = entry(&home, "drop-oldest", "2")["unread_bytes"].as_u64().expect("a number");
    assert!(unread <= 1 << 20, "{unread} bytes: what was dropped came back");
    fs::write(&gate, "").expect("a file");
    assert_eq!(home.sortie(&["wait", "--session", "drop-oldest", "1"]).code, 0);
    assert_ne!(dropped(&home, "drop-oldest"), Some(before), "more went since");
    let after = dropped(&home, "drop-oldest");
    // tidy: waits because what was dropped is kept 0.1 s later, of which nobody is told
    std::thread::sleep(Duration::from_millis(500));
    home.live_again("solo");
    assert_eq!(dropped(&home, "drop-oldest"), after);
    let got = home.sortie(&["receive", "--session", "drop-oldest", "1"]);
    assert!(got.out.len() <= 1 << 20, "{} bytes", got.out.len());
    let numbers: Vec<usize> = got.lines().iter().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers.last(), Some(&(2 * LINES)));
    // The oldest record may begin within a line.
    let whole = numbers.get(1..).unwrap_or_default();
    assert!(whole.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is missing between");
}

#[test]
fn a_child_that_passed_its_quota_fails_also_when_its_node_was_killed() {
    let mut home = with_policy("fail");
    let mark = format!("52781{}", std::process::id());
    let line = "trap '' TERM; seq 400000; while :; do sleep 0.05; done # $0";
    let start = ["start", "--session", "fail", "--grace", "60s", "--", "sh", "-c", line, &mark];
    assert_eq!(home.sortie(&start).code, 0);
    wait_for("the stop", || (entry(&home, "fail", "2")["state"] == "stopping").then_some(()));
    wait_for("the count", || dropped(&home, "fail"));
    // The job heeds this, or not, once it has kept what it decided before.
    let late = home.sortie(&["suspend", "--session", "fail", "2"]);
    assert!(late.code == 0 || !late.err.is_empty(), "{late:?}");
    for _ in 0..3 {
        wait_for("the count", || dropped(&home, "fail"));
        home.live_again("solo");
        assert_eq!(roots_marked(&mark).len(), 1, "its grace is not over");
    }
    assert_eq!(home.sortie(&["stop", "--session", "fail", "1", "--now"]).code, 0);
    assert_eq!(home.sortie(&["wait", "--session", "fail", "1"]).code, 100);
    assert_eq!(entry(&home, "fail", "2")["reason"]["code"], "limit");
    let got = home.sortie(&["receive", "--session", "fail", "1"]);
    assert!(got.out.starts_with("1\n2\n") && got.out.len() <= 1 << 20, "what fits is kept");
}
