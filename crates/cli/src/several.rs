//! Several sessions in one `--session`: names with commas between, and globs
//! (`docs/cli.md`, section 3).

use std::time::{Duration, Instant};

use sortie::{ErrorCode, NodeName, SessionInstance, SessionView};
use sortie_model::selector::Glob;

use crate::args::Verb;
use crate::args::reach::Reach;
use crate::connect::connect_to;
use crate::exit::Cause;
use crate::failure::{ErrorStyle, Failure};
use crate::known_sessions::{self, Known};
use crate::own_node;
use crate::settle::without;

/// One of the sessions that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    instance: SessionInstance,
    /// None on the node that is asked anyway.
    node: Option<String>,
    /// How its ids are shown: its name, and its node where several have that name.
    pub(crate) label: String,
}

/// The sessions that are meant, in the order of the words, each once; none where one is named, or
/// none.
///
/// # Errors
/// A word that names no session, or a node that is not reached; nothing was done then.
pub(crate) async fn several(
    reach: &Reach,
    style: ErrorStyle,
) -> Result<Option<Vec<Meant>>, Failure> {
    let (Some(words), None) = (&reach.session, reach.embedded) else { return Ok(None) };
    let is_one = !words.contains(',') && Glob(words.clone()).is_literal();
    if is_one || words.is_empty() {
        return Ok(None);
    }
    let paths = own_node::home_paths()?;
    let client = match &reach.node {
        None => own_node::connect(&paths).await?,
        Some(node) => connect_to(&paths, node).await?,
    };
    let ours = client.sessions().await?;
    client.close().await;
    let mut known = Vec::new();
    if reach.node.is_none() {
        known = known_sessions::all(&paths, style);
        without(&mut known, &ours);
    }
    let here = ours.into_iter().filter(|view| !view.temporary).map(Found::Here);
    choose(words, &here.chain(known.into_iter().map(Found::There)).collect::<Vec<_>>()).map(Some)
}

/// A session that there is.
#[derive(Debug)]
enum Found {
    /// On the node that is asked.
    Here(SessionView),
    /// On another one, as the home knows it.
    There(Known),
}

impl Found {
    fn is_called(&self, word: &str) -> bool {
        match self {
            Self::Here(view) => view.is_called(word),
            Self::There(known) => known.is_called(word),
        }
    }

    const fn name(&self) -> &String {
        match self {
            Self::Here(view) => &view.name,
            Self::There(known) => &known.name,
        }
    }

    const fn instance(&self) -> SessionInstance {
        match self {
            Self::Here(view) => view.instance,
            Self::There(known) => known.instance,
        }
    }

    const fn host(&self) -> &NodeName {
        match self {
            Self::Here(view) => &view.node,
            Self::There(known) => &known.host,
        }
    }

    fn node(&self) -> Option<String> {
        match self {
            Self::Here(_) => None,
            Self::There(known) => Some(known.node.clone()),
        }
    }
}

fn choose(words: &str, there: &[Found]) -> Result<Vec<Meant>, Failure> {
    let mut meant: Vec<&Found> = Vec::new();
    for word in words.split(',') {
        let glob = Glob(word.to_owned());
        let is_meant = |it: &&Found| match glob.is_literal() {
            true => it.is_called(word),
            false => glob.matches(it.name()),
        };
        let matches: Vec<&Found> = there.iter().filter(is_meant).collect();
        if matches.is_empty() && glob.is_literal() {
            let text = format!("there is no session `{word}`; nothing was done");
            let failure = Failure::new(Cause::NotFound, ErrorCode::NoSession.as_str(), text);
            return Err(failure.hint("`sortie session get` lists them"));
        }
        for found in matches {
            if !meant.iter().any(|other| other.instance() == found.instance()) {
                meant.push(found);
            }
        }
    }
    let is_twice = |name: &str| meant.iter().filter(|it| it.name() == name).count() > 1;
    let label = |it: &Found| match is_twice(it.name()) {
        true => format!("{}@{}", it.name(), it.host()),
        false => it.name().clone(),
    };
    let meant =
        meant.iter().map(|it| Meant { instance: it.instance(), node: it.node(), label: label(it) });
    Ok(meant.collect())
}

impl Meant {
    /// The same verb in this session alone; `spent` of its time is over.
    fn verb(&self, verb: &Verb, spent: Duration) -> Verb {
        let mut one = verb.clone();
        if let Some(reach) = one.reach_mut() {
            reach.session = Some(self.instance.to_string());
            if self.node.is_some() {
                reach.node.clone_from(&self.node);
            }
        }
        if let Some(look) = one.look_mut() {
            look.session = Some(self.label.clone());
        }
        if let Some(timeout) = one.timeout_mut() {
            *timeout = timeout.saturating_sub(spent);
        }
        one
    }
}

