//! Detached processes (`docs/semantics.md`, section 3.8): what the daemon does to start one.
//!
//! The daemon executes its own program again with [`DETACH_ARGUMENT`] and a socket as its standard
//! input. That *starter* (`sortie_guardian`) starts the program, says which process it is, and
//! ends: so the process is nobody's child, and the end of the daemon or of its guardian is nothing
//! to it.

mod folder;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sortie_model::limits;
use sortie_model::reason::SpawnStep;
use sortie_model::spec::OsBytes;
use sortie_wire::codec;
use sortie_wire::guardian_proto::{NulList, Program};

pub use folder::{DetachFolder, DetachLog};

use crate::error::SpawnError;
use crate::guardian::{is_initialised, raise_descriptor_limit};
use crate::sys::processes;

/// The one argument of a starter.
pub const DETACH_ARGUMENT: &str = "--sortie-detach";
/// Both ends are one program, and say nothing else: their words have no kinds.
const NO_KIND: u16 = 0;

/// What a starter is to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachOrder {
    /// What the process executes.
    pub program: Program,
    /// Its whole environment.
    pub environment: NulList,
    /// Its working directory.
    pub directory: OsBytes,
    /// Its log, which the starter has as its standard output. Beside it a script is written, and
    /// which process it is.
    pub log: DetachLog,
    /// How many descriptors it may open, unless it asks for more; none leaves the limit as it is.
    pub descriptors: Option<u64>,
}

/// What a starter says, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DetachReport {
    /// The process with that id runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// It could not be started.
    Failed {
        /// What was tried.
        step: SpawnStep,
        /// The operating system's error number.
        errno: i32,
    },
}

/// Why no process was detached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetachError {
    /// The program cannot become its own starter.
    #[error("this program cannot run processes: the first line of its `main` must be `init()`")]
    NotInitialised,
    /// The process could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The starter could not be executed.
    #[error("could not execute the program again to start the process")]
    Execute(#[source] io::Error),
    /// It was killed, and did not say what became of the process: that may have begun.
    #[error("what starts the process ended without saying what became of it")]
    Silent,
    /// It did not come to an end in time: the process may begin yet.
    #[error(
        "the process did not start within {} s: the system may still be loading its program",
        limits::DETACH_TIME.as_secs()
    )]
    TooLate,
}

impl DetachError {
    /// Whether the process may run all the same, now or a while later.
    pub const fn may_run(&self) -> bool {
        matches!(self, Self::Silent | Self::TooLate)
    }
}

/// Starts a process that belongs to nobody, with a log that was just made, and returns its id once
/// its program runs. Blocks, for [`limits::DETACH_TIME`] at most.
///
/// # Errors
/// [`DetachError`]; [`DetachError::may_run`] says whether there may be a process.
pub fn detach(mut order: DetachOrder, log: File) -> Result<u32, DetachError> {
    if !is_initialised() {
        // Its main would run once more, and perhaps detach the same again.
        return Err(DetachError::NotInitialised);
    }
    order.descriptors = raise_descriptor_limit();
    let too_large = || DetachError::Spawn(SpawnError::TOO_LARGE);
    let order = codec::encode(&order).map_err(|_| too_large())?;
    let until = Instant::now() + limits::DETACH_TIME;
    let (socket, theirs) = UnixStream::pair().map_err(DetachError::Execute)?;
    let mut starter = Starter(execute(theirs, log).map_err(DetachError::Execute)?);
    let report = converse(socket, &order, until);
    if report.is_err() {
        // One that waits in the kernel for the program's file heeds only this.
        let _ = starter.0.kill();
    }
    drop(starter);
    outcome(report)
}

/// What a starter's report says, or its absence.
fn outcome(report: io::Result<Vec<u8>>) -> Result<u32, DetachError> {
    match report.map(|report| codec::decode(NO_KIND, &report)) {
        Ok(Ok(DetachReport::Started { pid })) => Ok(pid),
        Ok(Ok(DetachReport::Failed { step, errno })) => Err(SpawnError { step, errno }.into()),
        Err(error) if is_late(&error) => Err(DetachError::TooLate),
        Ok(Err(_)) | Err(_) => Err(DetachError::Silent),
    }
}

/// Collected whatever happens: nobody else would.
struct Starter(Child);

impl Drop for Starter {
    fn drop(&mut self) {
        // Fails only for a process that somebody else has collected.
        let _ = self.0.wait();
    }
}

