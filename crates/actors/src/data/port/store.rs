//! Records of a child on its job's own node that go by way of the disk, or come from there.

use std::time::Duration;

use bytes::Bytes;
use sortie_model::spec::InputSpec;
use sortie_model::{Body, Record, Stream, Timestamp};
use sortie_wire::guardian_proto::Keep;

use crate::data::job::JobShared;
use crate::data::port::{ChildPort, Target};

impl ChildPort {
    /// Stores a record here by way of the disk; gives it back when another one was first.
    pub(super) async fn store(&self, job: &JobShared, stream: Stream, body: Body) -> Option<Body> {
        let stored = self.stored.notified();
        tokio::pin!(stored);
        stored.as_mut().enable();
        let taken = {
            let mut state = self.state();
            (!std::mem::replace(&mut state.storing, true)).then_some(state.next)
        };
        let Some(seq) = taken else {
            stored.await;
            return Some(body);
        };
        let _turn = Turn(self);
        let length = body.len();
        let time = self.shared.world.now();
        job.store(self.ordinal, Record { seq, stream, time, body }).await;
        let mut state = self.state();
        state.next = seq.after(1);
        state.inline += length;
        state.room = state.room.saturating_sub(length as u64);
        None
    }
}

impl ChildPort {
    /// When the child began, if the earlier life of this node knew, and when it ended and how long
    /// it ran, if it has ended.
    pub(crate) fn was_before(
        &self,
        begin: Option<Timestamp>,
        end: Option<Timestamp>,
        ran: Duration,
    ) {
        let ran = i64::try_from(ran.as_micros()).unwrap_or(i64::MAX);
        let before = |end: Timestamp| Timestamp(end.0.saturating_sub(ran));
        let mut state = self.state();
        state.begin = begin.or_else(|| end.map(before));
        state.end = end;
    }

    /// How its process outlives this node, if it does. One at a terminal does not: this node is
    /// that terminal's other side.
    pub(crate) fn keep(&self) -> Option<Keep> {
        if matches!(self.shared.spec.input, InputSpec::Terminal(_)) {
            return None;
        }
        let Target::Here(job) = &self.shared.target else { return None };
        job.durable.as_ref()?;
        Some(Keep {
            child: self.key(),
            incarnation: self.incarnation,
            first: self.state().next,
            drain: self.shared.spec.drain,
            note: Bytes::new(),
        })
    }

    /// Stores what a kept process wrote: it has its number and its time already, and may be here.
    pub(crate) async fn store_kept(&self, record: Record) {
        let Target::Here(job) = &self.shared.target else { return };
        if self.shared.is_discarded() {
            return;
        }
        let next = record.seq.after(1);
        job.store_again(self.ordinal, record).await;
        let mut state = self.state();
        state.next = state.next.max(next);
    }
}

/// Whose record is on its way to the disk; gives the turn away when dropped.
struct Turn<'a>(&'a ChildPort);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().storing = false;
        self.0.stored.notify_waiters();
    }
}
