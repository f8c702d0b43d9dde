//! Finished jobs lie in their node's journal: every verb finds them there after a kill, and what
//! they said is read when somebody asks (`docs/semantics.md`, section 4.2).
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what its cases share"
)]

use std::fs;

use sortie_tests::jobs::entry;
use sortie_tests::{Home, Ran, wait_for};

fn ok(home: &Home, arguments: &[&str]) -> Ran {
    let ran = home.sortie(arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

/// Jobs 1, 3, 5, 7 with children 2, 4, 6, 8, then 9 with 10: completed, failed, stopped, with much
/// output, completed with nothing unread.
fn history(home: &Home) {
    ok(
        home,
        &["start", "--key", "once", "--name", "one", "--", "sh", "-c", "echo out; echo err >&2"],
    );
    ok(home, &["start", "--", "sh", "-c", "echo second; exit 4"]);
    ok(home, &["start", "--name", "other", "--", "sleep", "97531"]);
    ok(home, &["start", "--", "seq", "100000"]);
    ok(home, &["start", "--", "echo", "taken"]);
    ok(home, &["stop", "5", "--now"]);
    assert_eq!(home.sortie(&["wait", "all"]).code, 100);
    assert_eq!(ok(home, &["receive", "9"]).out, "taken\n");
    // How far a reader came is kept when the reader was told so.
    assert_eq!(entry(home, "9")["has_more_data"], false);
}

/// What a page looks like, asked in each way.
fn pages(home: &Home) -> Vec<String> {
    let instance = entry(home, "1")["instance_id"].as_str().expect("an id").to_owned();
    let child = entry(home, "4")["instance_id"].as_str().expect("an id").to_owned();
    let end = entry(home, "5")["end_time"].as_str().expect("a time").to_owned();
    let asked: Vec<Vec<&str>> = vec![
        vec![],
        vec!["--children"],
        vec!["1"],
        vec!["7", "4", "1"],
        vec!["one"],
        vec!["o*", "job*"],
        vec!["2-6"],
        vec!["job3"],
        vec!["last"],
        vec!["all"],
        vec![&instance],
        vec![&child],
        vec!["--state", "failed,stopped"],
        vec!["--command", "*second*"],
        vec!["--child-state", "failed"],
        vec!["--has-more-data", "true", "--children"],
        vec!["--has-more-data", "false", "--children"],
        vec!["--newest", "2"],
        vec!["--newest", "3", "--children"],
        vec!["--limit", "2", "--offset", "1"],
        vec!["--after", &end, "--children"],
        vec!["--before", &end],
    ];
    let mut pages = Vec::new();
    for words in asked {
        for shape in ["json", "ndjson", "table"] {
            let all = [&["get", "-o", shape], &words[..]].concat();
            let ran = home.sortie(&all);
            pages.push(format!("{all:?} {} {}\n{}", ran.code, ran.err, ran.out));
        }
    }
    pages
}

#[test]
fn a_page_of_archived_jobs_is_what_it_was() {
    let mut home = Home::running("solo", &[]);
    history(&home);
    let (before, explained) = (pages(&home), home.json(&["explain", "3"]));
    home.live_again("solo");
    for (before, after) in before.iter().zip(pages(&home)) {
        assert_eq!(before, &after);
    }
    assert_eq!(explained, home.json(&["explain", "3"]));
    // It is the same after they were in memory, and without any other question before.
    home.live_again("solo");
    assert_eq!(before[3..6], pages(&home)[3..6]);
}

#[test]
fn jobs_that_leave_memory_while_their_node_lives_are_what_they_were() {
    let home = Home::running("solo", &[]);
    history(&home);
    let (before, said) = (pages(&home), harmless(&home));
    // Finished jobs with so many children that none of those before stays beside them.
    for _ in 0..9 {
        let many = ["start", "-q", "--map", "-", "-j", "1", "--", "sleep", "97531"];
        let started = home.by_shell("seq 10000 | \"$@\"", &many);
        let id = started.out.trim();
        wait_for("children that wait", || {
            (entry(&home, id)["children_total"].as_u64() >= Some(8_192)).then_some(())
        });
        // So many children may take longer than a `stop` waits.
        ok(&home, &["stop", id, "--now", "--no-wait"]);
        assert_eq!(home.sortie(&["wait", id]).code, 102);
        ok(&home, &["remove", id]);
    }
    for (before, after) in before.iter().zip(pages(&home)) {
        assert_eq!(before, &after);
    }
    for (before, after) in said.iter().zip(harmless(&home)) {
        assert_eq!(before, &after);
    }
    let numbers: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(ok(&home, &["receive", "7"]).out == numbers, "each line once");
    assert_eq!(entry(&home, "7")["has_more_data"], false);
    let all = home.sortie(&["receive", "all", "--wait", "--auto-remove"]);
    assert_eq!((all.code, all.out.lines().count()), (100, 2), "{all:?}");
    assert_eq!(ok(&home, &["get", "-q"]).out, "");
}

#[test]
fn what_archived_jobs_said_is_taken_once_over_many_lives() {
    let mut home = Home::running("solo", &[]);
    history(&home);
    home.live_again("solo");
    let kept = home.sortie(&["receive", "3", "--keep"]);
    assert_eq!((kept.code, &kept.out[..]), (0, "second\n"), "{kept:?}");
    let out = ok(&home, &["receive", "1", "--stream", "output"]);
    assert_eq!((&out.out[..], &out.err[..]), ("out\n", ""));
    assert_eq!(entry(&home, "1")["has_more_data"], true);
    home.live_again("solo");
    assert_eq!(entry(&home, "1")["has_more_data"], true);
    let rest = ok(&home, &["receive", "one", "--wait"]);
    assert_eq!((&rest.out[..], &rest.err[..]), ("", "err\n"));
    let numbers: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(ok(&home, &["receive", "7"]).out == numbers, "each line once");
    assert_eq!(entry(&home, "7")["has_more_data"], false);
    home.live_again("solo");
    assert_eq!(entry(&home, "7")["has_more_data"], false);
    let unread = home.json(&["get", "--has-more-data", "true", "--children"]);
    let unread = unread["jobs"].as_array().expect("jobs").iter();
    let unread: Vec<_> = unread.filter_map(|entry| entry["id"].as_u64()).collect();
    assert_eq!(unread, [3, 4], "only what was kept");
    let all = home.sortie(&["receive", "all", "--wait", "--auto-remove"]);
    assert_eq!((all.code, &all.out[..]), (100, "localhost: second\n"), "{all:?}");
    assert_eq!(ok(&home, &["get", "-q"]).out, "");
    home.live_again("solo");
    assert_eq!(ok(&home, &["get", "-q"]).out, "");
}

/// What verbs say that find nothing to do.
fn harmless(home: &Home) -> Vec<String> {
    let asked: [&[&str]; 8] = [
        &["wait", "1", "6", "3"],
        &["wait", "2", "--timeout", "1s"],
        &["stop", "1", "4"],
        &["stop", "all"],
        &["throttle", "1", "-j", "2"],
        &["suspend", "3", "2"],
        &["resume", "all"],
        &["send", "2", "hello"],
    ];
    let said = asked.iter().map(|words| {
        let ran = home.sortie(words);
        format!("{words:?} {} {}\n{}", ran.code, ran.err, ran.out)
    });
    said.collect()
}

#[test]
fn verbs_that_change_something_find_archived_jobs() {
    let mut home = Home::running("solo", &[]);
    history(&home);
    let said = harmless(&home);
    assert!(output_bytes(&home) > 0);
    home.live_again("solo");
    for (before, after) in said.iter().zip(harmless(&home)) {
        assert_eq!(before, &after);
    }
    // The same key is the same job, with another spec it is an error.
    let same = ["--key", "once", "--name", "one", "--", "sh", "-c", "echo out; echo err >&2"];
    let ran = home.sortie(&[&["start", "-q"][..], &same].concat());
    assert_eq!((ran.code, ran.out.trim()), (0, "1"), "{ran:?}");
    let other = home.sortie(&["start", "--key", "once", "--", "true"]);
    assert!(other.code != 0 && other.err.contains("once"), "{other:?}");
    // A new job's number follows theirs.
    let new = ok(&home, &["start", "-q", "--", "true"]).out.trim().to_owned();
    assert!(new.parse::<u64>().is_ok_and(|new| new > 10), "{new}");
    ok(&home, &["wait", &new]);
    let removed = home.sortie(&["remove", "one", "7", "4", "99"]);
    assert_eq!(removed.code, 4, "{removed:?}");
    assert!(removed.err.contains("4 is a child of job 3") && removed.err.contains("99"));
    let left = ["3", "5", "9", &new];
    assert_eq!(ok(&home, &["get", "-q"]).lines(), left);
    home.live_again("solo");
    assert_eq!(ok(&home, &["get", "-q"]).lines(), left);
    assert_eq!(home.sortie(&["get", "2"]).code, 4);
    wait_for("the removal of its output", || (output_bytes(&home) == 0).then_some(()));
}

/// Bytes of files with output.
fn output_bytes(home: &Home) -> u64 {
    fn bytes(directory: &std::path::Path) -> u64 {
        let Ok(all) = fs::read_dir(directory) else { return 0 };
        let bytes = all.flatten().map(|one| match one.metadata() {
            Ok(it) if it.is_dir() => bytes(&one.path()),
            Ok(it) => it.len(),
            Err(_) => 0,
        });
        bytes.sum()
    }
    bytes(&home.path().join("sessions/output"))
}

#[test]
fn children_of_an_input_are_found_between_the_numbers_of_others() {
    let mut home = Home::running("solo", &[]);
    let gate = home.path().join("gate");
    let line = "(echo a; while [ ! -e \"$GATE\" ]; do sleep 0.02; done; echo b) | \"$@\"";
    let line = line.replace("$GATE", gate.to_str().expect("UTF-8"));
    std::thread::scope(|scope| {
        let mapping = scope.spawn(|| home.by_shell(&line, &["start", "--map", "-", "--", "echo"]));
        wait_for("the first", || {
            let first = home.sortie(&["get", "2"]);
            (first.code == 0).then_some(())
        });
        assert_eq!(ok(&home, &["start", "-q", "--", "true"]).out.trim(), "3");
        fs::write(&gate, "").expect("a file");
        assert_eq!(mapping.join().expect("no panic").code, 0);
    });
    ok(&home, &["wait", "all"]);
    let ids = |home: &Home, words: &[&str]| {
        let ran = home.sortie(&[&["get", "-q", "--children"], words].concat());
        ran.out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    home.live_again("solo");
    assert_eq!(ids(&home, &[]), ["1", "2", "5", "3", "4"]);
    assert_eq!(ids(&home, &["5", "4"]), ["5", "4"]);
    assert_eq!(ids(&home, &["4-5"]), ["5", "4"]);
    assert_eq!(entry(&home, "1")["children_total"], 2);
    assert_eq!(ok(&home, &["receive", "5"]).out, "b\n");
    // Also when the job is in memory.
    assert_eq!(ids(&home, &[]), ["1", "2", "5", "3", "4"]);
    assert_eq!(ids(&home, &["5", "4"]), ["5", "4"]);
}

#[test]
fn unread_output_is_read_when_somebody_asks_and_not_before() {
    const BYTES: u64 = 64 << 20;
    let mut home = Home::running("solo", &[]);
    ok(&home, &["start", "--", "sh", "-c", &format!("yes | head -c {BYTES}")]);
    ok(&home, &["wait", "1"]);
    home.live_again("solo");
    assert_eq!(entry(&home, "1")["has_more_data"], true);
    let read = read_by(home.daemon_pid());
    assert!(read < BYTES / 4, "{read} bytes were read for a page");
    let got = ok(&home, &["receive", "1"]).bytes;
    assert!(got.len() as u64 == BYTES && got.chunks(2).all(|line| line == b"y\n"), "all of it");
    assert!(read_by(home.daemon_pid()) >= BYTES, "from the disk");
    assert_eq!(entry(&home, "1")["has_more_data"], false);
}

/// Bytes that a process has read, from disks and others.
fn read_by(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/io")).expect("a process");
    let read = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.and_then(|read| read.parse().ok()).expect("a number")
}
