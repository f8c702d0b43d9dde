//! Sessions that outlive their clients: held, left, taken over, closed.
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::Value;
use sortie::answer::Busy;
use sortie::{
    Body, Client, Command, ErrorCode, HomePaths, ReceiveItem, ReceiveMode, ReceiveSpec, Receiver,
    RequestError, Selection, Selector, SessionOptions, SessionState, UserIdentity,
};
use sortie_tests::{Home, PATIENCE, join_all, processes_marked, two, wait_for};

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
    let tree = a.sortie(&["tree", "--session", "work"]);
    assert!(tree.code == 0 && tree.out.starts_with("session work on b"), "{tree:?}");
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
    // Given free, it is anybody's until one connects.
    assert_eq!(c.sortie(&["session", "disconnect", "work"]).code, 0);
    assert_eq!(c.sortie(&["session", "disconnect", "work"]).code, 0, "twice is no error");
    assert_eq!(a.sortie(&["get", "--session", "work"]).code, 0);
    assert_eq!(c.sortie(&["get", "--session", "work"]).code, 0);
    assert_eq!(a.sortie(&["session", "connect", "work"]).code, 0);
    assert_eq!(c.sortie(&["get", "--session", "work"]).code, 103);
}

#[tokio::test]
async fn a_takeover_ends_what_the_old_holder_has_open_and_what_it_did_not_confirm_comes_again() {
    let [a, b] = two();
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
    let [a, b] = two();
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
    let [a, b] = two();
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
    let long = "x".repeat(120_000);
    let many: Vec<String> = (0..10).map(|number| format!("B{number}={long}")).collect();
    let many: Vec<&str> = ["session", "env", "--session", "work", "B=3"]
        .into_iter()
        .chain(many.iter().map(String::as_str))
        .collect();
    let too_much = home.sortie(&many);
    assert_eq!(too_much.code, 2, "{too_much:?}");
    assert!(too_much.err.contains("1048576 bytes"), "{too_much:?}");
    assert_eq!(home.sortie(&show).out, "/usr\n 2\n", "nothing was set");
    // Other sessions do not see it.
    let plain = home.sortie(&["invoke", "--", "sh", "-c", "echo \"$A $B\""]);
    assert_eq!(plain.out, " \n");
}

