//! Input of jobs: bytes that children read, and items that maps are made of.

mod split;
mod terminal;

use bytes::{Bytes, BytesMut};
use sortie_actors::data::exchange::{ClientEnd, ExchangeError, ToClient, ToServer};
use sortie_model::limits;
use sortie_wire::map_items;
use sortie_wire::session_proto::Answer;

use crate::error::{Misuse, RequestError};

pub use split::{ItemSplitter, Separator};
pub use terminal::TerminalSender;

/// Feeds the standard input of a job's children: it reaches one child, or is broadcast in order to
/// all (`docs/semantics.md`, section 3.1).
///
/// Sending waits while the node has no room, so memory stays bounded however fast the caller is: in
/// a temporary session at most [`limits::INPUT_WINDOW_BYTES`](crate::limits::INPUT_WINDOW_BYTES)
/// ahead of the slowest child, in others until it is stored, at most
/// [`limits::STORED_INPUT_BYTES`](crate::limits::STORED_INPUT_BYTES) in all: on the node's disk,
/// where it outlives the node.
/// Dropping a sender without [`InputSender::finish`] tells the node that the input is lost:
/// children that still read fail with [`Reason::InputLost`](crate::Reason::InputLost).
#[derive(Debug)]
pub struct InputSender {
    pieces: Pieces,
}

/// Feeds the items of a map: one child for each, or one on every node for each.
///
/// Sending waits as for an [`InputSender`]; how far items are read ahead of their children is said
/// at [`Session::map`](crate::Session::map). Empty items are skipped. Dropping a sender without
/// [`ItemSender::finish`] tells the node that the input is lost: the children that were started go
/// on, and the job says so.
#[derive(Debug)]
pub struct ItemSender {
    pieces: Pieces,
    piece: BytesMut,
    count: usize,
}

impl InputSender {
    pub(crate) const fn new(end: ClientEnd) -> Self {
        Self { pieces: Pieces::new(end) }
    }

    /// Sends bytes; they are cut into pieces as needed, and borders between calls mean nothing.
    ///
    /// # Errors
    /// [`RequestError::InputClosed`] when no child reads any more, or the job had its input already
    /// (a start that was repeated with its key); [`RequestError::Refused`] when the node cannot
    /// store more, with [`ErrorCode::Limit`](crate::ErrorCode::Limit) or
    /// [`ErrorCode::Storage`](crate::ErrorCode::Storage); [`RequestError::Lost`] when it is gone.
    ///
    /// # Cancel safety
    /// Not cancel safe: some of the bytes may have been sent. After a call that was dropped the
    /// next one says [`RequestError::Lost`], and the input is lost.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), RequestError> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(limits::RECORD_BYTES));
            self.pieces.send(piece, false).await?;
        }
        Ok(())
    }

    /// Ends the input. Returns when the node has all of it: the children need this program no more.
    ///
    /// # Errors
    /// As for [`InputSender::send`]; that no child reads any more is no error here.
    ///
    /// # Cancel safety
    /// Not cancel safe: the input may count as lost.
    pub async fn finish(self) -> Result<(), RequestError> {
        self.pieces.finish().await
    }
}

impl ItemSender {
    pub(crate) fn new(end: ClientEnd) -> Self {
        Self { pieces: Pieces::new(end), piece: BytesMut::new(), count: 0 }
    }

    /// Sends one item, at most [`limits::VALUE_BYTES`](crate::limits::VALUE_BYTES). Items are
    /// gathered into pieces of up to [`limits::RECORD_BYTES`](crate::limits::RECORD_BYTES); one
    /// that is not full yet leaves with [`ItemSender::flush`], which belongs before every wait for
    /// more items.
    ///
    /// # Errors
    /// [`RequestError::Misused`] when the item is longer: it is left out, and the next one may
    /// follow. Else as for [`InputSender::send`].
    ///
    /// # Cancel safety
    /// Not cancel safe: the item, and items that were gathered before, may not have been sent.
    /// After a call that was dropped the next one that sends a piece says [`RequestError::Lost`],
    /// and the input is lost.
    pub async fn send(&mut self, item: &[u8]) -> Result<(), RequestError> {
        let full = self.count == PIECE_ITEMS
            || self.piece.len() + map_items::packed_len(item) > limits::RECORD_BYTES;
        if full {
            self.flush().await?;
        }
        map_items::append(item, &mut self.piece).map_err(|_| Misuse::ItemTooLong)?;
        self.count += 1;
        Ok(())
    }

    /// Sends the items that were gathered.
    ///
    /// # Errors
    /// As for [`InputSender::send`].
    ///
    /// # Cancel safety
    /// As for [`ItemSender::send`].
    pub async fn flush(&mut self) -> Result<(), RequestError> {
        if self.count == 0 {
            return Ok(());
        }
        self.count = 0;
        self.pieces.send(self.piece.split().freeze(), false).await
    }

    /// Ends the map. Returns when the node has all items.
    ///
    /// # Errors
    /// As for [`InputSender::finish`].
    ///
    /// # Cancel safety
    /// As for [`InputSender::finish`].
    pub async fn finish(mut self) -> Result<(), RequestError> {
        match self.flush().await {
            Ok(()) => self.pieces.finish().await,
            Err(RequestError::InputClosed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Items in one piece. The pieces that wait in an exchange and at its ends hold less than what may
/// be read ahead.
const PIECE_ITEMS: usize = limits::MAP_READ_AHEAD / 8;

#[derive(Debug)]
struct Pieces {
    end: ClientEnd,
    /// A send is under way, or was dropped half-way.
    sending: bool,
}

impl Pieces {
    const fn new(end: ClientEnd) -> Self {
        Self { end, sending: false }
    }

    async fn send(&mut self, bytes: Bytes, last: bool) -> Result<(), RequestError> {
        if self.sending {
            return Err(RequestError::Lost);
        }
        self.sending = true;
        match self.end.sender.send(ToServer::Input { bytes, last }).await {
            Ok(()) => {
                self.sending = false;
                Ok(())
            }
            Err(error) => Err(self.why_ended(error).await),
        }
    }

    /// The node closes its side when it wants no more input, and says why just before.
    async fn why_ended(&mut self, error: ExchangeError) -> RequestError {
        match self.end.receiver.next().await {
            Ok(Some(ToClient::Answer(Answer::Refused(error)))) => error.into(),
            // A start that was repeated with its key ends at once: the job has its input already.
            Ok(None | Some(ToClient::Answer(Answer::InputStored))) => RequestError::InputClosed,
            _ => error.into(),
        }
    }

    async fn finish(mut self) -> Result<(), RequestError> {
        match self.send(Bytes::new(), true).await {
            Ok(()) => {}
            Err(RequestError::InputClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
        let ClientEnd { sender, mut receiver } = self.end;
        sender.finish().await?;
        match receiver.next().await? {
            None | Some(ToClient::Answer(Answer::InputStored)) => Ok(()),
            Some(ToClient::Answer(Answer::Refused(error))) => Err(error.into()),
            Some(_) => Err(RequestError::Unexpected),
        }
    }
}

#[cfg(test)]
mod tests;
