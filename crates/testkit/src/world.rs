//! The clock and the identities of a simulated cluster.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sortie_actors::World;
use sortie_model::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

/// The wall clock shows this when a cluster begins: the first day of 2026.
const BEGIN: Duration = Duration::from_secs(1_767_225_600);

/// Virtual time as a wall clock, and identities that are counted.
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

impl World for SimulatedWorld {
    fn now(&self) -> Timestamp {
        let micros = (BEGIN + self.elapsed()).as_micros();
        Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn fresh_id(&self) -> Uuid {
        let millis = (BEGIN + self.elapsed()).as_millis();
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 10];
        random.iter_mut().rev().zip(number.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}
