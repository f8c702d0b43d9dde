//! Checkpoints on their way to the node that keeps them; what is told when is
//! `sortie_engine::untold`'s to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sortie_engine::untold::{Reached, weight};
use sortie_model::{ChildKey, JobInstance, Ordinal, Seq};
use sortie_wire::host_proto::{CheckpointHead, Checkpoints, ChildEnd};

use crate::data::outbox::{Bulk, Head, Outbox, Sent, State};

/// Whether the owner has, or is about to have, all of a child's records before that number.
fn is_stored(bulk: &BTreeMap<ChildKey, Arc<Bulk>>) -> impl Fn(ChildKey, Seq) -> bool {
    |child, next| bulk.get(&child).is_none_or(|bulk| bulk.is_stored(next))
}

impl Outbox {
    /// A child of a job that outlives its node came to a checkpoint.
    pub(crate) fn reached(&self, child: ChildKey, reached: Reached) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let now = state.began.elapsed();
        let first = state.untold.reached(child, reached, now);
        drop(state);
        if first {
            self.wake.notify_one();
        }
    }

    /// The child ended, and its end goes a way of its own, on which it would overtake the last
    /// checkpoint.
    pub(crate) fn ended_apart(&self, child: ChildKey, bulk: &Arc<Bulk>, end: ChildEnd) {
        let mut state = self.state();
        state.untold.hurry(child);
        if state.closed || !state.tells_checkpoints || state.is_told(child) {
            drop(state);
            return bulk.ended(end);
        }
        state.ends.insert(child, (Arc::clone(bulk), end));
        drop(state);
        self.wake.notify_one();
    }

    /// The owner has these; ends that waited for the last of their children go out.
    pub(super) fn told(&self, told: &Checkpoints) {
        let mut state = self.state();
        for head in &told.reached {
            let child = ChildKey { job: told.job, ordinal: head.ordinal };
            if state.ends.contains_key(&child)
                && state.is_told(child)
                && let Some((bulk, end)) = state.ends.remove(&child)
            {
                bulk.ended(end);
            }
        }
    }
}

impl State {
    /// What is to be told of checkpoints now, by job.
    pub(super) fn take_reached(&mut self) -> BTreeMap<JobInstance, Vec<(Ordinal, Reached)>> {
        let mut by_job: BTreeMap<_, Vec<_>> = BTreeMap::new();
        if self.tells_checkpoints {
            let now = self.began.elapsed();
            for (child, reached) in self.untold.take(now, is_stored(&self.bulk)) {
                by_job.entry(child.job).or_default().push((child.ordinal, reached));
            }
        }
        by_job
    }

    /// Whether the owner has the child's last checkpoint.
    fn is_told(&self, child: ChildKey) -> bool {
        let mut sent = self.unacknowledged.iter().filter(|sent| sent.head.job() == child.job);
        let is_on_its_way = sent.any(|sent| match &sent.head {
            Head::Report(_) => false,
            Head::Checkpoints(told) => {
                told.reached.iter().any(|head| head.ordinal == child.ordinal)
            }
        });
        !is_on_its_way && !self.untold.waits(child)
    }

    /// Whether the child's end waits for its last checkpoint to be told first.
    pub(super) fn holds_end(&self, child: ChildKey) -> bool {
        self.tells_checkpoints && self.untold.waits(child)
    }

    /// Whether a word about the child waits for its checkpoint to be told first.
    pub(super) fn holds_back(&self, child: ChildKey) -> bool {
        self.tells_checkpoints && self.untold.holds_back(child, is_stored(&self.bulk))
    }

    /// A frame with those checkpoints of a job, to be sent again if need be.
    pub(super) fn tell(&mut self, job: JobInstance, reached: Vec<(Ordinal, Reached)>) -> Sent {
        self.last_number = self.last_number.saturating_add(1);
        let number = self.last_number;
        let (mut payload, mut bytes): (Vec<Bytes>, usize) = (Vec::new(), 0);
        let heads = reached.into_iter().map(|(ordinal, Reached { incarnation, next, value })| {
            let length = value.len() as u32;
            bytes += weight(&value);
            payload.push(value);
            CheckpointHead { ordinal, incarnation, next, length }
        });
        let reached = heads.collect();
        let head = Head::Checkpoints(Arc::new(Checkpoints { number, job, reached }));
        Sent { number, head, payload, bytes }
    }
}
