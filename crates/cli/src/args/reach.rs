//! Which node is asked, and which of its sessions.

use std::num::NonZeroU16;

use clap::Args;

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
    #[arg(long, value_name = "N", conflicts_with = "session")]
    pub(crate) embedded: Option<NonZeroU16>,
}
