//! The starter of a detached process: the same program, executed again by the daemon. It starts the
//! process, says which one it is, and ends, so that the process is nobody's child.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Pid;
use sortie_exec::detach::{DetachOrder, DetachReport, DetachSocket};
use sortie_exec::sys::signals;
use sortie_exec::sys::spawn::{Launch, Lifetime, SpawnFailure, Spawner, Terminal};
use sortie_model::reason::SpawnStep;
use sortie_wire::guardian_proto::{NulList, Program};

use crate::script;
use crate::spawn::fork;

/// Starts what the daemon orders, and does not return, if this program was executed for that; else
/// returns at once.
pub(crate) fn run_if_asked() {
    let Some(socket) = DetachSocket::take_if_asked() else { return };
    let status = match work(socket) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    std::process::exit(status);
}

fn work(mut socket: DetachSocket) -> io::Result<()> {
    // What ends the daemon's session, or is typed at its terminal, must not end us half-way.
    let _ = rustix::process::setsid();
    let _signals = signals::take_over()?;
    let order = socket.order()?;
    socket.report(match start(&order) {
        Ok(pid) => {
            // Without it nobody knows whether the log's process runs, so that the log goes before
            // that of one that does. It is the last thing that a full disk is to stop.
            let _ = order.log.note(pid);
            DetachReport::Started { pid: pid.as_raw_nonzero().get().cast_unsigned() }
        }
        Err(SpawnFailure { step, errno }) => {
            DetachReport::Failed { step, errno: errno.raw_os_error() }
        }
    })
}

fn start(order: &DetachOrder) -> Result<Pid, SpawnFailure> {
    let words = words(order)?;
    let log = fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).map_err(fork)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open(c"/dev/null", flags, Mode::empty()).map_err(fork)?;
    let directory = CString::new(order.directory.as_bytes()).map_err(|_| fork(Errno::INVAL))?;
    let mut spawner = Spawner::default();
    if let Some(count) = order.descriptors {
        spawner.limit_descriptors(count);
    }
    spawner.spawn(&Launch {
        words: &words,
        environment: &order.environment,
        directory: &directory,
        stdio: [null.as_fd(), log.as_fd(), log.as_fd()],
        terminal: Terminal::None,
        group: None,
        lifetime: Lifetime::ItsOwn,
    })
}

fn words(order: &DetachOrder) -> Result<NulList, SpawnFailure> {
    match &order.program {
        Program::Command(words) => Ok(words.clone()),
        Program::Script { text, arguments } => {
            script::write_at(&order.log.script(), text, arguments).map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::NOEXEC);
                SpawnFailure { step: SpawnStep::Exec, errno }
            })
        }
    }
}
