//! Records on the wire: their heads are encoded, their bytes follow untouched.

use bytes::Bytes;
use sortie_model::{Body, Ordinal, Record, Seq};

use crate::codec::DecodeError;
use crate::frame::Kind;
use crate::host_proto::{RecordHead, RecordRun};

impl RecordRun {
    /// The heads of consecutive records of one child; their bytes are appended to `payload`.
    pub fn pack(
        ordinal: Ordinal,
        records: impl IntoIterator<Item = Record>,
        payload: &mut Vec<Bytes>,
    ) -> Self {
        let mut run = Self { ordinal, first: Seq(0), records: Vec::new() };
        for record in records {
            if run.records.is_empty() {
                run.first = record.seq;
            }
            let (value, bytes) = match record.body {
                Body::Bytes(bytes) => (false, bytes),
                Body::Value(bytes) => (true, bytes),
            };
            // A record's bytes are bounded far below 4 GiB by `limits::VALUE_BYTES`.
            let length = bytes.len() as u32;
            run.records.push(RecordHead { stream: record.stream, value, time: record.time, length });
            payload.push(bytes);
        }
        run
    }

    /// The records again; takes their bytes off the front of `payload` without copying.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] when the payload is shorter than the heads say.
    pub fn unpack(self, payload: &mut Bytes, kind: Kind) -> Result<Vec<Record>, DecodeError> {
        let first = self.first;
        let unpacked = (0u64..).zip(self.records).map(|(offset, head)| {
            let length = head.length as usize;
            if length > payload.len() {
                return Err(DecodeError::Malformed { kind });
            }
            let bytes = payload.split_to(length);
            let body = if head.value { Body::Value(bytes) } else { Body::Bytes(bytes) };
            Ok(Record { seq: first.after(offset), stream: head.stream, time: head.time, body })
        });
        unpacked.collect()
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::{Stream, Timestamp};

    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let record = |seq, body| Record {
            seq: Seq(seq),
            stream: Stream::Error,
            time: Timestamp(9),
            body,
        };
        let records = vec![
            record(4, Body::Bytes(Bytes::from_static(b"one"))),
            record(5, Body::Value(Bytes::new())),
        ];
        let mut payload = Vec::new();
        let run = RecordRun::pack(Ordinal(2), records.clone(), &mut payload);
        let mut joined = Bytes::from(payload.concat());
        assert_eq!(run.clone().unpack(&mut joined, 121), Ok(records));
        let mut short = Bytes::from_static(b"on");
        assert!(run.unpack(&mut short, 121).is_err());
    }
}
