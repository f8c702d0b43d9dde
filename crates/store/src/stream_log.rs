//! One stream of one mailbox: a log that lies in files up to some place and in memory from there.
//!
//! Places are bytes from the log's beginning. Nothing is kept per record: memory has parts of many
//! records, files have extents of one write or more.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sortie_model::limits::{KIB, OWN_BUFFER_BYTES};
use sortie_model::record::Body;
use sortie_model::{Seq, Timestamp};

use crate::MailboxFile;
use crate::record_log::{put_foot, put_head, put_record};

/// Buffers for small records grow from this size ...
const FIRST_BUFFER: usize = KIB;
/// ... to this one.
const LARGEST_BUFFER: usize = 64 * KIB;

/// Bytes of a log, or where they are.
#[derive(Debug, Clone)]
pub enum Segment {
    /// They are here.
    Memory(Bytes),
    /// They must be read.
    File {
        /// Where from.
        file: Arc<MailboxFile>,
        /// From which byte of the file.
        at: u64,
        /// How many.
        bytes: usize,
    },
}

impl Segment {
    /// How many bytes.
    pub const fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File { bytes, .. } => *bytes,
        }
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, read if they have to be. Touches the disk then.
    ///
    /// # Errors
    /// [`crate::SpoolError::Io`].
    pub fn load(self) -> Result<Bytes, crate::SpoolError> {
        match self {
            Self::Memory(bytes) => Ok(bytes),
            Self::File { file, at, bytes } => file.read(at, bytes),
        }
    }
}

/// A stretch of a file that nobody needs. Dropping it may remove the file.
#[derive(Debug)]
pub struct Hole {
    file: Arc<MailboxFile>,
    freed: Range<u64>,
    gap: Range<u64>,
    bytes: u64,
}

impl Hole {
    /// A stretch of a file outside any log.
    pub const fn new(file: Arc<MailboxFile>, at: u64, bytes: u64) -> Self {
        let freed = at..at + bytes;
        Self { file, gap: at..at + bytes, freed, bytes }
    }

    /// Makes one of this hole and the next when that lies right behind it, which sequential
    /// readers make it do; else returns the next.
    pub fn absorb(&mut self, next: Self) -> Option<Self> {
        if !Arc::ptr_eq(&self.file, &next.file) || self.freed.end != next.freed.start {
            return Some(next);
        }
        self.freed.end = next.freed.end;
        self.gap = self.gap.start.min(next.gap.start)..self.gap.end.max(next.gap.end);
        self.bytes += next.bytes;
        None
    }

    /// Gives the stretch back. Touches the disk.
    pub fn give_back(self) {
        // The last one to need the file removes it, which gives everything back.
        if Arc::strong_count(&self.file) > 1 {
            self.file.free(self.freed, self.gap, self.bytes);
        }
    }
}

/// What a log has in memory, to be written to a file in one go.
#[derive(Debug, Default)]
pub struct Spill {
    parts: Vec<Part>,
}

