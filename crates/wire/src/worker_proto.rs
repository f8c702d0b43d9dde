//! What a node and the worker process of a background function say to each other (kinds 500 to
//! 599).
//!
//! Both ends are the same program, joined by a Unix stream socket. The node sends one
//! [`WorkerOrder`]; the worker sends any number of [`WorkerRecord`]s, then one [`WorkerEnd`]. A
//! stop is a signal, not a message. The child's inbox stays in the node: the worker asks for its
//! messages one by one. Its function may ask, one question at a time: [`WorkerAsked`] is followed
//! by a [`WorkerAnswer`] from the node or a [`WorkerWithdrew`] from the worker.
//!
//! What the function asks about jobs of its own goes as a client's requests do
//! ([`session_proto`](crate::session_proto)), each over a socket of its own, which comes with a
//! [`WorkerExchange`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::spec::TaskTypes;
use sortie_model::{NodeName, Ordinal, QuestionNumber, Stream, limits};

use crate::frame::{Kind, Message};
use crate::link_proto::kinds;
use crate::message_proto::{AnswerKind, MessageKind};

/// The largest frame that a worker may send: a value, and what surrounds it.
pub const WORKER_FRAME_BYTES: usize = limits::VALUE_BYTES + limits::ERROR_TEXT_BYTES;

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerOrder {
    /// The name of the function to call.
    pub name: String,
    /// The types that its caller thinks it has.
    pub types: Option<TaskTypes>,
    /// Its input: MessagePack with field names.
    pub input: Bytes,
    /// The child's place among its siblings.
    pub ordinal: Ordinal,
    /// The node that it runs on.
    pub node: NodeName,
    /// The last checkpoint of the child's incarnations before: MessagePack with field names, at
    /// most [`limits::CHECKPOINT_BYTES`].
    pub resumed: Option<Bytes>,
}

/// A record of the function; its value is the frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// The stream that it belongs to.
    pub stream: Stream,
}

/// How the function came to its end. Nothing is read after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerEnd {
    /// `Ok`.
    Returned {
        /// Its value, unless that is `()`.
        value: Option<Bytes>,
    },
    /// `Err`, an input that cannot be read, or a value that has no encoding.
    Failed {
        /// The error's type, as its crate spells it.
        kind: String,
        /// The message with its chain of sources.
        message: String,
    },
    /// `Ok` with a value that is larger than one may be.
    TooLarge,
    /// It panicked.
    Panicked {
        /// The panic's message.
        message: String,
    },
}

/// The function asks. Its questions count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerAsked {
    /// Which question it is.
    pub number: QuestionNumber,
    /// What is asked: at most [`limits::PROMPT_BYTES`].
    pub prompt: String,
}

/// The answer to the function's question; an answer to another question than the open one means
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerAnswer {
    /// Which question it answers.
    pub number: QuestionNumber,
    /// The answer: MessagePack with field names, at most [`limits::ANSWER_BYTES`].
    pub answer: Bytes,
}

/// The function does not want the answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerWithdrew {
    /// Which question it was.
    pub number: QuestionNumber,
}

/// From the node: what the function's inbox gives; a message is the frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerMessage {
    /// The message that was asked for.
    Message {
        /// Its number.
        number: u64,
        /// Whether it must be answered.
        kind: MessageKind,
    },
    /// None is left, and the child was told to stop.
    NoMore,
}

/// From the worker: what its function does with its inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerInbox {
    /// It opens it; once.
    Open,
    /// It asks for the next message; again only when that was given.
    Want,
    /// It takes no more.
    Close,
}

/// From the worker: a call is answered; the value, if there is one, is the frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReply {
    /// The call's number.
    pub number: u64,
    /// How.
    pub how: AnswerKind,
}

/// From the worker: an exchange begins. With the frame's first byte comes one end of a Unix stream
/// socket, over which the worker sends a [`Request`](crate::session_proto::Request).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerExchange;

/// From the worker: its function has come so far; the value is the frame's payload, at most
/// [`limits::CHECKPOINT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCheckpoint;

kinds! {
    WorkerOrder = 500,
    WorkerRecord = 501,
    WorkerEnd = 502,
    WorkerMessage = 503,
    WorkerInbox = 504,
    WorkerReply = 505,
    WorkerAsked = 506,
    WorkerAnswer = 507,
    WorkerWithdrew = 508,
    WorkerExchange = 509,
    WorkerCheckpoint = 510,
}
