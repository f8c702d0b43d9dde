//! What a child asks, and the answer to it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::{
    ChildIncarnation, JobInstance, Ordinal, QuestionNumber, SessionInstance, Timestamp,
};

/// What a child asks, or that it asks no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildAsk {
    /// The child.
    pub ordinal: Ordinal,
    /// Which of its incarnations asks.
    pub incarnation: ChildIncarnation,
    /// The number of its last question.
    pub number: QuestionNumber,
    /// That question; none when it was answered or withdrawn.
    pub open: Option<OpenQuestion>,
    /// The number of the last question whose answer the child took.
    pub taken: QuestionNumber,
}

/// A question that nobody has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenQuestion {
    /// What is asked: at most [`PROMPT_BYTES`](sortie_model::limits::PROMPT_BYTES).
    pub prompt: String,
    /// When.
    pub time: Timestamp,
}

/// Owner to host: the answer to a child's question. An answer to another question than the one that
/// is open there means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerChild {
    /// The session.
    pub session: SessionInstance,
    /// The job.
    pub job: JobInstance,
    /// The child.
    pub ordinal: Ordinal,
    /// Which of its incarnations asked.
    pub incarnation: ChildIncarnation,
    /// Which of its questions.
    pub number: QuestionNumber,
    /// The answer: MessagePack with field names, at most
    /// [`ANSWER_BYTES`](sortie_model::limits::ANSWER_BYTES).
    pub answer: Bytes,
}
