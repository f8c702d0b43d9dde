//! Functions that ask, at the command line: at a terminal, without one, and by `send`.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use sortie_tests::jobs::state;
use sortie_tests::{Home, Ran, join_all, wait_for};

const PROGRAM: &str = env!("CARGO_BIN_EXE_asking-sortie");
const PROMPT: &str = "what is your name?";

fn running(name: &str) -> Home {
    let mut home = Home::of(Path::new(PROGRAM));
    home.run(name, &[]);
    home
}

/// Starts a function, and waits until its child asks; the child as JSON.
fn start(home: &Home, arguments: &[&str]) -> Value {
    let started = home.sortie(&[&["start"][..], arguments].concat());
    assert_eq!(started.code, 0, "{started:?}");
    asking(home)
}

fn asking(home: &Home) -> Value {
    wait_for("a question", || {
        let listed = home.json(&["get", "last", "--child-state", "blocked"]);
        let entries = listed.get("jobs").and_then(Value::as_array).cloned()?;
        entries.into_iter().find(|entry| !entry["question"].is_null())
    })
}

fn number(child: &Value) -> String {
    child["id"].to_string()
}

#[track_caller]
fn check_refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "no `{word}` in {ran:?}");
    }
}

/// A command at a terminal of its own.
struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Reads what is shown, until nobody holds the other end.
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Runs it with a terminal as its standard input and standard error; its output is a pipe.
    fn run(home: &Home, arguments: &[&str]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("a terminal");
        unlockpt(&ours).expect("a terminal");
        let name = ptsname(&ours, Vec::new()).expect("a terminal").into_string().expect("a path");
        let theirs = || {
            let end = File::options().read(true).write(true).open(&name);
            Stdio::from(end.expect("the other end"))
        };
        let mut command = home.command(arguments);
        command.stdin(theirs()).stderr(theirs()).stdout(Stdio::piped());
        let child = command.spawn().expect("a program to run");
        // Only the child holds the other end now: the terminal ends with it.
        drop(command);
        let keys = File::from(ours);
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut screen, into) = (keys.try_clone().expect("a descriptor"), Arc::clone(&shown));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                let more = buffer.get(..count).unwrap_or_default();
                into.lock().expect("no reader panics").extend_from_slice(more);
            }
        });
        Self { child, keys, shown, reader }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no reader panics")).into_owned()
    }

    fn wait_for(&self, text: &str) {
        wait_for(&format!("`{text}` in {}", self.shown()), || {
            self.shown().contains(text).then_some(())
        });
    }

    fn type_in(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).expect("a terminal");
    }

    /// Its exit status, what it wrote to its standard output, and what the terminal shows.
    fn end(mut self) -> (ExitStatus, String, String) {
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut out).expect("text");
        let status = self.child.wait().expect("an end");
        // What was written last may not have been read yet.
        wait_for("the terminal's end", || self.reader.is_finished().then_some(()));
        let shown = self.shown();
        (status, out, shown)
    }
}

#[test]
fn a_person_at_the_terminal_of_an_invoke_answers() {
    let home = running("a");
    let add = ["invoke", "--task", "add", "--input", "2"];
    let mut terminal = Terminal::run(&home, &add);
    terminal.wait_for("asks: number 1 of 2?");
    terminal.type_in("20\n");
    terminal.wait_for("asks: number 2 of 2?");
    terminal.type_in("300\n");
    let (status, out, shown) = terminal.end();
    assert_eq!((status.code(), out.as_str()), (Some(0), "320\n"), "{shown}");
}

#[test]
fn what_comes_while_a_person_is_asked_stands_on_lines_of_its_own() {
    let home = running("a");
    let lines = home.path().join("lines");
    fs::write(&lines, "\"hello\"\n\"hello\"\n\"hello\"\n").expect("a file");
    let map = ["invoke", "--task", "chat", "--map", &lines.display().to_string()];
    let mut terminal = Terminal::run(&home, &map);
    for answered in 0..3 {
        // In whichever order they ask; a prompt may be shown more than once.
        wait_for("the next child's question", || {
            let shown = terminal.shown();
            let asked = (2..5).filter(|child| shown.contains(&format!("{child} asks: ")));
            (asked.count() > answered).then_some(())
        });
        terminal.type_in("Ada\n");
    }
    let (status, _, shown) = terminal.end();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert_eq!(shown.matches("thank you").count(), 3, "{shown}");
    let mixed = shown.lines().find(|line| line.contains("asks:") && line.contains("thank you"));
    assert_eq!(mixed, None, "{shown}");
}

#[test]
fn who_types_no_answer_to_an_invoke_is_told_of_no_way_that_cannot_work() {
    let home = running("a");
    let greet = ["invoke", "--task", "greet", "--input", "\"hello\""];
    let mut terminal = Terminal::run(&home, &greet);
    terminal.wait_for(PROMPT);
    terminal.type_in("\u{4}");
    let (status, _, shown) = terminal.end();
    assert_eq!(status.code(), Some(105), "{shown}");
    assert!(shown.contains("`--as-job`") && !shown.contains("send CHILD"), "{shown}");
}

