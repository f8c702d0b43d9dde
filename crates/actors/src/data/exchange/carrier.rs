//! What carries the frames of an exchange between two processes.

use bytes::Bytes;
use sortie_exec::worker::socket::{SocketError, SocketReceiver, SocketSender};
use sortie_link::{FrameReceiver, FrameSender, StreamError};
use sortie_wire::frame::{self, Frame, Message};

use crate::data::exchange::ExchangeError;

/// The way out.
#[derive(Debug)]
pub enum Outgoing {
    /// A stream of a link.
    Link(FrameSender),
    /// The socket between a worker and its node.
    Socket(SocketSender),
}

/// The way in.
#[derive(Debug)]
pub enum Incoming {
    /// A stream of a link.
    Link(FrameReceiver),
    /// The socket between a worker and its node.
    Socket(SocketReceiver),
}

impl From<FrameSender> for Outgoing {
    fn from(stream: FrameSender) -> Self {
        Self::Link(stream)
    }
}

impl From<SocketSender> for Outgoing {
    fn from(socket: SocketSender) -> Self {
        Self::Socket(socket)
    }
}

impl From<FrameReceiver> for Incoming {
    fn from(stream: FrameReceiver) -> Self {
        Self::Link(stream)
    }
}

impl From<SocketReceiver> for Incoming {
    fn from(socket: SocketReceiver) -> Self {
        Self::Socket(socket)
    }
}

impl Outgoing {
    pub(super) async fn send<M: Message>(&mut self, message: &M) -> Result<(), ExchangeError> {
        let mut frames = Vec::new();
        frame::write_message(message, &mut frames)?;
        self.send_raw(frames).await
    }

    pub(super) async fn send_with_payload<M: Message>(
        &mut self,
        head: &M,
        payload: Vec<Bytes>,
    ) -> Result<(), ExchangeError> {
        let socket = match self {
            Self::Link(stream) => return Ok(stream.send_with_payload(head, payload).await?),
            Self::Socket(socket) => socket,
        };
        let length = payload.iter().map(Bytes::len).sum();
        let mut frames = Vec::with_capacity(length + frame::PREFIX_BYTES);
        frame::write_head(head, length, &mut frames)?;
        payload.iter().for_each(|chunk| frames.extend_from_slice(chunk));
        Ok(socket.send(&frames).await?)
    }

    pub(super) async fn send_raw(&mut self, frames: Vec<u8>) -> Result<(), ExchangeError> {
        match self {
            Self::Link(stream) => stream.send_raw(frames).await?,
            Self::Socket(socket) => socket.send(&frames).await?,
        }
        Ok(())
    }

    /// Ends this direction; what was sent is on its way.
    pub(super) fn finish(self) -> Result<(), ExchangeError> {
        match self {
            Self::Link(stream) => drop(stream.finish()?),
            Self::Socket(socket) => socket.finish()?,
        }
        Ok(())
    }

    /// Ends this direction, and waits until the other side has everything or wants no more.
    pub(super) async fn deliver(self) -> Result<(), ExchangeError> {
        let stream = match self {
            Self::Link(stream) => stream,
            Self::Socket(socket) => return Ok(socket.finish()?),
        };
        match stream.finish()?.delivered().await {
            Ok(()) | Err(StreamError::Stopped(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn abandoned(&mut self) {
        match self {
            Self::Link(stream) => stream.stopped().await,
            Self::Socket(socket) => socket.abandoned().await,
        }
    }
}

impl Incoming {
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, ExchangeError> {
        Ok(match self {
            Self::Link(stream) => stream.next().await?,
            Self::Socket(socket) => socket.next().await?,
        })
    }
}

impl From<StreamError> for ExchangeError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Protocol(error) => Self::Malformed(error),
            StreamError::TooLarge(_) => Self::TooLarge,
            _ => Self::Gone,
        }
    }
}

impl From<SocketError> for ExchangeError {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Gone => Self::Gone,
            SocketError::Malformed(error) => Self::Malformed(error),
        }
    }
}
