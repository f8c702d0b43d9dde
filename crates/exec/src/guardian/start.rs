//! From a child's start to its process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sortie_model::limits;
use sortie_wire::guardian_proto::{
    ChildNumber, Deadline, GuardianRequest, Keep, SpawnRequest, StandardInput,
};
use tokio::sync::MutexGuard;

use super::link::{Keeping, Link, Pending};
use super::{Guardian, Handle, Hold};
use crate::error::SpawnError;
use crate::kept::{KeptOutput, KeptReader};
use crate::process::{Ending, Input, Output, Process, ProcessControl, ProcessOutput, ProcessSpec};

impl Guardian {
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

    /// A start waits for room until that is dropped.
    pub(crate) fn waits_for_room(&self) -> WaitsForRoom {
        self.0.wait_for_room.fetch_add(1, Ordering::Relaxed);
        WaitsForRoom(self.clone())
    }

    /// Looks for room on the disk alone, until that is dropped.
    ///
    /// # Cancel safety
    /// When cancelled, others come first.
    pub(crate) async fn turn_for_room(&self) -> MutexGuard<'_, ()> {
        self.0.room.lock().await
    }
}

/// A start that waits for room on the disk.
pub(crate) struct WaitsForRoom(Guardian);

impl Drop for WaitsForRoom {
    fn drop(&mut self) {
        self.0.0.wait_for_room.fetch_sub(1, Ordering::Relaxed);
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
        let gate = kept.as_ref().map(|_| hold.input_gate());
        let kept = kept.map(|reader| KeptOutput::new(reader, written));
        let ends = Ends::of(input, kept, &mut next).map_err(|_| SpawnError::NO_DESCRIPTORS)?;
        let Ends { output, stdin, channel } = ends;
        Ok(Process {
            control: ProcessControl { hold, gone, moved, pid: started.pid },
            ending: Ending { receiver: ended, known: None },
            output,
            stdin: stdin.map(|stdin| stdin.behind(gate)),
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
