//! The daemon's side of its guardian.

mod adopt;
mod launch;
mod link;
mod remains;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sortie_model::facts::Interruption;
use sortie_model::{ChildKey, Motion, Seq, limits};
use sortie_store::segment::OutputDirectory;
use sortie_wire::guardian_proto::{
    ChildNumber, Containment, Deadline, GUARDIAN_VERSION_OLDEST, GuardianRequest, Keep, Lack,
    SpawnRequest, StandardInput,
};

pub use adopt::{Adopted, AdoptedInput};
pub(crate) use launch::raise_descriptor_limit;
pub use launch::{GUARDIAN_VARIABLE, LaunchOptions, initialise, is_initialised};
use link::{Keeping, Link, Pending};
use tokio::sync::watch;

use crate::error::{LaunchError, SpawnError};
use crate::kept::{KeptOutput, KeptReader};
use crate::process::{Ending, Input, Output, Process, ProcessControl, ProcessOutput, ProcessSpec};

/// A running guardian: the helper process that starts, holds and kills process children.
///
/// Clones are handles of the same guardian. When the last one and the last [`Process`] are dropped,
/// and when this process ends in whatever way, the guardian kills everything below it and ends; but
/// children that are kept run on, and the guardian waits for the next [`Guardian::launch`] with the
/// same directory.
#[derive(Debug, Clone)]
pub struct Guardian(Arc<Handle>);

/// Closes the guardian's socket when it is dropped.
#[derive(Debug)]
struct Handle {
    link: Arc<Link>,
    containment: Containment,
    /// What kept children wrote, if there may be some.
    output: Option<OutputDirectory>,
    /// Closed when nothing is left of the guardian.
    gone: watch::Receiver<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.link.shut_down();
    }
}

impl Guardian {
    /// Executes the current program again, as its guardian; or, where children were kept, goes on
    /// with the guardian that has them: [`Guardian::take_adopted`]. Needs a tokio runtime with time
    /// and I/O, which must live as long as the guardian is used.
    ///
    /// # Errors
    /// [`LaunchError`]: above all when the program's `main` does not begin with `sortie::init()`,
    /// and when another program has the kept children.
    pub async fn launch(options: LaunchOptions) -> Result<Self, LaunchError> {
        Ok(Self(Arc::new(launch::launch(options).await?)))
    }

    /// Ends the guardian, whoever else holds it: it kills everything below it, kept children
    /// included, and removes what is kept. Resolves when its process is gone; other guardians of
    /// this process are left alone.
    ///
    /// # Cancel safety
    /// Cancel safe: it ends all the same, once it was polled.
    pub async fn end(&self) {
        self.0.link.post(&GuardianRequest::End);
        // One that reads nothing any more is told by the end of its socket.
        let _ = tokio::time::timeout(limits::GUARDIAN_END, self.0.link.flushed()).await;
        self.0.link.shut_down();
        let mut gone = self.0.gone.clone();
        while gone.changed().await.is_ok() {}
    }

    /// Lets go of the guardian, whoever else holds it, as the death of this process would: kept
    /// children run on and wait for the next launch with their directory, all others are killed.
    /// Runs of kept children stay as they are, and dropping them kills nothing any more.
    ///
    /// # Cancel safety
    /// When cancelled, the guardian is still held.
    pub async fn leave(&self) {
        // What was stored and forgotten by now is so for the next daemon, too.
        let _ = tokio::time::timeout(limits::GUARDIAN_END, self.0.link.flushed()).await;
        self.0.link.leave();
    }

    /// Kills the children that a former daemon left in a directory, where nobody takes them over,
    /// and waits until nothing runs for it any more. How they ended and what they wrote stays: the
    /// next [`Guardian::launch`] with the directory finds it.
    ///
    /// # Errors
    /// [`LaunchError`]; [`LaunchError::InUse`] when a program has them, [`LaunchError::Locked`]
    /// when something is left after [`limits::GUARDIAN_END`].
    ///
    /// # Cancel safety
    /// When cancelled, some of them may run on.
    pub async fn end_left(options: LaunchOptions) -> Result<(), LaunchError> {
        let keep = options.keep.clone();
        let guardian = Self::launch(options).await?;
        // Dropping one kills it.
        drop(guardian.take_adopted());
        guardian.leave().await;
        let mut gone = guardian.0.gone.clone();
        let ended = async { while gone.changed().await.is_ok() {} };
        match (tokio::time::timeout(limits::GUARDIAN_END, ended).await, keep) {
            (Err(_), Some(directory)) => Err(LaunchError::Locked { directory }),
            _ => Ok(()),
        }
    }

