//! What commands say about sessions on other nodes, and what can be done with what they say.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use serde_json::Value;
use sortie_tests::{Home, Ran, two, wait_for};

/// A command that runs on while the test goes on.
fn begin(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("sortie runs")
}

/// The first line that it prints.
fn first_line(child: &mut Child) -> (String, BufReader<std::process::ChildStdout>) {
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    (line, out)
}

#[track_caller]
fn check(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "`{word}` is missing in {ran:?}");
    }
}

#[test]
fn what_q_prints_of_a_session_elsewhere_can_be_used_again() {
    let [a, b] = two();
    // Numbers of ours that mean something else.
    assert_eq!(a.sortie(&["session", "new", "--name", "mine"]).out.lines().count(), 2);
    assert_eq!(a.sortie(&["start", "--", "echo", "ours"]).code, 0);
    let session = a.sortie(&["session", "new", "--on", "b", "--name", "work", "-q"]).out;
    let session = session.trim();
    let job = a.sortie(&["start", "--session", session, "-q", "--", "echo", "theirs"]).out;
    let job = job.trim();
    let got = a.sortie(&["receive", "--session", session, "--wait", job]);
    assert_eq!((got.code, got.out.as_str()), (0, "theirs\n"), "{got:?}");
    let listed = a.sortie(&["get", "--session", "work", "-q"]).out;
    assert_eq!(listed.trim(), job);
    let sessions = a.sortie(&["session", "get", "-q"]).out;
    assert!(sessions.lines().any(|line| line == session), "{sessions}");
    let numbers = sessions.lines().filter(|line| line.parse::<u32>().is_ok());
    assert_eq!(numbers.count(), 2, "default and mine: {sessions}");
    // By itself it takes nothing of ours.
    let other = a.sortie(&["start", "--detached-session", "-q", "--", "echo", "apart"]).out;
    check(&a.sortie(&["receive", other.trim()]), 4, &[]);
    drop(b);
}

#[test]
fn a_node_that_is_killed_under_an_invoke_is_lost_and_its_document_is_whole() {
    let [a, mut b] = two();
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    // Its session is its own, and ends with the node.
    let invoke = ["invoke", "--node", "b", "-o", "json", "--", "sh", "-c", "echo one; sleep 1000"];
    let mut running = begin(&a, &invoke);
    let (begun, mut out) = first_line(&mut running);
    let mut record = String::new();
    while !record.contains("one") {
        let byte = out.by_ref().bytes().next().expect("more").expect("a byte");
        record.push(char::from(byte));
    }
    b.kill_daemon();
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    let ended = running.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(101), "{ended:?}");
    let document: Value = serde_json::from_str(&format!("{begun}{record}{rest}")).expect("JSON");
    assert_eq!(document["records"].as_array().map(Vec::len), Some(1), "{document}");
    assert_eq!(document["error"]["code"], "unreachable", "{document}");
    let gone = a.sortie(&["get", "--session", "work"]);
    check(&gone, 125, &["session `work` on b", "nothing listens"]);
    check(&a.sortie(&["get", "--node", "b"]), 125, &["sortie: b: "]);
    let new = a.sortie(&["session", "new", "--on", "b"]);
    check(&new, 125, &["sortie: b: "]);
    assert_eq!(new.out, "", "no titles of nothing");
}

#[test]
fn an_invoke_whose_session_is_taken_says_so_and_leaves_its_job() {
    let [a, b] = two();
    assert_eq!(b.sortie(&["session", "new", "--name", "work"]).code, 0);
    assert_eq!(b.sortie(&["session", "disconnect", "work"]).code, 0);
    assert_eq!(a.sortie(&["session", "connect", "work", "--node", "b"]).code, 0);
    let gate = b.path().join("gate");
    let script = format!("echo one; until [ -e {} ]; do sleep 0.05; done", gate.display());
    let mut running = begin(&a, &["invoke", "--session", "work", "--", "sh", "-c", &script]);
    let (line, _out) = first_line(&mut running);
    assert_eq!(line, "one\n");
    assert_eq!(b.sortie(&["session", "connect", "work", "--take"]).code, 0);
    let ended = running.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(103), "{said}");
    assert!(said.contains("another client took it over; job 1 goes on in it"), "{said}");
    std::fs::write(&gate, "").expect("a file");
    let waited = b.sortie(&["wait", "--session", "work", "1"]);
    assert_eq!(waited.code, 0, "{waited:?}");
}

