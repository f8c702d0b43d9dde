//! What a child left unread, in one block for the journal.
//!
//! ```text
//! version 1, flags 1, next sequence number 8
//! each record: stream 1, then as a log has it
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sortie_model::limits::{COMPACT_MAILBOX_RECORDS, INLINE_OUTPUT_BYTES};
use sortie_model::{Body, Record, Seq, Stream};
use sortie_store::{Damaged, Entry, put_record, split_record};

const VERSION: u8 = 1;
/// The error stream ever had a record.
const WITH_ERRORS: u8 = 1;

/// A block's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Inline {
    pub(in super::super) next: Seq,
    pub(in super::super) with_errors: bool,
    pub(in super::super) records: Vec<Record>,
}

impl Inline {
    /// None if that is more than a block may have.
    pub(in super::super) fn encode(&self) -> Option<Bytes> {
        let mut block = BytesMut::new();
        block.put_u8(VERSION);
        block.put_u8(if self.with_errors { WITH_ERRORS } else { 0 });
        block.put_u64_le(self.next.0);
        for Record { seq, stream, time, body } in &self.records {
            if matches!(body, Body::Live(_)) || block.len() + body.len() > INLINE_OUTPUT_BYTES {
                return None;
            }
            block.put_u8(*stream as u8);
            put_record(&mut block, *seq, *time, body);
        }
        let fits = self.records.len() <= COMPACT_MAILBOX_RECORDS;
        (fits && block.len() <= INLINE_OUTPUT_BYTES).then(|| block.freeze())
    }

    pub(super) fn decode(mut block: Bytes) -> Result<Self, Damaged> {
        let version = block.try_get_u8().map_err(|_| Damaged)?;
        let flags = block.try_get_u8().map_err(|_| Damaged)?;
        let next = Seq(block.try_get_u64_le().map_err(|_| Damaged)?);
        if version != VERSION || flags & !WITH_ERRORS != 0 || block.len() > INLINE_OUTPUT_BYTES {
            return Err(Damaged);
        }
        let mut records = Vec::new();
        let mut least = Seq(0);
        while let Ok(stream) = block.try_get_u8() {
            let stream = Stream::from_index(stream).ok_or(Damaged)?;
            let Entry { seq, time, body, .. } = split_record(&mut block)?.ok_or(Damaged)?;
            if seq < least || seq >= next || records.len() >= COMPACT_MAILBOX_RECORDS {
                return Err(Damaged);
            }
            least = seq.after(1);
            records.push(Record { seq, stream, time, body });
        }
        Ok(Self { next, with_errors: flags & WITH_ERRORS != 0, records })
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::Timestamp;

    use super::*;

    fn record(seq: u64, stream: Stream, body: Body) -> Record {
        Record { seq: Seq(seq), stream, time: Timestamp(seq as i64 - 9), body }
    }

    fn inline() -> Inline {
        let records = vec![
            record(4, Stream::Output, Body::Bytes("a\n".into())),
            record(7, Stream::Progress, Body::Value("v".into())),
            record(8, Stream::Error, Body::Bytes(Bytes::new())),
        ];
        Inline { next: Seq(9), with_errors: true, records }
    }

    #[test]
    fn a_block_comes_back_as_it_was() {
        for inline in [inline(), Inline { next: Seq(3), with_errors: false, records: vec![] }] {
            let block = inline.encode().expect("it is small");
            assert_eq!(Inline::decode(block).expect("a block"), inline);
        }
    }

    #[test]
    fn a_full_compact_mailbox_fits_and_more_does_not() {
        let records = |bytes| {
            let body = Body::Bytes(Bytes::from(vec![b'x'; bytes]));
            let all = 0..COMPACT_MAILBOX_RECORDS as u64;
            all.map(|seq| record(seq, Stream::Output, body.clone())).collect()
        };
        let inline = |records| Inline { next: Seq(8), with_errors: false, records };
        assert!(inline(records(232)).encode().is_some());
        assert!(inline(records(242)).encode().is_none());
        let mut many: Vec<_> = records(1);
        many.push(record(8, Stream::Output, Body::Bytes(Bytes::new())));
        assert!(inline(many).encode().is_none());
    }

    #[test]
    fn a_block_that_is_cut_or_changed_is_refused_or_another_one() {
        let block = inline().encode().expect("it is small");
        for cut in 0..block.len() {
            let cut = Inline::decode(block.slice(..cut));
            assert!(cut.is_err() || cut.is_ok_and(|cut| cut.records.len() < 3));
        }
        for at in 0..block.len() {
            for bit in 0..8 {
                let mut bytes = block.to_vec();
                bytes[at] ^= 1 << bit;
                let _ = Inline::decode(bytes.into());
            }
        }
        let mut newer = block.to_vec();
        newer[0] = 2;
        assert_eq!(Inline::decode(newer.into()), Err(Damaged));
    }
}
