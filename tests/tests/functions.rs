//! A user's own program as a full `sortie`: its functions at the command line, on real daemons.

use std::fs;
use std::path::Path;

use sortie_tests::{Home, Ran, join_all};

const PROGRAM: &str = env!("CARGO_BIN_EXE_counting-sortie");

/// A home that is used through the program, whose node does not run yet.
fn home() -> Home {
    Home::of(Path::new(PROGRAM))
}

fn running(name: &str) -> Home {
    let mut home = home();
    home.run(name, &[]);
    home
}

fn sorted(ran: &Ran) -> Vec<&str> {
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut lines = ran.lines();
    lines.sort_unstable();
    lines
}

#[track_caller]
fn check_refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "no `{word}` in {ran:?}");
    }
}

#[test]
fn the_program_of_the_documentation_is_this_one() {
    let program = include_str!("../src/bin/counting-sortie.rs");
    let code = program.split_once("\n\n").map(|(_, code)| code).expect("code below its first line");
    let block = format!("```rust\n{code}```\n");
    assert!(include_str!("../../docs/cli.md").contains(&block), "docs/cli.md has another one");
}

#[test]
fn a_function_runs_on_every_daemon_of_its_program_and_fails_on_others() {
    let (a, b, plain) = (running("a"), running("b"), Home::running("plain", &[]));
    join_all(&[&a, &b, &plain]);
    let text = ["invoke", "--task", "measure", "--input", "\"hello\""];
    let here = a.sortie(&text);
    assert_eq!((here.code, here.out.as_str()), (0, "[\"a\",5]\n"), "{here:?}");
    let both = a.sortie(&[&text[..], &["--on", "a,b"]].concat());
    assert_eq!(sorted(&both), ["a: [\"a\",5]", "b: [\"b\",5]"]);
    let all = a.sortie(&[&text[..], &["--on", "*"]].concat());
    assert_eq!((all.code, all.lines().len()), (100, 2), "{all:?}");
    assert!(all.err.contains("no function `measure` is registered there"), "{all:?}");
    // A node is asked for what it has, whichever program asks.
    let asked = plain.sortie(&["invoke", "--on", "b", "--task", "count", "--input", "2"]);
    assert_eq!((asked.code, asked.out.as_str()), (0, "1\n2\n"), "{asked:?}");
}

#[test]
fn each_line_of_a_map_is_the_input_of_one_child() {
    let (a, b) = (running("a"), running("b"));
    join_all(&[&a, &b]);
    let inputs = a.path().join("inputs");
    fs::write(&inputs, "\"one\"\n\n\"three\"\r\n \n\"\\u00fc\"").expect("a file");
    let inputs = inputs.display().to_string();
    let map = ["invoke", "--task", "measure", "--map", &inputs];
    let lengths = |ran: &Ran| {
        let lines = sorted(ran).into_iter();
        let mut lengths: Vec<u64> = lines
            .map(|line| serde_json::from_str::<(String, u64)>(line).expect("a value").1)
            .collect();
        lengths.sort_unstable();
        lengths
    };
    assert_eq!(lengths(&a.sortie(&[&map[..], &["--on", "*"]].concat())), [2, 3, 5]);
    let each = a.sortie(&[&map[..], &["--on", "*", "--each"]].concat());
    assert_eq!(lengths(&each), [2, 2, 3, 3, 5, 5]);
    let text = a.sortie(&[&map[..], &["--input-format", "text"]].concat());
    assert_eq!(lengths(&text), [1, 5, 8, 8]);
    let piped = a.by_shell(
        "printf '1\\0002\\0' | \"$@\"",
        &["invoke", "--task", "count", "-0", "--map", "-"],
    );
    assert_eq!(sorted(&piped), ["1", "1", "2"]);
}

