//! Sessions that outlive their clients: held, left, taken over, closed.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;
use sortie::answer::Busy;
use sortie::{
    Body, Client, Command, ErrorCode, HomePaths, ReceiveItem, ReceiveMode, ReceiveSpec, Receiver,
    RequestError, Selection, Selector, SessionOptions, SessionState, UserIdentity,
};
use sortie_tests::{Home, PATIENCE, join_all, processes_marked, wait_for};

/// The home's user, at that home's node.
async fn at(user: &Home, node: &Home) -> Client {
    let identity = UserIdentity::of_home(&HomePaths::within(user.path())).expect("an identity");
    let address = HomePaths::within(node.path()).announced().expect("a file");
    let address = address.expect("a running node");
    Client::connect(&address, &identity, None, PATIENCE).await.expect("a client")
}

async fn receive_all(session: &sortie::Session) -> Receiver {
    let mode = ReceiveMode::TakeUntil { finished: true };
    let spec = ReceiveSpec::new(Selection::of([Selector::Last]), mode);
    session.receive(spec).await.expect("a receive")
}

/// What the receiver gives up to its end, acknowledged.
async fn text_of(receiver: &mut Receiver) -> String {
    let mut text = Vec::new();
    while let Some(item) = receiver.next().await.expect("an item") {
        if let ReceiveItem::Records { number, records, .. } = item {
            for record in records {
                if let Body::Bytes(bytes) = record.body {
                    text.extend_from_slice(&bytes);
                }
            }
            receiver.acknowledge(number);
        }
    }
    String::from_utf8(text).expect("a text")
}

fn code_of(error: &RequestError) -> Option<ErrorCode> {
    match error {
        RequestError::Refused(error) => Some(error.code),
        _ => None,
    }
}

fn session_of<'v>(document: &'v Value, name: &str) -> &'v Value {
    let all = document["sessions"].as_array().expect("a list");
    all.iter().find(|session| session["name"] == name).expect("the session")
}

#[test]
fn what_was_started_from_one_machine_is_received_from_another_once() {
    let (a, b, c) = (Home::running("a", &[]), Home::running("b", &[]), Home::running("c", &[]));
    join_all(&[&a, &b, &c]);
    let opened = a.json(&["session", "new", "--on", "b", "--name", "work"]);
    assert_eq!(session_of(&opened, "work")["node"], "b");
    assert_eq!(session_of(&opened, "work")["state"], "opened");
    let gate = b.path().join("gate");
    let script =
        format!("echo one; while [ ! -e {} ]; do sleep 0.05; done; echo two", gate.display());
    // The name is enough: this home knows where the session is.
    assert_eq!(a.sortie(&["start", "--session", "work", "--", "sh", "-c", &script]).code, 0);
    let seen = session_of(&c.json(&["session", "get", "--node", "b"]), "work").clone();
    assert_eq!((&seen["state"], &seen["availability"]), (&"disconnected".into(), &"busy".into()));
    for refused in [
        c.sortie(&["get", "--session", "work", "--node", "b"]),
        c.sortie(&["session", "connect", "work", "--node", "b"]),
        c.sortie(&["session", "disconnect", "work", "--node", "b"]),
        c.sortie(&["session", "close", "work", "--node", "b"]),
    ] {
        assert_eq!(refused.code, 103, "{refused:?}");
        assert!(refused.err.contains("another client holds the session `work`"), "{refused:?}");
    }
    assert_eq!(c.sortie(&["session", "connect", "work", "--node", "b", "--take"]).code, 0);
    std::fs::write(&gate, "").expect("a file");
    let taken = c.sortie(&["receive", "--session", "work", "--wait", "last"]);
    assert_eq!((taken.code, taken.out.as_str()), (0, "one\ntwo\n"), "{taken:?}");
    assert_eq!(c.sortie(&["receive", "--session", "work", "last"]).out, "");
    let fenced = a.sortie(&["receive", "--session", "work", "last"]);
    assert_eq!(fenced.code, 103, "{fenced:?}");
    // Given free, it is whoever's comes first.
    assert_eq!(c.sortie(&["session", "disconnect", "work"]).code, 0);
    assert_eq!(c.sortie(&["session", "disconnect", "work"]).code, 0, "twice is no error");
    assert_eq!(a.sortie(&["get", "--session", "work"]).code, 0);
    assert_eq!(c.sortie(&["get", "--session", "work"]).code, 103);
}

