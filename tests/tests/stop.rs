//! Stopping: the whole tree on every node, states that say so, output that stays receivable.

use sortie_tests::{Home, processes_marked, two, wait_for};

#[test]
fn trees_that_ignore_term_and_double_fork_are_gone_after_the_grace() {
    let [a, _b] = two();
    let mark = format!("98765{}", std::process::id());
    let script = format!(
        "trap '' TERM; echo started; (setsid sh -c 'trap \"\" TERM; sleep {mark}' &) ; sleep {mark}"
    );
    let map: String = (0..200).map(|number| format!("{number}\n")).collect();
    let list = a.path().join("list");
    std::fs::write(&list, map).expect("a file");
    let list = list.to_str().expect("a text");
    let ran = a.sortie(&[
        "invoke",
        "--as-job",
        "--on",
        "*",
        "-j",
        "unlimited",
        "--map",
        list,
        "--",
        "sh",
        "-c",
        &script,
        "{}",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    wait_for("800 processes", || (processes_marked(&mark).len() >= 800).then_some(()));
    let ran = a.sortie(&["stop", "last", "--grace", "1s"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(processes_marked(&mark), Vec::<u32>::new());
    let job = a.json(&["get", "last"]);
    assert_eq!(job["jobs"][0]["state"], "stopped");
    let ran = a.sortie(&["receive", "last", "--no-prefix"]);
    assert_eq!(ran.lines().iter().filter(|line| **line == "started").count(), 200);
    assert_eq!(a.sortie(&["wait", "last"]).code, 102);
}

#[test]
fn an_interrupted_invoke_stops_its_job_on_every_node() {
    let [a, _b] = two();
    let mark = format!("76543{}", std::process::id());
    let mut child =
        a.command(["invoke", "--on", "*", "--", "sleep", &mark]).spawn().expect("a program to run");
    wait_for("both processes", || (processes_marked(&mark).len() >= 3).then_some(()));
    let interrupted =
        std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("a program to run").success());
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    wait_for("both ends", || processes_marked(&mark).is_empty().then_some(()));
}

#[test]
fn a_queued_child_stops_at_once_and_a_finished_one_stays_as_it_is() {
    let home = Home::running("solo", &[]);
    let list = home.path().join("list");
    std::fs::write(&list, "0\n1000\n1000\n").expect("a file");
    let list = list.to_str().expect("a text");
    let ran = home.sortie(&["start", "-j", "1", "--map", list, "--", "sleep", "{}"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    wait_for("the first child's end", || {
        let jobs = home.json(&["get", "--children", "last"]);
        (jobs["jobs"][1]["state"] == "completed" && jobs["jobs"][2]["state"] == "running")
            .then_some(())
    });
    assert_eq!(home.sortie(&["stop", "last"]).code, 0);
    let jobs = home.json(&["get", "--children", "last"]);
    let states: Vec<_> = jobs["jobs"].as_array().expect("a list").iter().collect();
    let states: Vec<_> = states.iter().filter_map(|job| job["state"].as_str()).collect();
    assert_eq!(states, ["stopped", "completed", "stopped", "stopped"]);
}

#[test]
fn a_throttle_is_changed_while_the_job_runs_and_stops_nothing() {
    let home = Home::running("solo", &[]);
    let list = home.path().join("list");
    std::fs::write(&list, "1000\n".repeat(6)).expect("a file");
    let list = list.to_str().expect("a text");
    let ran = home.sortie(&["start", "-j", "1", "--map", list, "--", "sleep", "{}"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let running = || {
        let jobs = home.json(&["get", "--children", "last"]);
        let jobs = jobs["jobs"].as_array().expect("a list").iter().skip(1);
        jobs.filter(|job| job["state"] == "running").count()
    };
    wait_for("the first child", || (running() == 1).then_some(()));
    let changed = home.json(&["throttle", "last", "-j", "4"]);
    assert_eq!(changed["jobs"][0]["state"], "running", "{changed}");
    wait_for("as many as may run", || (running() == 4).then_some(()));
    assert_eq!(home.sortie(&["throttle", "last", "-j", "2"]).code, 0);
    assert_eq!(running(), 4, "a lower limit stops nothing");
    assert_eq!(home.sortie(&["throttle", "last", "-j", "unlimited"]).code, 0);
    wait_for("all of them", || (running() == 6).then_some(()));
    assert_eq!(home.sortie(&["throttle", "last", "-j", "0"]).code, 2);
    assert_eq!(home.sortie(&["throttle", "99", "-j", "1"]).code, 4);
    assert_eq!(home.sortie(&["kill", "last"]).code, 0);
}
