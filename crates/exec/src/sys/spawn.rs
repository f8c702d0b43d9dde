//! Starting a program without a shell: own session, own process group, three descriptors, and a
//! controlling terminal where it is to have one.
#![expect(unsafe_code, reason = "the child's system calls are made between vfork and exec")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, getrlimit};
use sortie_model::reason::SpawnStep;
use sortie_wire::guardian_proto::NulList;

use super::processes::collect_one;
use super::vfork::ChildStack;

/// Where programs are looked up when the child's environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// With what a child exits that has executed nothing.
const NOT_EXECUTED: c_int = 127;

/// A program to start.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The program's name or path, then its arguments.
    pub words: &'a NulList,
    /// The whole environment.
    pub environment: &'a NulList,
    /// The working directory, entered before a relative program is looked up.
    pub directory: &'a CStr,
    /// What becomes descriptors 0, 1 and 2. Each must itself be greater than 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Whether descriptor 0 is a terminal that controls the child.
    pub terminal: Terminal,
    /// The control group in which the child begins.
    pub group: Option<BorrowedFd<'a>>,
    /// How long it may live.
    pub lifetime: Lifetime,
}

/// How long a program may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the *thread* that started it.
    Ours,
    /// As long as it likes.
    ItsOwn,
}

/// Whether a program has a controlling terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// It has none.
    None,
    /// Its descriptor 0, which must be a terminal that controls nobody yet.
    Controlling,
}

/// Why a program did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("could not start the program ({step}): {errno}")]
pub struct SpawnFailure {
    /// What was tried.
    pub step: SpawnStep,
    /// The operating system's error.
    pub errno: Errno,
}

/// Starts programs, one at a time.
///
/// The child sees no descriptor but its three, provided that every other one of ours closes on
/// exec. With [`Lifetime::Ours`] it dies with the *thread* that started it (`PR_SET_PDEATHSIG`):
/// use it from a thread that lives as long as its children may.
pub struct Spawner {
    stack: ChildStack,
    descriptors: Option<libc::rlimit>,
}

impl Default for Spawner {
    fn default() -> Self {
        Self { stack: ChildStack::new(), descriptors: None }
    }
}

impl Spawner {
    /// Limits the descriptors that each program started from now on may open, unless it asks for
    /// more. Our own limit stays.
    pub fn limit_descriptors(&mut self, count: u64) {
        let maximum = getrlimit(Resource::Nofile).maximum.unwrap_or(libc::RLIM_INFINITY);
        self.descriptors = Some(libc::rlimit { rlim_cur: count.min(maximum), rlim_max: maximum });
    }

    /// Starts a program and returns when it runs. The calling thread waits in the kernel until the
    /// program is loaded, so a hanging file system holds it up.
    ///
    /// # Errors
    /// [`SpawnFailure`] names the step that failed; no process is left then.
    pub fn spawn(&mut self, launch: &Launch<'_>) -> Result<Pid, SpawnFailure> {
        let candidates = candidates(launch.words, launch.environment);
        let candidate_pointers = pointers(candidates.iter().map(|path| path.as_ptr()));
        let words = pointers(item_pointers(launch.words));
        let environment = pointers(item_pointers(launch.environment));
        let mut plan = ChildPlan {
            candidates: candidate_pointers.as_ptr(),
            words: words.as_ptr(),
            environment: environment.as_ptr(),
            directory: launch.directory.as_ptr(),
            stdio: launch.stdio.map(|descriptor| descriptor.as_raw_fd()),
            descriptors: self.descriptors,
            terminal: launch.terminal,
            lifetime: launch.lifetime,
            failure: None,
        };
        let pid = self.run(&mut plan, launch.group)?;
        match plan.failure {
            None => Ok(pid),
            Some(failure) => {
                // It has ended; if it is not collected here nobody would.
                collect_one(pid);
                Err(failure)
            }
        }
    }

    /// Whether a child can begin, and live, in that control group.
    pub fn can_enter(&mut self, group: BorrowedFd<'_>) -> bool {
        // A plan without candidates ends before it executes anything.
        let none: [*const c_char; 1] = [ptr::null()];
        let mut plan = ChildPlan {
            candidates: none.as_ptr(),
            words: none.as_ptr(),
            environment: none.as_ptr(),
            directory: c"/".as_ptr(),
            stdio: [-1; 3],
            descriptors: None,
            terminal: Terminal::None,
            lifetime: Lifetime::Ours,
            failure: None,
        };
        let Ok(pid) = self.run(&mut plan, Some(group)) else { return false };
        // A kernel that kills newcomers of the group (see `GroupDirectory`) leaves no status.
        collect_one(pid) == Some(NOT_EXECUTED)
    }

