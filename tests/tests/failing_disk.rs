//! A disk that fails under a node's journal (`docs/semantics.md`, section 4.2), by what `strace`
//! injects. Where that is not there, or may not trace, nothing is tested and said so;
//! `cargo xtask chaos --scenario disk` has each call of the journal fail in turn.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Child, Command, Stdio};

use sortie_tests::jobs::start;
use sortie_tests::{Home, wait_for};

/// Has every call fail from now on by which the node's journal is written.
fn failing(home: &Home) -> Option<Child> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,fdatasync"]);
    strace.args(["-e", "inject=pwrite64,fdatasync:error=EIO"]);
    strace.arg("-P").arg(home.path().join("sessions/journal"));
    let pid = home.daemon_pid().to_string();
    let mut strace = strace.args(["-p", &pid]).stderr(Stdio::null()).spawn().ok()?;
    let tasks = format!("/proc/{pid}/task");
    let is_traced = |status: String| !status.contains("TracerPid:\t0\n");
    let all_traced = || {
        let tasks = fs::read_dir(&tasks).expect("a living node").flatten();
        let mut statuses =
            tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        statuses.all(is_traced)
    };
    let traces = wait_for("every thread to be traced", || match strace.try_wait() {
        Ok(None) => all_traced().then_some(true),
        _ => Some(false),
    });
    traces.then_some(strace)
}

#[test]
fn a_receive_whose_confirmation_the_disk_does_not_take_fails_and_comes_again() {
    let mut home = Home::running("solo", &[]);
    start(&home, &["--", "echo", "said"]);
    assert_eq!(home.sortie(&["wait", "1"]).code, 0);
    let Some(mut strace) = failing(&home) else {
        eprintln!("skipped: `strace` is not here, or may not trace");
        return;
    };
    let received = home.sortie(&["receive", "1"]);
    assert_eq!((received.code, &received.out[..]), (1, "said\n"), "{received:?}");
    assert!(received.err.contains("it may come again"), "{received:?}");
    let waited = home.sortie(&["receive", "--wait", "1"]);
    assert_eq!(waited.code, 1, "{waited:?}");
    assert_eq!(home.sortie(&["start", "--", "true"]).code, 1);
    strace.kill().expect("a tracer to kill");
    strace.wait().expect("its end");
    home.live_again("solo");
    let again = home.sortie(&["receive", "1"]);
    assert_eq!((again.code, &again.out[..]), (0, "said\n"), "{again:?}");
    assert_eq!(home.sortie(&["receive", "1"]).out, "");
}
