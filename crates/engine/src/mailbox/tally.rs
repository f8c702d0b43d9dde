//! Amounts of records, stretches of a stream, and one value per stream.

use std::cmp::Ordering;

use sortie_model::Stream;
use sortie_model::limits::RECORD_OVERHEAD_BYTES;

/// So many records with so many bytes of bodies. As a place in a stream: what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Tally {
    /// Nothing; the start of a stream.
    pub const ZERO: Self = Self { records: 0, bytes: 0 };

    /// What the records take of a quota: their bytes and [`RECORD_OVERHEAD_BYTES`] for each, which
    /// is what they take in memory and on disk.
    pub const fn weight(self) -> u64 {
        self.bytes.saturating_add(self.records.saturating_mul(RECORD_OVERHEAD_BYTES))
    }

    /// The sum.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// The difference, at least nothing.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// One record more, with a body of `bytes`.
    #[must_use]
    pub const fn with_record(self, bytes: u64) -> Self {
        self.plus(Self { records: 1, bytes })
    }
}

/// By records: two places of one stream with the same number of records before them are the same.
impl Ord for Tally {
    fn cmp(&self, other: &Self) -> Ordering {
        self.records.cmp(&other.records).then(self.bytes.cmp(&other.bytes))
    }
}

impl PartialOrd for Tally {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A stretch of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Piece {
    /// Where it begins.
    pub from: Tally,
    /// Where it ends.
    pub to: Tally,
}

impl Piece {
    /// Whether it holds no record.
    pub const fn is_empty(self) -> bool {
        self.from.records >= self.to.records
    }

    /// What it holds.
    pub const fn tally(self) -> Tally {
        self.to.minus(self.from)
    }

    /// Whether `other` begins where this does and ends no later.
    pub(crate) fn has_prefix(self, other: Self) -> bool {
        self.from == other.from && other.to <= self.to && other.to.bytes <= self.to.bytes
    }

    pub(crate) const fn reaches_beyond(self, place: Tally) -> bool {
        self.to.records > place.records
    }
}

/// One value for each stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerStream<T>([T; Stream::ALL.len()]);

impl<T> PerStream<T> {
    /// The stream's value.
    pub const fn of(&self, stream: Stream) -> &T {
        let [output, error, warning, verbose, debug, information, progress] = &self.0;
        match stream {
            Stream::Output => output,
            Stream::Error => error,
            Stream::Warning => warning,
            Stream::Verbose => verbose,
            Stream::Debug => debug,
            Stream::Information => information,
            Stream::Progress => progress,
        }
    }

    /// The stream's value, to change it.
    pub const fn of_mut(&mut self, stream: Stream) -> &mut T {
        let [output, error, warning, verbose, debug, information, progress] = &mut self.0;
        match stream {
            Stream::Output => output,
            Stream::Error => error,
            Stream::Warning => warning,
            Stream::Verbose => verbose,
            Stream::Debug => debug,
            Stream::Information => information,
            Stream::Progress => progress,
        }
    }

    /// Streams with their values, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Stream, &T)> {
        Stream::ALL.into_iter().zip(&self.0)
    }

    /// The same, to change the values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Stream, &mut T)> {
        Stream::ALL.into_iter().zip(&mut self.0)
    }
}
