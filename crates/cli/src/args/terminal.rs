//! Arguments of what has a terminal: `invoke -t` and `enter`.

use clap::Args;

use crate::args::values::node_or_address;

/// What holds of every terminal.
#[derive(Debug, Args, Clone, Copy, Default)]
pub(crate) struct TerminalArgs {
    /// Pass `~.` on, too, which leaves a terminal when it is typed at the beginning of a line.
    #[arg(long)]
    pub(crate) no_escape: bool,
}

/// Arguments of `enter`.
#[derive(Debug, Args, Clone)]
pub(crate) struct EnterArgs {
    /// A node, by its name or as host:port; or else a session, by its name, number or identity.
    #[arg(value_name = "NODE|SESSION")]
    pub(crate) place: String,
    /// It is a session of this node: its name, or host:port.
    #[arg(long, value_name = "NODE", value_parser = node_or_address)]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) terminal: TerminalArgs,
}