#[test]
fn a_line_that_can_be_no_answer_leaves_its_question_asked() {
    let home = running("a");
    let greet = ["invoke", "--task", "greet", "--input", "\"hello\""];
    let mut terminal = Terminal::run(&home, &greet);
    terminal.wait_for(PROMPT);
    terminal.keys.write_all(b"Ad\xff\n").expect("a terminal");
    terminal.wait_for("is no UTF-8 text");
    wait_for("the question again", || {
        (terminal.shown().matches(PROMPT).count() == 2).then_some(())
    });
    terminal.type_in("Ada\n");
    let (status, out, shown) = terminal.end();
    assert_eq!((status.code(), out.as_str()), (Some(0), "\"hello Ada\"\n"), "{shown}");
}

/// Has so many children greet in the foreground, and waits until all of them ask; their numbers.
fn greet_in_foreground(home: &Home, children: usize) -> (Terminal, Vec<String>) {
    let greetings = home.path().join("greetings");
    fs::write(&greetings, "\"hello\"\n".repeat(children)).expect("a file");
    let greetings = greetings.display().to_string();
    // What others see, too.
    let place = ["invoke", "--session", "default", "-j", "100"];
    let task = ["--task", "greet", "--map", &greetings];
    let terminal = Terminal::run(home, &[&place[..], &task].concat());
    terminal.wait_for(PROMPT);
    let asking = wait_for("all questions", || {
        let listed = home.json(&["get", "last", "--child-state", "blocked"]);
        let asking = listed.get("jobs")?.as_array()?.iter().filter(|it| !it["question"].is_null());
        Some(asking.map(number).collect::<Vec<_>>()).filter(|asking| asking.len() == children)
    });
    (terminal, asking)
}

#[test]
fn nobody_is_asked_what_somebody_else_has_answered() {
    let home = running("a");
    let (mut terminal, asking) = greet_in_foreground(&home, 3);
    let is_shown = |child: &&String| terminal.shown().contains(&format!("{child} asks"));
    let (shown, hidden): (Vec<_>, Vec<_>) = asking.iter().partition(is_shown);
    assert_eq!((shown.len(), hidden.len()), (1, 2), "{}", terminal.shown());
    assert_eq!(home.sortie(&["send", hidden[0], "Ada"]).code, 0);
    for child in [shown[0], hidden[1]] {
        terminal.wait_for(&format!("{child} asks"));
        terminal.type_in("Bob\n");
    }
    let (status, out, shown) = terminal.end();
    assert_eq!((status.code(), out.matches("hello").count()), (Some(0), 3), "{shown}");
    assert!(!shown.contains(&format!("{} asks", hidden[0])), "{shown}");
}

#[test]
fn an_interrupt_ends_an_invoke_however_many_ask() {
    let home = running("a");
    let (mut terminal, _) = greet_in_foreground(&home, 70);
    let pid = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    wait_for("the end of the invoke", || terminal.child.try_wait().expect("a child").map(|_| ()));
    assert_eq!(terminal.end().0.code(), Some(130));
}

#[test]
fn a_receive_that_waits_at_a_terminal_answers_what_a_job_elsewhere_asks() {
    let (a, b) = (running("a"), running("b"));
    join_all(&[&a, &b]);
    let child = start(&a, &["--task", "greet", "--input", "\"hello\"", "--on", "b"]);
    assert_eq!((&child["question"]["prompt"], &child["location"]), (&PROMPT.into(), &"b".into()));
    for how in [&["receive", "last", "--follow"][..], &["receive", "last", "--wait"]] {
        let mut terminal = Terminal::run(&a, how);
        terminal.wait_for(&format!("{} asks: {PROMPT}", number(&child)));
        let shown = terminal.shown();
        let (before, after) = (shown.find("wait a moment"), shown.find(PROMPT));
        assert!(before < after && before.is_some(), "{shown}");
        if how.contains(&"--wait") {
            terminal.type_in("Ada\n");
            let (status, out, shown) = terminal.end();
            assert_eq!((status.code(), out.as_str()), (Some(0), "\"hello Ada\"\n"), "{shown}");
        } else {
            // The end of what is typed answers nothing, and the question stays.
            terminal.type_in("\u{4}");
            let (status, _, shown) = terminal.end();
            assert_eq!(status.code(), Some(105), "{shown}");
            assert!(shown.contains("nobody answers"), "{shown}");
        }
    }
}

