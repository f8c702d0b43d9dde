//! `sortie send` to processes whose standard input stays open (`docs/semantics.md`, section 3.7).

use std::fs;
use std::io::Write;
use std::process::Stdio;

use sortie_tests::jobs::{entry, state};
use sortie_tests::{Home, Ran, join_all, wait_for};

/// Starts a command with open input: `sortie start --open-stdin` and these arguments.
fn open(home: &Home, arguments: &[&str]) {
    let ran = home.sortie(&[&["start", "--open-stdin"][..], arguments].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[track_caller]
fn send(home: &Home, arguments: &[&str]) {
    let ran = home.sortie(&[&["send"][..], arguments].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
}

#[track_caller]
fn check_refused(ran: &Ran, words: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "no `{word}` in {ran:?}");
    }
}

/// What a job said, once it has ended well.
#[track_caller]
fn ends_with(home: &Home, job: &str, out: &str) {
    let ran = home.sortie(&["receive", "--wait", job]);
    assert_eq!((ran.code, ran.out.as_str()), (0, out), "{ran:?}");
}

#[test]
fn what_is_sent_comes_once_and_in_order_and_its_end_is_the_end() {
    let home = Home::running("solo", &[]);
    open(&home, &["--", "cat"]);
    let mut said = String::new();
    for line in 1..=20 {
        send(&home, &["2", &format!("line {line}")]);
        said.push_str(&format!("line {line}\n"));
    }
    // The job stands for its only child.
    send(&home, &["1", "--no-newline", "no end"]);
    let ran = home.by_shell("printf ', \\377 and\\nmore' | \"$@\"", &["send", "2", "--stdin"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(home.by_shell("\"$@\" </dev/null", &["send", "2", "--stdin"]).code, 0);
    send(&home, &["2", "--eof", "last"]);
    let ran = home.sortie(&["receive", "--wait", "1"]);
    let all = [said.as_bytes(), b"no end, \xff and\nmorelast\n"].concat();
    assert_eq!((ran.code, ran.bytes), (0, all));
    check_refused(&home.sortie(&["send", "2", "late"]), &["has ended", "nothing was written"]);
    open(&home, &["--", "cat"]);
    send(&home, &["4", "--eof"]);
    ends_with(&home, "3", "");
}

#[test]
fn a_process_that_reads_slowly_lets_its_sender_wait_and_gets_everything() {
    let home = Home::running("solo", &[]);
    let (gate, came) = (home.path().join("gate"), home.path().join("came"));
    let line = "while [ ! -e \"$0\" ]; do sleep 0.02; done; cat > \"$1\"";
    let (gate_name, came_name) = (gate.to_str().expect("UTF-8"), came.to_str().expect("UTF-8"));
    open(&home, &["--", "sh", "-c", line, gate_name, came_name]);
    let sent: Vec<u8> = (0_u32..1 << 18).flat_map(u32::to_le_bytes).collect();
    let from = home.path().join("sent");
    fs::write(&from, &sent).expect("a file");
    let mut sender = home.command(["send", "2", "--stdin", "--eof"]);
    sender.stdin(fs::File::open(&from).expect("a file"));
    let mut sender = sender.spawn().expect("a program to run");
    // Others are served meanwhile.
    open(&home, &["--", "cat"]);
    send(&home, &["4", "--eof", "beside"]);
    ends_with(&home, "3", "beside\n");
    assert!(sender.try_wait().expect("a child").is_none(), "a pipe holds no MiB");
    fs::write(&gate, "").expect("a file");
    assert!(sender.wait().expect("an end").success());
    ends_with(&home, "1", "");
    assert!(fs::read(&came).expect("a file") == sent, "other bytes came");
}

#[test]
fn what_cannot_be_written_is_an_error_that_says_why() {
    let home = Home::running("solo", &[]);
    let ran = home.sortie(&["start", "--", "sleep", "100"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    check_refused(&home.sortie(&["send", "2", "x"]), &["is not open", "--open-stdin"]);
    // It closes its input itself.
    let closed = home.path().join("closed");
    let line = "exec <&-; : > \"$0\"; sleep 100";
    open(&home, &["--", "sh", "-c", line, closed.to_str().expect("UTF-8")]);
    wait_for("a closed input", || closed.exists().then_some(()));
    for _ in 0..2 {
        check_refused(&home.sortie(&["send", "4", "x"]), &["standard input is closed"]);
    }
    // Somebody else closed it.
    open(&home, &["--", "sh", "-c", "cat; sleep 100"]);
    send(&home, &["6", "--eof"]);
    check_refused(&home.sortie(&["send", "6", "x"]), &["standard input is closed"]);
    let ran = home.sortie(&["send", "6", "--eof"]);
    check_refused(&ran, &["standard input is closed"]);
    assert!(!ran.err.contains("written"), "nothing was sent: {ran:?}");
    // Nobody could write to what runs in the foreground.
    let ran = home.sortie(&["invoke", "--open-stdin", "--", "cat"]);
    check_refused(&ran, &["nobody could write", "--as-job"]);
    let ran = home.sortie(&["invoke", "--open-stdin", "--prompt", "? ", "--", "cat"]);
    check_refused(&ran, &["nobody could write", "--as-job"]);
    let ran = home.sortie(&["start", "--open-stdin", "--stdin", "f", "--", "cat"]);
    check_refused(&ran, &["cannot be used with"]);
    check_refused(&home.sortie(&["send", "2"]), &["required"]);
}

#[test]
fn what_a_process_left_behind_may_have_been_written() {
    let home = Home::running("solo", &[]);
    for end in ["exit", "exec <&-; sleep 100"] {
        open(&home, &["--", "sh", "-c", &format!("read x; {end}")]);
        let child = home.sortie(&["get", "last", "-c", "-q"]);
        let child = child.out.lines().last().expect("a child").to_owned();
        let ran = home.by_shell("seq 300000 | \"$@\"", &["send", &child, "--stdin"]);
        check_refused(&ran, &["some of what was sent may have been written"]);
    }
    assert_eq!(home.sortie(&["kill", "all"]).code, 0);
    // Its end lies between two parts of what is sent.
    open(&home, &["--", "sh", "-c", "read x"]);
    let mut send = home.command(["send", "last", "--stdin"]);
    send.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut send = send.spawn().expect("a program to run");
    let mut parts = send.stdin.take().expect("a pipe");
    parts.write_all(b"one\n").expect("an open pipe");
    assert_eq!(home.sortie(&["wait", "last"]).code, 0);
    parts.write_all(b"two\n").expect("an open pipe");
    drop(parts);
    let output = send.wait_with_output().expect("an end");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("has ended; some of what was sent may have been written"), "{err}");
}

#[test]
fn each_child_has_an_input_of_its_own_also_on_other_nodes_and_in_a_map() {
    let homes = ["a", "b"].map(|name| Home::running(name, &[]));
    join_all(&homes.each_ref());
    let [a, _b] = &homes;
    open(a, &["--on", "a,b", "--", "sh", "-c", "read x; echo \"$SORTIE_NODE $x\""]);
    check_refused(&a.sortie(&["send", "1", "--eof"]), &["no child alone", "get 1 --children"]);
    let ran = a.sortie(&["send", "1", "x"]);
    check_refused(&ran, &["no child of 1 asks", "2, 3", "`sortie send CHILD TEXT`"]);
    let ran = a.by_shell("seq 100000 | \"$@\"", &["send", "1", "--stdin"]);
    check_refused(&ran, &["longer than 65536 bytes", "name the child"]);
    send(a, &["3", "for b"]);
    send(a, &["2", "for a"]);
    ends_with(a, "1", "a: a for a\nb: b for b\n");
    let ran = a.by_shell(
        "printf 'one\\ntwo\\n' | \"$@\"",
        &["start", "--open-stdin", "--map", "-", "--on", "a,b", "--", "sh", "-c", "cat; echo $0"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    for child in ["5", "6"] {
        send(a, &[child, "--eof", child]);
    }
    ends_with(a, "4", "5\none\n6\ntwo\n");
}

#[test]
fn a_map_that_may_grow_does_not_stand_for_its_first_child() {
    let home = Home::running("solo", &[]);
    let mut start = home.command(["start", "--open-stdin", "--map", "-", "--", "cat"]);
    let mut start = start.stdin(Stdio::piped()).spawn().expect("a program to run");
    let mut lines = start.stdin.take().expect("a pipe");
    lines.write_all(b"-\n").expect("an open pipe");
    wait_for("a child", || (home.sortie(&["get", "2"]).code == 0).then_some(()));
    check_refused(&home.sortie(&["send", "1", "--eof"]), &["no child alone"]);
    drop(lines);
    assert!(start.wait().expect("an end").success());
    send(&home, &["1", "--eof", "alone"]);
    ends_with(&home, "1", "alone\n");
}

#[test]
fn a_child_that_starts_again_reads_from_a_new_input() {
    let home = Home::running("solo", &[]);
    let line = "read x; echo \"$x\"; test \"$x\" = end";
    open(&home, &["--restart", "transient", "--intensity", "5/60s", "--", "sh", "-c", line]);
    for word in ["one", "two", "end"] {
        send(&home, &["2", word]);
    }
    let ran = home.sortie(&["receive", "--wait", "1", "--stream", "output"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "one\ntwo\nend\n"), "{ran:?}");
    assert_eq!(
        (state(&home, "1").as_str(), &entry(&home, "2")["restarts"]),
        ("completed", &2.into())
    );
}

/// The child that asks, once its job is blocked, as JSON.
fn asking(home: &Home, child: &str, prompt: &str) {
    wait_for("a prompt", || {
        let entry = entry(home, child);
        let asked = entry.pointer("/question/prompt").is_some_and(|asked| asked == prompt);
        (asked && entry.get("state").is_some_and(|state| state == "blocked")).then_some(())
    });
}

/// A script that asks twice, the second time on stderr and after it said something.
const ASKS: &str = "printf 'name? '; read name; echo \"hello $name\"; echo busy >&2; \
                    printf 'sure? ' >&2; read sure; echo \"$sure\"";

#[test]
fn a_marked_prompt_blocks_its_child_until_it_is_answered() {
    let home = Home::running("solo", &[]);
    open(&home, &["--prompt", "? ", "--", "sh", "-c", ASKS]);
    asking(&home, "2", "name? ");
    let blocked = home.json(&["get", "1", "--child-state", "blocked"]);
    assert_eq!(blocked["jobs"][1]["id"], 2, "{blocked}");
    let explained = home.sortie(&["explain", "1"]);
    assert!(explained.out.contains("name? ") && explained.out.contains("sortie send 2"));
    let ran = home.sortie(&["wait", "1"]);
    assert_eq!(ran.code, 105, "{ran:?}");
    assert!(ran.err.contains("2 asks: name?"), "{ran:?}");
    send(&home, &["2", "Anna"]);
    asking(&home, "2", "sure? ");
    // As a reader at a terminal answers: not by the input, but to the question.
    let ran = home.sortie(&["send", "2", "7", "--input-format", "json"]);
    check_refused(&ran, &["a text"]);
    let ran = home.sortie(&["send", "2", "\"yes\"", "--input-format", "json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = home.sortie(&["receive", "--wait", "1", "--stream", "output"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "name? hello Anna\nyes\n"), "{ran:?}");
    let ran = home.sortie(&["start", "--prompt", "? ", "--", "cat"]);
    check_refused(&ran, &["--open-stdin"]);
    let ran = home.sortie(&["start", "--open-stdin", "--prompt", "", "--", "cat"]);
    check_refused(&ran, &["empty"]);
}

#[test]
fn a_prompt_on_another_node_is_withdrawn_by_what_is_written_on() {
    let homes = ["a", "b"].map(|name| Home::running(name, &[]));
    join_all(&homes.each_ref());
    let [a, _b] = &homes;
    let gate = a.path().join("gate");
    let line = "printf 'name? '; while [ ! -e \"$0\" ]; do sleep 0.02; done; echo never mind; \
                printf 'age? '; read age; echo \"$age\"";
    let words = ["--on", "b", "--prompt", "? ", "--", "sh", "-c", line];
    open(a, &[&words[..], &[gate.to_str().expect("UTF-8")]].concat());
    asking(a, "2", "name? ");
    fs::write(&gate, "").expect("a file");
    asking(a, "2", "age? ");
    send(a, &["2", "9"]);
    ends_with(a, "1", "name? never mind\nage? 9\n");
}

#[test]
fn a_process_is_written_to_over_the_deaths_of_its_daemon() {
    let mut home = Home::running("solo", &[]);
    let line = "while read line; do echo \"$line\"; printf '> '; done; echo over";
    open(&home, &["--prompt", "> ", "--", "sh", "-c", line]);
    let mut said = String::new();
    for round in 0..4 {
        send(&home, &["2", &format!("line {round}")]);
        said.push_str(&format!("line {round}\n> "));
        asking(&home, "2", "> ");
        home.live_again("solo");
        assert_eq!(entry(&home, "2")["end_time"], serde_json::Value::Null, "it runs");
    }
    send(&home, &["2", "--eof"]);
    ends_with(&home, "1", &(said + "over\n"));
}

#[test]
fn a_process_elsewhere_is_written_to_over_the_deaths_of_both_daemons() {
    let mut homes = ["a", "b"].map(|name| Home::running(name, &[]));
    join_all(&homes.each_ref());
    open(&homes[0], &["--on", "b", "--", "cat"]);
    let mut said = String::new();
    for round in 0..3 {
        for (dies, name) in ["a", "b"].into_iter().enumerate() {
            send(&homes[0], &["2", &format!("{round} {name}")]);
            said.push_str(&format!("{round} {name}\n"));
            homes[dies].live_again(name);
        }
    }
    send(&homes[0], &["2", "--eof"]);
    ends_with(&homes[0], "1", &said);
}

#[test]
fn an_input_that_was_closed_stays_so_over_the_death_of_its_daemon() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let line = "cat; while [ ! -e \"$0\" ]; do sleep 0.02; done; echo over";
    open(&home, &["--", "sh", "-c", line, gate.to_str().expect("UTF-8")]);
    send(&home, &["2", "--eof", "last"]);
    home.live_again("solo");
    for _ in 0..2 {
        check_refused(&home.sortie(&["send", "2", "x"]), &["standard input is closed"]);
    }
    check_refused(&home.sortie(&["send", "2", "--eof"]), &["standard input is closed"]);
    fs::write(&gate, "").expect("a file");
    ends_with(&home, "1", "last\nover\n");
}

#[test]
fn prompts_elsewhere_are_asked_on_over_the_death_of_their_daemon() {
    let mut homes = ["a", "b"].map(|name| Home::running(name, &[]));
    join_all(&homes.each_ref());
    let line = "for word in name age size; do printf \"$word? \"; read x; echo \"$x\"; done";
    open(&homes[0], &["--on", "b", "--prompt", "? ", "--", "sh", "-c", line]);
    asking(&homes[0], "2", "name? ");
    send(&homes[0], &["2", "Anna"]);
    asking(&homes[0], "2", "age? ");
    homes[1].live_again("b");
    send(&homes[0], &["2", "9"]);
    asking(&homes[0], "2", "size? ");
    let ran = homes[0].sortie(&["send", "2", "\"big\"", "--input-format", "json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ends_with(&homes[0], "1", "name? Anna\nage? 9\nsize? big\n");
}

#[test]
fn a_prompt_of_a_process_whose_input_is_closed_asks_nobody() {
    let home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let line = "cat; printf 'sure? '; while [ ! -e \"$0\" ]; do sleep 0.02; done";
    let gate_name = gate.to_str().expect("UTF-8");
    open(&home, &["--prompt", "? ", "--", "sh", "-c", line, gate_name]);
    send(&home, &["2", "--eof"]);
    wait_for("a prompt", || {
        (home.sortie(&["receive", "--keep", "2"]).out == "sure? ").then_some(())
    });
    let entry = entry(&home, "2");
    assert_eq!(
        (&entry["state"], &entry["question"]),
        (&"running".into(), &serde_json::Value::Null)
    );
    check_refused(&home.sortie(&["send", "2", "x"]), &["standard input is closed"]);
    fs::write(&gate, "").expect("a file");
    ends_with(&home, "1", "sure? ");
}
