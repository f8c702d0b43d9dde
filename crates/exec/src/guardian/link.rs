//! The socket to the guardian: requests out, reports in, each child's news to whoever waits for it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::Shutdown;
use sortie_model::limits;
use sortie_wire::frame::write_message;
use sortie_wire::guardian_proto::{
    ChildNumber, GuardianReport, GuardianRequest, Remainder, StandardInput,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use crate::error::SpawnError;
use crate::process::Ended;
use crate::sys::channel::{Filled, Inbox, send};
use crate::sys::watch::watch;

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
    next_child: AtomicU64,
    life: tokio::sync::watch::Sender<Life>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    Lost,
}

#[derive(Debug, Default)]
struct Outbox {
    bytes: VecDeque<u8>,
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
}

/// The other ends of a [`Slot`].
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) spawned: oneshot::Receiver<Result<Started, SpawnError>>,
    pub(super) ended: oneshot::Receiver<Ended>,
    pub(super) gone: oneshot::Receiver<u32>,
}

impl Link {
    /// Begins to serve the socket. The receiver gets the first report.
    pub(super) fn start(
        socket: OwnedFd,
    ) -> io::Result<(Arc<Self>, oneshot::Receiver<GuardianReport>)> {
        let link = Arc::new(Self {
            socket: watch(socket, Interest::READABLE | Interest::WRITABLE)?,
            outbox: Mutex::default(),
            blocked: Notify::new(),
            room: Notify::new(),
            children: Mutex::default(),
            next_child: AtomicU64::new(1),
            life: tokio::sync::watch::Sender::new(Life::Alive),
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

    pub(super) async fn lost(&self) {
        // Fails only when the sender is gone, and that is `self`.
        let _ = self.life.subscribe().wait_for(|life| *life == Life::Lost).await;
    }

    /// Makes both ends see the end of the socket.
    pub(super) fn shut_down(&self) {
        let _ = rustix::net::shutdown(self.socket.get_ref(), Shutdown::Both);
    }

    /// A number for a new child, and where its news will arrive.
    pub(super) fn register(&self) -> (ChildNumber, Pending) {
        let child = ChildNumber(self.next_child.fetch_add(1, Ordering::Relaxed));
        let (spawned_sender, spawned) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        let (gone, gone_receiver) = oneshot::channel();
        let slot = Slot { spawned: Some(spawned_sender), ended: Some(ended_sender), gone };
        // A guardian that is lost drops all slots, this one included, before or after it is put in.
        let mut children = self.children();
        if self.is_alive() {
            children.insert(child, slot);
        }
        (child, Pending { spawned, ended, gone: gone_receiver })
    }

    pub(super) fn forget(&self, child: ChildNumber) {
        self.children().remove(&child);
    }

    /// Sends a request once the outbox has room for it.
    ///
    /// # Errors
    /// When the request is too large, or the guardian is gone.
    pub(super) async fn post_large(&self, request: &GuardianRequest) -> Result<(), SpawnError> {
        while self.outbox().bytes.len() > limits::GUARDIAN_OUTBOX_BYTES {
            let room = self.room.notified();
            if self.outbox().bytes.len() > limits::GUARDIAN_OUTBOX_BYTES {
                tokio::select! {
                    () = room => {}
                    () = self.lost() => return Err(SpawnError::NO_GUARDIAN),
                }
            }
        }
        let mut frame = Vec::new();
        if write_message(request, &mut frame).is_err() {
            return Err(SpawnError::TOO_LARGE);
        }
        self.put(&frame);
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
        self.life.send_replace(Life::Lost);
        children.clear();
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> MutexGuard<'_, HashMap<ChildNumber, Slot>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads reports and hands them out.
struct Reader<'a> {
    link: &'a Link,
    inbox: Inbox,
    /// Descriptors that the messages to come will take.
    descriptors: VecDeque<OwnedFd>,
    hello: Option<oneshot::Sender<GuardianReport>>,
}

impl<'a> Reader<'a> {
    fn new(link: &'a Link, hello: oneshot::Sender<GuardianReport>) -> Self {
        Self { link, inbox: Inbox::default(), descriptors: VecDeque::new(), hello: Some(hello) }
    }

    async fn run(&mut self) {
        loop {
            let Ok(mut ready) = self.link.socket.readable().await else { return };
            match self.inbox.fill(self.link.socket.get_ref()) {
                Ok(Filled::More) => {}
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Ok(Filled::Closed) | Err(_) => return,
            }
            loop {
                match self.inbox.take() {
                    Ok(Some(report)) => self.on_report(report),
                    Ok(None) => break,
                    // A guardian that does not speak the protocol is none.
                    Err(_) => return,
                }
            }
        }
    }

    fn on_report(&mut self, report: GuardianReport) {
        match report {
            GuardianReport::Hello { .. } => {
                if let Some(hello) = self.hello.take() {
                    let _ = hello.send(report);
                }
            }
            GuardianReport::Descriptors { .. } => self.descriptors = self.inbox.descriptors(),
            GuardianReport::Spawned { child, pid, input } => self.on_spawned(child, pid, input),
            GuardianReport::SpawnFailed { child, step, errno } => {
                if let Some(slot) = self.link.children().remove(&child)
                    && let Some(spawned) = slot.spawned
                {
                    let _ = spawned.send(Err(SpawnError { step, errno }));
                }
            }
            GuardianReport::Exited { child, end, stage, memory, disturbance, remainder } => {
                self.on_ended(child, Ended { end, stage, memory, disturbance, remainder });
            }
            GuardianReport::Gone { child, left_behind } => {
                if let Some(slot) = self.link.children().remove(&child) {
                    let _ = slot.gone.send(left_behind);
                }
            }
        }
    }

    fn on_spawned(&mut self, child: ChildNumber, pid: u32, input: StandardInput) {
        let count = match input {
            StandardInput::Null => 2,
            StandardInput::Pipe | StandardInput::Channel => 3,
        };
        let pipes = self.descriptors.drain(..count.min(self.descriptors.len())).collect();
        let spawned = self.link.children().get_mut(&child).and_then(|slot| slot.spawned.take());
        if let Some(spawned) = spawned {
            // Whoever has stopped waiting has asked for a kill.
            let _ = spawned.send(Ok(Started { pid, pipes }));
        }
    }

    fn on_ended(&self, child: ChildNumber, ended: Ended) {
        let mut children = self.link.children();
        match ended.remainder {
            Remainder::Alone => {
                if let Some(slot) = children.remove(&child) {
                    if let Some(sender) = slot.ended {
                        let _ = sender.send(ended);
                    }
                    let _ = slot.gone.send(0);
                }
            }
            Remainder::Others => {
                if let Some(sender) = children.get_mut(&child).and_then(|slot| slot.ended.take()) {
                    let _ = sender.send(ended);
                }
            }
        }
    }
}
