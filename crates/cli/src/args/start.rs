//! Arguments of `start`.

use clap::Args;
use clap::parser::ValueSource;

use crate::args::CommandWords;
use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::args::work::Work;
use crate::failure::Failure;

/// What makes sense for jobs only, and for nodes that have a home.
const OF_JOBS: [&str; 26] = [
    "detached_session",
    "embedded",
    "name",
    "job_name",
    "timeout",
    "grace",
    "drain",
    "output_limit",
    "max_fails",
    "fail_fast",
    "init",
    "stdin",
    "open_stdin",
    "prompt",
    "map",
    "each",
    "null",
    "key",
    "task",
    "input",
    "background",
    "restart",
    "strategy",
    "intensity",
    "restart_delay",
    "ordered_stop",
];

/// Arguments of `start`.
#[derive(Debug, Args, Clone)]
pub(crate) struct StartArgs {
    /// What to run, where and how.
    #[command(flatten)]
    pub(crate) work: Work,
    /// Print the resolved plan and touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// In a session of its own, which is given free: all output waits for whoever connects.
    #[arg(long, conflicts_with_all = ["embedded", "dry_run"])]
    pub(crate) detached_session: bool,
    /// As a process that belongs to no session and no job: nothing stops it, and its output goes to
    /// a log on its node.
    #[arg(long, conflicts_with_all = OF_JOBS)]
    pub(crate) detached: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
    #[command(flatten)]
    pub(crate) command: CommandWords,
}

impl StartArgs {
    /// A session of its own, or none, leaves the one that only the environment names.
    ///
    /// # Errors
    /// A usage failure for one that was asked for beside it: that is a contradiction.
    pub(crate) fn leave_session(&mut self, source: Option<ValueSource>) -> Result<(), Failure> {
        let (option, why) = match self {
            Self { detached: true, .. } => ("--detached", "a detached process belongs to none"),
            Self { detached_session: true, .. } => {
                ("--detached-session", "a detached session is a new one")
            }
            _ => return Ok(()),
        };
        if source == Some(ValueSource::CommandLine) {
            let text = format!("`{option}` and `--session` exclude each other: {why}");
            return Err(Failure::usage(text).hint("leave `--session` out"));
        }
        self.reach.session = None;
        Ok(())
    }
}
