//! The end of a receive: ours, and what the node says of that.

use sortie_actors::data::exchange::{ClientEnd, ClientReceiver, ToClient};
use sortie_wire::session_proto::Delivery;
use sortie_wire::{ErrorCode, RemoteError};

use crate::error::RequestError;

/// A receive whose end the node was told.
#[derive(Debug)]
pub(super) struct Ending {
    receiver: ClientReceiver,
    refused: Option<RemoteError>,
}

impl Ending {
    pub(super) const fn new(receiver: ClientReceiver) -> Self {
        Self { receiver, refused: None }
    }

    /// What became of what was acknowledged.
    ///
    /// The node ends its side when that is freed and noted: where it breaks off some of it may come
    /// again. Before it hears of our end it may send more, which stays there. But where it says
    /// that another client has the session, or that it is not noted what was acknowledged, that
    /// counts for nothing.
    ///
    /// Cancel safe: the next call goes on.
    pub(super) async fn outcome(&mut self) -> Result<(), RequestError> {
        let counts = |error: &RemoteError| {
            matches!(error.code, ErrorCode::SessionTaken | ErrorCode::Storage)
        };
        while let Some(message) = self.receiver.next().await? {
            if let ToClient::Delivery(Delivery::Refused(error)) = message {
                self.refused = Some(error).filter(counts);
            }
        }
        self.refused.take().map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Hears the node out, and answers why it refused, if it did.
pub(super) async fn refusal(receiver: &mut ClientReceiver) -> Option<RemoteError> {
    let mut refused = None;
    while let Ok(Some(message)) = receiver.next().await {
        if let ToClient::Delivery(Delivery::Refused(error)) = message {
            refused = Some(error);
        }
    }
    refused
}

/// Ends a receive, and waits until the node has heard it: then what was not acknowledged is on
/// offer again.
pub(super) async fn leave(end: Option<ClientEnd>, ending: Option<Ending>) {
    let mut left = ending.map(|ending| ending.receiver);
    if let Some(ClientEnd { sender, receiver }) = end {
        left = sender.finish().await.is_ok().then_some(receiver);
    }
    if let Some(mut receiver) = left {
        while let Ok(Some(_)) = receiver.next().await {}
    }
}
