//! One request and its answers: a pair of ends, in memory, over a link's bidirectional stream, or
//! over a socket between a worker and its node.
//!
//! All ways carry the same typed messages, so a session behaves alike whether its client is in the
//! same process or on another machine; in memory nothing is encoded.

mod carrier;
mod place;
mod read;

use bytes::Bytes;
use sortie_model::limits::KIB;
use sortie_model::{NodeName, Record};
use sortie_wire::frame::Message;
use sortie_wire::host_proto::RecordRun;
use sortie_wire::session_proto::{
    Acknowledged, Answer, Delivery, Happening, InputData, Request, Source,
};
use sortie_wire::{DecodeError, TooLarge, frame};
use tokio::sync::mpsc;

use crate::data::exchange::place::placed;
use crate::data::exchange::read::read;

pub use crate::data::exchange::carrier::{Incoming, Outgoing};

/// Messages or batches of one direction in memory. Small: the reader's pace is the writer's.
const QUEUED_MESSAGES: usize = 4;
/// Payloads below this go into one write with the frames around them.
const GATHERED_BYTES: usize = 16 * KIB;

/// From the client to the serving node, after its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToServer {
    /// The records up to that delivery are written out; they may be freed.
    Acknowledged(u64),
    /// Input of a job.
    Input {
        /// The bytes.
        bytes: Bytes,
        /// Whether this is the end of the input.
        last: bool,
    },
}

/// From the serving node to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToClient {
    /// An answer.
    Answer(Answer),
    /// Records of one child; acknowledge `number` unless it is 0.
    Records {
        /// What to acknowledge.
        number: u64,
        /// From which child.
        source: Source,
        /// The records, in order.
        records: Vec<Record>,
    },
    /// Anything else that a receive brings; never [`Delivery::Records`].
    Delivery(Delivery),
    /// Something that happened to a job or a child.
    Happening(Happening),
}

/// Why an exchange ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The other end is gone: its process, its link, or it abandoned the exchange.
    #[error("the connection to the node was lost")]
    Gone,
    /// The other end sent what cannot be read.
    #[error("the other side sent a message that cannot be read")]
    Malformed(#[from] DecodeError),
    /// A message is larger than a frame may be.
    #[error("the request is larger than {} bytes", sortie_model::limits::FRAME_BYTES)]
    TooLarge,
}

impl From<TooLarge> for ExchangeError {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// The client's end. Dropping it abandons the request.
#[derive(Debug)]
pub struct ClientEnd {
    /// Towards the node.
    pub sender: ClientSender,
    /// From the node.
    pub receiver: ClientReceiver,
}

/// The serving node's end. Dropping it ends the exchange.
#[derive(Debug)]
pub struct ServerEnd {
    /// Towards the client.
    pub sender: ServerSender,
    /// From the client.
    pub receiver: ServerReceiver,
}

/// Sends to the serving node.
#[derive(Debug)]
pub enum ClientSender {
    /// In this process.
    Local(mpsc::Sender<ToServer>),
    /// To another process.
    Away(Outgoing),
}

/// Receives from the serving node.
#[derive(Debug)]
pub enum ClientReceiver {
    /// In this process.
    Local(LocalReceiver),
    /// From another process.
    Away(Incoming),
    /// From a node where the client is not at home: children there are on that node, not here.
    Elsewhere(Incoming, NodeName),
}

/// Messages within this process, which come in batches.
#[derive(Debug)]
pub struct LocalReceiver {
    channel: mpsc::Receiver<Vec<ToClient>>,
    ready: std::vec::IntoIter<ToClient>,
}

/// Sends to the client.
#[derive(Debug)]
pub enum ServerSender {
    /// In this process.
    Local(mpsc::Sender<Vec<ToClient>>),
    /// To another process.
    Away(Outgoing),
}

/// Receives from the client.
#[derive(Debug)]
pub enum ServerReceiver {
    /// In this process.
    Local(mpsc::Receiver<ToServer>),
    /// From another process.
    Away(Incoming),
}

/// Both ends of an exchange within this process.
pub fn local() -> (ClientEnd, ServerEnd) {
    let (to_server, from_client) = mpsc::channel(QUEUED_MESSAGES);
    let (to_client, from_server) = mpsc::channel(QUEUED_MESSAGES);
    let client = ClientEnd {
        sender: ClientSender::Local(to_server),
        receiver: ClientReceiver::Local(LocalReceiver {
            channel: from_server,
            ready: Vec::new().into_iter(),
        }),
    };
    let server = ServerEnd {
        sender: ServerSender::Local(to_client),
        receiver: ServerReceiver::Local(from_client),
    };
    (client, server)
}

impl ClientEnd {
    /// Asks a node outside this process.
    ///
    /// # Errors
    /// [`ExchangeError`] when the request is too large or the other side is gone.
    pub async fn away(
        sender: impl Into<Outgoing>,
        receiver: impl Into<Incoming>,
        request: &Request,
    ) -> Result<Self, ExchangeError> {
        let (mut sender, receiver) = (sender.into(), receiver.into());
        sender.send(request).await?;
        Ok(Self { sender: ClientSender::Away(sender), receiver: ClientReceiver::Away(receiver) })
    }

