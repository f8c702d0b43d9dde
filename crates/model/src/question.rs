//! What a running child asks (`docs/semantics.md`, section 2.3).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EntryId, Timestamp};

/// A question's number: from 1 in each incarnation of its child. 0 stands for no question.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct QuestionNumber(pub u32);

impl QuestionNumber {
    /// No question.
    pub const NONE: Self = Self(0);

    /// The number of the question after this one. Saturates, which no real child reaches.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for QuestionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a child asks and nobody has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Which of its child's questions it is.
    pub number: QuestionNumber,
    /// What is asked, as the function says it: at most [`crate::limits::PROMPT_BYTES`].
    pub prompt: String,
    /// When it was asked.
    pub time: Timestamp,
}

/// What is waited for and blocked on input that nobody has given. Its text says who asks, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlock {
    /// The job or child that is waited for.
    pub blocked: EntryId,
    /// The first of its children that asks, and what; none when it was answered meanwhile.
    pub asks: Option<(EntryId, Question)>,
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocked, asks } = self;
        match asks {
            Some((child, question)) => {
                write!(f, "{blocked} is blocked: {child} asks: {}", question.prompt)
            }
            None => write!(f, "{blocked} is blocked: it waits for input that nobody has given"),
        }
    }
}
