//! What happens when the daemon, or the guardian, is gone.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sortie_exec::{Guardian, LaunchOptions};
use sortie_model::facts::ProcessEnd;
use sortie_wire::guardian_proto::{Containment, ContainmentChoice};

use crate::support::{command, eventually, mark, marked, run_plain, shell, with_mark};

/// Set in the environment of a daemon that waits to be killed; its value is the children's mark.
pub(crate) const VICTIM_VARIABLE: &str = "TEST_VICTIM";
pub(crate) const CONTAINMENT_VARIABLE: &str = "TEST_CONTAINMENT";

pub(crate) const STUBBORN: &str = "trap '' TERM HUP INT; \
    setsid sh -c 'sleep 1000 & exec sleep 1000' & \
    (setsid sh -c '(exec sleep 1000) &' &); \
    while :; do sleep 1000; done";

pub(crate) async fn dropping_the_guardian_kills_everything(guardian: Guardian) {
    let mark = mark("drop-guardian");
    let child = guardian.spawn(marked(&mark, STUBBORN)).await.unwrap();
    eventually("all processes", || with_mark(&mark).len() >= 5).await;
    let directory = group_directory(&guardian);
    drop(child);
    drop(guardian);
    eventually("the end of everything", || with_mark(&mark).is_empty()).await;
    if let Some(directory) = directory {
        eventually("the end of the group", || !directory.exists()).await;
    }
}

pub(crate) async fn a_guardian_that_is_ended_is_gone_and_others_are_left_alone(guardian: Guardian) {
    let (_, sink) = run_plain(&guardian, shell("echo $PPID")).await;
    let pid = sink.output();
    let other = Guardian::launch(LaunchOptions::default()).await.unwrap();
    let (mark, others) = (mark("end-guardian"), mark("other-guardian"));
    // Somebody else holds the guardian and a child of it.
    let (held, mut child) =
        (guardian.clone(), guardian.spawn(marked(&mark, STUBBORN)).await.unwrap());
    let other_child = other.spawn(marked(&others, "echo; exec sleep 1000")).await.unwrap();
    guardian.end().await;
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
    eventually("the end of everything", || with_mark(&mark).is_empty()).await;
    assert_eq!(child.ending.wait().await.end, ProcessEnd::Lost);
    held.lost().await;
    assert!(!held.is_alive() && other.is_alive());
    assert_eq!(with_mark(&others).len(), 1);
    drop(other_child);
    eventually("the end of the other child", || with_mark(&others).is_empty()).await;
}

fn group_directory(guardian: &Guardian) -> Option<std::path::PathBuf> {
    match guardian.containment() {
        Containment::ControlGroup { directory } => {
            Some(std::str::from_utf8(directory.as_bytes()).unwrap().into())
        }
        Containment::Parentage => None,
    }
}

pub(crate) async fn a_guardian_that_is_killed_takes_its_children_along(guardian: Guardian) {
    let (_, sink) = run_plain(&guardian, shell("echo $PPID")).await;
    let pid = sink.output();
    let mark = mark("kill-guardian");
    let mut child = guardian.spawn(marked(&mark, "echo; exec sleep 1000")).await.unwrap();
    assert!(guardian.is_alive());
    kill("-KILL", &pid);
    guardian.lost().await;
    assert!(!guardian.is_alive());
    assert_eq!(child.ending.wait().await.end, ProcessEnd::Lost);
    eventually("the end of the child", || with_mark(&mark).is_empty()).await;
    let error = guardian.spawn(command(&["true"])).await.unwrap_err();
    assert_eq!(error, sortie_exec::SpawnError::NO_GUARDIAN);
    if let Some(directory) = group_directory(&guardian) {
        eventually("the end of the group", || !directory.exists()).await;
    }
}

/// How the daemon that is to be killed contains its children.
pub(crate) fn containment_asked_for() -> ContainmentChoice {
    match std::env::var(CONTAINMENT_VARIABLE).unwrap().as_str() {
        "parentage" => ContainmentChoice::Parentage,
        _ => ContainmentChoice::Best,
    }
}

/// What to ask of a daemon, so that it contains children as that guardian does.
pub(crate) fn containment_word(guardian: &Guardian) -> &'static str {
    match guardian.containment() {
        Containment::ControlGroup { .. } => "best",
        Containment::Parentage => "parentage",
    }
}

/// The daemon that is to be killed.
pub(crate) fn be_a_daemon_until_killed() -> ! {
    let mark = std::env::var(VICTIM_VARIABLE).unwrap();
    let containment = containment_asked_for();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = LaunchOptions { containment, ..LaunchOptions::default() };
        let guardian = Guardian::launch(options).await.unwrap();
        let mut children = Vec::new();
        for _ in 0..20 {
            children.push(guardian.spawn(marked(&mark, STUBBORN)).await.unwrap());
        }
        println!("ready");
        std::future::pending::<()>().await;
    });
    unreachable!("it waits for ever")
}

/// A daemon in a process of its own, with twenty children of five processes each.
async fn victim(guardian: &Guardian, mark: &str) -> Child {
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .env(VICTIM_VARIABLE, mark)
        .env(CONTAINMENT_VARIABLE, containment_word(guardian))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    eventually("all processes", || with_mark(mark).len() >= 100).await;
    daemon
}

pub(crate) async fn a_daemon_that_is_killed_takes_everything_along(guardian: Guardian) {
    let mark = mark("victim");
    let mut daemon = victim(&guardian, &mark).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let begin = std::time::Instant::now();
    eventually("the end of everything", || with_mark(&mark).is_empty()).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

pub(crate) fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
}

pub(crate) async fn what_is_left_when_both_were_killed_ends_with_the_next_start(
    guardian: Guardian,
) {
    if *guardian.containment() == Containment::Parentage {
        // Nobody accounts for what is left then; `docs/architecture.md` says so.
        return;
    }
    let mark = mark("left-over");
    let mut daemon = victim(&guardian, &mark).await;
    let pid = daemon.id().to_string();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let helper: String = threads
        .map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap())
        .collect();
    // Frozen first, so that it cannot clear up after its guardian.
    kill("-STOP", &pid);
    kill("-KILL", &helper);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(!with_mark(&mark).is_empty());
    drop(Guardian::launch(LaunchOptions::default()).await.unwrap());
    eventually("the end of what is left", || with_mark(&mark).is_empty()).await;
}

pub(crate) async fn guardians_that_start_together_all_get_their_groups(guardian: Guardian) {
    let launches: Vec<_> = (0..8)
        .map(|_| tokio::spawn(async { Guardian::launch(LaunchOptions::default()).await.unwrap() }))
        .collect();
    for launch in launches {
        let launched = launch.await.unwrap();
        if group_directory(&guardian).is_some() {
            assert!(group_directory(&launched).is_some());
        }
        let (facts, _) = run_plain(&launched, command(&["true"])).await;
        assert_eq!(facts.end, ProcessEnd::Exited { code: 0 });
    }
}

pub(crate) async fn a_guardian_ignores_signals_while_its_daemon_lives(guardian: Guardian) {
    let (_, sink) = run_plain(&guardian, shell("echo $PPID")).await;
    for signal in ["-TERM", "-HUP", "-INT", "-USR1", "-PIPE"] {
        kill(signal, &sink.output());
    }
    let (facts, _) = run_plain(&guardian, command(&["true"])).await;
    assert_eq!(facts.end, ProcessEnd::Exited { code: 0 });
    assert!(guardian.is_alive());
}
