//! Nothing of a child outlives it.

use std::time::Duration;

use sortie_exec::{Guardian, RunPlan};
use sortie_model::facts::ProcessFacts;
use sortie_wire::guardian_proto::Containment;

use crate::support::{
    EXIT_0, Sink, command, eventually, mark, marked, run_plain, run_with, shell, with_mark,
};

/// Ignores TERM, forks, forks twice into other sessions, in all four processes that live on.
const STUBBORN: &str = "trap '' TERM HUP INT; \
    sleep 1000 & \
    setsid sh -c 'sleep 1000 & exec sleep 1000' & \
    (setsid sh -c '(exec sleep 1000) &' &); \
    while :; do sleep 1000; done";
/// The shell, its two kinds of `sleep`, and the three that left.
const STUBBORN_PROCESSES: usize = 6;

pub(crate) async fn two_hundred_stubborn_trees_are_gone_after_a_kill(guardian: Guardian) {
    let mark = mark("stubborn");
    let mut children = Vec::new();
    for _ in 0..200 {
        children.push(guardian.spawn(marked(&mark, STUBBORN)).await.unwrap());
    }
    eventually("all processes", || with_mark(&mark).len() >= 200 * STUBBORN_PROCESSES).await;
    for child in &children {
        child.control.signal(15);
    }
    for child in &children {
        child.control.kill();
    }
    for mut child in children {
        let ended = child.ending.wait().await;
        child.control.finish(ended).await;
    }
    assert_eq!(with_mark(&mark).len(), 0);
}

pub(crate) async fn what_a_child_leaves_behind_is_killed_and_counted(guardian: Guardian) {
    let mark = mark("left");
    let script = "for i in 1 2 3; do setsid sleep 1000 >/dev/null 2>&1 & done; exit 0";
    let (facts, _) = run_plain(&guardian, marked(&mark, script)).await;
    assert_eq!(facts, ProcessFacts { left_behind: 3, ..ProcessFacts::of(EXIT_0) });
    assert!(with_mark(&mark).is_empty());
}

pub(crate) async fn dropping_a_child_kills_its_tree(guardian: Guardian) {
    let mark = mark("drop");
    let child = guardian.spawn(marked(&mark, STUBBORN)).await.unwrap();
    eventually("all processes", || with_mark(&mark).len() >= STUBBORN_PROCESSES).await;
    drop(child);
    eventually("the end of the tree", || with_mark(&mark).is_empty()).await;
    let running = {
        let guardian = guardian.clone();
        let spec = marked(&mark, STUBBORN);
        tokio::spawn(async move { run_plain(&guardian, spec).await.0 })
    };
    eventually("all processes", || with_mark(&mark).len() >= STUBBORN_PROCESSES).await;
    running.abort();
    eventually("the end of the tree", || with_mark(&mark).is_empty()).await;
}

pub(crate) async fn dropping_a_start_kills_what_was_started(guardian: Guardian) {
    let mark = mark("drop-start");
    for _ in 0..50 {
        let start = guardian.spawn(marked(&mark, STUBBORN));
        // Polled once, so that the request is sent, then dropped.
        let _ = tokio::time::timeout(Duration::ZERO, start).await;
    }
    let (facts, _) = run_plain(&guardian, command(&["true"])).await;
    assert_eq!(facts, ProcessFacts::of(EXIT_0));
    eventually("the end of the trees", || with_mark(&mark).is_empty()).await;
}

pub(crate) async fn a_fork_bomb_is_gone_after_a_kill(guardian: Guardian) {
    let mark = mark("bomb");
    // Each process replaces itself by two, at a pace that the machine survives.
    let script = "f() { while :; do (setsid sleep 0.1 & sleep 0.05) & sleep 0.02; done; }; \
                  f & f & f & f & wait";
    let child = guardian.spawn(marked(&mark, script)).await.unwrap();
    eventually("many processes", || with_mark(&mark).len() >= 20).await;
    child.control.kill();
    let mut ending = child.ending;
    let ended = ending.wait().await;
    child.control.finish(ended).await;
    assert!(with_mark(&mark).is_empty());
}

pub(crate) async fn a_frozen_tree_is_killed(guardian: Guardian) {
    let mark = mark("frozen");
    let child = guardian.spawn(marked(&mark, STUBBORN)).await.unwrap();
    eventually("all processes", || with_mark(&mark).len() >= STUBBORN_PROCESSES).await;
    child.control.signal(19);
    child.control.kill();
    let mut ending = child.ending;
    let ended = ending.wait().await;
    assert_eq!(child.control.finish(ended).await, 0);
    assert!(with_mark(&mark).is_empty());
}

pub(crate) async fn no_zombie_is_left(guardian: Guardian) {
    let (facts, sink) = run_plain(&guardian, shell("echo $PPID")).await;
    assert_eq!(facts.end, EXIT_0);
    let pid: u32 = sink.output().trim().parse().unwrap();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name, "sortie-guardian\n");
    let plan = RunPlan::default();
    for script in ["exit 0", "(sleep 0.01 &)", "setsid sleep 0.01 & exit 3", "no-such-program"] {
        run_with(&guardian, shell(script), plan, &Sink::default()).await;
    }
    let _ = guardian.spawn(command(&["no-such-program"])).await;
    eventually("no child of the guardian", || {
        let children = format!("/proc/{pid}/task/{pid}/children");
        std::fs::read_to_string(children).unwrap().is_empty()
    })
    .await;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    // Input, output, error, the socket, the signals, what watches those, the null device, perhaps
    // the control group.
    let held = if *guardian.containment() == Containment::Parentage { 7 } else { 8 };
    assert_eq!(descriptors, held);
}
