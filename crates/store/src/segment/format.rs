//! The bytes of a segment.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::{Body, ChildKey, JobInstance, Ordinal, Record, Seq, Stream, Timestamp, limits};

/// The newest version of segments that this program reads, and the one that it writes.
pub const SEGMENT_VERSION: u16 = 1;

const MAGIC: [u8; 6] = *b"SRTSEG";
/// Bytes of a header.
pub(crate) const HEADER: usize = 40;
/// Bytes of a record before its body.
pub(crate) const HEAD: usize = 25;
/// Bytes of a head that the checksum covers, with the body.
const HEAD_SUMMED: usize = HEAD - 4;
/// Set in the stream's byte when the body is a typed value.
const VALUE: u8 = 0x80;
/// The stream's byte of a mark: the number is the place up to which the segment is on the disk.
const MARK: u8 = 0x70;
/// The stream's byte of a seal: the body is the segment's [`Summary`].
const SEAL: u8 = 0x71;
/// The stream's byte of a skip: the number is the next record's; those between were never here.
const SKIP: u8 = 0x72;
/// The time of a mark, by which it is found behind a damaged place.
pub(crate) const MARK_MAGIC: [u8; 8] = *b"SYNCMARK";
/// Where in a mark that is.
pub(crate) const MARK_MAGIC_AT: usize = 13;
const STREAMS: usize = Stream::ALL.len();
/// Bytes of a seal with its head.
pub(crate) const SEAL_BYTES: usize = HEAD + SUMMARY;
const SUMMARY: usize = 8 * (1 + STREAMS);

/// How far each stream of a mailbox was taken: for each, the number after the last record that its
/// readers have acknowledged. Nothing below it is needed any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken(pub [Seq; STREAMS]);

impl Taken {
    /// Everything below `seq` was taken, in every stream.
    pub const fn all_below(seq: Seq) -> Self {
        Self([seq; STREAMS])
    }

    /// The number after the last record that was taken, of any stream.
    pub fn highest(&self) -> Seq {
        self.0.into_iter().max().unwrap_or_default()
    }

    /// How far that stream was taken.
    pub fn of(&self, stream: Stream) -> Seq {
        self.0.get(stream.index()).copied().unwrap_or_default()
    }
}

/// What there is to know of a segment without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The number after its last record.
    pub(crate) next: Seq,
    /// For each stream the number after its last record in the segment; 0 when it has none.
    pub(crate) ends: [Seq; STREAMS],
}

impl Summary {
    pub(crate) const fn empty(first: Seq) -> Self {
        Self { next: first, ends: [Seq(0); STREAMS] }
    }

    pub(crate) fn add(&mut self, stream: Stream, seq: Seq) {
        self.next = seq.after(1);
        if let Some(end) = self.ends.get_mut(stream.index()) {
            *end = self.next;
        }
    }

    /// Whether nobody needs the segment any more, also not to know which number is next.
    pub(crate) fn is_taken(&self, taken: &Taken) -> bool {
        self.next <= taken.highest()
            && self.ends.iter().zip(&taken.0).all(|(end, taken)| end <= taken)
    }

    fn encode(&self) -> Vec<u8> {
        let numbers = std::iter::once(&self.next).chain(&self.ends);
        numbers.flat_map(|seq| seq.0.to_le_bytes()).collect()
    }

    fn decode(body: &[u8]) -> Option<Self> {
        if body.len() != SUMMARY {
            return None;
        }
        let mut numbers = (0..=STREAMS).map(|number| Some(Seq(read_u64(body, number * 8)?)));
        let next = numbers.next()??;
        let mut ends = [Seq(0); STREAMS];
        for (end, number) in ends.iter_mut().zip(numbers) {
            *end = number?;
        }
        Some(Self { next, ends })
    }
}

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) child: ChildKey,
    pub(crate) first: Seq,
}

