//! A child's own stream: what passed the inline limit, under the child's credit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sortie_engine::credit::may_add;
use sortie_link::Link;
use sortie_model::{ChildIncarnation, ChildKey, JobInstance, Record, Seq, SessionInstance, limits};
use sortie_wire::host_proto::{ChildAsk, ChildEnd, ChildPosition, RecordRun, Report, ReportStream};
use tokio::sync::Notify;

use crate::data::credit::{Held, Part};
use crate::data::outbox::weight_of;

/// Records of one child that the owner has not acknowledged.
#[derive(Debug)]
pub(crate) struct Bulk {
    key: ChildKey,
    state: Mutex<State>,
    wake: Notify,
    room: Notify,
}

#[derive(Debug)]
struct State {
    /// Unacknowledged records, oldest first; the first `sent` of them are on their way.
    records: VecDeque<Record>,
    sent: usize,
    doubt: Option<Doubt>,
    /// What they take of the owner's credit.
    held: Held,
    /// What the mailbox grants.
    credit: usize,
    /// What the child asks, behind the records before that number. Only the last word counts, so
    /// there is one.
    asked: Option<(Seq, ChildAsk)>,
    asked_sent: bool,
    end: Option<ChildEnd>,
    end_sent: bool,
    discarded: bool,
    /// Counts connections, so that a sender of an old one ends.
    generation: u64,
}

/// What the first record of a later life shares with the end of the one before: its number. So an
/// acknowledgement of just that record may be one of that end, which comes late.
#[derive(Debug)]
struct Doubt {
    /// The record's number.
    first: Seq,
    /// Whether one came after the record was sent.
    acknowledged: bool,
}

impl Bulk {
    /// `mark` is the number of the first record where that says that a later life begins.
    pub(super) fn new(key: ChildKey, mark: Option<Seq>, part: Arc<Part>) -> Self {
        let state = State {
            records: VecDeque::new(),
            sent: 0,
            doubt: mark.map(|first| Doubt { first, acknowledged: false }),
            held: Held::nothing(part),
            credit: limits::CHILD_CREDIT_BYTES,
            asked: None,
            asked_sent: false,
            end: None,
            end_sent: false,
            discarded: false,
            generation: 0,
        };
        Self { key, state: Mutex::new(state), wake: Notify::new(), room: Notify::new() }
    }

    pub(super) const fn job(&self) -> JobInstance {
        self.key.job
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.state().held.bytes()
    }

    /// What there is goes out.
    #[cfg(test)]
    pub(super) fn sends(&self) {
        let generation = self.rewind();
        assert!(matches!(self.take(generation), Next::Frame(_)));
    }

    #[cfg(test)]
    pub(super) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record if the child and its owner have credit; a record larger than all of the
    /// child's goes alone. `held` is what was waited for.
    pub(crate) fn try_record(&self, record: Record, held: &mut Option<Held>) -> Result<(), Record> {
        let mut state = self.state();
        if state.discarded {
            return Ok(());
        }
        let length = weight_of(record.body.len());
        if !state.has_room(length) {
            return Err(record);
        }
        let Some(more) = state.held.part().claim(held, length) else { return Err(record) };
        state.held.join(more);
        state.records.push_back(record);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits until the child has credit for so many bytes, then for its turn at the owner's.
    pub(crate) async fn wait_for_room(&self, length: usize) -> Held {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.may_write(length) {
                break;
            }
            room.await;
        }
        let part = Arc::clone(self.state().held.part());
        part.reserve(weight_of(length)).await
    }

    fn may_write(&self, length: usize) -> bool {
        let state = self.state();
        state.discarded || state.has_room(weight_of(length))
    }

    /// Whether the owner has, or is about to have, all records before that number.
    pub(super) fn is_stored(&self, next: Seq) -> bool {
        let state = self.state();
        let has_first = |doubt: &Doubt| doubt.acknowledged && next == doubt.first.after(1);
        state.doubt.as_ref().is_some_and(has_first)
            || state.records.front().is_none_or(|record| record.seq >= next)
    }

    /// What the child asks now, behind its records before `next`.
    pub(crate) fn asked(&self, next: Seq, ask: ChildAsk) {
        let mut state = self.state();
        state.asked = Some((next, ask));
        state.asked_sent = false;
        drop(state);
        self.wake.notify_one();
    }

