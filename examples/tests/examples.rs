//! Every example runs as it is typed in its first line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

/// What the example prints on its standard output.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
fn output(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let ran = ran.expect("the example");
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).expect("text")
}

#[test]
fn words_are_counted_on_three_nodes() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("below")).expect("a directory");
    std::fs::write(directory.path().join("a"), "one two\nthree").expect("a file");
    std::fs::write(directory.path().join("below/b"), " four ").expect("a file");
    std::fs::write(directory.path().join("empty"), "").expect("a file");
    let path = directory.path().to_str().expect("a path in UTF-8");
    let said = output(env!("CARGO_BIN_EXE_word-count"), &[path]);
    assert_eq!(said, "4 words in 3 files, 0 unread\n");
}

#[test]
fn darts_give_pi() {
    let said = output(env!("CARGO_BIN_EXE_monte-carlo"), &["20000"]);
    assert!(said.starts_with("20000 inputs on 2 nodes: pi is about 3.1"), "{said}");
}

#[test]
fn a_pipeline_survives_a_panic_and_a_lost_node() {
    let said = output(env!("CARGO_BIN_EXE_pipeline"), &[]);
    // The part that panicked, and both of the lost node.
    assert!(said.starts_with("Completed after 3 restarts: "), "{said}");
    assert!(said.contains(" items, parts ended on ") && !said.contains("\"c\""), "{said}");
}

#[test]
fn a_pool_of_workers_shares_the_work() {
    let said = output(env!("CARGO_BIN_EXE_worker-pool"), &[]);
    assert_eq!(said, "2262 primes below 20000, counted by 3 workers; Stopped\n");
}

#[test]
fn a_web_service_answers_and_ends_when_it_is_told() {
    let program = Command::new(env!("CARGO_BIN_EXE_web-service"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut program = program.expect("the example");
    let mut said = BufReader::new(program.stdout.take().expect("a pipe")).lines();
    let url = said.next().expect("a line").expect("text");
    let address = url.strip_prefix("http://").expect("an address");
    let mut connection = std::net::TcpStream::connect(address).expect("it listens");
    let request = "GET /sums/4 HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[0,0,1,3]"), "{answer}");
    drop(program.stdin.take());
    assert_eq!(said.next().expect("a line").expect("text"), "ended");
    assert!(program.wait().expect("its end").success());
}
