//! A running process child and its pipes, as the daemon holds them.

mod input;

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::io::Errno;
use sortie_model::facts::{Interruption, MemoryEnd, ProcessEnd, Stage};
use sortie_model::spec::{BodySpec, OsBytes};
use sortie_model::{Motion, limits};
use sortie_wire::guardian_proto::{
    Deadline, Disturbance, Keep, NulList, Program, Remainder, StandardInput,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

pub use input::{Input, InputClosed};

use crate::guardian::Hold;
use crate::kept::KeptOutput;
use crate::sys::channel::receive_one;
use crate::sys::watch::watch;

/// What a read asks for when the pipe is empty: it may fill before it is read.
const SMALL_READ_BYTES: usize = 512;
/// What a pipe holds unless it is grown.
const UNGROWN_PIPE_BYTES: usize = 64 << 10;

/// A process child to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSpec {
    /// What it executes.
    pub program: Program,
    /// Its whole environment.
    pub environment: NulList,
    /// Its working directory; `/` if none.
    pub directory: Option<OsBytes>,
    /// Its standard input.
    pub input: StandardInput,
    /// A command for `sh -c` that runs first, with the same output and no input.
    pub init: Option<OsBytes>,
    /// How it outlives this process, if it does: needs a guardian with a directory
    /// ([`LaunchOptions::keep`](crate::LaunchOptions::keep)).
    pub keep: Option<Keep>,
}

/// What a process child with this body executes; none when the body is a function.
pub fn program(body: &BodySpec) -> Option<Program> {
    match body {
        BodySpec::Command { words } => Some(Program::Command(NulList::of_words(words))),
        BodySpec::Script { text, arguments } => {
            Some(Program::Script { text: text.clone(), arguments: NulList::of_words(arguments) })
        }
        BodySpec::Task { .. } => None,
    }
}

/// A process child that was started.
#[derive(Debug)]
pub struct Process {
    /// Acts on it. Dropping this kills its whole tree.
    pub control: ProcessControl,
    /// Tells its end.
    pub ending: Ending,
    /// What it writes.
    pub output: ProcessOutput,
    /// Its standard input, if it has one; of a child with a terminal, what is typed there.
    pub stdin: Option<Input>,
    /// What it says on its channel, if it is a worker: its standard input is the way to it.
    pub channel: Option<Output>,
}

/// Where a process child's output is read.
#[derive(Debug)]
pub enum ProcessOutput {
    /// From its pipes.
    Pipes {
        /// Its standard output.
        stdout: Output,
        /// Its standard error.
        stderr: Output,
    },
    /// From its terminal, where it writes all.
    Terminal(Output),
    /// From the files of its guardian: it is kept.
    Kept(KeptOutput),
}

/// How a process child's last program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub end: ProcessEnd,
    /// Which program.
    pub stage: Stage,
    /// Whether it was killed for want of memory.
    pub memory: MemoryEnd,
    /// Whether a signal was sent before.
    pub disturbance: Disturbance,
    /// What is left of its tree.
    pub remainder: Remainder,
}

impl Ended {
    /// The guardian is gone, and the tree with it.
    pub const LOST: Self = Self {
        end: ProcessEnd::Lost,
        stage: Stage::Main,
        memory: MemoryEnd::No,
        disturbance: Disturbance::None,
        remainder: Remainder::Alone,
    };
}

/// Tells a process child's end.
#[derive(Debug)]
pub struct Ending {
    pub(crate) receiver: oneshot::Receiver<Ended>,
    pub(crate) known: Option<Ended>,
}

impl Ending {
    /// Waits for the end of the child's last program; [`Ended::LOST`] when the guardian is gone.
    ///
    /// # Cancel safety
    /// Cancel safe; later calls return the same.
    pub async fn wait(&mut self) -> Ended {
        match self.known {
            Some(ended) => ended,
            None => {
                let ended = (&mut self.receiver).await.unwrap_or(Ended::LOST);
                *self.known.insert(ended)
            }
        }
    }
}

/// Acts on a process child's tree. Dropping it before [`ProcessControl::finish`] has returned kills
/// the whole tree.
#[derive(Debug)]
pub struct ProcessControl {
    pub(crate) hold: Hold,
    pub(crate) gone: oneshot::Receiver<u32>,
    pub(crate) moved: tokio::sync::watch::Receiver<Motion>,
    pub(crate) pid: u32,
}

impl ProcessControl {
    /// The process id; that of the init command if there is one and it still runs.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to every process of the tree. Unknown numbers are ignored.
    pub fn signal(&self, number: i32) {
        self.hold.signal(number);
    }

    /// Signals every process of the tree to end, and says why.
    pub(crate) fn interrupt(&self, number: i32, why: Interruption) {
        self.hold.interrupt(number, why);
    }

    /// Makes every process of the tree stand still, or lets them go on; [`ProcessControl::moved`]
    /// says when they do. Not to be repeated without bound.
    pub fn move_to(&self, motion: Motion) {
        self.hold.move_to(motion);
    }

    /// What the tree does: each change that [`ProcessControl::move_to`] brought about.
    pub fn moved(&self) -> tokio::sync::watch::Receiver<Motion> {
        self.moved.clone()
    }

