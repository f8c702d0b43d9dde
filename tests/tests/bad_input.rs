//! Bad input gets one clear sentence and the documented exit status; nothing is lost or half done.

use std::process::Stdio;

use sortie_tests::{Home, Ran, two};

fn one_sentence(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "no `{word}` in {ran:?}");
    }
    assert!(ran.err.lines().count() <= 3, "{ran:?}");
    assert!(!ran.err.contains("panicked"), "{ran:?}");
}

#[test]
fn what_a_node_can_tell_is_refused_before_any_job_exists() {
    let home = Home::running("solo", &[]);
    let sortie = |arguments: &[&str]| home.sortie(arguments);
    one_sentence(&sortie(&["start", "--on", "nobody", "--", "true"]), 4, &["nobody"]);
    one_sentence(&sortie(&["start", "--on", "a[", "--", "true"]), 2, &["`[`"]);
    one_sentence(&sortie(&["start", "-C", "/no/such", "--", "true"]), 2, &["/no/such"]);
    one_sentence(&sortie(&["start", "--", ""]), 2, &["no command"]);
    one_sentence(&sortie(&["start"]), 2, &[]);
    one_sentence(&sortie(&["get", "77"]), 4, &["77"]);
    one_sentence(&sortie(&["wait", "nothing"]), 4, &["nothing"]);
    one_sentence(&sortie(&["receive", "--wait", "--keep", "all"]), 2, &["--keep"]);
    one_sentence(&sortie(&["start", "--job-name", "3-7", "--", "true"]), 2, &["3-7"]);
    let jobs = home.json(&["get"]);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(0));
}

#[test]
fn what_cannot_be_meant_is_refused_before_a_node_is_asked() {
    let home = Home::new();
    let sortie = |arguments: &[&str]| home.sortie(arguments);
    for node in ["", "127.0.0.1:99999", "127.0.0.1:x", "127.0.0.1:0", "host:", ":80", "a/b"] {
        for verb in [&["get"][..], &["node", "stop"], &["session", "get"]] {
            let ran = sortie(&[verb, &["--node", node]].concat());
            assert_eq!(ran.code, 2, "{ran:?}");
            assert!(ran.err.contains("`host:port` with a port from 1 to 65535"), "{ran:?}");
        }
    }
    let many = ["start", "--on", "a[1-99999999]", "--", "true"];
    one_sentence(&sortie(&many), 2, &["at most 65536 nodes", "write a shorter range"]);
    let long = sortie(&["session", "new", "--idle-timeout", "3651d"]);
    assert!(long.code == 2 && long.err.contains("at most 3650 days"), "{long:?}");
    let short = sortie(&["session", "new", "--idle-timeout", "59s"]);
    one_sentence(&short, 2, &["60 s to 3650 days"]);
}

#[test]
fn a_session_beside_a_throw_away_cluster_is_refused_where_it_was_typed() {
    let home = Home::new();
    let embedded = ["--embedded", "1"];
    for verb in [&["get"][..], &["tree"], &["invoke"]] {
        let words = [verb, &embedded[..], &["--session", "work"]].concat();
        one_sentence(&home.sortie(&words), 2, &["`--session` and `--embedded`", "leave one"]);
    }
    let json = [&["get"][..], &embedded, &["--session", "work", "-o", "json"]].concat();
    assert!(home.sortie(&json).err.starts_with('{'), "an error in the form that was asked for");
    let mut command = home.command(["invoke", "--embedded", "1", "--", "echo", "here"]);
    let output = command.env("SORTIE_SESSION", "work").output().expect("a program to run");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"here\n"[..]));
}

#[test]
fn a_tree_of_what_is_not_there_is_an_error_alone() {
    let home = Home::running("solo", &[]);
    let ran = home.sortie(&["tree", "nosuch"]);
    one_sentence(&ran, 4, &["nosuch"]);
    assert_eq!(ran.out, "");
    assert!(home.sortie(&["tree"]).out.starts_with("session default"), "an empty one is one");
}

