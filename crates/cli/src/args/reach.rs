//! Which node is asked, and which of its sessions.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use sortie_model::shell_quote::quote_word;

use crate::args::Verb;
use crate::args::nodes::{ClusterVerb, NodeVerb};
use crate::args::output::{Look, Whose};
use crate::args::sessions::SessionVerb;
use crate::args::values::{embedded_nodes, node_or_address};
use crate::failure::Failure;

/// The variable that says which session is meant where nothing else does.
const SESSION: &str = "SORTIE_SESSION";

/// The verbs about the jobs of a session: what they name means another job in another session.
const ABOUT_JOBS: [&str; 13] = [
    "get", "receive", "logs", "wait", "stop", "kill", "suspend", "resume", "remove", "send",
    "throttle", "explain", "tree",
];

/// Which node is asked, and which of its sessions.
#[derive(Debug, Args, Clone, Default)]
#[command(next_help_heading = "Session")]
pub(crate) struct Reach {
    /// The session; `default` on our own node unless said otherwise. Several: `a,b`, or a glob.
    #[arg(long, value_name = "S", env = SESSION, hide_env_values = true)]
    pub(crate) session: Option<String>,
    /// Talk to another node's sessions: its name, or host:port.
    #[arg(long, value_name = "NODE", conflicts_with = "embedded")]
    #[arg(value_parser = node_or_address)]
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

    /// The same of each command about jobs in a hint, where they stand in backticks.
    pub(crate) fn hint_there(&self, hint: &str) -> String {
        let is_about_jobs = |command: &str| {
            let verb = command.strip_prefix("sortie ").and_then(|it| it.split(' ').next());
            let says_where =
                ["--session ", "--node "].iter().any(|option| command.contains(option));
            !says_where && verb.is_some_and(|verb| ABOUT_JOBS.contains(&verb))
        };
        let parts = hint.split('`').enumerate().map(|(place, part)| match place % 2 == 1 {
            true if is_about_jobs(part) => self.there(part.to_owned()),
            _ => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join("`")
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

/// Refuses a session that was typed beside `--embedded`. One that the environment says means no
/// command in particular, and is not heeded there.
///
/// # Errors
/// A usage failure.
pub(super) fn refuse_session_of_embedded(mut given: &ArgMatches) -> Result<(), Failure> {
    while let Some((_, inner)) = given.subcommand() {
        given = inner;
    }
    let is_typed = |option: &str| {
        given.try_contains_id(option).unwrap_or_default()
            && given.value_source(option) == Some(ValueSource::CommandLine)
    };
    if !(is_typed("session") && is_typed("embedded")) {
        return Ok(());
    }
    let text = "`--session` and `--embedded` exclude each other: a throw-away cluster has no \
                session but its own";
    Err(Failure::usage(text).hint("leave one of them out"))
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

    /// The same of those that are about jobs, of whichever session.
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
            Self::Send(args) => Some(&mut args.look),
            Self::Throttle(args) => Some(&mut args.look),
            Self::Explain(args) => Some(&mut args.look),
            Self::Tree(args) => Some(&mut args.look),
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

    #[test]
    fn of_a_hint_each_command_about_jobs_says_where() {
        let reach = Reach { session: Some("work".to_owned()), ..Reach::default() };
        let check = |hint: &str, expected: &str| assert_eq!(reach.hint_there(hint), expected);
        check(
            "`sortie send 3 TEXT` answers, `sortie receive 1`, too",
            "`sortie send 3 TEXT --session work` answers, `sortie receive 1 --session work`, too",
        );
        check("a sortie get; `sortie node get` lists", "a sortie get; `sortie node get` lists");
        check("`sortie get --node b` lists them", "`sortie get --node b` lists them");
        check("odd ` one", "odd ` one");
        let here = Reach::default();
        assert_eq!(here.hint_there("`sortie get` lists"), "`sortie get` lists");
    }
}
