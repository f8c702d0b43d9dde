//! The control stream: messages are queued at once, and written together before anything else.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_model::limits;
use sortie_wire::close::CloseCode;
use sortie_wire::frame::write_message;
use sortie_wire::permit::Lane;
use sortie_wire::{DecodeError, Frame, Message};
use tokio::sync::Notify;

use crate::error::{CloseReason, SendError};
use crate::frames::{FrameFault, FrameReader};
use crate::link::Link;
use crate::transport::{Connection, RawSend, StreamFault};

/// Frames that wait for the writer.
#[derive(Default)]
pub(crate) struct ControlQueue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    frames: usize,
    closed: bool,
}

impl ControlQueue {
    pub(crate) fn push<M: Message>(&self, message: &M) -> Result<(), SendError> {
        let mut waiting = self.lock();
        if waiting.frames >= limits::CONTROL_QUEUE_FRAMES
            || waiting.bytes.len() >= limits::CONTROL_QUEUE_BYTES
        {
            return Err(SendError::TooSlow);
        }
        write_message(message, &mut waiting.bytes)?;
        waiting.frames += 1;
        // The writer looks again before it sleeps, so it is woken for the first frame only.
        let first = waiting.frames == 1;
        drop(waiting);
        if first {
            self.changed.notify_one();
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    #[cfg(test)]
    pub(crate) fn push_raw(&self, bytes: &[u8]) {
        let mut waiting = self.lock();
        waiting.bytes.extend_from_slice(bytes);
        waiting.frames += 1;
        drop(waiting);
        self.changed.notify_one();
    }

    /// All that waits, or none when the queue is closed and empty.
    async fn take(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut waiting = self.lock();
                if waiting.frames > 0 {
                    waiting.frames = 0;
                    return Some(std::mem::take(&mut waiting.bytes));
                }
                if waiting.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock, so a poisoned state is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is queued until the link is dropped or down.
pub(crate) async fn write(queue: Arc<ControlQueue>, mut stream: RawSend, connection: Connection) {
    loop {
        let bytes = tokio::select! {
            biased;
            bytes = queue.take() => bytes,
            _ = connection.closed() => None,
        };
        let Some(bytes) = bytes else { break };
        match stream.write(&mut [Bytes::from(bytes)]).await {
            Ok(()) => {}
            Err(StreamFault::Closed(_)) => break,
            Err(_) => {
                connection.close(CloseCode::GARBAGE, "the control stream was ended");
                break;
            }
        }
    }
}

/// The receiving end of the control stream. It exists once per link and keeps the link up.
pub struct ControlReceiver {
    reader: FrameReader,
    link: Link,
}

impl ControlReceiver {
    pub(crate) fn new(mut reader: FrameReader, link: Link) -> Self {
        reader.allow(limits::FRAME_BYTES);
        Self { reader, link }
    }

    /// The next control message, or none when the link is down: see [`Link::close_reason`].
    ///
    /// A frame that is too long, or of a kind that the peer's certificate does not permit, closes
    /// the link. The body is not decoded: who cannot decode it closes the link with
    /// [`CloseCode::GARBAGE`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Frame> {
        let fault = match self.reader.next().await {
            Ok(Some(frame)) if self.link.permits(Lane::Control, frame.kind) => {
                self.link.heard();
                return Some(frame);
            }
            Ok(Some(frame)) => {
                let error = DecodeError::Unexpected { kind: frame.kind };
                (CloseCode::FORBIDDEN, error.to_string())
            }
            Ok(None) => (CloseCode::GARBAGE, "the control stream was ended".to_owned()),
            Err(FrameFault::Stream(StreamFault::Closed(_))) => return None,
            Err(FrameFault::Stream(_) | FrameFault::Truncated) => {
                (CloseCode::GARBAGE, "the control stream was ended".to_owned())
            }
            Err(FrameFault::Decode(error)) => (CloseCode::GARBAGE, error.to_string()),
        };
        let (code, text) = fault;
        tracing::warn!(link = ?self.link, %code, text, "closing a link");
        self.link.close(code, &text);
        None
    }

    /// Why the link is down, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.link.close_reason()
    }
}

impl fmt::Debug for ControlReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlReceiver({:?})", self.link)
    }
}
