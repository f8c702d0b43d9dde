//! What children read: pieces of input, and how far they have come.

use serde::{Deserialize, Serialize};
use sortie_model::{JobInstance, Ordinal, SessionInstance};

/// First message of a unidirectional stream from owner to host: input for one child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputStream {
    /// The session.
    pub session: SessionInstance,
    /// The job.
    pub job: JobInstance,
    /// The child.
    pub ordinal: Ordinal,
}

/// Head of a piece of input; its bytes follow as the frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPiece {
    /// How many bytes of input come before it: no more than the child was sent, on this connection
    /// and on earlier ones. What it was sent before is skipped.
    pub offset: u64,
    /// What comes after.
    pub rest: InputRest,
}

/// What comes after a piece of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputRest {
    /// More, sooner or later.
    More,
    /// Nothing: the input is at its end.
    Nothing,
    /// Nothing: the client died before the end of its input.
    Lost,
}

/// Host to owner: how far children have read their input. The first word about a child on a
/// connection asks for a stream from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRead {
    /// The session.
    pub session: SessionInstance,
    /// The children.
    pub children: Vec<InputPosition>,
}

/// How far a child has read its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPosition {
    /// The job.
    pub job: JobInstance,
    /// The child.
    pub ordinal: Ordinal,
    /// How far.
    pub read: InputProgress,
}

/// A child's progress in its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputProgress {
    /// It has so many bytes and reads on.
    UpTo(u64),
    /// It reads no more.
    Closed,
}