    /// The child ended; its end is the item after its last record.
    pub(crate) fn ended(&self, end: ChildEnd) {
        self.state().end = Some(end);
        self.wake.notify_one();
    }

    /// The owner stored records up to there; answers which life ended if nothing is left to send
    /// again. A first record that is in doubt stays until more than that is acknowledged: if it has
    /// it, the owner skips it where it comes again.
    pub(super) fn acknowledge(&self, position: &ChildPosition) -> Option<ChildIncarnation> {
        let mut state = self.state();
        let in_doubt = state.doubts(position.next);
        while let Some(record) = state.records.front()
            && record.seq < position.next
            && !in_doubt
        {
            let (seq, length) = (record.seq, weight_of(record.body.len()));
            if !state.has_given_back(seq) {
                state.held.give_back(length);
            }
            state.records.pop_front();
            state.sent = state.sent.saturating_sub(1);
        }
        state.credit = (position.credit as usize).min(limits::CHILD_CREDIT_BYTES);
        let end = state.end.as_ref().filter(|end| position.next > end.end);
        let done = end.map(|end| end.incarnation);
        drop(state);
        self.room.notify_waiters();
        done
    }

    /// It may have as much on its way as any child.
    pub(super) fn unpause(&self) {
        self.state().credit = limits::CHILD_CREDIT_BYTES;
        self.room.notify_waiters();
    }

    pub(super) fn discard(&self) {
        let mut state = self.state();
        state.discarded = true;
        state.records.clear();
        state.sent = 0;
        state.held.clear();
        drop(state);
        self.wake.notify_one();
        self.room.notify_waiters();
    }

    /// What goes into the next frame.
    fn take(&self, generation: u64) -> Next {
        let mut state = self.state();
        if state.generation != generation {
            // The wake-up may have been meant for the sender that came after.
            self.wake.notify_one();
            return Next::Over;
        }
        if state.discarded {
            return Next::Over;
        }
        let mut bytes = 0;
        let fresh: Vec<Record> = state
            .records
            .iter()
            .skip(state.sent)
            .take(limits::BATCH_RECORDS)
            .take_while(|record| {
                let first = bytes == 0;
                bytes += weight_of(record.body.len());
                first || bytes <= limits::RECORD_BYTES
            })
            .cloned()
            .collect();
        state.sent += fresh.len();
        let all = state.sent == state.records.len();
        let next = state.records.get(state.sent).map(|record| record.seq);
        let behind = |seq: Seq| next.is_none_or(|next| next >= seq);
        let asked = state.asked.clone().filter(|(seq, _)| !state.asked_sent && behind(*seq));
        state.asked_sent |= asked.is_some();
        let end = if all && !state.end_sent { state.end.clone() } else { None };
        state.end_sent |= end.is_some();
        if fresh.is_empty() && asked.is_none() && end.is_none() {
            return if state.end_sent { Next::Over } else { Next::Nothing };
        }
        Next::Frame(Fresh { records: fresh, asked: asked.map(|(_, ask)| ask), end })
    }

    /// A new connection: everything unacknowledged goes out again. Answers the number that the
    /// connection's sender has; one with an older number ends.
    pub(super) fn rewind(&self) -> u64 {
        let mut state = self.state();
        state.sent = 0;
        state.asked_sent = false;
        state.end_sent = false;
        state.generation += 1;
        state.generation
    }
}

impl State {
    /// Whether an acknowledgement of what is before that number may be one of the end of the life
    /// before. Once the first record was sent it gives its credit back all the same: what follows
    /// may need all that there is.
    fn doubts(&mut self, next: Seq) -> bool {
        let Some(doubt) = self.doubt.as_mut().filter(|doubt| next == after_end(doubt.first)) else {
            return false;
        };
        let Some(first) = self.records.front().filter(|record| record.seq == doubt.first) else {
            return false;
        };
        if self.sent > 0 && !std::mem::replace(&mut doubt.acknowledged, true) {
            self.held.give_back(weight_of(first.body.len()));
        }
        true
    }

    fn has_given_back(&self, seq: Seq) -> bool {
        self.doubt.as_ref().is_some_and(|doubt| doubt.acknowledged && doubt.first == seq)
    }

    const fn has_room(&self, length: usize) -> bool {
        may_add(self.held.bytes(), self.credit, length)
    }
}

