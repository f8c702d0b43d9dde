//! Arguments about sessions.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};
use sortie::{OutputPolicy, SessionName};

use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::args::values::{duration, node_or_address, size};

/// Verbs about sessions.
#[derive(Debug, Subcommand, Clone)]
pub(crate) enum SessionVerb {
    /// Open a session that outlives this command, and hold it.
    New(Box<SessionNewArgs>),
    /// List a node's sessions, and those elsewhere that this home has used.
    Get(Box<SessionGetArgs>),
    /// Hold a session: from here on `--session S` finds it.
    Connect(Box<SessionConnectArgs>),
    /// Give a session free; its jobs run on, and its results wait.
    Disconnect(Box<SessionPickArgs>),
    /// Stop what is unfinished in a session, and drop everything of it.
    Close(Box<SessionPickArgs>),
    /// Set what lasts between a session's commands, and show it.
    Env(Box<SessionEnvArgs>),
}

/// Arguments of `session new`.
#[derive(Debug, Args, Clone)]
pub(crate) struct SessionNewArgs {
    /// Its name; `session<id>` unless said otherwise.
    #[arg(long, value_name = "N")]
    pub(crate) name: Option<SessionName>,
    /// On these nodes, one session each; on our own unless said otherwise.
    #[arg(long, short = 'w', visible_alias = "nodes", value_name = "NODES")]
    pub(crate) on: Vec<String>,
    /// How long it may be without a client before it is closed: 60s at least.
    #[arg(long, value_name = "D", value_parser = duration, allow_hyphen_values = true)]
    #[arg(default_value = "2h")]
    pub(crate) idle_timeout: Duration,
    /// What happens when nobody receives and a child's output reaches its quota: `block` pauses the
    /// child, `drop-oldest` drops and counts, `fail` fails it.
    #[arg(long, value_name = "POLICY", default_value = "block", value_parser = output_policy)]
    pub(crate) output_policy: OutputPolicy,
    /// The quota of each child's output: 1MiB to 4GiB.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) quota: u64,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `session get`.
#[derive(Debug, Args, Clone)]
pub(crate) struct SessionGetArgs {
    /// Only those of this node: its name, or host:port.
    #[arg(long, value_name = "NODE", value_parser = node_or_address)]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// A session by name, where it need not be known to this home yet.
#[derive(Debug, Args, Clone)]
pub(crate) struct SessionPickArgs {
    /// Its name, its number or its identity.
    #[arg(value_name = "SESSION")]
    pub(crate) session: String,
    /// On this node: its name, or host:port.
    #[arg(long, value_name = "NODE", value_parser = node_or_address)]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `session connect`.
#[derive(Debug, Args, Clone)]
pub(crate) struct SessionConnectArgs {
    /// Take it over if another client holds it.
    #[arg(long)]
    pub(crate) take: bool,
    #[command(flatten)]
    pub(crate) pick: SessionPickArgs,
}

/// Arguments of `session env`.
#[derive(Debug, Args, Clone)]
pub(crate) struct SessionEnvArgs {
    /// Variables to set; NAME alone takes our own value.
    #[arg(value_name = "NAME=VALUE")]
    pub(crate) variables: Vec<OsString>,
    /// A variable that is set no more.
    #[arg(long, short = 'u', value_name = "NAME")]
    pub(crate) unset: Vec<OsString>,
    /// The working directory.
    #[arg(short = 'C', long, value_name = "DIR")]
    pub(crate) chdir: Option<OsString>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

impl SessionPickArgs {
    /// As other verbs say it.
    pub(crate) fn reach(&self) -> Reach {
        let (session, node) = (Some(self.session.clone()), self.node.clone());
        Reach { session, node, embedded: None }
    }
}

impl SessionVerb {
    /// How the verb's answer is shown.
    pub(crate) fn look(&self) -> &Look {
        match self {
            Self::New(args) => &args.look,
            Self::Get(args) => &args.look,
            Self::Connect(args) => &args.pick.look,
            Self::Disconnect(args) | Self::Close(args) => &args.look,
            Self::Env(args) => &args.look,
        }
    }
}

fn output_policy(text: &str) -> Result<OutputPolicy, String> {
    let all = [OutputPolicy::Block, OutputPolicy::DropOldest, OutputPolicy::Fail];
    let found = all.into_iter().find(|policy| policy.as_str() == text);
    found.ok_or_else(|| "expected block, drop-oldest or fail".to_owned())
}
