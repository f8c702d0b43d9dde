//! The way from a client to the node that serves it.

use sortie_actors::NodeHandle;
use sortie_actors::data::exchange::{ClientEnd, ClientReceiver, ToClient};
use sortie_link::Link;
use sortie_wire::session_proto::{Answer, Ask, Request, SessionRef};

use crate::error::RequestError;

/// The way to a node. Every request is an exchange of its own, so a slow answer delays no other.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// To a node in this process; nothing is encoded.
    Local(NodeHandle),
    /// To a node in another process.
    Link(Link),
}

impl Route {
    /// Sends a request; its answers come from the end that is returned.
    pub(crate) async fn open(
        &self,
        session: SessionRef,
        ask: Ask,
    ) -> Result<ClientEnd, RequestError> {
        let request = Request { session, ask };
        match self {
            Self::Local(node) => Ok(node.open(request)),
            Self::Link(link) => {
                let (sender, receiver) = link.open_bi().await.map_err(|_| RequestError::Lost)?;
                Ok(ClientEnd::over_link(sender, receiver, &request).await?)
            }
        }
    }

    /// Sends a request and waits for its one answer.
    pub(crate) async fn ask(&self, session: SessionRef, ask: Ask) -> Result<Answer, RequestError> {
        let mut end = self.open(session, ask).await?;
        answer(&mut end.receiver).await
    }
}

/// The next message, which must be an answer. A refusal is an error.
pub(crate) async fn answer(receiver: &mut ClientReceiver) -> Result<Answer, RequestError> {
    match receiver.next().await?.ok_or(RequestError::Lost)? {
        ToClient::Answer(Answer::Refused(error)) => Err(error.into()),
        ToClient::Answer(answer) => Ok(answer),
        _ => Err(RequestError::Unexpected),
    }
}
