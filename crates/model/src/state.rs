//! The states of a job and of a child (`docs/semantics.md`, section 2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A job's or a child's state. A child moves along the arrows of section 2.1; a parent's is
/// computed from its children's (section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Accepted, not yet running: queued behind the throttle, or its start is under way.
    NotStarted,
    /// At work.
    Running,
    /// Waits for input that nobody has given.
    Blocked,
    /// Was told to suspend.
    Suspending,
    /// Frozen.
    Suspended,
    /// Its node cannot be reached now.
    Disconnected,
    /// Was told to stop and has not ended.
    Stopping,
    /// Ended well.
    Completed,
    /// Ended badly; the child's reason says why.
    Failed,
    /// Ended because of a stop.
    Stopped,
}

/// Whether a child moves: what it is told, and what it does (`docs/semantics.md`, section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Motion {
    /// It goes on.
    Running,
    /// It stands still.
    Suspended,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::NotStarted,
        Self::Running,
        Self::Blocked,
        Self::Suspending,
        Self::Suspended,
        Self::Disconnected,
        Self::Stopping,
        Self::Completed,
        Self::Failed,
        Self::Stopped,
    ];

    /// Terminal: never changes within an incarnation.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Stopped)
    }

    /// Will not move without an outside act.
    pub const fn is_settled(self) -> bool {
        self.is_finished() || matches!(self, Self::Disconnected | Self::Suspended)
    }

    /// Runs, or ran and has not ended. Such a child holds a slot of its job's throttle; so does one
    /// whose start is under way, which is `NotStarted`.
    pub const fn is_in_progress(self) -> bool {
        !self.is_finished() && !matches!(self, Self::NotStarted)
    }

    /// The word in JSON: `not_started`, `running` …
    pub const fn as_json(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Disconnected => "disconnected",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// The word in tables: `NotStarted`, `Running` …
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotStarted => "NotStarted",
            Self::Running => "Running",
            Self::Blocked => "Blocked",
            Self::Suspending => "Suspending",
            Self::Suspended => "Suspended",
            Self::Disconnected => "Disconnected",
            Self::Stopping => "Stopping",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Stopped => "Stopped",
        })
    }
}

/// A word that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no state; states are not_started, running, blocked, suspending, suspended, \
     disconnected, stopping, completed, failed, stopped"
)]
pub struct UnknownState(pub String);

/// Reads both spellings, without regard to case.
impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let plain = |word: &str| word.to_ascii_lowercase().replace(['_', '-'], "");
        let wanted = plain(text);
        Self::ALL
            .into_iter()
            .find(|state| plain(state.as_json()) == wanted)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_every_state_read_back() {
        for state in State::ALL {
            assert_eq!(state.as_json().parse(), Ok(state));
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("done".parse::<State>().is_err());
    }

    #[test]
    fn finished_states_are_settled_and_hold_no_slot() {
        for state in State::ALL.into_iter().filter(|state| state.is_finished()) {
            assert!(state.is_settled() && !state.is_in_progress());
        }
        assert!(!State::NotStarted.is_in_progress());
        assert!(State::Stopping.is_in_progress());
    }
}
