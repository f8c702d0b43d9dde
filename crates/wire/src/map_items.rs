//! The items of a map on their way from the client: `length: u32 LE | bytes`, one after the other.
//!
//! A piece of input ([`crate::session_proto::InputData`]) of a map holds whole items only, so
//! either side looks at one piece at a time. The client splits lines; the node never does, and an
//! item may hold any byte. Empty items are skipped by the node.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sortie_model::limits;

use crate::codec::{DecodeError, TooLarge};
use crate::frame::{Kind, Message};
use crate::session_proto::InputData;

const LENGTH_BYTES: usize = 4;

/// What one item adds to a piece, in bytes.
pub const fn packed_len(item: &[u8]) -> usize {
    LENGTH_BYTES + item.len()
}

/// Appends an item.
///
/// # Errors
/// [`TooLarge`] when it is longer than [`limits::VALUE_BYTES`]; `to` is then unchanged.
pub fn append(item: &[u8], to: &mut BytesMut) -> Result<(), TooLarge> {
    if item.len() > limits::VALUE_BYTES {
        return Err(TooLarge);
    }
    to.reserve(packed_len(item));
    to.put_u32_le(item.len() as u32);
    to.put_slice(item);
    Ok(())
}

/// Takes the next item off the front of a piece, without copying; none at the piece's end.
///
/// # Errors
/// [`DecodeError::Malformed`] when the piece is shorter than the item claims, or the item is longer
/// than [`limits::VALUE_BYTES`].
pub fn take(piece: &mut Bytes) -> Result<Option<Bytes>, DecodeError> {
    const KIND: Kind = InputData::KIND;
    if piece.is_empty() {
        return Ok(None);
    }
    if piece.len() < LENGTH_BYTES {
        return Err(DecodeError::Malformed { kind: KIND });
    }
    let length = piece.get_u32_le() as usize;
    if length > limits::VALUE_BYTES || length > piece.len() {
        return Err(DecodeError::Malformed { kind: KIND });
    }
    Ok(Some(piece.split_to(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_as_they_went_in() {
        let items: [&[u8]; 3] = [b"one", b"", b"two\nlines\0"];
        let mut piece = BytesMut::new();
        for item in items {
            append(item, &mut piece).expect("short items fit");
        }
        assert_eq!(piece.len(), items.iter().map(|item| packed_len(item)).sum::<usize>());
        let mut piece = piece.freeze();
        for item in items {
            assert_eq!(take(&mut piece), Ok(Some(Bytes::copy_from_slice(item))));
        }
        assert_eq!(take(&mut piece), Ok(None));
    }

    #[test]
    fn a_piece_that_is_cut_or_lies_is_malformed() {
        for bad in [&b"\x01"[..], b"\x02\0\0\0x", b"\xff\xff\xff\xff"] {
            assert!(take(&mut Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
        let long = vec![0; limits::VALUE_BYTES + 1];
        assert_eq!(append(&long, &mut BytesMut::new()), Err(TooLarge));
    }
}
