//! What verbs say where something is not as it was wished: by the binary, on real daemons.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::Path;

use serde_json::Value;
use sortie_tests::{Home, Ran, two, wait_for};

fn asking() -> Home {
    let mut home = Home::of(Path::new(env!("CARGO_BIN_EXE_asking-sortie")));
    home.run("a", &[]);
    home
}

#[track_caller]
fn check_refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "no `{word}` in {ran:?}");
    }
}

fn jobs(listed: &Value) -> Vec<Value> {
    listed["jobs"].as_array().cloned().expect("a list")
}

#[test]
fn a_stop_after_which_something_runs_on_says_so_and_is_no_success() {
    let home = asking();
    assert_eq!(home.sortie(&["start", "--task", "hold"]).code, 0);
    wait_for("a running job", || {
        let held = home.sortie(&["receive", "last", "--keep"]);
        held.err.contains("holding").then_some(())
    });
    let stopped = home.sortie(&["stop", "last", "--now"]);
    assert_eq!(stopped.code, 124, "{stopped:?}");
    assert!(stopped.err.contains("1 is Stopping still"), "{stopped:?}");
    assert_eq!(home.sortie(&["stop", "last", "--no-wait"]).code, 0);
    assert_eq!(home.sortie(&["start", "--task", "stay"]).code, 0);
    assert_eq!(home.sortie(&["stop", "last"]).code, 0);
}

#[test]
fn a_wait_of_no_time_is_a_look() {
    let home = asking();
    assert_eq!(home.sortie(&["start", "--task", "stay"]).code, 0);
    check_refused(&home.sortie(&["wait", "last", "--timeout", "0"]), 124, &["the wait ran out"]);
    assert_eq!(home.sortie(&["stop", "last"]).code, 0);
    assert_eq!(home.sortie(&["wait", "last", "--timeout", "0"]).code, 102);
}

#[test]
fn what_an_option_would_do_nothing_for_is_refused() {
    let home = asking();
    for returns in [&["--as-job"][..], &["--job-name", "x"]] {
        let command = [&["invoke", "--gather"][..], returns, &["--", "true"]].concat();
        check_refused(&home.sortie(&command), 2, &["`--gather`", "receive JOB --wait --gather"]);
    }
    assert_eq!(jobs(&home.json(&["get"])), [] as [Value; 0]);
}

#[test]
fn an_input_that_does_not_fit_its_function_says_what_it_takes() {
    let home = asking();
    let ran = home.sortie(&["invoke", "--task", "add", "--input", "\"five\""]);
    assert_eq!(ran.code, 100, "{ran:?}");
    assert!(ran.err.contains("it takes u32: there is a text"), "{ran:?}");
    let huge = home.path().join("huge");
    std::fs::write(&huge, format!("\"{}\"", "x".repeat(5 << 20))).expect("a file");
    let from = format!("@{}", huge.display());
    let ran = home.sortie(&["invoke", "--task", "greet", "--input", &from]);
    check_refused(&ran, 2, &["5242885 bytes", "4194304 are allowed"]);
}

#[test]
fn an_answer_that_does_not_fit_is_said_with_its_type_and_what_came() {
    let home = asking();
    assert_eq!(home.sortie(&["start", "--task", "add", "--input", "1"]).code, 0);
    assert_eq!(home.sortie(&["wait", "last"]).code, 105);
    assert_eq!(home.sortie(&["send", "last", "five"]).code, 0);
    let ran = home.sortie(&["receive", "last", "--wait"]);
    check_refused(&ran, 100, &["gave an error: the answer is of another type: it is no u64"]);
    assert!(ran.err.contains("it is the text `five`"), "{ran:?}");
}