#[test]
fn a_closed_session_leaves_no_process_and_no_result() {
    let [a, _b] = two();
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
    let [a, b] = two();
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
    let [a, mut b] = two();
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

/// Runs a child that prints 10,000 numbered lines of 1 KiB, which nobody receives, with a quota of
/// 1 MiB.
fn printed(home: &Home, policy: &str) {
    let new = ["session", "new", "--name", policy, "--output-policy", policy, "--quota", "1MiB"];
    let opened = home.json(&new);
    assert_eq!(session_of(&opened, policy)["output_policy"], policy);
    let script = "seq -f %01023.0f 0 9999";
    assert_eq!(home.sortie(&["start", "--session", policy, "--", "sh", "-c", script]).code, 0);
}

#[test]
fn at_its_quota_a_child_pauses_until_somebody_receives() {
    let home = Home::running("solo", &[]);
    printed(&home, "block");
    wait_for("the pause", || {
        let said = home.sortie(&["explain", "--session", "block", "last"]).out;
        said.contains("its mailbox is at its quota").then_some(())
    });
    let got = home.sortie(&["receive", "--session", "block", "--wait", "last"]);
    let lines = got.lines();
    assert_eq!((got.code, lines.len()), (0, 10_000));
    let in_order = lines.iter().enumerate().all(|(at, line)| line.parse() == Ok(at));
    assert!(in_order, "every line is there, in order");
}

#[test]
fn a_child_that_pauses_at_its_quota_is_stopped_like_any_other() {
    let [a, _b] = two();
    let new = ["session", "new", "--name", "full", "--output-policy", "block", "--quota", "1MiB"];
    assert_eq!(a.sortie(&new).code, 0);
    // One ends when it is told to, the other one only when it is killed.
    let script = "test $SORTIE_NODE = a && trap '' TERM; while :; do printf '%0999d\\n' 7; done";
    let start = ["start", "--session", "full", "--on", "a,b", "--", "bash", "-c", script];
    assert_eq!(a.sortie(&start).code, 0);
    wait_for("the pause of both", || {
        let jobs = a.json(&["get", "--session", "full", "--children", "1"]);
        let children = jobs["jobs"].as_array()?.iter().skip(1);
        let paused = children.filter(|child| child["paused"].is_string()).count();
        (paused == 2).then_some(())
    });
    let stop = ["stop", "--session", "full", "--grace", "500ms", "--no-wait", "1"];
    let stopped = a.sortie(&stop);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    wait_for("the ends of both, which nobody reads", || {
        let jobs = a.json(&["get", "--session", "full", "--children", "1"]);
        let mut children = jobs["jobs"].as_array()?.iter().skip(1);
        let over = |child: &Value| child["state"] == "stopped" && child["paused"].is_null();
        children.all(over).then_some(())
    });
}

#[test]
fn at_its_quota_the_oldest_output_goes_and_is_counted() {
    let home = Home::running("solo", &[]);
    printed(&home, "drop-oldest");
    let session = ["--session", "drop-oldest"];
    assert_eq!(home.sortie(&["wait", session[0], session[1], "last"]).code, 0);
    let said = home.sortie(&["explain", session[0], session[1], "last"]).out;
    assert!(said.contains("were dropped"), "{said}");
    let got = home.sortie(&["receive", session[0], session[1], "last"]);
    let numbers: Vec<usize> = got.lines().iter().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.len() < 4_000, "{} lines are more than the quota", numbers.len());
    assert_eq!(numbers.last(), Some(&9_999));
    // The oldest record may begin within a line.
    let whole = numbers.get(1..).unwrap_or_default();
    assert!(whole.windows(2).all(|pair| pair[1] == pair[0] + 1), "{whole:?}");
}

#[test]
fn at_its_quota_a_child_fails_where_the_session_says_so() {
    let [a, _b] = two();
    let new = ["session", "new", "--name", "f", "--output-policy", "fail", "--quota", "1MiB"];
    assert_eq!(a.sortie(&new).code, 0);
    // Here and on another node, where the quota is this node's all the same.
    let start = ["start", "--session", "f", "--on", "a,b", "--", "sh", "-c", "exec yes 0123456789"];
    assert_eq!(a.sortie(&start).code, 0);
    let ended = a.sortie(&["wait", "--session", "f", "last"]);
    assert_eq!(ended.code, 100, "{ended:?}");
    let jobs = a.json(&["get", "--session", "f", "--children", "last"]);
    let all = jobs["jobs"].as_array().expect("a list");
    assert_eq!(all.len(), 3);
    for child in &all[1..] {
        assert_eq!(child["state"], "failed", "{child}");
        assert_eq!(child["reason"]["code"], "limit", "{child}");
    }
    let got = a.sortie(&["receive", "--session", "f", "--no-prefix", "last"]);
    assert!(got.err.contains("of output were dropped"), "{}", got.err);
    assert!(got.out.contains("0123456789") && got.out.len() <= 2 * (1 << 20), "what fits is kept");
}

/// The names of the sessions elsewhere that a home knows, in order.
fn known(home: &Home) -> Vec<String> {
    let Ok(text) = std::fs::read(home.path().join("sessions.json")) else { return Vec::new() };
    let all: Value = serde_json::from_slice(&text).expect("JSON");
    let names = all.as_array().expect("a list").iter().map(|one| one["name"].as_str());
    let mut names: Vec<_> = names.map(|name| name.expect("a name").to_owned()).collect();
    names.sort_unstable();
    names
}

/// Somebody else takes a session over, at its own node, and closes it.
fn closed_there(node: &Home, name: &str) {
    assert_eq!(node.sortie(&["session", "connect", name, "--take"]).code, 0);
    assert_eq!(node.sortie(&["session", "close", name]).code, 0);
}

