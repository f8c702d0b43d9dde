//! Where the last lines of a mailbox begin, read from its end.

use std::ops::Range;

use sortie_engine::mailbox::Tally;
use sortie_model::limits::KIB;
use sortie_model::record::{Body, StreamSet};
use sortie_model::{Ordinal, Seq, Stream};
use sortie_store::{Backward, Entry, Loaded, Next, Segment};

use super::grown::{Grown, State, in_log};
use super::keep::Place;
use super::{JobMailboxes, Position, ReadError, blocking};

/// How much of a stream is read at once.
const WINDOW: u64 = 64 * KIB as u64;

/// Where the last lines begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailStart {
    /// Keep from here.
    pub from: Position,
    /// So many bytes of the first record belong to earlier lines.
    pub skip_bytes: usize,
}

impl JobMailboxes {
    /// Finds where the last `count` lines of these streams begin, of what is unread now: lines of
    /// byte records in the order of their numbers; a value counts as one line. Uses memory for one
    /// record and some KiB, however long the mailbox is.
    ///
    /// # Errors
    /// [`ReadError`].
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    pub async fn tail(
        &self,
        ordinal: Ordinal,
        streams: StreamSet,
        count: u64,
    ) -> Result<TailStart, ReadError> {
        loop {
            match self.place(ordinal)? {
                Place::Nowhere => return Ok(TailStart { from: Position::start(), skip_bytes: 0 }),
                Place::Compact(records) => {
                    let mut lines = Lines::new(count);
                    let mut from = Position::start();
                    for (place, record) in &records {
                        let after = place.with_record(record.body.len() as u64);
                        *from.places.of_mut(record.stream) = after;
                    }
                    let chosen = records.iter().filter(|(_, r)| streams.contains(r.stream));
                    for (place, record) in chosen.rev() {
                        if !lines.includes(&record.body) {
                            break;
                        }
                        *from.places.of_mut(record.stream) = *place;
                    }
                    return Ok(TailStart { from, skip_bytes: lines.skip_bytes });
                }
                Place::OnDisk(block) => self.load_compact(ordinal, block).await?,
                Place::Grown(grown) => {
                    if let Some(start) = tail_grown(&grown, streams, count).await? {
                        return Ok(start);
                    }
                }
            }
        }
    }
}

/// Counts lines from the last to the first.
#[derive(Debug)]
struct Lines {
    wanted: u64,
    /// Bytes were seen whose line's beginning was not.
    inside: bool,
    skip_bytes: usize,
}

impl Lines {
    const fn new(wanted: u64) -> Self {
        Self { wanted, inside: false, skip_bytes: 0 }
    }

    /// Whether the record before those seen so far has bytes of the wanted lines.
    fn includes(&mut self, body: &Body) -> bool {
        if self.wanted == 0 {
            return false;
        }
        let bytes = match body {
            Body::Bytes(bytes) => bytes,
            Body::Value(_) | Body::Live(_) => {
                self.wanted -= u64::from(std::mem::replace(&mut self.inside, false));
                let wanted = self.wanted > 0;
                self.wanted = self.wanted.saturating_sub(1);
                return wanted;
            }
        };
        for (at, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The bytes behind this line's end began another one.
            if self.inside || at + 1 < bytes.len() {
                self.wanted -= 1;
                if self.wanted == 0 {
                    self.skip_bytes = (at + 1) % bytes.len();
                    return at + 1 < bytes.len();
                }
            }
            self.inside = true;
        }
        self.inside |= !bytes.is_empty();
        true
    }
}

/// Where bytes lie in their log, and they themselves.
type Located = (Range<u64>, Vec<Segment>);

/// One stream, read from its end.
struct Source {
    stream: Stream,
    /// Everything from here on belongs to the tail.
    place: Tally,
    head: Option<Entry>,
    /// What is in hand of the stretch before `place`.
    window: Option<Backward>,
    finished: bool,
}

/// None: records were taken meanwhile in a way that needs a new beginning.
async fn tail_grown(
    grown: &Grown,
    streams: StreamSet,
    count: u64,
) -> Result<Option<TailStart>, ReadError> {
    let mut from = Position::start();
    let mut sources: Vec<Source> = {
        let state = grown.lock();
        for stream in Stream::ALL {
            *from.places.of_mut(stream) = state.ledger.end(stream);
        }
        let source = |stream| Source {
            stream,
            place: state.ledger.end(stream),
            head: None,
            window: None,
            finished: false,
        };
        streams.iter().map(source).collect()
    };
    let mut lines = Lines::new(count);
    loop {
        for source in &mut sources {
            if !source.fill(grown).await? {
                return Ok(None);
            }
        }
        let seq = |source: &&mut Source| source.head.as_ref().map_or(Seq(0), |head| head.seq);
        let last = sources.iter_mut().filter(|source| source.head.is_some()).max_by_key(seq);
        let Some(source) = last else { break };
        let Some(head) = source.head.take() else { break };
        if !lines.includes(&head.body) {
            break;
        }
        let record = Tally { records: 1, bytes: head.weight };
        source.place = source.place.minus(record);
    }
    for source in sources {
        *from.places.of_mut(source.stream) = source.place;
    }
    Ok(Some(TailStart { from, skip_bytes: lines.skip_bytes }))
}