#[test]
fn a_glob_that_matches_nothing_is_no_failure_of_any_verb() {
    let home = asking();
    for verb in [
        &["get", "zz*"][..],
        &["receive", "zz*"],
        &["receive", "zz*", "--wait"],
        &["wait", "zz*"],
        &["stop", "zz*"],
        &["kill", "zz*"],
        &["remove", "zz*"],
        &["throttle", "zz*", "-j", "3"],
        &["tree", "zz*"],
        &["send", "zz*", "hello"],
        &["explain", "zz*"],
        &["explain", "7-9"],
    ] {
        let ran = home.sortie(verb);
        assert_eq!(ran.code, 0, "{ran:?}");
        let wants_one = ["send", "explain"].contains(&verb[0]);
        assert_eq!(ran.err.contains("no job"), wants_one, "{ran:?}");
    }
    for verb in [&["send", "zz", "hello"][..], &["explain", "zz"], &["stop", "zz"]] {
        check_refused(&home.sortie(verb), 4, &["`zz`", "`asking-sortie get --children`"]);
    }
}

#[test]
fn a_throttle_of_what_is_finished_says_that_it_changes_nothing() {
    let home = asking();
    assert_eq!(home.sortie(&["invoke", "--job-name", "x", "--", "true"]).code, 0);
    assert_eq!(home.sortie(&["wait", "x"]).code, 0);
    let throttled = home.sortie(&["throttle", "x", "-j", "3"]);
    assert_eq!(throttled.code, 0, "{throttled:?}");
    assert!(throttled.err.contains("1 is Completed: its throttle"), "{throttled:?}");
}

#[test]
fn a_plan_shows_when_children_would_start_again() {
    let home = asking();
    let rules = ["--restart", "transient", "--strategy", "rest-for-one", "--intensity", "3/1m"];
    let plan = |more: &[&'static str]| {
        let delay = ["--restart-delay", "2s"];
        [&["start", "--dry-run"][..], &rules, &delay, more, &["true"]].concat()
    };
    let shown = home.sortie(&plan(&[]));
    assert_eq!(shown.code, 0, "{shown:?}");
    let sentence = "transient, rest-for-one, at most 3 within 1m, after 2s";
    assert!(shown.out.contains(sentence), "{shown:?}");
    let shown = home.sortie(&plan(&["-o", "json"]));
    let document: Value = serde_json::from_str(&shown.out).expect("JSON");
    let expected = serde_json::json!({
        "restart": "transient",
        "strategy": "rest-for-one",
        "intensity": { "restarts": 3, "period": 60.0 },
        "restart_delay": 2.0,
        "ordered_stop": true,
    });
    assert_eq!(document["plan"]["supervision"], expected);
    let plain = home.sortie(&["start", "--dry-run", "true"]);
    assert!(!plain.out.contains("restarts"), "{plain:?}");
}

#[test]
fn an_explanation_says_when_a_child_starts_again() {
    let home = asking();
    let rules = ["--restart", "permanent", "--restart-delay", "1h"];
    assert_eq!(home.sortie(&[&["start"][..], &rules, &["--", "true"]].concat()).code, 0);
    let explained = wait_for("a wait between two lives", || {
        let explained = home.sortie(&["explain", "last"]);
        explained.out.contains("starts again in").then_some(explained)
    });
    let soon = ["in 1h", "in 59m"];
    assert!(soon.iter().any(|soon| explained.out.contains(soon)), "{explained:?}");
    let child = home.sortie(&["explain", "2"]);
    assert!(child.out.contains("it starts again in"), "{child:?}");
}

#[test]
fn nothing_runs_on_a_node_that_is_lost() {
    let [a, mut b] = two();
    assert_eq!(a.sortie(&["start", "--on", "b", "--", "sleep", "600"]).code, 0);
    let of_b = || {
        let nodes = a.json(&["node", "get", "b"])["nodes"].clone();
        let node = nodes.as_array().and_then(|nodes| nodes.first()).cloned().expect("a node");
        (node["state"].as_str().map(str::to_owned), node["running"].as_u64())
    };
    wait_for("a child on b", || (of_b().1 == Some(1)).then_some(()));
    b.kill_daemon();
    let running = wait_for("a lost node", || {
        let (state, running) = of_b();
        (state.as_deref() == Some("lost")).then_some(running)
    });
    assert_eq!(running, Some(0));
}
