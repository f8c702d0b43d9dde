//! An actor elsewhere: its address, and the reference that one talks to.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use sortie::{CallError, Child, JobInstance, Ordinal, SendError, Session};

use crate::protocol::{Envelope, Protocol};

/// Where an actor is: a word that can be handed to other bodies and programs, and opened there with
/// a handle on the session that its job belongs to. A body of that session has one, on whichever
/// node it runs: [`TaskSession::session_above`](sortie::TaskSession::session_above).
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ActorAddress<P> {
    job: JobInstance,
    ordinal: Ordinal,
    #[serde(skip)]
    protocol: PhantomData<fn() -> P>,
}

impl<P> Clone for ActorAddress<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for ActorAddress<P> {}

impl<P> fmt::Debug for ActorAddress<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, ordinal, .. } = self;
        f.debug_struct("ActorAddress").field("job", job).field("ordinal", ordinal).finish()
    }
}

impl<P: Protocol> ActorAddress<P> {
    /// The actor itself, reached by way of a session: the one that started it, from whichever
    /// program. Whether it is there shows with the first message.
    pub fn open(&self, session: &Session) -> RemoteActor<P> {
        RemoteActor::of(&session.child(self.job, self.ordinal))
    }
}

/// A reference to an actor that is the body of a child, on whichever node.
///
/// A reference and its clones are one sender: what it casts and calls comes in its order. Dropping
/// it does nothing. `P` is believed: a message that the actor does not take is left out, and a call
/// is then [`CallError::Unreadable`].
pub struct RemoteActor<P> {
    child: Child,
    protocol: PhantomData<fn() -> P>,
}

impl<P> Clone for RemoteActor<P> {
    fn clone(&self) -> Self {
        Self { child: self.child.clone(), protocol: PhantomData }
    }
}

impl<P> fmt::Debug for RemoteActor<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteActor").field(&self.child).finish()
    }
}

impl<P: Protocol> RemoteActor<P> {
    /// The actor that is the body of that child.
    pub fn of(child: &Child) -> Self {
        Self { child: child.clone(), protocol: PhantomData }
    }

    /// Its address, to be handed on.
    pub const fn address(&self) -> ActorAddress<P> {
        let (job, ordinal) = (self.child.job(), self.child.ordinal());
        ActorAddress { job, ordinal, protocol: PhantomData }
    }

    /// Says something. Returns once it is in the child's inbox, and waits while there is no room.
    ///
    /// # Errors
    /// [`SendError`], as for [`Child::send`].
    ///
    /// # Cancel safety
    /// As for [`Child::send`].
    pub async fn cast(&self, message: &P::Cast) -> Result<(), SendError> {
        self.child.send(&Envelope::<_, ()>::Cast(message)).await
    }

    /// Asks something and waits for the answer.
    ///
    /// # Errors
    /// [`CallError`], as for [`Child::call`]: [`CallError::Unanswered`] when the actor drops the
    /// reply port, ends or fails before it answers.
    ///
    /// # Cancel safety
    /// As for [`Child::call`].
    pub async fn call(&self, message: &P::Call) -> Result<P::Answer, CallError> {
        self.child.call(&Envelope::<(), _>::Call(message)).await
    }
}
