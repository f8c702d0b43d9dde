//! Executing the program again as its guardian.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, pidfd_send_signal, setrlimit,
};
use sortie_model::limits;
use sortie_model::spec::OsBytes;
use sortie_store::disk::SystemDisk;
use sortie_store::segment::OutputDirectory;
use sortie_wire::guardian_proto::{
    Containment, ContainmentChoice, GUARDIAN_VERSION, GUARDIAN_VERSION_OLDEST, GuardianReport,
    GuardianRequest, Refusal,
};
use tokio::sync::{oneshot, watch};

use super::link::Link;
use super::remains::{self, WAITER_STACK_BYTES};
use super::{Handle, adopt};
use crate::error::LaunchError;

/// The environment variable that marks a guardian; its value is the daemon's process id.
pub const GUARDIAN_VARIABLE: &str = "SORTIE_GUARDIAN";

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
    /// Where it keeps children that outlive this process, whose guardian the next launch with this
    /// directory goes on with. Default: none, and no child can be kept.
    pub keep: Option<PathBuf>,
}

impl Default for LaunchOptions {
    fn default() -> Self {
        Self { containment: ContainmentChoice::Best, program: None, keep: None }
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
    match &options.keep {
        None => launch_new(&options, None).await,
        Some(directory) => adopt::launch_in(&options, directory).await,
    }
}

/// Executes the program as a new guardian.
pub(super) async fn launch_new(
    options: &LaunchOptions,
    keep: Option<&Path>,
) -> Result<Handle, LaunchError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| LaunchError::Socket(errno.into()))?;
    let (containment_sender, containment_receiver) = std::sync::mpsc::sync_channel(1);
    let program = options.program.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let (helper, gone) = execute(program, theirs, containment_receiver).await?;
    let opening = open(ours, options, keep).await;
    if matches!(opening, Err(LaunchError::NoAnswer)) {
        let _ = pidfd_send_signal(helper, Signal::KILL);
    }
    let opening = opening?;
    // The receiver is gone only if the guardian has ended already.
    let _ = containment_sender.send(opening.containment.clone());
    Ok(opening.handle(gone))
}

/// A guardian that serves us.
pub(super) struct Opening {
    pub(super) link: Arc<Link>,
    pub(super) pid: u32,
    pub(super) containment: Containment,
    pub(super) output: Option<OutputDirectory>,
}

impl Opening {
    /// The handle of it; `gone` is closed when nothing is left of the guardian.
    pub(super) fn handle(self, gone: watch::Receiver<()>) -> Handle {
        let Self { link, pid, containment, output } = self;
        let (wait_for_room, room) = Default::default();
        Handle { link, pid, containment, output, gone, wait_for_room, room }
    }
}

/// The first words with a guardian.
pub(super) async fn open(
    socket: OwnedFd,
    options: &LaunchOptions,
    keep: Option<&Path>,
) -> Result<Opening, LaunchError> {
    let (link, mut hello) = Link::start(socket).map_err(LaunchError::Socket)?;
    let link = Unused(Some(link));
    let directory = keep.map(|path| OsBytes::try_from(Bytes::copy_from_slice(path_bytes(path))));
    link.post(&GuardianRequest::Start {
        min: GUARDIAN_VERSION_OLDEST,
        max: GUARDIAN_VERSION,
        containment: options.containment,
        descriptors: raise_descriptor_limit(),
        // A path that was used has no NUL byte.
        keep: directory.and_then(Result::ok),
    });
    let patience = match keep {
        None => limits::GUARDIAN_HELLO,
        // It may have to kill first what a dead one left.
        Some(_) => limits::GUARDIAN_HELLO + limits::GUARDIAN_END,
    };
    let answer = tokio::time::timeout(patience, &mut hello).await;
    let (min, max, pid, containment, next) = match answer {
        Ok(Ok(GuardianReport::Hello { min, max, pid, containment, next })) => {
            (min, max, pid, containment, next)
        }
        Ok(Ok(GuardianReport::Refused { why })) => {
            return Err(refused(why, keep.unwrap_or(Path::new("/"))));
        }
        _ => return Err(LaunchError::NoAnswer),
    };
    if min > GUARDIAN_VERSION || max < GUARDIAN_VERSION_OLDEST {
        return Err(LaunchError::Version { ours: GUARDIAN_VERSION, theirs: max });
    }
    let link = link.used().ok_or(LaunchError::NoAnswer)?;
    link.greeted(next, max.min(GUARDIAN_VERSION));
    let output = keep
        .map(|path| OutputDirectory::new(Arc::new(SystemDisk), &path.join(crate::keep::OUTPUT)));
    Ok(Opening { link, pid, containment, output })
}

fn refused(why: Refusal, directory: &Path) -> LaunchError {
    let directory = directory.to_owned();
    match why {
        Refusal::Busy { daemon } => LaunchError::InUse { directory, daemon },
        Refusal::Locked => LaunchError::Locked { directory },
        Refusal::Directory { errno } => {
            LaunchError::Keep { directory, source: io::Error::from_raw_os_error(errno) }
        }
    }
}

fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
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
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
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
    containment: std::sync::mpsc::Receiver<Containment>,
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
        let pid = Pid::from_raw(child.id().cast_signed());
        let held = pid
            .ok_or(io::ErrorKind::NotFound.into())
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from));
        let _ = sender.send(held);
        // Fails only for a process that somebody else has collected.
        let _ = child.wait();
        if let (Ok(containment), Some(pid)) = (containment.try_recv(), pid) {
            remains::clear(pid, containment);
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
