//! What a function is given: JSON or text in, MessagePack out.

use bytes::Bytes;
use clap::ValueEnum;
use rmpv::Value as Packed;
use sortie_model::limits;

/// What the user writes as the input of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum InputFormat {
    /// A JSON value.
    #[default]
    Json,
    /// A text, which becomes a string as it is.
    Text,
}

/// Why something cannot be the input of a function. Follows what it is about in a sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadInput {
    /// It is not one JSON value.
    #[error("is no JSON: {}", complaint(.0))]
    NotJson(serde_json::Error),
    /// A text has to be UTF-8.
    #[error("is no text in UTF-8")]
    NotText,
    /// The value is larger than one may be.
    #[error("is a value of {length} bytes; at most {} are allowed", limits::SPEC_BYTES)]
    TooLarge {
        /// Its encoded length in bytes.
        length: usize,
    },
}

impl InputFormat {
    /// The input in the form in which it travels (`docs/semantics.md`, section 1.3).
    pub(crate) fn encode(self, written: &[u8]) -> Result<Bytes, BadInput> {
        let value = match self {
            Self::Json => serde_json::from_slice(written).map_err(BadInput::NotJson)?,
            Self::Text => {
                Packed::from(std::str::from_utf8(written).map_err(|_| BadInput::NotText)?)
            }
        };
        encode_value(&value)
    }

    /// The same for an item of a list; none for a line of JSON that holds nothing.
    pub(crate) fn encode_item(self, written: &[u8]) -> Result<Option<Bytes>, BadInput> {
        if self == Self::Json && written.trim_ascii().is_empty() {
            return Ok(None);
        }
        self.encode(written).map(Some)
    }
}

/// The input of a function that is given none: JSON's `null`, which is `()` to it.
pub(crate) fn nothing() -> Result<Bytes, BadInput> {
    encode_value(&Packed::Nil)
}

fn encode_value(value: &Packed) -> Result<Bytes, BadInput> {
    let mut encoded = Vec::new();
    // Memory takes everything that is written to it.
    let _ = rmpv::encode::write_value(&mut encoded, value);
    // It travels in the submission, which may have no more.
    if encoded.len() > limits::SPEC_BYTES {
        return Err(BadInput::TooLarge { length: encoded.len() });
    }
    Ok(encoded.into())
}

/// What is wrong with the JSON, and where. The first line goes without saying.
fn complaint(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line 1 ") {
        Some((what, place)) => format!("{what} at {place}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::render::value::value_of;

    fn complaint_about(format: InputFormat, written: &[u8]) -> String {
        format.encode(written).expect_err("a complaint").to_string()
    }

    #[test]
    fn an_input_decodes_as_what_a_function_takes() {
        let encoded = InputFormat::Json.encode(b"{\"n\": 7, \"words\": [\"a\", null, -1, 0.5]}");
        let encoded = encoded.expect("JSON");
        assert_eq!(value_of(&encoded), Some(json!({ "n": 7, "words": ["a", null, -1, 0.5] })));
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Input {
            n: u64,
            words: (String, Option<u8>, i64, f64),
        }
        let input: Input = rmp_serde::from_slice(&encoded).expect("a struct");
        assert_eq!(input, Input { n: 7, words: ("a".to_owned(), None, -1, 0.5) });
        let none: () = rmp_serde::from_slice(&nothing().expect("nil")).expect("nothing");
        assert_eq!(none, ());
    }

    #[test]
    fn a_text_is_a_string_whatever_it_looks_like() {
        let encoded = InputFormat::Text.encode(b"{1").expect("a text");
        assert_eq!(value_of(&encoded), Some(json!("{1")));
        assert_eq!(complaint_about(InputFormat::Text, b"\xff"), "is no text in UTF-8");
    }

    #[test]
    fn what_is_no_json_is_said_with_its_place() {
        let complaint = |written: &[u8]| complaint_about(InputFormat::Json, written);
        assert_eq!(complaint(b"seven"), "is no JSON: expected value at column 1");
        assert_eq!(complaint(b"{\n 1}"), "is no JSON: key must be a string at line 2 column 2");
        assert_eq!(complaint(b"1 2"), "is no JSON: trailing characters at column 3");
        assert!(complaint(&vec![b'['; 10_000]).contains("recursion limit"));
        assert!(complaint(b"").starts_with("is no JSON: EOF"));
    }

    #[test]
    fn a_line_that_holds_nothing_is_no_item_of_json() {
        assert!(InputFormat::Json.encode_item(b" \r").expect("nothing").is_none());
        assert!(InputFormat::Text.encode_item(b" \r").expect("a text").is_some());
    }

    #[test]
    fn a_value_past_the_limit_is_refused_before_it_travels() {
        let huge = vec![b'x'; limits::SPEC_BYTES];
        assert!(matches!(InputFormat::Text.encode(&huge), Err(BadInput::TooLarge { .. })));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_goes_in_as_json_is_shown_as_the_same_json(value in values()) {
            let text = value.to_string();
            // Reading may take the last digit of a fraction for another one, on both sides alike.
            let read: Value = serde_json::from_str(&text).expect("its own JSON");
            let encoded = InputFormat::Json.encode(text.as_bytes()).expect("JSON");
            prop_assert_eq!(value_of(&encoded), Some(read));
        }
    }
}