/// Does a verb in each of these sessions, one after the other.
///
/// # Errors
/// A usage failure for a verb that goes on in one session at a time, or where none is meant.
pub(crate) async fn in_each(
    verb: &Verb,
    meant: &[Meant],
    style: ErrorStyle,
    run: impl AsyncFn(Verb) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    verb.check_several()?;
    if meant.is_empty() {
        let (code, text) = (ErrorCode::NoSession.as_str(), "no session matches; nothing was done");
        let failure = Failure::new(Cause::NothingMatches, code, text);
        return Err(failure.hint("`sortie session get` lists them"));
    }
    let mut together = Together::begin();
    for one in meant {
        let done = run(one.verb(verb, together.since.elapsed())).await;
        if !together.add((done, one), style) {
            break;
        }
    }
    Ok(together.status)
}

impl Verb {
    /// Refuses what goes on in one session at a time.
    fn check_several(&self) -> Result<(), Failure> {
        let name = match self {
            Self::Invoke(_) => "invoke",
            Self::Send(_) => "send",
            Self::Watch(_) => "watch",
            Self::Receive(args) if args.follow => "receive --follow",
            Self::Logs(args) if args.follow => "logs --follow",
            Self::Wait(args) if args.any || args.count.is_some() => "wait --any",
            Self::Start(args) if args.work.reads_stdin() => "start with our standard input",
            _ => return Ok(()),
        };
        let text = format!("`{name}` is for one session, and `--session` names several");
        Err(Failure::usage(text).hint("name one; `sortie session get` lists them"))
    }

    fn timeout_mut(&mut self) -> Option<&mut Duration> {
        match self {
            Self::Wait(args) => args.timeout.as_mut(),
            Self::Receive(args) | Self::Logs(args) => args.timeout.as_mut(),
            _ => None,
        }
    }
}

/// What a verb came to in one session after the other: the status that weighs most.
#[derive(Debug)]
struct Together {
    since: Instant,
    status: u8,
}

impl Together {
    fn begin() -> Self {
        Self { since: Instant::now(), status: 0 }
    }

    /// A session is done. Says whether the next one follows: not behind an interruption, or when
    /// nobody reads our output any more.
    fn add(&mut self, (done, meant): (Result<u8, Failure>, &Meant), style: ErrorStyle) -> bool {
        let (status, last) = match done {
            Ok(status) => (status, status == Cause::Interrupted.status()),
            Err(mut failure) => {
                let ends = [Cause::Interrupted, Cause::OutputClosed, Cause::NoOutput];
                failure.message = format!("session `{}`: {}", meant.label, failure.message);
                failure.report(style);
                (failure.cause.status(), ends.contains(&failure.cause))
            }
        };
        if last || weight(status) > weight(self.status) {
            self.status = status;
        }
        !last
    }
}

/// What could not be done weighs more than a wait that ran out, and that more than children that
/// did not end well.
const fn weight(status: u8) -> u8 {
    match status {
        0 => 0,
        100..=102 => 1,
        124 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use sortie_model::SessionId;

    use super::*;
    use crate::known_sessions::tests::known;
    use crate::render::sessions::out_of_reach;

    fn there() -> Vec<Found> {
        let on = |name: &str, number: usize, host: &str| Known {
            host: host.parse().expect("a name"),
            ..known(name, number, host)
        };
        let here = |number: u32, name: &str| {
            let view = out_of_reach(&on(name, number as usize, "a"));
            Found::Here(SessionView { id: SessionId(number), ..view })
        };
        vec![
            here(1, "default"),
            here(2, "web"),
            Found::There(on("web", 3, "b")),
            Found::There(on("worker", 4, "c")),
        ]
    }

    fn labels(words: &str) -> Vec<String> {
        let meant = choose(words, &there()).expect("sessions");
        meant.into_iter().map(|it| it.label).collect()
    }

    #[test]
    fn each_session_is_meant_once_in_the_order_of_the_words() {
        assert_eq!(labels("worker,default,worker"), ["worker", "default"]);
        assert_eq!(labels("w*"), ["web@a", "web@b", "worker"]);
        assert_eq!(labels("W?RKER,web"), ["worker", "web@a", "web@b"]);
        assert_eq!(labels("x*"), Vec::<String>::new());
        assert_eq!(labels("2,1"), ["web", "default"]);
        assert_eq!(labels(&format!("{},default", there()[2].instance())), ["web", "default"]);
    }

    #[test]
    fn a_word_that_names_nothing_is_an_error_before_anything_is_done() {
        for words in ["web,none", "none,web", "web,"] {
            let failure = choose(words, &there()).expect_err("no such session");
            assert_eq!(failure.cause, Cause::NotFound, "{words}");
        }
    }

    #[test]
    fn what_could_not_be_done_decides_the_status() {
        let meant = choose("default", &there()).expect("a session").remove(0);
        let mut together = Together::begin();
        for status in [0, 100, 124, 4, 100] {
            assert!(together.add((Ok(status), &meant), ErrorStyle::Text));
        }
        assert_eq!(together.status, 4);
        let mut together = Together::begin();
        let interrupted = Err(Failure::interrupted("interrupted"));
        assert!(!together.add((interrupted, &meant), ErrorStyle::Text));
        assert_eq!(together.status, 130);
    }
}