#[test]
fn a_name_that_two_nodes_have_is_nobodys_until_one_of_them_is_gone() {
    let [a, b] = two();
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    assert_eq!(a.sortie(&["session", "new", "--name", "work"]).code, 0);
    for refused in [
        a.sortie(&["start", "--session", "work", "--", "true"]),
        a.sortie(&["session", "close", "work"]),
    ] {
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.err.contains("`work`: on a, b"), "{refused:?}");
        assert!(refused.err.contains("`--node b`"), "{refused:?}");
    }
    assert_eq!(a.sortie(&["get", "--session", "work", "--node", "b"]).code, 0);
    closed_there(&b, "work");
    let ours = a.sortie(&["get", "--session", "work"]);
    assert_eq!(ours.code, 0, "the one on b is over: {ours:?}");
    assert!(known(&a).is_empty());
    // The same between two that are elsewhere.
    assert_eq!(a.sortie(&["session", "close", "work"]).code, 0);
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    closed_there(&b, "work");
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "work"]).code, 0);
    assert_eq!(known(&a), ["work", "work"]);
    let new = a.sortie(&["get", "--session", "work"]);
    assert_eq!(new.code, 0, "{new:?}");
    assert_eq!(known(&a), ["work"]);
}

#[test]
fn what_is_over_is_forgotten_and_nothing_else() {
    let (a, b, c) = (Home::running("a", &[]), Home::running("b", &[]), Home::running("c", &[]));
    join_all(&[&a, &b, &c]);
    assert_eq!(a.sortie(&["session", "new", "--on", "b,c", "--name", "work"]).code, 0);
    assert_eq!(a.sortie(&["session", "close", "work", "--node", "b"]).code, 0);
    assert_eq!(known(&a), ["work"], "the one on c");
    let opened = a.json(&["session", "new", "--on", "b", "--name", "other"]);
    let number = session_of(&opened, "other")["id"].to_string();
    assert_eq!(a.sortie(&["session", "close", &number, "--node", "b"]).code, 0);
    assert_eq!(known(&a), ["work"]);
    // Another client closes it.
    assert_eq!(a.sortie(&["session", "disconnect", "work"]).code, 0);
    assert_eq!(c.sortie(&["session", "close", "work"]).code, 0);
    let gone = a.sortie(&["session", "close", "work"]);
    assert_eq!(gone.code, 4, "{gone:?}");
    assert!(gone.err.contains("no session `work` on c"), "{gone:?}");
    assert!(known(&a).is_empty());
    // It was closed without us, and a list shows so.
    assert_eq!(a.sortie(&["session", "new", "--on", "b", "--name", "lost"]).code, 0);
    closed_there(&b, "lost");
    let all = a.json(&["session", "get"]);
    assert_eq!(all["sessions"].as_array().map(Vec::len), Some(1), "{all}");
    assert!(known(&a).is_empty());
}

#[test]
fn a_home_that_cannot_remember_a_session_has_it_all_the_same() {
    let [a, _b] = two();
    std::fs::write(a.path().join("sessions.json"), "no JSON").expect("a file");
    let opened = a.sortie(&["session", "new", "--on", "b", "--name", "work", "-q"]);
    assert_eq!(opened.code, 0, "{opened:?}");
    assert!(opened.err.contains("`work` on b is not remembered"), "{opened:?}");
    assert_eq!(a.sortie(&["get", "--session", "work", "--node", "b"]).code, 0);
    let started = a.sortie(&["start", "--detached-session", "--node", "b", "--", "true"]);
    assert_eq!(started.code, 0, "{started:?}");
    for listed in [a.sortie(&["session", "get"]), a.sortie(&["get", "--session", "default"])] {
        assert_eq!(listed.code, 0, "{listed:?}");
        assert!(listed.err.contains("sessions.json"), "{listed:?}");
    }
    let left = std::fs::read(a.path().join("sessions.json")).expect("it is there");
    assert_eq!(left, b"no JSON");
    let closed = a.sortie(&["session", "close", "work", "--node", "b"]);
    assert_eq!(closed.code, 0, "{closed:?}");
}

