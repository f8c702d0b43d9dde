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

/// A record as its stream's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the mailbox.
    pub seq: Seq,
    /// When it was made.
    pub time: Timestamp,
    /// What it carries.
    pub body: Body,
}

/// Bytes that are no record: the file was changed by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mailbox file was damaged")]
pub struct Damaged;

/// The length with its mark. Bodies are far below 2 GiB: `RECORD_BYTES`, `VALUE_BYTES`.
fn marked_length(body: &Body) -> u32 {
    debug_assert!(body.len() < VALUE as usize);
    let mark = if matches!(body, Body::Value(_)) { VALUE } else { 0 };
    body.len() as u32 & !VALUE | mark
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

/// Writes a whole record, as a log has it, to the end of `to`.
pub fn put_record(to: &mut BytesMut, seq: Seq, time: Timestamp, body: &Body) {
    put_head(to, seq, time, body);
    to.extend_from_slice(body.bytes());
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
        (self.marked & !VALUE) as usize
    }

    fn with(self, body: Bytes) -> Entry {
        let body = if self.marked & VALUE == 0 { Body::Bytes(body) } else { Body::Value(body) };
        Entry { seq: self.seq, time: self.time, body }
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
    let end = HEAD + head.length();
    let foot = bytes.get(end..end + FOOT).ok_or(Damaged)?;
    if *foot != head.marked.to_le_bytes() {
        return Err(Damaged);
    }
    let body = bytes.slice(HEAD..end);
    bytes.advance(end + FOOT);
    Ok(Some(head.with(body)))
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

/// Reads records from first to last.
#[derive(Debug, Default)]
pub struct Forward {
    parts: VecDeque<Bytes>,
    left: usize,
}

impl Forward {
    /// Reads the parts one after the other; they begin with a whole record.
    pub fn new(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let parts: VecDeque<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let left = parts.iter().map(Bytes::len).sum();
        Self { parts, left }
    }

    /// The next record. Its body shares the parts' memory where it lies in one of them.
    ///
    /// # Errors
    /// [`Damaged`] when this is no record.
    pub fn next_record(&mut self) -> Result<Next, Damaged> {
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
        let head = self.peek_head().ok_or(Damaged)?;
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
    bytes: Bytes,
}

impl Backward {
    /// The bytes end with a whole record; where they begin does not matter.
    pub const fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// The record before.
    ///
    /// # Errors
    /// [`Damaged`] when this is no record.
    pub fn next_record(&mut self) -> Result<Next, Damaged> {
        if self.bytes.is_empty() {
            return Ok(Next::End);
        }
        let Some(foot_at) = self.bytes.len().checked_sub(FOOT) else {
            return Ok(Next::Needs(HEAD + FOOT));
        };
        let marked = self.bytes.get(foot_at..).and_then(|mut foot| foot.try_get_u32_le().ok());
        let marked = marked.ok_or(Damaged)?;
        let needs = HEAD + (marked & !VALUE) as usize + FOOT;
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