#[test]
fn what_to_type_against_a_deadlock_names_the_session_and_the_node() {
    let [a, _b] = two();
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    let asking = ["--open-stdin", "--prompt", "name?", "--", "sh", "-c", "printf name?; read x"];
    let there = ["--session", "work", "--node", "b"];
    let started = a.sortie(&[&["start"], &there[..], &asking].concat());
    assert_eq!(started.code, 0, "{started:?}");
    let ran = a.sortie(&[&["receive", "1", "--wait"], &there[..]].concat());
    check(&ran, 105, &["`sortie send 2 TEXT --session work --node b` answers"]);
    let ran = a.sortie(&[&["wait", "1"], &there[..]].concat());
    let receive = "`sortie receive 1 --wait --session work --node b`";
    check(&ran, 105, &["`sortie send 2 TEXT --session work --node b` answers", receive]);
    // Where the node was not said, it was found.
    check(&a.sortie(&["wait", "1", "--session", "work"]), 105, &["--node b` answers"]);
    assert_eq!(a.sortie(&[&["kill", "1"], &there[..]].concat()).code, 0);
}

#[test]
fn a_document_is_whole_when_its_time_is_over() {
    let home = Home::running("solo", &[]);
    let script = "echo one; sleep 1000";
    assert_eq!(home.sortie(&["start", "--", "sh", "-c", script]).code, 0);
    wait_for("its line", || {
        let jobs = home.json(&["get", "--children", "1"]);
        jobs["jobs"][1]["unread_bytes"].as_u64().filter(|bytes| *bytes > 0)
    });
    let cut = home.sortie(&["receive", "1", "--wait", "--timeout", "500ms", "-o", "json"]);
    assert_eq!(cut.code, 124, "{cut:?}");
    let document: Value = serde_json::from_str(&cut.out).expect("JSON");
    assert_eq!(document["records"][0]["text"], "one\n", "{document}");
    assert_eq!(document["error"]["code"], "wait_ran_out", "{document}");
    assert_eq!(home.sortie(&["kill", "1"]).code, 0);
}

#[test]
fn a_child_finds_its_session_by_a_word_that_means_it_there() {
    let [a, b] = two();
    let script = ["sh", "-c", "echo $SORTIE_SESSION"];
    let on = |nodes: &[&str]| {
        let words: Vec<&str> = ["invoke"].into_iter().chain(nodes.iter().copied()).collect();
        let ran = a.sortie(&[&words[..], &["--"], &script].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out.trim().to_owned()
    };
    assert_eq!(a.sortie(&["session", "new", "--name", "mine"]).code, 0);
    let mine = a.json(&["session", "get"]);
    let mine = mine["sessions"].as_array().expect("a list");
    let mine = mine.iter().find(|session| session["name"] == "mine").expect("the session");
    assert_eq!(on(&["--session", "mine"]), mine["id"].to_string());
    assert_eq!(
        Some(on(&["--session", "mine", "--on", "b"]).as_str()),
        mine["instance_id"].as_str()
    );
    // Where the session lives, its number means it.
    let theirs = a.json(&["session", "new", "--on", "b", "--name", "theirs"]);
    assert_eq!(on(&["--session", "theirs"]), theirs["sessions"][0]["id"].to_string());
    drop(b);
}

#[test]
fn a_relative_directory_is_ours_here_and_the_nodes_users_elsewhere() {
    let [a, b] = two();
    let folder = a.path().join("sub");
    std::fs::create_dir(&folder).expect("a folder");
    let within = |arguments: &[&str]| {
        let ran = a.command(arguments).current_dir(a.path()).output().expect("a command");
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).trim().to_owned(), err)
    };
    let here = within(&["invoke", "-C", "sub", "--", "pwd", "-P"]);
    let folder = std::fs::canonicalize(folder).expect("it is there");
    assert_eq!((here.0, here.1.as_str()), (Some(0), folder.to_str().expect("UTF-8")), "{here:?}");
    assert_eq!(a.sortie(&["session", "new", "--name", "mine"]).code, 0);
    assert_eq!(within(&["session", "env", "--session", "mine", "-C", "sub"]).0, Some(0));
    let set = a.sortie(&["invoke", "--session", "mine", "--", "pwd", "-P"]);
    assert_eq!(set.out.trim(), folder.to_str().expect("UTF-8"), "{set:?}");
    // Elsewhere it begins in the home of the node's user.
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "theirs"]).code, 0);
    let home = within(&["invoke", "--session", "theirs", "--", "pwd", "-P"]).1;
    let above = std::path::Path::new(&home).parent().unwrap_or(std::path::Path::new("/"));
    let above = above.to_str().expect("UTF-8");
    assert_eq!(within(&["invoke", "--session", "theirs", "-C", "..", "--", "pwd", "-P"]).1, above);
    assert_eq!(within(&["session", "env", "--session", "theirs", "-C", ".."]).0, Some(0));
    assert_eq!(within(&["invoke", "--session", "theirs", "--", "pwd", "-P"]).1, above);
    let wrong = within(&["invoke", "--session", "theirs", "-C", "no/such", "--", "pwd"]);
    assert_eq!(wrong.0, Some(2), "{wrong:?}");
    drop(b);
}