/// What one frame carries.
struct Fresh {
    records: Vec<Record>,
    asked: Option<ChildAsk>,
    end: Option<ChildEnd>,
}

impl Fresh {
    /// As it is sent. Numbers may be missing between records: of what an earlier life of the node
    /// left, it lacks what that said itself.
    fn pack(self, ChildKey { job, ordinal }: ChildKey) -> (Report, Vec<Bytes>) {
        let mut payload = Vec::with_capacity(self.records.len());
        let records = RecordRun::pack_all(ordinal, self.records, &mut payload);
        let (asked, ended) = (self.asked.into_iter().collect(), self.end.into_iter().collect());
        let (started, moved) = (Vec::new(), Vec::new());
        (Report { number: 0, job, started, records, ended, asked, moved }, payload)
    }
}

enum Next {
    Frame(Fresh),
    Nothing,
    Over,
}

/// Writes the child's records until its end or the connection's.
pub(super) async fn send(
    bulk: Arc<Bulk>,
    session: SessionInstance,
    (link, generation): (Link, u64),
) {
    let ChildKey { job, ordinal } = bulk.key;
    let Ok(mut stream) = link.open_uni(0).await else { return };
    let head = ReportStream { session, child: Some((job, ordinal)) };
    if stream.send(&head).await.is_err() {
        return;
    }
    loop {
        let (report, payload) = match bulk.take(generation) {
            Next::Frame(fresh) => fresh.pack(bulk.key),
            Next::Nothing => {
                tokio::select! {
                    biased;
                    () = bulk.wake.notified() => continue,
                    _ = link.closed() => return,
                }
            }
            Next::Over => break,
        };
        if stream.send_with_payload(&report, payload).await.is_err() {
            return;
        }
    }
    // A finish that fails means a dead link, and then the next connection sends again.
    let _ = stream.finish();
}

/// The position that acknowledges a child's end as well as its records.
pub(crate) const fn after_end(end: Seq) -> Seq {
    end.after(1)
}

