//! Where a function can stand still, and from where it goes on (`docs/semantics.md`, section 3.5).

use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_model::limits;

use crate::task::complaint::{ShapeError, read_value};
use crate::task::{EmitError, TaskContext, encode_value};

/// A value that is no checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It has no MessagePack form.
    #[error("the value of a checkpoint cannot be encoded as MessagePack")]
    Encode(#[source] EmitError),
    /// It is larger than [`limits::CHECKPOINT_BYTES`].
    #[error(
        "a checkpoint of {length} bytes is larger than the {} allowed",
        limits::CHECKPOINT_BYTES
    )]
    TooLarge {
        /// Its encoded length in bytes.
        length: usize,
    },
}

impl CheckpointError {
    /// Never: the same value fails again.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl TaskContext {
    /// Says that the function has come so far, and stands still here while its child is suspended
    /// (`docs/semantics.md`, section 3.5): until it is resumed, or told to stop. A child that is
    /// not suspended goes on at once. A background function needs no checkpoint to be suspended:
    /// its process is frozen wherever it is.
    ///
    /// The next incarnation of the child finds the last value
    /// ([`resumed_from`](TaskContext::resumed_from)): in a job that outlives its node wherever it
    /// starts, in others if it starts on the same node. Where a job's checkpoints on a node take
    /// more than [`limits::CHECKPOINTS_BYTES`] together, the value before stays.
    ///
    /// A job that outlives its node has the value in the journal of its own node: before a child
    /// that stands still is called `Suspended`, else within [`limits::CHECKPOINT_PAUSE`], and as
    /// long again from another node.
    ///
    /// # Errors
    /// [`CheckpointError`] when the value cannot be encoded, or is larger than
    /// [`limits::CHECKPOINT_BYTES`]. It is not kept then, and the function does not stand still.
    ///
    /// # Cancel safety
    /// Cancel safe: the value was kept. A child that was suspended and whose function goes on this
    /// way is `Suspending` again until the next checkpoint.
    pub async fn checkpoint<T: Serialize + ?Sized>(
        &self,
        value: &T,
    ) -> Result<(), CheckpointError> {
        let value = encode_value(value).map_err(|error| match error {
            EmitError::TooLarge { length } => CheckpointError::TooLarge { length },
            error => CheckpointError::Encode(error),
        })?;
        let length = value.len();
        if length > limits::CHECKPOINT_BYTES {
            return Err(CheckpointError::TooLarge { length });
        }
        self.port.checkpoint(value).await;
        Ok(())
    }

    /// The value of the last checkpoint that the child came to before it was started again, as far
    /// as it was kept ([`checkpoint`](TaskContext::checkpoint)). None once this incarnation has
    /// come to one of its own.
    ///
    /// # Errors
    /// [`ShapeError`] when it is no `T`.
    pub fn resumed_from<T: DeserializeOwned>(&self) -> Result<Option<T>, ShapeError> {
        self.port.resumed_from().map(|value| read_value(&value)).transpose()
    }
}
