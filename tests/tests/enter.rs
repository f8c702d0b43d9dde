//! A child on a terminal: `invoke -t` and `enter`, through the real command at a real terminal.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::fs::File;
use std::io::Write;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sortie_tests::terminal::Terminal;
use sortie_tests::{Home, processes_marked, sortie_binary, two, wait_for};

const SIZE: (u16, u16) = (30, 100);

/// A word that no other process of this machine has in its command line.
fn mark(case: &str) -> String {
    format!("{case}-{}", std::process::id())
}

fn signal(terminal: &Terminal, signal: Signal) {
    let pid = Pid::from_raw(terminal.pid().cast_signed()).expect("a process");
    kill_process(pid, signal).expect("a process");
}

fn sessions(home: &Home) -> Vec<Value> {
    let listed = home.json(&["session", "get"]);
    listed.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default()
}

#[test]
fn a_child_on_a_terminal_has_our_size_our_kind_and_its_own_status() {
    let [a, _b] = two();
    let script = "for fd in 0 1 2; do test -t $fd || exit 1; done; : </dev/tty || exit 2; \
                  stty size; echo kind=$TERM; exit 7";
    for on in [&[][..], &["--on", "b"], &["--node", "b"]] {
        let arguments = [&["invoke", "-t"][..], on, &["--", "sh", "-c", script]].concat();
        let mut terminal = Terminal::run(&a, SIZE, &arguments);
        let before = terminal.modes();
        let (code, shown) = terminal.end();
        assert_eq!((code, shown.as_str()), (Some(7), "30 100\r\nkind=test\r\n"), "{on:?}");
        assert_eq!(terminal.modes(), before);
    }
}

#[test]
fn a_new_size_of_our_window_reaches_the_child() {
    let [a, _b] = two();
    let script = "trap 'stty size' WINCH; echo ready; until read line; do :; done; echo $line";
    let invoke = ["invoke", "-t", "--on", "b", "--", "sh", "-c", script];
    let mut terminal = Terminal::run(&a, SIZE, &invoke);
    terminal.sees("ready");
    terminal.resize((33, 99));
    terminal.sees("33 99");
    terminal.resize((11, 22));
    terminal.sees("11 22");
    terminal.types("last\r");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
}

#[test]
fn control_c_is_a_key_of_the_childs_terminal() {
    let home = Home::running("a", &[]);
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::run(&home, SIZE, &["invoke", "-t", "--", "sh", "-c", script]);
    let before = terminal.modes();
    terminal.sees("ready");
    terminal.types("\x03");
    let (code, shown) = terminal.end();
    assert_eq!((code, shown.as_str()), (Some(9), "ready\r\n^Ccaught\r\n"));
    assert_eq!(terminal.modes(), before);
    let sleep = ["invoke", "-t", "--", "sh", "-c", "echo ready; exec sleep 1000"];
    let mut terminal = Terminal::run(&home, SIZE, &sleep);
    terminal.sees("ready");
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(130), "it died of its own terminal's signal");
}

#[test]
fn every_byte_passes_both_ways() {
    let [a, _b] = two();
    let script = "stty raw -echo; printf ready; exec head -c 16384";
    let invoke = ["invoke", "-t", "--no-escape", "--on", "b", "--", "sh", "-c", script];
    let mut terminal = Terminal::run(&a, SIZE, &invoke);
    terminal.sees("ready");
    let all: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(64);
    terminal.types(&all);
    assert_eq!(terminal.end().0, Some(0));
    assert_eq!(terminal.bytes().len(), 5 + all.len());
    assert!(terminal.bytes().ends_with(&all), "some byte changed on its way");
}

#[test]
fn a_long_output_comes_whole() {
    let [a, _b] = two();
    let invoke = ["invoke", "-t", "--on", "b", "--", "seq", "1", "50000"];
    let mut terminal = Terminal::run(&a, SIZE, &invoke);
    assert_eq!(terminal.end().0, Some(0));
    let expected: String = (1..=50_000).map(|number| format!("{number}\r\n")).collect();
    assert!(terminal.shown() == expected, "some line is missing or changed");
}

#[test]
fn whoever_leaves_has_the_terminal_back_and_the_child_is_hung_up() {
    let home = Home::running("a", &[]);
    let mark = mark("left");
    let script = format!("trap '' INT; echo ready; sleep 1000; : {mark}");
    assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
    for (leave, session) in
        [("\r~.", &[][..]), ("\r~.", &["--session", "work"]), ("TERM", &[]), ("QUIT", &[])]
    {
        let arguments = [&["invoke", "-t"][..], session, &["--", "sh", "-c", &script]].concat();
        let mut terminal = Terminal::run(&home, SIZE, &arguments);
        let before = terminal.modes();
        terminal.sees("ready");
        terminal.is_raw();
        match leave {
            "TERM" => signal(&terminal, Signal::TERM),
            "QUIT" => signal(&terminal, Signal::QUIT),
            keys => terminal.types(keys),
        }
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(130), "{leave:?}: {shown}");
        assert_eq!(terminal.modes(), before, "{leave:?}");
        wait_for("the child's end", || processes_marked(&mark).is_empty().then_some(()));
    }
    let left = home.json(&["get", "--session", "work"]);
    assert_eq!(left.get("jobs").and_then(Value::as_array).map(Vec::len), Some(0), "{left}");
}

