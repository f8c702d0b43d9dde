//! Producers that pause are counted, so that whoever looks at a job sees that it waits for one who
//! reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A producer that pauses, for as long as this lives.
pub(super) struct Paused<'c>(&'c AtomicU64);

impl<'c> Paused<'c> {
    pub(super) fn begin(count: &'c AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