    fn run(
        &mut self,
        plan: &mut ChildPlan,
        group: Option<BorrowedFd<'_>>,
    ) -> Result<Pid, SpawnFailure> {
        let plan: *mut ChildPlan = plan;
        // SAFETY: `run_child` makes only system calls; the plan outlives the call, and with it all
        // it points to; a guardian has no signal handlers.
        unsafe { self.stack.run(run_child, plan.cast(), group) }
            .map_err(|errno| SpawnFailure { step: SpawnStep::Fork, errno })
    }
}

/// Everything the child needs, laid out before it exists.
struct ChildPlan {
    candidates: *const *const c_char,
    words: *const *const c_char,
    environment: *const *const c_char,
    directory: *const c_char,
    stdio: [c_int; 3],
    descriptors: Option<libc::rlimit>,
    terminal: Terminal,
    lifetime: Lifetime,
    /// Written by the child, read by us once it runs or has ended.
    failure: Option<SpawnFailure>,
}

/// The child, from its first instruction to its program.
unsafe extern "C" fn run_child(plan: *mut c_void) -> ! {
    let plan: *mut ChildPlan = plan.cast();
    // SAFETY: the caller is suspended and keeps the plan valid; only system calls follow.
    unsafe {
        let failure = match enter(&*plan) {
            Ok(()) => execute(&*plan),
            Err(failure) => failure,
        };
        (*plan).failure = Some(failure);
        libc::_exit(NOT_EXECUTED)
    }
}

unsafe fn enter(plan: &ChildPlan) -> Result<(), SpawnFailure> {
    let fork = |errno| SpawnFailure { step: SpawnStep::Fork, errno };
    // SAFETY: system calls on values of the plan, whose strings end in NUL.
    unsafe {
        if libc::setsid() < 0 {
            return Err(fork(errno()));
        }
        if plan.lifetime == Lifetime::Ours {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        if let Some(limit) = &plan.descriptors {
            // Lowering a limit cannot fail.
            libc::setrlimit(libc::RLIMIT_NOFILE, limit);
        }
        let [input, output, error] = plan.stdio;
        if libc::dup2(input, 0) < 0 || libc::dup2(output, 1) < 0 || libc::dup2(error, 2) < 0 {
            return Err(fork(errno()));
        }
        if plan.terminal == Terminal::Controlling && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            return Err(fork(errno()));
        }
        if libc::chdir(plan.directory) < 0 {
            return Err(SpawnFailure { step: SpawnStep::Chdir, errno: errno() });
        }
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
    Ok(())
}

/// Tries each candidate as `execvp` does, and returns the error it would.
unsafe fn execute(plan: &ChildPlan) -> SpawnFailure {
    let mut failure = SpawnFailure { step: SpawnStep::Exec, errno: Errno::NOENT };
    let mut candidate = plan.candidates;
    // SAFETY: the three vectors end in a null pointer and their strings in NUL.
    unsafe {
        while !(*candidate).is_null() {
            libc::execve(*candidate, plan.words, plan.environment);
            match errno() {
                Errno::ACCESS => failure.errno = Errno::ACCESS,
                Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
                errno => return SpawnFailure { step: SpawnStep::Exec, errno },
            }
            candidate = candidate.add(1);
        }
    }
    failure
}

unsafe fn errno() -> Errno {
    // SAFETY: the C library gives a valid address; the thread that owns it is suspended.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// The paths that the program's name may stand for, in order.
fn candidates(words: &NulList, environment: &NulList) -> Vec<CString> {
    let program = words.iter().next().unwrap_or_default();
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains(&b'/') {
        return CString::new(program).into_iter().collect();
    }
    let path = environment.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
    path.unwrap_or(DEFAULT_PATH)
        .split(|byte| *byte == b':')
        .filter_map(|directory| {
            // An empty entry means the working directory.
            let directory = if directory.is_empty() { b"." } else { directory };
            let mut candidate = Vec::with_capacity(directory.len() + program.len() + 2);
            candidate.extend_from_slice(directory);
            candidate.push(b'/');
            candidate.extend_from_slice(program);
            CString::new(candidate).ok()
        })
        .collect()
}

/// Addresses of the list's items; the list ends each in NUL.
fn item_pointers(list: &NulList) -> impl Iterator<Item = *const c_char> {
    list.iter().map(|item| item.as_ptr().cast())
}

fn pointers(items: impl Iterator<Item = *const c_char>) -> Vec<*const c_char> {
    items.chain([ptr::null()]).collect()
}