#[test]
fn what_has_no_value_is_not_set_and_what_is_not_set_is_not_unset_without_a_word() {
    let home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
    let env = |arguments: &[&str]| {
        home.sortie(&[&["session", "env", "--session", "work"], arguments].concat())
    };
    check(&env(&["SORTIE_NO_SUCH"]), 2, &["`SORTIE_NO_SUCH` is not set here"]);
    let nameless = env(&["=x"]);
    check(&nameless, 2, &["has no name"]);
    assert!(!nameless.err.contains("-e"), "{nameless:?}");
    check(&env(&["-u", "A"]), 0, &["`A` is not set in the session"]);
    assert_eq!(env(&["A=1"]).code, 0);
    assert_eq!(env(&["-u", "A"]).err, "");
}

#[test]
fn a_second_session_of_one_name_on_one_node_is_said() {
    let [a, b] = two();
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).err, "");
    let second = a.sortie(&["session", "new", "--on", "b", "--name", "work", "-q"]);
    let hint = format!("`--session {}` is the new one", second.out.trim());
    check(&second, 0, &["b has another session called `work`", &hint]);
    let several = a.sortie(&["get", "--session", "work"]);
    check(&several, 2, &["several sessions are called `work`", "identity"]);
    assert!(!several.err.contains("--node"), "that says no more: {several:?}");
    drop(b);
}

#[test]
fn a_session_of_which_nobody_was_told_is_closed_again() {
    let [a, b] = two();
    let new = ["session", "new", "--on", "a,b", "--name", "lost"];
    let ran = a.by_shell("\"$@\" >/dev/full", &new);
    check(&ran, 1, &["cannot write our output"]);
    for home in [&a, &b] {
        let all = home.json(&["session", "get"]);
        assert_eq!(all["sessions"].as_array().map(Vec::len), Some(1), "{all}");
    }
}

#[test]
fn what_cannot_be_started_is_said_before_there_is_a_session() {
    let home = Home::running("solo", &[]);
    for wrong in [&["--on", "nosuch"][..], &["-C", "/no/such"]] {
        let start = [&["start", "--detached-session"], wrong, &["--", "true"]].concat();
        let ran = home.sortie(&start);
        assert!(ran.code == 2 || ran.code == 4, "{ran:?}");
        assert!(!ran.err.contains("keeps the output"), "{ran:?}");
    }
    let all = home.json(&["session", "get"]);
    assert_eq!(all["sessions"].as_array().map(Vec::len), Some(1), "{all}");
}

