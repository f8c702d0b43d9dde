//! How a record lies in a stream's log: number, time, length, body, and the length again, so that
//! a log can be read from its end as well.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sortie_model::limits::RECORD_OVERHEAD_BYTES;
use sortie_model::record::Body;
use sortie_model::{Seq, Timestamp};

/// Number, time and length.
const HEAD: usize = 20;
/// The length again.
const FOOT: usize = 4;
const _: () = assert!((HEAD + FOOT) as u64 == RECORD_OVERHEAD_BYTES);
/// Set in a length when the body is a typed value.
const VALUE: u32 = 1 << 31;
/// Set in a length when the record counts for another weight than its body's length: the weight
/// stands before the body.
const WEIGHED: u32 = 1 << 30;
const LENGTH: u32 = WEIGHED - 1;
/// Such a weight.
const WEIGHT: usize = 8;

/// A record as its stream's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the mailbox.
    pub seq: Seq,
    /// When it was made.
    pub time: Timestamp,
    /// What it carries.
    pub body: Body,
    /// What it takes of its log beside [`RECORD_OVERHEAD_BYTES`]: its body's length, but for a
    /// value that was live when it came. That keeps the weight it had.
    pub weight: u64,
}

impl Entry {
    /// A record that counts for its body's length.
    pub const fn new(seq: Seq, time: Timestamp, body: Body) -> Self {
        let weight = body.len() as u64;
        Self { seq, time, body, weight }
    }

    /// How many bytes of its log it takes.
    pub(crate) const fn in_log(&self) -> u64 {
        self.weight.saturating_add(RECORD_OVERHEAD_BYTES)
    }

    /// The record as a file has it, with its weight.
    pub(crate) fn weighed(&self) -> Bytes {
        let body = self.body.bytes();
        let marked = body.len() as u32 & LENGTH | VALUE | WEIGHED;
        let mut bytes = BytesMut::with_capacity(HEAD + WEIGHT + body.len() + FOOT);
        bytes.put_u64_le(self.seq.0);
        bytes.put_i64_le(self.time.0);
        bytes.put_u32_le(marked);
        bytes.put_u64_le(self.weight);
        bytes.extend_from_slice(&body);
        bytes.put_u32_le(marked);
        bytes.freeze()
    }
}

/// Bytes that are no record: the file was changed by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mailbox file was damaged")]
pub struct Damaged;

/// The length with its mark. Bodies are far below 1 GiB: `RECORD_BYTES`, `VALUE_BYTES`.
fn marked_length(body: &Body) -> u32 {
    debug_assert!(body.len() <= LENGTH as usize);
    let mark = if matches!(body, Body::Bytes(_)) { 0 } else { VALUE };
    body.len() as u32 & LENGTH | mark
}

pub(crate) fn put_head(to: &mut BytesMut, seq: Seq, time: Timestamp, body: &Body) {
    to.extend_from_slice(&head(seq, time, body));
}

fn head(seq: Seq, time: Timestamp, body: &Body) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let mut rest = head.as_mut_slice();
    rest.put_u64_le(seq.0);
    rest.put_i64_le(time.0);
    rest.put_u32_le(marked_length(body));
    head
}

pub(crate) fn put_foot(to: &mut BytesMut, body: &Body) {
    to.put_u32_le(marked_length(body));
}

/// Writes a whole record, as a log has it, to the end of `to`. No live one: that has no bytes yet.
pub fn put_record(to: &mut BytesMut, seq: Seq, time: Timestamp, body: &Body) {
    debug_assert!(!matches!(body, Body::Live(_)));
    put_head(to, seq, time, body);
    to.extend_from_slice(&body.bytes());
    put_foot(to, body);
}

struct Head {
    seq: Seq,
    time: Timestamp,
    marked: u32,
}

impl Head {
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        Some(Self {
            seq: Seq(bytes.try_get_u64_le().ok()?),
            time: Timestamp(bytes.try_get_i64_le().ok()?),
            marked: bytes.try_get_u32_le().ok()?,
        })
    }

    const fn length(&self) -> usize {
        (self.marked & LENGTH) as usize
    }

    const fn is_weighed(&self) -> bool {
        self.marked & WEIGHED != 0
    }

    fn with(self, body: Bytes) -> Entry {
        let body = if self.marked & VALUE == 0 { Body::Bytes(body) } else { Body::Value(body) };
        Entry::new(self.seq, self.time, body)
    }
}

