//! Words in, requests out.

use std::os::unix::ffi::OsStringExt;

use sortie::{ReceiveMode, ReceiveSpec};
use sortie_model::JobSpec;
use sortie_model::spec::{BodySpec, Fan, InputSpec, MaxFails, Placement, Throttle};

use super::*;
use crate::exit::Cause;
use crate::failure::Failure;

fn parse<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Result<Verb, clap::Error> {
    let words = std::iter::once("sortie".into()).chain(words.into_iter().map(Into::into));
    Cli::try_parse_from(words).map(|cli| cli.verb)
}

fn invoke(line: &str) -> InvokeArgs {
    match parse(line.split_whitespace()) {
        Ok(Verb::Invoke(args)) => *args,
        other => panic!("{line}: {other:?}"),
    }
}

fn spec(line: &str) -> Result<JobSpec, Failure> {
    let args = invoke(line);
    args.work.spec(&args.command.words, None)
}

fn words_of(line: &str) -> Vec<String> {
    let words = invoke(line).command.words;
    words.into_iter().map(|word| word.into_string().expect("tests write UTF-8")).collect()
}

#[test]
fn the_first_word_that_is_no_option_ends_our_options() {
    assert_eq!(words_of("invoke -w a ls -l --json -w b"), ["ls", "-l", "--json", "-w", "b"]);
    assert_eq!(words_of("run -- --odd -x"), ["--odd", "-x"]);
    assert_eq!(words_of("exec echo -- x"), ["echo", "--", "x"]);
    assert!(parse(["invoke", "--no-such-option", "ls"]).is_err());
    assert!(parse(["invoke", "-Z", "ls"]).is_err());
}

#[test]
fn a_word_may_hold_any_bytes_but_nul() {
    let odd = OsString::from_vec(b"\xff\xfe".to_vec());
    let words = ["invoke".into(), "echo".into(), odd.clone()];
    let Ok(Verb::Invoke(args)) = parse(words) else { panic!("it parses") };
    let spec = args.work.spec(&args.command.words, None).expect("a spec");
    let BodySpec::Command { words } = spec.body else { panic!("a command") };
    assert_eq!(words[1].as_bytes(), b"\xff\xfe");
    assert_eq!(spec.command, "echo $'\\377\\376'");
}

#[test]
fn a_job_runs_here_unless_nodes_are_named() {
    assert_eq!(spec("invoke ls").expect("a spec").placement, Placement::Here);
    let on = |line| match spec(line).expect("a spec").placement {
        Placement::Nodes { on, exclude } => {
            (on.to_string(), exclude.map(|exclude| exclude.to_string()))
        }
        Placement::Here => panic!("{line} runs here"),
    };
    assert_eq!(on("invoke --on a,b -w c ls"), ("a,b,c".to_owned(), None));
    assert_eq!(on("invoke --nodes @web -x web3 ls"), ("@web".to_owned(), Some("web3".to_owned())));
    assert_eq!(on("invoke -a ls"), ("*".to_owned(), None));
    assert_eq!(on("invoke -x b ls"), ("*".to_owned(), Some("b".to_owned())));
    assert_eq!(spec("invoke -a -w b ls").expect_err("both").cause, Cause::Usage);
    assert_eq!(spec("invoke -w a[ ls").expect_err("unclosed").cause, Cause::Usage);
}

#[test]
fn options_land_in_the_spec() {
    let spec = spec(
        "invoke -j 5 --timeout 90s --grace 1s --max-fails 3 --name web -C /tmp -e A=1 \
         --output-limit 1MiB --init true cmd",
    )
    .expect("a spec");
    assert_eq!(spec.throttle, Throttle::AtMost(5.try_into().expect("not zero")));
    assert_eq!(spec.timeout, Some(Duration::from_secs(90)));
    assert_eq!(spec.grace, Duration::from_secs(1));
    assert_eq!(spec.max_fails, MaxFails::Count(2));
    assert_eq!(spec.name.map(String::from).as_deref(), Some("web"));
    assert_eq!(spec.output_limit, Some(1 << 20));
    assert_eq!(spec.environment.set.len(), 1);
    assert_eq!(spec.init.as_deref(), Some("true"));
}

#[test]
fn a_map_spreads_its_lines_unless_each_node_gets_each() {
    assert_eq!(spec("invoke --map - ls").expect("a spec").fan, Fan::Spread);
    assert_eq!(spec("invoke --map f --each ls").expect("a spec").fan, Fan::Each);
    assert_eq!(spec("invoke --stdin f ls").expect("a spec").input, InputSpec::Stream);
    assert!(spec("invoke --map f --max-fails 10% ls").is_err());
    assert!(parse(["invoke", "--each", "ls"]).is_err());
    assert!(parse(["invoke", "--map", "f", "--stdin", "g", "ls"]).is_err());
    assert!(spec("invoke --map - --nodes-file - ls").is_err());
}

fn input_of(words: &[&str]) -> Result<serde_json::Value, Failure> {
    let words = [&["invoke", "--task", "count"], words].concat();
    let Ok(Verb::Invoke(args)) = parse(words.iter().copied()) else { panic!("{words:?}") };
    let spec = args.work.spec(&args.command.words, None)?;
    let BodySpec::Task { name, input, .. } = spec.body else { panic!("{words:?}") };
    assert_eq!((name.as_str(), spec.command.as_str()), ("count", "count"));
    Ok(crate::render::value::value_of(&input).expect("one value"))
}

