//! Input on its way from a job's log to a child's standard input, here or on another node.
//!
//! The executing node asks: it says how far its child has read, and the owner sends what comes next
//! as far as credit goes. The first such word on a connection opens a stream, so that a child reads
//! on where it was when the connection before broke.

pub(crate) mod feed;
pub(crate) mod inlet;

use bytes::Bytes;
use sortie_model::ChildKey;

use crate::data::input::inlet::Inlet;
use crate::data::input_log::{InputReader, Piece};
use crate::data::port::{ChildPort, Target};

/// The client died before the end of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the input broke off before its end")]
pub(crate) struct BrokenOff;

/// What a child on this node reads. Dropping it says that the child reads no more.
#[derive(Debug)]
pub(crate) enum ChildInput {
    /// From its job's log, on the job's own node.
    Here(InputReader),
    /// From streams of the owner's.
    There(Inlet),
}

impl ChildInput {
    /// The child's input, if its job has one.
    pub(crate) fn open(port: &ChildPort) -> Option<Self> {
        Self::go_on(port, 0)
    }

    /// The same of a child that has so many bytes of it from an earlier life of this node.
    pub(crate) fn go_on(port: &ChildPort, read: u64) -> Option<Self> {
        let job = port.job();
        if !job.spec.input.is_fed() {
            return None;
        }
        let ordinal = sortie_exec::task::TaskPort::ordinal(port);
        match &job.target {
            Target::Here(shared) => {
                let reader = shared.input.as_ref()?.reader(ordinal);
                reader.advance_to(read);
                Some(Self::Here(reader))
            }
            Target::There(outbox) => {
                let child = ChildKey { job: job.job, ordinal };
                Some(Self::There(job.inputs.open(child, read, outbox)))
            }
        }
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// [`BrokenOff`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BrokenOff> {
        let piece = match self {
            Self::Here(reader) => reader.next().await,
            Self::There(inlet) => inlet.next().await,
        };
        match piece {
            Piece::Bytes(bytes) => Ok(Some(bytes)),
            Piece::End => Ok(None),
            Piece::Lost => Err(BrokenOff),
        }
    }
}

#[cfg(test)]
mod tests;
