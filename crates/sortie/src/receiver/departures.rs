//! Receives of one job that come to their end one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Receives of one job that were dropped and whose end the node may not have heard. A receive that
/// began before would find their records neither there nor to come.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    leaving: AtomicUsize,
    left: Notify,
}

impl Departures {
    /// Waits until there are none.
    pub(crate) async fn over(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.leaving.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}

pub(super) struct Departure(Arc<Departures>);

impl Departure {
    pub(super) fn new(departures: Arc<Departures>) -> Self {
        departures.leaving.fetch_add(1, Ordering::AcqRel);
        Self(departures)
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.0.leaving.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_waiters();
    }
}
