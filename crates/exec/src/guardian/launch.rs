//! Executing the program again as its guardian.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, pidfd_send_signal, setrlimit,
};
use sortie_model::limits;
use sortie_wire::guardian_proto::{
    Containment, ContainmentChoice, GUARDIAN_VERSION, GuardianReport, GuardianRequest,
};
use tokio::sync::{oneshot, watch};

use super::Handle;
use super::link::Link;
use crate::error::LaunchError;
use crate::sys::control_group;

/// The environment variable that marks a guardian; its value is the daemon's process id.
pub const GUARDIAN_VARIABLE: &str = "SORTIE_GUARDIAN";

/// The stack of the thread that waits for the guardian's end.
const WAITER_STACK_BYTES: usize = 128 << 10;
/// Attempts to clear what a guardian that was killed left behind, and the pause between them.
const CLEAR_ATTEMPTS: u32 = 500;
const CLEAR_PAUSE: Duration = Duration::from_millis(10);

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Notes that this program becomes a guardian when it is executed as one.
pub fn initialise() {
    INITIALISED.store(true, Ordering::Relaxed);
}

/// Whether [`initialise`] was called.
pub fn is_initialised() -> bool {
    INITIALISED.load(Ordering::Relaxed)
}

/// How to launch a guardian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchOptions {
    /// How it contains its children. Default: as well as it can.
    pub containment: ContainmentChoice,
    /// Which program becomes the guardian. Default: this one. Another must begin its `main` with
    /// `sortie::init()` and be of the same version.
    pub program: Option<PathBuf>,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self { containment: ContainmentChoice::Best, program: None }
    }
}

pub(super) async fn launch(options: LaunchOptions) -> Result<Handle, LaunchError> {
    if options.program.is_none() && !is_initialised() {
        // A program that does not become a guardian when asked would run its own main again, which
        // would launch a guardian, and so on without end.
        return Err(match std::env::var_os(GUARDIAN_VARIABLE) {
            Some(_) => LaunchError::Nested,
            None => LaunchError::NotInitialised,
        });
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| LaunchError::Socket(errno.into()))?;
    let (path_sender, path_receiver) = std::sync::mpsc::sync_channel(1);
    let program = options.program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let (helper, gone) = execute(program, theirs, path_receiver).await?;
    let (link, mut hello) = Link::start(ours).map_err(LaunchError::Socket)?;
    let link = Unused(Some(link));
    link.post(&GuardianRequest::Start {
        version: GUARDIAN_VERSION,
        containment: options.containment,
        descriptors: raise_descriptor_limit(),
    });
    let answer = tokio::time::timeout(limits::GUARDIAN_HELLO, &mut hello).await;
    let Ok(Ok(GuardianReport::Hello { version, containment, .. })) = answer else {
        let _ = pidfd_send_signal(helper, Signal::KILL);
        return Err(LaunchError::NoAnswer);
    };
    if version != GUARDIAN_VERSION {
        return Err(LaunchError::Version { ours: GUARDIAN_VERSION, theirs: version });
    }
    if let Containment::ControlGroup { directory } = &containment {
        // The receiver is gone only if the guardian has ended already.
        let _ = path_sender.send(directory.as_bytes().to_vec());
    }
    let link = link.used().ok_or(LaunchError::NoAnswer)?;
    Ok(Handle { link, containment, gone })
}

/// Shuts the link down if the launch does not come to its end.
struct Unused(Option<Arc<Link>>);

impl Unused {
    fn post(&self, request: &GuardianRequest) {
        if let Some(link) = &self.0 {
            link.post(request);
        }
    }

    fn used(mut self) -> Option<Arc<Link>> {
        self.0.take()
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.shut_down();
        }
    }
}

/// Lets this process open as many descriptors as it may: two or three for each running child.
/// Returns the limit as it was when this was first called, which is what children are to get.
fn raise_descriptor_limit() -> Option<u64> {
    static FOUND: OnceLock<Option<u64>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = getrlimit(Resource::Nofile);
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum });
        found.current
    })
}

/// Starts the helper from a thread that lives as long as the helper does: the helper is told when
/// the *thread* that made it ends, and somebody has to collect it.
async fn execute(
    program: PathBuf,
    socket: OwnedFd,
    group_directory: std::sync::mpsc::Receiver<Vec<u8>>,
) -> Result<(OwnedFd, watch::Receiver<()>), LaunchError> {
    let (sender, receiver) = oneshot::channel();
    let (life, gone) = watch::channel(());
    let waiter = move || {
        let _life = life;
        let child = Command::new(program)
            .arg0("sortie-guardian")
            .env(GUARDIAN_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        let held = Pid::from_raw(child.id().cast_signed())
            .ok_or(io::ErrorKind::NotFound.into())
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from));
        let _ = sender.send(held);
        // Fails only for a process that somebody else has collected.
        let _ = child.wait();
        if let Ok(directory) = group_directory.try_recv() {
            clear(directory);
        }
    };
    std::thread::Builder::new()
        .name("sortie-guardian".to_owned())
        .stack_size(WAITER_STACK_BYTES)
        .spawn(waiter)
        .map_err(LaunchError::Execute)?;
    match receiver.await {
        Ok(result) => result.map(|held| (held, gone)).map_err(LaunchError::Execute),
        Err(_) => Err(LaunchError::NoAnswer),
    }
}

/// Kills what a guardian that was itself killed left in its control group.
fn clear(directory: Vec<u8>) {
    use std::os::unix::ffi::OsStringExt;
    let path = PathBuf::from(std::ffi::OsString::from_vec(directory));
    for _ in 0..CLEAR_ATTEMPTS {
        if control_group::clear(&path) {
            return;
        }
        std::thread::sleep(CLEAR_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::Guardian;

    #[tokio::test]
    async fn a_program_that_does_not_begin_as_it_must_is_told_so_at_once() {
        let error = Guardian::launch(LaunchOptions::default()).await.expect_err("no init");
        assert!(matches!(error, LaunchError::NotInitialised));
        assert!(error.to_string().contains("`sortie::init()`"));
    }

    #[tokio::test]
    async fn a_program_that_is_no_guardian_does_not_answer() {
        let program = Some(PathBuf::from("/bin/true"));
        let options = LaunchOptions { program, ..LaunchOptions::default() };
        let error = Guardian::launch(options).await.expect_err("no guardian");
        assert!(matches!(error, LaunchError::NoAnswer));
        let program = Some(PathBuf::from("/no/such/program"));
        let options = LaunchOptions { program, ..LaunchOptions::default() };
        let error = Guardian::launch(options).await.expect_err("no program");
        assert!(matches!(error, LaunchError::Execute(_)));
    }
}
