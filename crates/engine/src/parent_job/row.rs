//! One child as its parent knows it: a few words, however many there are.

use sortie_model::{ChildIncarnation, EntryId, State, Timestamp};
use sortie_wire::host_proto::{ChildOutcome, Verdict};

use crate::placement::NodeIndex;

/// Where a child is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for a slot.
    Queued,
    /// Ended, and waits for its next incarnation.
    Resting,
    /// Told to its node, which has not said that it began.
    Sent,
    /// Told to its node, which holds it back: it was suspended before it could begin.
    Held,
    /// Told to its node, which has been silent ever since for so long that nobody waits for it.
    Unheard,
    /// Its node said that it began.
    Running,
    /// Began, and asks what nobody has answered.
    Blocked,
    /// Began, and was told to suspend, or has not gone on since.
    Suspending,
    /// Began, and stands still.
    Suspended,
    /// Began, and its node has been silent for so long that nobody waits for it.
    Disconnected,
    /// Began, and was told to stop.
    Stopping,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Ended because of a stop.
    Stopped,
}

impl Phase {
    pub(crate) const fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Completed => Self::Completed,
            Verdict::Failed(_) => Self::Failed,
            Verdict::Stopped => Self::Stopped,
        }
    }

    pub(crate) const fn state(self) -> State {
        match self {
            Self::Queued | Self::Resting | Self::Sent | Self::Held => State::NotStarted,
            Self::Running => State::Running,
            Self::Blocked => State::Blocked,
            Self::Suspending => State::Suspending,
            Self::Suspended => State::Suspended,
            Self::Unheard | Self::Disconnected => State::Disconnected,
            Self::Stopping => State::Stopping,
            Self::Completed => State::Completed,
            Self::Failed => State::Failed,
            Self::Stopped => State::Stopped,
        }
    }

    pub(crate) const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Stopped)
    }

    /// Whether a child in this phase counts against the throttle.
    pub(crate) const fn holds_slot(self) -> bool {
        self.is_sent() || self.goes_on() || matches!(self, Self::Stopping)
    }

    /// Whether its node was told of it, and has not said that it began.
    pub(crate) const fn is_sent(self) -> bool {
        matches!(self, Self::Sent | Self::Held | Self::Unheard)
    }

    /// Whether it began, and was not told to stop.
    pub(crate) const fn goes_on(self) -> bool {
        let moves = matches!(self, Self::Running | Self::Blocked | Self::Suspending);
        moves || matches!(self, Self::Suspended | Self::Disconnected)
    }
}

/// Whether a start of a child's present life was told to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// That is being done, or was done where nothing is in between.
    Fresh,
    /// Not at all: there is no connection.
    Unsaid,
    /// It was once, or may have been by an earlier life of this node.
    Said,
}

/// One child.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: EntryId,
    pub(crate) node: Option<NodeIndex>,
    pub(crate) phase: Phase,
    pub(crate) told_to_stop: bool,
    pub(crate) way: Way,
    pub(crate) incarnation: ChildIncarnation,
    pub(crate) begin: Option<Timestamp>,
    pub(crate) end: Option<Timestamp>,
    /// Kept only where it says more than `phase`: most of a million children end well.
    pub(crate) outcome: Option<Box<ChildOutcome>>,
}

impl Row {
    pub(crate) const fn new(id: EntryId, node: Option<NodeIndex>) -> Self {
        let phase = Phase::Queued;
        let incarnation = ChildIncarnation(0);
        let (told_to_stop, way) = (false, Way::Fresh);
        let (begin, end, outcome) = (None, None, None);
        Self { id, node, phase, told_to_stop, way, incarnation, begin, end, outcome }
    }

    pub(crate) fn set_outcome(&mut self, outcome: ChildOutcome) {
        let plain = ChildOutcome::of(Verdict::Completed);
        self.outcome = (outcome != plain).then(|| Box::new(outcome));
    }

    pub(crate) const fn state(&self) -> State {
        self.phase.state()
    }

    /// Whether it waits for its node, which has never heard of it.
    pub(crate) const fn is_unsaid(&self) -> bool {
        self.phase.is_sent() && matches!(self.way, Way::Unsaid)
    }
}
