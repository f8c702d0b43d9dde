//! Processes below us: collecting them, signalling them, setting ourselves up to adopt them.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getrlimit, pidfd_open,
    pidfd_send_signal, setrlimit, wait, waitpid,
};
use sortie_model::facts::ProcessEnd;

/// Waits for one process of ours to end and collects it. Returns its status if it exited by itself.
pub(super) fn collect_one(pid: Pid) -> Option<i32> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => return status.exit_status(),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Collects one process that has ended, child or adopted, if there is one. Its id is free from then
/// on.
pub fn collect() -> Option<(Pid, ProcessEnd)> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(Errno::INTR) => {}
            Ok(Some((pid, status))) => {
                let core_dumped = status.as_raw() & 0x80 != 0;
                let end = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ProcessEnd::Exited { code },
                    (None, Some(number)) => ProcessEnd::Signalled { number, core_dumped },
                    (None, None) => continue,
                };
                return Some((pid, end));
            }
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The signal with that number, if the system has it: a named one or a real-time one.
#[expect(unsafe_code, reason = "the only way to a real-time signal's number")]
pub fn signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number).or_else(|| {
        let real_time = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
        // SAFETY: the number is that of a signal which the C library leaves to programs.
        real_time.then(|| unsafe { Signal::from_raw_unchecked(number) })
    })
}

/// Signals a process that we have not collected yet, so that its id is still its own.
pub fn signal_own_child(pid: Pid, signal: Signal) {
    // It may have ended meanwhile; then there is nobody to tell.
    let _ = rustix::process::kill_process(pid, signal);
}

/// A process held in a way that no other process can take its place.
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Held {
    /// Holds the process that has this id now, if there is one. Whether it is the one that was
    /// meant must be checked afterwards: then the answer stays true.
    pub fn open(pid: Pid) -> Option<Self> {
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Signals it; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.0, signal);
    }
}

/// Whether this process has a thread besides the one that asks.
pub fn has_other_threads() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1)
}

/// Takes over the socket that lies on descriptor 0, and closes every other descriptor above 2, also
/// those that a careless part of the daemon let us inherit. None when descriptor 0 is no Unix
/// socket. To be called first in `main`.
#[expect(unsafe_code, reason = "descriptors are closed that no value of ours owns")]
pub fn take_socket() -> Option<OwnedFd> {
    let input = rustix::stdio::stdin();
    if rustix::net::sockopt::socket_domain(input) != Ok(AddressFamily::UNIX) {
        return None;
    }
    // SAFETY: at the beginning of `main` nothing owns a descriptor above 2.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    take_channel()
}

/// Takes over the socket that lies on descriptor 0, as a worker process finds it. None when
/// descriptor 0 is no Unix socket. To be called first in `main`.
pub fn take_channel() -> Option<OwnedFd> {
    let input = rustix::stdio::stdin();
    if rustix::net::sockopt::socket_domain(input) != Ok(AddressFamily::UNIX) {
        return None;
    }
    let socket = rustix::io::fcntl_dupfd_cloexec(input, 3).ok()?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open(c"/dev/null", flags, Mode::empty()).ok()?;
    rustix::stdio::dup2_stdin(&null).ok()?;
    Some(socket)
}

/// Lets this process open as many descriptors as it may: several for each kept child.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused by nobody: the hard limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The process id of our parent, 1 or another adopter's when it has ended.
pub fn parent() -> Option<u32> {
    rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned())
}

/// Makes this process what orphans below it are given to, in a session of its own, told by
/// `SIGTERM` when the thread that made it ends, and called `sortie-guardian`.
///
/// # Errors
/// When the system refuses to make it adopt orphans.
pub fn become_guardian() -> Result<(), Errno> {
    // Fails only for the leader of a process group, which then cannot get the terminal's signals
    // anyway because all are blocked.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    let _ = rustix::thread::set_name(c"sortie-guardian");
    Ok(())
}
