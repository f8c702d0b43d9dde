//! Where a command runs may be odd: no folder, no home, closed streams. Each is said before
//! anything is done.

use std::fs;

use sortie_tests::{Home, Ran};

#[track_caller]
fn check_says(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "no `{word}` in {ran:?}");
    }
    assert!(ran.err.lines().count() <= 3, "{ran:?}");
}

fn jobs(home: &Home) -> Option<usize> {
    home.json(&["get"]).get("jobs")?.as_array().map(Vec::len)
}

#[test]
fn a_working_directory_that_is_gone_is_said_before_any_job_exists() {
    let home = Home::running("solo", &[]);
    let gone = home.path().join("gone");
    for verb in ["start", "invoke"] {
        fs::create_dir(&gone).expect("a folder");
        let line = format!("cd '{0}' && rmdir '{0}' && \"$@\"", gone.display());
        check_says(
            &home.by_shell(&line, &[verb, "--", "pwd"]),
            2,
            &["working directory", "gone", "--chdir"],
        );
    }
    fs::create_dir(&gone).expect("a folder");
    let line = format!("cd '{0}' && rmdir '{0}' && \"$@\"", gone.display());
    let elsewhere = home.by_shell(&line, &["invoke", "-C", "/", "--", "pwd"]);
    check_says(&elsewhere, 0, &[]);
    assert_eq!(elsewhere.out, "/\n");
    assert_eq!(jobs(&home), Some(0));
}

#[test]
fn a_home_directory_that_does_not_exist_is_not_made() {
    let home = Home::new();
    let nowhere = home.path().join("nowhere");
    let without = "unset SORTIE_HOME XDG_CONFIG_HOME XDG_STATE_HOME;";
    let line = format!("{without} HOME='{}' \"$@\"", nowhere.display());
    check_says(&home.by_shell(&line, &["get"]), 2, &["HOME is", "nowhere", "SORTIE_HOME"]);
    assert!(!nowhere.exists());
}

#[test]
fn without_a_stdout_nothing_is_done_and_nothing_is_lost() {
    let home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["start", "--", "echo", "kept"]).code, 0);
    assert_eq!(home.sortie(&["wait", "1"]).code, 0);
    for arguments in [
        &["receive", "1"][..],
        &["get"],
        &["invoke", "--", "echo", "hi"],
        &["start", "--", "true"],
        &["completions", "bash"],
        &["--version"],
    ] {
        check_says(&home.by_shell("\"$@\" >&-", arguments), 141, &["standard output is closed"]);
    }
    assert_eq!(jobs(&home), Some(1));
    assert_eq!(home.sortie(&["receive", "1"]).out, "kept\n");
    let full = home.by_shell("\"$@\" >/dev/full", &["get"]);
    check_says(&full, 1, &["cannot write our output"]);
}

#[test]
fn a_closed_stdin_is_an_error_only_where_it_is_read() {
    let home = Home::running("solo", &[]);
    for arguments in [
        &["invoke", "--stdin", "-", "--", "cat"][..],
        &["invoke", "--map", "-", "--", "echo"],
        &["start", "--nodes-file", "-", "--", "true"],
    ] {
        check_says(&home.by_shell("\"$@\" <&-", arguments), 2, &["standard input is closed"]);
    }
    let output = home.by_shell("\"$@\" <&- 2>&-", &["invoke", "--", "echo", "hi"]);
    check_says(&output, 0, &[]);
    assert_eq!(output.out, "hi\n");
    assert_eq!(jobs(&home), Some(0));
}

#[test]
fn a_mistake_in_a_file_of_the_home_names_file_and_line() {
    let mut home = Home::running("solo", &[]);
    let groups = home.path().join("groups.toml");
    for (text, line) in [
        (&b"web = \"solo\"\ndb = 5\n"[..], "groups.toml:2: group `db`"),
        (b"web = [\"solo\"", "groups.toml:1: "),
        (b"\n\nweb = \"a[\"", "groups.toml:3: group `web`"),
        (b"\nweb = \"\xff\"", "groups.toml:2: "),
        (b"web = \"@db\"\n", "groups.toml:1: group `web` names the group `db`"),
        (b"web = \"@db\"\ndb = \"@web\"", "groups.toml:2: group `db` contains itself"),
    ] {
        fs::write(&groups, text).expect("a file");
        let ran = home.by_shell("\"$@\"", &["start", "--on", "@web", "--", "true"]);
        check_says(&ran, 2, &[line, "correct the file"]);
        let looked = home.sortie(&["doctor"]);
        assert!(looked.code == 1 && looked.out.contains(line), "{looked:?}");
    }
    fs::remove_file(&groups).expect("it was written");
    fs::create_dir(&groups).expect("a folder");
    let ran = home.by_shell("\"$@\"", &["start", "--on", "@web", "--", "true"]);
    check_says(&ran, 2, &["groups.toml"]);
    home.kill_daemon();
    fs::write(home.path().join("node.toml"), "port = 1\nport = \"x\"\n").expect("a file");
    for arguments in [&["get"][..], &["node", "run"]] {
        check_says(&home.by_shell("\"$@\"", arguments), 2, &["node.toml:2: "]);
    }
}

