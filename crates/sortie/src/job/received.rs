//! Records with the child they come from, and what a job's handles remember of them so that nothing
//! is lost and nothing is seen twice (`docs/semantics.md`, section 3.3).

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::de::DeserializeOwned;
use sortie_model::{Body, EntryId, Ordinal, Record, Seq, Stream};
use sortie_wire::session_proto::Source;

use crate::error::{StartError, ValueError, decode_value};
use crate::receiver::{Departures, UNCONFIRMED_DELIVERIES};

/// A record, and the child it comes from. Two of the same child with the same sequence number are
/// the same record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The child's number in its session.
    pub child: EntryId,
    /// The child's place among its siblings, from 0.
    pub ordinal: Ordinal,
    /// The child's node, or `localhost`.
    pub location: Arc<str>,
    /// The record.
    pub record: Record,
}

impl Received {
    /// The value that the record carries.
    ///
    /// # Errors
    /// [`ValueError::NotAValue`] when it carries a process's bytes, [`ValueError::Shape`] when it
    /// is of another type, [`ValueError::NotEncoded`] when it was live and could not be encoded.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, ValueError> {
        match &self.record.body {
            Body::Value(bytes) => decode_value(bytes),
            Body::Live(live) => decode_value(&live.encode()),
            Body::Bytes(_) => Err(ValueError::NotAValue),
        }
    }

    /// The value, or a handle on it where it is live and a handle is what is wanted.
    pub(super) fn value_or_handle<T: DeserializeOwned + 'static>(&self) -> Result<T, ValueError> {
        match &self.record.body {
            Body::Live(live) => live.handle().map_or_else(|| self.value(), Ok),
            _ => self.value(),
        }
    }

    /// The same, fit for who may take it anywhere: a live value is encoded.
    pub(super) fn encoded(self) -> Self {
        Self { record: self.record.encoded(), ..self }
    }
}

/// Records of one child on their way to the caller.
#[derive(Debug)]
pub(super) struct Batch {
    child: EntryId,
    ordinal: Ordinal,
    location: Arc<str>,
    records: std::vec::IntoIter<Record>,
}

impl Batch {
    pub(super) fn new(source: &Source, records: Vec<Record>) -> Self {
        Self {
            child: source.child,
            ordinal: source.ordinal,
            location: source.location.as_str().into(),
            records: records.into_iter(),
        }
    }

    /// How many records are left.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

impl Iterator for Batch {
    type Item = Received;

    fn next(&mut self) -> Option<Received> {
        let (child, ordinal) = (self.child, self.ordinal);
        let record = self.records.next()?;
        Some(Received { child, ordinal, location: Arc::clone(&self.location), record })
    }
}

/// Consecutive records of one child.
type Span = (EntryId, RangeInclusive<Seq>);

/// Deliveries whose acknowledgement may not have reached the node: those that wait to be told, and
/// one on its way.
const RECENT_DELIVERIES: usize = UNCONFIRMED_DELIVERIES as usize + 1;
/// Spans that the handles of a job remember; a receive that is dropped adds a few. The oldest go
/// first, and their records could then be seen twice.
const SEEN_SPANS: usize = 1_024;

/// What the last deliveries held: the node may offer it again when the receive breaks off.
#[derive(Debug, Default)]
pub(super) struct Recent {
    deliveries: VecDeque<Vec<Span>>,
}

impl Recent {
    /// A delivery was taken in.
    pub(super) fn add(&mut self, child: EntryId, records: &[Record]) {
        if self.deliveries.len() == RECENT_DELIVERIES {
            self.deliveries.pop_front();
        }
        self.deliveries.push_back(spans(child, records));
    }

    /// Of the newest delivery only the records before the last `left` were handed out.
    pub(super) fn cut(&mut self, left: usize) {
        let Some(newest) = self.deliveries.back_mut() else { return };
        let mut left = left as u64;
        while left > 0 {
            let Some((child, span)) = newest.pop() else { return };
            let (first, last) = (span.start().0, span.end().0);
            let length = last.saturating_sub(first) + 1;
            if length > left {
                newest.push((child, Seq(first)..=Seq(last - left)));
                return;
            }
            left -= length;
        }
    }
}

fn spans(child: EntryId, records: &[Record]) -> Vec<Span> {
    let runs = records.chunk_by(|one, next| next.seq == one.seq.after(1));
    let ends = runs.filter_map(|run| Some((run.first()?.seq, run.last()?.seq)));
    ends.map(|(first, last)| (child, first..=last)).collect()
}

/// What the handles on one job share.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    inner: Mutex<Remembered>,
    /// Receives that were dropped: the next one waits until their records are on offer again.
    pub(super) departures: Arc<Departures>,
    /// Why the job's input did not reach its end.
    lost_input: OnceLock<Arc<StartError>>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Records that a receive took and could not hand over: it failed or was dropped. They are gone
    /// from the node, so the next receive begins with them.
    stash: Vec<Received>,
    /// Records that were handed over or stashed, and that the node may offer again.
    seen: VecDeque<Span>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        // A panic cannot leave the lists half changed: every change is one call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The records that an earlier receive left.
    pub(super) fn take_stash(&self) -> Vec<Received> {
        std::mem::take(&mut self.lock().stash)
    }

