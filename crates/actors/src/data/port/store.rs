//! Records of a child on its job's own node that go by way of the disk, or come from there.

use std::time::Duration;

use bytes::Bytes;
use sortie_engine::child_job::lost_mark;
use sortie_exec::task::encode_value;
use sortie_model::spec::{Hosting, InputSpec};
use sortie_model::{Body, Record, Stream, Timestamp};
use sortie_wire::guardian_proto::Keep;
use sortie_wire::host_proto::{ChildStart, HostedNote};

use crate::data::job::JobShared;
use crate::data::port::{ChildPort, JobPort, Target};

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
        self.asked_before();
        let ran = i64::try_from(ran.as_micros()).unwrap_or(i64::MAX);
        let before = |end: Timestamp| Timestamp(end.0.saturating_sub(ran));
        let mut state = self.state();
        state.begin = begin.or_else(|| end.map(before));
        state.end = end;
        if let (Target::There(outbox), Some(time)) = (&self.shared.target, state.begin) {
            // Whether its owner has heard so is not known.
            let (ordinal, incarnation) = (self.ordinal, self.incarnation);
            outbox.started(self.shared.job, ChildStart { ordinal, incarnation, time });
        }
    }

    /// How its process outlives this node, if it does. One at a terminal does not: this node is
    /// that terminal's other side.
    pub(crate) fn keep(&self) -> Option<Keep> {
        if matches!(self.shared.spec.input, InputSpec::Terminal(_)) {
            return None;
        }
        let note = match &self.shared.target {
            Target::Here(job) => job.durable.as_ref().map(|_| Bytes::new())?,
            Target::There(outbox) => {
                let JobPort { spec, host_node, .. } = &*self.shared;
                let outlives = spec.hosting == Hosting::Persistent && host_node.store.is_some();
                let job = (self.shared.job, self.id);
                let note = outlives.then(|| HostedNote::new(outbox.owner(), job, spec))?;
                let note = note.to_bytes()?;
                outbox.keeps(self.key(), self.incarnation);
                note
            }
        };
        let child = match &self.shared.target {
            Target::Here(_) => self.key(),
            Target::There(outbox) => outbox.kept_name(self.key()),
        };
        Some(Keep {
            child,
            incarnation: self.incarnation,
            first: self.state().next,
            drain: self.shared.spec.drain,
            note,
        })
    }

    /// What is said where an incarnation begins; of a first one nothing.
    pub(super) fn restart_mark(&self) -> Option<Body> {
        let restarts = Some(self.incarnation.0).filter(|restarts| *restarts > 0)?;
        encode_value(&format!("restart {restarts}")).ok().map(Body::Value)
    }

    /// Whether the record says that this life, which is not the first, begins.
    pub(super) fn is_mark(&self, record: &Record) -> bool {
        record.stream == Stream::Information && self.restart_mark().as_ref() == Some(&record.body)
    }

    /// Stores what a kept process wrote: it has its number and its time already, and may be here.
    pub(crate) async fn store_kept(&self, record: Record) {
        let job = match &self.shared.target {
            Target::Here(job) => job,
            Target::There(_) => return self.report_kept(record).await,
        };
        if self.shared.is_discarded() {
            return;
        }
        let next = record.seq.after(1);
        if self.state().end.is_some() {
            job.mailboxes.was_made(self.ordinal, true);
        }
        // The mark that an earlier life of this node may have taken along is said again.
        if let Some(body) = self.restart_mark() {
            let here = job.mailboxes.summary(self.ordinal).next;
            if let Some(seq) = lost_mark(here, record.seq).filter(|seq| *seq == here) {
                let (stream, time) = (Stream::Information, record.time);
                job.store_again(self.ordinal, Record { seq, stream, time, body }).await;
            }
        }
        job.store_again(self.ordinal, record).await;
        let mut state = self.state();
        state.next = state.next.max(next);
    }

    /// The same for a job that lives elsewhere: what it has already its node skips. The mark that
    /// an earlier life of this node may not have told is told again, since nothing may be left out.
    async fn report_kept(&self, record: Record) {
        let lost = lost_mark(self.state().next, record.seq);
        if let (Some(seq), Some(body)) = (lost, self.restart_mark()) {
            let (stream, time) = (Stream::Information, record.time);
            self.report_numbered(Record { seq, stream, time, body }).await;
        }
        self.report_numbered(record).await;
    }

    async fn report_numbered(&self, mut record: Record) {
        let mut held = None;
        loop {
            let length = record.body.len();
            {
                let mut state = self.state();
                if state.ended || self.shared.is_discarded() || record.seq < state.next {
                    return;
                }
                match self.put(&mut state, record, &mut held) {
                    Ok(()) => return,
                    Err(back) => record = back,
                }
            }
            held = None;
            held = self.wait_for_credit(length).await.or(held);
        }
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
