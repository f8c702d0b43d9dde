//! What `chaos` says of options that it does not know. A test of its own package also has
//! `cargo test` build the program, with the features of the tests.

use std::io;
use std::process::{Command, Output};

fn chaos(words: &[&str]) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_chaos")).args(words).output()
}

#[test]
fn an_option_or_a_value_that_it_does_not_know_shows_the_usage() {
    for words in [&["--shrot"][..], &["--scenario", "deamon"], &["--kills", "many"], &["--kills"]] {
        let Output { status, stdout, stderr } = chaos(words).expect("the program runs");
        assert_eq!((status.code(), stdout.as_slice()), (Some(2), &b""[..]), "{words:?}");
        let said = String::from_utf8_lossy(&stderr);
        assert!(said.starts_with("usage: chaos "), "{words:?}: {said}");
    }
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let Output { status, stderr, .. } =
        chaos(&["--binary", "/nowhere/sortie"]).expect("the program runs");
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(2));
    assert!(said.starts_with("chaos: /nowhere/sortie is not built\n"), "{said}");
}
