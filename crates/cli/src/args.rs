//! The words of the command line (`docs/cli.md`, sections 1 and 2), and what they ask for.

mod columns;
pub(crate) mod invoke;
pub(crate) mod nodes;
pub(crate) mod open_input;
pub(crate) mod output;
pub(crate) mod pick;
pub(crate) mod reach;
pub(crate) mod read;
pub(crate) mod send;
pub(crate) mod sessions;
pub(crate) mod start;
pub(crate) mod supervision;
pub(crate) mod suspend;
pub(crate) mod task;
pub(crate) mod terminal;
pub(crate) mod values;
pub(crate) mod work;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use sortie_model::quantity::parse_throttle;
use sortie_model::spec::Throttle;

use crate::args::invoke::InvokeArgs;
use crate::args::nodes::{ClusterVerb, NodeVerb};
use crate::args::output::{Look, Verdict};
use crate::args::pick::{Pick, Picked};
use crate::args::reach::{Reach, refuse_session_of_embedded};
use crate::args::read::ReceiveArgs;
use crate::args::send::SendArgs;
use crate::args::sessions::SessionVerb;
pub(crate) use crate::args::start::StartArgs;
use crate::args::suspend::SuspendArgs;
use crate::args::terminal::EnterArgs;
pub(crate) use crate::args::values::FileOrStdin;
use crate::args::values::{duration, long_whole, moment, signal, whole};
#[cfg(test)]
use crate::args::work::Caller;
use crate::failure::{ErrorStyle, Failure};
use crate::program;
use crate::verbs;

/// Background, remote and thread jobs over QUIC-linked nodes.
#[derive(Debug, Parser)]
#[command(name = "sortie", version, max_term_width = 100, infer_long_args = false)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand, Clone)]
pub(crate) enum Verb {
    /// Start a job, print it, return at once.
    Start(Box<StartArgs>),
    /// Run a command (default: here), stream its output, exit with its outcome.
    #[command(visible_aliases = ["run", "exec"])]
    Invoke(Box<InvokeArgs>),
    /// A login shell on a node, in a session of its own; or a shell in a session.
    #[command(visible_aliases = ["shell", "ssh"])]
    Enter(Box<EnterArgs>),
    /// List jobs.
    #[command(visible_aliases = ["ls", "ps"])]
    Get(Box<GetArgs>),
    /// Take or read results.
    Receive(Box<ReceiveArgs>),
    /// Read results and leave them there: `receive --keep`.
    Logs(Box<ReceiveArgs>),
    /// Wait until jobs are settled.
    Wait(Box<WaitArgs>),
    /// Stop jobs or children, with grace.
    Stop(Box<StopArgs>),
    /// Stop jobs or children at once: `stop --now`.
    Kill(Box<StopArgs>),
    /// Freeze jobs or children; `resume` lets them go on.
    Suspend(Box<SuspendArgs>),
    /// Let suspended jobs or children go on where they were.
    Resume(Box<SuspendArgs>),
    /// Remove finished jobs and what is left of their results.
    #[command(visible_alias = "rm")]
    Remove(Box<RemoveArgs>),
    /// Answer a child that asks.
    Send(Box<SendArgs>),
    /// Change how many children of a job may be in progress, also while it runs.
    Throttle(Box<ThrottleArgs>),
    /// One screen about a job: states so far, reasons, last error lines, what to type next.
    Explain(Box<ExplainArgs>),
    /// Session, jobs and children as a tree.
    Tree(Box<TreeArgs>),
    /// One JSON object for each event.
    Watch(Box<WatchArgs>),
    /// Nodes: run one, look at them, end one.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Make a cluster of several nodes.
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Sessions.
    #[command(subcommand)]
    Session(SessionVerb),
    /// Look for what is wrong, and say what to do.
    Doctor(Box<DoctorArgs>),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// Why the words of a command line ask for nothing.
pub(crate) enum Unread {
    /// They are none of ours; also the answers of `--help` and `--version`.
    Words(clap::Error),
    /// They contradict each other.
    Meaning(Failure, ErrorStyle),
}

impl From<clap::Error> for Unread {
    fn from(error: clap::Error) -> Self {
        Self::Words(error)
    }
}

/// Reads the words of our command line.
///
/// # Errors
/// [`Unread`].
pub(crate) fn read() -> Result<Cli, Unread> {
    let mut command = command(&program::name());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let (Verb::Start(args), Some((_, given))) = (&mut cli.verb, matches.subcommand()) {
        let left = args.leave_session(given.value_source("session"));
        left.map_err(|failure| Unread::Meaning(failure, args.look.error_style()))?;
    }
    refuse_session_of_embedded(&matches)
        .map_err(|failure| Unread::Meaning(failure, verbs::error_style(&cli.verb)))?;
    Ok(cli)
}

/// The command line, with the usage of what is written in one of several ways: a derived one would
/// put all of them into one line.
fn command(program: &str) -> clap::Command {
    let usage = |verb: &str, ways: &[&str]| {
        let ways: Vec<String> = ways.iter().map(|way| format!("{program} {verb} {way}")).collect();
        ways.join("\n       ")
    };
    let work = [
        "[OPTIONS] [--] <CMD> [ARG]...",
        "[OPTIONS] --script <FILE> [--] [ARG]...",
        "[OPTIONS] --task <NAME> [--input <JSON>] [--background]",
    ];
    let send = ["[OPTIONS] <CHILD> <TEXT>", "[OPTIONS] <CHILD> --stdin"];
    Cli::command()
        .mut_subcommand("start", |verb| verb.override_usage(usage("start", &work)))
        .mut_subcommand("invoke", |verb| verb.override_usage(usage("invoke", &work)))
        .mut_subcommand("send", |verb| verb.override_usage(usage("send", &send)))
}

/// The command: everything from the first word that is not an option.
#[derive(Debug, Args, Clone)]
pub(crate) struct CommandWords {
    /// The command and its arguments; with `--script`, the script's arguments.
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    pub(crate) words: Vec<OsString>,
}

/// Arguments of `get`.
#[derive(Debug, Args, Clone)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) pick: Pick,
    /// Also the direct children.
    #[arg(long, short = 'c')]
    pub(crate) children: bool,
    /// Also the children in these states.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(crate) child_state: Vec<sortie_model::State>,
    /// Only entries with, or without, unread data.
    #[arg(long, value_name = "BOOL")]
    pub(crate) has_more_data: Option<bool>,
    /// Only what ended before that moment (RFC 3339, or a duration ago).
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) before: Option<sortie_model::Timestamp>,
    /// Only what ended after that moment.
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) after: Option<sortie_model::Timestamp>,
    /// Only the newest so many by end time.
    #[arg(long, value_name = "N", value_parser = whole, allow_hyphen_values = true)]
    pub(crate) newest: Option<u32>,
    /// Entries in the answer, at most.
    #[arg(long, value_name = "N", default_value_t = sortie_model::limits::PAGE as u32)]
    #[arg(value_parser = whole, allow_hyphen_values = true)]
    pub(crate) limit: u32,
    /// Entries to skip.
    #[arg(long, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = long_whole, allow_hyphen_values = true)]
    pub(crate) offset: u64,
    /// Exit with 0 also when an id or a name matches nothing.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `wait`.