/// Why a header is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Newer(u16),
    Garbage,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let fields = MAGIC
            .into_iter()
            .chain(SEGMENT_VERSION.to_le_bytes())
            .chain(*self.child.job.0.as_bytes())
            .chain(self.child.ordinal.0.to_le_bytes())
            .chain(self.first.0.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        let sum = crc32c::crc32c(bytes.get(..HEADER - 4).unwrap_or_default());
        bytes.iter_mut().skip(HEADER - 4).zip(sum.to_le_bytes()).for_each(|(to, from)| *to = from);
        bytes
    }

    /// A newer version is seen before the checksum is looked at: its header may be another.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let decoded = || {
            let version = u16::from_le_bytes(read(bytes, MAGIC.len())?);
            if read::<6>(bytes, 0)? != MAGIC {
                return None;
            }
            if version > SEGMENT_VERSION {
                return Some(Err(BadHeader::Newer(version)));
            }
            let sum = u32::from_le_bytes(read(bytes, HEADER - 4)?);
            (crc32c::crc32c(bytes.get(..HEADER - 4)?) == sum).then_some(())?;
            let job = JobInstance(uuid::Uuid::from_bytes(read(bytes, 8)?));
            let ordinal = Ordinal(u32::from_le_bytes(read(bytes, 24)?));
            let first = Seq(read_u64(bytes, 28)?);
            Some(Ok(Self { child: ChildKey { job, ordinal }, first }))
        };
        decoded().unwrap_or(Err(BadHeader::Garbage))
    }
}

/// What stands before a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    kind: u8,
    number: u64,
    time: i64,
    sum: u32,
}

/// An item of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Record(Record),
    /// All before this place is on the disk.
    Mark(u64),
    /// The next record has this number.
    Skip(Seq),
    Seal(Summary),
}

impl Head {
    /// The length is one that a body can have.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let length = u32::from_le_bytes(read(bytes, 0)?) as usize;
        let kind = *bytes.get(4)?;
        let number = read_u64(bytes, 5)?;
        let time = i64::from_le_bytes(read(bytes, 13)?);
        let sum = u32::from_le_bytes(read(bytes, 21)?);
        (length <= limits::VALUE_BYTES).then_some(Self { length, kind, number, time, sum })
    }

    /// The item, when head and body are what was written.
    pub(crate) fn item(&self, head: &[u8], body: Bytes) -> Option<Item> {
        let sum = crc32c::crc32c_append(crc32c::crc32c(head.get(..HEAD_SUMMED)?), &body);
        if sum != self.sum || body.len() != self.length {
            return None;
        }
        match self.kind {
            MARK => Some(Item::Mark(self.number)),
            SKIP => Some(Item::Skip(Seq(self.number))),
            SEAL => Summary::decode(&body).map(Item::Seal),
            kind => {
                let stream = Stream::from_index(kind & !VALUE)?;
                let body = if kind & VALUE == 0 { Body::Bytes(body) } else { Body::Value(body) };
                let (seq, time) = (Seq(self.number), Timestamp(self.time));
                Some(Item::Record(Record { seq, stream, time, body }))
            }
        }
    }
}

pub(crate) fn put_record(to: &mut Vec<u8>, record: &Record) {
    let value = if matches!(record.body, Body::Value(_)) { VALUE } else { 0 };
    let kind = record.stream as u8 | value;
    put(to, (kind, record.seq.0, record.time.0.to_le_bytes()), &record.body.bytes());
}

pub(crate) fn put_mark(to: &mut Vec<u8>, synced: u64) {
    put(to, (MARK, synced, MARK_MAGIC), &[]);
}

pub(crate) fn put_skip(to: &mut Vec<u8>, next: Seq) {
    put(to, (SKIP, next.0, [0; 8]), &[]);
}

pub(crate) fn put_seal(to: &mut Vec<u8>, summary: &Summary) {
    put(to, (SEAL, summary.next.0, [0; 8]), &summary.encode());
}

fn put(to: &mut Vec<u8>, (kind, number, time): (u8, u64, [u8; 8]), body: &[u8]) {
    let start = to.len();
    // Bodies are checked against a bound that fits before they come here.
    to.extend_from_slice(&(body.len() as u32).to_le_bytes());
    to.push(kind);
    to.extend_from_slice(&number.to_le_bytes());
    to.extend_from_slice(&time);
    let head = crc32c::crc32c(to.get(start..).unwrap_or_default());
    to.extend_from_slice(&crc32c::crc32c_append(head, body).to_le_bytes());
    to.extend_from_slice(body);
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    read(bytes, at).map(u64::from_le_bytes)
}