#[test]
fn a_node_that_dies_gives_the_terminal_back_and_says_so() {
    let [a, mut b] = two();
    let mut terminal = Terminal::run(&a, SIZE, &["enter", "b"]);
    let before = terminal.modes();
    terminal.is_raw();
    terminal.types("printf '%s%s\\n' rea dy\r");
    terminal.sees("ready\r\n");
    b.kill_daemon();
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(101), "{shown}");
    assert!(shown.contains("sortie: b: the connection to the node was lost"), "{shown}");
    assert_eq!(terminal.modes(), before);
    let mut again = Terminal::run(&a, SIZE, &["enter", "b"]);
    let (code, shown) = again.end();
    assert_eq!(code, Some(125), "{shown}");
}

#[test]
fn what_is_started_in_an_entered_node_ends_with_leaving_it() {
    let [a, b] = two();
    let mark = mark("entered");
    let sortie = sortie_binary().display().to_string();
    let mut terminal = Terminal::run(&a, SIZE, &["enter", "b"]);
    terminal.is_raw();
    terminal.types(format!("{sortie} start -- sh -c 'sleep 1000; : {mark}'\r"));
    wait_for("the job's process", || (!of_job(&mark).is_empty()).then_some(()));
    terminal.types(format!("{sortie} get -o ndjson\r"));
    terminal.sees("\"state\":\"running\"");
    terminal.types("echo node=$SORTIE_NODE job=$SORTIE_JOB.\r");
    terminal.sees("node=b job=.");
    terminal.types("echo at=$(command -v sortie)\r");
    terminal.sees("at=/");
    let open = |home: &Home| sessions(home).len();
    assert_eq!((open(&a), open(&b)), (1, 3), "one for the shell, and one for its jobs");
    terminal.types("exit 5\r");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(5), "{shown}");
    wait_for("the job's end", || of_job(&mark).is_empty().then_some(()));
    wait_for("the sessions' end", || (open(&b) == 1).then_some(()));
}

/// The processes of the job itself, not of who started it.
fn of_job(mark: &str) -> Vec<u32> {
    processes_marked(&format!("sleep 1000; : {mark}"))
        .into_iter()
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"sh\0-c\0")
        })
        .collect()
}

#[test]
fn a_session_that_was_entered_stays_open() {
    let home = Home::running("a", &[]);
    let sortie = sortie_binary().display().to_string();
    assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
    assert_eq!(home.sortie(&["session", "env", "--session", "work", "PLACE=there"]).code, 0);
    let mut terminal = Terminal::run(&home, SIZE, &["enter", "work"]);
    terminal.is_raw();
    terminal.types("echo it=$PLACE\r");
    terminal.sees("it=there");
    terminal.types("echo at=$(command -v sortie)\r");
    terminal.sees("at=/");
    terminal.types(format!("{sortie} start --name kept -- echo hello; exit 3\r"));
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(3), "{shown}");
    let kept = home.json(&["get", "--session", "work"]);
    let names: Vec<_> =
        kept["jobs"].as_array().into_iter().flatten().map(|job| &job["name"]).collect();
    assert_eq!(names, ["kept"], "{kept}");
    let mut nowhere = Terminal::run(&home, SIZE, &["enter", "nowhere"]);
    let (code, shown) = nowhere.end();
    assert_eq!(code, Some(4), "{shown}");
    assert!(shown.contains("`nowhere` is neither a node nor a session"), "{shown}");
}

#[test]
fn a_session_that_is_given_free_under_a_terminal_is_said_to_end_what_runs_there() {
    let home = Home::running("a", &[]);
    assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
    let mut terminal = Terminal::run(&home, SIZE, &["enter", "work"]);
    terminal.is_raw();
    terminal.types("printf '%s%s\\n' rea dy\r");
    terminal.sees("ready\r\n");
    assert_eq!(home.sortie(&["session", "disconnect", "work"]).code, 0);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(103), "{shown}");
    assert!(shown.contains("job 1 ends with its terminal"), "{shown}");
    wait_for("its end", || {
        let job = home.json(&["get", "1", "--session", "work"]);
        (job["jobs"][0]["state"] == "failed").then_some(())
    });
}

#[test]
fn what_cannot_have_a_terminal_is_a_usage_error() {
    let [a, _b] = two();
    for (arguments, word) in [
        (&["invoke", "-t", "--", "cat"][..], "needs a terminal"),
        (&["enter", "b"], "needs a terminal"),
        (&["invoke", "-t", "--as-job", "--", "cat"], "--as-job"),
        (&["invoke", "-t", "--map", "list", "--", "cat"], "--map"),
        (&["invoke", "-t", "--stdin", "-", "--", "cat"], "--stdin"),
        (&["invoke", "-t", "--json", "--", "cat"], "--json"),
    ] {
        let ran = a.sortie(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
        assert!(ran.err.contains(word), "{ran:?}");
    }
    for (arguments, word) in [
        (&["invoke", "-t", "--on", "a,b", "--", "cat"][..], "this job would have 2"),
        (&["invoke", "-t", "--restart", "permanent", "--", "cat"], "starts again"),
    ] {
        let mut terminal = Terminal::run(&a, SIZE, arguments);
        let before = terminal.modes();
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(2), "{shown}");
        assert!(shown.contains(word), "{shown}");
        assert_eq!(terminal.modes(), before);
    }
    assert_eq!(a.json(&["get"])["jobs"].as_array().map(Vec::len), Some(0));
}

#[test]
fn an_attached_standard_input_is_no_terminal() {
    let home = Home::running("a", &[]);
    let mut command = home.command(["invoke", "-i", "--", "sh", "-c", "test -t 0; echo $?; cat"]);
    let file = home.path().join("input");
    File::create(&file).and_then(|mut file| file.write_all(b"typed\n")).expect("a file");
    command.stdin(File::open(&file).expect("a file"));
    let output = command.output().expect("a program to run");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"1\ntyped\n"[..]));
}
