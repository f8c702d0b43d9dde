//! `sortie enter`: a login shell on a node, in a session of its own; or a shell in a session.

use std::ffi::OsString;
use std::time::Duration;

use sortie::{Registry, Session};

use crate::args::CommandWords;
use crate::args::invoke::{InvokeArgs, LineArgs};
use crate::args::output::{Look, Verdict, When, Whose};
use crate::args::reach::Reach;
use crate::args::terminal::EnterArgs;
use crate::args::values::node_or_address;
use crate::args::work::{Work, node_name};
use crate::connect::Connection;
use crate::exit::Cause;
use crate::failure::{ErrorStyle, Failure};
use crate::keyboard::Keyboard;
use crate::own_node;
use crate::settle::settle;
use crate::signals::Interrupts;
use crate::verbs::invoke::foreground;
use crate::verbs::submit::Submission;
use crate::verbs::unless_interrupted;

/// The login shell of whoever's node it is, in the session that its job is in. Our parent there is
/// the node's guardian, which is the node's program: where neither the `PATH` nor a profile has
/// that, its folder comes last. A profile sets the `PATH` anew, so that is done behind it.
const SHELL: &str = r#"
shell=${SHELL:-/bin/sh}
us=$(readlink "/proc/$PPID/exe" 2>/dev/null)
case ${shell##*/} in
bash | dash | ksh | sh | zsh)
    if [ -x "$us" ] && ! command -v "${us##*/}" >/dev/null; then
        exec "$shell" -l -c 'command -v "$0" >/dev/null && exec "$2" -l
            PATH=$PATH:$1; export PATH; exec "$2"' "${us##*/}" "${us%/*}" "$shell"
    fi ;;
esac
exec "$shell" -l"#;
/// Before it, for the session with the number that follows: the shell itself is no job there.
const IN_SESSION: &str = r#"export SORTIE_SESSION="$1"; unset SORTIE_JOB SORTIE_CHILD"#;

pub(super) async fn run(args: EnterArgs, registry: &Registry) -> Result<u8, Failure> {
    let keyboard = Keyboard::open(args.terminal, "`enter`")?;
    let mut interrupts = Interrupts::listen()?;
    match unless_interrupted(node_of(&args), &mut interrupts).await? {
        Some(node) => enter_node(node, keyboard, interrupts, registry).await,
        None => enter_session(args, keyboard, interrupts).await,
    }
}

/// The node that is meant; none where it is a session.
async fn node_of(args: &EnterArgs) -> Result<Option<String>, Failure> {
    let EnterArgs { place, node, .. } = args;
    if node.is_some() {
        return Ok(None);
    }
    let Some(name) = node_name(place) else {
        let address = place.contains(':').then(|| node_or_address(place)).transpose();
        return address.map_err(Failure::usage);
    };
    let own = own_node::connect(&own_node::home_paths()?).await?;
    let nodes = own.nodes(None).await?;
    own.close().await;
    Ok(nodes.into_iter().any(|node| node.name == name).then(|| place.clone()))
}

/// What is started in the shell are jobs of a session that ends with us, as the shell does.
async fn enter_node(
    node: String,
    keyboard: Keyboard,
    mut interrupts: Interrupts,
    registry: &Registry,
) -> Result<u8, Failure> {
    let reach = Reach { node: Some(node.clone()), ..Reach::default() };
    let opening = async {
        let connection = Connection::open_with(&reach, registry).await?;
        let jobs = connection.client().temporary().await?;
        Ok((connection, jobs))
    };
    let (connection, jobs) = unless_interrupted(opening, &mut interrupts).await?;
    let number = number_of(&jobs)?;
    let script = format!("{IN_SESSION}{SHELL}");
    let args = shell(reach, &["sh", "-c", &script, "sh", &number]);
    let submission = Submission::prepare(&args.work, &args.command.words, &args.reach)?;
    let submission = submission.on_terminal(keyboard);
    let left = foreground(connection, submission, &args, interrupts).await;
    drop(jobs);
    left.map_err(|failure| Failure { message: format!("{node}: {}", failure.message), ..failure })
}

fn number_of(session: &Session) -> Result<String, Failure> {
    let number = session.view_at_start().map(|view| view.id.to_string());
    number.ok_or_else(|| Failure::internal("the node opened a session and did not show it"))
}

async fn enter_session(
    args: EnterArgs,
    keyboard: Keyboard,
    mut interrupts: Interrupts,
) -> Result<u8, Failure> {
    let EnterArgs { place, node, .. } = args;
    let is_known_node = node.is_some();
    let mut reach = Reach { session: Some(place.clone()), node, embedded: None };
    let settling = settle(&mut reach, ErrorStyle::Text);
    let named = unless_interrupted(settling, &mut interrupts).await?;
    let connecting = Connection::open(&reach);
    let connection = unless_interrupted(connecting, &mut interrupts).await?;
    let args = shell(reach, &["sh", "-c", SHELL]);
    let submission = Submission::prepare(&args.work, &args.command.words, &args.reach)?;
    let submission = submission.on_terminal(keyboard);
    let left = foreground(connection, submission, &args, interrupts).await;
    match (left, named) {
        (Err(failure), _) if failure.code == NO_SESSION && !is_known_node => {
            let text = format!("`{place}` is neither a node nor a session");
            Err(Failure::new(Cause::NotFound, NO_SESSION, text)
                .hint("`sortie node get` lists the nodes, `sortie session get` the sessions"))
        }
        (Err(failure), Some(named)) => Err(named.explain(failure).await),
        (left, _) => left,
    }
}

const NO_SESSION: &str = sortie::ErrorCode::NoSession.as_str();

/// `invoke -t` of a shell.
fn shell(reach: Reach, words: &[&str]) -> InvokeArgs {
    let look = Look {
        output: None,
        json: false,
        columns: Vec::new(),
        quiet: false,
        verbose: false,
        color: When::Auto,
        whose: Whose::default(),
        session: None,
        reach: reach.clone(),
    };
    InvokeArgs {
        work: Work { drain: Some(Duration::ZERO), ..Work::default() },
        as_job: false,
        attach: false,
        tty: true,
        terminal: Default::default(),
        dry_run: false,
        lines: LineArgs { gather: false, prefix: false, no_prefix: false },
        reach,
        verdict: Verdict { max_status: false, no_fail: false, allow_empty: false },
        look,
        command: CommandWords { words: words.iter().map(OsString::from).collect() },
    }
}