#[test]
fn a_variable_that_is_not_set_here_is_said_to_set_nothing() {
    let home = Home::running("solo", &[]);
    let file = home.path().join("variables");
    std::fs::write(&file, "SORTIE_NOT_THERE\nB=2\n").expect("a file");
    let file = file.to_str().expect("UTF-8");
    let command = ["--", "sh", "-c", "echo $B${SORTIE_NOT_THERE-none}"];
    // Of a file it is not said what stands there: that may be a part of a secret.
    let cases = [
        (["-e", "SORTIE_NOT_THERE"], "none\n", "`SORTIE_NOT_THERE` is not set here"),
        (["--env-file", file], "2none\n", "variables:1 names no variable that is set here"),
    ];
    for (option, out, said) in cases {
        let ran = home.sortie(&[&["invoke"], &option[..], &command].concat());
        assert_eq!((ran.code, ran.out.as_str()), (0, out), "{ran:?}");
        assert!(ran.err.contains(said), "{ran:?}");
        assert_eq!(ran.err.contains("SORTIE_NOT_THERE"), option[0] == "-e", "{ran:?}");
    }
}

#[test]
fn an_expression_that_matches_no_node_runs_nothing_and_is_no_error() {
    let home = Home::running("solo", &[]);
    for arguments in [
        &["start", "--on", "zzz*", "--", "true"][..],
        &["invoke", "--on", "zzz*", "--", "true"],
        &["invoke", "--on", "role=db", "--map", "/etc/passwd", "--", "echo", "{}"],
        &["start", "--on", "zzz*", "--dry-run", "--", "true"],
        &["start", "--all", "--exclude", "solo", "--", "true"],
        &["receive", "all", "--on", "zzz*"],
    ] {
        let ran = home.sortie(arguments);
        one_sentence(&ran, 0, &["no node matches"]);
        assert_eq!(ran.out, "");
    }
    one_sentence(&home.sortie(&["node", "get", "zzz*"]), 0, &["no node matches `zzz*`"]);
    one_sentence(&home.sortie(&["receive", "all", "--on", "zzz"]), 4, &["zzz"]);
    one_sentence(&home.sortie(&["node", "get", "zzz"]), 4, &["zzz"]);
    assert_eq!(home.json(&["get"])["jobs"].as_array().map(Vec::len), Some(0));
}

#[test]
fn what_names_nothing_is_said_also_when_the_wait_runs_out() {
    let home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["start", "--", "sleep", "1000"]).code, 0);
    for verb in [&["wait"][..], &["receive", "--wait"]] {
        let ran = home.sortie(&[verb, &["77", "last", "--timeout", "0"]].concat());
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.err.contains("77") && ran.err.contains("the wait ran out"), "{ran:?}");
        let ran = home.sortie(&[verb, &["77", "1", "--timeout", "0", "--allow-empty"]].concat());
        one_sentence(&ran, 124, &["the wait ran out", "what was waited for goes on"]);
    }
    assert_eq!(home.sortie(&["kill", "last"]).code, 0);
}

#[test]
fn a_format_that_an_answer_does_not_have_is_refused_before_anything_is_done() {
    let home = Home::running("solo", &[]);
    let touched = home.path().join("touched");
    let touched = touched.to_str().expect("a path in UTF-8");
    let touch = ["--session", "default", "--", "touch", touched];
    for look in [&["-o", "csv"][..], &["-o", "yaml"], &["--columns", "id"]] {
        let ran = home.sortie(&[&["invoke"], look, &touch].concat());
        one_sentence(&ran, 2, &["results have no columns"]);
    }
    one_sentence(&home.sortie(&["receive", "all", "--columns", "id"]), 2, &["no columns"]);
    for verb in [&["explain"][..], &["tree"], &["doctor"], &["node", "ping"], &["cluster", "init"]]
    {
        let ran = home.sortie(&[verb, &["-o", "csv"]].concat());
        one_sentence(&ran, 2, &[&verb.join(" "), "no columns", "-o json"]);
    }
    assert!(home.sortie(&["node", "ping", "-o", "yaml"]).out.starts_with("schema: 1\n"));
    assert_eq!(home.json(&["get"])["jobs"].as_array().map(Vec::len), Some(0));
    assert!(!std::path::Path::new(touched).exists());
}

