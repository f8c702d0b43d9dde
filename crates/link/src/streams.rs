//! Frames on the streams of a link, beside the control stream.

use std::fmt;

use bytes::Bytes;
use sortie_model::limits;
use sortie_wire::close::{CloseCode, StreamCode};
use sortie_wire::frame::{write_head, write_message};
use sortie_wire::permit::Lane;
use sortie_wire::{DecodeError, Frame, Message};

use crate::error::{CloseReason, StreamError};
use crate::frames::{FrameFault, FrameReader};
use crate::link::Link;
use crate::transport::{RawReceive, RawSend, StreamFault};

/// Payload chunks below this are copied next to the head: QUIC keeps a list of what was written,
/// and a long list of small pieces costs more than the copy.
const COPIED_BYTES: usize = 4 * limits::KIB;

/// The sending end of a stream.
///
/// Dropping it before [`finish`](Self::finish) resets the stream with [`StreamCode::DROPPED`]: the
/// receiver never takes a part for the whole.
pub struct FrameSender {
    raw: RawSend,
    state: SendState,
    /// Keeps the link up while it has streams.
    link: Link,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendState {
    /// At the border of two frames.
    Whole,
    /// Within a write; if that was dropped, the stream is torn.
    Writing,
    /// Finished or reset.
    Ended,
}

impl FrameSender {
    pub(crate) const fn new(raw: RawSend, link: Link) -> Self {
        Self { raw, state: SendState::Whole, link }
    }

    /// Sends one message. Waits while the stream's window is full.
    ///
    /// # Errors
    /// [`StreamError`]; after [`StreamError::TooLarge`] the stream can still be used.
    ///
    /// # Cancel safety
    /// Not cancel safe: when the future is dropped the frame may be half written, and every later
    /// send is [`StreamError::Ended`].
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<(), StreamError> {
        let mut bytes = Vec::new();
        write_message(message, &mut bytes)?;
        self.write(&mut [Bytes::from(bytes)]).await
    }

    /// Sends a head and the bytes that belong to it as one frame. Large chunks are not copied.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_with_payload<M: Message>(
        &mut self,
        head: &M,
        payload: Vec<Bytes>,
    ) -> Result<(), StreamError> {
        let length = payload.iter().map(Bytes::len).sum();
        let mut gathered = Vec::new();
        write_head(head, length, &mut gathered)?;
        let mut chunks = Vec::with_capacity(payload.len() + 1);
        for chunk in payload {
            if chunk.len() < COPIED_BYTES {
                gathered.extend_from_slice(&chunk);
                continue;
            }
            if !gathered.is_empty() {
                chunks.push(Bytes::from(std::mem::take(&mut gathered)));
            }
            chunks.push(chunk);
        }
        if !gathered.is_empty() {
            chunks.push(Bytes::from(gathered));
        }
        self.write(&mut chunks).await
    }

    /// Sends frames that were encoded before, one after the other, in one write.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub async fn send_raw(&mut self, frames: Vec<u8>) -> Result<(), StreamError> {
        self.write(&mut [Bytes::from(frames)]).await
    }

    /// Resolves when the other side gives the stream up, or the link is down.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn stopped(&mut self) {
        // Whichever way it ended: nobody reads any more.
        let _ = self.raw.delivered().await;
    }

    /// Ends the stream cleanly: the receiver gets everything, then the end. Without waiting for
    /// the returned [`Finished`], what was sent is still on its way when this returns.
    ///
    /// # Errors
    /// [`StreamError`] when the stream had ended already.
    pub fn finish(mut self) -> Result<Finished, StreamError> {
        if self.state == SendState::Whole {
            self.state = SendState::Ended;
            self.raw.finish().map_err(|fault| self.link.stream_error(fault))?;
            Ok(Finished(self))
        } else {
            Err(StreamError::Ended)
        }
    }

    /// Gives the stream up: the receiver gets [`StreamError::Reset`], maybe before all that was
    /// sent.
    pub fn reset(mut self, code: StreamCode) {
        self.state = SendState::Ended;
        self.raw.reset(code);
    }

    /// What goes first when much is ready: higher is sooner; 0 at the start.
    pub fn prioritise(&self, priority: i32) {
        self.raw.prioritise(priority);
    }

    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamError> {
        if self.state != SendState::Whole {
            return Err(StreamError::Ended);
        }
        if chunks.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        self.state = SendState::Writing;
        self.raw.write(chunks).await.map_err(|fault| self.link.stream_error(fault))?;
        self.state = SendState::Whole;
        Ok(())
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        if self.state != SendState::Ended {
            self.raw.reset(StreamCode::DROPPED);
        }
    }
}