#[test]
fn an_embedded_cluster_has_the_functions() {
    let home = home();
    let measure = ["invoke", "--embedded", "2", "--task", "measure"];
    let ran = home.sortie(&[&measure[..], &["--on", "*", "--input", "\"hello\""]].concat());
    assert_eq!(sorted(&ran), ["node1: [\"node1\",5]", "node2: [\"node2\",5]"]);
    assert!(!home.path().join("node.addr").exists());
    let process = home.sortie(&["invoke", "--embedded", "2", "--on", "*", "--", "echo", "hi"]);
    assert_eq!(sorted(&process), ["node1: hi", "node2: hi"]);
}

#[test]
fn a_node_that_a_command_starts_is_of_the_same_program() {
    let home = home();
    let ran = home.sortie(&["invoke", "--task", "count", "--input", "3"]);
    let process = home.sortie(&["invoke", "--", "echo", "hi"]);
    let job = home.sortie(&["start", "--task", "count", "--input", "2", "-q"]);
    let taken = home.sortie(&["receive", "--wait", "last"]);
    let stopped = home.sortie(&["node", "stop"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "1\n2\n3\n"), "{ran:?}");
    assert!(ran.err.contains("`counting-sortie node stop` ends it"), "{ran:?}");
    assert_eq!((process.code, process.out.as_str(), process.err.as_str()), (0, "hi\n", ""));
    assert_eq!((job.code, job.out.as_str()), (0, "1\n"), "{job:?}");
    assert_eq!((taken.code, taken.out.as_str()), (0, "1\n2\n"), "{taken:?}");
    assert_eq!(stopped.code, 0, "{stopped:?}");
}

#[test]
fn what_makes_no_sense_is_refused_before_any_job_exists() {
    let home = running("solo");
    let inputs = home.path().join("inputs");
    fs::write(&inputs, "1\n\nseven\n").expect("a file");
    let inputs = inputs.display().to_string();
    for verb in ["start", "invoke"] {
        let task = |words: &[&str]| home.sortie(&[&[verb, "--task"], words].concat());
        check_refused(&task(&["nothing"]), 2, &["no function `nothing`", "the program that"]);
        check_refused(&task(&["count", "--input", "seven"]), 2, &["the input is no JSON"]);
        check_refused(&task(&["count", "--input", "@/no/such"]), 2, &["/no/such"]);
        check_refused(&task(&["count", "--map", &inputs]), 2, &["line 3 of", "is no JSON"]);
        check_refused(&task(&["count", "ls", "-l"]), 2, &["exclude each other", "--input"]);
        check_refused(&task(&["count", "--init", "true"]), 2, &["--init"]);
        check_refused(&task(&["count", "--stdin", "-"]), 2, &["--stdin"]);
        let both = task(&["count", "--input", "1", "--map", &inputs]);
        check_refused(&both, 2, &["--input", "--map"]);
        check_refused(&home.sortie(&[verb, "--input", "1", "--", "ls"]), 2, &["--task"]);
    }
    assert_eq!(home.json(&["get"])["jobs"].as_array().map(Vec::len), Some(0));
    // Whether a value is what the function takes, only its child finds out.
    let ran = home.sortie(&["invoke", "--task", "count", "--input", "\"many\""]);
    check_refused(&ran, 100, &["gave an error: it takes u64"]);
}

#[test]
fn a_line_that_is_no_json_ends_a_map_whose_input_comes_bit_by_bit() {
    let home = running("solo");
    let bad = "printf '1\\n\\nseven\\n2\\n' | \"$@\"";
    let ran = home.by_shell(bad, &["invoke", "--task", "count", "--map", "-"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("line 3 of our standard input is no JSON"), "{ran:?}");
    // The job exists, so that it is shown.
    let ran = home.by_shell(bad, &["start", "--task", "count", "--map", "-", "-q"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, "1\n"), "{ran:?}");
    let ended = home.sortie(&["wait", "1", "--no-fail"]);
    assert!(ended.err.contains("the rest of its input was lost"), "{ended:?}");
}
