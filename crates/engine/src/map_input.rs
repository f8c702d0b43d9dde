//! The input of a map: a stream of bytes becomes numbered items, an item becomes the words of a
//! child's command (`docs/semantics.md`, section 3.1).

mod template;

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use sortie_model::limits;

pub use template::{BadItem, Template};

/// What stands between two items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    /// A line feed. A carriage return before it belongs to the item.
    Line,
    /// A NUL byte (`-0`).
    Nul,
}

impl Separator {
    const fn byte(self) -> u8 {
        match self {
            Self::Line => b'\n',
            Self::Nul => 0,
        }
    }
}

/// One item of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapItem {
    /// Its number, from 1; empty items have none.
    pub number: u64,
    /// Its bytes, exactly as they were between the separators; never empty.
    pub bytes: Bytes,
}

/// An item is longer than [`limits::MAP_LINE_BYTES`]. The map's input ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "input {number} is longer than {} bytes; inputs are separated by line feeds, or by NUL with -0",
    limits::MAP_LINE_BYTES
)]
pub struct ItemTooLong {
    /// The number it would have had.
    pub number: u64,
}

/// Splits a stream of bytes into items, as they are asked for.
///
/// Holds the pieces it was fed until their items were asked for: feed it only when it
/// [needs more](Splitter::needs_more). Items share the memory of their piece.
#[derive(Debug, Clone)]
pub struct Splitter {
    separator: Separator,
    pieces: VecDeque<Bytes>,
    /// The beginning of an item whose end was not seen yet.
    partial: BytesMut,
    items: u64,
    ended: bool,
    broken: Option<ItemTooLong>,
}

impl Splitter {
    /// A splitter that has seen nothing.
    pub fn new(separator: Separator) -> Self {
        Self {
            separator,
            pieces: VecDeque::new(),
            partial: BytesMut::new(),
            items: 0,
            ended: false,
            broken: None,
        }
    }

    /// More of the stream.
    pub fn feed(&mut self, piece: Bytes) {
        if !piece.is_empty() && self.broken.is_none() {
            self.pieces.push_back(piece);
        }
    }

    /// The stream is at its end: what has no separator behind it is the last item.
    pub const fn end(&mut self) {
        self.ended = true;
    }

    /// Items so far.
    pub const fn items(&self) -> u64 {
        self.items
    }

    /// Whether no item can come before more of the stream is fed.
    pub fn needs_more(&self) -> bool {
        self.pieces.is_empty() && !self.ended && self.broken.is_none()
    }

    /// Whether every item was handed out.
    pub fn is_done(&self) -> bool {
        self.broken.is_some() || self.ended && self.pieces.is_empty() && self.partial.is_empty()
    }

    /// The next item, if one is complete.
    ///
    /// # Errors
    /// [`ItemTooLong`], from then on at every call.
    pub fn next_item(&mut self) -> Result<Option<MapItem>, ItemTooLong> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        while let Some(piece) = self.pieces.front_mut() {
            let end = piece.iter().position(|byte| *byte == self.separator.byte());
            let text = piece.split_to(end.unwrap_or(piece.len()));
            if end.is_some() {
                piece.advance(1);
            }
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            if self.partial.len() + text.len() > limits::MAP_LINE_BYTES {
                return Err(self.break_off());
            }
            let bytes = match (end.is_some(), self.partial.is_empty()) {
                (true, true) => text,
                (whole, _) => {
                    self.partial.extend_from_slice(&text);
                    if !whole {
                        continue;
                    }
                    self.partial.split().freeze()
                }
            };
            if !bytes.is_empty() {
                return Ok(Some(self.number(bytes)));
            }
        }
        if self.ended && !self.partial.is_empty() {
            let bytes = self.partial.split().freeze();
            return Ok(Some(self.number(bytes)));
        }
        Ok(None)
    }

    const fn number(&mut self, bytes: Bytes) -> MapItem {
        self.items += 1;
        MapItem { number: self.items, bytes }
    }

    fn break_off(&mut self) -> ItemTooLong {
        let error = ItemTooLong { number: self.items + 1 };
        self.broken = Some(error);
        self.pieces.clear();
        self.partial = BytesMut::new();
        error
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(separator: Separator, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, ItemTooLong> {
        let mut splitter = Splitter::new(separator);
        let mut items = Vec::new();
        let mut take = |splitter: &mut Splitter| {
            while let Some(item) = splitter.next_item()? {
                items.push(item.bytes.to_vec());
                assert_eq!(item.number, items.len() as u64);
            }
            Ok(())
        };
        for piece in pieces {
            assert!(splitter.needs_more());
            splitter.feed(Bytes::copy_from_slice(piece));
            take(&mut splitter)?;
        }
        splitter.end();
        take(&mut splitter)?;
        assert!(splitter.is_done() && !splitter.needs_more());
        Ok(items)
    }

    #[track_caller]
    fn check(pieces: &[&[u8]], expected: &[&[u8]]) {
        assert_eq!(split(Separator::Line, pieces).unwrap(), expected);
    }

    #[test]
    fn each_line_is_an_item_and_empty_ones_are_skipped() {
        check(&[b"a\nb\n"], &[b"a", b"b"]);
        check(&[b"\n\na\n\nb"], &[b"a", b"b"]);
        check(&[b"", b"\n", b""], &[]);
    }

    #[test]
    fn only_the_separator_is_removed() {
        check(&[b"a b \r\n\tc\0\xff\n"], &[b"a b \r", b"\tc\0\xff"]);
        let items = split(Separator::Nul, &[b"a\nb\0\0c"]).unwrap();
        assert_eq!(items, [b"a\nb".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn a_line_may_come_in_pieces_and_the_last_needs_no_end() {
        check(&[b"al", b"ph", b"a\nbe", b"ta"], &[b"alpha", b"beta"]);
    }

    #[test]
    fn nothing_is_complete_before_its_end_was_seen() {
        let mut splitter = Splitter::new(Separator::Line);
        splitter.feed(Bytes::from_static(b"a"));
        assert_eq!(splitter.next_item(), Ok(None));
        assert!(splitter.needs_more() && !splitter.is_done());
        splitter.end();
        assert_eq!(splitter.next_item().unwrap().unwrap().bytes, "a");
        assert_eq!(splitter.next_item(), Ok(None));
    }

    #[test]
    fn an_item_past_the_bound_breaks_the_input_off() {
        let long = vec![b'x'; limits::MAP_LINE_BYTES];
        assert_eq!(split(Separator::Line, &[&long]).unwrap().len(), 1);
        let error = ItemTooLong { number: 2 };
        assert_eq!(split(Separator::Line, &[b"a\n", &long, b"x"]), Err(error));
        let mut splitter = Splitter::new(Separator::Line);
        splitter.feed(Bytes::from([&long[..], b"xx\nb\n"].concat()));
        assert_eq!(splitter.next_item(), Err(ItemTooLong { number: 1 }));
        assert_eq!(splitter.next_item(), Err(ItemTooLong { number: 1 }));
        assert!(splitter.is_done());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            text in prop::collection::vec(prop::sample::select(b"ab\n\0\r".to_vec()), 0..60),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
            for separator in [Separator::Line, Separator::Nul] {
                let expected: Vec<_> = text
                    .split(|byte| *byte == separator.byte())
                    .filter(|item| !item.is_empty())
                    .map(<[u8]>::to_vec)
                    .collect();
                let items = split(separator, &pieces);
                prop_assert_eq!(items, Ok(expected));
            }
        }
    }
}