#[test]
fn our_own_node_under_its_name_is_not_elsewhere() {
    let home = Home::running("solo", &[]);
    assert_eq!(home.sortie(&["session", "new", "--name", "work"]).code, 0);
    let address = HomePaths::within(home.path()).announced().expect("a file").expect("a node");
    for node in ["solo", address.as_str()] {
        assert_eq!(home.sortie(&["session", "connect", "work", "--node", node]).code, 0);
        let start = ["start", "--detached-session", "--node", node, "--", "true"];
        assert_eq!(home.sortie(&start).code, 0);
        assert!(known(&home).is_empty());
    }
}

#[test]
fn a_session_that_is_known_by_an_address_is_shown_as_broken_too() {
    let [a, mut b] = two();
    assert_eq!(b.sortie(&["session", "new", "--name", "work"]).code, 0);
    assert_eq!(b.sortie(&["session", "disconnect", "work"]).code, 0);
    let address = HomePaths::within(b.path()).announced().expect("a file").expect("a node");
    assert_eq!(a.sortie(&["session", "connect", "work", "--node", &address]).code, 0);
    b.kill_daemon();
    let all = a.json(&["session", "get"]);
    let work = session_of(&all, "work");
    assert_eq!((&work["state"], &work["node"]), (&"broken".into(), &"b".into()));
}

#[test]
fn a_hint_works_on_a_machine_that_does_not_know_the_session() {
    let [a, b] = two();
    assert_eq!(b.sortie(&["session", "new", "--name", "work"]).code, 0);
    for refused in [
        a.sortie(&["get", "--session", "work", "--node", "b"]),
        a.sortie(&["session", "close", "work", "--node", "b"]),
    ] {
        let hint = "`sortie session connect work --node b --take`";
        assert!(refused.err.contains(hint), "{refused:?}");
    }
    assert_eq!(a.sortie(&["session", "connect", "work", "--node", "b", "--take"]).code, 0);
    let refused = b.sortie(&["get", "--session", "work"]);
    assert!(refused.err.contains("`sortie session connect work --take`"), "{refused:?}");
}

#[test]
fn a_session_of_its_own_is_asked_for_also_inside_another() {
    let home = Home::running("solo", &[]);
    let start = ["start", "--detached-session", "--", "true"];
    let inside = home.command(start).env("SORTIE_SESSION", "1").output().expect("a command");
    let said = String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success(), "{said}");
    assert!(said.contains("sortie session connect"), "{said}");
    let both = ["start", "--detached-session", "--session", "1", "--", "true"];
    let both = home.sortie(&both);
    assert_eq!(both.code, 2, "{both:?}");
    assert!(both.err.contains("exclude each other"), "{both:?}");
}

#[test]
fn where_a_job_will_be_is_said_before_it_is_there() {
    let [a, b] = two();
    let start = ["start", "--detached-session", "--node", "b", "--stdin", "-", "--", "cat"];
    let mut command = a.command(start);
    command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut starting = command.spawn().expect("a command");
    let mut line = String::new();
    let told = starting.stderr.take().expect("a pipe");
    BufReader::new(told).read_line(&mut line).expect("a line");
    assert!(line.contains("sortie session connect"), "{line}");
    let name = known(&a).pop().expect("the session");
    wait_for("the job", || {
        let jobs = a.json(&["get", "--session", &name]);
        (jobs["jobs"].as_array()?.len() == 1).then_some(())
    });
    // It waits for its input; interrupted there, it leaves a session that is known.
    let pid = rustix::process::Pid::from_child(&starting);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(starting.wait().expect("it ends").code(), Some(130));
    assert_eq!(known(&a), [name.as_str()]);
    let all = b.json(&["session", "get"]);
    assert_eq!(session_of(&all, &name)["availability"], "available", "nobody holds it: {all}");
    assert_eq!(a.sortie(&["get", "--session", &name]).code, 0);
    // What cannot be started leaves none.
    let wrong = ["start", "--detached-session", "--node", "b", "--task", "no_such_function"];
    let wrong = a.sortie(&wrong);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(!wrong.err.contains("keeps the output"), "{wrong:?}");
    assert_eq!(known(&a), [name]);
}
