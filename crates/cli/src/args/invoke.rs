//! Arguments of `invoke`.

use clap::Args;

use crate::args::CommandWords;
use crate::args::output::{Look, Verdict};
use crate::args::reach::Reach;
use crate::args::terminal::TerminalArgs;
use crate::args::work::Work;

/// Arguments of `invoke`.
#[derive(Debug, Args, Clone)]
pub(crate) struct InvokeArgs {
    /// What to run, where and how.
    #[command(flatten)]
    pub(crate) work: Work,
    /// Return the job instead of its output.
    #[arg(long)]
    pub(crate) as_job: bool,
    /// Attach our standard input; short for `--stdin -`.
    #[arg(short = 'i', long, conflicts_with_all = ["stdin", "task", "open_stdin"])]
    pub(crate) attach: bool,
    /// Give the only child a pseudo terminal, at which ours is: our keys go there as they are.
    #[arg(short = 't', long, conflicts_with_all = [
        "stdin", "task", "map", "as_job", "job_name", "gather", "prefix", "no_prefix", "output",
        "json", "columns", "quiet", "open_stdin",
    ])]
    pub(crate) tty: bool,
    #[command(flatten)]
    pub(crate) terminal: TerminalArgs,
    /// Print the resolved plan and touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) lines: LineArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) verdict: Verdict,
    #[command(flatten)]
    pub(crate) look: Look,
    #[command(flatten)]
    pub(crate) command: CommandWords,
}

impl InvokeArgs {
    /// Whether it returns the job, and not what that gives.
    pub(crate) const fn returns_job(&self) -> bool {
        self.as_job || self.work.job_name.is_some()
    }
}

/// How the output of several children is put together.
#[derive(Debug, Args, Clone, Copy)]
pub(crate) struct LineArgs {
    /// Wait for all output, then show identical output once.
    #[arg(long, conflicts_with_all = ["prefix", "no_prefix"])]
    pub(crate) gather: bool,
    /// Put `node: ` before each line, also in a map.
    #[arg(long, conflicts_with = "no_prefix")]
    pub(crate) prefix: bool,
    /// Put nothing before lines.
    #[arg(long)]
    pub(crate) no_prefix: bool,
}
