//! What a node takes from outside its own decisions: the wall clock and fresh identities.

use std::fmt;
use std::time::SystemTime;

use sortie_model::Timestamp;
use uuid::Uuid;

/// The wall clock and the source of identities. A simulation brings its own, so that the same seed
/// gives the same run; all time limits go by tokio's clock, which it can pause.
pub trait World: Send + Sync + fmt::Debug {
    /// The wall clock, for records and for people.
    fn now(&self) -> Timestamp;
    /// An identity that nothing else has: a UUID v7, which sorts by the time of its making.
    fn fresh_id(&self) -> Uuid;
}

/// The operating system's clock and randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemWorld;

impl World for SystemWorld {
    fn now(&self) -> Timestamp {
        Timestamp::of(SystemTime::now())
    }

    fn fresh_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}
