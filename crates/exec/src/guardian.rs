//! The daemon's side of its guardian.

mod adopt;
mod launch;
mod link;
mod remains;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Pid;
use sortie_model::facts::Interruption;
use sortie_model::{ChildKey, Motion, Seq, limits};
use sortie_store::segment::OutputDirectory;
use sortie_wire::guardian_proto::{
    ChildNumber, Containment, Deadline, GUARDIAN_VERSION_OLDEST, GuardianRequest, Lack,
};

pub use adopt::{Adopted, AdoptedInput};
pub(crate) use launch::raise_descriptor_limit;
pub use launch::{GUARDIAN_VARIABLE, LaunchOptions, initialise, is_initialised};
use link::Link;
pub use start::{Starting, Withdrawal};
use tokio::sync::watch;

use crate::error::LaunchError;
use crate::sys::proc_table::{self, Life};

/// A running guardian: the helper process that starts, holds and kills process children.
///
/// Clones are handles of the same guardian. When the last one and the last
/// [`Process`](crate::Process) are dropped, and when this process ends in whatever way, the
/// guardian kills everything below it and ends; but children that are kept run on, and the guardian
/// waits for the next [`Guardian::launch`] with the same directory.
#[derive(Debug, Clone)]
pub struct Guardian(Arc<Handle>);

/// Closes the guardian's socket when it is dropped.
#[derive(Debug)]
struct Handle {
    link: Arc<Link>,
    /// The guardian's process, as it says.
    pid: u32,
    containment: Containment,
    /// What kept children wrote, if there may be some.
    output: Option<OutputDirectory>,
    /// Closed when nothing is left of the guardian.
    gone: watch::Receiver<()>,
    /// Starts that wait for room on the disk, and the turn of the one that looks for some.
    wait_for_room: AtomicUsize,
    room: tokio::sync::Mutex<()>,
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

    /// Whether starts of kept children wait for room on the disk.
    pub fn lacks_room(&self) -> bool {
        self.0.wait_for_room.load(Ordering::Relaxed) > 0
    }

    /// Resolves when nothing is left of the processes whose runs were dropped, or the guardian is
    /// gone. A process that the kernel does not let die keeps this waiting: bound it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn dropped_are_gone(&self) {
        self.0.link.dropped_are_gone().await;
    }

    /// Its process id, where somebody stopped it, as by `SIGSTOP`: it starts and reads nothing.
    pub fn stopped(&self) -> Option<u32> {
        let pid = Pid::from_raw(self.0.pid.cast_signed());
        let entry = pid.and_then(proc_table::entry);
        entry.filter(|entry| entry.life == Life::Stopped).map(|_| self.0.pid)
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
}

/// Lets the input of a kept child through until its guardian is let go of: the next daemon is told
/// how much was written by then, and writes on.
#[derive(Debug, Clone)]
pub(crate) struct InputGate(Arc<Handle>);

impl InputGate {
    /// Does that; none when the input is another daemon's by now.
    pub(crate) fn pass<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        self.0.link.while_alive(act)
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

    pub(crate) fn input_gate(&self) -> InputGate {
        InputGate(Arc::clone(&self.guardian))
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
