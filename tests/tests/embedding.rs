//! Nodes inside a program.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use sortie_tests::{children_of, wait_for};

#[test]
fn a_node_that_is_shut_down_takes_its_guardian_along_and_leaves_others_theirs() {
    let program = Command::new(env!("CARGO_BIN_EXE_two-nodes"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut program = program.expect("the program");
    let mut input = program.stdin.take().expect("a pipe");
    let mut output = BufReader::new(program.stdout.take().expect("a pipe")).lines();
    let mut say = move || output.next().expect("a line").expect("a text");
    assert_eq!(say(), "ready");
    let guardians = children_of(program.id());
    assert_eq!(guardians.len(), 2);
    for left in [1, 0] {
        input.write_all(b"end\n").expect("it reads");
        assert_eq!(say(), "ended");
        let stay = wait_for("the guardian's end", || {
            let stay = children_of(program.id());
            (stay.len() <= left).then_some(stay)
        });
        assert_eq!(stay.len(), left);
        assert!(stay.iter().all(|pid| guardians.contains(pid)));
    }
    drop(input);
    assert!(program.wait().expect("its end").success());
}

#[test]
fn a_process_in_a_program_that_got_ready_after_its_runtime_is_a_clear_error() {
    let ran = Command::new(env!("CARGO_BIN_EXE_two-nodes")).arg("late").output();
    let ran = ran.expect("the program");
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
    for word in ["this node hosts no processes", "`sortie::init()`"] {
        assert!(error.contains(word), "no `{word}` in {error}");
    }
}
