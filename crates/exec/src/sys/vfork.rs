//! A child that shares our memory until it executes its program.
//!
//! `fork` would copy our page tables and then fault on every page we touch. `clone3` with
//! `CLONE_VM | CLONE_VFORK` copies nothing: the kernel suspends the calling thread until the child
//! has executed its program or ended. Unlike the C library's `posix_spawn`, it can put the child
//! into a control group from its first instruction on.
//!
//! The child runs on a stack of its own, so that it cannot overwrite the frames to which the
//! suspended caller returns.
#![expect(unsafe_code, reason = "a child that shares our memory is made by hand")]

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::Pid;

/// What the child runs. It must only make system calls that are safe between `vfork` and `exec`:
/// no allocation, no lock, no panic.
pub(super) type ChildEntry = unsafe extern "C" fn(*mut c_void) -> !;

const STACK_BYTES: usize = 64 << 10;
/// The largest alignment that a supported machine wants of a stack pointer.
const STACK_ALIGNMENT: usize = 16;

/// `CLONE_INTO_CGROUP` of `linux/sched.h`; wider than the C library's flag type.
const INTO_CONTROL_GROUP: u64 = 1 << 33;

/// `struct clone_args` of `linux/sched.h`, version 2: the first that has `cgroup`.
#[derive(Default)]
#[repr(C, align(8))]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A stack on which one child at a time can run.
pub(super) struct ChildStack {
    words: Vec<u128>,
}

impl ChildStack {
    pub(super) fn new() -> Self {
        Self { words: vec![0; STACK_BYTES / STACK_ALIGNMENT] }
    }

    /// Runs `entry(argument)` in a new child and returns its process id once the child has executed
    /// a program or ended. The child is in `group` from the start.
    ///
    /// # Safety
    /// `entry` must keep the promise of [`ChildEntry`], and `argument` be valid for it. All signals
    /// that have handlers must be blocked in the calling thread: a handler would run in the child
    /// with our memory.
    pub(super) unsafe fn run(
        &mut self,
        entry: ChildEntry,
        argument: *mut c_void,
        group: Option<BorrowedFd<'_>>,
    ) -> Result<Pid, Errno> {
        // SAFETY: the promise of our caller.
        match unsafe { self.clone3(entry, argument, group) } {
            Err(Errno::NOSYS) if group.is_none() => {
                // SAFETY: the promise of our caller.
                unsafe { self.clone_by_library(entry, argument) }
            }
            result => result,
        }
    }

    unsafe fn clone3(
        &mut self,
        entry: ChildEntry,
        argument: *mut c_void,
        group: Option<BorrowedFd<'_>>,
    ) -> Result<Pid, Errno> {
        let mut arguments = CloneArguments {
            flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: self.words.as_mut_ptr() as u64,
            stack_size: size_of_val(self.words.as_slice()) as u64,
            ..CloneArguments::default()
        };
        if let Some(group) = group {
            arguments.flags |= INTO_CONTROL_GROUP;
            arguments.cgroup = group.as_raw_fd() as u64;
        }
        // SAFETY: the arguments name a stack that is ours and unused; the rest is our caller's
        // promise.
        let result = unsafe { clone3_and_call(&mut arguments, entry, argument) };
        pid_of(result)
    }

    unsafe fn clone_by_library(
        &mut self,
        entry: ChildEntry,
        argument: *mut c_void,
    ) -> Result<Pid, Errno> {
        let top = self.words.as_mut_ptr_range().end;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: a function that never returns can stand for one that returns a status.
        let entry: extern "C" fn(*mut c_void) -> i32 = unsafe { std::mem::transmute(entry) };
        // SAFETY: the stack is ours and unused; the rest is our caller's promise.
        let result = unsafe { libc::clone(entry, top.cast(), flags, argument) };
        if result >= 0 { pid_of(result as isize) } else { Err(last_error()) }
    }
}

fn pid_of(result: isize) -> Result<Pid, Errno> {
    let number = i32::try_from(result).map_err(|_| Errno::INVAL)?;
    match Pid::from_raw(number) {
        Some(pid) if number > 0 => Ok(pid),
        Some(_) => Err(Errno::from_raw_os_error(-number)),
        // Only the child gets 0, and it does not come here.
        None => Err(Errno::INVAL),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// The system call, then, in the child, the call of `entry` on the new stack. Both happen in one
/// block because a function that returned in the child would return on the wrong stack.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_and_call(
    arguments: &mut CloneArguments,
    entry: ChildEntry,
    argument: *mut c_void,
) -> isize {
    let result: isize;
    // SAFETY: the kernel keeps every register but rax, rcx and r11. The child never leaves the
    // block: `entry` does not return.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jne 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_mut(arguments),
            in("rsi") size_of::<CloneArguments>(),
            in("r12") argument,
            in("r13") entry,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// See the version for `x86_64`.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3_and_call(
    arguments: &mut CloneArguments,
    entry: ChildEntry,
    argument: *mut c_void,
) -> isize {
    let result: isize;
    // SAFETY: the kernel keeps every register but x0. The child never leaves the block: `entry`
    // does not return.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            inlateout("x0") std::ptr::from_mut(arguments) as isize => result,
            in("x1") size_of::<CloneArguments>(),
            in("x8") libc::SYS_clone3,
            in("x20") argument,
            in("x21") entry,
            // Only the child calls, but the compiler must not keep a value in the link register.
            out("x30") _,
        );
    }
    result
}

/// Other machines use the C library's `clone`, and parentage instead of control groups.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3_and_call(
    _arguments: &mut CloneArguments,
    _entry: ChildEntry,
    _argument: *mut c_void,
) -> isize {
    -(libc::ENOSYS as isize)
}
