//! Which node is asked, and which of its sessions.

use clap::Args;
use sortie_model::shell_quote::quote_word;

use crate::args::Verb;
use crate::args::nodes::{ClusterVerb, NodeVerb};
use crate::args::output::{Look, Whose};
use crate::args::sessions::SessionVerb;
use crate::args::values::embedded_nodes;

/// The variable that says which session is meant where nothing else does.
const SESSION: &str = "SORTIE_SESSION";

/// Which node is asked, and which of its sessions.
#[derive(Debug, Args, Clone, Default)]
#[command(next_help_heading = "Session")]
pub(crate) struct Reach {
    /// The session; `default` on our own node unless said otherwise. Several: `a,b`, or a glob.
    #[arg(long, value_name = "S", env = SESSION, hide_env_values = true)]
    pub(crate) session: Option<String>,
    /// Talk to another node's sessions: its name, or host:port.
    #[arg(long, value_name = "NODE", conflicts_with = "embedded")]
    pub(crate) node: Option<String>,
    /// In a throw-away cluster of so many nodes inside this process, `node1` and on.
    #[arg(long, value_name = "N", value_parser = embedded_nodes, allow_hyphen_values = true)]
    pub(crate) embedded: Option<usize>,
}

impl Reach {
    /// A command about what is there, for somebody to type: with the session and the node, unless
    /// the environment says the session.
    pub(crate) fn there(&self, command: String) -> String {
        let of_environment = std::env::var(SESSION).ok();
        let session = self.session.as_ref().filter(|it| of_environment.as_ref() != Some(it));
        let words = [("--session", session), ("--node", self.node.as_ref())];
        words.into_iter().fold(command, |command, (option, word)| match word {
            Some(word) => format!("{command} {option} {}", quote_word(word.as_bytes())),
            None => command,
        })
    }

    /// Whether the node is the user's own, where children inherit the caller's environment.
    pub(crate) const fn is_own_node(&self) -> bool {
        self.node.is_none()
    }

    /// Whose sessions are asked.
    pub(crate) const fn whose(&self) -> Whose {
        if self.is_own_node() { Whose::OwnNodes } else { Whose::Others }
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
            Self::Suspend(args) | Self::Resume(args) => Some(&mut args.reach),
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

    /// How its answer is shown; none where nobody chooses.
    pub(crate) fn look(&self) -> Option<&Look> {
        let look = match self {
            Self::Start(args) => &args.look,
            Self::Invoke(args) => &args.look,
            Self::Get(args) => &args.look,
            Self::Receive(args) | Self::Logs(args) => &args.look,
            Self::Wait(args) => &args.look,
            Self::Stop(args) | Self::Kill(args) => &args.look,
            Self::Suspend(args) | Self::Resume(args) => &args.look,
            Self::Remove(args) => &args.look,
            Self::Send(args) => &args.look,
            Self::Throttle(args) => &args.look,
            Self::Explain(args) => &args.look,
            Self::Tree(args) => &args.look,
            Self::Doctor(args) => &args.look,
            Self::Node(NodeVerb::Stop(args)) => &args.look,
            Self::Node(NodeVerb::Restart(args)) => &args.look,
            Self::Node(NodeVerb::Get(args)) => &args.look,
            Self::Node(NodeVerb::Ping(args)) => &args.look,
            Self::Node(NodeVerb::Labels(args)) => &args.look,
            Self::Cluster(
                ClusterVerb::Init { look, .. }
                | ClusterVerb::Token { look }
                | ClusterVerb::Join { look, .. }
                | ClusterVerb::Status { look },
            ) => look,
            Self::Session(verb) => verb.look(),
            Self::Watch(_)
            | Self::Enter(_)
            | Self::Node(NodeVerb::Run(_))
            | Self::Completions { .. } => {
                return None;
            }
        };
        Some(look)
    }

    /// The same of those that list jobs, of whichever session.
    pub(crate) fn look_mut(&mut self) -> Option<&mut Look> {
        match self {
            Self::Start(args) => Some(&mut args.look),
            Self::Invoke(args) => Some(&mut args.look),
            Self::Get(args) => Some(&mut args.look),
            Self::Receive(args) | Self::Logs(args) => Some(&mut args.look),
            Self::Wait(args) => Some(&mut args.look),
            Self::Stop(args) | Self::Kill(args) => Some(&mut args.look),
            Self::Suspend(args) | Self::Resume(args) => Some(&mut args.look),
            Self::Remove(args) => Some(&mut args.look),
            Self::Throttle(args) => Some(&mut args.look),
            Self::Explain(args) => Some(&mut args.look),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_to_type_names_the_session_and_the_node_that_are_not_ours_by_themselves() {
        let check = |session: Option<&str>, node: Option<&str>, expected: &str| {
            let [session, node] = [session, node].map(|word| word.map(str::to_owned));
            let reach = Reach { session, node, embedded: None };
            assert_eq!(reach.there("sortie stop 1".to_owned()), expected);
        };
        check(None, None, "sortie stop 1");
        check(Some("work"), None, "sortie stop 1 --session work");
        check(Some("my work"), Some("b"), "sortie stop 1 --session 'my work' --node b");
    }
}
