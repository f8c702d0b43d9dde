//! The socket to the guardian: requests out, reports in, each child's news to whoever waits for it.

mod reader;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::Shutdown;
use sortie_model::facts::Interruption;
use sortie_model::{ChildKey, Motion, Seq, limits};
use sortie_wire::frame::write_message;
use sortie_wire::guardian_proto::{
    ChildNumber, GUARDIAN_VERSION_OLDEST, GuardianReport, GuardianRequest, KeptChild, Lack,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::error::SpawnError;
use crate::process::Ended;
use crate::sys::channel::send;
use crate::sys::watch::watch as watched;
use reader::Reader;

/// One guardian's socket.
#[derive(Debug)]
pub(super) struct Link {
    socket: AsyncFd<OwnedFd>,
    outbox: Mutex<Outbox>,
    /// The outbox has something that the socket did not take.
    blocked: Notify,
    /// The outbox has room again.
    room: Notify,
    children: Mutex<HashMap<ChildNumber, Slot>>,
    /// Nothing is left of one of them.
    departed: Notify,
    next_child: AtomicU64,
    /// The version that both ends speak.
    version: AtomicU16,
    life: watch::Sender<Life>,
    /// Why it reads nothing that kept children write, if that is so.
    held: Mutex<Option<Lack>>,
    /// Children of an earlier daemon.
    found: Mutex<Vec<Found>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    /// Let go of: what is kept runs on, and nobody here hears of it.
    Left,
    Lost,
}

#[derive(Debug, Default)]
struct Outbox {
    bytes: VecDeque<u8>,
    /// How far children were stored, of whom that had no room: only the last word counts.
    stored: HashMap<ChildKey, Seq>,
}

impl Outbox {
    /// Takes in what had no room, once it has.
    fn refill(&mut self) {
        let mut frames = Vec::new();
        for (child, next) in self.stored.drain() {
            // A few bytes long.
            let _ = write_message(&GuardianRequest::Stored { child, next }, &mut frames);
        }
        self.bytes.extend(frames);
    }
}

/// A child that was started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) pipes: Vec<OwnedFd>,
}

/// What is told about one child, once each.
#[derive(Debug)]
struct Slot {
    spawned: Option<oneshot::Sender<Result<Started, SpawnError>>>,
    ended: Option<oneshot::Sender<Ended>>,
    gone: oneshot::Sender<u32>,
    /// How far a kept child has written.
    written: Option<watch::Sender<Seq>>,
    /// What its tree does, as far as it was told to.
    moved: watch::Sender<Motion>,
}

/// A child of an earlier daemon, and where its news will arrive.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) child: KeptChild,
    /// The other end of its stdin, if that was handed over.
    pub(super) stdin: Option<OwnedFd>,
    /// Why it was signalled before its end.
    pub(super) interruptions: Vec<Interruption>,
    pub(super) pending: Pending,
    pub(super) at: Instant,
}

/// Whether a child's output goes to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    Piped,
    Kept,
}

/// The other ends of a [`Slot`].
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) spawned: oneshot::Receiver<Result<Started, SpawnError>>,
    pub(super) ended: oneshot::Receiver<Ended>,
    pub(super) gone: oneshot::Receiver<u32>,
    /// How far a kept child has written.
    pub(super) written: watch::Receiver<Seq>,
    pub(super) moved: watch::Receiver<Motion>,
}

/// Both ends of what is told about one child.
fn slot(keeping: Keeping) -> (Slot, Pending) {
    let (spawned_sender, spawned) = oneshot::channel();
    let (ended_sender, ended) = oneshot::channel();
    let (gone, gone_receiver) = oneshot::channel();
    let (written_sender, written) = watch::channel(Seq(0));
    let (moved_sender, moved) = watch::channel(Motion::Running);
    let slot = Slot {
        spawned: Some(spawned_sender),
        ended: Some(ended_sender),
        gone,
        written: (keeping == Keeping::Kept).then_some(written_sender),
        moved: moved_sender,
    };
    (slot, Pending { spawned, ended, gone: gone_receiver, written, moved })
}

