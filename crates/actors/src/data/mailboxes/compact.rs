//! The mailbox of a child with a few small records, in one block: most children of a large job
//! never have more.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sortie_engine::mailbox::{OfferId, PerStream, Piece, Tally};
use sortie_model::limits::{COMPACT_MAILBOX_BYTES, COMPACT_MAILBOX_RECORDS, RECORD_OVERHEAD_BYTES};
use sortie_model::record::StreamSet;
use sortie_model::{Record, Seq, Stream};
use sortie_store::{Damaged, Entry, Hole, MailboxFile, put_record, split_record};

use super::Summary;

/// The number of a compact mailbox's only offer. It is the first number that a ledger gives, so the
/// offer stays valid when the mailbox grows meanwhile.
pub(super) const ONLY_OFFER: OfferId = OfferId(0);

/// Where the records lie.
#[derive(Debug, Clone)]
pub(super) enum Block {
    Memory(Bytes),
    File { file: Arc<MailboxFile>, at: u64, bytes: u32 },
}

impl Block {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File { bytes, .. } => *bytes as usize,
        }
    }
}

/// At most [`COMPACT_MAILBOX_RECORDS`] records in [`COMPACT_MAILBOX_BYTES`], and at most one offer,
/// of all that were there when it was made.
#[derive(Debug)]
pub(super) struct Compact {
    block: Block,
    next: Seq,
    /// What each stream had before the records that are here; none as long as nothing was freed.
    before: Option<Box<PerStream<Tally>>>,
    streams: [u8; COMPACT_MAILBOX_RECORDS],
    records: u8,
    /// So many from the front are on offer.
    lent: u8,
    closed: bool,
    with_errors: bool,
}

impl Compact {
    pub(super) fn open() -> Box<Self> {
        Box::new(Self {
            block: Block::Memory(Bytes::new()),
            next: Seq(0),
            before: None,
            streams: [0; COMPACT_MAILBOX_RECORDS],
            records: 0,
            lent: 0,
            closed: false,
            with_errors: false,
        })
    }

    /// Of a child that has ended, with nothing left.
    pub(super) fn ended(next: Seq, with_errors: bool) -> Box<Self> {
        let mut compact = Self::open();
        (compact.closed, compact.next, compact.with_errors) = (true, next, with_errors);
        compact
    }

    /// What a mailbox had when its node ended, open: records that are few, and the number after
    /// all that there ever were.
    pub(super) fn restored(records: &[Record], next: Seq, with_errors: bool) -> Box<Self> {
        let mut compact = Self::open();
        for record in records {
            compact.next = record.seq;
            compact.append(std::slice::from_ref(record));
        }
        compact.next = next;
        compact.with_errors |= with_errors;
        compact
    }

    /// The next record has at least this number; those before were taken.
    pub(super) fn skip_to(&mut self, next: Seq) {
        self.next = self.next.max(next);
    }

    /// The error stream had records.
    pub(super) const fn note_errors(&mut self) {
        self.with_errors = true;
    }

    pub(super) const fn close(&mut self) {
        self.closed = true;
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) const fn next(&self) -> Seq {
        self.next
    }

    pub(super) const fn with_errors(&self) -> bool {
        self.with_errors
    }

    pub(super) const fn block(&self) -> &Block {
        &self.block
    }

    pub(super) const fn is_on_disk(&self) -> bool {
        matches!(self.block, Block::File { .. })
    }

    pub(super) const fn is_lent(&self) -> bool {
        self.lent > 0
    }

    /// Bytes of records in memory.
    pub(super) const fn memory(&self) -> u64 {
        match &self.block {
            Block::Memory(bytes) => bytes.len() as u64,
            Block::File { .. } => 0,
        }
    }

    fn tally_of(records: usize, bytes: usize) -> Tally {
        let overhead = records as u64 * RECORD_OVERHEAD_BYTES;
        Tally { records: records as u64, bytes: bytes as u64 - overhead }
    }

