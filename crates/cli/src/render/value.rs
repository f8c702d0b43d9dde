//! Typed values of functions as JSON: MessagePack in, JSON out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rmpv::Value as Packed;
use serde_json::{Map, Number, Value, json};
use sortie_model::record::live::NOT_ENCODED;

/// Nesting that is shown; a deeper value is shown as base64 by the caller.
const DEPTH: usize = 128;

/// The one value that the bytes hold; none when they hold anything else.
///
/// What JSON lacks is spelled: bytes as `{"base64": …}`, an extension as `{"type": …, "base64":
/// …}`, a key that is no text as its JSON, a number that is not finite as null. The note in place
/// of a live value that could not be encoded is `{"not_encoded": …}`.
pub(crate) fn value_of(mut bytes: &[u8]) -> Option<Value> {
    let value = rmpv::decode::read_value_with_max_depth(&mut bytes, DEPTH).ok()?;
    bytes.is_empty().then(|| to_json(value))
}

fn to_json(value: Packed) -> Value {
    match value {
        Packed::Nil => Value::Null,
        Packed::Boolean(value) => Value::Bool(value),
        Packed::Integer(value) => match (value.as_u64(), value.as_i64()) {
            (Some(value), _) => json!(value),
            (None, Some(value)) => json!(value),
            (None, None) => Value::Null,
        },
        Packed::F32(value) => finite(f64::from(value)),
        Packed::F64(value) => finite(value),
        Packed::String(text) => match text.as_str() {
            Some(text) => json!(text),
            None => base64(text.as_bytes()),
        },
        Packed::Binary(bytes) => base64(&bytes),
        Packed::Array(values) => Value::Array(values.into_iter().map(to_json).collect()),
        Packed::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| (key_of(key), to_json(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Packed::Ext(NOT_ENCODED, why) => json!({ "not_encoded": String::from_utf8_lossy(&why) }),
        Packed::Ext(kind, bytes) => json!({ "type": kind, "base64": BASE64.encode(bytes) }),
    }
}

fn finite(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn base64(bytes: &[u8]) -> Value {
    json!({ "base64": BASE64.encode(bytes) })
}

fn key_of(key: Packed) -> String {
    match to_json(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_value_keeps_its_shape() {
        let mut map = BTreeMap::new();
        map.insert("sum", (1_u64, -2_i64, 0.5_f64, Some(true), ()));
        let packed = rmp_serde::to_vec_named(&map).expect("a map has an encoding");
        assert_eq!(value_of(&packed), Some(json!({ "sum": [1, -2, 0.5, true, null] })));
    }

    #[test]
    fn what_json_lacks_is_spelled() {
        let mut packed = Vec::new();
        let value = Packed::Map(vec![
            (Packed::from(7), Packed::Binary(vec![0xff])),
            (Packed::from("x"), Packed::Ext(3, vec![1])),
            (Packed::from("nan"), Packed::F64(f64::NAN)),
            (Packed::from("lost"), Packed::Ext(NOT_ENCODED, b"no form".to_vec())),
        ]);
        rmpv::encode::write_value(&mut packed, &value).expect("writing to memory");
        let shown = json!({
            "7": { "base64": "/w==" }, "x": { "type": 3, "base64": "AQ==" }, "nan": null,
            "lost": { "not_encoded": "no form" },
        });
        assert_eq!(value_of(&packed), Some(shown));
    }

    #[test]
    fn broken_trailing_and_deep_values_are_left_to_the_caller() {
        assert_eq!(value_of(&[0x92, 0x01]), None);
        assert_eq!(value_of(&[0xc0, 0xc0]), None);
        assert_eq!(value_of(&vec![0x91; 10_000]), None);
    }
}