impl State {
    /// Whether nothing of these bytes was freed, which end at `to`.
    fn still_has_bytes(&self, stream: Stream, to: Tally, range: Range<u64>) -> bool {
        let mut place = to;
        while in_log(place) > range.start {
            let piece = self.ledger.unread_before(stream, place);
            if piece.is_empty() || piece.to != place {
                return false;
            }
            place = piece.from;
        }
        true
    }
}

impl Source {
    /// Makes the record before `place` the head, if there is one. False when what was read had been
    /// freed meanwhile.
    async fn fill(&mut self, grown: &Grown) -> Result<bool, ReadError> {
        let mut least = WINDOW;
        while self.head.is_none() && !self.finished {
            match self.window.as_mut().map(Backward::next_record) {
                None | Some(Ok(Next::End)) => {}
                Some(Ok(Next::Record(entry))) => {
                    self.head = Some(entry);
                    break;
                }
                Some(Ok(Next::Needs(bytes))) => least = (bytes as u64).max(WINDOW),
                Some(Err(damaged)) => return Err(damaged.into()),
            }
            let Some((range, segments)) = self.last_bytes(grown, least)? else {
                self.finished = true;
                break;
            };
            let read = load(segments).await;
            // What was freed while it was read is not what it was.
            if !grown.lock().still_has_bytes(self.stream, self.place, range) {
                return Ok(false);
            }
            self.window = Some(Backward::new(read?));
        }
        Ok(true)
    }

    /// The last bytes of the stretch before `place`, and where they lie.
    fn last_bytes(&mut self, grown: &Grown, bytes: u64) -> Result<Option<Located>, ReadError> {
        let mut state = grown.lock();
        if state.removed {
            return Err(ReadError::Removed);
        }
        let piece = state.ledger.unread_before(self.stream, self.place);
        if piece.is_empty() {
            return Ok(None);
        }
        self.place = piece.to;
        let to = in_log(piece.to);
        let range = to.saturating_sub(bytes).max(in_log(piece.from))..to;
        let log = state.logs().find(|(stream, _)| *stream == self.stream);
        let segments = log.map(|(_, log)| log.read(range.clone(), usize::MAX));
        Ok(Some((range, segments.unwrap_or_default())))
    }
}

async fn load(segments: Vec<Segment>) -> Result<Vec<Loaded>, ReadError> {
    let on_disk = segments.iter().any(Segment::is_on_disk);
    let all = move || {
        let loaded = segments.into_iter().map(Segment::load);
        Ok(loaded.collect::<Result<Vec<_>, _>>()?)
    };
    if !on_disk {
        return all();
    }
    blocking(all).await.unwrap_or(Err(ReadError::Removed))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Which records belong to the tail, and how much of the first does not.
    fn check(bodies: &[&str], count: u64, first: usize, skip: usize) {
        let mut lines = Lines::new(count);
        let mut start = bodies.len();
        for (at, body) in bodies.iter().enumerate().rev() {
            let body = match body.strip_prefix("value ") {
                Some(value) => Body::Value(Bytes::copy_from_slice(value.as_bytes())),
                None => Body::Bytes(Bytes::copy_from_slice(body.as_bytes())),
            };
            if !lines.includes(&body) {
                break;
            }
            start = at;
        }
        assert_eq!((start, lines.skip_bytes), (first, skip), "{bodies:?} {count}");
    }

    #[test]
    fn lines_are_counted_from_the_end_across_records() {
        check(&["a\nb\nc\n"], 1, 0, 4);
        check(&["a\nb\nc\n"], 2, 0, 2);
        check(&["a\nb\nc\n"], 9, 0, 0);
        check(&["a\nb\nc"], 1, 0, 4);
        check(&["a\n", "b\n", "c\n"], 1, 2, 0);
        check(&["a\nb", "b\nc", "c"], 1, 1, 2);
        check(&["a\nb", "b\nc", "c"], 2, 0, 2);
        check(&["a\n\n\n"], 2, 0, 2);
        check(&["a\n"], 0, 1, 0);
        check(&["value x", "value y"], 1, 1, 0);
        check(&["a\n", "value x", "b\nc"], 2, 2, 0);
        check(&["a\n", "value x", "b\nc"], 3, 1, 0);
        check(&["a\n", "value x", "b\nc"], 4, 0, 0);
    }
}