fn execute(socket: UnixStream, log: File) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("sortie-detach")
        .arg(DETACH_ARGUMENT)
        // Nothing of ours: a mark would have it killed with somebody else's processes.
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
}

/// Says what is to be done, and hears what became of it.
fn converse(mut socket: UnixStream, order: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    let mut rest = order;
    while !rest.is_empty() {
        socket.set_write_timeout(Some(left(until)?))?;
        match socket.write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    socket.shutdown(Shutdown::Write)?;
    let (mut report, mut buffer) = (Vec::new(), [0; REPORT_BYTES]);
    loop {
        socket.set_read_timeout(Some(left(until)?))?;
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(report),
            Ok(length) if report.len() < REPORT_BYTES => {
                report.extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
            // It is no starter.
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// More than a report has.
const REPORT_BYTES: usize = 64;

fn left(until: Instant) -> io::Result<std::time::Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// The other end of the socket, in a starter.
#[derive(Debug)]
pub struct DetachSocket(UnixStream);

impl DetachSocket {
    /// What this program was executed to start, if it was; else none. To be called at the beginning
    /// of `main`: every descriptor but the standard ones is closed then.
    pub fn take_if_asked() -> Option<Self> {
        if std::env::args_os().nth(1).is_none_or(|argument| argument != DETACH_ARGUMENT) {
            return None;
        }
        Some(Self(processes::take_socket()?.into()))
    }

    /// Reads the order.
    ///
    /// # Errors
    /// When the daemon is gone, or says something else.
    pub fn order(&mut self) -> io::Result<DetachOrder> {
        let mut order = Vec::new();
        Read::by_ref(&mut self.0).take(limits::FRAME_BYTES as u64).read_to_end(&mut order)?;
        codec::decode(NO_KIND, &order).map_err(io::Error::other)
    }

    /// Says what became of it.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn report(mut self, report: DetachReport) -> io::Result<()> {
        let bytes = codec::encode(&report).map_err(io::Error::other)?;
        self.0.write_all(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_begin_as_it_must_starts_nothing_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = DetachFolder::prepare(directory.path()).expect("ours");
        let (log, file) = folder.make("1").expect("made");
        let word = OsBytes::try_from("/").expect("no NUL");
        let order = DetachOrder {
            program: Program::Command(NulList::of_words([&word])),
            environment: NulList::of_words([]),
            directory: word,
            log,
            descriptors: None,
        };
        assert!(matches!(detach(order, file), Err(DetachError::NotInitialised)));
    }

    #[test]
    fn a_starter_that_says_nothing_is_waited_for_until_its_time_is_over() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let error = converse(ours, b"order", Instant::now()).expect_err("too late");
        assert!(is_late(&error), "{error}");
        drop(theirs);
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(&[0; 3 * REPORT_BYTES]).expect("room");
        let until = Instant::now() + limits::DETACH_TIME;
        let error = converse(ours, b"order", until).expect_err("too much");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_process_may_run_unless_its_starter_says_that_it_does_not() {
        let until = Instant::now() + limits::DETACH_TIME;
        // Killed before it has read the order, and after that.
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        drop(theirs);
        let before = outcome(converse(ours, b"order", until)).expect_err("nobody is there");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let starter = std::thread::spawn(move || {
            let mut order = Vec::new();
            theirs.read_to_end(&mut order).map(|_| order)
        });
        let after = outcome(converse(ours, b"order", until)).expect_err("it says nothing");
        assert_eq!(starter.join().expect("it ends").expect("it reads"), b"order");
        for error in [before, after] {
            assert!(matches!(error, DetachError::Silent) && error.may_run(), "{error}");
        }
        let late = outcome(Err(io::ErrorKind::TimedOut.into())).expect_err("late");
        assert!(matches!(late, DetachError::TooLate) && late.may_run(), "{late}");
        let failed = DetachReport::Failed { step: SpawnStep::Exec, errno: 2 };
        let failed = outcome(Ok(codec::encode(&failed).expect("short"))).expect_err("it failed");
        assert!(matches!(failed, DetachError::Spawn(_)) && !failed.may_run(), "{failed}");
        let started = DetachReport::Started { pid: 7 };
        let started = outcome(Ok(codec::encode(&started).expect("short")));
        assert_eq!(started.expect("it runs"), 7);
    }
}