    /// The same where the client is not at home on the node, which has that name: `localhost` is
    /// another machine's to say.
    #[must_use]
    pub fn elsewhere(mut self, node: NodeName) -> Self {
        if let ClientReceiver::Away(stream) = self.receiver {
            self.receiver = ClientReceiver::Elsewhere(stream, node);
        }
        self
    }
}

impl ServerEnd {
    /// Reads the request with which a client outside this process begins.
    ///
    /// # Errors
    /// [`ExchangeError`] when the stream ends or carries anything else.
    pub async fn accept(
        sender: impl Into<Outgoing>,
        receiver: impl Into<Incoming>,
    ) -> Result<(Request, Self), ExchangeError> {
        let (sender, mut receiver) = (sender.into(), receiver.into());
        let frame = receiver.next().await?;
        let request = frame.ok_or(ExchangeError::Gone)?.open()?;
        let end =
            Self { sender: ServerSender::Away(sender), receiver: ServerReceiver::Away(receiver) };
        Ok((request, end))
    }
}

impl ClientSender {
    /// Sends, waiting for room.
    ///
    /// # Errors
    /// [`ExchangeError::Gone`] when the serving end is gone.
    ///
    /// # Cancel safety
    /// Not cancel safe to another process: a message may be cut, which ends the exchange.
    pub async fn send(&mut self, message: ToServer) -> Result<(), ExchangeError> {
        match self {
            Self::Local(channel) => channel.send(message).await.map_err(|_| ExchangeError::Gone),
            Self::Away(stream) => match message {
                ToServer::Acknowledged(number) => stream.send(&Acknowledged { number }).await,
                ToServer::Input { bytes, last } => {
                    stream.send_with_payload(&InputData { last }, vec![bytes]).await
                }
            },
        }
    }

    /// Says that nothing follows, and waits until the node has everything: a program that ends
    /// loses what was not delivered. In memory, dropping the end says it.
    ///
    /// # Errors
    /// [`ExchangeError::Gone`] when the serving end is gone.
    ///
    /// # Cancel safety
    /// Cancel safe: the stream is ended by the first poll.
    pub async fn finish(self) -> Result<(), ExchangeError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Away(stream) => stream.deliver().await,
        }
    }
}

impl ClientReceiver {
    /// The next message; none once the serving end has finished.
    ///
    /// # Errors
    /// [`ExchangeError`] when the other side is gone or the message cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<ToClient>, ExchangeError> {
        match self {
            Self::Local(local) => Ok(local.next().await),
            Self::Away(stream) => read(stream).await,
            Self::Elsewhere(stream, node) => {
                Ok(read(stream).await?.map(|message| placed(message, node)))
            }
        }
    }
}