    /// The owner of a kept child's output has everything before `next`: it is freed, and the child
    /// may write more.
    pub fn stored(&self, child: ChildKey, next: Seq) {
        self.0.link.post_stored(child, next);
    }

    /// A kept child's end is known for good: what is kept of it is removed, as soon as nothing is
    /// left of it. Idempotent.
    pub fn forget(&self, child: ChildKey) {
        self.0.link.post(&GuardianRequest::Forget { child });
    }

    /// How the guardian keeps hold of its children.
    pub fn containment(&self) -> &Containment {
        &self.0.containment
    }

    /// Why it reads nothing at present of what kept children write, if that is so: they pause
    /// when their pipes are full.
    pub fn holds_back(&self) -> Option<Lack> {
        self.0.link.held_back()
    }

    /// Whether it still answers.
    pub fn is_alive(&self) -> bool {
        self.0.link.is_alive()
    }

    /// Resolves when the guardian is gone. Its processes are killed then, and each ends as
    /// [`sortie_model::facts::ProcessEnd::Lost`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn lost(&self) {
        self.0.link.lost().await;
    }

    /// Starts a process and waits until it runs.
    ///
    /// # Errors
    /// [`SpawnError`] names the step that failed.
    ///
    /// # Cancel safety
    /// When cancelled, the process is not started, or killed with its tree.
    pub async fn spawn(&self, spec: ProcessSpec) -> Result<Process, SpawnError> {
        self.begin(spec, None).await?.wait().await
    }

    /// Asks for the start of a process. Waits only while the guardian has too many requests. Of a
    /// kept one the guardian knows from the start what is due while no daemon is there.
    ///
    /// # Errors
    /// [`SpawnError`] when the request is too large or the guardian is gone.
    ///
    /// # Cancel safety
    /// Cancel safe: when cancelled, nothing was asked for.
    pub async fn begin(
        &self,
        spec: ProcessSpec,
        due: Option<Deadline>,
    ) -> Result<Starting, SpawnError> {
        let link = &self.0.link;
        let input = spec.input;
        let kept = spec.keep.as_ref().map(|keep| self.kept_output(keep, input)).transpose()?;
        let keeping = if kept.is_some() { Keeping::Kept } else { Keeping::Piped };
        let (child, pending) = link.register(keeping);
        let registered = Registered { link, child: Some(child) };
        let deadline = due.filter(|_| kept.is_some());
        let mut requests = vec![GuardianRequest::Spawn(Box::new(SpawnRequest {
            child,
            program: spec.program,
            environment: spec.environment,
            directory: spec.directory,
            input,
            init: spec.init,
            keep: spec.keep,
        }))];
        requests.extend(deadline.map(|_| GuardianRequest::Deadline { child, deadline }));
        link.post_large(&requests).await?;
        registered.keep();
        Ok(Starting { hold: Hold::new(Arc::clone(&self.0), child), pending, input, kept })
    }

    /// Where what a kept child writes will be read.
    fn kept_output(&self, keep: &Keep, input: StandardInput) -> Result<KeptReader, SpawnError> {
        if keep.note.len() > limits::KEPT_NOTE_BYTES {
            return Err(SpawnError::NOTE_TOO_LONG);
        }
        match &self.0.output {
            Some(output) if matches!(input, StandardInput::Null | StandardInput::Pipe) => {
                Ok(KeptReader::new(output.clone(), keep.child, keep.first))
            }
            _ => Err(SpawnError::NOT_KEPT),
        }
    }
}

/// Forgets a child for whom nothing was asked.
struct Registered<'a> {
    link: &'a Link,
    child: Option<ChildNumber>,
}

impl Registered<'_> {
    fn keep(mut self) {
        self.child = None;
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.child {
            self.link.forget(child);
        }
    }
}

/// A process whose start was asked for. Dropping it kills what was started.
#[derive(Debug)]
pub struct Starting {
    hold: Hold,
    pending: Pending,
    input: StandardInput,
    kept: Option<KeptReader>,
}

/// Takes a start back as long as that is possible.
#[derive(Debug)]
pub struct Withdrawal {
    guardian: Arc<Handle>,
    child: ChildNumber,
}

impl Withdrawal {
    /// Withdraws the start. [`Starting::wait`] still has the answer: an error, or the process if it
    /// was too late.
    pub fn withdraw(self) {
        self.guardian.link.post(&GuardianRequest::Withdraw { child: self.child });
    }
}

impl Starting {
    /// With what the start can be withdrawn.
    pub fn withdrawal(&self) -> Withdrawal {
        Withdrawal { guardian: Arc::clone(&self.hold.guardian), child: self.hold.child }
    }