#[derive(Debug, Args, Clone)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    pub(crate) pick: Picked,
    /// Until one of them is settled; prints that one.
    #[arg(long, conflicts_with = "count")]
    pub(crate) any: bool,
    /// Until so many of them are settled.
    #[arg(long, value_name = "N", value_parser = whole, allow_hyphen_values = true)]
    pub(crate) count: Option<u32>,
    /// How long to wait; 0 looks once.
    #[arg(long, value_name = "D", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// Wait for the end: disconnected and suspended jobs are waited for too.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) verdict: Verdict,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `stop`.
#[derive(Debug, Args, Clone)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) pick: Picked,
    /// Time between the signal and the kill.
    #[arg(long, value_name = "D", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) grace: Option<Duration>,
    /// The signal that asks: `INT`, `SIGINT` or 2.
    #[arg(long, value_name = "S", default_value = "TERM", value_parser = signal)]
    pub(crate) signal: i32,
    /// Kill at once.
    #[arg(long, conflicts_with_all = ["grace", "signal"])]
    pub(crate) now: bool,
    /// Return when the stop is recorded.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Exit with 0 also when an id or a name matches nothing.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `remove`.
#[derive(Debug, Args, Clone)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) pick: Picked,
    /// Stop what is not finished first.
    #[arg(long)]
    pub(crate) force: bool,
    /// Exit with 0 also when an id or a name matches nothing.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `throttle`.
#[derive(Debug, Args, Clone)]
pub(crate) struct ThrottleArgs {
    #[command(flatten)]
    pub(crate) pick: Picked,
    /// Children in progress at once: a number or `unlimited`; a million in any case.
    #[arg(
        short = 'j',
        long,
        visible_alias = "fanout",
        value_name = "N",
        allow_hyphen_values = true
    )]
    #[arg(value_parser = parse_throttle)]
    pub(crate) throttle: Throttle,
    /// Exit with 0 also when an id or a name matches nothing.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `explain`.
#[derive(Debug, Args, Clone)]
pub(crate) struct ExplainArgs {
    /// A job or a child.
    #[arg(value_name = "SEL", default_value = "last")]
    pub(crate) selector: String,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `tree`.
#[derive(Debug, Args, Clone)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) pick: Pick,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `watch`.
#[derive(Debug, Args, Clone)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) pick: Pick,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Arguments of `doctor`.
#[derive(Debug, Args, Clone)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) look: Look,
}

#[cfg(test)]
mod tests;
