//! News without content: a version that rises with every change, for whoever waits for one.
//!
//! A `watch` would do the same, but it wakes its waiters in an order that is left to chance; here
//! they wake in the order in which they came, so that a simulated run can be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Where changes are announced.
#[derive(Debug, Default)]
pub(crate) struct Changes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    version: AtomicU64,
    risen: Notify,
}

/// One waiter's view: changes after the last one that it has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    changes: Arc<Inner>,
    version: u64,
}

impl Changes {
    /// Something changed.
    pub(crate) fn rise(&self) {
        self.0.version.fetch_add(1, Ordering::AcqRel);
        self.0.risen.notify_waiters();
    }

    /// Sees what changes from now on.
    pub(crate) fn subscribe(&self) -> Seen {
        let version = self.0.version.load(Ordering::Acquire);
        Seen { changes: Arc::clone(&self.0), version }
    }
}

impl Seen {
    /// Everything up to now is seen.
    pub(crate) fn mark(&mut self) {
        self.version = self.changes.version.load(Ordering::Acquire);
    }

    /// Waits for a change that was not seen, which is seen then. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        loop {
            let risen = self.changes.risen.notified();
            tokio::pin!(risen);
            risen.as_mut().enable();
            let version = self.changes.version.load(Ordering::Acquire);
            if version != self.version {
                self.version = version;
                return;
            }
            risen.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_change_is_seen_once_whether_it_came_before_or_after_the_wait_began() {
        let changes = Changes::default();
        let mut seen = changes.subscribe();
        assert_eq!(seen.changed().now_or_never(), None);
        changes.rise();
        changes.rise();
        assert_eq!(seen.changed().now_or_never(), Some(()));
        assert_eq!(seen.changed().now_or_never(), None);
        let mut waiting = Box::pin(seen.changed());
        assert_eq!((&mut waiting).now_or_never(), None);
        changes.rise();
        assert_eq!(waiting.now_or_never(), Some(()));
        changes.rise();
        seen.mark();
        assert_eq!(seen.changed().now_or_never(), None);
    }
}