/// Takes the first record off bytes that lie in one piece, without copying. None at their end.
///
/// # Errors
/// [`Damaged`] when they do not begin with a whole record.
pub fn split_record(bytes: &mut Bytes) -> Result<Option<Entry>, Damaged> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let head = Head::parse(bytes).ok_or(Damaged)?;
    let begin = if head.is_weighed() { HEAD + WEIGHT } else { HEAD };
    let end = begin + head.length();
    let foot = bytes.get(end..end + FOOT).ok_or(Damaged)?;
    if *foot != head.marked.to_le_bytes() {
        return Err(Damaged);
    }
    let weight = bytes.get(HEAD..begin).and_then(|mut weight| weight.try_get_u64_le().ok());
    let body = bytes.slice(begin..end);
    bytes.advance(end + FOOT);
    let entry = head.with(body);
    Ok(Some(Entry { weight: weight.unwrap_or(entry.weight), ..entry }))
}

/// What was read of a log: bytes of records, or whole records.
#[derive(Debug, Clone)]
pub enum Loaded {
    /// Bytes, which go on in the bytes behind them.
    Bytes(Bytes),
    /// Records that are, or were, live values.
    Entries(Vec<Entry>),
}

/// What reading on gave.
#[derive(Debug)]
pub enum Next {
    /// A record.
    Record(Entry),
    /// The bytes end before the record does: it takes so many in all.
    Needs(usize),
    /// The bytes are at their end.
    End,
}

/// Records in a row.
#[derive(Debug)]
enum Stretch {
    Bytes(Records),
    Entries(VecDeque<Entry>),
}

/// What was read, with the bytes that belong together in one place.
fn stretches(parts: impl IntoIterator<Item = Loaded>) -> VecDeque<Stretch> {
    let mut stretches = VecDeque::new();
    for part in parts {
        match (stretches.back_mut(), part) {
            (_, Loaded::Bytes(bytes)) if bytes.is_empty() => {}
            (Some(Stretch::Bytes(records)), Loaded::Bytes(bytes)) => records.push(bytes),
            (_, Loaded::Bytes(bytes)) => {
                let mut records = Records::default();
                records.push(bytes);
                stretches.push_back(Stretch::Bytes(records));
            }
            (_, Loaded::Entries(entries)) => stretches.push_back(Stretch::Entries(entries.into())),
        }
    }
    stretches
}

/// Reads records from first to last.
#[derive(Debug)]
pub struct Forward {
    stretches: VecDeque<Stretch>,
}

impl Forward {
    /// Reads the parts one after the other; they begin with a whole record.
    pub fn new(parts: impl IntoIterator<Item = Loaded>) -> Self {
        Self { stretches: stretches(parts) }
    }

    /// The next record. Its body shares the parts' memory where it lies in one of them.
    ///
    /// # Errors
    /// [`Damaged`] when this is no record.
    pub fn next_record(&mut self) -> Result<Next, Damaged> {
        while let Some(front) = self.stretches.front_mut() {
            let next = match front {
                Stretch::Bytes(records) => records.next_record()?,
                Stretch::Entries(entries) => entries.pop_front().map_or(Next::End, Next::Record),
            };
            match next {
                Next::End => self.stretches.pop_front(),
                // What is cut goes on nowhere.
                Next::Needs(_) if self.stretches.len() > 1 => return Err(Damaged),
                found => return Ok(found),
            };
        }
        Ok(Next::End)
    }
}

/// Bytes of records, in parts.
#[derive(Debug, Default)]
struct Records {
    parts: VecDeque<Bytes>,
    left: usize,
}

impl Records {
    fn push(&mut self, bytes: Bytes) {
        self.left += bytes.len();
        self.parts.push_back(bytes);
    }

    fn next_record(&mut self) -> Result<Next, Damaged> {
        if self.left == 0 {
            return Ok(Next::End);
        }
        if self.left < HEAD {
            return Ok(Next::Needs(HEAD + FOOT));
        }
        let in_one_piece = self.parts.front().and_then(|part| {
            let head = Head::parse(part)?;
            let needs = HEAD + head.length() + FOOT;
            (needs <= part.len()).then_some(needs)
        });
        if let (Some(needs), Some(part)) = (in_one_piece, self.parts.front_mut()) {
            self.left -= needs;
            let entry = split_record(part)?.ok_or(Damaged)?;
            if part.is_empty() {
                self.parts.pop_front();
            }
            return Ok(Next::Record(entry));
        }
        self.next_from_several()
    }