    /// Those of them that are output; the others stay.
    pub(super) fn take_output_stash(&self) -> Vec<Received> {
        let mut inner = self.lock();
        let stash = std::mem::take(&mut inner.stash);
        let is_output = |received: &Received| received.record.stream == Stream::Output;
        let (output, others) = stash.into_iter().partition(is_output);
        inner.stash = others;
        output
    }

    /// Why the job's input did not reach its end, if it is known.
    pub(super) fn lost_input(&self) -> Option<Arc<StartError>> {
        self.lost_input.get().cloned()
    }

    /// The job's input does not reach its end.
    pub(super) fn lose_input(&self, why: StartError) -> Arc<StartError> {
        Arc::clone(self.lost_input.get_or_init(|| Arc::new(why)))
    }

    /// Keeps records for the next receive, before those of other receives.
    pub(super) fn stash(&self, mut records: Vec<Received>) {
        let mut inner = self.lock();
        records.append(&mut inner.stash);
        inner.stash = records;
    }

    /// Remembers what the node may offer again.
    pub(super) fn remember(&self, recent: &mut Recent) {
        let mut inner = self.lock();
        inner.seen.extend(recent.deliveries.drain(..).flatten());
        let surplus = inner.seen.len().saturating_sub(SEEN_SPANS);
        inner.seen.drain(..surplus);
    }

    /// Leaves out what was seen before.
    pub(super) fn drop_seen(&self, child: EntryId, records: &mut Vec<Record>) {
        let inner = self.lock();
        if !inner.seen.is_empty() {
            let seen = |seq: &Seq| {
                inner.seen.iter().any(|(owner, span)| *owner == child && span.contains(seq))
            };
            records.retain(|record| !seen(&record.seq));
        }
    }
}

/// Records that a receive collects: handed over as a whole, or stashed.
#[derive(Debug)]
pub(super) struct Collected<'memory> {
    memory: &'memory Memory,
    records: Vec<Received>,
    recent: Recent,
}

impl<'memory> Collected<'memory> {
    /// A collection that begins with what an earlier receive left.
    pub(super) fn new(memory: &'memory Memory, stash: Vec<Received>) -> Self {
        Self { memory, records: stash, recent: Recent::default() }
    }

    /// The records so far, children in child order.
    pub(super) fn in_child_order(&mut self) -> &[Received] {
        self.records.sort_by_key(|received| (received.ordinal, received.record.seq));
        &self.records
    }

    pub(super) fn add(&mut self, source: &Source, mut records: Vec<Record>) {
        self.memory.drop_seen(source.child, &mut records);
        self.recent.add(source.child, &records);
        self.records.extend(Batch::new(source, records));
    }

    pub(super) fn hand_over(mut self) -> Vec<Received> {
        std::mem::take(&mut self.records)
    }
}

impl Drop for Collected<'_> {
    fn drop(&mut self) {
        if !self.records.is_empty() {
            self.memory.stash(std::mem::take(&mut self.records));
            self.memory.remember(&mut self.recent);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sortie_model::Timestamp;

    use super::*;

    fn record(seq: u64) -> Record {
        let body = Body::Bytes(Bytes::new());
        Record { seq: Seq(seq), stream: Stream::Output, time: Timestamp(0), body }
    }

    fn source() -> Source {
        let location = "a".to_owned();
        let (child, job) = (EntryId(2), EntryId(1));
        Source { child, job, ordinal: Ordinal(0), location, place: None }
    }

    fn numbers(records: &[Received]) -> Vec<u64> {
        records.iter().map(|received| received.record.seq.0).collect()
    }

    #[test]
    fn what_a_broken_receive_took_comes_first_and_once() {
        let memory = Memory::default();
        let mut broken = Collected::new(&memory, memory.take_stash());
        broken.add(&source(), vec![record(0), record(1)]);
        drop(broken);

        let mut next = Collected::new(&memory, memory.take_stash());
        next.add(&source(), vec![record(1), record(2)]);
        assert_eq!(numbers(&next.hand_over()), [0, 1, 2]);
        assert!(memory.take_stash().is_empty());
    }

    #[test]
    fn a_cut_delivery_counts_as_seen_only_up_to_the_cut() {
        let check = |seqs: &[u64], left, seen: &[u64]| {
            let records: Vec<_> = seqs.iter().copied().map(record).collect();
            let mut recent = Recent::default();
            recent.add(EntryId(2), &records);
            recent.cut(left);
            let memory = Memory::default();
            memory.remember(&mut recent);
            let mut again = records.clone();
            memory.drop_seen(EntryId(2), &mut again);
            let unseen: Vec<_> = again.iter().map(|record| record.seq.0).collect();
            let expected: Vec<_> = seqs.iter().copied().filter(|seq| !seen.contains(seq)).collect();
            assert_eq!(unseen, expected, "{seqs:?} with {left} left");
        };
        check(&[4, 5, 6], 0, &[4, 5, 6]);
        check(&[4, 5, 6], 1, &[4, 5]);
        check(&[4, 5, 6], 3, &[]);
        check(&[1, 3, 4, 9], 2, &[1, 3]);
        check(&[1, 3, 4, 9], 3, &[1]);
    }

    #[test]
    fn one_childs_numbers_say_nothing_about_anothers() {
        let mut recent = Recent::default();
        recent.add(EntryId(2), &[record(0)]);
        let memory = Memory::default();
        memory.remember(&mut recent);
        let mut other = vec![record(0)];
        memory.drop_seen(EntryId(3), &mut other);
        assert_eq!(other.len(), 1);
    }
}
