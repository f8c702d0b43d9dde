//! Messages to running children: what the owner of a job and the node that executes it say to each
//! other about them.
//!
//! Each side opens one unidirectional stream per session: [`MessageStream`], then [`ToChild`] or
//! [`FromChild`] frames, each with a payload. What was not acknowledged is said again on the next
//! connection; a number tells what was there before.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::{ChildIncarnation, ChildKey, JobInstance, Ordinal, SessionInstance};

use crate::frame::{Kind, Message};
use crate::link_proto::kinds;

/// First message of a stream of messages, or of a stream of what inboxes say of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageStream {
    /// The session that the children belong to.
    pub session: SessionInstance,
    /// Which of the two.
    pub flow: MessageFlow,
}

/// Where the frames of a stream go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageFlow {
    /// From the owner: [`ToChild`].
    ToChildren,
    /// To the owner: [`FromChild`].
    FromChildren,
}

/// One life of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChildLife {
    /// Its job.
    pub job: JobInstance,
    /// Its place there.
    pub ordinal: Ordinal,
    /// Which of its incarnations.
    pub incarnation: ChildIncarnation,
}

impl ChildLife {
    /// The child.
    pub const fn key(&self) -> ChildKey {
        ChildKey { job: self.job, ordinal: self.ordinal }
    }
}

/// What a message's sender waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageKind {
    /// That the inbox accepts it.
    Send,
    /// That the child answers it.
    Call,
    /// That it is in the pipe that is the child's standard input, which is open
    /// ([`InputSpec::Open`](sortie_model::spec::InputSpec)). Said by clients only: on its way to
    /// the child it is a call.
    Write,
    /// That the pipe is closed, behind what came before. Said by clients only, with no message: on
    /// its way to the child it is an empty call.
    CloseInput,
}

/// From the owner to the inbox of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToChild {
    /// The child's life.
    pub child: ChildLife,
    /// What is said.
    pub what: Posted,
}

/// What an owner says to an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Posted {
    /// A message; its bytes are the payload.
    Message {
        /// Its number, dense from 1 in each life of the child.
        number: u64,
        /// What its sender waits for.
        kind: MessageKind,
    },
    /// The answer to that call has come.
    Answered {
        /// The call's number.
        number: u64,
    },
    /// The owner knows that the inbox is closed.
    Closed,
}

/// From the inbox of a child to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromChild {
    /// The child's life.
    pub child: ChildLife,
    /// What is said.
    pub what: InboxWord,
}

/// What an inbox says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InboxWord {
    /// It is open. The first such word on a connection asks for what comes next.
    Open {
        /// Messages up to this number were accepted.
        accepted: u64,
        /// The child has taken them up to this number: their places are free.
        taken: u64,
    },
    /// It takes nothing any more.
    Closed {
        /// Messages up to this number were accepted; no other will be.
        accepted: u64,
    },
    /// A call is answered; the value, if there is one, is the payload.
    Answer {
        /// The call's number.
        number: u64,
        /// How.
        how: AnswerKind,
    },
}

/// How a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerKind {
    /// With a value: MessagePack with field names.
    Value,
    /// Not at all: the child let go of the call, or ended.
    Unanswered,
    /// Its message is not of the type that the child takes, or the answer is no value. Of a
    /// process: its standard input is closed.
    Unreadable,
}

/// What became of a call: how it was answered, and the value.
pub type CallAnswer = (AnswerKind, Bytes);

/// Why a message, or the answer to it, did not come where it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Undelivered {
    /// The child has ended, or this incarnation of it.
    Ended {
        /// What is known of the message.
        arrived: Arrived,
    },
    /// The child's node is lost.
    NodeLost {
        /// What is known of the message.
        arrived: Arrived,
    },
    /// The child took the call and let go of it without an answer.
    Unanswered,
    /// The message is not of the type that the child takes, or its answer is no value. Of a
    /// process: its standard input is closed.
    Unreadable,
}

/// Whether a message came into its child's inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrived {
    /// It did not, and will not.
    No,
    /// Nobody knows.
    Maybe,
    /// It did. Whether the child read it is another question.
    Yes,
}

kinds! { MessageStream = 124, ToChild = 190, FromChild = 191 }
