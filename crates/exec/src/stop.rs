//! Stopping a running body from outside, and suspending it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sortie_model::Motion;
use sortie_model::spec::StopSpec;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

/// A function's cancellation token: fires once, and stays so.
#[derive(Debug, Default)]
pub struct StopToken {
    told: AtomicBool,
    news: Notify,
}

impl StopToken {
    /// Fires. Again it changes nothing.
    pub fn fire(&self) {
        self.told.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it has fired.
    pub fn has_fired(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// Resolves once it has fired.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn fired(&self) {
        loop {
            let news = self.news();
            tokio::pin!(news);
            // Before the look: what happens after it wakes us.
            news.as_mut().enable();
            if self.has_fired() {
                return;
            }
            news.await;
        }
    }

    /// Resolves when it fires, or at a [`StopToken::wake`], after this was polled or enabled.
    pub fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Has those look again who wait for [`StopToken::news`].
    pub fn wake(&self) {
        self.news.notify_waiters();
    }
}

/// Tells a running body to stop. Clones tell the same body.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<Shared>);

/// What the running body listens to.
#[derive(Debug)]
pub struct Stops(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    grace: Duration,
    pending: Mutex<Option<StopSpec>>,
    changed: Notify,
    motion: watch::Sender<Motion>,
}

/// A stopper and its listener. `grace` is the job's own, for stops that say none.
pub fn stop_channel(grace: Duration) -> (Stopper, Stops) {
    let (pending, changed) = (Mutex::new(None), Notify::new());
    let motion = watch::Sender::new(Motion::Running);
    let shared = Arc::new(Shared { grace, pending, changed, motion });
    (Stopper(Arc::clone(&shared)), Stops(shared))
}

impl Stopper {
    /// Tells the body to stop. Of several stops that it has not noticed yet, the one with the
    /// shortest grace counts. Has no effect on a body that has ended.
    pub fn stop(&self, how: StopSpec) {
        let mut pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let grace = |how: &StopSpec| how.grace.unwrap_or(self.0.grace);
        if pending.as_ref().is_none_or(|earlier| grace(&how) < grace(earlier)) {
            *pending = Some(how);
        }
        drop(pending);
        self.0.changed.notify_one();
    }

    /// Tells the body to stand still, or to go on. Of several such words that it has not noticed
    /// yet the last one counts; a body that was told to stop heeds none.
    pub fn move_to(&self, motion: Motion) {
        self.0.motion.send_replace(motion);
    }
}

/// A stop, with its grace decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The signal that asks.
    pub signal: i32,
    /// How long until the kill; zero kills at once.
    pub grace: Duration,
}

impl Stops {
    /// What the body is to do, and each later word about that.
    pub fn motion(&self) -> watch::Receiver<Motion> {
        self.0.motion.subscribe()
    }

    /// The next stop. Never resolves when none comes, also when every [`Stopper`] is gone.
    ///
    /// # Cancel safety
    /// No stop is lost.
    pub async fn next(&self) -> Stop {
        loop {
            let pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(how) = pending {
                return Stop { signal: how.signal, grace: how.grace.unwrap_or(self.0.grace) };
            }
            self.0.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_shortest_grace_wins_among_stops_that_wait() {
        let (stopper, stops) = stop_channel(Duration::from_secs(10));
        stopper.stop(StopSpec::NOW);
        stopper.stop(StopSpec::default());
        assert_eq!(stops.next().await, Stop { signal: 9, grace: Duration::ZERO });
        stopper.stop(StopSpec::default());
        assert_eq!(stops.next().await, Stop { signal: 15, grace: Duration::from_secs(10) });
    }
}
