//! Functions go on from their last checkpoint after their node was killed (`docs/semantics.md`,
//! section 4.2).
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

use std::path::Path;

use sortie_tests::jobs::{entry, start, state};
use sortie_tests::{Home, Ran, join_all, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_checking-sortie");

/// A node with functions, and the folder in which they say how far they are.
fn running() -> (Home, tempfile::TempDir) {
    let mut home = Home::of(Path::new(PROGRAM));
    home.run("solo", &[]);
    (home, tempfile::tempdir().expect("a folder"))
}

/// How far the function is.
fn steps(folder: &Path) -> u64 {
    let count = std::fs::read_to_string(folder.join("steps")).unwrap_or_default();
    count.trim().parse().unwrap_or(0)
}

fn more_steps(folder: &Path, more: u64) {
    let before = steps(folder);
    wait_for("more steps", || (steps(folder) >= before + more).then_some(()));
}

fn ok(home: &Home, arguments: &[&str]) -> Ran {
    let ran = home.sortie(arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

/// Starts the steps as job 1, and suspends them somewhere.
fn stand_still(home: &Home, folder: &Path, arguments: &[&str]) {
    let input = format!("\"{}\"", folder.display());
    start(home, &[&["--task", "steps", "--input", &input], arguments].concat());
    more_steps(folder, 10);
    wait_for("the suspension", || (home.sortie(&["suspend", "1"]).code == 0).then_some(()));
}

/// Everything of job 1, as numbers; markers between lives are left out.
fn numbers(home: &Home) -> Vec<u64> {
    let got = home.sortie(&["receive", "1"]);
    got.lines().iter().filter_map(|line| line.trim().parse().ok()).collect()
}

#[test]
fn a_suspended_function_outlives_its_node_and_is_resumed_from_its_checkpoint() {
    let (mut home, folder) = running();
    stand_still(&home, folder.path(), &[]);
    let still = steps(folder.path());
    for _ in 0..2 {
        home.live_again("solo");
        assert_eq!(
            (state(&home, "1"), state(&home, "2")),
            ("suspended".into(), "suspended".into())
        );
        let notes = entry(&home, "2")["notes"].to_string();
        assert!(notes.contains("a resume goes on from its last checkpoint"), "{notes}");
        assert_eq!(steps(folder.path()), still);
    }
    ok(&home, &["resume", "1"]);
    more_steps(folder.path(), 10);
    assert_eq!(state(&home, "2"), "running");
    // Also the second life stands still, and outlives another kill.
    wait_for("the suspension", || (home.sortie(&["suspend", "2"]).code == 0).then_some(()));
    home.live_again("solo");
    ok(&home, &["resume", "2"]);
    more_steps(folder.path(), 10);
    ok(&home, &["stop", "1"]);
    let (all, last) = (numbers(&home), steps(folder.path()));
    assert_eq!(all, (1..=last).collect::<Vec<u64>>(), "every step once");
    assert_eq!(state(&home, "1"), "stopped");
}

#[test]
fn one_in_the_background_repeats_at_most_what_came_after_its_checkpoint() {
    let (mut home, folder) = running();
    stand_still(&home, folder.path(), &["--background"]);
    home.live_again("solo");
    assert_eq!(state(&home, "2"), "suspended");
    ok(&home, &["resume", "2"]);
    more_steps(folder.path(), 10);
    ok(&home, &["stop", "1"]);
    let mut all = numbers(&home);
    let before = all.len();
    all.dedup();
    assert!(before - all.len() <= 1, "only what it gave behind its checkpoint comes again");
    assert_eq!(all, (1..=steps(folder.path())).collect::<Vec<u64>>());
}

#[test]
fn a_stop_ends_what_stood_still_when_its_node_was_killed() {
    let (mut home, folder) = running();
    stand_still(&home, folder.path(), &[]);
    home.live_again("solo");
    ok(&home, &["stop", "1"]);
    assert_eq!((state(&home, "1"), state(&home, "2")), ("stopped".into(), "stopped".into()));
    let still = steps(folder.path());
    assert_eq!(numbers(&home), (1..=still).collect::<Vec<u64>>());
}

#[test]
fn one_that_starts_again_goes_on_from_a_checkpoint_that_its_killed_node_kept() {
    let (mut home, folder) = running();
    let input = format!("\"{}\"", folder.path().display());
    start(&home, &["--task", "steps", "--input", &input, "--restart", "permanent"]);
    // A checkpoint of one that runs is kept a second later, and each step takes 5 ms or more.
    let begun = wait_for("a life that begins behind the first step", || {
        more_steps(folder.path(), 400);
        home.live_again("solo");
        more_steps(folder.path(), 1);
        let all = numbers(&home);
        let begun = all.windows(2).find(|pair| pair[1] <= pair[0]).map(|pair| pair[1]);
        begun.filter(|number| *number > 1)
    });
    assert!(begun > 1);
    assert_eq!(state(&home, "2"), "running");
}

/// Two nodes with functions, in one cluster, and the folder in which they say how far they are.
fn two() -> (Home, Home, tempfile::TempDir) {
    let program = Path::new(PROGRAM);
    let (mut a, mut b) = (Home::of(program), Home::of(program));
    a.run("a", &[]);
    b.run("b", &[]);
    join_all(&[&a, &b]);
    (a, b, tempfile::tempdir().expect("a folder"))
}

/// Waits until the owner knows that the function is not on its node any more.
fn parked(home: &Home) {
    wait_for("the node's word that it is gone", || {
        let notes = entry(home, "2")["notes"].to_string();
        notes.contains("a resume goes on from its last checkpoint").then_some(())
    });
    assert_eq!((state(home, "1"), state(home, "2")), ("suspended".into(), "suspended".into()));
}

#[test]
fn one_on_another_node_outlives_that_nodes_end_and_that_of_its_owners() {
    let (mut a, mut b, folder) = two();
    stand_still(&a, folder.path(), &["--on", "b"]);
    let still = steps(folder.path());
    b.live_again("b");
    parked(&a);
    // Its owner's node alone, and then both.
    a.live_again("a");
    parked(&a);
    b.kill_daemon();
    a.live_again("a");
    assert_eq!(state(&a, "2"), "suspended");
    b.live_again("b");
    parked(&a);
    assert_eq!(steps(folder.path()), still);
    ok(&a, &["resume", "1"]);
    more_steps(folder.path(), 10);
    assert_eq!(state(&a, "2"), "running");
    // Also the second life stands still, and outlives another kill.
    wait_for("the suspension", || (a.sortie(&["suspend", "2"]).code == 0).then_some(()));
    b.live_again("b");
    parked(&a);
    ok(&a, &["resume", "2"]);
    more_steps(folder.path(), 10);
    ok(&a, &["stop", "1"]);
    assert_eq!(numbers(&a), (1..=steps(folder.path())).collect::<Vec<u64>>(), "every step once");
}

#[test]
fn one_that_is_resumed_while_its_node_is_away_goes_on_when_that_is_back() {
    let (a, mut b, folder) = two();
    stand_still(&a, folder.path(), &["--on", "b"]);
    b.kill_daemon();
    ok(&a, &["resume", "--no-wait", "1"]);
    b.live_again("b");
    more_steps(folder.path(), 10);
    ok(&a, &["stop", "1"]);
    assert_eq!(numbers(&a), (1..=steps(folder.path())).collect::<Vec<u64>>(), "every step once");
}

#[test]
fn one_whose_node_is_known_to_have_ended_waits_for_it_once_it_is_resumed() {
    let (mut a, mut b, folder) = two();
    stand_still(&a, folder.path(), &["--on", "b", "--connect-timeout", "1"]);
    b.live_again("b");
    parked(&a);
    b.kill_daemon();
    // Before that its start may be on its way there.
    wait_for("the node to be lost", || {
        let nodes = a.json(&["node", "get", "b"]);
        (nodes["nodes"][0]["state"] == "lost").then_some(())
    });
    ok(&a, &["resume", "--no-wait", "1"]);
    // The order outlives its owner's node, too.
    a.live_again("a");
    assert_eq!(state(&a, "2"), "suspended");
    b.live_again("b");
    more_steps(folder.path(), 10);
    ok(&a, &["stop", "1"]);
    assert_eq!(numbers(&a), (1..=steps(folder.path())).collect::<Vec<u64>>(), "every step once");
}

#[test]
fn one_in_the_background_of_another_node_goes_on_from_its_checkpoint() {
    let (a, mut b, folder) = two();
    stand_still(&a, folder.path(), &["--on", "b", "--background"]);
    b.live_again("b");
    parked(&a);
    ok(&a, &["resume", "2"]);
    more_steps(folder.path(), 10);
    ok(&a, &["stop", "1"]);
    let mut all = numbers(&a);
    let before = all.len();
    all.dedup();
    assert!(before - all.len() <= 1, "only what it gave behind its checkpoint comes again");
    assert_eq!(all, (1..=steps(folder.path())).collect::<Vec<u64>>());
}

#[test]
fn a_stop_ends_what_stood_still_on_another_node_that_was_killed() {
    let (a, mut b, folder) = two();
    stand_still(&a, folder.path(), &["--on", "b"]);
    b.live_again("b");
    parked(&a);
    ok(&a, &["stop", "1"]);
    assert_eq!((state(&a, "1"), state(&a, "2")), ("stopped".into(), "stopped".into()));
    assert_eq!(numbers(&a), (1..=steps(folder.path())).collect::<Vec<u64>>());
}

#[test]
fn one_that_starts_again_finds_the_checkpoint_that_its_killed_node_told_its_owner() {
    let (a, mut b, folder) = two();
    let input = format!("\"{}\"", folder.path().display());
    start(&a, &["--on", "b", "--task", "steps", "--input", &input, "--restart", "permanent"]);
    // A checkpoint of one that runs is told a second later, and each step takes 5 ms or more.
    let begun = wait_for("a life that begins behind the first step", || {
        more_steps(folder.path(), 400);
        b.live_again("b");
        let before = steps(folder.path());
        wait_for("the next life", || (steps(folder.path()) != before).then_some(()));
        let ran = a.sortie(&["receive", "--keep", "1"]);
        let all = ran.lines().into_iter().filter_map(|line| line.trim().parse().ok());
        let all: Vec<u64> = all.collect();
        let begun = all.windows(2).find(|pair| pair[1] <= pair[0]).map(|pair| pair[1]);
        begun.filter(|number| *number > 1)
    });
    assert!(begun > 1);
    assert_eq!(state(&a, "2"), "running");
    ok(&a, &["stop", "1"]);
}
