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
                Body::Live(live) => (true, live.encode()),
            };
            // A record's bytes are bounded far below 4 GiB by `limits::VALUE_BYTES`.
            let length = bytes.len() as u32;
            run.records.push(RecordHead {
                stream: record.stream,
                value,
                time: record.time,
                length,
            });
            payload.push(bytes);
        }
        run
    }

    /// The heads of one child's records in order, a run for every stretch of consecutive numbers: a
    /// reader of some streams only gets a mailbox with gaps. Their bytes are appended to `payload`.
    pub fn pack_all(ordinal: Ordinal, records: Vec<Record>, payload: &mut Vec<Bytes>) -> Vec<Self> {
        let mut runs = Vec::new();
        let mut rest = records.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut expected = first.seq.after(1);
            let stretch = std::iter::from_fn(|| {
                let next = rest.next_if(|record| record.seq == expected)?;
                expected = next.seq.after(1);
                Some(next)
            });
            runs.push(Self::pack(ordinal, std::iter::once(first).chain(stretch), payload));
        }
        runs
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

    fn record(seq: u64, body: Body) -> Record {
        Record { seq: Seq(seq), stream: Stream::Error, time: Timestamp(9), body }
    }

    #[test]
    fn records_with_gaps_keep_their_numbers() {
        let records: Vec<_> = [1, 2, 5, 7, 8]
            .map(|seq| record(seq, Body::Value(Bytes::copy_from_slice(&[seq as u8]))))
            .into();
        let mut payload = Vec::new();
        let runs = RecordRun::pack_all(Ordinal(2), records.clone(), &mut payload);
        let firsts: Vec<_> = runs.iter().map(|run| (run.first.0, run.records.len())).collect();
        assert_eq!(firsts, [(1, 2), (5, 1), (7, 2)]);
        let mut joined = Bytes::from(payload.concat());
        let unpacked: Vec<_> = runs
            .into_iter()
            .flat_map(|run| run.unpack(&mut joined, 202).expect("the payload is whole"))
            .collect();
        assert_eq!(unpacked, records);
    }

    #[test]
    fn records_come_out_as_they_went_in() {
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