impl Link {
    /// Begins to serve the socket. The receiver gets the first report.
    pub(super) fn start(
        socket: OwnedFd,
    ) -> io::Result<(Arc<Self>, oneshot::Receiver<GuardianReport>)> {
        let link = Arc::new(Self {
            socket: watched(socket, Interest::READABLE | Interest::WRITABLE)?,
            outbox: Mutex::default(),
            blocked: Notify::new(),
            room: Notify::new(),
            children: Mutex::default(),
            departed: Notify::new(),
            next_child: AtomicU64::new(1),
            version: AtomicU16::new(GUARDIAN_VERSION_OLDEST),
            life: watch::Sender::new(Life::Alive),
            held: Mutex::default(),
            found: Mutex::default(),
        });
        let (sender, receiver) = oneshot::channel();
        let serving = Arc::clone(&link);
        tokio::spawn(async move {
            let mut reader = Reader::new(&serving, sender);
            tokio::select! {
                () = reader.run() => {}
                () = serving.write_blocked() => {}
            }
            serving.lose();
        });
        Ok((link, receiver))
    }

    pub(super) fn is_alive(&self) -> bool {
        *self.life.borrow() == Life::Alive
    }

    /// Why what kept children write is not read now.
    pub(super) fn held_back(&self) -> Option<Lack> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does that, unless the guardian is gone or was let go of. What is done is done before either.
    pub(super) fn while_alive<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let life = self.life.borrow();
        (*life == Life::Alive).then(act)
    }

    pub(super) async fn lost(&self) {
        // Fails only when the sender is gone, and that is `self`.
        let _ = self.life.subscribe().wait_for(|life| *life != Life::Alive).await;
    }

    /// Shuts down without any child's hearing of it that is kept.
    pub(super) fn leave(&self) {
        let mut children = self.children();
        self.life.send_if_modified(|life| {
            let alive = *life == Life::Alive;
            if alive {
                *life = Life::Left;
            }
            alive
        });
        children.retain(|_, slot| slot.written.is_some());
        drop(children);
        self.shut_down();
    }

    /// Makes both ends see the end of the socket.
    pub(super) fn shut_down(&self) {
        let _ = rustix::net::shutdown(self.socket.get_ref(), Shutdown::Both);
    }

    /// A number for a new child, and where its news will arrive.
    pub(super) fn register(&self, keeping: Keeping) -> (ChildNumber, Pending) {
        let child = ChildNumber(self.next_child.fetch_add(1, Ordering::Relaxed));
        let (slot, pending) = slot(keeping);
        // A guardian that is lost drops all slots, this one included, before or after it is put in.
        let mut children = self.children();
        if self.is_alive() {
            children.insert(child, slot);
        }
        (child, pending)
    }

    /// New children get numbers from there on, and that version is spoken.
    pub(super) fn greeted(&self, next: ChildNumber, version: u16) {
        self.next_child.fetch_max(next.0, Ordering::Relaxed);
        self.version.store(version, Ordering::Relaxed);
    }

    /// The version that both ends speak.
    pub(super) fn version(&self) -> u16 {
        self.version.load(Ordering::Relaxed)
    }

    /// The children of an earlier daemon, each once.
    pub(super) fn take_found(&self) -> Vec<Found> {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn forget(&self, child: ChildNumber) {
        self.children().remove(&child);
        self.departed.notify_waiters();
    }

    /// Resolves when nothing is left of those that nobody here holds any more, or the guardian is
    /// gone.
    pub(super) async fn dropped_are_gone(&self) {
        let mut dropped: Vec<ChildNumber> = {
            let children = self.children();
            let dropped = children.iter().filter(|(_, slot)| slot.gone.is_closed());
            dropped.map(|(child, _)| *child).collect()
        };
        loop {
            let departed = self.departed.notified();
            {
                let children = self.children();
                dropped.retain(|child| children.contains_key(child));
            }
            if dropped.is_empty() {
                return;
            }
            tokio::select! {
                () = departed => {}
                () = self.lost() => return,
            }
        }
    }

    /// Sends requests, in one write, once the outbox has room for them.
    ///
    /// # Errors
    /// When a request is too large, or the guardian is gone.
    pub(super) async fn post_large(&self, requests: &[GuardianRequest]) -> Result<(), SpawnError> {
        while self.outbox().bytes.len() > limits::GUARDIAN_OUTBOX_BYTES {
            let room = self.room.notified();
            if self.outbox().bytes.len() > limits::GUARDIAN_OUTBOX_BYTES {
                tokio::select! {
                    () = room => {}
                    () = self.lost() => return Err(SpawnError::NO_GUARDIAN),
                }
            }
        }
        let mut frames = Vec::new();
        for request in requests {
            write_message(request, &mut frames).map_err(|_| SpawnError::TOO_LARGE)?;
        }
        self.put(&frames);
        if self.is_alive() { Ok(()) } else { Err(SpawnError::NO_GUARDIAN) }
    }

    /// Sends a small request. There are at most a few for each child, which bounds the outbox.
    pub(super) fn post(&self, request: &GuardianRequest) {
        let mut frame = Vec::new();
        // Requests without a program are a few bytes long.
        if write_message(request, &mut frame).is_ok() {
            self.put(&frame);
        }
    }

    /// Sends a small request that may be repeated without bound: dropped when the outbox is full.
    pub(super) fn post_droppable(&self, request: &GuardianRequest) {
        if self.outbox().bytes.len() <= limits::GUARDIAN_OUTBOX_BYTES {
            self.post(request);
        }
    }

    /// Says how far a kept child was stored; only the last word waits while the outbox is full.
    pub(super) fn post_stored(&self, child: ChildKey, next: Seq) {
        let mut outbox = self.outbox();
        if outbox.bytes.len() > limits::GUARDIAN_OUTBOX_BYTES {
            let last = outbox.stored.entry(child).or_default();
            *last = next.max(*last);
            return;
        }
        drop(outbox);
        self.post(&GuardianRequest::Stored { child, next });
    }

    /// Resolves when all that was posted is written, or nobody is there to read it.
    pub(super) async fn flushed(&self) {
        loop {
            let room = self.room.notified();
            if self.outbox().bytes.is_empty() {
                return;
            }
            tokio::select! {
                () = room => {}
                () = self.lost() => return,
            }
        }
    }

    fn put(&self, frame: &[u8]) {
        let mut outbox = self.outbox();
        if !outbox.bytes.is_empty() {
            outbox.bytes.extend(frame);
            return;
        }
        // Usually the socket takes it at once, without waking another thread.
        let sent = match send(self.socket.get_ref(), frame, &[]) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            // The reader notices the end of the socket.
            Err(_) => return,
        };
        outbox.bytes.extend(frame.get(sent..).unwrap_or_default());
        if sent < frame.len() {
            self.blocked.notify_one();
        }
    }

    /// Writes what [`Link::put`] had to leave. Ends when the socket does.
    async fn write_blocked(&self) {
        loop {
            self.blocked.notified().await;
            loop {
                let Ok(mut ready) = self.socket.writable().await else { return };
                let mut outbox = self.outbox();
                if outbox.bytes.is_empty() {
                    outbox.refill();
                }
                let (front, _) = outbox.bytes.as_slices();
                if front.is_empty() {
                    break;
                }
                match send(self.socket.get_ref(), front, &[]) {
                    Ok(sent) => {
                        outbox.bytes.drain(..sent);
                        self.room.notify_waiters();
                    }
                    Err(Errno::AGAIN) => ready.clear_ready(),
                    Err(_) => return,
                }
            }
        }
    }

    fn lose(&self) {
        self.shut_down();
        // Under the children's lock, so that no child is registered afterwards.
        let mut children = self.children();
        if *self.life.borrow() != Life::Left {
            self.life.send_replace(Life::Lost);
            children.clear();
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> MutexGuard<'_, HashMap<ChildNumber, Slot>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