#[test]
fn without_a_terminal_a_question_ends_whoever_waits_with_what_it_says() {
    let home = running("a");
    let child = start(&home, &["--task", "greet", "--input", "\"hello\""]);
    let id = number(&child);
    let says = [PROMPT, &format!("sortie send {id} TEXT")[..], &format!("{id} asks")[..]];
    check_refused(&home.sortie(&["wait", "last"]), 105, &says);
    check_refused(&home.sortie(&["wait", "last", "--any"]), 105, &says);
    let received = home.sortie(&["receive", "last", "--wait"]);
    check_refused(&received, 105, &says);
    let explained = home.sortie(&["explain", "last"]);
    for word in says.iter().chain(&["Blocked"]) {
        assert!(explained.out.contains(word), "no `{word}` in {explained:?}");
    }
    let listed = home.sortie(&["get"]);
    assert!(listed.out.contains("Blocked"), "{listed:?}");
    // A receive that does not wait takes what is there.
    assert_eq!(home.sortie(&["receive", "last"]).code, 0);
}

#[test]
fn an_invoke_without_a_terminal_ends_its_job_and_says_why() {
    let home = running("a");
    let ran = home.sortie(&["invoke", "--task", "greet", "--input", "\"hello\""]);
    check_refused(&ran, 105, &[PROMPT, "--as-job"]);
    let piped =
        home.by_shell("echo '\"hello\"' | \"$@\"", &["invoke", "--task", "greet", "--input", "-"]);
    check_refused(&piped, 105, &[PROMPT]);
    let json = home.sortie(&["invoke", "--task", "greet", "--input", "\"hello\"", "-o", "ndjson"]);
    assert_eq!(json.code, 105, "{json:?}");
    let last = json.err.lines().last().unwrap_or_default();
    let error: Value = serde_json::from_str(last).expect("an error in JSON");
    assert_eq!(error["error"]["code"], "deadlock");
}

#[test]
fn send_answers_a_child_or_the_only_child_that_asks() {
    let home = running("a");
    let child = start(&home, &["--task", "greet", "--input", "\"hello\""]);
    let sent = home.sortie(&["send", &number(&child), "Ada"]);
    assert_eq!((sent.code, sent.out.as_str(), sent.err.as_str()), (0, "", ""), "{sent:?}");
    let received = home.sortie(&["receive", "last", "--wait"]);
    assert_eq!((received.code, received.out.as_str()), (0, "\"hello Ada\"\n"), "{received:?}");
    start(&home, &["--task", "greet", "--input", "\"hi\"", "--background"]);
    let piped = home.by_shell("echo Bob | \"$@\"", &["send", "last", "--stdin"]);
    assert_eq!(piped.code, 0, "{piped:?}");
    let received = home.sortie(&["receive", "last", "--wait"]);
    assert_eq!((received.code, received.out.as_str()), (0, "\"hi Bob\"\n"), "{received:?}");
    start(&home, &["--task", "add", "--input", "1"]);
    let typed = home.sortie(&["send", "last", "--input-format", "json", "7"]);
    assert_eq!(typed.code, 0, "{typed:?}");
    let received = home.sortie(&["receive", "last", "--wait"]);
    assert_eq!((received.code, received.out.as_str()), (0, "7\n"), "{received:?}");
}

#[test]
fn send_to_who_does_not_ask_is_a_mistake_that_is_said() {
    let home = running("a");
    let refused = |arguments: &[&str]| home.sortie(&[&["send"][..], arguments].concat());
    check_refused(&refused(&["7", "hello"]), 4, &["7"]);
    check_refused(&refused(&["7"]), 2, &["TEXT"]);
    assert_eq!(home.sortie(&["start", "--task", "stay"]).code, 0);
    wait_for("a running child", || {
        let listed = home.json(&["get", "last", "--children"]);
        listed.get("jobs")?.as_array()?.iter().all(|it| it["state"] == "running").then_some(())
    });
    check_refused(&refused(&["2", "hello"]), 2, &["2 asks nothing", "Running"]);
    check_refused(&refused(&["1", "hello"]), 2, &["2 asks nothing"]);
    assert_eq!(home.sortie(&["stop", "last"]).code, 0);
    check_refused(&refused(&["2", "hello"]), 2, &["2 asks nothing", "Stopped"]);
    check_refused(&refused(&["2", "--input-format", "json", "hello"]), 2, &["is no JSON"]);
}

#[test]
fn what_is_asked_on_another_node_is_known_to_the_next_life_of_its_owner() {
    let mut a = Home::running("a", &[]);
    let b = Home::running("b", &[]);
    join_all(&[&a, &b]);
    let line = "printf 'name? '; read name; echo \"$name\"";
    let words = ["--on", "b", "--open-stdin", "--prompt", "? ", "--", "sh", "-c", line];
    start(&a, &words);
    for _ in 0..2 {
        wait_for("the question", || (state(&a, "2") == "blocked").then_some(()));
        a.live_again("a");
    }
    wait_for("the question", || (state(&a, "2") == "blocked").then_some(()));
    assert_eq!(a.sortie(&["wait", "1"]).code, 105);
    let sent = a.sortie(&["send", "2", "Anna"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let got = a.sortie(&["receive", "--wait", "1"]);
    assert_eq!((got.code, &got.out[..]), (0, "name? Anna\n"), "{got:?}");
}
