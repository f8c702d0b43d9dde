//! When children start again by themselves, and in which order they stop.

use std::time::Duration;

use clap::Args;
use sortie_model::quantity::parse_intensity;
use sortie_model::restart::{Backoff, Intensity, RestartSpec, RestartType, StopSequence, Strategy};

use crate::args::values::duration;
use crate::failure::Failure;

/// When children start again.
#[derive(Debug, Args, Clone, Default)]
#[command(next_help_heading = "Supervision")]
pub(crate) struct Supervision {
    /// When a child starts again: `permanent` always, `transient` after a failure, `temporary`
    /// never.
    #[arg(long, value_name = "TYPE")]
    pub(crate) restart: Option<RestartType>,
    /// Who starts again with it: `one-for-one`, `one-for-all` or `rest-for-one`.
    #[arg(long, value_name = "S", requires = "restart")]
    pub(crate) strategy: Option<Strategy>,
    /// Restarts within a time, up to 100000 within 30 days; one more and the job gives up.
    /// [default: 1/5s]
    #[arg(long, value_name = "N/D", requires = "restart", value_parser = parse_intensity)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) intensity: Option<Intensity>,
    /// The wait before a restart, up to 24 hours; `0s` is none. It doubles with each in a row, up
    /// to 32 times as long, and to 24 hours. [default: 0s]
    #[arg(long, value_name = "D", requires = "restart", value_parser = duration)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) restart_delay: Option<Duration>,
    /// Stop children one after another, the last one first.
    #[arg(long)]
    pub(crate) ordered_stop: bool,
}

/// The longest wait before a restart is the first one this many times.
const DELAY_GROWS: u32 = 32;

impl Supervision {
    /// The rules for restarts.
    pub(crate) fn rules(&self) -> Result<RestartSpec, Failure> {
        let backoff = self.restart_delay.filter(|delay| !delay.is_zero()).map(|first| {
            let most = first.saturating_mul(DELAY_GROWS);
            let longest = sortie_model::limits::BACKOFF_LONGEST;
            Backoff::new(first, most.min(longest.max(first))).map_err(Failure::usage)
        });
        Ok(RestartSpec {
            restart: self.restart.unwrap_or_default(),
            strategy: self.strategy.unwrap_or_default(),
            intensity: self.intensity.unwrap_or_default(),
            backoff: backoff.transpose()?,
        })
    }

    /// The order of a stop.
    pub(crate) const fn stop_sequence(&self) -> StopSequence {
        if self.ordered_stop { StopSequence::OneByOne } else { StopSequence::AtOnce }
    }
}
