//! Cutting a list of items out of a stream of bytes.

use bytes::{Buf, Bytes, BytesMut};
use sortie_model::limits;

use crate::error::Misuse;

/// What ends an item in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Separator {
    /// A newline; items are lines.
    #[default]
    Newline,
    /// A NUL byte.
    Nul,
}

/// Cuts a list into items: push what was read, take the items that are whole. Empty items are
/// skipped (`docs/semantics.md`, section 3.1); a last item needs no separator.
#[derive(Debug, Default)]
pub struct ItemSplitter {
    separator: Separator,
    rest: BytesMut,
    /// So many bytes of the rest hold no separator.
    searched: usize,
    position: u64,
}

impl ItemSplitter {
    /// A splitter at the beginning of a list.
    pub fn new(separator: Separator) -> Self {
        Self { separator, rest: BytesMut::new(), searched: 0, position: 0 }
    }

    /// Adds what was read. Take the whole items after each: what was added and not taken is held in
    /// memory.
    pub fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next whole item, if there is one.
    ///
    /// # Errors
    /// [`Misuse::LineTooLong`] when an item is longer than
    /// [`limits::MAP_LINE_BYTES`](crate::limits::MAP_LINE_BYTES), also before its end has come.
    pub fn next_item(&mut self) -> Result<Option<Bytes>, Misuse> {
        let separator = match self.separator {
            Separator::Newline => b'\n',
            Separator::Nul => 0,
        };
        loop {
            let unsearched = self.rest.get(self.searched..).unwrap_or_default();
            let Some(offset) = unsearched.iter().position(|byte| *byte == separator) else {
                self.searched = self.rest.len();
                return fits(self.searched).map(|()| None);
            };
            let item = self.rest.split_to(self.searched + offset);
            self.rest.advance(1);
            self.searched = 0;
            self.position += 1;
            fits(item.len())?;
            if !item.is_empty() {
                return Ok(Some(item.freeze()));
            }
        }
    }

    /// The place of the last whole item in the list, from 1; empty items have their places too. So
    /// it is the number of the item's line, and one less than that of [`ItemSplitter::finish`]'s.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The item after the last separator, if it is not empty. Take the whole items first.
    ///
    /// # Errors
    /// As for [`ItemSplitter::next_item`].
    pub fn finish(self) -> Result<Option<Bytes>, Misuse> {
        fits(self.rest.len())?;
        Ok((!self.rest.is_empty()).then(|| self.rest.freeze()))
    }
}

const fn fits(length: usize) -> Result<(), Misuse> {
    if length <= limits::MAP_LINE_BYTES { Ok(()) } else { Err(Misuse::LineTooLong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(separator: Separator, list: &[u8], step: usize) -> Vec<Bytes> {
        let mut splitter = ItemSplitter::new(separator);
        let mut items = Vec::new();
        for read in list.chunks(step) {
            splitter.push(read);
            while let Some(item) = splitter.next_item().expect("short items") {
                items.push(item);
            }
        }
        items.extend(splitter.finish().expect("a short item"));
        items
    }

    #[test]
    fn items_are_the_same_however_the_list_is_read() {
        for step in 1..12 {
            let lines = split(Separator::Newline, b"one\n\ntwo\n\n\nth\0ree", step);
            assert_eq!(lines, [&b"one"[..], b"two", b"th\0ree"], "{step}");
            let nul = split(Separator::Nul, b"a\nb\0\0c\0", step);
            assert_eq!(nul, [&b"a\nb"[..], b"c"], "{step}");
        }
    }

    #[test]
    fn an_item_has_the_number_of_its_line() {
        let mut splitter = ItemSplitter::new(Separator::Newline);
        splitter.push(b"one\n\n\nfour\nfive");
        let mut places = Vec::new();
        while let Some(item) = splitter.next_item().expect("short items") {
            places.push((item, splitter.position()));
        }
        assert_eq!(places, [(Bytes::from("one"), 1), (Bytes::from("four"), 4)]);
        assert_eq!(splitter.position() + 1, 5);
    }

    #[test]
    fn an_item_past_the_limit_is_refused_before_it_is_whole() {
        let mut splitter = ItemSplitter::new(Separator::Newline);
        splitter.push(&vec![b'x'; limits::MAP_LINE_BYTES]);
        assert_eq!(splitter.next_item(), Ok(None));
        splitter.push(b"x");
        assert_eq!(splitter.next_item(), Err(Misuse::LineTooLong));
    }
}