    pub(super) fn unread(&self) -> Tally {
        Self::tally_of(usize::from(self.records), self.block.len())
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            unread: self.unread(),
            dropped: Tally::ZERO,
            with_errors: self.with_errors,
            closed: self.closed,
            next: self.next,
            full: None,
            cut: false,
        }
    }

    /// Whether so much more fits into the block.
    pub(super) fn fits(&self, new: Tally) -> bool {
        let records = usize::from(self.records) as u64 + new.records;
        let bytes = self.block.len() as u64 + new.weight();
        records <= COMPACT_MAILBOX_RECORDS as u64 && bytes <= COMPACT_MAILBOX_BYTES as u64
    }

    /// Appends records that fit, in memory. The mailbox is open and the block in memory.
    pub(super) fn append(&mut self, records: &[Record]) {
        let Block::Memory(old) = &self.block else { return };
        let new: usize =
            records.iter().map(|r| r.body.len() + RECORD_OVERHEAD_BYTES as usize).sum();
        let mut block = BytesMut::with_capacity(old.len() + new);
        block.extend_from_slice(old);
        for record in records {
            put_record(&mut block, self.next, record.time, &record.body);
            self.next = self.next.after(1);
            self.with_errors |= record.stream == Stream::Error;
            if let Some(stream) = self.streams.get_mut(usize::from(self.records)) {
                *stream = record.stream as u8;
                self.records += 1;
            }
        }
        self.block = Block::Memory(block.freeze());
    }

    fn streams(&self) -> impl Iterator<Item = Stream> {
        let streams = self.streams.iter().take(usize::from(self.records));
        streams.filter_map(|stream| Stream::from_index(*stream))
    }

    /// The records in memory.
    pub(super) fn records(&self) -> Result<Vec<Record>, Damaged> {
        let Block::Memory(block) = &self.block else { return Err(Damaged) };
        let mut block = block.clone();
        let mut records = Vec::with_capacity(usize::from(self.records));
        for stream in self.streams() {
            let Entry { seq, time, body, .. } = split_record(&mut block)?.ok_or(Damaged)?;
            records.push(Record { seq, stream, time, body });
        }
        Ok(records)
    }

    /// The records in memory with the place of each in its stream.
    pub(super) fn placed_records(&self) -> Result<Vec<(Tally, Record)>, Damaged> {
        let mut places = self.before();
        let placed = self.records()?.into_iter().map(|record| {
            let place = places.of_mut(record.stream);
            let after = place.with_record(record.body.len() as u64);
            (std::mem::replace(place, after), record)
        });
        Ok(placed.collect())
    }

    /// What each stream had before the records that are here.
    pub(super) fn before(&self) -> PerStream<Tally> {
        self.before.as_deref().copied().unwrap_or_default()
    }

    /// What each stream has of the records that are on offer.
    pub(super) fn lent_pieces(&self, records: &[(Tally, Record)]) -> PerStream<Piece> {
        let mut pieces: PerStream<Piece> = PerStream::default();
        for (from, record) in records.iter().take(usize::from(self.lent)) {
            let piece = pieces.of_mut(record.stream);
            if piece.is_empty() {
                piece.from = *from;
            }
            piece.to = from.with_record(record.body.len() as u64);
        }
        pieces
    }

    /// Whether an offer of these streams would take everything that is here.
    pub(super) fn is_within(&self, streams: StreamSet, records: usize, bytes: usize) -> bool {
        usize::from(self.records) <= records
            && (self.unread().bytes as usize <= bytes || self.records == 1)
            && self.streams().all(|stream| streams.contains(stream))
    }

    /// Whether any record of these streams is not on offer.
    pub(super) fn has_available(&self, streams: StreamSet) -> bool {
        self.streams().skip(usize::from(self.lent)).any(|stream| streams.contains(stream))
    }

    /// How many records of these streams are on offer.
    pub(super) fn on_offer(&self, streams: StreamSet) -> u64 {
        let lent = self.streams().take(usize::from(self.lent));
        lent.filter(|stream| streams.contains(*stream)).count() as u64
    }

    /// Puts everything on offer.
    pub(super) const fn lend(&mut self) {
        self.lent = self.records;
    }

    pub(super) const fn take_back(&mut self) {
        self.lent = 0;
    }

    /// The reader has what was on offer: it is free. Returns how much that was.
    pub(super) fn free_lent(&mut self) -> Tally {
        let Block::Memory(block) = &self.block else { return Tally::ZERO };
        let lent = usize::from(self.lent);
        if self.closed && self.lent == self.records {
            let freed = self.unread();
            (self.records, self.lent, self.block) = (0, 0, Block::Memory(Bytes::new()));
            return freed;
        }
        let Ok(records) = self.placed_records() else { return Tally::ZERO };
        let mut before = self.before();
        let mut freed = Tally::ZERO;
        for (from, record) in records.iter().take(lent) {
            let bytes = record.body.len() as u64;
            freed = freed.with_record(bytes);
            *before.of_mut(record.stream) = from.with_record(bytes);
        }
        // A copy, so that what is free is not kept alive by what is not.
        let kept = block.get(freed.weight() as usize..).unwrap_or_default();
        self.block = Block::Memory(Bytes::copy_from_slice(kept));
        self.before = Some(Box::new(before));
        self.streams.rotate_left(lent.min(COMPACT_MAILBOX_RECORDS));
        self.records -= self.lent;
        self.lent = 0;
        freed
    }

    /// The block was written to a file, or read back.
    pub(super) fn moved_to(&mut self, block: Block) {
        self.block = block;
    }

    /// What it has in a file, to be given back.
    pub(super) fn into_hole(self) -> Option<Hole> {
        match self.block {
            Block::Memory(_) => None,
            Block::File { file, at, bytes } => Some(Hole::new(file, at, u64::from(bytes))),
        }
    }
}