    /// What the guardian is to do with a kept child while no daemon is there; the last word counts.
    pub(crate) fn entrust(&self, deadline: Option<Deadline>) {
        self.hold.entrust(deadline);
    }

    /// Kills the whole tree, over and over until it is empty.
    pub fn kill(&self) {
        self.hold.kill();
    }

    /// The input of a kept child is at its end, and not just that of its daemon.
    pub(crate) fn close_input(&self) {
        self.hold.close_input();
    }

    /// Does not wait longer for what is left of a kept child that has ended, but kills it.
    pub(crate) fn cut_drain(&self) {
        self.hold.finish();
    }

    /// Waits until nothing is left of a kept child and all that it wrote can be read; the guardian
    /// sees to that by itself. Returns how many processes were left behind; none when the guardian
    /// died before, and some of what the child wrote may have gone with it.
    pub(crate) async fn gone(&mut self) -> Option<u32> {
        let left_behind = (&mut self.gone).await.ok();
        self.hold.release();
        left_behind
    }

    /// Kills what is left of the tree and waits until it is empty. Returns how many processes were
    /// left; 0 when the tree was already being killed. To be called after the main process's end.
    ///
    /// # Cancel safety
    /// When cancelled, the rest of the tree is killed nevertheless.
    pub async fn finish(mut self, ended: Ended) -> u32 {
        if ended.remainder == Remainder::Others {
            self.hold.finish();
        }
        let left_behind = (&mut self.gone).await.unwrap_or(0);
        self.hold.release();
        left_behind
    }
}

/// The reading end of a child's stdout or stderr, or of its channel. Dropping it closes it.
#[derive(Debug)]
pub struct Output {
    pipe: AsyncFd<OwnedFd>,
    what: OutputKind,
    /// What came over a channel and was not taken.
    arrived: Vec<OwnedFd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputKind {
    Pipe,
    GrownPipe,
    /// A socket, over which descriptors come, too.
    Channel,
    /// Our side of a terminal.
    Terminal,
}

impl Output {
    pub(crate) fn new(pipe: OwnedFd) -> io::Result<Self> {
        Self::of(pipe, OutputKind::Pipe)
    }

    pub(crate) fn channel(socket: OwnedFd) -> io::Result<Self> {
        Self::of(socket, OutputKind::Channel)
    }

    pub(crate) fn terminal(ours: OwnedFd) -> io::Result<Self> {
        Self::of(ours, OutputKind::Terminal)
    }

    fn of(pipe: OwnedFd, what: OutputKind) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let pipe = watch(pipe, Interest::READABLE)?;
        Ok(Self { pipe, what, arrived: Vec::new() })
    }

    /// The descriptors that came with what was read since this was asked last; at most one for each
    /// read.
    pub fn take_arrived(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.arrived)
    }

    /// Waits for output and returns what is there, 1 to [`limits::RECORD_BYTES`] bytes; none at its
    /// end. The pipe is grown to [`limits::PIPE_BYTES`] when it is first found full.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost.
    pub async fn read(&mut self) -> Option<Bytes> {
        loop {
            let Ok(mut ready) = self.pipe.readable().await else { return None };
            let result = read_available(ready.get_inner(), self.what, &mut self.arrived);
            match result {
                Ok(bytes) => {
                    if bytes.len() >= UNGROWN_PIPE_BYTES && self.what == OutputKind::Pipe {
                        self.what = OutputKind::GrownPipe;
                        // Refused when the user's pipes hold too much already; then it stays small.
                        let _ = rustix::pipe::fcntl_setpipe_size(
                            self.pipe.get_ref(),
                            limits::PIPE_BYTES,
                        );
                    }
                    return if bytes.is_empty() { None } else { Some(bytes) };
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(_) => return None,
            }
        }
    }

    /// What is there now, as [`Output::read`] returns it; none when nothing is.
    pub fn read_now(&mut self) -> Option<Bytes> {
        let read = read_available(self.pipe.get_ref(), self.what, &mut self.arrived);
        read.ok().filter(|bytes| !bytes.is_empty())
    }
}

/// Reads into memory of just the size of what is there, so that small records cost little and large
/// ones are not copied.
fn read_available(
    pipe: &OwnedFd,
    what: OutputKind,
    arrived: &mut Vec<OwnedFd>,
) -> Result<Bytes, Errno> {
    let room = match usize::try_from(rustix::io::ioctl_fionread(pipe)?).unwrap_or(0) {
        0 => SMALL_READ_BYTES,
        available => available.min(limits::RECORD_BYTES),
    };
    if what == OutputKind::Channel {
        let mut buffer = vec![0; room];
        let (length, descriptor) = receive_one(pipe, &mut buffer)?;
        arrived.extend(descriptor);
        buffer.truncate(length);
        return Ok(buffer.into());
    }
    let mut buffer = Vec::with_capacity(room);
    loop {
        match rustix::io::read(pipe, rustix::buffer::spare_capacity(&mut buffer)) {
            Ok(length) if length < room => return Ok(Bytes::copy_from_slice(&buffer)),
            Ok(_) => return Ok(Bytes::from(buffer)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
