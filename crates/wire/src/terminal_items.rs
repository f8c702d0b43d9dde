//! What is typed at a terminal, and the sizes of its window, on their way to the child: one item
//! after the other in the job's input.
//!
//! Keys are `0 | length: u32 LE | bytes`, a size is `1 | rows | columns | width | height`, each a
//! `u16 LE`. Unlike a map's items they may be cut anywhere, also by the node: whoever reads them
//! keeps a [`TerminalItems`] from one piece to the next. It holds no keys back, so a key waits for
//! nothing.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sortie_model::limits;
use sortie_model::spec::WindowSize;

use crate::codec::DecodeError;
use crate::frame::{Kind, Message};
use crate::session_proto::InputData;

const KEYS: u8 = 0;
const SIZE: u8 = 1;
/// The bytes of an item of keys before the keys.
const KEYS_HEAD: usize = 5;
/// The bytes of a size.
const SIZE_ITEM: usize = 9;

/// Keys, or a size, as an item of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalItem {
    /// What was typed, or a part of it; never empty.
    Keys(Bytes),
    /// The window has that size from here on.
    Size(WindowSize),
}

/// The items that stand for these keys: none for no keys, one for each
/// [`limits::RECORD_BYTES`] of them.
pub fn pack_keys(keys: &[u8]) -> Bytes {
    let parts = keys.len().div_ceil(limits::RECORD_BYTES);
    let mut packed = BytesMut::with_capacity(keys.len() + parts * KEYS_HEAD);
    for part in keys.chunks(limits::RECORD_BYTES) {
        packed.put_u8(KEYS);
        packed.put_u32_le(part.len() as u32);
        packed.put_slice(part);
    }
    packed.freeze()
}

/// The item that stands for this size.
pub fn pack_size(size: WindowSize) -> Bytes {
    let WindowSize { rows, columns, width, height } = size;
    let mut packed = BytesMut::with_capacity(SIZE_ITEM);
    packed.put_u8(SIZE);
    [rows, columns, width, height].into_iter().for_each(|number| packed.put_u16_le(number));
    packed.freeze()
}

/// Reads items from pieces that begin and end anywhere.
#[derive(Debug, Default)]
pub struct TerminalItems {
    /// The beginning of an item that goes on in the next piece, shorter than [`SIZE_ITEM`].
    begun: BytesMut,
    /// Keys of the item at hand that were not given yet.
    keys: usize,
}

impl TerminalItems {
    /// Takes the next item off the front of `piece`; none once all of the piece is taken.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] for what is no item.
    pub fn take(&mut self, piece: &mut Bytes) -> Result<Option<TerminalItem>, DecodeError> {
        while !piece.is_empty() {
            if self.keys > 0 {
                let keys = piece.split_to(self.keys.min(piece.len()));
                self.keys -= keys.len();
                return Ok(Some(TerminalItem::Keys(keys)));
            }
            if let Some(size) = self.begin(piece)? {
                return Ok(Some(TerminalItem::Size(size)));
            }
        }
        Ok(None)
    }

    /// Takes as much of an item's head as is there; the size, if that is what it is.
    fn begin(&mut self, piece: &mut Bytes) -> Result<Option<WindowSize>, DecodeError> {
        const MALFORMED: DecodeError = DecodeError::Malformed { kind: KIND };
        const KIND: Kind = InputData::KIND;
        let kind = self.begun.first().or(piece.first()).copied();
        let whole = match kind {
            Some(KEYS) => KEYS_HEAD,
            Some(SIZE) => SIZE_ITEM,
            _ => return Err(MALFORMED),
        };
        let missing = whole.saturating_sub(self.begun.len()).min(piece.len());
        self.begun.extend_from_slice(&piece.split_to(missing));
        if self.begun.len() < whole {
            return Ok(None);
        }
        let mut head = self.begun.split();
        head.advance(1);
        if kind == Some(KEYS) {
            let keys = head.get_u32_le() as usize;
            if keys > limits::RECORD_BYTES {
                return Err(MALFORMED);
            }
            self.keys = keys;
            return Ok(None);
        }
        let mut next = || head.get_u16_le();
        Ok(Some(WindowSize { rows: next(), columns: next(), width: next(), height: next() }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = TerminalItem> {
        let keys = proptest::collection::vec(any::<u8>(), 1..40);
        let size = any::<[u16; 4]>().prop_map(|[rows, columns, width, height]| {
            TerminalItem::Size(WindowSize { rows, columns, width, height })
        });
        prop_oneof![keys.prop_map(|keys| TerminalItem::Keys(keys.into())), size]
    }

    /// The items, with keys that follow each other as one.
    fn joined(items: impl IntoIterator<Item = TerminalItem>) -> Vec<TerminalItem> {
        let mut joined: Vec<TerminalItem> = Vec::new();
        for item in items {
            match (joined.last_mut(), item) {
                (Some(TerminalItem::Keys(before)), TerminalItem::Keys(keys)) => {
                    *before = [before.as_ref(), &keys].concat().into();
                }
                (_, item) => joined.push(item),
            }
        }
        joined
    }

    fn read(items: &mut TerminalItems, piece: &[u8]) -> Result<Vec<TerminalItem>, DecodeError> {
        let mut piece = Bytes::copy_from_slice(piece);
        std::iter::from_fn(|| items.take(&mut piece).transpose()).collect()
    }

    proptest! {
        #[test]
        fn items_come_out_as_they_went_in_however_they_are_cut(
            sent in proptest::collection::vec(item(), 0..8),
            cut in 1_usize..12,
        ) {
            let packed: Vec<u8> = sent.iter().flat_map(|item| match item {
                TerminalItem::Keys(keys) => pack_keys(keys),
                TerminalItem::Size(size) => pack_size(*size),
            }).collect();
            let mut items = TerminalItems::default();
            let mut come = Vec::new();
            for piece in packed.chunks(cut) {
                come.extend(read(&mut items, piece).expect("whole items"));
            }
            prop_assert_eq!(joined(come), joined(sent));
        }
    }

    #[test]
    fn keys_do_not_wait_for_the_rest_of_their_item() {
        let mut items = TerminalItems::default();
        let packed = pack_keys(b"ls");
        assert_eq!(
            read(&mut items, &packed[..6]),
            Ok(vec![TerminalItem::Keys(Bytes::from_static(b"l"))])
        );
        assert_eq!(
            read(&mut items, &packed[6..]),
            Ok(vec![TerminalItem::Keys(Bytes::from_static(b"s"))])
        );
    }

    #[test]
    fn their_bytes_are_fixed() {
        assert_eq!(pack_keys(b"").as_ref(), b"");
        assert_eq!(pack_keys(b"a\xff").as_ref(), b"\x00\x02\x00\x00\x00a\xff");
        let size = WindowSize { rows: 24, columns: 80, width: 0x102, height: 3 };
        assert_eq!(pack_size(size).as_ref(), b"\x01\x18\x00\x50\x00\x02\x01\x03\x00");
        let long = vec![b'x'; limits::RECORD_BYTES + 1];
        assert_eq!(pack_keys(&long).len(), long.len() + 2 * KEYS_HEAD);
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for piece in [b"\x02".as_slice(), b"\x00\xff\xff\xff\xff"] {
            let refused = read(&mut TerminalItems::default(), piece);
            assert_eq!(refused, Err(DecodeError::Malformed { kind: InputData::KIND }));
        }
    }
}
