//! When the children of a job are started again, in the words of OTP's `supervisor`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::quantity::{BadQuantity, parse_intensity, show_duration};

/// After which ends a child starts again by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestartType {
    /// After every end but one that a user asked for.
    Permanent,
    /// After a failure.
    Transient,
    /// Never, also when it was stopped for a sibling's sake.
    #[default]
    Temporary,
}

impl RestartType {
    /// Every restart type, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Permanent, Self::Transient, Self::Temporary];

    /// The word that people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
        }
    }
}

impl fmt::Display for RestartType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RestartType {
    type Err = BadRestart;

    fn from_str(text: &str) -> Result<Self, BadRestart> {
        let found = Self::ALL.into_iter().find(|restart| restart.as_str() == text.trim());
        found.ok_or_else(|| BadRestart::Type(text.to_owned()))
    }
}

/// Which siblings start again with a child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Strategy {
    /// None.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// Those that come after it in child order.
    RestForOne,
}

impl Strategy {
    /// Every strategy, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::OneForOne, Self::OneForAll, Self::RestForOne];

    /// The word that people type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneForOne => "one-for-one",
            Self::OneForAll => "one-for-all",
            Self::RestForOne => "rest-for-one",
        }
    }

    /// How a job with this strategy stops its children unless it asks for an order of its own.
    pub const fn stop_sequence(self) -> StopSequence {
        match self {
            Self::OneForOne => StopSequence::AtOnce,
            Self::OneForAll | Self::RestForOne => StopSequence::OneByOne,
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Strategy {
    type Err = BadRestart;

    fn from_str(text: &str) -> Result<Self, BadRestart> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.as_str() == text.trim());
        found.ok_or_else(|| BadRestart::Strategy(text.to_owned()))
    }
}

/// In which order all children of a job are stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopSequence {
    /// All are told at once.
    #[default]
    AtOnce,
    /// The last one first, and each only when the one after it has ended.
    OneByOne,
}

/// How many restarts are allowed in which time; one more, and the job gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u32, Duration)", into = "(u32, Duration)")]
pub struct Intensity {
    restarts: u32,
    period: Duration,
}

impl Intensity {
    /// At most so many restarts within any span of that length.
    ///
    /// # Errors
    /// [`BadRestart::Intensity`] above [`limits::RESTARTS_MOST`], for a period of zero, and for
    /// one above [`limits::RESTART_PERIOD_LONGEST`].
    pub fn new(restarts: u32, period: Duration) -> Result<Self, BadRestart> {
        let longest = limits::RESTART_PERIOD_LONGEST;
        let good = restarts <= limits::RESTARTS_MOST && !period.is_zero() && period <= longest;
        if good { Ok(Self { restarts, period }) } else { Err(BadRestart::Intensity) }
    }

    /// Restarts that are allowed; none gives up at the first.
    pub const fn restarts(self) -> u32 {
        self.restarts
    }

    /// The time in which they may happen; never zero.
    pub const fn period(self) -> Duration {
        self.period
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts: limits::RESTARTS_DEFAULT, period: limits::RESTART_PERIOD_DEFAULT }
    }
}

impl TryFrom<(u32, Duration)> for Intensity {
    type Error = BadRestart;

    fn try_from((restarts, period): (u32, Duration)) -> Result<Self, BadRestart> {
        Self::new(restarts, period)
    }
}

impl From<Intensity> for (u32, Duration) {
    fn from(intensity: Intensity) -> Self {
        (intensity.restarts, intensity.period)
    }
}

/// As `5/10s`, which reads back.
impl fmt::Display for Intensity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.restarts, show_duration(self.period))
    }
}

impl FromStr for Intensity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        parse_intensity(text)
    }
}