#[tokio::test]
async fn a_takeover_ends_what_the_old_holder_has_open_and_what_it_did_not_confirm_comes_again() {
    let (a, b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
    let first = at(&a, &b).await;
    let held = first.open_session(SessionOptions::default()).await.expect("a session");
    let view = held.view_at_start().expect("it was opened").clone();
    assert_eq!((view.state, view.epoch), (SessionState::Opened, 1));
    let gate = b.path().join("gate");
    let script =
        format!("echo one; while [ ! -e {} ]; do sleep 0.05; done; echo two", gate.display());
    let job = held.job(Command::new("sh").args(["-c", &script])).start().await.expect("a start");
    let mut reader = receive_all(&held).await;
    let Some(ReceiveItem::Records { records, .. }) = reader.next().await.expect("an item") else {
        panic!("there is a line")
    };
    assert_eq!(records.first().map(|record| record.seq.0), Some(0));
    // What is in hand is not confirmed when the other one comes.
    let second = at(&b, &b).await;
    let name = view.instance.to_string();
    let busy = second.connect_session(&name, Busy::Refuse).await.expect_err("it is held");
    assert_eq!(code_of(&busy), Some(ErrorCode::SessionBusy));
    let taken = second.connect_session(&name, Busy::Take).await.expect("it is taken");
    assert_eq!(taken.view_at_start().map(|view| view.epoch), Some(2));
    let parted = reader.next().await.expect_err("it was taken");
    assert_eq!(code_of(&parted), Some(ErrorCode::SessionTaken), "{parted}");
    let refused = job.stop().await.expect_err("it was taken");
    assert_eq!(code_of(&refused), Some(ErrorCode::SessionTaken), "{refused}");
    std::fs::write(&gate, "").expect("a file");
    assert_eq!(text_of(&mut receive_all(&taken).await).await, "one\ntwo\n");
    // Back again: the handle from before stays fenced, a new one works.
    let back = first.connect_session(&name, Busy::Take).await.expect("it is taken back");
    let old = held.scope().await.expect_err("a handle of the first epoch");
    assert_eq!(code_of(&old), Some(ErrorCode::SessionTaken));
    back.scope().await.expect("a handle of the third");
    let other = taken.scope().await.expect_err("a handle of the second");
    assert_eq!(code_of(&other), Some(ErrorCode::SessionTaken));
}

#[tokio::test]
async fn what_the_old_holder_confirms_too_late_comes_again_and_it_is_told() {
    let (a, b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
    let (first, second) = (at(&a, &b).await, at(&b, &b).await);
    let held = first.open_session(SessionOptions::default()).await.expect("a session");
    let name = held.view_at_start().expect("it was opened").instance.to_string();
    held.job(Command::new("echo").args(["one"])).start().await.expect("a start");
    let (mut reader, mut last) = (receive_all(&held).await, 0);
    loop {
        match reader.next().await.expect("an item") {
            Some(ReceiveItem::Records { number, .. }) => last = number,
            Some(ReceiveItem::End(_)) => break,
            other => panic!("records, then the end, not {other:?}"),
        }
    }
    let taken = second.connect_session(&name, Busy::Take).await.expect("it is taken");
    let now = ReceiveSpec::new(Selection::of([Selector::Last]), ReceiveMode::Take);
    let mut found = taken.receive(now).await.expect("a receive");
    assert_eq!(text_of(&mut found).await, "one\n", "it is there at once");
    reader.acknowledge(last);
    let late = reader.finish().await.expect_err("it was taken");
    assert_eq!(code_of(&late), Some(ErrorCode::SessionTaken), "{late}");
}

#[test]
fn a_command_that_stalls_and_one_that_is_fed_end_when_their_session_is_taken() {
    const LINES: u64 = 1_000_000;
    let (a, b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
    assert_eq!(a.sortie(&["session", "new", "--name", "work"]).code, 0);
    let lines = LINES.to_string();
    assert_eq!(a.sortie(&["start", "--session", "work", "--", "seq", &lines]).code, 0);
    let piped = |arguments: &[&str]| {
        let mut command = a.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("sortie runs")
    };
    let mut stalled = piped(&["receive", "--session", "work", "--wait", "1"]);
    // Nobody reads more of it.
    let mut out = stalled.stdout.take().expect("a pipe");
    let mut read = vec![0; 1];
    out.read_exact(&mut read).expect("the first digit");
    let mut fed = piped(&["start", "--session", "work", "--stdin", "-", "--", "cat"]);
    let input = fed.stdin.take();
    wait_for("the second job", || {
        let jobs = a.json(&["get", "--session", "work"]);
        (jobs["jobs"].as_array()?.len() == 2).then_some(())
    });
    assert_eq!(b.sortie(&["session", "connect", "work", "--node", "a", "--take"]).code, 0);
    let got = b.sortie(&["receive", "--session", "work", "--wait", "1"]);
    assert_eq!(got.code, 0, "{}", got.err);
    out.read_to_end(&mut read).expect("what was under way");
    let ended = stalled.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(103), "{ended:?}");
    // The job's input ended as lost, while the command still waits for more of its own.
    b.sortie(&["wait", "--session", "work", "3"]);
    let second = b.json(&["get", "--session", "work", "3"]);
    assert_eq!(second["jobs"][0]["state"], "failed", "{second}");
    drop(input);
    let ended = fed.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(103), "{ended:?}");
    // What the first one wrote last may be among what the other one got, and nothing is missing.
    let read = String::from_utf8(read).expect("a text");
    let written = read.lines().count() as u64;
    let numbers: Vec<u64> = got.lines().iter().filter_map(|line| line.parse().ok()).collect();
    let begin = LINES - numbers.len() as u64 + 1;
    assert!(begin <= written + 1, "{begin} {written}");
    assert!(numbers.into_iter().skip(1).eq(begin + 1..=LINES));
}

#[test]
fn what_is_set_in_a_session_lasts_and_what_a_command_says_itself_wins() {
    let home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
    let show = ["invoke", "--session", "work", "--", "sh", "-c", "pwd; echo \"$A $B\""];
    let set = home.json(&["session", "env", "--session", "work", "A=1", "B=2", "-C", "/usr"]);
    assert_eq!(set["directory"], "/usr");
    assert_eq!(home.sortie(&show).out, "/usr\n1 2\n");
    let own = ["invoke", "--session", "work", "-C", "/", "-e", "B=3", "--", "sh", "-c"];
    let own: Vec<&str> = own.into_iter().chain(["pwd; echo \"$A $B\""]).collect();
    assert_eq!(home.sortie(&own).out, "/\n1 3\n");
    assert_eq!(home.sortie(&["session", "env", "--session", "work", "-u", "A"]).code, 0);
    assert_eq!(home.sortie(&show).out, "/usr\n 2\n");
    let wrong = home.sortie(&["session", "env", "--session", "work", "-C", "/no/such"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert_eq!(home.sortie(&show).out, "/usr\n 2\n", "nothing changed");
    // Other sessions do not see it.
    let plain = home.sortie(&["invoke", "--", "sh", "-c", "echo \"$A $B\""]);
    assert_eq!(plain.out, " \n");
}

#[test]
fn a_closed_session_leaves_no_process_and_no_result() {
    let (a, b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    let mark = format!("closed-session-{}", std::process::id());
    let script = format!("sleep 1000; : {mark}");
    let start = ["start", "--session", "work", "--on", "a,b", "--", "sh", "-c", &script];
    assert_eq!(a.sortie(&start).code, 0);
    wait_for("both children", || (processes_marked(&mark).len() >= 2).then_some(()));
    let closed = a.sortie(&["session", "close", "work"]);
    assert_eq!(closed.code, 0, "{closed:?}");
    wait_for("their ends", || processes_marked(&mark).is_empty().then_some(()));
    let gone = a.sortie(&["get", "--session", "work", "--node", "b"]);
    assert_eq!(gone.code, 4, "{gone:?}");
    let names = a.json(&["session", "get"]);
    assert_eq!(names["sessions"].as_array().map(Vec::len), Some(1), "{names}");
}

#[test]
fn a_detached_session_keeps_its_output_for_whoever_comes() {
    let (a, b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
    let started = a.sortie(&["start", "--detached-session", "--node", "b", "--", "echo", "hello"]);
    assert_eq!(started.code, 0, "{started:?}");
    assert!(started.err.contains("sortie session connect"), "{started:?}");
    let all = b.json(&["session", "get"]);
    let all = all["sessions"].as_array().expect("a list");
    let waiting = all.iter().find(|one| one["state"] == "disconnected").expect("the session");
    assert_eq!(waiting["availability"], "available");
    let name = waiting["name"].as_str().expect("a name");
    let got = b.sortie(&["receive", "--session", name, "--wait", "last"]);
    assert_eq!((got.code, got.out.as_str()), (0, "hello\n"), "{got:?}");
}

#[test]
fn a_session_whose_node_is_gone_is_shown_as_broken() {
    let (a, mut b) = (Home::running("a", &[]), Home::running("b", &[]));
    join_all(&[&a, &b]);
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    b.kill_daemon();
    let all = a.json(&["session", "get"]);
    let work = session_of(&all, "work");
    assert_eq!((&work["state"], &work["availability"]), (&"broken".into(), &"none".into()));
    assert_eq!(work["id"], Value::Null);
}

#[test]
fn what_is_wrong_about_a_session_is_said_and_changes_nothing() {
    let home = Home::running("solo", &[]);
    for (arguments, code, words) in [
        (&["session", "new", "--name", "default"][..], 2, "cannot be called `default`"),
        (&["session", "new", "--name", "7"], 2, "reads as an id"),
        (&["session", "new", "--idle-timeout", "5s"], 2, "60 s"),
        (&["session", "new", "--on", "nobody"], 4, "nobody"),
        (&["session", "connect", "default"], 2, "needs no connecting"),
        (&["session", "disconnect", "default"], 2, "needs no connecting"),
        (&["session", "close", "default"], 2, "not closed"),
        (&["session", "connect", "nobody"], 4, "no session `nobody`"),
        (&["session", "env", "=x"], 2, "no name"),
    ] {
        let ran = home.sortie(arguments);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
    let all = home.json(&["session", "get"]);
    assert_eq!(all["sessions"].as_array().map(Vec::len), Some(1), "{all}");
}
