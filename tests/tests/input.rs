//! Input that flows to children on other nodes.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use sortie_tests::{Home, join_all, wait_for};

/// More than all windows on the way of one input together.
const LENGTH: u64 = 8 << 20;

fn linked(names: &[&str]) -> Vec<Home> {
    let homes: Vec<_> = names.iter().map(|name| Home::running(name, &[])).collect();
    join_all(&homes.iter().collect::<Vec<_>>());
    wait_for("all members", || {
        let nodes = homes[0].json(&["node", "get"]);
        (nodes.get("nodes")?.as_array()?.len() == names.len()).then_some(())
    });
    homes
}

fn input_in(home: &Home) -> PathBuf {
    let bytes: Vec<u8> =
        (0..LENGTH / 8).flat_map(|number| (number * 0x9E37_79B9).to_le_bytes()).collect();
    let file = home.path().join("input");
    fs::write(&file, bytes).expect("a file of input");
    file
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn a_child_that_closes_its_input_leaves_the_others_theirs() {
    let homes = linked(&["a", "b", "c"]);
    let (file, go_on) = (input_in(&homes[0]), homes[0].path().join("go-on"));
    let script = format!(
        "if [ $SORTIE_NODE = b ]; then exec 0<&-; until [ -e '{}' ]; do sleep 0.05; done; \
         echo closed; else cmp - '{}' && echo same; fi",
        go_on.display(),
        file.display()
    );
    let arguments = ["invoke", "--on", "*", "--stdin", text(&file), "--", "sh", "-c", &script];
    let mut invoke =
        homes[0].command(arguments).stdout(Stdio::piped()).spawn().expect("sortie runs");
    let (sender, lines) = mpsc::channel();
    let out = BufReader::new(invoke.stdout.take().expect("a pipe"));
    let reader = std::thread::spawn(move || {
        for line in out.lines() {
            sender.send(line.expect("text")).expect("somebody listens");
        }
    });
    let next = || lines.recv_timeout(Duration::from_secs(60)).expect("a line in time");
    let mut first = [next(), next()];
    first.sort();
    assert_eq!(first, ["a: same", "c: same"]);
    fs::write(go_on, "").expect("a file");
    assert_eq!(next(), "b: closed");
    assert!(invoke.wait().expect("an end").success());
    reader.join().expect("a reader that ends");
}

#[test]
fn children_that_do_not_read_keep_nobody_from_input_or_answers() {
    let homes = linked(&["a", "b"]);
    let file = input_in(&homes[0]);
    let start = ["start", "--on", "b", "--stdin", text(&file), "--", "sleep", "1000"];
    // Without credit these would fill the connection.
    for _ in 0..40 {
        let ran = homes[0].sortie(&start);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let compare = ["invoke", "--on", "b", "--stdin", text(&file), "--", "cmp", "-", text(&file)];
    let ran = homes[0].sortie(&compare);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(homes[0].sortie(&["stop", "--now", "all"]).code, 0);
    assert_eq!(homes[0].json(&["get", "--state", "running"])["jobs"], serde_json::json!([]));
}
