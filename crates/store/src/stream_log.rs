//! One stream of one mailbox: a log that lies in files up to some place and in memory from there.
//!
//! Places are bytes from the log's beginning. Nothing is kept per record: memory has parts of many
//! records, files have extents of one write or more. Live values are the exception: each is a part
//! of its own in memory, which takes as many places as its weight says; in a file, where their
//! length is another, they lie in runs that are read from their beginning.

mod segment;
mod spill;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sortie_model::limits::{KIB, LIVE_RUN_BYTES, OWN_BUFFER_BYTES};
use sortie_model::record::Body;
use sortie_model::{Seq, Timestamp};

use crate::MailboxFile;
use crate::record_log::{Entry, put_foot, put_head, put_record};
pub use segment::{LoadError, Segment};
use spill::WrittenPart;
pub use spill::{Spill, Written};

/// Buffers for small records grow from this size ...
const FIRST_BUFFER: usize = KIB;
/// ... to this one.
const LARGEST_BUFFER: usize = 64 * KIB;

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

#[derive(Debug, Clone)]
struct Part {
    from: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Bytes),
    Live(Entry),
}

impl Part {
    /// How many places it takes.
    const fn len(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Live(entry) => entry.in_log(),
        }
    }

    const fn to(&self) -> u64 {
        self.from + self.len()
    }
}

#[derive(Debug)]
struct Extent {
    from: u64,
    to: u64,
    file: Arc<MailboxFile>,
    at: u64,
    /// Bytes in the file: as many as places, but for a run of values that were live.
    bytes: u64,
    is_run: bool,
    /// Bytes that were not given back yet.
    live: u64,
}

impl Extent {
    /// Where a place is in the file. A run has no places of its own.
    const fn in_file(&self, place: u64) -> u64 {
        self.at + (place - self.from)
    }

    fn segment(&self, from: u64, to: u64) -> Segment {
        let (file, at) = (Arc::clone(&self.file), self.at);
        if self.is_run {
            let wanted = from - self.from..to - self.from;
            return Segment::Run { file, at, bytes: self.bytes as usize, wanted };
        }
        Segment::File { file, at: self.in_file(from), bytes: (to - from) as usize }
    }

    /// What goes back to the disk when `freed` does.
    fn free(&mut self, freed: &Range<u64>, gap: &Range<u64>) -> Option<Hole> {
        let whole = gap.start <= self.from && self.to <= gap.end;
        let inside = |range: &Range<u64>| {
            let from = range.start.clamp(self.from, self.to);
            self.in_file(from)..self.in_file(range.end.clamp(from, self.to))
        };
        let (freed, gap) = if self.is_run {
            let all = self.at..self.at + self.bytes;
            if !whole {
                return None;
            }
            (all.clone(), all)
        } else {
            (inside(freed), inside(gap))
        };
        let bytes = if whole { self.live } else { self.live.min(freed.end - freed.start) };
        self.live -= bytes;
        (bytes > 0).then(|| Hole { file: Arc::clone(&self.file), freed, gap, bytes })
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

    /// Adds a record. A body of [`OWN_BUFFER_BYTES`] or more is kept as it is, as a live value is;
    /// a smaller one is copied.
    pub fn append(&mut self, seq: Seq, time: Timestamp, body: &Body) {
        let before = self.end();
        if matches!(body, Body::Live(_)) {
            self.freeze();
            self.push(Content::Live(Entry::new(seq, time, body.clone())));
        } else if body.len() < OWN_BUFFER_BYTES {
            self.make_buffer(body.len() + 24);
            put_record(&mut self.open, seq, time, body);
        } else {
            self.make_buffer(24);
            put_head(&mut self.open, seq, time, body);
            self.freeze();
            self.push(Content::Bytes(body.bytes()));
            self.make_buffer(24);
            put_foot(&mut self.open, body);
        }
        self.memory += self.end() - before;
    }

    /// Adds a part; nothing is open.
    fn push(&mut self, content: Content) {
        let part = Part { from: self.open_from, content };
        self.open_from = part.to();
        self.parts.push_back(part);
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
            self.push(Content::Bytes(bytes));
        }
    }

    /// The bytes of `range`, at most about `most` of them from its beginning; of memory, and of
    /// values that were live, whole parts. What was freed is left out: ask for what was not.
    pub fn read(&mut self, range: Range<u64>, most: usize) -> Vec<Segment> {
        let to = range.end.min(range.start.saturating_add(most as u64));
        let mut segments = Vec::new();
        let first = self.extents.partition_point(|extent| extent.to <= range.start);
        for extent in self.extents.range(first..).take_while(|extent| extent.from < to) {
            let to = if extent.is_run { range.end } else { to };
            segments.push(extent.segment(extent.from.max(range.start), extent.to.min(to)));
        }
        if self.open_from < to {
            self.freeze();
        }
        let first = self.parts.partition_point(|part| part.to() <= range.start);
        for part in self.parts.range(first..).take_while(|part| part.from < to) {
            segments.push(match &part.content {
                Content::Bytes(bytes) => {
                    let from = range.start.saturating_sub(part.from) as usize;
                    let end = (range.end.min(part.to()) - part.from) as usize;
                    Segment::Memory(bytes.slice(from..end))
                }
                Content::Live(entry) => Segment::Live(entry.clone()),
            });
        }
        segments
    }

    /// Everything that is in memory.
    pub fn spill(&mut self) -> Spill {
        self.freeze();
        Spill { parts: self.parts.iter().cloned().collect() }
    }

    /// `written` lies in `file` from the byte `at` on: its memory is free. What was freed meanwhile
    /// comes back as holes.
    #[must_use]
    pub fn spilled(&mut self, written: &Written, file: &Arc<MailboxFile>, at: u64) -> Vec<Hole> {
        let (mut holes, mut at) = (Vec::new(), at);
        for part in &written.parts {
            let bytes = part.bytes.len() as u64;
            if self.parts.front().is_some_and(|front| front.from == part.from) {
                self.parts.pop_front();
                self.memory -= part.to - part.from;
                self.add_extent(part, file, at);
            } else {
                holes.push(Hole::new(Arc::clone(file), at, bytes));
            }
            at += bytes;
        }
        holes
    }

    fn add_extent(&mut self, part: &WrittenPart, file: &Arc<MailboxFile>, at: u64) {
        let (bytes, is_run) = (part.bytes.len() as u64, part.live);
        if let Some(last) = self.extents.back_mut()
            && last.to == part.from
            && last.is_run == is_run
            && Arc::ptr_eq(&last.file, file)
            && last.at + last.bytes == at
            && (!is_run || last.bytes + bytes <= LIVE_RUN_BYTES)
        {
            last.to = part.to;
            last.bytes += bytes;
            last.live += bytes;
            return;
        }
        let (file, live) = (Arc::clone(file), bytes);
        let (from, to) = (part.from, part.to);
        self.extents.push_back(Extent { from, to, file, at, bytes, is_run, live });
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
                *memory -= part.len();
            },
        );
        if self.parts.is_empty() && self.open.is_empty() {
            self.open = BytesMut::new();
        }
        let mut holes = Vec::new();
        let first = self.extents.partition_point(|extent| extent.to <= gap.start);
        for extent in self.extents.range_mut(first..).take_while(|extent| extent.from < gap.end) {
            holes.extend(extent.free(&freed, &gap));
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
