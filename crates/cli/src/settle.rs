//! Which session is meant that was named without its node; and what a refusal means for it.

use std::time::Duration;

use futures_util::future::join_all;
use sortie::{ErrorCode, HomePaths, SessionInstance, SessionView};
use sortie_model::shell_quote::quote_word;

use crate::args::reach::Reach;
use crate::connect::connect_to;
use crate::failure::{ErrorStyle, Failure};
use crate::known_sessions::{self, Known};
use crate::own_node;

/// How long we wait for what another node says of its sessions.
const LOOK_TIME: Duration = Duration::from_secs(3);
/// Nodes that are named where several sessions have one name.
const NAMED_NODES: usize = 3;

/// A session that was named, and where it was looked for.
#[derive(Debug)]
pub(crate) struct Named {
    paths: HomePaths,
    style: ErrorStyle,
    /// What the user calls it.
    word: String,
    /// What its node was asked for.
    session: String,
    /// None: our own node was asked.
    node: Option<String>,
}

/// Finds the one session that is meant: where its node was not said it may be our own node's or one
/// that the home knows. Asks our own node only where the home knows one, and others only where that
/// leaves several. Answers nothing where no session was named.
///
/// # Errors
/// A usage failure when there are several.
pub(crate) async fn settle(reach: &mut Reach, style: ErrorStyle) -> Result<Option<Named>, Failure> {
    let (Some(word), None) = (reach.session.clone(), reach.embedded) else { return Ok(None) };
    let paths = own_node::home_paths()?;
    if reach.node.is_none()
        && let Some(found) = elsewhere(&paths, &word, style).await?
    {
        (reach.session, reach.node) = (Some(found.instance.to_string()), Some(found.node));
    }
    let session = reach.session.clone().unwrap_or_else(|| word.clone());
    Ok(Some(Named { paths, style, word, session, node: reach.node.clone() }))
}

/// The session on another node that is meant; none when it is our own node's, if it is anywhere.
async fn elsewhere(
    paths: &HomePaths,
    word: &str,
    style: ErrorStyle,
) -> Result<Option<Known>, Failure> {
    let mut known = known_sessions::all(paths, style);
    known.retain(|known| known.is_called(word));
    if known.is_empty() {
        return Ok(None);
    }
    let own = own_node::connect(paths).await?;
    let mut ours = own.sessions().await?;
    own.close().await;
    ours.retain(|view| view.name == word || view.instance.to_string() == word);
    let mut over = without(&mut known, &ours);
    if ours.len().saturating_add(known.len()) > 1 {
        // One that is over leaves nothing to choose.
        let gone = look(paths, known.clone()).await.gone;
        known.retain(|known| !gone.contains(&known.instance));
        over.extend(gone);
    }
    known_sessions::forget(paths, &over, style).await;
    choose(word, &ours, known)
}

/// Takes out those that our own node has, and says which they are: nobody needs to remember them.
pub(crate) fn without(known: &mut Vec<Known>, ours: &[SessionView]) -> Vec<SessionInstance> {
    let is_ours = |known: &mut Known| ours.iter().any(|view| view.instance == known.instance);
    known.extract_if(.., is_ours).map(|known| known.instance).collect()
}

fn choose(word: &str, ours: &[SessionView], known: Vec<Known>) -> Result<Option<Known>, Failure> {
    match (ours, known.as_slice()) {
        // Where our node has several of that name, it says so itself.
        (_, []) => Ok(None),
        ([], [_]) => Ok(known.into_iter().next()),
        (_, [other, ..]) => {
            let mut nodes: Vec<&str> = ours.iter().map(|view| view.node.as_str()).collect();
            nodes.extend(known.iter().map(|known| known.node.as_str()));
            nodes.dedup();
            nodes.truncate(NAMED_NODES);
            let (nodes, node) = (nodes.join(", "), &other.node);
            let failure =
                Failure::usage(format_args!("several sessions are called `{word}`: on {nodes}"));
            let identity = "its identity, which `sortie session get -o wide` shows";
            let on_it = known.iter().filter(|known| known.node == *node).count();
            let hint = match on_it {
                1 => format!("`--node {node}` says which one; so does {identity}"),
                _ => format!("which one is said by {identity}"),
            };
            Err(failure.hint(hint))
        }
    }
}

/// What the nodes of known sessions say of them.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// As they are.
    pub(crate) found: Vec<SessionView>,
    /// Those whose node does not answer.
    pub(crate) silent: Vec<Known>,
    /// Those that their node does not have any more.
    pub(crate) gone: Vec<SessionInstance>,
}

/// Asks the nodes of these sessions, all at once.
pub(crate) async fn look(paths: &HomePaths, known: Vec<Known>) -> Looked {
    let mut nodes: Vec<&str> = known.iter().map(|known| known.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let said = join_all(nodes.into_iter().map(|node| sessions_of(paths, node))).await;
    let mut looked = Looked::default();
    for (node, sessions) in said {
        let here = known.iter().filter(|known| known.node == node);
        match sessions {
            Some(sessions) => looked.hear(here, sessions),
            None => looked.silent.extend(here.cloned()),
        }
    }
    looked
}

impl Looked {
    fn hear<'k>(&mut self, known: impl Iterator<Item = &'k Known>, mut sessions: Vec<SessionView>) {
        for known in known {
            match sessions.iter().position(|view| view.instance == known.instance) {
                Some(place) => self.found.push(sessions.swap_remove(place)),
                None => self.gone.push(known.instance),
            }
        }
    }
}