impl Spill {
    /// The bytes to write, in order.
    pub fn bytes(&self) -> impl Iterator<Item = Bytes> {
        self.parts.iter().map(|part| part.bytes.clone())
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

#[derive(Debug, Clone)]
struct Part {
    from: u64,
    bytes: Bytes,
}

impl Part {
    const fn to(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

#[derive(Debug)]
struct Extent {
    from: u64,
    to: u64,
    file: Arc<MailboxFile>,
    at: u64,
    /// Bytes that were not given back yet.
    live: u64,
}

impl Extent {
    const fn in_file(&self, place: u64) -> u64 {
        self.at + (place - self.from)
    }
}

/// The log of one stream. Everything in files comes before everything in memory.
#[derive(Debug, Default)]
pub struct StreamLog {
    extents: VecDeque<Extent>,
    parts: VecDeque<Part>,
    /// The end of the log as long as it grows; begins at `open_from`.
    open: BytesMut,
    open_from: u64,
    memory: u64,
    buffer: usize,
}

impl StreamLog {
    /// An empty log whose first record begins at `place`.
    pub fn starting_at(place: u64) -> Self {
        Self { open_from: place, ..Self::default() }
    }

    /// Where the next record will begin.
    pub fn end(&self) -> u64 {
        self.open_from + self.open.len() as u64
    }

    /// Bytes in memory.
    pub const fn memory(&self) -> u64 {
        self.memory
    }

    /// Adds a record. A body of [`OWN_BUFFER_BYTES`] or more is kept as it is, a smaller one is
    /// copied.
    pub fn append(&mut self, seq: Seq, time: Timestamp, body: &Body) {
        let before = self.end();
        if body.len() < OWN_BUFFER_BYTES {
            self.make_buffer(body.len() + 24);
            put_record(&mut self.open, seq, time, body);
        } else {
            self.make_buffer(24);
            put_head(&mut self.open, seq, time, body);
            self.freeze();
            let part = Part { from: self.open_from, bytes: body.bytes().clone() };
            self.open_from = part.to();
            self.parts.push_back(part);
            self.make_buffer(24);
            put_foot(&mut self.open, body);
        }
        self.memory += self.end() - before;
    }

    fn make_buffer(&mut self, bytes: usize) {
        if self.open.capacity() - self.open.len() >= bytes {
            return;
        }
        self.freeze();
        if self.open.capacity() < bytes {
            self.buffer = (self.buffer * 2).clamp(FIRST_BUFFER, LARGEST_BUFFER);
            self.open = BytesMut::with_capacity(self.buffer.max(bytes));
        }
    }

    /// Makes what is open readable; what comes next goes behind it.
    fn freeze(&mut self) {
        if !self.open.is_empty() {
            let bytes = self.open.split().freeze();
            let part = Part { from: self.open_from, bytes };
            self.open_from = part.to();
            self.parts.push_back(part);
        }
    }

    /// The bytes of `range`, at most about `most` of them from its beginning; of memory whole
    /// parts. What was freed is left out: ask for live ranges.
    pub fn read(&mut self, range: Range<u64>, most: usize) -> Vec<Segment> {
        let to = range.end.min(range.start.saturating_add(most as u64));
        let mut segments = Vec::new();
        let first = self.extents.partition_point(|extent| extent.to <= range.start);
        for extent in self.extents.range(first..).take_while(|extent| extent.from < to) {
            let from = extent.from.max(range.start);
            let bytes = (extent.to.min(to) - from) as usize;
            let file = Arc::clone(&extent.file);
            segments.push(Segment::File { file, at: extent.in_file(from), bytes });
        }
        if self.open_from < to {
            self.freeze();
        }
        let first = self.parts.partition_point(|part| part.to() <= range.start);
        for part in self.parts.range(first..).take_while(|part| part.from < to) {
            let from = range.start.saturating_sub(part.from) as usize;
            let end = (range.end.min(part.to()) - part.from) as usize;
            segments.push(Segment::Memory(part.bytes.slice(from..end)));
        }
        segments
    }

    /// Everything that is in memory.
    pub fn spill(&mut self) -> Spill {
        self.freeze();
        Spill { parts: self.parts.iter().cloned().collect() }
    }

    /// `spill` was written to `file` from the byte `at` on: its memory is free. What was freed
    /// meanwhile comes back as holes.
    #[must_use]
    pub fn spilled(&mut self, spill: &Spill, file: &Arc<MailboxFile>, mut at: u64) -> Vec<Hole> {
        let mut holes = Vec::new();
        for part in &spill.parts {
            let bytes = part.bytes.len() as u64;
            if self.parts.front().is_some_and(|front| front.from == part.from) {
                self.parts.pop_front();
                self.memory -= bytes;
                self.add_extent(part, file, at);
            } else {
                holes.push(Hole::new(Arc::clone(file), at, bytes));
            }
            at += bytes;
        }
        holes
    }

    fn add_extent(&mut self, part: &Part, file: &Arc<MailboxFile>, at: u64) {
        let (from, to, live) = (part.from, part.to(), part.bytes.len() as u64);
        if let Some(last) = self.extents.back_mut()
            && last.to == from
            && Arc::ptr_eq(&last.file, file)
            && last.in_file(last.to) == at
        {
            last.to = to;
            last.live += live;
            return;
        }
        self.extents.push_back(Extent { from, to, file: Arc::clone(file), at, live });
    }

    /// Frees `freed`; `gap` is `freed` with the free stretches around it. What has to be given back
    /// to a disk comes out as holes.
    #[must_use]
    pub fn free(&mut self, freed: Range<u64>, gap: Range<u64>) -> Vec<Hole> {
        if self.open_from < gap.end && gap.start <= self.open_from && gap.end >= self.end() {
            self.freeze();
        }
        let memory = &mut self.memory;
        remove_inside(
            &mut self.parts,
            &gap,
            |part| part.from..part.to(),
            |part| {
                *memory -= part.bytes.len() as u64;
            },
        );
        if self.parts.is_empty() && self.open.is_empty() {
            self.open = BytesMut::new();
        }
        let mut holes = Vec::new();
        let first = self.extents.partition_point(|extent| extent.to <= gap.start);
        for extent in self.extents.range_mut(first..).take_while(|extent| extent.from < gap.end) {
            let inside = |range: &Range<u64>| {
                let from = range.start.clamp(extent.from, extent.to);
                extent.in_file(from)..extent.in_file(range.end.clamp(from, extent.to))
            };
            let (freed, around) = (inside(&freed), inside(&gap));
            let whole = gap.start <= extent.from && extent.to <= gap.end;
            let bytes = if whole { extent.live } else { extent.live.min(freed.end - freed.start) };
            extent.live -= bytes;
            if bytes > 0 {
                let file = Arc::clone(&extent.file);
                holes.push(Hole { file, freed, gap: around, bytes });
            }
        }
        remove_inside(&mut self.extents, &gap, |extent| extent.from..extent.to, |_| ());
        holes
    }
}

/// Removes what lies inside the gap as a whole; from the front without moving the rest.
fn remove_inside<T>(
    items: &mut VecDeque<T>,
    gap: &Range<u64>,
    range: impl Fn(&T) -> Range<u64>,
    mut removed: impl FnMut(&T),
) {
    let first = items.partition_point(|item| range(item).start < gap.start);
    let end = items.partition_point(|item| range(item).end <= gap.end);
    if first < end {
        items.drain(first..end).for_each(|item| removed(&item));
    }
}

#[cfg(test)]
mod tests;
