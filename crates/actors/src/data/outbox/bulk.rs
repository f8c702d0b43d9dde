//! A child's own stream: what passed the inline limit, under the child's credit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_engine::credit::may_add;
use sortie_link::Link;
use sortie_model::{ChildKey, JobInstance, Record, Seq, SessionInstance, limits};
use sortie_wire::host_proto::{ChildEnd, ChildPosition, RecordRun, Report, ReportStream};
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
    /// What they take of the owner's credit.
    held: Held,
    /// What the mailbox grants.
    credit: usize,
    end: Option<ChildEnd>,
    end_sent: bool,
    discarded: bool,
    /// Counts connections, so that a sender of an old one ends.
    generation: u64,
}

impl Bulk {
    pub(super) fn new(key: ChildKey, part: Arc<Part>) -> Self {
        let state = State {
            records: VecDeque::new(),
            sent: 0,
            held: Held::nothing(part),
            credit: limits::CHILD_CREDIT_BYTES,
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

    /// The child ended; its end is the item after its last record.
    pub(crate) fn ended(&self, end: ChildEnd) {
        self.state().end = Some(end);
        self.wake.notify_one();
    }

    /// The owner stored records up to there; answers whether nothing is left to send again.
    pub(super) fn acknowledge(&self, position: &ChildPosition) -> bool {
        let mut state = self.state();
        while let Some(record) = state.records.front()
            && record.seq < position.next
        {
            let length = weight_of(record.body.len());
            state.held.give_back(length);
            state.records.pop_front();
            state.sent = state.sent.saturating_sub(1);
        }
        state.credit = (position.credit as usize).min(limits::CHILD_CREDIT_BYTES);
        let done = state.end.as_ref().is_some_and(|end| position.next > end.end);
        drop(state);
        self.room.notify_waiters();
        done
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
        let end = if all && !state.end_sent { state.end.clone() } else { None };
        state.end_sent |= end.is_some();
        if fresh.is_empty() && end.is_none() {
            return if state.end_sent { Next::Over } else { Next::Nothing };
        }
        Next::Frame(fresh, end)
    }

    /// A new connection: everything unacknowledged goes out again. Answers the number that the
    /// connection's sender has; one with an older number ends.
    pub(super) fn rewind(&self) -> u64 {
        let mut state = self.state();
        state.sent = 0;
        state.end_sent = false;
        state.generation += 1;
        state.generation
    }
}

impl State {
    const fn has_room(&self, length: usize) -> bool {
        may_add(self.held.bytes(), self.credit, length)
    }
}

enum Next {
    Frame(Vec<Record>, Option<ChildEnd>),
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
        let (fresh, end) = match bulk.take(generation) {
            Next::Frame(fresh, end) => (fresh, end),
            Next::Nothing => {
                tokio::select! {
                    biased;
                    () = bulk.wake.notified() => continue,
                    _ = link.closed() => return,
                }
            }
            Next::Over => break,
        };
        let mut payload = Vec::with_capacity(fresh.len());
        let records = if fresh.is_empty() {
            Vec::new()
        } else {
            vec![RecordRun::pack(ordinal, fresh, &mut payload)]
        };
        let ended = end.into_iter().collect();
        let report = Report { number: 0, job, started: Vec::new(), records, ended };
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
