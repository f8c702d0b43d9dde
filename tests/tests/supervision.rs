//! Jobs whose children start again: on one node, on several, and when a node dies.

use serde_json::Value;
use sortie_tests::{Home, two, wait_for};

/// A job and its children, the job first.
fn entries(home: &Home) -> Vec<Value> {
    let listed = home.json(&["get", "last", "--children"]);
    listed.get("jobs").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// A script that counts its starts on this node in a file and then goes on with `rest`.
fn counting(home: &Home, rest: &str) -> String {
    let file = home.path().join("starts-$SORTIE_NODE");
    format!("n=$(cat {0} 2>/dev/null || echo 0); echo $((n+1)) >{0}; {rest}", file.display())
}

fn starts(home: &Home, node: &str) -> Option<u32> {
    let text = std::fs::read_to_string(home.path().join(format!("starts-{node}"))).ok()?;
    text.trim().parse().ok()
}

#[test]
fn a_transient_child_starts_again_until_it_succeeds_and_its_records_stay_in_order() {
    let home = Home::running("solo", &[]);
    let script = counting(&home, "echo run $n; test $n -ge 2");
    let options = ["--restart", "transient", "--intensity", "5/1m"];
    let ran = home.sortie(&[&["invoke"][..], &options, &["--", "sh", "-c", &script]].concat());
    assert_eq!((ran.code, ran.lines()), (0, vec!["run 0", "run 1", "run 2"]), "{ran:?}");
    assert!(ran.err.contains("restart 1") && ran.err.contains("restart 2"), "{ran:?}");
}

#[test]
fn one_restart_too_many_ends_the_job_with_its_reason() {
    let home = Home::running("solo", &[]);
    let options = ["start", "--restart", "permanent", "--intensity", "2/1m", "--", "true"];
    assert_eq!(home.sortie(&options).code, 0);
    assert_eq!(home.sortie(&["wait", "last"]).code, 100);
    let [job, child] = &entries(&home)[..] else { panic!("a job and a child") };
    assert_eq!((&job["state"], &job["restarts"]), (&Value::from("failed"), &Value::from(2)));
    assert_eq!(child["reason"]["code"], "restart_limit");
    assert_eq!(child["reason"]["last"], "ended well");
}

#[test]
fn a_stopped_job_does_not_start_again() {
    let home = Home::running("solo", &[]);
    let script = counting(&home, "exec sleep 1000");
    let options = ["start", "--restart", "permanent", "--intensity", "9/1m", "--", "sh", "-c"];
    assert_eq!(home.sortie(&[&options[..], &[&script]].concat()).code, 0);
    wait_for("its first start", || starts(&home, "solo"));
    assert_eq!(home.sortie(&["stop", "last"]).code, 0);
    let [job, _] = &entries(&home)[..] else { panic!("a job and a child") };
    assert_eq!((&job["state"], &job["restarts"]), (&Value::from("stopped"), &Value::from(0)));
    assert_eq!(starts(&home, "solo"), Some(1));
}

#[test]
fn with_one_for_all_a_failure_on_one_node_starts_the_child_on_the_other_again() {
    let [a, _b] = two();
    let failing = "if test $SORTIE_NODE = a && test $n = 0; then";
    let wait = "until test -s $(dirname $0)/starts-b; do sleep 0.05; done; exit 7; fi";
    let script = counting(&a, &format!("{failing} {wait}; exec sleep 1000"));
    let zeroth = a.path().join("zeroth");
    let options = ["start", "--on", "a,b", "--restart", "transient", "--intensity", "9/1m"];
    let command = ["--strategy", "one-for-all", "--", "sh", "-c", &script];
    let zeroth = zeroth.to_str().expect("a path in UTF-8");
    assert_eq!(a.sortie(&[&options[..], &command, &[zeroth]].concat()).code, 0);
    wait_for("both to start again", || {
        (starts(&a, "a") == Some(2) && starts(&a, "b") == Some(2)).then_some(())
    });
    wait_for("both to run", || {
        let all = entries(&a);
        let running = all.iter().skip(1).filter(|child| child["state"] == "running").count();
        (running == 2).then_some(())
    });
    assert_eq!(entries(&a).iter().map(|it| it["restarts"].clone()).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(a.sortie(&["stop", "last"]).code, 0);
}

#[test]
fn a_child_of_a_killed_node_runs_there_again_once_the_node_is_back() {
    let [a, mut b] = two();
    let script = counting(&a, "exec sleep 1000");
    let options = ["start", "--on", "b", "--restart", "permanent", "--intensity", "1000/1h"];
    let command = ["--connect-timeout", "1s", "--restart-delay", "100ms", "--", "sh", "-c"];
    assert_eq!(a.sortie(&[&options[..], &command, &[&script]].concat()).code, 0);
    wait_for("its first start", || starts(&a, "b"));
    wait_for("the report that it runs", || (entries(&a)[1]["state"] == "running").then_some(()));
    // What runs there would outlive the death of its node, and not its end.
    assert_eq!(b.sortie(&["node", "stop"]).code, 0);
    b.kill_daemon();
    b.run("b", &[]);
    wait_for("its second start", || starts(&a, "b").filter(|starts| *starts > 1));
    wait_for("the owner to hear of it", || {
        let [job, child] = &entries(&a)[..] else { return None };
        (job["state"] == "running" && child["state"] == "running").then_some(())
    });
    assert_eq!(starts(&a, "b"), Some(2), "no second copy");
    assert_eq!(a.sortie(&["stop", "last"]).code, 0);
}

#[test]
fn a_sibling_that_ignores_its_stop_is_killed_after_its_grace_and_starts_again() {
    let [a, _b] = two();
    let failing = "if test $SORTIE_NODE = a && test $n = 0; then";
    let wait = "until test -s $(dirname $0)/starts-b; do sleep 0.05; done; exit 7; fi";
    let stubborn = "trap '' TERM; while true; do sleep 1; done";
    let script = counting(&a, &format!("{failing} {wait}; {stubborn}"));
    let zeroth = a.path().join("zeroth");
    let options = ["start", "--on", "a,b", "--restart", "transient", "--intensity", "9/1m"];
    let command = ["--strategy", "one-for-all", "--grace", "500ms", "--", "sh", "-c", &script];
    let zeroth = zeroth.to_str().expect("a path in UTF-8");
    let begun = std::time::Instant::now();
    assert_eq!(a.sortie(&[&options[..], &command, &[zeroth]].concat()).code, 0);
    wait_for("both to start again", || {
        (starts(&a, "a") == Some(2) && starts(&a, "b") == Some(2)).then_some(())
    });
    assert!(begun.elapsed() < sortie::limits::GRACE, "the default is longer");
    assert_eq!(a.sortie(&["stop", "last", "--now"]).code, 0);
}
