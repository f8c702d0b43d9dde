//! Where the bytes of an input are.

use bytes::Bytes;
use sortie_store::LastingInput;
use sortie_store::input_file::InputFile;
use sortie_store::journal::InputState;
use tokio::runtime::Handle;

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Place {
    /// With the node.
    Fleeting(InputFile),
    /// With its home, all of them until the job is over.
    Lasting(LastingInput, InputState),
    /// Nowhere: nobody reads them any more.
    Gone,
}

impl Place {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Fleeting(file) => file.len(),
            Self::Lasting(input, _) => input.len(),
            Self::Gone => 0,
        }
    }

    /// Bytes that take room.
    pub(super) fn kept(&self) -> u64 {
        match self {
            Self::Fleeting(file) => file.kept(),
            Self::Lasting(input, _) => input.len(),
            Self::Gone => 0,
        }
    }

    pub(super) fn append(&mut self, bytes: Bytes) -> std::io::Result<()> {
        match self {
            Self::Fleeting(file) => file.append(bytes),
            Self::Lasting(input, _) => input.append(&bytes),
            Self::Gone => Ok(()),
        }
    }

    pub(super) fn read(&self, offset: u64, most: usize) -> std::io::Result<Bytes> {
        match self {
            Self::Fleeting(file) => file.read(offset, most),
            Self::Lasting(input, _) => input.read(offset, most),
            Self::Gone => Ok(Bytes::new()),
        }
    }

    pub(super) fn free_below(&mut self, offset: u64) {
        if let Self::Fleeting(file) = self {
            file.free_below(offset);
        }
    }

    /// Gives the room back, which takes its time if there is much on the disk.
    pub(super) fn remove(self) {
        let Self::Lasting(input, _) = self else { return };
        // What cannot be removed now is when the node starts.
        let remove = move || drop((input.remove(), input));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