#[test]
fn a_function_takes_json_a_text_a_file_or_nothing() {
    use serde_json::json;

    assert_eq!(input_of(&[]), Ok(json!(null)));
    assert_eq!(input_of(&["--input", "-7"]), Ok(json!(-7)));
    assert_eq!(input_of(&["--input={\"n\": [1]}"]), Ok(json!({ "n": [1] })));
    assert_eq!(input_of(&["--input", "7", "--input-format", "text"]), Ok(json!("7")));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), " [1,\n2]\n").expect("a file");
    let at = format!("@{}", file.path().display());
    assert_eq!(input_of(&["--input", &at]), Ok(json!([1, 2])));
    let message = |words: &[&str]| {
        let failure = input_of(words).expect_err("no input");
        assert_eq!(failure.cause, Cause::Usage);
        failure.message
    };
    assert_eq!(message(&["--input", "x"]), "the input is no JSON: expected value at column 1");
    assert!(message(&["--input", "@/no/such"]).contains("/no/such"));
    assert!(message(&["ls"]).contains("exclude each other"));
}

#[test]
fn what_makes_sense_for_processes_only_is_refused_with_a_function() {
    for line in [
        "--init true",
        "-C /tmp",
        "-e A=1",
        "--env-file f",
        "--clean-env",
        "--script f",
        "--stdin f",
        "--drain 1s",
        "-i",
        "--input 1 --map f",
    ] {
        let words = format!("invoke --task count {line}");
        assert!(parse(words.split_whitespace()).is_err(), "{line}");
    }
    assert!(parse(["invoke", "--input", "1", "ls"]).is_err());
    assert!(parse(["invoke", "--input-format", "text", "ls"]).is_err());
    assert!(parse(["invoke", "--background", "ls"]).is_err());
    assert!(spec("invoke --task count --input - --nodes-file -").is_err());
    assert_eq!(spec("invoke --task count --map f --each").expect("a spec").fan, Fan::Each);
}

#[test]
fn an_empty_command_and_a_bad_name_are_usage_errors() {
    assert_eq!(spec("invoke --on a").expect_err("no command").cause, Cause::Usage);
    assert!(parse(["invoke", "--embedded", "0", "ls"]).is_err());
    for bad in [&["invoke", "--name", "7", "ls"][..], &["invoke", "--throttle", "0", "ls"]] {
        assert!(parse(bad.iter().copied()).is_err(), "{bad:?}");
    }
}

#[test]
fn the_callers_environment_goes_along_unless_it_is_unwanted() {
    let caller = Caller {
        environment: vec![("A".try_into().expect("no NUL"), "1".try_into().expect("no NUL"))],
        directory: None,
    };
    let with = |line| {
        let args = invoke(line);
        let spec = args.work.spec(&args.command.words, Some(caller.clone())).expect("a spec");
        spec.environment.inherited.map(|variables| variables.len())
    };
    assert_eq!(with("invoke ls"), Some(1));
    assert_eq!(with("invoke --clean-env ls"), None);
}

fn receive(line: &str) -> Result<ReceiveSpec, Failure> {
    match parse(line.split_whitespace()) {
        Ok(Verb::Receive(args) | Verb::Logs(args)) => args.spec(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_receive_takes_keeps_waits_or_follows() {
    let mode = |line| receive(line).expect("a receive").mode;
    assert_eq!(mode("receive 1"), ReceiveMode::Take);
    assert_eq!(mode("receive 1 -k"), ReceiveMode::Keep);
    assert_eq!(mode("receive 1 --wait"), ReceiveMode::TakeUntil { finished: false });
    assert_eq!(mode("receive 1 --wait --force"), ReceiveMode::TakeUntil { finished: true });
    assert_eq!(mode("receive 1 -f"), ReceiveMode::Follow);
    assert_eq!(mode("receive 1 --wait --keep --follow"), ReceiveMode::Follow);
}

#[test]
fn a_receive_that_contradicts_itself_is_refused() {
    for line in [
        "receive 1 --wait --keep",
        "receive 1 --force",
        "receive 1 --events",
        "receive 1 --auto-remove",
        "receive 1 --job-first",
        "receive 1 --tail 3",
        "receive 1 --since 1h",
        "receive 1 --timeout 1s",
        "receive 1 --wait --tail 3",
    ] {
        assert_eq!(receive(line).expect_err(line).cause, Cause::Usage);
    }
    assert!(parse(["receive"]).is_err());
    assert!(receive("receive --state failed").is_ok());
}

#[test]
fn other_verbs_take_their_words() {
    for line in [
        "ls",
        "ps -c --state running,failed",
        "get 1 3-7 web* last --child-state failed --newest 3",
        "kill 3",
        "stop all --grace 5s --signal INT",
        "rm --state completed",
        "wait 1 2 --any --timeout 0",
        "explain",
        "tree 1",
        "watch",
        "node run --listen 127.0.0.1:0 --name a --label zone=x",
        "node labels a k=v k2=",
        "cluster join 127.0.0.1:1 --token T",
        "session get --json",
        "doctor",
        "completions fish",
    ] {
        assert!(parse(line.split_whitespace()).is_ok(), "{line}");
    }
    for line in ["stop", "remove", "wait", "get --state busy", "stop 1 --now --grace 1s", "enter"] {
        assert!(parse(line.split_whitespace()).is_err(), "{line}");
    }
}

#[test]
fn the_definition_is_sound() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}