/// How long a child waits before it starts again. The wait doubles with each restart in a row, and
/// is the first one again when an incarnation lived longer than the intensity's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(Duration, Duration)", into = "(Duration, Duration)")]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// Waits that begin with `first` and grow up to `most`.
    ///
    /// # Errors
    /// [`BadRestart::Backoff`] when the first one is zero or longer than the longest, and when that
    /// is above [`limits::BACKOFF_LONGEST`].
    pub fn new(first: Duration, most: Duration) -> Result<Self, BadRestart> {
        let good = !first.is_zero() && first <= most && most <= limits::BACKOFF_LONGEST;
        if good { Ok(Self { first, most }) } else { Err(BadRestart::Backoff) }
    }

    /// The first wait.
    pub const fn first(self) -> Duration {
        self.first
    }

    /// The longest wait.
    pub const fn most(self) -> Duration {
        self.most
    }

    /// The wait before a restart that follows so many others in a row, at most [`Backoff::most`].
    pub fn wait(self, restarts_before: u32) -> Duration {
        let factor = 1_u32.checked_shl(restarts_before).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

impl TryFrom<(Duration, Duration)> for Backoff {
    type Error = BadRestart;

    fn try_from((first, most): (Duration, Duration)) -> Result<Self, BadRestart> {
        Self::new(first, most)
    }
}

impl From<Backoff> for (Duration, Duration) {
    fn from(backoff: Backoff) -> Self {
        (backoff.first, backoff.most)
    }
}

/// How the children of one job are supervised. The default starts none of them again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RestartSpec {
    /// After which ends a child starts again.
    pub restart: RestartType,
    /// Which siblings start again with it.
    pub strategy: Strategy,
    /// How many restarts, all children together, are allowed in which time.
    pub intensity: Intensity,
    /// How long a child waits before it starts again; not at all if none.
    pub backoff: Option<Backoff>,
}

/// Why something is no rule for restarts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRestart {
    /// Not a restart type.
    #[error("`{0}` is no restart type; write `permanent`, `transient` or `temporary`")]
    Type(String),
    /// Not a strategy.
    #[error("`{0}` is no strategy; write `one-for-one`, `one-for-all` or `rest-for-one`")]
    Strategy(String),
    /// An intensity that is out of bounds.
    #[error("an intensity is at most {most} restarts within more than 0 and at most {days} days",
        most = limits::RESTARTS_MOST, days = limits::RESTART_PERIOD_LONGEST.as_secs() / 86_400)]
    Intensity,
    /// A backoff that is out of bounds.
    #[error("the wait before a restart is more than 0 and at most {hours} hours",
        hours = limits::BACKOFF_LONGEST.as_secs() / 3_600)]
    Backoff,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn words_read_back_and_others_are_refused() {
        for restart in RestartType::ALL {
            assert_eq!(restart.to_string().parse(), Ok(restart));
        }
        for strategy in Strategy::ALL {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        let bad = "always".to_owned();
        assert_eq!("always".parse::<RestartType>(), Err(BadRestart::Type(bad)));
        let bad = "one_for_one".to_owned();
        assert_eq!("one_for_one".parse::<Strategy>(), Err(BadRestart::Strategy(bad)));
    }

    #[test]
    fn an_intensity_reads_back() {
        for text in ["0/1s", "1/5s", "100000/30d", "7/1m 30s"] {
            let intensity: Intensity = text.parse().expect("an intensity");
            assert_eq!(intensity.to_string(), text);
        }
    }

    #[test]
    fn an_intensity_out_of_bounds_cannot_be_stored() {
        let longest = limits::RESTART_PERIOD_LONGEST;
        for (restarts, period) in [
            (1, Duration::ZERO),
            (limits::RESTARTS_MOST + 1, SECOND),
            (1, longest + Duration::from_nanos(1)),
        ] {
            assert_eq!(Intensity::new(restarts, period), Err(BadRestart::Intensity));
            let stored = serde_json::to_string(&(restarts, period)).expect("plain numbers");
            assert!(serde_json::from_str::<Intensity>(&stored).is_err(), "{stored}");
        }
        let most = Intensity::new(limits::RESTARTS_MOST, longest).expect("the most");
        let stored = serde_json::to_string(&most).expect("plain numbers");
        assert_eq!(serde_json::from_str::<Intensity>(&stored).ok(), Some(most));
    }

    #[test]
    fn a_backoff_doubles_up_to_its_longest_wait() {
        let backoff = Backoff::new(SECOND, 10 * SECOND).expect("in bounds");
        let waits = [0, 1, 2, 3, 4, 31, 32, u32::MAX].map(|before| backoff.wait(before).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 10, 10, 10, 10]);
    }

    #[test]
    fn a_backoff_out_of_bounds_cannot_be_stored() {
        let longest = limits::BACKOFF_LONGEST;
        for (first, most) in [
            (Duration::ZERO, SECOND),
            (2 * SECOND, SECOND),
            (SECOND, longest + Duration::from_nanos(1)),
        ] {
            assert_eq!(Backoff::new(first, most), Err(BadRestart::Backoff));
        }
        assert!(Backoff::new(SECOND, longest).is_ok());
    }

    #[test]
    fn nothing_is_started_again_unless_it_is_asked_for() {
        let spec = RestartSpec::default();
        assert_eq!((spec.restart, spec.strategy), (RestartType::Temporary, Strategy::OneForOne));
        assert_eq!((spec.intensity.to_string().as_str(), spec.backoff), ("1/5s", None));
    }
}
