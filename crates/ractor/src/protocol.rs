//! What travels to an actor, and what of it the actor gets.

use std::fmt;

use ractor::RpcReplyPort;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

/// What can be said to an actor from elsewhere. It names the types only, so that a program that
/// talks to the actor needs nothing of the actor itself.
///
/// ractor's own message type cannot travel: it holds [`RpcReplyPort`]s. So an actor takes whatever
/// it likes as its `Msg`, as long as that can be made from a [`Received`], which itself will do.
pub trait Protocol: Send + 'static {
    /// What is said without waiting for an answer.
    type Cast: Serialize + DeserializeOwned + Send + 'static;
    /// What is asked.
    type Call: Serialize + DeserializeOwned + Send + 'static;
    /// What is answered.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// A message from elsewhere, as its actor gets it.
///
/// It counts against [`MESSAGES_AHEAD`](crate::MESSAGES_AHEAD) until it, or its `handled` mark, is
/// dropped: at the end of `handle`, as a rule. An actor that keeps it for later is handed fewer
/// messages meanwhile.
#[derive(Debug)]
pub struct Received<P: Protocol> {
    /// What is wanted.
    pub request: Request<P>,
    /// Dropped once the message is handled.
    pub handled: Handled,
}

/// What a message wants.
pub enum Request<P: Protocol> {
    /// That it is heard.
    Cast(P::Cast),
    /// That it is answered. A port that is dropped instead answers the caller with an error.
    Call(P::Call, RpcReplyPort<P::Answer>),
}

impl<P: Protocol> fmt::Debug for Request<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cast(_) => "Cast",
            Self::Call(..) => "Call",
        })
    }
}

/// Held as long as a message is not handled.
#[derive(Debug)]
pub struct Handled(
    #[expect(dead_code, reason = "dropping it is what counts")] OwnedSemaphorePermit,
);

impl Handled {
    pub(crate) const fn new(place: OwnedSemaphorePermit) -> Self {
        Self(place)
    }
}

/// What travels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Envelope<C, Q> {
    Cast(C),
    Call(Q),
}
