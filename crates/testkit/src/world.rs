//! The clocks and the identities of a simulated cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sortie_actors::World;
use sortie_model::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

/// The wall clocks show this when a cluster begins: the first day of 2026.
const BEGIN: Duration = Duration::from_secs(1_767_225_600);

/// Virtual time and a count of identities, which all nodes share.
#[derive(Debug)]
pub(crate) struct SimulatedWorld {
    began: Instant,
    made: AtomicU64,
}

impl SimulatedWorld {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), made: AtomicU64::new(0) }
    }

    /// How long the cluster exists, in virtual time.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The world as one node sees it: its wall clock may be ahead of virtual time.
#[derive(Debug)]
pub(crate) struct NodeWorld {
    shared: Arc<SimulatedWorld>,
    /// In milliseconds.
    ahead: AtomicU64,
}

impl NodeWorld {
    pub(crate) fn new(shared: &Arc<SimulatedWorld>) -> Arc<Self> {
        Arc::new(Self { shared: Arc::clone(shared), ahead: AtomicU64::new(0) })
    }

    /// By how much its wall clock is ahead from now on, in whole milliseconds.
    pub(crate) fn set_ahead(&self, ahead: Duration) {
        let millis = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        self.ahead.store(millis, Ordering::Relaxed);
    }

    fn wall(&self) -> Duration {
        let ahead = Duration::from_millis(self.ahead.load(Ordering::Relaxed));
        BEGIN.saturating_add(self.shared.elapsed()).saturating_add(ahead)
    }
}

impl World for NodeWorld {
    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.wall().as_micros()).unwrap_or(i64::MAX))
    }

    fn fresh_id(&self) -> Uuid {
        let number = self.shared.made.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        random.iter_mut().rev().zip(number.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        let millis = u64::try_from(self.wall().as_millis()).unwrap_or(u64::MAX);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}
