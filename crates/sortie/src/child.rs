//! One child of a job, as who sends it messages has it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_actors::data::exchange::{ClientEnd, ToClient};
use sortie_exec::inbox::{MessageError, encode_message};
use sortie_exec::task::{ShapeError, read_value};
use sortie_model::{ChildKey, JobInstance, Ordinal, limits};
use sortie_wire::message_proto::{Arrived, MessageKind, Undelivered};
use sortie_wire::session_proto::{Answer, Ask, MessageSpec};
use tokio::sync::Mutex;

use crate::error::RequestError;
use crate::job::Job;
use crate::session::Session;

/// A handle on one child of a job: what messages are sent to (`docs/semantics.md`, section 3.7).
/// Made by [`Job::child`](crate::Job::child) or [`Session::child`].
///
/// The child is a function that opens its inbox, [`TaskContext::inbox`](crate::TaskContext::inbox);
/// it may run on any node. A message travels as MessagePack with field names and has at most
/// [`limits::MESSAGE_BYTES`](crate::limits::MESSAGE_BYTES).
///
/// A handle and its clones are one *sender*: their messages come in the order in which they were
/// sent, one after the other. Another handle on the same child is another sender. Dropping a handle
/// does nothing.
///
/// ```
/// # use std::convert::Infallible;
/// # use sortie::{Node, Ordinal, TaskContext};
/// #[sortie::task]
/// async fn add_up(context: TaskContext, start: u64) -> Result<u64, Infallible> {
///     let mut sum = start;
///     let Ok(mut inbox) = context.inbox::<u64>() else { return Ok(sum) };
///     while let Some(message) = inbox.next().await {
///         sum += message.value;
///         if message.call.is_call() {
///             // The answer to a caller; for others there is none.
///             let _ = message.reply(&sum);
///             break;
///         }
///     }
///     Ok(sum)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").register(add_up).start().await?;
/// let job = node.session().run(add_up, 1).start().await?;
/// let child = job.child(Ordinal(0));
/// child.send(&20_u64).await?;
/// assert_eq!(child.call::<u64, u64>(&300).await?, 321);
/// assert_eq!(job.await?, [321]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Child {
    session: Session,
    key: ChildKey,
    /// Held while a message is not accepted: the next one comes after it.
    turn: Arc<Mutex<()>>,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Child {
    pub(crate) fn new(session: Session, key: ChildKey) -> Self {
        Self { session, key, turn: Arc::default() }
    }

    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// Its job.
    pub const fn job(&self) -> JobInstance {
        self.key.job
    }

    /// Its place among its siblings, from 0.
    pub const fn ordinal(&self) -> Ordinal {
        self.key.ordinal
    }

    /// Sends a message. Returns once it is in the child's inbox; whether the child reads it is
    /// another question. Waits while the child does not run yet, has not opened its inbox, starts
    /// again, or its inbox is full.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::arrived`] says whether the message may have arrived. The node
    /// refuses it ([`SendError::Request`]) with [`ErrorCode::NotFound`](crate::ErrorCode::NotFound)
    /// when there is no such child, with [`ErrorCode::Usage`](crate::ErrorCode::Usage) when the
    /// child is a process of a command, and with [`ErrorCode::Limit`](crate::ErrorCode::Limit) when
    /// [`limits::SENDERS_PER_CHILD`](crate::limits::SENDERS_PER_CHILD) wait for it, or
    /// [`limits::MESSAGES_PER_LINK`](crate::limits::MESSAGES_PER_LINK) messages of this connection
    /// are under way.
    ///
    /// # Cancel safety
    /// When dropped, the message may still arrive, once at most; what is sent after it may then
    /// come before it.
    pub async fn send<M: Serialize + ?Sized>(&self, message: &M) -> Result<(), SendError> {
        let message = encode_message(message)?;
        let _turn = self.turn.lock().await;
        let (answer, _) = self.post(MessageKind::Send, message).await?;
        match answer {
            Answer::Accepted => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Sends a message and waits for the child's answer, up to
    /// [`limits::CALLS_PER_CHILD`](crate::limits::CALLS_PER_CHILD) of which, from all senders, may
    /// be outstanding for one child; further calls wait. The next message of this sender goes as
    /// soon as this one is in the child's inbox.
    ///
    /// # Errors
    /// [`CallError`]; its [`CallError::Send`] as for [`Child::send`]. There is always an answer or
    /// an error: a child that lets go of the call, that ends, or whose node is lost is one.
    ///
    /// # Cancel safety
    /// When dropped, the message may still arrive, once at most, and its answer is dropped.
    pub async fn call<M, R>(&self, message: &M) -> Result<R, CallError>
    where
        M: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let message = encode_message(message).map_err(SendError::from)?;
        let turn = self.turn.lock().await;
        let (answer, mut exchange) = self.post(MessageKind::Call, message).await?;
        drop(turn);
        let answer = match answer {
            Answer::Accepted => next(&mut exchange).await.map_err(SendError::from)?,
            other => other,
        };
        match answer {
            Answer::Reply(value) => read_value(&value).map_err(CallError::Shape),
            Answer::Undelivered(Undelivered::Unanswered) => Err(CallError::Unanswered),
            Answer::Undelivered(Undelivered::Unreadable) => Err(CallError::Unreadable),
            other => Err(unexpected(other).into()),
        }
    }

    /// Writes to the standard input of a process whose job keeps it open
    /// ([`JobBuilder::open_input`](crate::JobBuilder::open_input)). Returns once all of it is in
    /// the pipe; whether the process reads it is another question. Waits while the child does not
    /// run yet, starts again, or reads nothing while its pipe is full. It travels in pieces of
    /// [`limits::MESSAGE_BYTES`], behind what this sender sent before.
    ///
    /// # Errors
    /// [`SendError`], as for [`Child::send`]; [`SendError::InputClosed`] where the process, or
    /// somebody else, has closed the input. What came before it may have been written. The node
    /// refuses it with [`ErrorCode::Usage`](crate::ErrorCode::Usage) where the input is not open,
    /// and with [`ErrorCode::NotAsking`](crate::ErrorCode::NotAsking) where the child is a
    /// function.
    ///
    /// # Cancel safety
    /// When dropped, some of it may have been written, in order.
    pub async fn write_input(&self, bytes: impl Into<Bytes>) -> Result<(), SendError> {
        let mut rest = bytes.into();
        let _turn = self.turn.lock().await;
        let whole = rest.len();
        loop {
            let before = rest.len();
            let piece = rest.split_to(before.min(limits::MESSAGE_BYTES));
            let written = self.post_input(MessageKind::Write, piece).await;
            written.map_err(|error| if before < whole { error.of_a_rest() } else { error })?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Closes the standard input of such a process, behind what this sender wrote before: the
    /// process finds its end there. What is written afterwards is an error.
    ///
    /// # Errors
    /// As for [`Child::write_input`].
    ///
    /// # Cancel safety
    /// When dropped, it may have been closed.
    pub async fn close_input(&self) -> Result<(), SendError> {
        let _turn = self.turn.lock().await;
        self.post_input(MessageKind::CloseInput, Bytes::new()).await
    }

    async fn post_input(&self, kind: MessageKind, piece: Bytes) -> Result<(), SendError> {
        let (mut answer, mut exchange) = self.post(kind, piece).await?;
        if answer == Answer::Accepted {
            answer = next(&mut exchange).await?;
        }
        match answer {
            Answer::Reply(_) => Ok(()),
            Answer::Undelivered(Undelivered::Unreadable) => Err(SendError::InputClosed),
            // It ended before it was all in the pipe.
            Answer::Undelivered(Undelivered::Unanswered) => {
                Err(SendError::Ended { arrived: Arrived::Maybe })
            }
            other => Err(unwritten(other)),
        }
    }

    /// Sends a request and waits for its first answer.
    async fn post(
        &self,
        kind: MessageKind,
        message: Bytes,
    ) -> Result<(Answer, ClientEnd), SendError> {
        let ask = Ask::Send(MessageSpec { child: self.key, kind, message });
        let mut exchange = self.session.open(ask).await?;
        let answer = next(&mut exchange).await?;
        Ok((answer, exchange))
    }
}

async fn next(exchange: &mut ClientEnd) -> Result<Answer, RequestError> {
    match exchange.receiver.next().await?.ok_or(RequestError::Lost)? {
        ToClient::Answer(Answer::Refused(error)) => Err(error.into()),
        ToClient::Answer(answer) => Ok(answer),
        _ => Err(RequestError::Unexpected),
    }
}

fn unexpected(answer: Answer) -> SendError {
    match answer {
        Answer::Undelivered(Undelivered::Ended { arrived }) => SendError::Ended { arrived },
        Answer::Undelivered(Undelivered::NodeLost { arrived }) => SendError::NodeLost { arrived },
        _ => SendError::Request(RequestError::Unexpected),
    }
}

/// The same of a write: that it came into the inbox does not say that it is in the pipe.
fn unwritten(answer: Answer) -> SendError {
    match unexpected(answer) {
        SendError::Ended { arrived: Arrived::Yes } => SendError::Ended { arrived: Arrived::Maybe },
        SendError::NodeLost { arrived: Arrived::Yes } => {
            SendError::NodeLost { arrived: Arrived::Maybe }
        }
        error => error,
    }
}

impl<T> Job<T> {
    /// A handle on one of the job's children, to send it messages, whether it exists or not: that
    /// shows when something is sent. Asks nothing.
    pub fn child(&self, ordinal: Ordinal) -> Child {
        self.session().child(self.instance(), ordinal)
    }
}

/// Why a message was not accepted, or nobody can tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message has no encoding, or one of more than
    /// [`limits::MESSAGE_BYTES`](crate::limits::MESSAGE_BYTES). It was not sent.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The child has ended, or the life of it that the message was sent to.
    #[error("the child has ended")]
    Ended {
        /// What is known of the message.
        arrived: Arrived,
    },
    /// The child's node is lost.
    #[error("the node of the child is lost")]
    NodeLost {
        /// What is known of the message.
        arrived: Arrived,
    },
    /// The standard input of the process is closed: it did so itself, or somebody else did. Of what
    /// was written some may be in the pipe.
    #[error("the child's standard input is closed")]
    InputClosed,
    /// The session's node refused, or could not be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl SendError {
    /// Whether the message came into the child's inbox.
    pub const fn arrived(&self) -> Arrived {
        match self {
            Self::Ended { arrived } | Self::NodeLost { arrived } => *arrived,
            Self::Message(_) => Arrived::No,
            Self::InputClosed => Arrived::Maybe,
            Self::Request(error) => match error {
                RequestError::Refused(_) | RequestError::Unreachable(_) => Arrived::No,
                _ => Arrived::Maybe,
            },
        }
    }

    /// The same of the rest of something longer, of which a part was written before: then something
    /// has arrived, also where the rest did not.
    pub fn of_a_rest(self) -> Self {
        match self {
            Self::Ended { arrived: Arrived::No } => Self::Ended { arrived: Arrived::Maybe },
            Self::NodeLost { arrived: Arrived::No } => Self::NodeLost { arrived: Arrived::Maybe },
            error => error,
        }
    }

    /// Whether the same message may be accepted later. It may then arrive twice, unless
    /// [`SendError::arrived`] says that it did not.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Request(error) => error.is_retryable(),
            Self::NodeLost { .. } => true,
            Self::Message(_) | Self::Ended { .. } | Self::InputClosed => false,
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The message was not accepted, or its child or node is gone.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The child let go of the call without an answer.
    #[error("the child gave no answer")]
    Unanswered,
    /// The message is not of the type that the child takes, or its answer is no value.
    #[error("the child could not read the message, or could not answer it")]
    Unreadable,
    /// The answer is of another type.
    #[error("the answer does not have the wanted type")]
    Shape(#[source] ShapeError),
}

impl CallError {
    /// Whether the message came into the child's inbox.
    pub const fn arrived(&self) -> Arrived {
        match self {
            Self::Send(error) => error.arrived(),
            Self::Unanswered | Self::Unreadable | Self::Shape(_) => Arrived::Yes,
        }
    }

    /// Whether the same call may be answered later; see [`SendError::is_retryable`].
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Send(error) => error.is_retryable(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_only_came_into_the_inbox_may_have_been_written() {
        let known = [
            (Arrived::No, Arrived::No),
            (Arrived::Maybe, Arrived::Maybe),
            (Arrived::Yes, Arrived::Maybe),
        ];
        for (arrived, told) in known {
            for lost in [Undelivered::Ended { arrived }, Undelivered::NodeLost { arrived }] {
                assert_eq!(unexpected(Answer::Undelivered(lost)).arrived(), arrived);
                assert_eq!(unwritten(Answer::Undelivered(lost)).arrived(), told);
            }
        }
    }
}