#[test]
fn a_column_that_there_is_not_is_refused_before_anything_is_done() {
    let home = Home::running("solo", &[]);
    let start = ["start", "--open-stdin", "--", "cat"];
    assert_eq!(home.sortie(&start).code, 0);
    for verb in [
        &["start"][..],
        &["start", "--detached"],
        &["start", "--detached-session"],
        &["invoke", "--as-job"],
    ] {
        let ran = home.sortie(&[verb, &["--columns", "nope", "--", "true"]].concat());
        one_sentence(&ran, 2, &["no column `nope`", "columns are"]);
    }
    for verb in [
        &["stop", "1"][..],
        &["suspend", "1"],
        &["remove", "1", "--force"],
        &["throttle", "1", "-j", "7"],
        &["wait", "1"],
        &["session", "new"],
        &["session", "close", "default"],
        &["node", "labels", "solo", "a=b"],
        &["node", "stop"],
        &["send", "2", "--eof"],
    ] {
        one_sentence(&home.sortie(&[verb, &["--columns", "nope"]].concat()), 2, &["column"]);
    }
    let jobs = home.json(&["get"]);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(jobs["jobs"][0]["state"], "running");
    assert_eq!(home.json(&["session", "get"])["sessions"].as_array().map(Vec::len), Some(1));
    assert_eq!(home.json(&["node", "get"])["nodes"][0]["labels"], serde_json::json!({}));
    assert!(!home.path().join("detached").exists());
}

#[test]
fn a_session_is_not_called_as_several_or_an_entry_are() {
    let home = Home::running("solo", &[]);
    for name in ["u,v", "a:1", "a@b", "we*", "7"] {
        one_sentence(&home.sortie(&["session", "new", "--name", name]), 2, &[name, "choose"]);
    }
    let sessions = home.json(&["session", "get"]);
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(1), "`default` alone");
}

#[test]
fn a_standard_input_that_cannot_be_read_is_refused_before_anything_is_done() {
    let home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["start", "--open-stdin", "--", "cat"]).code, 0);
    let written = home.path().join("written");
    let written = written.to_str().expect("a path in UTF-8");
    for words in [
        &["send", "2", "--stdin"][..],
        &["start", "--stdin", "-", "--", "cat"],
        &["start", "--map", "-", "--", "echo"],
        &["invoke", "-i", "--", "cat"],
    ] {
        let ran = home.by_shell("\"$@\" </", words);
        one_sentence(&ran, 2, &["cannot read our standard input: it is a folder"]);
        let ran = home.by_shell(&format!("\"$@\" 0>{written}"), words);
        one_sentence(&ran, 2, &["cannot read our standard input", "for writing only"]);
    }
    let jobs = home.json(&["get"]);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_value_below_zero_is_named_as_what_is_wrong() {
    let home = Home::new();
    for (option, value, words) in [
        ("--timeout", "-5s", "no duration"),
        ("--output-limit", "-1", "no size"),
        ("-j", "-1", "no throttle"),
        ("--max-fails", "-1", "no number of failures"),
    ] {
        let ran = home.sortie(&["start", option, value, "--", "true"]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(value) && ran.err.contains(words), "{ran:?}");
    }
    one_sentence(&home.sortie(&["start", "--map", "", "--", "true"]), 2, &["is empty"]);
}