#[test]
fn what_could_not_be_written_is_there_for_the_next_receive_at_once() {
    let home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["start", "--", "echo", "kept"]).code, 0);
    assert_eq!(home.sortie(&["wait", "1"]).code, 0);
    let full = home.by_shell("\"$@\" >/dev/full", &["receive", "1"]);
    check_says(&full, 1, &["cannot write our output"]);
    assert_eq!(home.sortie(&["receive", "1"]).out, "kept\n");
}

#[test]
fn a_home_that_cannot_be_made_is_said_in_one_sentence() {
    let home = Home::new();
    for folder in ["/etc/passwd", "/etc/passwd/below", "/proc/nope", &"x".repeat(300)] {
        let line = format!("SORTIE_HOME={folder} \"$@\"");
        for verb in [&["get"][..], &["node", "run"]] {
            check_says(&home.by_shell(&line, verb), 2, &["cannot make the folder", folder]);
        }
    }
}

#[test]
fn what_of_a_home_is_not_ours_to_use_is_a_usage_error_with_advice() {
    let mut home = Home::running("solo", &[]);
    home.kill_daemon();
    let address = home.path().join("node.addr");
    let end = home.sortie(&["node", "stop"]);
    assert_eq!(end.code, 0, "{end:?}");
    // A folder in a file's place, since whoever runs this may be allowed to read everything.
    for name in ["node.toml", "lock", "sessions/journal", "node.log", "node.addr"] {
        let (path, aside) = (home.path().join(name), home.path().join("aside"));
        let was = fs::rename(&path, &aside).is_ok();
        fs::create_dir(&path).expect("a folder");
        let shown = name.trim_end_matches("/journal");
        check_says(&home.sortie(&["get"]), 2, &[shown, "set SORTIE_HOME"]);
        fs::remove_dir(&path).expect("it is empty");
        if was {
            fs::rename(&aside, &path).expect("a file");
        }
    }
    assert!(!address.exists(), "no node came to be");
    let begun = home.sortie(&["get", "-o", "json"]);
    assert_eq!(begun.code, 0, "{begun:?}");
    let said: serde_json::Value = serde_json::from_str(begun.err.trim_end()).expect("JSON");
    assert_eq!(said["error"]["code"], "node_started");
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
}

#[test]
fn a_node_that_was_killed_is_none_and_one_that_hangs_is_named() {
    let mut home = Home::running("solo", &[]);
    let node = home.daemon_pid();
    let pid = i32::try_from(node).ok().and_then(rustix::process::Pid::from_raw);
    let signal = |signal| rustix::process::kill_process(pid.expect("a process"), signal);
    signal(rustix::process::Signal::STOP).expect("it runs");
    let says = [&format!("(process {node})")[..], "does not answer", &format!("kill -9 {node}")];
    let stopped = home.sortie(&["node", "stop"]);
    check_says(&stopped, 125, &says);
    assert!(!stopped.err.contains("firewall"), "{stopped:?}");
    let checked = home.sortie(&["doctor"]);
    assert!(checked.code == 1 && checked.out.contains(says[0]), "{checked:?}");
    home.kill_daemon();
    assert!(home.path().join("node.addr").exists(), "nobody took it back");
    check_says(&home.sortie(&["node", "stop"]), 0, &["no node of yours runs"]);
    let checked = home.sortie(&["doctor"]);
    assert!(checked.code == 0 && checked.out.contains("none runs"), "{checked:?}");
    check_says(&home.sortie(&["get"]), 0, &["started a node of your own"]);
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
}

#[test]
fn an_address_that_a_dead_node_left_behind_is_in_nobodys_way() {
    let home = Home::new();
    fs::write(home.path().join("node.addr"), "127.0.0.1:9\n").expect("a file");
    let ran = home.sortie(&["get"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
    assert_eq!(home.sortie(&["node", "stop"]).code, 0);
}
