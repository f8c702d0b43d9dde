//! Signals of a helper process: all blocked, the few that matter read from a descriptor.
#![expect(unsafe_code, reason = "signal sets and signalfd exist only in the C library")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;

/// The kernel's signals are numbered from 1 to this.
const HIGHEST_SIGNAL: i32 = 64;
/// The size of the kernel's set of signals.
const MASK_BYTES: usize = 8;

/// What the descriptor told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrived {
    /// A child changed its state.
    pub child: bool,
    /// Somebody asked us to end.
    pub terminate: bool,
}

/// Reads `SIGCHLD` and `SIGTERM` as data.
#[derive(Debug)]
pub struct SignalReader(OwnedFd);

/// Blocks every signal in this thread, sets every disposition to its default, so that children
/// inherit neither, and returns where `SIGCHLD` and `SIGTERM` can be read.
///
/// # Errors
/// When the system gives no descriptor.
pub fn take_over() -> io::Result<SignalReader> {
    // The kernel's `struct sigaction`, which has less than 64 bytes on every machine: all zero is
    // the default disposition.
    let default = [0u64; 8];
    // SAFETY: plain calls of the C library on sets that are initialised first. No handler of ours
    // is replaced while it runs: they run nowhere but in this thread.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        for number in 1..=HIGHEST_SIGNAL {
            // The C library refuses to touch the two signals that it keeps for itself, which we may
            // have inherited as ignored. KILL and STOP refuse, and have no other disposition.
            libc::syscall(libc::SYS_rt_sigaction, number, &default, ptr::null::<u8>(), MASK_BYTES);
        }
        let mut ours = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(ours.as_mut_ptr());
        libc::sigaddset(ours.as_mut_ptr(), libc::SIGCHLD);
        libc::sigaddset(ours.as_mut_ptr(), libc::SIGTERM);
        let descriptor = libc::signalfd(-1, ours.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(SignalReader(OwnedFd::from_raw_fd(descriptor)))
    }
}

impl SignalReader {
    /// What arrived since the last call. Does not wait.
    pub fn read(&self) -> Arrived {
        const ENTRY_BYTES: usize = size_of::<libc::signalfd_siginfo>();
        let mut arrived = Arrived::default();
        let mut buffer = [0; ENTRY_BYTES * 2];
        loop {
            let length = match rustix::io::read(&self.0, &mut buffer) {
                Ok(length) => length,
                Err(Errno::INTR) => continue,
                Err(_) => return arrived,
            };
            for entry in
                buffer.iter().as_slice().chunks_exact(ENTRY_BYTES).take(length / ENTRY_BYTES)
            {
                // The signal's number is the entry's first field.
                match entry.first_chunk().map(|number| i32::from_ne_bytes(*number)) {
                    Some(libc::SIGCHLD) => arrived.child = true,
                    Some(libc::SIGTERM) => arrived.terminate = true,
                    _ => {}
                }
            }
        }
    }
}

impl AsFd for SignalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
