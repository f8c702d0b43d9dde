//! What a running child asks (`docs/semantics.md`, section 2.3).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EntryId, Timestamp, limits};

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

/// The text with which a process's unfinished line ends when it asks (`docs/semantics.md`, section
/// 2.3): at least one byte and at most [`limits::PROMPT_MARK_BYTES`], on one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PromptMark(String);

/// A text that is no mark of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPromptMark {
    /// Every line ends with it.
    #[error("the mark of a prompt is empty")]
    Empty,
    /// It is longer than [`limits::PROMPT_MARK_BYTES`].
    #[error("the mark of a prompt has at most {} bytes", limits::PROMPT_MARK_BYTES)]
    TooLong,
    /// A line that is finished asks nothing.
    #[error("the mark of a prompt is within one line")]
    Newline,
}

impl PromptMark {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PromptMark {
    type Error = BadPromptMark;

    fn try_from(text: String) -> Result<Self, BadPromptMark> {
        match text.len() {
            0 => Err(BadPromptMark::Empty),
            length if length > limits::PROMPT_MARK_BYTES => Err(BadPromptMark::TooLong),
            _ if text.contains('\n') => Err(BadPromptMark::Newline),
            _ => Ok(Self(text)),
        }
    }
}

impl std::str::FromStr for PromptMark {
    type Err = BadPromptMark;

    fn from_str(text: &str) -> Result<Self, BadPromptMark> {
        Self::try_from(text.to_owned())
    }
}

impl From<PromptMark> for String {
    fn from(mark: PromptMark) -> Self {
        mark.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_prompt_is_short_and_within_a_line() {
        let mark = |text: String| text.parse::<PromptMark>();
        assert_eq!(mark(String::new()), Err(BadPromptMark::Empty));
        assert_eq!(mark("? \n".to_owned()), Err(BadPromptMark::Newline));
        let longest = "x".repeat(limits::PROMPT_MARK_BYTES);
        assert_eq!(mark(longest.clone()).map(String::from), Ok(longest.clone()));
        assert_eq!(mark(longest + "x"), Err(BadPromptMark::TooLong));
    }
}
