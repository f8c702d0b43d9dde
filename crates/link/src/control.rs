//! The control stream: messages are queued at once, and written together before anything else.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use sortie_model::limits;
use sortie_wire::close::CloseCode;
use sortie_wire::frame::write_message;
use sortie_wire::permit::Lane;
use sortie_wire::{DecodeError, Frame, Message};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{CloseReason, SendError};
use crate::frames::{FrameFault, FrameReader};
use crate::link::Link;
use crate::transport::{Connection, RawSend, StreamFault};

/// The control stream's sending end, with the frames that wait for it.
///
/// Frames are taken from `waiting` only by who holds `stream`, so that they keep their order.
pub(crate) struct ControlQueue {
    waiting: Mutex<Waiting>,
    changed: Notify,
    stream: tokio::sync::Mutex<RawSend>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    frames: usize,
    closed: bool,
    last: Option<Instant>,
}

impl ControlQueue {
    pub(crate) fn new(stream: RawSend) -> Self {
        let stream = tokio::sync::Mutex::new(stream);
        Self { waiting: Mutex::default(), changed: Notify::new(), stream }
    }

    pub(crate) fn push<M: Message>(&self, message: &M) -> Result<(), SendError> {
        let mut waiting = self.lock();
        if waiting.frames >= limits::CONTROL_QUEUE_FRAMES
            || waiting.bytes.len() >= limits::CONTROL_QUEUE_BYTES
        {
            return Err(SendError::TooSlow);
        }
        write_message(message, &mut waiting.bytes)?;
        waiting.frames += 1;
        let now = Instant::now();
        let alone = waiting.last.replace(now).is_none_or(|last| now - last > limits::CLOSELY);
        // The writer looks again before it sleeps, so it is woken for the first frame only.
        if waiting.frames == 1 && !(alone && self.write_at_once(&mut waiting)) {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Writes the one frame that waits, unless the stream is busy, full or gone.
    fn write_at_once(&self, waiting: &mut Waiting) -> bool {
        let Ok(mut stream) = self.stream.try_lock() else { return false };
        let mut chunks = [Bytes::from(std::mem::take(&mut waiting.bytes))];
        // Nobody is woken by this context: what cannot be written now is left to the writer.
        let mut context = Context::from_waker(Waker::noop());
        let written = pin!(stream.write(&mut chunks)).poll(&mut context);
        let [left] = chunks;
        if matches!(written, Poll::Ready(Ok(()))) {
            waiting.frames = 0;
            return true;
        }
        waiting.bytes = left.into();
        false
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.lock().bytes.len()
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

    /// Waits for frames. False once the queue is closed and empty.
    async fn filled(&self) -> bool {
        loop {
            {
                let waiting = self.lock();
                if waiting.frames > 0 {
                    return true;
                }
                if waiting.closed {
                    return false;
                }
            }
            self.changed.notified().await;
        }
    }

    fn take(&self) -> Vec<u8> {
        let mut waiting = self.lock();
        waiting.frames = 0;
        std::mem::take(&mut waiting.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock, so a poisoned state is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what waits, all of it together, until the link is dropped or down.
pub(crate) async fn write(queue: Arc<ControlQueue>, connection: Connection) {
    loop {
        let filled = tokio::select! {
            biased;
            filled = queue.filled() => filled,
            _ = connection.closed() => false,
        };
        if !filled {
            break;
        }
        let mut stream = queue.stream.lock().await;
        let bytes = Bytes::from(queue.take());
        if bytes.is_empty() {
            continue;
        }
        match stream.write(&mut [bytes]).await {
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
    /// Dropped before the stream, so that the last handle of a link closes it, and the other side
    /// does not take a stream that ends first for a fault of this one.
    link: Link,
    reader: FrameReader,
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
