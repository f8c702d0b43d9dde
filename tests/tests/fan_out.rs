//! Three daemons in three processes, joined by token: who runs what, and what is seen of it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use sortie_tests::{Home, Ran, join_all, processes_marked, wait_for};

fn three() -> [Home; 3] {
    let homes = [
        Home::running("a", &["--label", "role=web"]),
        Home::running("b", &["--label", "role=web"]),
        Home::running("node03", &["--label", "role=db"]),
    ];
    join_all(&[&homes[0], &homes[1], &homes[2]]);
    wait_for("three members", || {
        let nodes = homes[0].json(&["node", "get"]);
        (nodes.get("nodes")?.as_array()?.len() == 3).then_some(())
    });
    homes
}

fn sorted(ran: &Ran) -> Vec<&str> {
    let mut lines = ran.lines();
    lines.sort_unstable();
    lines
}

#[test]
fn a_command_runs_on_the_nodes_that_an_expression_names() {
    let [a, _b, _c] = three();
    let on = |expression: &str| {
        let ran = a.sortie(&["invoke", "--on", expression, "--", "sh", "-c", "echo $SORTIE_NODE"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        sorted(&ran).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(on("a,b,node03"), ["a: a", "b: b", "node03: node03"]);
    assert_eq!(on("*"), ["a: a", "b: b", "node03: node03"]);
    assert_eq!(on("role=web"), ["a: a", "b: b"]);
    assert_eq!(on("!role=web,a"), ["a: a", "node03: node03"]);
    assert_eq!(on("node[03-03]&node*"), ["node03"].map(|name| name.to_owned()));
}

#[test]
fn a_spread_map_warns_of_a_node_that_cannot_be_reached() {
    let [a, mut b, _c] = three();
    b.kill_daemon();
    // Until then an input may leave for it on a link that nobody hears any more: that one is not
    // given to another node, since it may have run.
    wait_for("a to find b lost", || {
        (a.json(&["node", "get", "b"])["nodes"][0]["state"] == "lost").then_some(())
    });
    let list = a.path().join("list");
    std::fs::write(&list, "1\n2\n3\n").expect("a file");
    let list = list.to_str().expect("a path in UTF-8");
    let map = ["--on", "*", "--connect-timeout", "1s", "--map", list, "--", "echo", "{}"];
    let ran = a.sortie(&[&["invoke"][..], &map].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(sorted(&ran), ["1", "2", "3"]);
    let warnings: Vec<&str> = ran.err.lines().filter(|line| line.contains("connect")).collect();
    assert!(matches!(warnings[..], [one] if one.contains("b is left out")), "{ran:?}");
}

#[test]
fn equal_output_is_gathered_and_states_are_shown_per_child() {
    let [a, _b, _c] = three();
    let ran = a.sortie(&["invoke", "--gather", "--on", "*", "--", "echo", "same"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("a,b,node03 (3)"), "{ran:?}");
    let script = "test $SORTIE_NODE = a";
    let ran = a.sortie(&["invoke", "--as-job", "--on", "*", "--", "sh", "-c", script]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(a.sortie(&["wait", "last"]).code, 100);
    let jobs = a.json(&["get", "last", "--children"]);
    let states: Vec<_> = jobs["jobs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|job| job["state"].as_str().expect("a state"))
        .collect();
    assert_eq!(states, ["failed", "completed", "failed", "failed"]);
}

#[test]
fn a_killed_daemon_takes_its_processes_along_and_only_its_child_is_lost() {
    let [a, mut b, _c] = three();
    let mark = format!("54321{}", std::process::id());
    let script =
        format!("if [ $SORTIE_NODE = b ]; then echo up; exec sleep {mark}; else echo done; fi");
    let mut command = a.command(["invoke", "--on", "*", "--", "sh", "-c", &script]);
    let mut client =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a client");
    // A node that dies before its report of the start has arrived leaves `start_uncertain`.
    let mut lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 3 {
        seen.push(lines.next().expect("a line").expect("UTF-8"));
    }
    seen.sort();
    assert_eq!(seen, ["a: done", "b: up", "node03: done"]);
    b.kill_daemon();
    wait_for("the end of b's process", || processes_marked(&mark).is_empty().then_some(()));
    let output = client.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{said}");
    assert!(said.contains("b: ") && said.contains("lost") && !said.contains("a: "), "{said}");
}

#[test]
fn one_unreachable_node_is_that_childs_failure_alone() {
    let [a, mut b, _c] = three();
    b.kill_daemon();
    wait_for("b to be lost", || {
        let nodes = a.json(&["node", "get", "b"]);
        (nodes["nodes"][0]["state"] == "lost").then_some(())
    });
    let ran = a.sortie(&[
        "invoke",
        "--connect-timeout",
        "1s",
        "--on",
        "*",
        "--",
        "sh",
        "-c",
        "echo $SORTIE_NODE",
    ]);
    assert_eq!(ran.code, 101, "{ran:?}");
    assert_eq!(sorted(&ran), ["a: a", "node03: node03"]);
    assert!(ran.err.contains("b") && ran.err.contains("connect"), "{ran:?}");
    let ran = a.sortie(&["invoke", "--connect-timeout", "1s", "--on", "b", "--", "true"]);
    assert_eq!(ran.code, 125, "{ran:?}");
}

#[test]
fn a_node_that_restarts_keeps_its_identity_its_port_and_its_labels() {
    let [a, mut b, _c] = three();
    assert_eq!(a.sortie(&["node", "labels", "b", "role=", "zone=north"]).code, 0);
    wait_for("b to keep its labels", || {
        let settings = std::fs::read_to_string(b.path().join("node.toml")).unwrap_or_default();
        settings.contains("north").then_some(())
    });
    let ids = |home: &Home| {
        let nodes = home.json(&["node", "get", "b"]);
        let node = nodes["nodes"][0].clone();
        (node["id"].clone(), node["address"].clone())
    };
    let before = ids(&a);
    b.kill_daemon();
    b.run("b", &[]);
    assert_eq!(ids(&a), before);
    let ran = wait_for("b to be back", || {
        let ran = a.sortie(&["invoke", "--on", "b", "--", "echo", "back"]);
        (ran.code == 0).then_some(ran)
    });
    assert_eq!(ran.out, "back\n");
    let nodes = a.json(&["node", "get", "b"]);
    assert_eq!(nodes["nodes"][0]["labels"], serde_json::json!({ "zone": "north" }));
}
