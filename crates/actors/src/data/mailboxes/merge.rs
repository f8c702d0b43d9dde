//! Stretches of several streams become records in the order of their numbers.

use sortie_engine::mailbox::{PerStream, Piece};
use sortie_model::limits::{BATCH_BYTES, BATCH_RECORDS, KIB, RECORD_OVERHEAD_BYTES};
use sortie_model::{Body, Record, Stream};
use sortie_store::{Damaged, Entry, Forward, Next, Segment};

use super::{ReadError, blocking};

/// How much one answer may hold. One record may pass the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Records; at least one.
    pub records: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
    /// What becomes of live values.
    pub values: LiveValues,
}

/// What a reader is given of values that did not leave their process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LiveValues {
    /// Their encoding: for a reader in another process.
    #[default]
    Encoded,
    /// They themselves.
    AsTheyAre,
}

/// [`BATCH_RECORDS`] and [`BATCH_BYTES`], with live values encoded.
impl Default for Most {
    fn default() -> Self {
        Self { records: BATCH_RECORDS, bytes: BATCH_BYTES, values: LiveValues::Encoded }
    }
}

impl Most {
    /// How many bytes of each stretch's log are likely to be needed.
    pub(super) fn window(self, stretches: &[Stretch]) -> usize {
        let average = stretches.iter().map(|stretch| {
            let tally = stretch.piece.tally();
            tally.weight() / tally.records.max(1)
        });
        let likely = self.records.saturating_mul(average.max().unwrap_or(0) as usize);
        let most =
            self.bytes.saturating_add(self.records.saturating_mul(RECORD_OVERHEAD_BYTES as usize));
        likely.saturating_add(likely / 8).min(most).clamp(4 * KIB, 4 * BATCH_BYTES)
    }
}

/// Part of a stream that may be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) stream: Stream,
    pub(super) piece: Piece,
    /// Whether the stream has more to read behind it.
    pub(super) goes_on: bool,
}

/// The bytes of a stretch, or the first of them.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) stretch: Stretch,
    pub(super) segments: Vec<Segment>,
}

/// What came out.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) records: Vec<Record>,
    /// What was taken of each stream; empty at the stretch's beginning if nothing was.
    pub(super) taken: PerStream<Piece>,
    /// Nothing came out because the windows were too small: so large they have to be.
    pub(super) needs: Option<usize>,
}

#[derive(Debug)]
struct Source {
    stretch: Stretch,
    forward: Forward,
    taken: Piece,
    head: Head,
    values: LiveValues,
}

#[derive(Debug)]
enum Head {
    Record(Entry),
    /// The stretch is read up, and nothing of the stream is behind it.
    Finished,
    /// What comes next is not in the window: nothing later may come before it.
    Unknown {
        needs: usize,
    },
}

/// Reads what is not in memory, off the runtime's workers, and merges.
pub(super) async fn load_and_merge(windows: Vec<Window>, most: Most) -> Result<Merged, ReadError> {
    if !windows.iter().any(|window| window.segments.iter().any(Segment::is_on_disk)) {
        return merge(windows, most);
    }
    blocking(move || merge(windows, most)).await.unwrap_or(Err(ReadError::Removed))
}

fn merge(windows: Vec<Window>, most: Most) -> Result<Merged, ReadError> {
    let mut sources = Vec::with_capacity(windows.len());
    for Window { stretch, segments } in windows {
        let parts: Result<Vec<_>, _> = segments.into_iter().map(Segment::load).collect();
        let taken = Piece { from: stretch.piece.from, to: stretch.piece.from };
        let forward = Forward::new(parts?);
        let values = most.values;
        let mut source = Source { stretch, forward, taken, head: Head::Finished, values };
        source.advance()?;
        sources.push(source);
    }
    let expected: u64 = sources.iter().map(|source| source.stretch.piece.tally().records).sum();
    let mut records = Vec::with_capacity(most.records.min(expected as usize));
    let mut bytes = 0_usize;
    while records.len() < most.records.max(1) {
        if bytes > most.bytes {
            break;
        }
        let Some(source) = next_source(&mut sources) else { break };
        let Some(length) = source.encode_head() else { break };
        if !records.is_empty() && bytes.saturating_add(length) > most.bytes {
            break;
        }
        bytes = bytes.saturating_add(length);
        records.push(source.pop()?);
    }
    let needs = sources.iter().find_map(|source| match source.head {
        Head::Unknown { needs } if records.is_empty() => Some(needs),
        _ => None,
    });
    let mut taken = PerStream::<Piece>::default();
    for source in &sources {
        *taken.of_mut(source.stretch.stream) = source.taken;
    }
    Ok(Merged { records, taken, needs })
}

/// The source of the lowest number, unless one of them may have a lower one.
fn next_source(sources: &mut [Source]) -> Option<&mut Source> {
    if sources.iter().any(|source| matches!(source.head, Head::Unknown { .. })) {
        return None;
    }
    let record = |source: &&mut Source| match &source.head {
        Head::Record(entry) => Some(entry.seq),
        _ => None,
    };
    let with_records = sources.iter_mut().filter(|source| record(source).is_some());
    with_records.min_by_key(record)
}

impl Source {
    fn pop(&mut self) -> Result<Record, Damaged> {
        let head = std::mem::replace(&mut self.head, Head::Finished);
        let Head::Record(Entry { seq, time, body, weight }) = head else { return Err(Damaged) };
        self.taken.to = self.taken.to.with_record(weight);
        self.advance()?;
        Ok(Record { seq, stream: self.stretch.stream, time, body })
    }

    /// How long the next record is, in the form in which it would go out: a live value is encoded
    /// for that, and not before it is its turn.
    fn encode_head(&mut self) -> Option<usize> {
        let Head::Record(entry) = &mut self.head else { return None };
        if self.values == LiveValues::Encoded && matches!(entry.body, Body::Live(_)) {
            entry.body = entry.body.clone().encoded();
        }
        Some(entry.body.len())
    }

    fn advance(&mut self) -> Result<(), Damaged> {
        let piece = self.stretch.piece;
        let left = piece.to.minus(self.taken.to);
        self.head = match self.forward.next_record()? {
            Next::Record(_) if left.records == 0 => return Err(Damaged),
            Next::Record(entry) => Head::Record(entry),
            Next::Needs(needs) if needs as u64 > left.weight() => return Err(Damaged),
            Next::Needs(needs) => Head::Unknown { needs },
            Next::End if left.records > 0 => {
                Head::Unknown { needs: RECORD_OVERHEAD_BYTES as usize }
            }
            Next::End if self.stretch.goes_on => Head::Unknown { needs: 0 },
            Next::End => Head::Finished,
        };
        Ok(())
    }
}
