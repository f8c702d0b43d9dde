//! Which node is asked, and which of its sessions.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use sortie::EMBEDDED_NODES;

use crate::args::Verb;
use crate::args::sessions::SessionVerb;

/// Which node is asked, and which of its sessions.
#[derive(Debug, Args, Clone, Default)]
#[command(next_help_heading = "Session")]
pub(crate) struct Reach {
    /// The session; `default` on our own node unless said otherwise.
    #[arg(long, value_name = "S", env = "SORTIE_SESSION", hide_env_values = true)]
    pub(crate) session: Option<String>,
    /// Talk to another node's sessions: its name, or host:port.
    #[arg(long, value_name = "NODE", conflicts_with = "embedded")]
    pub(crate) node: Option<String>,
    /// In a throw-away cluster of so many nodes inside this process, `node1` and on.
    #[arg(long, value_name = "N", value_parser = node_count(), allow_hyphen_values = true)]
    pub(crate) embedded: Option<usize>,
}

fn node_count() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=EMBEDDED_NODES as u64)
}

impl Reach {
    /// Whether the node is the user's own, where children inherit the caller's environment.
    pub(crate) const fn is_own_node(&self) -> bool {
        self.node.is_none()
    }
}

impl Verb {
    /// Which node it asks, and which of its sessions, where that may be another one than ours.
    pub(crate) fn reach_mut(&mut self) -> Option<&mut Reach> {
        match self {
            Self::Start(args) => Some(&mut args.reach),
            Self::Invoke(args) => Some(&mut args.reach),
            Self::Get(args) => Some(&mut args.reach),
            Self::Receive(args) | Self::Logs(args) => Some(&mut args.reach),
            Self::Wait(args) => Some(&mut args.reach),
            Self::Stop(args) | Self::Kill(args) => Some(&mut args.reach),
            Self::Remove(args) => Some(&mut args.reach),
            Self::Send(args) => Some(&mut args.reach),
            Self::Throttle(args) => Some(&mut args.reach),
            Self::Explain(args) => Some(&mut args.reach),
            Self::Tree(args) => Some(&mut args.reach),
            Self::Watch(args) => Some(&mut args.reach),
            Self::Session(SessionVerb::Env(args)) => Some(&mut args.reach),
            Self::Session(_)
            | Self::Enter(_)
            | Self::Node(_)
            | Self::Cluster(_)
            | Self::Doctor(_)
            | Self::Completions { .. } => None,
        }
    }
}
