//! Arguments about nodes and clusters.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sortie_model::NodeName;

use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::args::values::{label, node_or_address};

/// Verbs about nodes.
#[derive(Debug, Subcommand, Clone)]
pub(crate) enum NodeVerb {
    /// Run a node in the foreground.
    Run(Box<NodeRunArgs>),
    /// End our own node: what runs in its sessions is stopped, what they have is kept.
    Stop(Box<NodeStopArgs>),
    /// Replace our own node by one of this program: jobs of its sessions run on.
    Restart(Box<NodeRestartArgs>),
    /// List the cluster's nodes.
    Get(Box<NodeGetArgs>),
    /// Measure the way to a node.
    Ping(Box<NodePingArgs>),
    /// Set a node's labels; `key=` removes one. Without labels, show them.
    Labels(Box<NodeLabelsArgs>),
}

/// Arguments of `node run`.
#[derive(Debug, Args, Clone)]
pub(crate) struct NodeRunArgs {
    /// Where to listen, as host:port; port 0 chooses one and keeps it.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Where other nodes reach it, if not where it listens.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// The node's name; another one than before only while it is in no cluster.
    #[arg(long, value_name = "N")]
    pub(crate) name: Option<NodeName>,
    /// The home: identity, configuration and state in one folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Labels, as key=value.
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Leave the terminal: how a command starts a node of its own.
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

/// Arguments of `node restart`.
#[derive(Debug, Args, Clone)]
pub(crate) struct NodeRestartArgs {
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `node stop`.
#[derive(Debug, Args, Clone)]
pub(crate) struct NodeStopArgs {
    /// Let jobs of its sessions run on, for the next node of its home.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Another node: its name, or host:port.
    #[arg(long, value_name = "NODE", value_parser = node_or_address)]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `node get`.
#[derive(Debug, Args, Clone)]
pub(crate) struct NodeGetArgs {
    /// Which nodes.
    #[arg(value_name = "EXPR")]
    pub(crate) expression: Vec<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `node ping`.
#[derive(Debug, Args, Clone)]
pub(crate) struct NodePingArgs {
    /// Which node; our own if none.
    #[arg(value_name = "NODE")]
    pub(crate) target: Option<NodeName>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Arguments of `node labels`.
#[derive(Debug, Args, Clone)]
pub(crate) struct NodeLabelsArgs {
    /// Which node.
    #[arg(value_name = "NODE")]
    pub(crate) target: NodeName,
    /// Labels, as key=value.
    #[arg(value_name = "K=V", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}

/// Verbs about clusters.
#[derive(Debug, Subcommand, Clone)]
pub(crate) enum ClusterVerb {
    /// Make our node reachable for others, and print what they type to join.
    Init {
        /// Where the others reach it, if not where it listens.
        #[arg(long, value_name = "HOST:PORT")]
        advertise: Option<String>,
        #[command(flatten)]
        look: Look,
    },
    /// Print another line that joins; it works once, for 15 minutes.
    Token {
        #[command(flatten)]
        look: Look,
    },
    /// Make our node a member of another node's cluster.
    Join {
        /// A member's address.
        #[arg(value_name = "HOST:PORT")]
        address: String,
        /// The token that it gave.
        #[arg(long, value_name = "TOKEN", env = "SORTIE_TOKEN", hide_env_values = true)]
        token: String,
        #[command(flatten)]
        look: Look,
    },
    /// The members, and whether they answer.
    Status {
        #[command(flatten)]
        look: Look,
    },
}
