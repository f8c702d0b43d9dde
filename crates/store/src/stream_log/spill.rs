//! From a log's memory to a file.

use bytes::Bytes;
use sortie_model::limits::LIVE_WRITE_BYTES;

use super::{Content, Part};

/// What a log has in memory, to be written to a file.
#[derive(Debug, Default)]
pub struct Spill {
    pub(super) parts: Vec<Part>,
}

impl Spill {
    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The same as bytes: live values are encoded, which takes its time. Those behind the first
    /// [`LIVE_WRITE_BYTES`] of them stay for the next spill, with all that follows.
    pub fn encode(self) -> Written {
        let (mut parts, mut encoded) = (Vec::with_capacity(self.parts.len()), 0);
        for part in self.parts {
            let (from, to) = (part.from, part.to());
            let (live, bytes) = match part.content {
                Content::Bytes(bytes) => (false, bytes),
                Content::Live(_) if encoded >= LIVE_WRITE_BYTES => break,
                Content::Live(entry) => (true, entry.weighed()),
            };
            encoded += if live { bytes.len() } else { 0 };
            parts.push(WrittenPart { from, to, live, bytes });
        }
        Written { parts }
    }
}

/// What is written to a file.
#[derive(Debug)]
pub struct Written {
    pub(super) parts: Vec<WrittenPart>,
}

#[derive(Debug)]
pub(super) struct WrittenPart {
    /// Its places in the log.
    pub(super) from: u64,
    pub(super) to: u64,
    /// Whether it is a value that was live, whose bytes are others than its places.
    pub(super) live: bool,
    pub(super) bytes: Bytes,
}

impl Written {
    /// The bytes to write, in order.
    pub fn bytes(&self) -> impl Iterator<Item = Bytes> {
        self.parts.iter().map(|part| part.bytes.clone())
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