#[test]
fn one_child_passes_its_own_code_through() {
    let home = Home::running("solo", &[]);
    let code = |arguments: &[&str]| home.sortie(&[&["invoke", "--"], arguments].concat());
    assert_eq!(code(&["sh", "-c", "exit 42"]).code, 42);
    one_sentence(&code(&["no-such-program"]), 127, &["no-such-program"]);
    one_sentence(&code(&["/etc/passwd"]), 126, &["/etc/passwd"]);
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]).code, 137);
}

#[test]
fn tokens_that_are_wrong_used_or_of_another_cluster_do_not_let_in() {
    let homes = [Home::running("a", &[]), Home::running("b", &[]), Home::running("c", &[])];
    let [a, b, c] = &homes;
    let offer = a.json(&["cluster", "init"]);
    let text = |key: &str| offer[key].as_str().expect("a text").to_owned();
    let (address, token) = (text("address"), text("token"));
    let join =
        |home: &Home, token: &str| home.sortie(&["cluster", "join", &address, "--token", token]);
    one_sentence(&join(b, "nonsense"), 2, &["token"]);
    assert_eq!(join(b, &token).code, 0);
    let used = join(c, &token);
    one_sentence(&used, 103, &["used"]);
    let foreign = c.json(&["cluster", "init"])["token"].as_str().expect("a text").to_owned();
    let other = join(c, &foreign);
    assert!(other.code != 0 && other.err.contains("authenticate"), "{other:?}");
    let nodes = a.json(&["node", "get"]);
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(2));
    one_sentence(&join(b, &token), 2, &["members"]);
}

#[test]
fn a_second_daemon_on_the_same_home_is_refused() {
    let home = Home::running("solo", &[]);
    let second = home.sortie(&["node", "run", "--listen", "127.0.0.1:0"]);
    one_sentence(&second, 1, &["another node runs", "node stop", "--home"]);
    assert_eq!(home.sortie(&["node", "ping"]).code, 0);
}

#[test]
fn without_a_home_there_is_one_sentence() {
    let home = Home::new();
    let mut command = home.command(["get"]);
    command.env_clear();
    let output = command.stdin(Stdio::null()).output().expect("a program to run");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("SORTIE_HOME") && err.lines().count() <= 2, "{err}");
}

#[test]
fn a_closed_stdout_ends_the_command_quietly() {
    let home = Home::running("solo", &[]);
    let mut child = home
        .command(["invoke", "--", "yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a program to run");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("an end");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!err.contains("panicked"), "{err}");
    let jobs = home.json(&["get"]);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_removed_job_is_gone_and_an_unfinished_one_stays() {
    let [a, _b] = two();
    assert_eq!(a.sortie(&["start", "--on", "b", "--", "sleep", "1000"]).code, 0);
    one_sentence(&a.sortie(&["remove", "1"]), 2, &["1", "not finished"]);
    one_sentence(&a.sortie(&["remove", "2"]), 2, &["child"]);
    assert_eq!(a.sortie(&["remove", "--force", "1"]).code, 0);
    one_sentence(&a.sortie(&["get", "1"]), 4, &["1"]);
}

#[test]
fn the_same_key_is_the_same_job_and_with_another_command_an_error() {
    let home = Home::running("solo", &[]);
    let start = |words: &str, underscore: &str| {
        let mut command = home.command(["start", "-q", "--key", "deploy-1", "--", "echo", words]);
        let output = command.env("_", underscore).output().expect("a program to run");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let first = start("one", "/bin/sh");
    assert_eq!(first, (Some(0), "1\n".to_owned()));
    assert_eq!(start("one", "/usr/bin/env"), first);
    assert_eq!(start("two", "/bin/sh").0, Some(2));
    let forgotten = home.sortie(&["invoke", "--key", "deploy-1", "--", "echo", "one"]);
    one_sentence(&forgotten, 2, &["`--key`", "a session"]);
    assert_eq!(forgotten.out, "", "it would run again each time");
    assert_eq!(home.json(&["get"])["jobs"].as_array().map(Vec::len), Some(1));
}
