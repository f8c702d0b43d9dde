//! The one place that knows bincode: little-endian, variable integers, bounded.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_model::limits;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<{ limits::FRAME_BYTES }>,
> = bincode::config::standard()
    .with_little_endian()
    .with_variable_int_encoding()
    .with_limit::<{ limits::FRAME_BYTES }>();

/// Bytes that are not the message they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body does not have the message's shape.
    #[error("a message of kind {kind} has a body that cannot be read")]
    Malformed {
        /// The kind that the frame claims.
        kind: u16,
    },
    /// The body has bytes behind the message.
    #[error("a message of kind {kind} has {surplus} bytes too many")]
    Surplus {
        /// The kind that the frame claims.
        kind: u16,
        /// How many bytes were left.
        surplus: usize,
    },
    /// The frame is of another kind than is allowed here.
    #[error("a message of kind {kind} is not allowed here")]
    Unexpected {
        /// The kind that the frame claims.
        kind: u16,
    },
    /// The frame claims more bytes than are allowed here.
    #[error("a frame of {length} bytes is longer than the {limit} allowed here")]
    TooLong {
        /// What it claims.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// A message that cannot be sent because its encoding passes the frame limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message would have more than {} bytes", limits::FRAME_BYTES)]
pub struct TooLarge;

/// The encoding of a value, at most [`limits::FRAME_BYTES`] long.
///
/// # Errors
/// [`TooLarge`] when it would be longer.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, TooLarge> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends the encoding of a value.
///
/// # Errors
/// [`TooLarge`] when the whole would pass [`limits::FRAME_BYTES`]; `to` then has a partial tail.
pub fn encode_into<T: Serialize>(value: &T, to: &mut Vec<u8>) -> Result<(), TooLarge> {
    let written = bincode::serde::encode_into_std_write(value, to, CONFIG).map_err(|_| TooLarge)?;
    if written > limits::FRAME_BYTES { Err(TooLarge) } else { Ok(()) }
}

/// How long the encoding of a value is, in bytes; nothing is kept of it.
///
/// # Errors
/// [`TooLarge`] when it would pass [`limits::FRAME_BYTES`].
pub fn encoded_length<T: Serialize>(value: &T) -> Result<usize, TooLarge> {
    let mut nowhere = std::io::sink();
    let length = bincode::serde::encode_into_std_write(value, &mut nowhere, CONFIG);
    length.ok().filter(|length| *length <= limits::FRAME_BYTES).ok_or(TooLarge)
}

/// Reads a value that fills `bytes` exactly. `kind` is named in errors.
///
/// # Errors
/// [`DecodeError`] for anything but an exact, well-formed encoding. Never panics.
pub fn decode<T: DeserializeOwned>(kind: u16, bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|_| DecodeError::Malformed { kind })?;
    match bytes.len().checked_sub(used) {
        Some(0) => Ok(value),
        surplus => Err(DecodeError::Surplus { kind, surplus: surplus.unwrap_or(0) }),
    }
}
