//! A running function's inbox: typed messages, and calls that it answers.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_model::limits;
use sortie_wire::message_proto::{AnswerKind, CallAnswer};

use crate::task::{BoxFuture, TaskContext, read_value};

/// Where a function's messages come from; the data plane implements it. Dropping it says that the
/// function takes no more.
pub trait InboxPort: Send + Sync {
    /// The next message; none once the child was told to stop and nothing is left. Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Option<Delivered>>;
}

/// A message as it came.
pub struct Delivered {
    /// The message: MessagePack with field names.
    pub message: Bytes,
    /// Where its answer goes, if its sender waits for one.
    pub call: Option<Box<dyn CallPort>>,
}

/// Where one call's answer goes. Only the first one counts.
pub trait CallPort: Send + Sync {
    /// Answers.
    fn answer(&self, answer: CallAnswer);
}

/// The inbox is open already, or was before: a child has one in each of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the inbox was opened before: a child has one in each of its lives")]
pub struct InboxTaken;

impl InboxTaken {
    /// Never: the next life of the child has an inbox of its own.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// A message to a child, or an answer, that cannot travel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It has no MessagePack form.
    #[error("the message cannot be encoded as MessagePack")]
    Encode(#[source] rmp_serde::encode::Error),
    /// It is larger than [`limits::MESSAGE_BYTES`].
    #[error("a message of {length} bytes is larger than the {} allowed", limits::MESSAGE_BYTES)]
    TooLarge {
        /// Its encoded length in bytes.
        length: usize,
    },
}

impl MessageError {
    /// Never: the same message fails again.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// The messages of a running child, which others send with `Child::send` and `Child::call`
/// (`docs/semantics.md`, section 3.7). Made by [`TaskContext::inbox`].
///
/// It holds at most [`limits::INBOX_MESSAGES`] messages and [`limits::INBOX_BYTES`] bytes; at
/// either bound senders wait. Messages of one sender come in its order, and none comes twice.
///
/// A message that is no `M` is left out: the child's warning stream says so, and a call is answered
/// as unreadable.
///
/// Dropping it closes it: messages that wait in it are let go of, and their calls are answered as
/// unanswered. Senders are told that the child has ended when it has.
pub struct Inbox<M> {
    port: Box<dyn InboxPort>,
    context: TaskContext,
    messages: PhantomData<fn() -> M>,
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("child", &self.context).finish_non_exhaustive()
    }
}

impl<M: DeserializeOwned> Inbox<M> {
    pub(crate) fn new(port: Box<dyn InboxPort>, context: TaskContext) -> Self {
        Self { port, context, messages: PhantomData }
    }

    /// The next message; none once the child was told to stop and nothing is left. A call is
    /// answered as unanswered: where there are some, use [`Inbox::next`].
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    pub async fn recv(&mut self) -> Option<M> {
        self.next().await.map(|message| message.value)
    }

    /// The next message, with a handle for its answer.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost.
    pub async fn next(&mut self) -> Option<Message<M>> {
        loop {
            let Delivered { message, call } = self.port.next().await?;
            let call = CallHandle(call);
            match read_value(&message) {
                Ok(value) => return Some(Message { value, call }),
                Err(error) => {
                    call.finish((AnswerKind::Unreadable, Bytes::new()));
                    self.context.warn(&format!("a message cannot be read: {error}")).await;
                }
            }
        }
    }
}

/// A message that a child has taken.
#[derive(Debug)]
pub struct Message<M> {
    /// What was sent.
    pub value: M,
    /// Where its answer goes.
    pub call: CallHandle,
}

impl<M> Message<M> {
    /// Answers its sender, if that waits for an answer.
    ///
    /// # Errors
    /// As for [`CallHandle::reply`].
    pub fn reply<R: Serialize + ?Sized>(self, value: &R) -> Result<(), MessageError> {
        self.call.reply(value)
    }
}

/// Where the answer to one message goes. Dropped without an answer, its caller is told that there
/// is none. For a message whose sender waits for none, whatever is done with it does nothing.
pub struct CallHandle(Option<Box<dyn CallPort>>);

impl fmt::Debug for CallHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHandle").field("is_call", &self.is_call()).finish()
    }
}

impl CallHandle {
    /// Whether the message is a call: its sender waits for an answer.
    pub const fn is_call(&self) -> bool {
        self.0.is_some()
    }

    /// Answers. Waits for nobody; the caller may have gone, which is no error.
    ///
    /// # Errors
    /// [`MessageError`] when the value cannot be encoded or is larger than
    /// [`limits::MESSAGE_BYTES`]: then the caller is told that the answer cannot be read.
    pub fn reply<R: Serialize + ?Sized>(self, value: &R) -> Result<(), MessageError> {
        match encode_message(value) {
            Ok(bytes) => {
                self.finish((AnswerKind::Value, bytes));
                Ok(())
            }
            Err(error) => {
                self.finish((AnswerKind::Unreadable, Bytes::new()));
                Err(error)
            }
        }
    }

    fn finish(mut self, answer: CallAnswer) {
        if let Some(port) = self.0.take() {
            port.answer(answer);
        }
    }
}

impl Drop for CallHandle {
    fn drop(&mut self) {
        if let Some(port) = self.0.take() {
            port.answer((AnswerKind::Unanswered, Bytes::new()));
        }
    }
}

/// The MessagePack form of a message, with field names.
///
/// # Errors
/// [`MessageError`] when it has none or is too large.
pub fn encode_message<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, MessageError> {
    let bytes = rmp_serde::to_vec_named(value).map_err(MessageError::Encode)?;
    if bytes.len() > limits::MESSAGE_BYTES {
        return Err(MessageError::TooLarge { length: bytes.len() });
    }
    Ok(bytes.into())
}
