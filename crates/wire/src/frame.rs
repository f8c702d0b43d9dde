//! Frames: `length: u32 LE | kind: u16 LE | body`, where `length` counts the body only.
//!
//! A frame that carries records has the body `head length: u32 LE | head | payload`: the head is
//! encoded, the payload is the records' bytes one after the other, never re-encoded.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{DecodeError, TooLarge, decode, encode_into};

/// Bytes before the body.
pub const PREFIX_BYTES: usize = 6;

/// A message's number. Never reused, also after a message is gone.
pub type Kind = u16;

/// A message with a number.
pub trait Message: Serialize + DeserializeOwned {
    /// Its number.
    const KIND: Kind;
}

/// A frame whose body is not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The message's number.
    pub kind: Kind,
    /// The body.
    pub body: Bytes,
}

impl Frame {
    /// The message, if the frame carries an `M`.
    ///
    /// # Errors
    /// [`DecodeError`] when it is of another kind or malformed.
    pub fn open<M: Message>(&self) -> Result<M, DecodeError> {
        if self.kind == M::KIND {
            decode(self.kind, &self.body)
        } else {
            Err(DecodeError::Unexpected { kind: self.kind })
        }
    }
}

/// Reads the prefix of a frame: its kind and the length of its body.
///
/// # Errors
/// [`DecodeError::TooLong`] when the body would pass `limit`.
pub fn read_prefix(prefix: [u8; PREFIX_BYTES], limit: usize) -> Result<(Kind, usize), DecodeError> {
    let mut prefix = prefix.as_slice();
    let length = prefix.get_u32_le() as usize;
    let kind = prefix.get_u16_le();
    if length > limit { Err(DecodeError::TooLong { length, limit }) } else { Ok((kind, length)) }
}

/// Appends a message as a frame.
///
/// # Errors
/// [`TooLarge`] when its body passes the frame limit; `to` is then unchanged.
pub fn write_message<M: Message>(message: &M, to: &mut Vec<u8>) -> Result<(), TooLarge> {
    let start = to.len();
    to.extend_from_slice(&[0; PREFIX_BYTES]);
    if let Err(error) = encode_into(message, to) {
        to.truncate(start);
        return Err(error);
    }
    seal(to, start, 0, M::KIND)
}

/// Appends the prefix and head of a frame whose payload of `payload` bytes follows separately.
///
/// # Errors
/// [`TooLarge`] when head and payload together pass the frame limit; `to` is then unchanged.
pub fn write_head<M: Message>(head: &M, payload: usize, to: &mut Vec<u8>) -> Result<(), TooLarge> {
    let start = to.len();
    to.extend_from_slice(&[0; PREFIX_BYTES + 4]);
    if let Err(error) = encode_into(head, to) {
        to.truncate(start);
        return Err(error);
    }
    let head_length = to.len() - start - PREFIX_BYTES - 4;
    if let Some(mut slot) = to.get_mut(start + PREFIX_BYTES..start + PREFIX_BYTES + 4) {
        slot.put_u32_le(head_length as u32);
    }
    seal(to, start, payload, M::KIND)
}

fn seal(to: &mut Vec<u8>, start: usize, payload: usize, kind: Kind) -> Result<(), TooLarge> {
    let length = to.len() - start - PREFIX_BYTES + payload;
    if length > sortie_model::limits::FRAME_BYTES {
        to.truncate(start);
        return Err(TooLarge);
    }
    if let Some(mut slot) = to.get_mut(start..start + PREFIX_BYTES) {
        slot.put_u32_le(length as u32);
        slot.put_u16_le(kind);
    }
    Ok(())
}

/// Splits the body of a frame with payload into its head and the payload.
///
/// # Errors
/// [`DecodeError`] when the frame is of another kind, or its head is malformed or too long.
pub fn open_head<M: Message>(frame: Frame) -> Result<(M, Bytes), DecodeError> {
    let Frame { kind, mut body } = frame;
    if kind != M::KIND {
        return Err(DecodeError::Unexpected { kind });
    }
    if body.len() < 4 {
        return Err(DecodeError::Malformed { kind });
    }
    let head_length = body.get_u32_le() as usize;
    if head_length > body.len() {
        return Err(DecodeError::Malformed { kind });
    }
    let head = body.split_to(head_length);
    Ok((decode(kind, &head)?, body))
}

/// Takes one whole frame off the front of `buffer`, if one is there.
///
/// # Errors
/// [`DecodeError::TooLong`] when the frame claims more than `limit` bytes.
pub fn take_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, DecodeError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let (kind, length) = read_prefix(*prefix, limit)?;
    if buffer.len() < PREFIX_BYTES + length {
        buffer.reserve(PREFIX_BYTES + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(Frame { kind, body: buffer.split_to(length).freeze() }))
}
