//! What is typed at a job's terminal.

use bytes::Bytes;
use sortie_actors::data::exchange::ClientEnd;
use sortie_model::spec::WindowSize;
use sortie_wire::terminal_items::{pack_keys, pack_size};

use crate::error::RequestError;
use crate::input::InputSender;

/// Types at a job's terminal, and says how large its window is (`docs/semantics.md`, section 3.1).
///
/// Sending waits as for an [`InputSender`], of which this is one: keys that a child does not read
/// take up room, and a size that follows them comes after them. What the child writes comes out of
/// its mailbox. Dropping a sender without [`TerminalSender::finish`] tells the node that the input
/// is lost: a child that still runs fails with [`Reason::InputLost`](crate::Reason::InputLost).
#[derive(Debug)]
pub struct TerminalSender(InputSender);

impl TerminalSender {
    pub(crate) const fn new(end: ClientEnd) -> Self {
        Self(InputSender::new(end))
    }

    /// Types these bytes, whatever they are: what interrupts, stops or ends a program there is for
    /// the terminal to say, which begins in the modes of a login.
    ///
    /// # Errors
    /// As for [`InputSender::send`].
    ///
    /// # Cancel safety
    /// As for [`InputSender::send`].
    pub async fn keys(&mut self, keys: Bytes) -> Result<(), RequestError> {
        self.0.send(pack_keys(&keys)).await
    }

    /// The window has that size from here on: the programs in its foreground are told.
    ///
    /// # Errors
    /// As for [`InputSender::send`].
    ///
    /// # Cancel safety
    /// As for [`InputSender::send`].
    pub async fn resize(&mut self, size: WindowSize) -> Result<(), RequestError> {
        self.0.send(pack_size(size)).await
    }

    /// Nothing more is typed. The terminal stays as it is: a program that reads from it waits.
    ///
    /// # Errors
    /// As for [`InputSender::finish`].
    ///
    /// # Cancel safety
    /// As for [`InputSender::finish`].
    pub async fn finish(self) -> Result<(), RequestError> {
        self.0.finish().await
    }
}