    fn next_from_several(&mut self) -> Result<Next, Damaged> {
        let head = self.peek_head().filter(|head| !head.is_weighed()).ok_or(Damaged)?;
        let needs = HEAD + head.length() + FOOT;
        if self.left < needs {
            return Ok(Next::Needs(needs));
        }
        self.left -= needs;
        self.skip(HEAD);
        let body = self.take(head.length());
        let foot = self.take(FOOT);
        if foot.as_ref() != head.marked.to_le_bytes() {
            return Err(Damaged);
        }
        Ok(Next::Record(head.with(body)))
    }

    fn peek_head(&self) -> Option<Head> {
        let head: Vec<u8> =
            self.parts.iter().flat_map(|part| part.iter()).take(HEAD).copied().collect();
        Head::parse(&head)
    }

    fn skip(&mut self, mut bytes: usize) {
        while let Some(part) = self.parts.front_mut() {
            let here = bytes.min(part.len());
            part.advance(here);
            bytes -= here;
            if !part.is_empty() {
                break;
            }
            self.parts.pop_front();
        }
    }

    /// The caller saw that so many bytes are left.
    fn take(&mut self, bytes: usize) -> Bytes {
        match self.parts.front_mut() {
            Some(part) if part.len() > bytes => part.split_to(bytes),
            Some(part) if part.len() == bytes => self.parts.pop_front().unwrap_or_default(),
            _ => {
                let mut whole = BytesMut::with_capacity(bytes);
                for part in &self.parts {
                    whole.extend_from_slice(part.get(..bytes - whole.len()).unwrap_or(part));
                }
                self.skip(bytes);
                whole.freeze()
            }
        }
    }
}

/// Reads records from last to first.
#[derive(Debug)]
pub struct Backward {
    stretches: VecDeque<Stretch>,
    /// The last bytes in one piece, until they are read up.
    last: LastBytes,
}

impl Backward {
    /// The parts, one behind the other, end with a whole record; where they begin does not matter.
    pub fn new(parts: impl IntoIterator<Item = Loaded>) -> Self {
        Self { stretches: stretches(parts), last: LastBytes::default() }
    }

    /// The record before.
    ///
    /// # Errors
    /// [`Damaged`] when this is no record.
    pub fn next_record(&mut self) -> Result<Next, Damaged> {
        loop {
            match self.last.next_record()? {
                Next::End => {}
                Next::Needs(_) if !self.stretches.is_empty() => return Err(Damaged),
                found => return Ok(found),
            }
            match self.stretches.pop_back() {
                None => return Ok(Next::End),
                Some(Stretch::Bytes(mut records)) => {
                    self.last = LastBytes { bytes: records.take(records.left) };
                }
                Some(Stretch::Entries(mut entries)) => {
                    if let Some(entry) = entries.pop_back() {
                        self.stretches.push_back(Stretch::Entries(entries));
                        return Ok(Next::Record(entry));
                    }
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct LastBytes {
    bytes: Bytes,
}

impl LastBytes {
    fn next_record(&mut self) -> Result<Next, Damaged> {
        if self.bytes.is_empty() {
            return Ok(Next::End);
        }
        let Some(foot_at) = self.bytes.len().checked_sub(FOOT) else {
            return Ok(Next::Needs(HEAD + FOOT));
        };
        let marked = self.bytes.get(foot_at..).and_then(|mut foot| foot.try_get_u32_le().ok());
        let marked = marked.ok_or(Damaged)?;
        let needs = HEAD + (marked & LENGTH) as usize + FOOT;
        let Some(start) = self.bytes.len().checked_sub(needs) else {
            return Ok(Next::Needs(needs));
        };
        let mut record = self.bytes.split_off(start);
        let head = Head::parse(&record).filter(|head| head.marked == marked).ok_or(Damaged)?;
        record.advance(HEAD);
        record.truncate(head.length());
        Ok(Next::Record(head.with(record)))
    }
}
