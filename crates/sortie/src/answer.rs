//! What nodes answer: the shapes that verbs return beside jobs and records.
//!
//! All of them are plain data; keeping or dropping one has no effect on any node.

pub use sortie_wire::session_proto::{
    Check, ChildExplanation, Diagnosis, Entries, Event, Explanation, Failure, Happening, JoinOffer,
    Plan, Source, Trouble,
};

use sortie_model::NodeName;
use std::time::Duration;

/// The end of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The entries it was about, in input order; for one of many, only that one.
    pub entries: Entries,
    /// Whether the time ran out. The jobs run on.
    pub timed_out: bool,
}

/// The answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// The node that answered.
    pub node: NodeName,
    /// The round trip between the asked node and that one; none between a node and itself.
    pub round_trip: Option<Duration>,
}

/// When `stop` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StopReturns {
    /// When all are finished, at the latest
    /// [`limits::STOP_MARGIN`](sortie_model::limits::STOP_MARGIN) after the grace.
    #[default]
    WhenFinished,
    /// At once, when the stop is recorded.
    AtOnce,
}

/// What `remove` does with jobs that are not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unfinished {
    /// Leaves them and says so, one trouble each.
    #[default]
    Refuse,
    /// Stops them first.
    StopFirst,
}

/// What connecting does with a session that another client holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Busy {
    /// Leaves it and says so.
    #[default]
    Refuse,
    /// Takes it over.
    Take,
}
