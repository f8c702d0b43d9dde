//! From a log's memory to a file.

use bytes::Bytes;

use super::{Content, Part};

/// What a log has in memory, to be written to a file in one go.
#[derive(Debug, Default)]
pub struct Spill {
    pub(super) parts: Vec<Part>,
}

impl Spill {
    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The same as bytes: live values are encoded, which takes its time.
    pub fn encode(self) -> Written {
        let written = self.parts.into_iter().map(|part| WrittenPart {
            from: part.from,
            to: part.to(),
            live: matches!(part.content, Content::Live(_)),
            bytes: match part.content {
                Content::Bytes(bytes) => bytes,
                Content::Live(entry) => entry.weighed(),
            },
        });
        Written { parts: written.collect() }
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
