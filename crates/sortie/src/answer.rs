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
    /// The entries that the wait was for, in input order: all of them, the first that came to it,
    /// or those that did.
    pub entries: Entries,
    /// Whether the time ran out. The jobs run on; then all entries are shown, whatever was waited
    /// for.
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
    /// [`limits::STOP_MARGIN`](sortie_model::limits::STOP_MARGIN) after the longest grace. What
    /// runs on then shows its state.
    #[default]
    WhenFinished,
    /// At once, when the stop is recorded.
    AtOnce,
}

/// When `suspend` and `resume` return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SuspendReturns {
    /// When all do what they were told, at the latest after
    /// [`limits::SUSPEND_WAIT`](sortie_model::limits::SUSPEND_WAIT). What does not yet then shows
    /// its state, and comes to it later.
    #[default]
    WhenDone,
    /// At once, when the order is recorded.
    AtOnce,
}

/// What `remove` does with jobs that are not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unfinished {
    /// Leaves them and says so, one trouble each.
    #[default]
    Refuse,
    /// Stops them first, each with its job's grace, and waits as [`StopReturns::WhenFinished`]
    /// does. What runs on then is left, and a trouble.
    StopFirst,
}

/// What connecting does with a session that another client holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Busy {
    /// Leaves it and says so ([`ErrorCode::SessionBusy`](crate::ErrorCode::SessionBusy)).
    #[default]
    Refuse,
    /// Takes it over: the other client's open requests in it end, and later ones are refused.
    Take,
}
