//! Going on with the children that an earlier daemon left.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use sortie_model::facts::Interruption;
use sortie_model::{ChildIncarnation, ChildKey, Motion, Seq, Timestamp, limits};
use sortie_wire::guardian_proto::{KeptFate, KeptInput};
use tokio::time::{Instant, sleep};

use super::launch::{self, LaunchOptions};
use super::link::{Found, Pending};
use super::remains::watch_over;
use super::{Guardian, Handle, Hold};
use crate::error::LaunchError;
use crate::keep::KeepPlace;
use crate::kept::{KeptOutput, KeptReader};
use crate::process::{Ending, Input, Process, ProcessControl, ProcessOutput};

/// The pause between two attempts to reach a guardian that begins, or ends.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);

/// A child that a former daemon left, for [`resume`](crate::run::resume). Dropping it kills its
/// whole tree.
#[derive(Debug)]
pub struct Adopted {
    /// Which child it is.
    pub child: ChildKey,
    /// Which of its lives.
    pub incarnation: ChildIncarnation,
    /// What the former daemon noted of it.
    pub note: Bytes,
    /// Its process id.
    pub pid: u32,
    /// How long it has run, or ran until its end; not while it stood still. Zero when it is lost.
    pub running: Duration,
    /// The oldest record that the former daemon had not [stored](super::Guardian::stored). What
    /// comes before a later number is left out when this is set to it.
    pub first: Seq,
    /// The number of the first record of this life of it.
    pub begins: Seq,
    /// The guardian died, and the child with it: no end is known, but what it wrote is there.
    pub lost: bool,
    /// What became of its input.
    pub input: AdoptedInput,
    /// Whether it stands still.
    pub motion: Motion,
    /// When it ended, if it has.
    pub ended: Option<Timestamp>,
    /// Why it was signalled before its end, as far as its guardian says.
    pub(crate) interruptions: Vec<Interruption>,
    /// In how long its guardian kills it, when it was found: it was asked to end.
    pub(crate) kill_in: Option<Duration>,
    pub(crate) found: Instant,
    rest: Rest,
}

/// What became of an adopted child's input.
#[derive(Debug)]
pub enum AdoptedInput {
    /// It has all of it, or never had any.
    Whole,
    /// The rest is lost: it waits in vain, and is killed.
    Lost,
    /// What the former daemon had not written is not with it. It can be written to further, which
    /// is what happens.
    Open {
        /// Where.
        end: Input,
        /// How many bytes were written before; an older guardian does not know.
        written: Option<u64>,
    },
}

impl AdoptedInput {
    /// How many bytes the former daemon wrote, where the next one can write on and that is known.
    pub const fn written(&self) -> Option<u64> {
        match self {
            Self::Open { written, .. } => *written,
            Self::Whole | Self::Lost => None,
        }
    }

    /// Nobody has the rest of it.
    pub fn lose_rest(&mut self) {
        if matches!(self, Self::Open { .. }) {
            *self = Self::Lost;
        }
    }

    /// Whether the child waits in vain.
    pub const fn is_lost(&self) -> bool {
        matches!(self, Self::Lost)
    }
}

/// What is private about an adopted child.
#[derive(Debug)]
struct Rest {
    hold: Hold,
    pending: Pending,
}

impl Guardian {
    /// The children that a former daemon left, each once. Those that are not taken run on.
    pub fn take_adopted(&self) -> Vec<Adopted> {
        take(&self.0)
    }
}

/// Takes the children that the guardian told of.
fn take(handle: &Arc<Handle>) -> Vec<Adopted> {
    let adopt = |Found { child, stdin, interruptions, pending, at }: Found| {
        let lost = child.fate == KeptFate::Lost;
        let mut hold = Hold::new(Arc::clone(handle), child.number);
        if lost {
            hold.release();
        }
        Adopted {
            child: child.keep.child,
            incarnation: child.keep.incarnation,
            note: child.keep.note,
            pid: child.pid,
            running: child.running,
            first: child.oldest,
            begins: child.keep.first,
            lost,
            input: match (child.input, stdin.map(Input::new)) {
                (KeptInput::Whole, _) => AdoptedInput::Whole,
                (KeptInput::Handed, Some(Ok(end))) => AdoptedInput::Open { end, written: None },
                (KeptInput::HandedAt(bytes), Some(Ok(end))) => {
                    AdoptedInput::Open { end, written: Some(bytes) }
                }
                (KeptInput::Lost | KeptInput::Handed | KeptInput::HandedAt(_), _) => {
                    AdoptedInput::Lost
                }
            },
            motion: child.motion,
            ended: child.ended,
            interruptions,
            kill_in: child.kill_in,
            found: at,
            rest: Rest { hold, pending },
        }
    };
    handle.link.take_found().into_iter().map(adopt).collect()
}

