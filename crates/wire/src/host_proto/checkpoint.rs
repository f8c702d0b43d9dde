//! Checkpoints of functions that run for another node's job: that node keeps them, and a next
//! incarnation gets the last one with its start.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::{ChildIncarnation, JobInstance, Ordinal, Seq};

use crate::codec::DecodeError;
use crate::frame::Message;
use crate::host_proto::{ChildAgain, ChildBatch};

/// Host to owner, on the shared stream of reports: the last checkpoints of some children; their
/// values follow as the frame's payload. Spoken from version
/// [`CHECKPOINTS`](crate::version::CHECKPOINTS) on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// Its number, one of those of the reports.
    pub number: u64,
    /// The job.
    pub job: JobInstance,
    /// The children.
    pub reached: Vec<CheckpointHead>,
}

/// A checkpoint without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointHead {
    /// The child.
    pub ordinal: Ordinal,
    /// Which of its incarnations came to it.
    pub incarnation: ChildIncarnation,
    /// The number of the next record: what was said before it is stored.
    pub next: Seq,
    /// How many bytes of the payload are the value, at most
    /// [`CHECKPOINT_BYTES`](sortie_model::limits::CHECKPOINT_BYTES).
    pub length: u32,
}

impl Checkpoints {
    /// Each with its value, which does not keep the payload.
    ///
    /// # Errors
    /// [`DecodeError`] when the payload is not as long as the values are said to be.
    pub fn unpack(
        self,
        mut payload: Bytes,
    ) -> Result<impl Iterator<Item = (CheckpointHead, Bytes)>, DecodeError> {
        let said: u64 = self.reached.iter().map(|head| u64::from(head.length)).sum();
        if said != payload.len() as u64 {
            return Err(DecodeError::Malformed { kind: Self::KIND });
        }
        let values = self.reached.into_iter();
        Ok(values.map(move |head| {
            let value = payload.split_to(head.length as usize);
            (head, Bytes::copy_from_slice(&value))
        }))
    }
}

/// A checkpoint as it is kept: of which incarnation, and the value.
pub type Checkpoint = (ChildIncarnation, Bytes);

/// A child that is started again, and goes on from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildFrom {
    /// The start.
    pub again: ChildAgain,
    /// Its last checkpoint, if one is known.
    pub from: Option<Checkpoint>,
}

impl ChildBatch {
    /// The same without checkpoints, and these by child.
    pub fn split_checkpoints(self) -> (Self, Vec<(Ordinal, Checkpoint)>) {
        let Self::From(some) = self else { return (self, Vec::new()) };
        let mut values = Vec::new();
        let again = some.into_iter().map(|ChildFrom { again, from }| {
            values.extend(from.map(|from| (again.ordinal, from)));
            again
        });
        (Self::Again(again.collect()), values)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_payload_is_as_long_as_the_values_are_said_to_be() {
        let head = |ordinal, length| CheckpointHead {
            ordinal: Ordinal(ordinal),
            incarnation: ChildIncarnation(0),
            next: Seq(0),
            length,
        };
        let two = |lengths: [u32; 2]| Checkpoints {
            number: 1,
            job: JobInstance(Uuid::from_u128(1)),
            reached: vec![head(0, lengths[0]), head(1, lengths[1])],
        };
        let bytes = Bytes::from_static(b"abc");
        let payload = || bytes.clone();
        let got: Vec<_> = two([1, 2]).unpack(payload()).expect("as long").collect();
        let expected = [(0, &b"a"[..]), (1, b"bc")];
        for ((head, value), (ordinal, bytes)) in got.iter().zip(expected) {
            assert_eq!((head.ordinal.0, &value[..]), (ordinal, bytes));
        }
        assert_eq!(got.len(), 2);
        let frame = bytes.as_ptr_range();
        assert!(got.iter().all(|(_, value)| !frame.contains(&value.as_ptr())), "a copy each");
        for lengths in [[1, 1], [1, 3], [u32::MAX, u32::MAX]] {
            assert!(two(lengths).unpack(payload()).is_err(), "{lengths:?}");
        }
    }
}
