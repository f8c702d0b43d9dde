//! Which columns the answer of a verb has: a choice of others is refused before anything is done.

use crate::args::Verb;
use crate::args::nodes::{ClusterVerb, NodeVerb};
use crate::args::sessions::SessionVerb;
use crate::failure::Failure;
use crate::render::listing::{DETACHED_COLUMNS, JOB_COLUMNS, NODE_COLUMNS};
use crate::render::sessions::{COLUMNS as SESSION_COLUMNS, SCOPE_COLUMNS};
use crate::render::sheet::Column;

/// What the answer of a verb is made of.
enum Made {
    /// A list with these columns.
    Of(&'static [Column]),
    /// Something else, of that verb.
    WithoutColumns(&'static str),
    /// Results, whose formats are checked with what is special to them.
    OfResults,
    /// Nothing is printed, by that verb.
    OfNothing(&'static str),
}

impl Verb {
    /// Refuses a choice of columns that the verb's answer does not have.
    ///
    /// # Errors
    /// A usage failure, which names the columns that there are.
    pub(crate) fn check_columns(&self) -> Result<(), Failure> {
        let Some(look) = self.look() else { return Ok(()) };
        match self.answer() {
            Made::Of(columns) => look.wanted().check(columns),
            Made::WithoutColumns(what) => look.refuse_columns(what),
            Made::OfNothing(what) if !look.columns.is_empty() => {
                let text = format!("`{what}` prints nothing, so it has no columns");
                Err(Failure::usage(text).hint("leave `--columns` out"))
            }
            Made::OfNothing(_) | Made::OfResults => Ok(()),
        }
    }

    fn answer(&self) -> Made {
        match self {
            Self::Start(args) if args.dry_run => Made::WithoutColumns("--dry-run"),
            Self::Start(args) if args.detached => Made::Of(DETACHED_COLUMNS),
            Self::Invoke(args) if args.dry_run => Made::WithoutColumns("--dry-run"),
            Self::Invoke(args) if !args.returns_job() => Made::OfResults,
            Self::Receive(_) | Self::Logs(_) => Made::OfResults,
            Self::Start(_)
            | Self::Invoke(_)
            | Self::Get(_)
            | Self::Wait(_)
            | Self::Stop(_)
            | Self::Kill(_)
            | Self::Suspend(_)
            | Self::Resume(_)
            | Self::Remove(_)
            | Self::Throttle(_) => Made::Of(JOB_COLUMNS),
            Self::Explain(_) => Made::WithoutColumns("explain"),
            Self::Tree(_) => Made::WithoutColumns("tree"),
            Self::Doctor(_) => Made::WithoutColumns("doctor"),
            Self::Send(_) => Made::OfNothing("send"),
            Self::Node(verb) => of_node(verb),
            Self::Cluster(ClusterVerb::Init { .. }) => Made::WithoutColumns("cluster init"),
            Self::Cluster(ClusterVerb::Token { .. }) => Made::WithoutColumns("cluster token"),
            Self::Cluster(ClusterVerb::Join { .. } | ClusterVerb::Status { .. }) => {
                Made::Of(NODE_COLUMNS)
            }
            Self::Session(SessionVerb::Close(_)) => Made::OfNothing("session close"),
            Self::Session(SessionVerb::Env(_)) => Made::Of(SCOPE_COLUMNS),
            Self::Session(_) => Made::Of(SESSION_COLUMNS),
            Self::Enter(_) => Made::OfNothing("enter"),
            Self::Watch(_) => Made::OfNothing("watch"),
            Self::Completions { .. } => Made::OfNothing("completions"),
        }
    }
}

const fn of_node(verb: &NodeVerb) -> Made {
    match verb {
        NodeVerb::Get(_) | NodeVerb::Labels(_) => Made::Of(NODE_COLUMNS),
        NodeVerb::Ping(_) => Made::WithoutColumns("node ping"),
        NodeVerb::Run(_) => Made::OfNothing("node run"),
        NodeVerb::Stop(_) => Made::OfNothing("node stop"),
        NodeVerb::Restart(_) => Made::OfNothing("node restart"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Cli;
    use crate::failure::Failure;

    fn check(line: &str) -> Result<(), Failure> {
        let words = std::iter::once("sortie").chain(line.split_whitespace());
        Cli::try_parse_from(words).expect("words of ours").verb.check_columns()
    }

    #[test]
    fn a_column_that_an_answer_does_not_have_is_refused_by_the_words_alone() {
        for line in [
            "start --columns nope -- true",
            "start --detached --columns id -- true",
            "start --dry-run --columns id -- true",
            "invoke --as-job --columns nope -- true",
            "invoke --job-name x --columns nope -- true",
            "get --columns nope",
            "wait 1 --columns id,nope",
            "stop 1 -q --columns nope",
            "kill 1 --columns nope",
            "suspend 1 --columns nope",
            "resume 1 --columns nope",
            "remove 1 --columns nope",
            "throttle 1 -j 2 --columns nope",
            "send 1 x --columns id",
            "explain --columns id",
            "tree --columns id",
            "doctor --columns id",
            "session new --columns nope",
            "session get --columns nope",
            "session connect s --columns nope",
            "session disconnect s --columns nope",
            "session close s --columns id",
            "session env A=1 --columns id",
            "node get --columns nope",
            "node labels a x=y --columns nope",
            "node ping --columns id",
            "node stop --columns id",
            "node restart --columns id",
            "cluster init --columns id",
            "cluster token --columns id",
            "cluster join 127.0.0.1:1 --token t --columns nope",
            "cluster status --columns nope",
            "stop 1 -o json --columns id",
            "session new -o name --columns id",
        ] {
            let failure = check(line).expect_err(line);
            assert_eq!(failure.cause.status(), 2, "{line}");
            assert!(failure.message.contains("column") && failure.hint.is_some(), "{failure:?}");
        }
    }

    #[test]
    fn columns_that_an_answer_has_pass() {
        for line in [
            "start --columns id,STATE,has-more-data -- true",
            "start --detached --columns pid,log -- true",
            "stop 1 -o csv --columns id",
            "stop 1 -q --columns id -o json",
            "session new --columns instance_id",
            "session env --columns name",
            "node labels a --columns labels",
            "send 1 x -o csv",
            "invoke -- true",
            "watch",
        ] {
            assert_eq!(check(line), Ok(()), "{line}");
        }
    }
}
