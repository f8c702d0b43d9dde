//! A guardian's end, and what it left behind if it was killed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sortie_wire::guardian_proto::Containment;
use tokio::sync::watch;

use crate::keep::Identity;
use crate::sys::{control_group, marks};

/// The stack of the thread that waits for a guardian's end.
pub(super) const WAITER_STACK_BYTES: usize = 128 << 10;
/// Attempts to clear what a guardian that was killed left behind, and the pause between them.
const CLEAR_ATTEMPTS: u32 = 500;
const CLEAR_PAUSE: Duration = Duration::from_millis(10);

/// Kills what a guardian that was itself killed left.
pub(super) fn clear(pid: Pid, containment: Containment) {
    match containment {
        Containment::ControlGroup { directory } => {
            let directory = std::ffi::OsString::from_vec(directory.as_bytes().to_vec());
            let path = PathBuf::from(directory);
            clear_with(|| control_group::clear(&path));
        }
        Containment::Parentage => clear_with(|| marks::clear(pid)),
    }
}

fn clear_with(mut clear: impl FnMut() -> bool) {
    for _ in 0..CLEAR_ATTEMPTS {
        if clear() {
            return;
        }
        std::thread::sleep(CLEAR_PAUSE);
    }
}

/// Waits, in a thread, for the end of a guardian that is not our child, and then kills what it left
/// if it was killed. What is returned is closed after that.
pub(super) fn watch_over(pid: Pid, identity: Option<Identity>) -> io::Result<watch::Receiver<()>> {
    let held = pidfd_open(pid, PidfdFlags::empty())?;
    let (life, gone) = watch::channel(());
    let waiter = move || {
        let _life = life;
        wait_for_end(&held);
        if let Some(identity) = identity.filter(|one| one.pid == pid.as_raw_nonzero().get()) {
            clear_with(|| identity.clear_remains());
        }
    };
    std::thread::Builder::new()
        .name("sortie-guardian".to_owned())
        .stack_size(WAITER_STACK_BYTES)
        .spawn(waiter)?;
    Ok(gone)
}

fn wait_for_end(held: &OwnedFd) {
    loop {
        let mut polled = [PollFd::new(held, PollFlags::IN)];
        let ready = poll(&mut polled, None);
        let [state] = polled.map(|polled| polled.revents());
        if ready.is_ok() && !state.is_empty() {
            return;
        }
    }
}
