//! What moves messages and what inboxes say of them: over a link, or within this node.

use std::sync::Arc;

use bytes::Bytes;
use sortie_link::{CloseCode, FrameReceiver, FrameSender, Link, StreamError};
use sortie_model::{NodeId, SessionInstance, limits};
use sortie_wire::DecodeError;
use sortie_wire::frame::{self, Frame, Message};
use sortie_wire::message_proto::{FromChild, MessageFlow, MessageStream, ToChild};
use tokio::task::AbortHandle;

use crate::data::messages::inboxes::{Inboxes, Way};
use crate::data::messages::posts::Courier;
use crate::data::session::SessionShared;
use crate::node::NodeShared;

/// The number of the connection within a node. Links count up from 0.
const WITHIN: u64 = u64::MAX;

/// A peer that does not keep to the protocol.
#[derive(Debug, thiserror::Error)]
enum BadStream {
    #[error("a stream of messages cannot be read")]
    Malformed(#[from] DecodeError),
    #[error(transparent)]
    Message(#[from] sortie_engine::inbox::BadMessage),
    #[error(transparent)]
    Word(#[from] sortie_engine::post::FalseWord),
    #[error(transparent)]
    TooMuch(#[from] super::posts::TooMuchToSay),
}

/// Ends what carries in the other direction.
struct Carrier(AbortHandle);

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Carries what inboxes say to their owner.
pub(super) fn from_inboxes(inboxes: &Arc<Inboxes>, way: &Way) -> AbortHandle {
    let inboxes = Arc::clone(inboxes);
    let carrier = match way.clone() {
        Way::Here(session) => tokio::spawn(async move {
            if let Some(session) = session.upgrade() {
                within(&inboxes, &session).await;
            }
        }),
        // It is carried by the first connection.
        Way::Away => tokio::spawn(async {}),
        Way::There(link) => tokio::spawn(async move {
            // A connection that broke is followed by another one, on which all is said again.
            if tell(&inboxes, &link).await.is_err() && !link.is_closed() {
                inboxes.nobody_hears();
            }
        }),
    };
    carrier.abort_handle()
}

/// Both directions within this node.
async fn within(inboxes: &Inboxes, session: &SessionShared) {
    let (courier, node) = (Courier::new(WITHIN, session.node.me.incarnation), session.node.me.id);
    loop {
        let outcome = tokio::select! {
            biased;
            words = inboxes.next_words() => words.into_iter().try_for_each(|said| {
                hear(session, (node, &courier), said)
            }),
            (to, message) = courier.next() => inboxes.hear(to, message).map_err(BadStream::from),
        };
        if let Err(error) = outcome {
            // Both sides are this node.
            tracing::error!(%error, "messages to children went wrong");
        }
    }
}

async fn tell(inboxes: &Inboxes, link: &Link) -> Result<(), StreamError> {
    let mut stream = open(inboxes.session(), MessageFlow::FromChildren, link).await?;
    loop {
        let words = tokio::select! {
            biased;
            () = stream.stopped() => return Err(StreamError::Ended),
            words = inboxes.next_words() => words,
        };
        for (from, value) in words {
            stream.send_with_payload(&from, vec![value]).await?;
        }
    }
}

async fn open(
    session: SessionInstance,
    flow: MessageFlow,
    link: &Link,
) -> Result<FrameSender, StreamError> {
    let mut stream = link.open_uni(0).await.map_err(StreamError::Closed)?;
    stream.send(&MessageStream { session, flow }).await?;
    Ok(stream)
}

/// Reads a stream of messages, or of what inboxes say, until its end or the connection's.
pub(crate) async fn receive(
    node: Arc<NodeShared>,
    (link, peer): (Link, NodeId),
    first: Frame,
    mut stream: FrameReceiver,
) {
    // Room for the head of a frame beside its message.
    stream.limit(limits::MESSAGE_BYTES + limits::KIB);
    let read = async {
        let MessageStream { session, flow } = first.open()?;
        match flow {
            MessageFlow::ToChildren => {
                if let Some(inboxes) = node.inboxes.of(peer, session) {
                    take_in(&inboxes, &mut stream).await?;
                }
            }
            MessageFlow::FromChildren => {
                if let Some(session) = node.session(session) {
                    listen(&session, (&link, peer), &mut stream).await?;
                }
            }
        }
        Ok::<(), BadStream>(())
    };
    if let Err(error) = read.await {
        link.close(CloseCode::GARBAGE, &error.to_string());
    }
}

/// The next frame; none at the end, however the stream came to it.
async fn next<M: Message>(stream: &mut FrameReceiver) -> Result<Option<(M, Bytes)>, BadStream> {
    let frame = match stream.next().await {
        Ok(Some(frame)) => frame,
        Err(StreamError::Protocol(error)) => return Err(error.into()),
        Ok(None) | Err(_) => return Ok(None),
    };
    let (head, payload) = frame::open_head(frame)?;
    let (length, limit) = (payload.len(), limits::MESSAGE_BYTES);
    if length > limit {
        return Err(DecodeError::TooLong { length, limit }.into());
    }
    // A copy: a small message must not keep all that was read with it.
    Ok(Some((head, Bytes::copy_from_slice(&payload))))
}

async fn take_in(inboxes: &Inboxes, stream: &mut FrameReceiver) -> Result<(), BadStream> {
    while let Some((to, message)) = next::<ToChild>(stream).await? {
        inboxes.hear(to, message)?;
    }
    Ok(())
}

async fn listen(
    session: &Arc<SessionShared>,
    (link, peer): (&Link, NodeId),
    stream: &mut FrameReceiver,
) -> Result<(), BadStream> {
    let courier = Courier::new(link.id(), link.facts().incarnation);
    let speaking =
        tokio::spawn(speak(session.identity.instance, link.clone(), Arc::clone(&courier)));
    let _speaking = Carrier(speaking.abort_handle());
    let attachment = session.attachment(peer);
    while let Some(said) = next::<FromChild>(stream).await? {
        if session.is_over() || !attachment.is_current(link) {
            return Ok(());
        }
        hear(session, (peer, &courier), said)?;
    }
    Ok(())
}

/// An inbox says something to this node.
fn hear(
    session: &SessionShared,
    (node, courier): (NodeId, &Arc<Courier>),
    said: (FromChild, Bytes),
) -> Result<(), BadStream> {
    let from = said.0;
    if let Some(job) = session.job(from.child.job) {
        session.posts.on_word((&job, node), courier, said)?;
    }
    // Also what nobody waits for any more was heard.
    courier.confirm(&from)?;
    Ok(())
}

/// Says to inboxes on another node what there is to say, until the connection ends.
async fn speak(session: SessionInstance, link: Link, courier: Arc<Courier>) {
    let all = async {
        // Most inboxes are never sent anything.
        let mut first = Some(courier.next().await);
        let mut stream = open(session, MessageFlow::ToChildren, &link).await?;
        loop {
            let (to, message) = match first.take() {
                Some(first) => first,
                None => courier.next().await,
            };
            stream.send_with_payload(&to, vec![message]).await?;
        }
    };
    // What was not accepted is sent again on the next connection.
    let _: Result<(), StreamError> = all.await;
}
