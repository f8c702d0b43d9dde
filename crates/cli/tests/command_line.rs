//! What the binary does without any node.

use std::process::{Command, Output, Stdio};

fn sortie(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sortie"));
    command.args(words).env_clear().stdin(Stdio::null());
    command
}

#[expect(clippy::expect_used, reason = "a test that cannot run its binary has failed")]
fn run(mut command: Command) -> Output {
    command.output().expect("the binary was built with this test")
}

#[expect(clippy::expect_used, reason = "a message that is no text has failed its test")]
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("messages are UTF-8")
}

#[test]
fn a_usage_error_is_said_on_stderr_and_ends_with_2() {
    for words in [
        &["frobnicate"][..],
        &["invoke", "--no-such-option", "ls"],
        &["invoke", "--on", "a[", "ls"],
        &["invoke"],
        &["receive"],
        &["receive", "1", "--wait", "--keep"],
        &["stop", "5-3"],
        &["get", "--state", "busy"],
        &["get", "--limit", "0"],
        &["start", "--timeout", "soon", "ls"],
        &["invoke", "--map", "/no/such/file", "ls"],
        &["invoke", "--embedded", "0", "ls"],
        &["start", "--embedded", "2", "ls"],
        &["invoke", "--as-job", "--embedded", "2", "ls"],
    ] {
        let output = run(sortie(words));
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn a_usage_shows_lines_that_work() {
    let output = run(sortie(&["send", "7"]));
    let said = text(&output.stderr);
    assert!(said.contains("send [OPTIONS] <CHILD> --stdin"), "{said}");
    let output = run(sortie(&["start", "--background", "--", "true"]));
    let said = text(&output.stderr);
    assert!(said.contains("--task <NAME>"), "{said}");
    assert!(!said.contains("--background <CMD>"), "{said}");
}

#[test]
fn an_error_is_one_json_object_where_json_was_asked_for() {
    for words in [
        &["invoke", "--json", "--no-such-option", "ls"][..],
        &["get", "-o", "ndjson", "5-3"],
        &["get", "--json"],
    ] {
        let output = run(sortie(words));
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let lines: Vec<&str> = text(&output.stderr).lines().collect();
        let [line] = lines.as_slice() else { panic!("{words:?}: {lines:?}") };
        let error: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(error["schema"], 1);
        assert_eq!(error["error"]["code"], "usage", "{words:?}");
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
}

#[test]
fn without_a_home_one_sentence_says_so() {
    for words in [&["get"][..], &["invoke", "ls"], &["node", "run"], &["node", "stop"]] {
        let output = run(sortie(words));
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output.stderr).contains("SORTIE_HOME"), "{}", text(&output.stderr));
    }
    let doctor = run(sortie(&["doctor"]));
    assert_eq!(doctor.status.code(), Some(1));
    assert!(text(&doctor.stdout).starts_with("problem  home"), "{}", text(&doctor.stdout));
}

#[test]
fn help_version_and_completions_are_answers() {
    for words in [&["--help"][..], &["invoke", "--help"], &["--version"], &["completions", "bash"]]
    {
        let output = run(sortie(words));
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{words:?}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(sortie(&["completions", shell]));
        assert!(text(&output.stdout).contains("invoke"), "{shell}");
    }
}

#[test]
fn an_output_that_nobody_reads_ends_us_quietly() {
    let mut command = sortie(&["completions", "zsh"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built with this test");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(141));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn a_full_output_is_an_error_that_says_so() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let mut command = sortie(&["completions", "bash"]);
    let Ok(full) = full else { return };
    let output = run({
        command.stdout(full);
        command
    });
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write our output"), "{}", text(&output.stderr));
}
