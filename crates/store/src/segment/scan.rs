//! Reading a segment from one item to the next, and telling a torn tail from damage.

use std::io::{self, ErrorKind};

use bytes::{Bytes, BytesMut};
use sortie_model::{Record, Seq, limits};

use crate::disk::DiskFile;
use crate::segment::format::{HEAD, HEADER, Head, Item, MARK_MAGIC, MARK_MAGIC_AT, Summary};

/// Bytes that are read at once.
const CHUNK: usize = 256 * limits::KIB;

/// What a scan meets.
#[derive(Debug)]
pub(crate) enum Met {
    Record(Record),
    Seal,
    /// The segment has no byte more.
    End,
    /// An item begins here and is not whole.
    Incomplete,
    /// No item begins here.
    Bad,
}

/// Goes through a segment. It holds one record, or [`CHUNK`] bytes, whichever is more.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Where the next item begins.
    at: u64,
    buffer: BytesMut,
    /// The length of the file when it was last looked at.
    length: u64,
    summary: Summary,
    /// The highest place that a mark says is on the disk.
    marked: u64,
}

impl Scan {
    /// Begins behind the header, which the caller has read.
    pub(crate) const fn new(first: Seq, buffer: BytesMut) -> Self {
        let summary = Summary::empty(first);
        Self { at: HEADER as u64, buffer, length: 0, summary, marked: 0 }
    }

    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// Of what was met so far.
    pub(crate) const fn summary(&self) -> &Summary {
        &self.summary
    }

    pub(crate) const fn marked(&self) -> u64 {
        self.marked
    }

    /// The next item but marks and skips. What is not there yet may be there at the next call.
    pub(crate) fn next(&mut self, file: &dyn DiskFile) -> io::Result<Met> {
        loop {
            if !self.fill(file, HEAD)? {
                return Ok(if self.length <= self.at { Met::End } else { Met::Incomplete });
            }
            let Some(head) = Head::decode(&self.buffer) else { return Ok(Met::Bad) };
            let whole = HEAD + head.length;
            if !self.fill(file, whole)? {
                return Ok(Met::Incomplete);
            }
            let body = Bytes::copy_from_slice(self.buffer.get(HEAD..whole).unwrap_or_default());
            let item = self.buffer.get(..HEAD).and_then(|bytes| head.item(bytes, body));
            let met = match item {
                Some(Item::Record(record)) if record.seq == self.summary.next => {
                    self.summary.add(record.stream, record.seq);
                    Some(Met::Record(record))
                }
                Some(Item::Mark(synced)) if synced <= self.at => {
                    self.marked = self.marked.max(synced);
                    None
                }
                Some(Item::Skip(next)) if next > self.summary.next => {
                    self.summary.next = next;
                    None
                }
                Some(Item::Seal(summary)) if summary == self.summary => Some(Met::Seal),
                _ => return Ok(Met::Bad),
            };
            self.at += whole as u64;
            // No more than the file has was read, so no more is thrown away.
            let _ = self.buffer.split_to(whole);
            if self.buffer.is_empty() {
                // Thousands of readers wait for more, and none of them keeps memory for it.
                self.buffer = BytesMut::new();
            }
            if let Some(met) = met {
                return Ok(met);
            }
        }
    }

    /// Whether so many bytes from here on are in the buffer now.
    fn fill(&mut self, file: &dyn DiskFile, bytes: usize) -> io::Result<bool> {
        if self.buffer.len() >= bytes {
            return Ok(true);
        }
        let from = self.at + self.buffer.len() as u64;
        if self.length < self.at + bytes as u64 {
            self.length = file.length()?;
        }
        if self.length < self.at + bytes as u64 {
            // What is there already is read again with the rest of it: a writer that was killed may
            // have come back, and written other bytes behind the last whole item.
            self.buffer.clear();
            return Ok(false);
        }
        let left = usize::try_from(self.length - from).unwrap_or(usize::MAX);
        let before = self.buffer.len();
        self.buffer.resize(before + left.min(CHUNK.max(bytes - before)), 0);
        let read = match self.buffer.get_mut(before..) {
            Some(place) => file.read_at(place, from),
            None => Ok(()),
        };
        match read {
            Ok(()) => Ok(true),
            // The writer came back just now, and cut its torn tail.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                self.look_again();
                Ok(false)
            }
            Err(error) => {
                self.look_again();
                Err(error)
            }
        }
    }

    /// Forgets what was read ahead, so that the next look is at the file.
    pub(crate) fn look_again(&mut self) {
        self.buffer.clear();
        self.length = 0;
    }
}

/// Whether a mark from `from` on says that this place was on the disk: then what is there is damage
/// and no torn tail.
pub(crate) fn is_promised(file: &dyn DiskFile, from: u64) -> io::Result<bool> {
    let end = file.length()?;
    let (mut at, mut window) = (from, Vec::new());
    while at < end {
        let bytes = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let kept = window.len();
        window.resize(kept + bytes, 0);
        if let Some(place) = window.get_mut(kept..) {
            file.read_at(place, at)?;
        }
        at += bytes as u64;
        let start = at - window.len() as u64;
        if marks(&window).any(|(offset, synced)| synced > from && synced <= start + offset) {
            return Ok(true);
        }
        // The last bytes may be the beginning of a mark.
        let keep = window.len().saturating_sub(HEAD - 1);
        window.drain(..keep);
    }
    Ok(false)
}

/// The marks in these bytes: where, and what they say.
fn marks(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let places = bytes.windows(HEAD).enumerate().filter(|(_, window)| {
        window.get(MARK_MAGIC_AT..MARK_MAGIC_AT + MARK_MAGIC.len()) == Some(&MARK_MAGIC)
    });
    places.filter_map(|(at, window)| {
        let head = Head::decode(window).filter(|head| head.length == 0)?;
        match head.item(window, Bytes::new())? {
            Item::Mark(synced) => Some((at as u64, synced)),
            _ => None,
        }
    })
}