impl LocalReceiver {
    async fn next(&mut self) -> Option<ToClient> {
        loop {
            if let Some(message) = self.ready.next() {
                return Some(message);
            }
            self.ready = self.channel.recv().await?.into_iter();
        }
    }
}

impl ServerSender {
    /// Sends, waiting for room.
    ///
    /// # Errors
    /// [`ExchangeError::Gone`] when the client is gone.
    ///
    /// # Cancel safety
    /// Not cancel safe to another process: a message may be cut, which ends the exchange.
    pub async fn send(&mut self, message: ToClient) -> Result<(), ExchangeError> {
        self.send_all(vec![message]).await
    }

    /// Sends messages in order, small ones in one write; otherwise as [`send`](Self::send).
    pub async fn send_all(&mut self, messages: Vec<ToClient>) -> Result<(), ExchangeError> {
        let stream = match self {
            Self::Local(channel) => {
                return channel.send(messages).await.map_err(|_| ExchangeError::Gone);
            }
            Self::Away(stream) => stream,
        };
        let mut frames = Vec::new();
        for message in messages {
            match message {
                ToClient::Answer(answer) => frame::write_message(&answer, &mut frames)?,
                ToClient::Happening(happening) => frame::write_message(&happening, &mut frames)?,
                ToClient::Delivery(delivery) => frame::write_head(&delivery, 0, &mut frames)?,
                ToClient::Records { number, source, records } => {
                    let mut payload = Vec::with_capacity(records.len());
                    let runs = RecordRun::pack_all(source.ordinal, records, &mut payload);
                    let delivery = Delivery::Records { number, source, runs };
                    let bytes: usize = payload.iter().map(Bytes::len).sum();
                    if bytes < GATHERED_BYTES {
                        frame::write_head(&delivery, bytes, &mut frames)?;
                        payload.iter().for_each(|chunk| frames.extend_from_slice(chunk));
                        continue;
                    }
                    if !frames.is_empty() {
                        stream.send_raw(std::mem::take(&mut frames)).await?;
                    }
                    stream.send_with_payload(&delivery, payload).await?;
                }
            }
        }
        if !frames.is_empty() {
            stream.send_raw(frames).await?;
        }
        Ok(())
    }

    /// Sends an answer as the last message, so that the client sees a clean end.
    ///
    /// # Errors
    /// [`ExchangeError::Gone`] when the client is gone.
    pub async fn finish_with(mut self, answer: Answer) -> Result<(), ExchangeError> {
        self.send(ToClient::Answer(answer)).await?;
        self.finish().await
    }

    /// Ends the exchange cleanly.
    ///
    /// # Errors
    /// [`ExchangeError::Gone`] when the client is gone.
    pub async fn finish(self) -> Result<(), ExchangeError> {
        match self {
            Self::Local(_) => Ok(()),
            // The link stays, so what is on its way arrives.
            Self::Away(stream) => stream.finish(),
        }
    }

    /// Resolves when the client has abandoned the exchange.
    pub async fn abandoned(&mut self) {
        match self {
            Self::Local(channel) => channel.closed().await,
            Self::Away(stream) => stream.abandoned().await,
        }
    }
}

impl ServerReceiver {
    /// The next message; none once the client has ended its side or is gone.
    ///
    /// # Errors
    /// [`ExchangeError`] when the other side is gone or the message cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<ToServer>, ExchangeError> {
        let stream = match self {
            Self::Local(channel) => return Ok(channel.recv().await),
            Self::Away(stream) => stream,
        };
        let Some(frame) = stream.next().await? else {
            return Ok(None);
        };
        if frame.kind == Acknowledged::KIND {
            let Acknowledged { number } = frame.open()?;
            return Ok(Some(ToServer::Acknowledged(number)));
        }
        let (InputData { last }, bytes) = frame::open_head(frame)?;
        Ok(Some(ToServer::Input { bytes, last }))
    }
}