/// A stream that was finished. Dropping it takes nothing back.
pub struct Finished(FrameSender);

impl Finished {
    /// Waits until the other side's transport has everything. A program that ends, and a link that
    /// is closed, lose what was not delivered.
    ///
    /// # Errors
    /// [`StreamError::Stopped`] when the receiver gave up, [`StreamError::Closed`] when the link
    /// did.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn delivered(&mut self) -> Result<(), StreamError> {
        self.0.raw.delivered().await.map_err(|fault| self.0.link.stream_error(fault))
    }
}

/// The receiving end of a stream.
///
/// Dropping it before its end stops the stream with [`StreamCode::DROPPED`]: the sender's next send
/// fails.
pub struct FrameReceiver {
    reader: FrameReader,
    lane: Lane,
    ended: bool,
    link: Link,
}

impl FrameReceiver {
    pub(crate) fn new(raw: RawReceive, lane: Lane, link: Link) -> Self {
        Self { reader: FrameReader::new(raw, limits::FRAME_BYTES), lane, ended: false, link }
    }

    /// Frames with longer bodies close the link; [`limits::FRAME_BYTES`] at the start.
    pub const fn limit(&mut self, body_bytes: usize) {
        self.reader.allow(body_bytes);
    }

    /// The next frame; none after the sender finished the stream. Not reading is what slows the
    /// sender down: no more than one window is on its way.
    ///
    /// # Errors
    /// [`StreamError`]. A frame that is too long, or of a kind that the other side's certificate
    /// does not permit here, closes the link.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        let fault = match self.reader.next().await {
            Ok(Some(frame)) if self.link.permits(self.lane, frame.kind) => return Ok(Some(frame)),
            Ok(Some(frame)) => {
                let error = DecodeError::Unexpected { kind: frame.kind };
                self.link.close(CloseCode::FORBIDDEN, &error.to_string());
                StreamError::Protocol(error)
            }
            Ok(None) => {
                self.ended = true;
                return Ok(None);
            }
            Err(FrameFault::Stream(fault)) => self.link.stream_error(fault),
            Err(FrameFault::Truncated) => StreamError::Truncated,
            Err(FrameFault::Decode(error)) => {
                self.link.close(CloseCode::GARBAGE, &error.to_string());
                StreamError::Protocol(error)
            }
        };
        self.ended = true;
        Err(fault)
    }

    /// Gives the stream up: the sender's next send is [`StreamError::Stopped`].
    pub fn stop(mut self, code: StreamCode) {
        self.ended = true;
        self.reader.stop(code);
    }
}

impl Drop for FrameReceiver {
    fn drop(&mut self) {
        if !self.ended {
            self.reader.stop(StreamCode::DROPPED);
        }
    }
}

impl Link {
    /// The public error of a stream's fault, with our own words when we closed the link.
    pub(crate) fn stream_error(&self, fault: StreamFault) -> StreamError {
        match fault {
            StreamFault::Closed(reason) => StreamError::Closed(self.in_our_words(reason)),
            StreamFault::Reset(code) => StreamError::Reset(code),
            StreamFault::Stopped(code) => StreamError::Stopped(code),
            StreamFault::Ended => StreamError::Ended,
        }
    }

    pub(crate) fn in_our_words(&self, reason: CloseReason) -> CloseReason {
        match (&reason, self.closed_here()) {
            (CloseReason::Here { .. }, Some((code, text))) => {
                CloseReason::Here { code: *code, text: text.clone() }
            }
            _ => reason,
        }
    }
}

impl fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSender").field("state", &self.state).finish_non_exhaustive()
    }
}

impl fmt::Debug for FrameReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReceiver").field("ended", &self.ended).finish_non_exhaustive()
    }
}
