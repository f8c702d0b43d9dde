//! Arguments of `receive` and `logs`, and the receive they ask for.

use std::time::Duration;

use clap::Args;
use sortie::{ReceiveMode, ReceiveSpec};
use sortie_model::nodeset::NodeExpr;
use sortie_model::record::StreamSet;
use sortie_model::{Stream, Timestamp};

use crate::args::invoke::LineArgs;
use crate::args::output::{Look, Verdict};
use crate::args::pick::Picked;
use crate::args::reach::Reach;
use crate::args::values::{duration, moment, whole};
use crate::failure::Failure;

/// Arguments of `receive` and `logs`.
#[derive(Debug, Args, Clone)]
pub(crate) struct ReceiveArgs {
    #[command(flatten)]
    pub(crate) pick: Picked,
    /// Leave what is read where it is.
    #[arg(short = 'k', long)]
    pub(crate) keep: bool,
    /// Go on until every job is settled.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Show what is there, then what comes, until the jobs are settled; removes nothing.
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// With `--wait`: until every job is finished.
    #[arg(long)]
    pub(crate) force: bool,
    /// With `--wait`: remove the jobs that finished, once everything of them was received.
    #[arg(long)]
    pub(crate) auto_remove: bool,
    /// With `--wait`: say when a job or child settles.
    #[arg(long)]
    pub(crate) events: bool,
    /// With `--wait`: print the jobs before their results.
    #[arg(long)]
    pub(crate) job_first: bool,
    /// With `--wait`: how long to wait.
    #[arg(long, value_name = "D", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// Only children on these nodes.
    #[arg(short = 'w', long, visible_alias = "nodes", value_name = "EXPR")]
    pub(crate) on: Vec<String>,
    /// Only these streams.
    #[arg(long, value_name = "S,S", value_delimiter = ',')]
    pub(crate) stream: Vec<Stream>,
    /// Nothing of children that are not named themselves.
    #[arg(long)]
    pub(crate) no_recurse: bool,
    /// Only the last so many lines (or values) of each child.
    #[arg(short = 'n', long, value_name = "N", value_parser = whole, allow_hyphen_values = true)]
    pub(crate) tail: Option<u32>,
    /// Only what was made since: a moment, or a duration ago.
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    pub(crate) since: Option<Timestamp>,
    #[command(flatten)]
    pub(crate) lines: LineArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) verdict: Verdict,
    #[command(flatten)]
    pub(crate) look: Look,
}

impl ReceiveArgs {
    /// The receive; combinations that contradict themselves are usage errors.
    pub(crate) fn spec(&self) -> Result<ReceiveSpec, Failure> {
        let mode = self.mode()?;
        let reads_only = matches!(mode, ReceiveMode::Keep | ReceiveMode::Follow);
        if (self.tail.is_some() || self.since.is_some()) && !reads_only {
            return Err(Failure::usage("`--tail` and `--since` only read, so they remove nothing")
                .hint("add `--keep` or `--follow`"));
        }
        Ok(ReceiveSpec {
            streams: self.streams(),
            on: expression(&self.on)?,
            tail: self.tail,
            since: self.since,
            auto_remove: self.auto_remove,
            events: self.events,
            ..ReceiveSpec::new(self.pick.selection()?, mode)
        })
    }

    fn mode(&self) -> Result<ReceiveMode, Failure> {
        if self.keep && self.wait && !self.follow {
            return Err(Failure::usage("`--wait` takes what it shows, and `--keep` does not")
                .hint("`--follow` shows what is there and what comes, and keeps it"));
        }
        let needs_wait = [
            (self.force, "--force"),
            (self.auto_remove, "--auto-remove"),
            (self.events, "--events"),
            (self.job_first, "--job-first"),
        ];
        if let Some((_, option)) = needs_wait.iter().find(|(given, _)| *given && !self.wait) {
            return Err(Failure::usage(format_args!("`{option}` needs `--wait`")));
        }
        if self.timeout.is_some() && !self.waits() {
            return Err(Failure::usage("`--timeout` needs `--wait` or `--follow`"));
        }
        if self.auto_remove && self.follow {
            return Err(Failure::usage("`--follow` removes nothing, and `--auto-remove` does"));
        }
        Ok(match (self.follow, self.wait, self.keep) {
            (true, _, _) => ReceiveMode::Follow,
            (_, true, _) => ReceiveMode::TakeUntil { finished: self.force },
            (_, _, true) => ReceiveMode::Keep,
            _ => ReceiveMode::Take,
        })
    }

    /// Whether it goes on until the jobs are settled.
    pub(crate) const fn waits(&self) -> bool {
        self.wait || self.follow
    }

    fn streams(&self) -> StreamSet {
        if self.stream.is_empty() {
            return StreamSet::ALL;
        }
        self.stream.iter().fold(StreamSet::EMPTY, |set, stream| set.with(*stream))
    }
}

/// Several node expressions as one: their union, in order.
pub(crate) fn expression(words: &[String]) -> Result<Option<NodeExpr>, Failure> {
    if words.is_empty() {
        return Ok(None);
    }
    words.join(",").parse().map(Some).map_err(Failure::usage)
}
