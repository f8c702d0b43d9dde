//! The stored input of a job outlives its node (`docs/semantics.md`, sections 3.1 and 4.2).
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use sortie_tests::jobs::{entry, start, state};
use sortie_tests::{Home, two, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// How often each line was run.
fn runs(ran: &Path) -> BTreeMap<String, u32> {
    let mut runs = BTreeMap::new();
    for line in fs::read_to_string(ran).unwrap_or_default().lines() {
        *runs.entry(line.to_owned()).or_default() += 1;
    }
    runs
}

fn each_once(lines: u32) -> BTreeMap<String, u32> {
    (1..=lines).map(|line| (format!("{line} {line}"), 1)).collect()
}

fn inputs(home: &Home) -> usize {
    fs::read_dir(home.path().join("sessions/input")).map_or(0, Iterator::count)
}

/// Runs a line: notes it with its number, and takes its time.
const NOTE: &str = "echo $1 $2 >> \"$0\"; sleep 0.03";

#[test]
fn each_line_of_a_map_runs_once_whatever_happens_to_the_nodes() {
    const LINES: u32 = 300;
    let [mut a, mut b] = two();
    let (list, ran) = (a.path().join("list"), a.path().join("ran"));
    let lines: String = (1..=LINES).map(|line| format!("{line}\n\n")).collect();
    fs::write(&list, lines).expect("a file");
    let words = ["-j", "8", "--on", "*", "--map", text(&list), "--", "sh", "-c", NOTE, text(&ran)];
    start(&a, &[&words[..], &["{}", "{#}"]].concat());
    for round in 1..=5 {
        wait_for("some more lines", || (runs(&ran).len() >= round * 40).then_some(()));
        match round {
            3 => b.live_again("b"),
            // The node behind it is none that this test can kill.
            5 => assert_eq!(a.sortie(&["node", "restart"]).code, 0),
            _ => a.live_again("a"),
        }
    }
    let ran_all = a.sortie(&["wait", "1"]);
    assert_eq!(ran_all.code, 0, "{ran_all:?}");
    assert_eq!(runs(&ran), each_once(LINES));
    let job = entry(&a, "1");
    assert_eq!((&job["state"], &job["children_total"]), (&"completed".into(), &LINES.into()));
    // What each child was is known as long as the job is.
    a.sortie(&["node", "restart"]);
    let last = entry(&a, &(LINES + 1).to_string());
    let command = last["command"].as_str().expect("a command");
    assert!(command.ends_with(&format!("{LINES} {LINES}")), "{command}");
    assert_eq!(a.sortie(&["remove", "1"]).code, 0);
    wait_for("the file to go", || (inputs(&a) == 0).then_some(()));
    assert_eq!(a.sortie(&["node", "stop"]).code, 0);
}

#[test]
fn lines_that_wait_and_those_that_were_not_read_run_after_a_kill() {
    let mut home = Home::running("solo", &[]);
    let (list, gate, ran) =
        (home.path().join("list"), home.path().join("gate"), home.path().join("ran"));
    let line = "while [ ! -e \"$3\" ]; do sleep 0.02; done; echo $1 $2 >> \"$0\"";
    // More than is read ahead.
    const LINES: u32 = 1_500;
    let lines: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    fs::write(&list, lines).expect("a file");
    let words = ["-j", "2", "--key", "once", "--map", text(&list), "--", "sh", "-c", line];
    let words = [&words[..], &[text(&ran), "{}", "{#}", text(&gate)]].concat();
    start(&home, &words);
    home.live_again("solo");
    // The same key takes its input once.
    start(&home, &words);
    let throttle = home.sortie(&["throttle", "1", "--throttle", "40"]);
    assert_eq!(throttle.code, 0, "{throttle:?}");
    fs::write(&gate, "").expect("a file");
    let all = home.sortie(&["wait", "1"]);
    assert_eq!(all.code, 0, "{all:?}");
    assert_eq!(runs(&ran), each_once(LINES));
}

/// A client that has sent so much of an input, and is still there.
fn sending(home: &Home, words: &[&str], input: &str) -> Child {
    let mut client = home.command(words).stdin(Stdio::piped()).spawn().expect("a command");
    let pipe = client.stdin.as_mut().expect("a pipe");
    pipe.write_all(input.as_bytes()).expect("a reader");
    client
}

#[test]
fn of_a_client_that_dies_in_the_middle_what_came_runs_and_the_rest_is_said_to_be_lost() {
    let mut home = Home::running("solo", &[]);
    let (gate, ran) = (home.path().join("gate"), home.path().join("ran"));
    let line = "while [ ! -e \"$3\" ]; do sleep 0.02; done; echo $1 $2 >> \"$0\"";
    let words = ["start", "-j", "1", "--map", "-", "--", "sh", "-c", line, text(&ran), "{}", "{#}"];
    let words = [&words[..], &[text(&gate)]].concat();
    let mut client = sending(&home, &words, "1\n2\n3\n4\n5\n");
    wait_for("the last line's child", || (home.sortie(&["get", "6"]).code == 0).then_some(()));
    client.kill().expect("a client");
    client.wait().expect("an end");
    // What came is on the disk before that is said.
    wait_for("the end of its input", || {
        let notes = entry(&home, "1")["notes"].to_string();
        notes.contains("the rest of its input was lost").then_some(())
    });
    home.live_again("solo");
    fs::write(&gate, "").expect("a file");
    let all = home.sortie(&["wait", "1"]);
    assert_eq!(all.code, 100, "not all of them came: {all:?}");
    assert_eq!(runs(&ran), each_once(5));
    home.live_again("solo");
    assert_eq!(entry(&home, "1")["state"], "failed");
    let notes = entry(&home, "1")["notes"].to_string();
    assert!(notes.contains("the rest of its input was lost"), "{notes}");
}

#[test]
fn an_input_that_is_damaged_is_lost_and_never_read_wrong() {
    let mut home = Home::running("solo", &[]);
    let (list, gate, ran) =
        (home.path().join("list"), home.path().join("gate"), home.path().join("ran"));
    fs::write(&list, "1\n2\n3\n").expect("a file");
    let line = "while [ ! -e \"$3\" ]; do sleep 0.02; done; echo $1 $2 >> \"$0\"";
    let words = ["-j", "1", "--map", text(&list), "--", "sh", "-c", line, text(&ran)];
    start(&home, &[&words[..], &["{}", "{#}", text(&gate)]].concat());
    wait_for("its start", || (state(&home, "2") == "running").then_some(()));
    home.kill_daemon();
    let files = fs::read_dir(home.path().join("sessions/input")).expect("a directory");
    for file in files {
        let path = file.expect("a name").path();
        let mut bytes = fs::read(&path).expect("a file");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(&path, bytes).expect("a file");
    }
    home.live_again("solo");
    fs::write(&gate, "").expect("a file");
    assert_eq!(home.sortie(&["wait", "1"]).code, 100);
    assert_eq!(runs(&ran), each_once(1));
    for child in ["3", "4"] {
        assert_eq!(entry(&home, child)["reason"]["code"], "input_lost");
    }
}

/// What the node has open among the stored inputs, also what is removed already.
fn open_inputs(home: &Home) -> usize {
    let inputs = home.path().join("sessions/input");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", home.daemon_pid())).expect("a process");
    let names = descriptors.filter_map(|name| fs::read_link(name.ok()?.path()).ok());
    names.filter(|name| name.starts_with(&inputs)).count()
}

#[test]
fn what_the_system_does_not_give_is_read_by_the_next_start_and_then_takes_no_room() {
    let mut home = Home::running("solo", &[]);
    let (list, gate, ran) =
        (home.path().join("list"), home.path().join("gate"), home.path().join("ran"));
    fs::write(&list, "1\n2\n3\n").expect("a file");
    let line = "while [ ! -e \"$3\" ]; do sleep 0.02; done; echo $1 $2 >> \"$0\"";
    let words = ["-j", "1", "--map", text(&list), "--", "sh", "-c", line, text(&ran)];
    start(&home, &[&words[..], &["{}", "{#}", text(&gate)]].concat());
    assert_eq!(open_inputs(&home), 1);
    home.kill_daemon();
    let mut files = fs::read_dir(home.path().join("sessions/input")).expect("a directory");
    let file = files.next().expect("an input").expect("a name").path();
    let aside = home.path().join("aside");
    fs::rename(&file, &aside).expect("a file");
    // What cannot be read, whoever asks.
    fs::create_dir(&file).expect("a directory");
    let refused = home.sortie(&["node", "run", "--name", "solo", "--listen", "127.0.0.1:0"]);
    assert!(refused.code != 0 && refused.err.contains(text(&file)), "{refused:?}");
    assert!(refused.err.contains("start the node again"), "{refused:?}");
    fs::remove_dir(&file).expect("a directory");
    fs::rename(&aside, &file).expect("a file");
    home.live_again("solo");
    fs::write(&gate, "").expect("a file");
    let all = home.sortie(&["wait", "1"]);
    assert_eq!(all.code, 0, "{all:?}");
    assert_eq!(runs(&ran), each_once(3));
    wait_for("that nobody has it open", || (open_inputs(&home) == 0).then_some(()));
    assert_eq!(inputs(&home), 1);
    assert_eq!(home.sortie(&["remove", "1"]).code, 0);
    wait_for("the room to be free", || (inputs(&home) == 0).then_some(()));
}

/// Reads its input piece by piece into a file of its node, and takes its time.
const COPY: &str = "while [ \"$(head -c 65536 | tee -a \"$0.$SORTIE_NODE\" | wc -c)\" -gt 0 ]; \
                    do sleep 0.02; done";

#[test]
fn a_process_reads_on_where_it_was_whichever_daemon_is_killed() {
    let [mut a, mut b] = two();
    let (file, copy) = (a.path().join("given"), a.path().join("copy"));
    let given: Vec<u8> =
        (0..1_u64 << 20).flat_map(|number| (number * 0x9E37_79B9).to_le_bytes()).collect();
    fs::write(&file, &given).expect("a file");
    start(&a, &["--on", "*", "--stdin", text(&file), "--", "sh", "-c", COPY, text(&copy)]);
    let copies = ["a", "b"].map(|node| a.path().join(format!("copy.{node}")));
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    for part in 1..=8 {
        let so_far = part * given.len() as u64 / 10;
        wait_for("some more of it", || {
            copies.iter().all(|copy| length(copy) >= so_far).then_some(())
        });
        match part {
            1 | 4 | 7 => a.live_again("a"),
            2 | 5 => b.live_again("b"),
            // The nodes behind that are none that this test can kill.
            8 => {
                assert_eq!(b.sortie(&["node", "restart"]).code, 0);
                assert_eq!(a.sortie(&["node", "restart"]).code, 0);
            }
            _ => {
                b.kill_daemon();
                a.live_again("a");
                b.live_again("b");
            }
        }
    }
    let ran = a.sortie(&["wait", "1"]);
    assert_eq!(ran.code, 0, "{ran:?} {}", entry(&a, "1"));
    for copy in copies {
        assert!(fs::read(&copy).expect("a file") == given, "{}", copy.display());
    }
    for node in [a, b] {
        assert_eq!(node.sortie(&["node", "stop"]).code, 0);
    }
}

#[test]
fn an_input_that_comes_while_its_process_reads_is_read_to_its_end_after_a_kill() {
    let mut home = Home::running("solo", &[]);
    let copy = home.path().join("copy");
    let words = ["start", "--stdin", "-", "--", "sh", "-c", COPY, text(&copy)];
    let mut client = sending(&home, &words, "first\n");
    let of_node = home.path().join("copy.solo");
    let copied = || fs::read_to_string(&of_node).unwrap_or_default();
    let mut pipe = client.stdin.take().expect("a pipe");
    // The process has begun to read before the input is whole.
    wait_for("its start", || {
        let is_there = home.sortie(&["get", "2"]).code == 0;
        (is_there && state(&home, "2") == "running").then_some(())
    });
    let rest = "and so on\n".repeat(100_000);
    pipe.write_all(rest.as_bytes()).expect("a reader");
    drop(pipe);
    assert!(client.wait().expect("an end").success());
    wait_for("a part of it", || (copied().len() > 70_000).then_some(()));
    home.live_again("solo");
    assert_eq!(home.sortie(&["wait", "1"]).code, 0);
    assert!(copied() == format!("first\n{rest}"));
}

#[test]
fn a_process_whose_input_broke_off_has_what_came_and_is_then_ended() {
    let mut home = Home::running("solo", &[]);
    let copy = home.path().join("copy");
    // One process, which nothing outlives for a moment.
    let script = "while read line; do echo $line >> \"$0\"; done; echo ended >> \"$0\"";
    let words = ["start", "--stdin", "-", "--", "sh", "-c", script, text(&copy)];
    let mut client = sending(&home, &words, "first\n");
    let copied = || fs::read_to_string(&copy).unwrap_or_default();
    wait_for("what came", || (copied() == "first\n").then_some(()));
    home.live_again("solo");
    let job = home.sortie(&["wait", "1"]);
    assert_eq!((job.code, copied().as_str()), (100, "first\n"), "{job:?}");
    assert_eq!(entry(&home, "2")["reason"]["code"], "input_lost");
    client.kill().expect("a client");
    client.wait().expect("an end");
}
