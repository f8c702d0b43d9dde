//! Records: the numbered items of a mailbox (`docs/semantics.md`, section 1.3).

pub mod live;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Seq, Timestamp, limits};
use live::LiveValue;

/// Which stream a record belongs to. A process writes `Output` and `Error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Stream {
    /// A process's stdout; a function's results.
    Output = 0,
    /// A process's stderr; a function's errors.
    Error = 1,
    /// Warnings.
    Warning = 2,
    /// Details for the curious.
    Verbose = 3,
    /// Details for the developer.
    Debug = 4,
    /// Notes, ours included.
    Information = 5,
    /// How far the work is.
    Progress = 6,
}

impl Stream {
    /// Every stream, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Output,
        Self::Error,
        Self::Warning,
        Self::Verbose,
        Self::Debug,
        Self::Information,
        Self::Progress,
    ];

    /// The stream's number, below [`Stream::ALL`]'s length.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stream with that number.
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// The word people and JSON use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Verbose => "verbose",
            Self::Debug => "debug",
            Self::Information => "information",
            Self::Progress => "progress",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no stream; streams are output, error, warning, verbose, debug, information, progress"
)]
pub struct UnknownStream(pub String);

impl FromStr for Stream {
    type Err = UnknownStream;

    fn from_str(text: &str) -> Result<Self, UnknownStream> {
        Self::ALL
            .into_iter()
            .find(|stream| stream.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownStream(text.to_owned()))
    }
}

/// A set of streams; the empty set never occurs in a spec, [`StreamSet::ALL`] is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamSet(u8);

impl StreamSet {
    /// Every stream.
    pub const ALL: Self = Self(0x7f);
    /// No stream yet: the start of a union.
    pub const EMPTY: Self = Self(0);

    /// This set and one stream more.
    #[must_use]
    pub const fn with(self, stream: Stream) -> Self {
        Self(self.0 | (1 << stream as u8))
    }

    /// Whether the stream is in the set.
    pub const fn contains(self, stream: Stream) -> bool {
        self.0 & (1 << stream as u8) != 0
    }

    /// Whether no stream is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 & Self::ALL.0 == 0
    }

    /// The streams of the set, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Stream> {
        Stream::ALL.into_iter().filter(move |stream| self.contains(*stream))
    }
}

impl Default for StreamSet {
    fn default() -> Self {
        Self::ALL
    }
}

/// What happens at a mailbox's quota when nobody receives (`docs/semantics.md`, section 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OutputPolicy {
    /// The producer pauses; nothing is lost.
    #[default]
    Block,
    /// The oldest records that are not offered go; how much went is counted.
    DropOldest,
    /// The child is stopped and fails with `limit{mailbox}`.
    Fail,
}

/// What a session keeps of a child's output that nobody received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRule {
    /// What happens at the quota.
    pub policy: OutputPolicy,
    /// The quota of one mailbox, in bytes; records count their overhead, too.
    pub quota: u64,
}

impl Default for OutputRule {
    fn default() -> Self {
        Self { policy: OutputPolicy::default(), quota: limits::MAILBOX_QUOTA_BYTES }
    }
}

impl OutputPolicy {
    /// The word that people write and see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropOldest => "drop-oldest",
            Self::Fail => "fail",
        }
    }
}

/// What a record carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Bytes of a process, exactly as one read returned them; their borders mean nothing.
    Bytes(Bytes),
    /// A typed value: MessagePack with field names.
    Value(Bytes),
    /// A value that did not leave its process. Who reads records gets [`Body::Value`] instead.
    Live(LiveValue),
}

impl Body {
    /// The bytes, whichever kind they are. A live value is encoded for it, each time.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) | Self::Value(bytes) => bytes.clone(),
            Self::Live(live) => live.encode(),
        }
    }

    /// How many bytes the body counts for: those that it has, or a live value's weight.
    pub const fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Value(bytes) => bytes.len(),
            Self::Live(live) => live.weight(),
        }
    }

    /// Whether the body counts for nothing.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, fit to leave its process: a live value is encoded.
    #[must_use]
    pub fn encoded(self) -> Self {
        match self {
            Self::Live(live) => Self::Value(live.encode()),
            encoded => encoded,
        }
    }
}

/// One numbered item of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the mailbox, dense from 0, across all incarnations of the child.
    pub seq: Seq,
    /// Its stream.
    pub stream: Stream,
    /// When the executing node made it.
    pub time: Timestamp,
    /// What it carries.
    pub body: Body,
}

impl Record {
    /// The same, fit to leave its process: a live value is encoded.
    #[must_use]
    pub fn encoded(self) -> Self {
        Self { body: self.body.encoded(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_words_and_numbers() {
        for stream in Stream::ALL {
            assert_eq!(stream.as_str().parse(), Ok(stream));
            assert_eq!(Stream::from_index(stream as u8), Some(stream));
        }
        assert_eq!(Stream::from_index(7), None);
        assert!("stdout".parse::<Stream>().is_err());
    }

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let set = StreamSet::EMPTY.with(Stream::Error).with(Stream::Progress);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Stream::Error, Stream::Progress]);
        assert!(!set.contains(Stream::Output) && !set.is_empty());
        assert_eq!(StreamSet::ALL.iter().count(), Stream::ALL.len());
    }
}