/// The sessions of another node; none when it does not answer.
async fn sessions_of<'n>(paths: &HomePaths, node: &'n str) -> (&'n str, Option<Vec<SessionView>>) {
    let asked = async {
        let client = connect_to(paths, node).await?;
        let sessions = client.sessions().await?;
        client.close().await;
        Ok::<_, Failure>(sessions)
    };
    let answered = tokio::time::timeout(LOOK_TIME, asked).await;
    (node, answered.ok().and_then(Result::ok))
}

impl Named {
    /// A failure, as somebody reads it who knows the session by its word. One that its node lacks
    /// is forgotten.
    pub(crate) async fn explain(&self, failure: Failure) -> Failure {
        if failure.code == ErrorCode::NoSession.as_str() {
            self.forget().await;
        }
        self.in_its_words(failure)
    }

    fn in_its_words(&self, mut failure: Failure) -> Failure {
        let Self { word, session, node, .. } = self;
        if failure.code == ErrorCode::NoSession.as_str() {
            failure.message = failure.message.replace(session, word);
        }
        if let (true, Some(node)) = (failure.code == ErrorCode::Unreachable.as_str(), node) {
            let why = failure.message.strip_prefix(&format!("{node}: "));
            let why = why.unwrap_or(&failure.message);
            failure.message = format!("session `{word}` on {node}: {why}");
        }
        let parted = [ErrorCode::SessionBusy, ErrorCode::SessionTaken];
        let is_parted = parted.iter().any(|code| code.as_str() == failure.code);
        let Some(node) = node.as_ref().filter(|_| is_parted) else { return failure };
        let [word, node] = [word, node].map(|word| quote_word(word.as_bytes()));
        failure.hint(format!("`sortie session connect {word} --node {node} --take` takes it"))
    }

    async fn forget(&self) {
        let known = known_sessions::all_readable(&self.paths);
        let is_it = |known: &&Known| {
            self.node.as_ref() == Some(&known.node) && known.is_called(&self.session)
        };
        let over: Vec<_> = known.iter().filter(is_it).map(|known| known.instance).collect();
        known_sessions::forget(&self.paths, &over, self.style).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Cause;
    use crate::known_sessions::tests::known;
    use crate::render::sessions::out_of_reach;

    #[test]
    fn of_several_with_one_name_the_user_chooses_also_where_one_is_our_own() {
        let (one, two) = (known("work", 1, "b"), known("work", 2, "c"));
        let ours = [out_of_reach(&known("work", 3, "a"))];
        assert_eq!(choose("work", &[], vec![one.clone()]), Ok(Some(one.clone())));
        assert_eq!(choose("work", &ours, Vec::new()), Ok(None));
        let refused = choose("work", &[], vec![one.clone(), two]).expect_err("there are two");
        assert!(refused.message.contains("on b, c"), "{refused:?}");
        let refused = choose("work", &ours, vec![one]).expect_err("there are two");
        assert_eq!(refused.cause, Cause::Usage);
        assert!(refused.message.contains("on host, b"), "{refused:?}");
        assert!(refused.hint.is_some_and(|hint| hint.contains("`--node b`")));
    }

    #[test]
    fn what_our_own_node_has_is_not_known_elsewhere() {
        let (one, two) = (known("work", 1, "b"), known("work", 2, "c"));
        let mut both = vec![one.clone(), two.clone()];
        assert_eq!(without(&mut both, &[out_of_reach(&one)]), [one.instance]);
        assert_eq!(both, [two]);
    }

    #[test]
    fn what_an_answering_node_does_not_show_is_gone() {
        let (one, two) = (known("work", 1, "b"), known("other", 2, "b"));
        let mut looked = Looked::default();
        looked.hear([&one, &two].into_iter(), vec![out_of_reach(&two)]);
        assert_eq!(looked.found, [out_of_reach(&two)]);
        assert_eq!(looked.gone, [one.instance]);
    }

    #[test]
    fn a_refusal_says_what_to_type_on_this_machine() {
        let it = known("work", 1, "b");
        let named = |node: Option<&str>| Named {
            paths: HomePaths::within(std::path::Path::new("/nowhere")),
            style: ErrorStyle::Text,
            word: "work".to_owned(),
            session: it.instance.to_string(),
            node: node.map(str::to_owned),
        };
        let busy = || {
            let code = ErrorCode::SessionBusy.as_str();
            Failure::new(Cause::NotPermitted, code, "held").hint("as its node says it")
        };
        let hint = named(Some("b")).in_its_words(busy()).hint.expect("a hint");
        assert!(hint.contains("connect work --node b --take"), "{hint}");
        assert_eq!(named(None).in_its_words(busy()), busy());
        let message = format!("no session `{}` on b", it.instance);
        let gone = Failure::new(Cause::NotFound, ErrorCode::NoSession.as_str(), message);
        assert_eq!(named(Some("b")).in_its_words(gone).message, "no session `work` on b");
    }
}
