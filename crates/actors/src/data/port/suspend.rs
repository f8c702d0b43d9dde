//! A running child that is told to stand still, or to go on; what its owner is told of that is
//! `sortie_engine::suspend`'s to say.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sortie_engine::suspend::{Fresh, Orders};
use sortie_engine::untold::Reached;
use sortie_model::spec::Hosting;
use sortie_model::{ChildIncarnation, Motion, Ordinal};
use sortie_wire::host_proto::ChildMotion;
use tokio::time::Instant;

use crate::data::checkpoints::{Checkpoints, Taken};
use crate::data::port::{ChildPort, JobPort, Target};

/// Where a child stands with such orders.
#[derive(Debug, Default)]
pub(super) struct Standing {
    orders: Orders,
    /// Futures of its function that wait at a checkpoint.
    resting: u32,
}

impl Target {
    /// The checkpoints of the job's functions; `before` has them from before, where they are not
    /// kept with the job.
    pub(crate) fn checkpoints(&self, before: Option<&Arc<JobPort>>) -> Arc<Checkpoints> {
        match self {
            Self::Here(job) => Arc::clone(&job.checkpoints),
            Self::There(_) => before.map(|port| Arc::clone(&port.checkpoints)).unwrap_or_default(),
        }
    }
}

impl JobPort {
    /// A child of the job does what it was told to.
    pub(crate) fn moved(&self, moved: ChildMotion) {
        match &self.target {
            _ if self.is_discarded() => {}
            Target::Here(job) => job.moved(moved),
            Target::There(outbox) => outbox.moved(self.job, moved),
        }
    }
}

impl ChildPort {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner wants the child to stand still, or to go on. Says whether its body is to be told.
    pub(crate) fn order_motion(&self, number: u64, motion: Motion) -> Fresh {
        if self.was_told_to_stop() {
            return Fresh::No;
        }
        self.standing().orders.on_order(number, motion)
    }

    /// The child's body does that.
    pub(crate) fn does(&self, motion: Motion) {
        self.say(&mut self.standing(), motion);
    }

    /// Says once more that the child stands still, if it does: an owner that began anew may know
    /// nothing of it.
    pub(crate) fn stand_again(&self) {
        let standing = self.standing();
        if let Some(number) = standing.orders.stands_by() {
            self.report(number, Motion::Suspended);
        }
    }

    /// The child's function is to do that: it stands still at its next checkpoint, and goes on from
    /// there.
    pub(crate) fn heed(&self, motion: Motion) {
        {
            let mut standing = self.standing();
            if motion == Motion::Running || standing.resting > 0 {
                self.say(&mut standing, motion);
            }
        }
        self.wake();
    }

    /// Tells the owner, if that is news. Under the lock, so that words come in their order.
    fn say(&self, standing: &mut Standing, motion: Motion) {
        if let Some(number) = standing.orders.on_motion(motion) {
            self.report(number, motion);
        }
    }

    fn report(&self, number: u64, motion: Motion) {
        let (ordinal, incarnation) = (self.ordinal, self.incarnation);
        if !self.state().ended {
            self.shared.moved(ChildMotion { ordinal, incarnation, number, motion });
        }
    }

    /// The child's function is at a checkpoint: returns when it may go on, or is told to stop.
    pub(super) async fn stand_still(&self) {
        let mut rest = None;
        loop {
            let news = self.news();
            tokio::pin!(news);
            // Before the look: what happens after it wakes us.
            news.as_mut().enable();
            if self.was_told_to_stop() || !self.begin_rest(&mut rest) {
                return;
            }
            news.await;
        }
    }

    /// Counts whoever is at a checkpoint, once; says whether the child is to stand still.
    fn begin_rest<'a>(&'a self, rest: &mut Option<Rest<'a>>) -> bool {
        {
            let mut standing = self.standing();
            if standing.orders.told() == Motion::Running {
                return false;
            }
            if rest.is_some() {
                return true;
            }
            standing.resting += 1;
            self.say(&mut standing, Motion::Suspended);
        }
        *rest = Some(Rest(self));
        self.wake();
        true
    }

    /// Resolves when the child has run for so long: the time in which it stands still at a
    /// checkpoint does not count.
    pub(crate) async fn ran_for(&self, limit: Duration) {
        let mut left = limit;
        loop {
            let news = self.news();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.standing().resting > 0 {
                news.await;
                continue;
            }
            let began = Instant::now();
            if tokio::time::timeout(left, news).await.is_err() {
                return;
            }
            left = left.saturating_sub(began.elapsed());
        }
    }

    /// The child's function is at a checkpoint with that value. The node of a job that outlives it
    /// is told.
    pub(crate) fn keep_checkpoint(&self, value: Bytes) {
        let outbox = match &self.shared.target {
            Target::Here(job) => return job.keep_checkpoint(self.life(), value),
            Target::There(outbox) => outbox,
        };
        let taken = self.shared.checkpoints.keep(self.life(), value.clone());
        let persistent = self.shared.spec.hosting == Hosting::Persistent;
        // Under the lock, so that nothing follows the end.
        let state = self.state();
        if taken != Taken::No && persistent && !state.ended && !self.shared.is_discarded() {
            let (incarnation, next) = (self.incarnation, state.next);
            outbox.reached(self.key(), Reached { incarnation, next, value });
        }
    }

    /// The last value that an incarnation of the child before this one kept, as far as this node
    /// knows.
    pub(crate) fn last_checkpoint(&self) -> Option<Bytes> {
        self.shared.checkpoints.before(self.life()).map(|(_, value)| value)
    }

    const fn life(&self) -> (Ordinal, ChildIncarnation) {
        (self.ordinal, self.incarnation)
    }
}

/// A future of the child's function that stands still at a checkpoint.
struct Rest<'a>(&'a ChildPort);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        {
            let mut standing = self.0.standing();
            standing.resting -= 1;
            if standing.resting == 0 {
                // Also where it goes on by itself, because nobody waits for that checkpoint.
                self.0.say(&mut standing, Motion::Running);
            }
        }
        self.0.wake();
    }
}