#[test]
fn a_job_in_a_session_elsewhere_is_there_and_not_here() {
    let [a, b] = two();
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    let start = ["start", "--session", "work", "-o", "json", "--", "sh", "-c", "echo hi; exit 3"];
    let started = a.sortie(&start);
    assert!(started.out.contains("\"location\":\"b\""), "{started:?}");
    let waited = a.sortie(&["wait", "--session", "work", "1", "-o", "json"]);
    assert!(waited.out.contains("\"location\":\"b\""), "{waited:?}");
    let got = a.sortie(&["receive", "--session", "work", "1", "-o", "json"]);
    let got: Value = serde_json::from_str(&got.out).expect("JSON");
    assert_eq!(
        (&got["records"][0]["node"], &got["failures"][0]["node"]),
        (&"b".into(), &"b".into())
    );
    let there = b.json(&["get", "--node", "b", "--session", "default"]);
    assert_eq!(there["jobs"], serde_json::json!([]));
    // Whoever is at home there sees what is here.
    assert_eq!(a.sortie(&["session", "disconnect", "work"]).code, 0);
    assert_eq!(b.json(&["get", "--session", "work"])["jobs"][0]["location"], "localhost");
}

#[test]
fn a_watch_ends_as_what_waits_when_its_node_or_its_session_ends() {
    for (end, code) in [(&["session", "close", "work"][..], 4), (&["node", "stop"], 101)] {
        let home = Home::running("solo", &[]);
        assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
        let mut watching = begin(&home, &["watch", "--session", "work"]);
        let mut started = 0;
        // Its first line shows that it watches.
        let out = BufReader::new(watching.stdout.take().expect("a pipe"));
        let (seen, heard) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                // Nobody waits for the later ones.
                let _ = seen.send(line);
            }
        });
        wait_for("an event", || {
            started += 1;
            assert_eq!(home.sortie(&["start", "--session", "work", "--", "true"]).code, 0);
            heard.try_recv().ok()
        });
        assert_eq!(home.sortie(end).code, 0);
        let ended = watching.wait_with_output().expect("it ends");
        reading.join().expect("it reads to the end");
        assert_eq!(ended.status.code(), Some(code), "{started} jobs: {ended:?}");
    }
}

#[test]
fn a_verb_acts_in_each_of_several_sessions_and_shows_whose_its_ids_are() {
    let [a, _b] = two();
    assert_eq!(a.sortie(&["session", "new", "--name", "work"]).code, 0);
    assert_eq!(a.sortie(&["session", "new", "--name", "web", "--on", "a,b"]).code, 0);
    let ran = a.sortie(&["start", "--session", "w*", "--", "sh", "-c", "echo $SORTIE_NODE"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ids = |ran: &Ran| {
        let lines = ran.out.lines().filter(|line| !line.starts_with("ID "));
        let mut ids: Vec<String> =
            lines.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&ran), ["web@a:1", "web@b:1", "work:1"]);
    let ran = a.sortie(&["wait", "--session", "w*", "1", "--timeout", "60s"]);
    assert_eq!((ran.code, ids(&ran).len()), (0, 3), "{ran:?}");
    let ran = a.sortie(&["receive", "--session", "work,web", "1"]);
    let mut lines = ran.lines();
    lines.sort_unstable();
    assert_eq!((ran.code, lines), (0, vec!["a", "a", "b"]), "{ran:?}");
    // A name that is none's, before anything is done; what one lacks keeps no other from its turn.
    let ran = a.sortie(&["remove", "--session", "work,none", "1"]);
    assert_eq!((ran.code, ran.err.contains("there is no session `none`")), (4, true), "{ran:?}");
    assert_eq!(a.sortie(&["start", "--session", "work", "--", "true"]).code, 0);
    let ran = a.sortie(&["get", "--session", "web,work", "3"]);
    assert_eq!((ran.code, ids(&ran)), (4, vec!["work:3".to_owned()]), "{ran:?}");
    let ran = a.sortie(&["invoke", "--session", "web,work", "--", "true"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
    assert_eq!(a.sortie(&["get", "--session", "x*"]).code, 0);
}