impl Adopted {
    /// The process behind it; none when the guardian has no directory, and so is another one.
    pub(crate) fn into_process(self, guardian: &Guardian) -> Option<Process> {
        let Rest { hold, pending } = self.rest;
        let Pending { ended, gone, written, moved, .. } = pending;
        let directory = guardian.0.output.clone()?;
        let reader = KeptReader::new(directory, self.child, self.first);
        let gate = Some(hold.input_gate());
        Some(Process {
            control: ProcessControl { hold, gone, moved, pid: self.pid },
            ending: Ending { receiver: ended, known: None },
            output: ProcessOutput::Kept(KeptOutput::new(reader, written)),
            stdin: match self.input {
                AdoptedInput::Open { end, .. } => Some(end.behind(gate)),
                AdoptedInput::Whole | AdoptedInput::Lost => None,
            },
            channel: None,
        })
    }
}

/// Goes on with the guardian that has the directory, or launches one.
pub(super) async fn launch_in(
    options: &LaunchOptions,
    directory: &Path,
) -> Result<Handle, LaunchError> {
    let keep = |source| LaunchError::Keep { directory: directory.to_owned(), source };
    // The guardian has another working directory.
    let path = std::path::absolute(directory).map_err(keep)?;
    let place = KeepPlace::prepare(&path).map_err(keep)?;
    // A guardian that ends may take so long to kill what is below it.
    let until = Instant::now() + limits::GUARDIAN_END + limits::GUARDIAN_HELLO;
    loop {
        let result = attempt(options, &place).await;
        let passes = matches!(&result, Err(Failure::MayPass(_)));
        if !passes || Instant::now() >= until {
            return result.map_err(Failure::into_error);
        }
        sleep(ATTEMPT_PAUSE).await;
    }
}

/// Why an attempt failed.
enum Failure {
    /// A guardian that begins, or ends, is in the way.
    MayPass(LaunchError),
    Final(LaunchError),
}

impl Failure {
    fn into_error(self) -> LaunchError {
        match self {
            Self::MayPass(error) | Self::Final(error) => error,
        }
    }
}

async fn attempt(options: &LaunchOptions, place: &KeepPlace) -> Result<Handle, Failure> {
    let directory = place.path().to_owned();
    let keep = |source| Failure::Final(LaunchError::Keep { directory: directory.clone(), source });
    let locked = || Failure::MayPass(LaunchError::Locked { directory: directory.clone() });
    match place.connect() {
        Ok((socket, pid)) => {
            let gone = watch_over(pid, place.identity())
                .map_err(|error| Failure::Final(LaunchError::Execute(error)))?;
            let opening = launch::open(socket, options, Some(place.path())).await;
            let opening = opening.map_err(|error| match error {
                // It has ended meanwhile.
                LaunchError::NoAnswer => locked(),
                error => Failure::Final(error),
            })?;
            Ok(opening.handle(gone))
        }
        Err(Errno::CONNREFUSED | Errno::NOENT | Errno::AGAIN) => {
            if place.lock().map_err(keep)?.is_none() {
                return Err(locked());
            }
            launch::launch_new(options, Some(place.path())).await.map_err(|error| match error {
                LaunchError::Locked { .. } => Failure::MayPass(error),
                error => Failure::Final(error),
            })
        }
        Err(error) => Err(keep(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use sortie_wire::frame::write_message;
    use sortie_wire::guardian_proto::{
        ChildNumber, Containment, GUARDIAN_VERSION, GuardianReport, Refusal,
    };

    use super::*;
    use crate::Guardian;
    use crate::sys::channel::send;

    /// The error of a launch where a guardian that runs answers so.
    async fn answered(report: GuardianReport) -> LaunchError {
        let directory = tempfile::tempdir().expect("a directory");
        let place = KeepPlace::prepare(directory.path()).expect("ours");
        let door = place.listen().expect("to listen");
        let answer = std::thread::spawn(move || {
            let mut polled = [rustix::event::PollFd::new(&door, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut polled, None).expect("to wait");
            let socket = rustix::net::accept(&door).expect("a daemon");
            let mut bytes = Vec::new();
            write_message(&report, &mut bytes).expect("small");
            send(&socket, &bytes, &[]).expect("a daemon that listens");
            // Open until the daemon has gone away.
            while rustix::io::read(&socket, &mut [0; 64]).is_ok_and(|length| length > 0) {}
        });
        let options = LaunchOptions {
            program: Some(PathBuf::from("/bin/true")),
            keep: Some(directory.path().to_owned()),
            ..LaunchOptions::default()
        };
        let error = Guardian::launch(options).await.expect_err("not served");
        answer.join().expect("its answer was taken");
        error
    }

    #[tokio::test]
    async fn a_guardian_of_another_version_or_of_another_program_is_refused() {
        let (containment, next) = (Containment::Parentage, ChildNumber(1));
        let (min, max, pid) = (GUARDIAN_VERSION + 1, GUARDIAN_VERSION + 2, 1);
        let error = answered(GuardianReport::Hello { min, max, pid, containment, next }).await;
        let LaunchError::Version { ours, theirs } = error else { panic!("{error}") };
        assert_eq!((ours, theirs), (GUARDIAN_VERSION, max));
        let error = answered(GuardianReport::Refused { why: Refusal::Busy { daemon: 7 } }).await;
        assert!(error.to_string().starts_with("process 7 has the kept children of "), "{error}");
        assert!(!error.is_retryable());
    }
}