    /// Waits until the process runs.
    ///
    /// # Errors
    /// [`SpawnError`] names the step that failed.
    ///
    /// # Cancel safety
    /// When cancelled, the process is not started, or killed with its tree.
    pub async fn wait(self) -> Result<Process, SpawnError> {
        let Self { mut hold, pending, input, kept } = self;
        let Pending { spawned, ended, gone, written, moved } = pending;
        let started = match spawned.await.unwrap_or(Err(SpawnError::NO_GUARDIAN)) {
            Ok(started) => started,
            Err(error) => {
                hold.release();
                return Err(error);
            }
        };
        let mut pipes = started.pipes.into_iter();
        let mut next = || pipes.next().ok_or_else(|| io::ErrorKind::NotFound.into());
        let kept = kept.map(|reader| KeptOutput::new(reader, written));
        let ends = Ends::of(input, kept, &mut next).map_err(|_| SpawnError::NO_DESCRIPTORS)?;
        let Ends { output, stdin, channel } = ends;
        Ok(Process {
            control: ProcessControl { hold, gone, moved, pid: started.pid },
            ending: Ending { receiver: ended, known: None },
            output,
            stdin,
            channel,
        })
    }
}

/// The daemon's ends of what a child reads and writes.
struct Ends {
    output: ProcessOutput,
    stdin: Option<Input>,
    channel: Option<Output>,
}

impl Ends {
    /// Made of the descriptors that came with the child.
    fn of(
        input: StandardInput,
        kept: Option<KeptOutput>,
        next: &mut impl FnMut() -> io::Result<OwnedFd>,
    ) -> io::Result<Self> {
        let output = match (kept, input) {
            (Some(kept), _) => ProcessOutput::Kept(kept),
            (None, StandardInput::Terminal(_)) => {
                let ours = next()?;
                let stdin = Some(Input::terminal(ours.try_clone()?)?);
                let output = ProcessOutput::Terminal(Output::terminal(ours)?);
                return Ok(Self { output, stdin, channel: None });
            }
            (None, _) => {
                let (stdout, stderr) = (Output::new(next()?)?, Output::new(next()?)?);
                ProcessOutput::Pipes { stdout, stderr }
            }
        };
        let (stdin, channel) = match input {
            StandardInput::Null | StandardInput::Terminal(_) => (None, None),
            StandardInput::Pipe => (Some(Input::new(next()?)?), None),
            StandardInput::Channel => {
                let socket = next()?;
                let channel = Output::channel(socket.try_clone()?)?;
                (Some(Input::new(socket)?), Some(channel))
            }
        };
        Ok(Self { output, stdin, channel })
    }
}

/// Holds one child. Dropping it while something may be left of the child kills that.
#[derive(Debug)]
pub(crate) struct Hold {
    guardian: Arc<Handle>,
    child: ChildNumber,
    /// A kill was asked for, or is not needed.
    settled: AtomicBool,
}

impl Hold {
    const fn new(guardian: Arc<Handle>, child: ChildNumber) -> Self {
        Self { guardian, child, settled: AtomicBool::new(false) }
    }

    pub(crate) fn signal(&self, number: i32) {
        self.guardian.link.post_droppable(&GuardianRequest::Signal { child: self.child, number });
    }

    /// Signals it to end.
    pub(crate) fn interrupt(&self, number: i32, why: Interruption) {
        let link = &self.guardian.link;
        if link.version() > GUARDIAN_VERSION_OLDEST {
            let child = self.child;
            link.post_droppable(&GuardianRequest::Interrupt { child, number, why });
        } else {
            self.signal(number);
        }
    }

    pub(crate) fn move_to(&self, motion: Motion) {
        self.guardian.link.post(&GuardianRequest::Move { child: self.child, motion });
    }

    pub(crate) fn entrust(&self, deadline: Option<Deadline>) {
        self.guardian.link.post(&GuardianRequest::Deadline { child: self.child, deadline });
    }

    pub(crate) fn kill(&self) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            self.guardian.link.post(&GuardianRequest::Kill { child: self.child });
        }
    }

    pub(crate) fn close_input(&self) {
        self.guardian.link.post(&GuardianRequest::CloseInput { child: self.child });
    }

    pub(crate) fn finish(&self) {
        self.guardian.link.post(&GuardianRequest::Finish { child: self.child });
    }

    /// Nothing is left of the child.
    pub(crate) fn release(&mut self) {
        *self.settled.get_mut() = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.kill();
    }
}
