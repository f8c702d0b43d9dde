//! A guardian that is killed takes its children along, and the next one follows
//! (`docs/semantics.md`, section 4.2).
#![expect(clippy::expect_used, reason = "a test fails by panicking, also in what its cases share")]

use std::fs;
use std::process::Command;

use sortie_tests::jobs::{entry, numbers};
use sortie_tests::{Home, processes_marked, wait_for};

/// The process id of the guardian that keeps the home's processes.
fn guardian(home: &Home) -> String {
    let file = home.path().join("sessions/processes/guardian");
    let text = fs::read_to_string(file).expect("a guardian");
    text.split(' ').next().expect("its process id").to_owned()
}

fn kill(pid: &str) {
    let killed = Command::new("kill").args(["-9", pid]).status().expect("kill");
    assert!(killed.success());
}

const TALKER: &str = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo $i; done; exec sleep $0";

#[test]
fn its_children_fail_for_that_reason_and_the_next_start_works() {
    let mut home = Home::running("solo", &[]);
    let mark = format!("38465{}", std::process::id());
    assert_eq!(home.sortie(&["start", "--", "sh", "-c", TALKER, &mark]).code, 0);
    let mut invoke = home.command(["invoke", "--", "sleep", &mark]).spawn().expect("a command");
    let asking = invoke.id();
    wait_for("both", || {
        let running = processes_marked(&mark).into_iter().filter(|pid| *pid != asking).count();
        (running == 2 && entry(&home, "2")["unread_bytes"] == numbers(500).len()).then_some(())
    });
    let first = guardian(&home);
    kill(&first);
    assert_eq!(home.sortie(&["wait", "1", "--timeout", "60s"]).code, 100);
    let reason = &entry(&home, "2")["reason"];
    assert_eq!(reason["code"], "guardian_lost", "{reason}");
    assert!(reason["message"].as_str().is_some_and(|text| text.contains("guardian")), "{reason}");
    assert_eq!(invoke.wait().expect("it ends").code(), Some(100));
    wait_for("the ends of both trees", || processes_marked(&mark).is_empty().then_some(()));
    assert_eq!(home.sortie(&["receive", "1"]).out, numbers(500), "what it said is there");
    // The next one holds children as the first did, also over the end of the daemon.
    let again = home.sortie(&["start", "-q", "--", "sh", "-c", TALKER, &mark]);
    assert_eq!(again.code, 0, "{again:?}");
    wait_for("the next child", || (processes_marked(&mark).len() == 1).then_some(()));
    assert_ne!(guardian(&home), first);
    home.live_again("solo");
    assert_eq!(entry(&home, again.out.trim())["state"], "running");
    assert_eq!(home.sortie(&["stop", again.out.trim(), "--now"]).code, 0);
    assert_eq!(processes_marked(&mark), Vec::<u32>::new());
}

#[test]
fn a_permanent_child_starts_again_each_time() {
    let home = Home::running("solo", &[]);
    let mark = format!("38467{}", std::process::id());
    let line = "echo life; exec sleep $0";
    let words = ["start", "--restart", "permanent", "--intensity", "5/60s", "--", "sh", "-c", line];
    assert_eq!(home.sortie(&[&words[..], &[&mark]].concat()).code, 0);
    let mut before = String::new();
    for life in 1..=3_u64 {
        wait_for("a life", || {
            let running = !processes_marked(&mark).is_empty();
            let said = entry(&home, "2")["unread_bytes"].as_u64() >= Some(5 * life);
            let said = said && entry(&home, "2")["restarts"] == life - 1;
            (running && said && guardian(&home) != before).then_some(())
        });
        if life < 3 {
            before = guardian(&home);
            kill(&before);
        }
    }
    assert_eq!(entry(&home, "2")["restarts"], 2);
    assert_eq!(home.sortie(&["receive", "1"]).out, "life\n".repeat(3), "of each life");
}

#[test]
fn children_of_one_that_died_while_no_daemon_was_there_fail_for_that_reason() {
    let mut home = Home::running("solo", &[]);
    let mark = format!("38469{}", std::process::id());
    assert_eq!(home.sortie(&["start", "--", "sh", "-c", TALKER, &mark]).code, 0);
    wait_for("its output", || {
        (entry(&home, "2")["unread_bytes"] == numbers(500).len()).then_some(())
    });
    home.kill_daemon();
    kill(&guardian(&home));
    home.live_again("solo");
    assert_eq!(home.sortie(&["wait", "1", "--timeout", "60s"]).code, 100);
    assert_eq!(entry(&home, "2")["reason"]["code"], "guardian_lost");
    assert_eq!(processes_marked(&mark), Vec::<u32>::new());
    assert_eq!(home.sortie(&["receive", "1"]).out, numbers(500));
}
