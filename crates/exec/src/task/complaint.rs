//! What is wrong with a value that a program gets, in words that say nothing of how it travels.

use std::any::type_name;

use rmp_serde::decode::Error;
use serde::de::DeserializeOwned;

/// A value that is not of the wanted type. Its text names the type, and says what came instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no {wanted}: {found}")]
pub struct ShapeError {
    wanted: String,
    found: String,
}

impl ShapeError {
    /// Where a `T` was wanted, that came.
    pub(super) fn new<T>(found: String) -> Self {
        Self { wanted: plain::<T>(), found }
    }
}

/// Reads a value from the form in which it travels.
///
/// # Errors
/// [`ShapeError`] when it is no `T`.
pub fn read_value<T: DeserializeOwned>(encoded: &[u8]) -> Result<T, ShapeError> {
    rmp_serde::from_slice(encoded).map_err(|error| ShapeError::new::<T>(what(&error)))
}

/// What the function takes, and why the input is none.
pub(super) fn complaint<I>(error: &Error) -> String {
    format!("it takes {}: {}", plain::<I>(), what(error))
}

/// The type's name without the modules that it lies in.
fn plain<T>() -> String {
    let mut words = String::new();
    for part in type_name::<T>().split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_')) {
        match part.strip_suffix(':') {
            // `module::` goes in two steps: the name with a colon, and a colon alone.
            Some(_) => {}
            None => words.push_str(part),
        }
    }
    words
}

/// What is wrong with a value.
fn what(error: &Error) -> String {
    match error {
        Error::Syntax(what) | Error::Uncategorized(what) => what.clone(),
        Error::LengthMismatch(expected) => format!("expected {expected} items"),
        Error::OutOfRange => "a number is too large or too small".to_owned(),
        Error::Utf8Error(_) => "a text is not UTF-8".to_owned(),
        Error::DepthLimitExceeded => "it is nested too deep".to_owned(),
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "it ends too early".to_owned(),
        Error::TypeMismatch(found) => {
            format!("there is {} where another type belongs", kind_of(found.to_u8()))
        }
    }
}

/// What begins with that byte of MessagePack, in JSON's words.
const fn kind_of(first: u8) -> &'static str {
    match first {
        0xc0 => "null",
        0xc2 | 0xc3 => "a truth value",
        0xca | 0xcb => "a fraction",
        0x00..=0x7f | 0xcc..=0xd3 | 0xe0..=0xff => "a whole number",
        0xa0..=0xbf | 0xd9..=0xdb => "a text",
        0x90..=0x9f | 0xdc | 0xdd => "a list",
        0x80..=0x8f | 0xde | 0xdf => "an object",
        _ => "something binary",
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::task::encode_value;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "it is only read into")]
    struct Order {
        count: u8,
        words: Vec<String>,
    }

    #[track_caller]
    fn check<I: DeserializeOwned>(input: &impl Serialize, expected: &str) {
        let encoded = encode_value(input).expect("small");
        let error = rmp_serde::from_slice::<I>(&encoded).err().expect("it is no such value");
        assert_eq!(complaint::<I>(&error), expected);
    }

    #[test]
    fn an_input_of_another_type_is_said_in_words_of_the_function() {
        check::<u64>(
            &"five".to_owned(),
            "it takes u64: there is a text where another type belongs",
        );
        check::<u8>(&300, "it takes u8: invalid value: integer `300`, expected u8");
        check::<Vec<Option<String>>>(
            &7,
            "it takes Vec<Option<String>>: invalid type: integer `7`, expected a sequence",
        );
        let short = std::collections::BTreeMap::from([("count", 1)]);
        check::<Order>(&short, "it takes Order: missing field `words`");
        check::<(u8, u8)>(&[1], "it takes (u8, u8): invalid length 1, expected a tuple of size 2");
    }
}
