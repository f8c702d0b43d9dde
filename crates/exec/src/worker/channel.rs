//! The worker's end of its channel to the node.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BytesMut};
use rustix::io::Errno;
use sortie_wire::frame::{Frame, take_frame, write_message};
use sortie_wire::worker_proto::{WORKER_FRAME_BYTES, WorkerEnd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::sys::channel::send;
use crate::sys::watch::watch;

/// Bytes that one read takes at most.
const READ_BYTES: usize = 16 << 10;

/// The channel. Frames are written whole and in order, whoever writes them.
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
    /// The end of a frame whose beginning was written, and frames that could not wait.
    rest: Mutex<BytesMut>,
    /// There is a rest.
    left: Notify,
}

/// Whether something could be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It was, or nobody listens any more: then the guardian ends this process.
    Done,
    /// The channel is full.
    Blocked,
}

impl Channel {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Arc<Self>> {
        let socket = watch(socket, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Arc::new(Self { socket, rest: Mutex::default(), left: Notify::new() }))
    }

    fn rest(&self) -> MutexGuard<'_, BytesMut> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a frame, unless nothing of it can be written now. What the channel does not take of
    /// it follows by itself.
    pub(super) fn put(&self, frame: &[u8]) -> Put {
        self.put_with(frame, &[])
    }

    /// The same; these descriptors go with the frame's first byte.
    fn put_with(&self, frame: &[u8], with: &[BorrowedFd<'_>]) -> Put {
        let mut rest = self.rest();
        if self.write_rest(&mut rest) == Put::Blocked {
            return Put::Blocked;
        }
        match send(self.socket.get_ref(), frame, with) {
            Ok(sent) => {
                rest.extend_from_slice(frame.get(sent..).unwrap_or_default());
                if !rest.is_empty() {
                    self.left.notify_one();
                }
                Put::Done
            }
            Err(Errno::AGAIN) => Put::Blocked,
            Err(_) => Put::Done,
        }
    }

    /// Writes a small frame as soon as the channel takes it, behind what was written before. To be
    /// used only where there are few at once.
    pub(super) fn say(&self, frame: &[u8]) {
        if self.put(frame) == Put::Blocked {
            self.rest().extend_from_slice(frame);
            self.left.notify_one();
        }
    }

    fn write_rest(&self, rest: &mut BytesMut) -> Put {
        while !rest.is_empty() {
            match send(self.socket.get_ref(), rest, &[]) {
                Ok(sent) => rest.advance(sent),
                Err(Errno::AGAIN) => return Put::Blocked,
                Err(_) => rest.clear(),
            }
        }
        // Gives the memory back.
        *rest = BytesMut::new();
        Put::Done
    }

    /// Tries until it is done.
    pub(super) async fn wait(&self, attempt: impl Fn() -> Put) {
        while let Ok(mut ready) = self.socket.writable().await {
            match attempt() {
                Put::Done => return,
                Put::Blocked => ready.clear_ready(),
            }
        }
    }

    /// Writes a frame, waiting for room.
    pub(super) async fn write(&self, frame: &[u8]) {
        self.wait(|| self.put(frame)).await;
    }

    /// Gives the node a descriptor with a frame, waiting for room. Dropped before it is ready,
    /// nothing was given.
    pub(super) async fn give(&self, frame: &[u8], descriptor: BorrowedFd<'_>) {
        self.wait(|| self.put_with(frame, &[descriptor])).await;
    }

    async fn flush(&self) {
        self.wait(|| self.write_rest(&mut self.rest())).await;
    }

    /// Writes what is left whenever there is room. Does not end.
    pub(super) async fn keep_flushing(self: Arc<Self>) {
        loop {
            self.left.notified().await;
            self.flush().await;
        }
    }

    pub(super) async fn end(&self, end: &WorkerEnd) {
        let mut frame = Vec::new();
        if write_message(end, &mut frame).is_err() {
            frame.clear();
            // Has no content that could be too large.
            let _ = write_message(&WorkerEnd::TooLarge, &mut frame);
        }
        self.write(&frame).await;
        self.flush().await;
    }

    /// The node's next frame, whose beginning may be in the buffer; none when the node is gone.
    pub(super) async fn read(&self, buffer: &mut BytesMut) -> Option<Frame> {
        loop {
            if let Some(frame) = take_frame(buffer, WORKER_FRAME_BYTES).ok()? {
                return Some(frame);
            }
            let mut ready = self.socket.readable().await.ok()?;
            let mut bytes = [0; READ_BYTES];
            match rustix::io::read(self.socket.get_ref(), &mut bytes) {
                Ok(0) => return None,
                Ok(length) => buffer.extend_from_slice(bytes.get(..length)?),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}
