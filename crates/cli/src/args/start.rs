//! Arguments of `start`.

use clap::Args;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use crate::args::CommandWords;
use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::args::work::Work;

/// What makes sense for jobs only, and for nodes that have a home.
const OF_JOBS: [&str; 25] = [
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
    /// The option for which no session that exists is meant, if there is one.
    pub(crate) const fn own_session(&self) -> Option<&'static str> {
        match self {
            Self { detached: true, .. } => Some("--detached"),
            Self { detached_session: true, .. } => Some("--detached-session"),
            _ => None,
        }
    }

    /// A session of its own, or none, leaves the one that only the environment names; one that was
    /// asked for beside it is a contradiction.
    pub(crate) fn leave_session(
        &mut self,
        option: &str,
        source: Option<ValueSource>,
    ) -> Result<(), clap::Error> {
        if source == Some(ValueSource::CommandLine) {
            let text = format!("`{option}` and `--session` exclude each other\n");
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
        }
        self.reach.session = None;
        Ok(())
    }
}
