//! What a function asks of whoever watches its job (`docs/semantics.md`, section 2.3).

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_model::limits;

use crate::task::TaskContext;
use crate::task::complaint::{ShapeError, read_value};

/// The child was told to stop, or has ended: nobody answers it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

/// A question that has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The child was told to stop before it was answered.
    #[error("the child was told to stop before it was answered")]
    Stopped,
    /// The prompt is longer than [`limits::PROMPT_BYTES`]. Nothing was asked.
    #[error("a prompt of {length} bytes is longer than the {} allowed", limits::PROMPT_BYTES)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The answer is of another type than the one asked for. The question is over; it may be asked
    /// again.
    #[error("the answer is of another type")]
    Answer(#[source] ShapeError),
}

impl AskError {
    /// Whether the same question may be answered when it is asked again: after an answer of another
    /// type.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Answer(_))
    }
}

impl TaskContext {
    /// Asks, and waits for the answer (`docs/semantics.md`, section 2.3). The child is `Blocked`
    /// until somebody gives it: a person with `sortie send` or at the terminal of a `receive
    /// --wait`, or a program.
    ///
    /// What a person types is a `String`; where `A` is a number or a `bool` it is read as one. A
    /// program answers with any value that has `A`'s form. A child asks one question at a time: one
    /// that is asked meanwhile waits for its turn. The child's run-time limit goes on.
    ///
    /// # Errors
    /// [`AskError::TooLong`] for a prompt of more than [`limits::PROMPT_BYTES`];
    /// [`AskError::Stopped`] as soon as the child is told to stop; [`AskError::Answer`] when the
    /// answer is no `A`.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the question is withdrawn, and the child is `Running` again. An
    /// answer that comes in that very moment is lost.
    pub async fn ask<A: DeserializeOwned>(&self, prompt: &str) -> Result<A, AskError> {
        if prompt.len() > limits::PROMPT_BYTES {
            return Err(AskError::TooLong { length: prompt.len() });
        }
        let asked = self.port.ask(prompt.to_owned()).await;
        let answer = asked.map_err(|NoAnswer| AskError::Stopped)?;
        read_answer(&answer)
    }
}

/// The answer as an `A`: as it came, else as what its text says.
fn read_answer<A: DeserializeOwned>(answer: &Bytes) -> Result<A, AskError> {
    let error = match read_value(answer) {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    let Ok(typed) = read_value::<String>(answer) else { return Err(AskError::Answer(error)) };
    let text = typed.trim();
    let read = text.parse::<bool>().ok().and_then(|it| as_value(&it));
    let read = read.or_else(|| text.parse::<i64>().ok().and_then(|it| as_value(&it)));
    let read = read.or_else(|| text.parse::<u64>().ok().and_then(|it| as_value(&it)));
    let read = read.or_else(|| text.parse::<f64>().ok().and_then(|it| as_value(&it)));
    read.ok_or_else(|| AskError::Answer(ShapeError::new::<A>(said(&typed))))
}

/// A text that was typed, as an error shows it.
fn said(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("it is the text `{shown}{more}`")
}

/// Characters of an answer that an error shows.
const SHOWN_CHARACTERS: usize = 40;

/// A value as another type of the same form.
fn as_value<A: DeserializeOwned>(value: &impl Serialize) -> Option<A> {
    let bytes = rmp_serde::to_vec_named(value).ok()?;
    rmp_serde::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::task::encode_value;

    #[track_caller]
    fn check<A: DeserializeOwned + PartialEq + std::fmt::Debug>(
        answer: &(impl Serialize + ?Sized),
        expected: Option<A>,
    ) {
        let answer = encode_value(answer).expect("small");
        assert_eq!(read_answer(&answer).ok(), expected);
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    enum Choice {
        Left,
        Right,
    }

    #[test]
    fn what_a_person_types_is_a_text_and_a_number_where_one_is_asked_for() {
        check("5", Some("5".to_owned()));
        check(" 5\n", Some(5_u8));
        check("-5", Some(-5_i64));
        check("18446744073709551615", Some(u64::MAX));
        check("0.5", Some(0.5_f64));
        check("true", Some(true));
        check("Right", Some(Choice::Right));
        check("five", None::<u8>);
        check("300", None::<u8>);
        check("", None::<bool>);
    }

    #[test]
    fn an_answer_of_another_type_is_said_with_what_came() {
        let error = |answer: &Bytes| match read_answer::<u64>(answer) {
            Err(AskError::Answer(error)) => error.to_string(),
            other => panic!("an error, not {other:?}"),
        };
        let five = encode_value("five").expect("small");
        assert_eq!(error(&five), "it is no u64: it is the text `five`");
        let long = encode_value(&"x".repeat(1_000)).expect("small");
        assert!(error(&long).ends_with("x…`"), "{}", error(&long));
        let list = encode_value(&["a"]).expect("small");
        assert_eq!(error(&list), "it is no u64: there is a list where another type belongs");
    }

    #[test]
    fn a_value_is_read_as_it_is() {
        check(&7_u64, Some(7_u32));
        check(&vec!["a"], Some(vec!["a".to_owned()]));
        check(&Choice::Left, Some(Choice::Left));
        check(&7, None::<String>);
    }
}