#[cfg(test)]
mod tests {
    use sortie_model::{Body, NodeId, Ordinal, QuestionNumber, Stream, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::data::credit::{OwnerCredit, PerNode};

    const KEY: ChildKey = ChildKey { job: JobInstance(Uuid::from_u128(7)), ordinal: Ordinal(0) };

    fn ask(number: u32) -> ChildAsk {
        let (number, taken) = (QuestionNumber(number), QuestionNumber::NONE);
        let (ordinal, incarnation) = (KEY.ordinal, ChildIncarnation(0));
        ChildAsk { ordinal, incarnation, number, open: None, taken }
    }

    fn add(bulk: &Bulk, seq: u64) {
        let body = Body::Bytes(Bytes::from_static(b"x"));
        let record = Record { seq: Seq(seq), stream: Stream::Output, time: Timestamp(0), body };
        bulk.try_record(record, &mut None).expect("room");
    }

    /// The numbers of the records in the next frame, and what is asked behind them.
    fn next(bulk: &Bulk, generation: u64) -> Option<(Vec<u64>, Option<u32>)> {
        match bulk.take(generation) {
            Next::Frame(Fresh { records, asked, .. }) => {
                let numbers = records.iter().map(|record| record.seq.0).collect();
                Some((numbers, asked.map(|ask| ask.number.0)))
            }
            Next::Nothing | Next::Over => None,
        }
    }

    #[test]
    fn a_question_goes_behind_the_records_before_it_and_again_on_the_next_connection() {
        let credit = PerNode::<OwnerCredit>::default().of(NodeId([1; 16]));
        let bulk = Bulk::new(KEY, None, Arc::clone(&credit.own));
        let first = bulk.rewind();
        add(&bulk, 0);
        bulk.asked(Seq(1), ask(1));
        // Only the last word of a child counts.
        bulk.asked(Seq(1), ask(2));
        add(&bulk, 1);
        assert_eq!(next(&bulk, first), Some((vec![0, 1], Some(2))));
        assert_eq!(next(&bulk, first), None);
        bulk.asked(Seq(2), ask(3));
        assert_eq!(next(&bulk, first), Some((vec![], Some(3))));
        let position =
            ChildPosition { job: KEY.job, ordinal: KEY.ordinal, next: Seq(1), credit: u32::MAX };
        assert_eq!(bulk.acknowledge(&position), None);
        let second = bulk.rewind();
        assert_eq!(next(&bulk, first), None);
        assert_eq!(next(&bulk, second), Some((vec![1], Some(3))));
    }

    fn stored(next: u64) -> ChildPosition {
        let (job, ordinal) = (KEY.job, KEY.ordinal);
        ChildPosition { job, ordinal, next: Seq(next), credit: u32::MAX }
    }

    #[test]
    fn the_end_of_a_life_before_that_is_stored_late_takes_no_record_of_this_one() {
        let credit = PerNode::<OwnerCredit>::default().of(NodeId([1; 16]));
        // The former life's end had the number of this one's first record.
        let bulk = Bulk::new(KEY, Some(Seq(5)), Arc::clone(&credit.own));
        let mut generation = bulk.rewind();
        [5, 6].into_iter().for_each(|seq| add(&bulk, seq));
        // Before it is sent, and while it is on its way.
        for _ in 0..2 {
            assert_eq!(bulk.acknowledge(&stored(6)), None);
            assert_eq!(next(&bulk, generation), Some((vec![5, 6], None)));
            assert_eq!(bulk.acknowledge(&stored(6)), None);
            generation = bulk.rewind();
        }
        assert_eq!((bulk.acknowledge(&stored(7)), bulk.held()), (None, 0));
    }

    #[test]
    fn a_checkpoint_behind_the_first_record_alone_is_not_held_back_by_the_doubt() {
        let credit = PerNode::<OwnerCredit>::default().of(NodeId([1; 16]));
        let bulk = Bulk::new(KEY, Some(Seq(5)), Arc::clone(&credit.own));
        let generation = bulk.rewind();
        add(&bulk, 5);
        assert_eq!(bulk.acknowledge(&stored(6)), None);
        assert!(!bulk.is_stored(Seq(6)), "it was not sent");
        assert_eq!(next(&bulk, generation), Some((vec![5], None)));
        assert_eq!(bulk.acknowledge(&stored(6)), None);
        assert_eq!((bulk.is_stored(Seq(6)), bulk.held()), (true, 0), "all credit is there again");
        add(&bulk, 6);
        assert!(!bulk.is_stored(Seq(7)), "there is more, which is not stored");
        assert_eq!((bulk.acknowledge(&stored(7)), bulk.held()), (None, 0));
        assert!(bulk.is_stored(Seq(7)));
    }

    #[test]
    fn the_first_record_of_a_first_life_is_never_in_doubt() {
        let credit = PerNode::<OwnerCredit>::default().of(NodeId([1; 16]));
        let bulk = Bulk::new(KEY, None, Arc::clone(&credit.own));
        let generation = bulk.rewind();
        add(&bulk, 0);
        assert_eq!(next(&bulk, generation), Some((vec![0], None)));
        assert_eq!((bulk.acknowledge(&stored(1)), bulk.held()), (None, 0));
    }

    #[test]
    fn records_keep_their_numbers_where_some_are_missing_between_them() {
        let credit = PerNode::<OwnerCredit>::default().of(NodeId([1; 16]));
        let bulk = Bulk::new(KEY, None, Arc::clone(&credit.own));
        let generation = bulk.rewind();
        [3, 4, 6, 7].into_iter().for_each(|seq| add(&bulk, seq));
        let Next::Frame(fresh) = bulk.take(generation) else { panic!("a frame") };
        let (report, payload) = fresh.pack(KEY);
        let runs: Vec<_> =
            report.records.iter().map(|run| (run.first, run.records.len())).collect();
        assert_eq!(runs, [(Seq(3), 2), (Seq(6), 2)]);
        assert_eq!(payload.len(), 4);
    }

    #[test]
    fn a_question_waits_for_the_records_before_it_that_do_not_fit_the_frame() {
        let credit = PerNode::<OwnerCredit>::default().of(NodeId([1; 16]));
        let bulk = Bulk::new(KEY, None, Arc::clone(&credit.own));
        let generation = bulk.rewind();
        let most = limits::BATCH_RECORDS as u64;
        (0..=most).for_each(|seq| add(&bulk, seq));
        bulk.asked(Seq(most + 1), ask(1));
        let (records, asked) = next(&bulk, generation).expect("a frame");
        assert_eq!((records.len() as u64, asked), (most, None));
        assert_eq!(next(&bulk, generation), Some((vec![most], Some(1))));
    }
}
