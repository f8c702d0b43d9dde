//! What a verb ends with when it cannot do its work: one sentence, a hint, and the cause that
//! decides the exit status.

use std::fmt;
use std::io::{self, Write};

use sortie::answer::Trouble;
use sortie::{
    AnswerError, ConnectError, ErrorCode, HomeError, NodeStartError, ReachStep, RequestError,
};

use sortie_model::selector::Selector;

use crate::args::reach::Reach;
use crate::exit::Cause;
use crate::program::with_own_name;
use crate::render::clean::one_line;

/// Why a verb could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Decides the exit status.
    pub(crate) cause: Cause,
    /// The stable word that JSON shows.
    pub(crate) code: &'static str,
    /// One sentence.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// The request makes no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Cause::Usage, "usage", message)
    }

    /// A fault of ours or of the machine.
    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self::new(Cause::Internal, "internal", message)
    }

    /// No node could be reached.
    pub(crate) fn unreachable(message: impl fmt::Display) -> Self {
        Self::new(Cause::NotReached, "unreachable", message)
    }

    /// A signal ended the command.
    pub(crate) fn interrupted(message: impl fmt::Display) -> Self {
        Self::new(Cause::Interrupted, "interrupted", message)
    }

    /// An expression that matches no node, which is no error.
    pub(crate) fn no_node(expression: &str) -> Self {
        let message = format!("no node matches `{expression}`");
        Self::new(Cause::NothingMatches, ErrorCode::NoNodes.as_str(), message)
            .hint("`sortie node get` lists the nodes and their labels")
    }

    /// The time for a wait is over, and what was waited for is not.
    pub(crate) fn wait_ran_out() -> Self {
        Self::new(Cause::WaitRanOut, "wait_ran_out", "the wait ran out")
    }

    pub(crate) fn new(cause: Cause, code: &'static str, message: impl fmt::Display) -> Self {
        Self { cause, code, message: message.to_string(), hint: None }
    }

    /// The same with one more hint.
    pub(crate) fn hint_also(self, hint: &str) -> Self {
        let hint =
            self.hint.as_ref().map_or_else(|| hint.to_owned(), |own| format!("{own}; {hint}"));
        self.hint(hint)
    }

    /// The same with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a hint whose commands go to that node and session.
    pub(crate) fn there(mut self, reach: &Reach) -> Self {
        self.hint = self.hint.map(|hint| reach.hint_there(&hint));
        self
    }

    /// The same about that node, where it could not be reached.
    pub(crate) fn of(mut self, node: &str) -> Self {
        if self.cause == Cause::NotReached {
            self.message = format!("{node}: {}", self.message);
        }
        self
    }

    /// The same once something was started: then a node that cannot be reached is one that was
    /// lost.
    pub(crate) fn after_a_start(mut self) -> Self {
        if self.cause == Cause::NotReached {
            self.cause = Cause::NodeLost;
        }
        self
    }

    /// The same of a command in the foreground, whose session ends with its connection.
    pub(crate) fn in_a_temporary_session(mut self) -> Self {
        if self.hint.as_deref() == Some(AFTER_A_LOSS) {
            self.hint = Some(NOTHING_AFTER_A_LOSS.to_owned());
        }
        self
    }

    /// The same where one entry was wanted: a glob or a range that names nothing is no error there
    /// either.
    pub(crate) fn where_one_is_wanted(mut self, selector: &Selector) -> Self {
        if self.cause == Cause::NotFound && !selector.must_name_something() {
            self.cause = Cause::NothingMatches;
        }
        self
    }

    /// Our standard output was closed when we began: nothing is done, so that nothing is lost.
    pub(crate) fn no_output() -> Self {
        Self::new(Cause::NoOutput, "no_output", "our standard output is closed")
            .hint("send it to a file, or to /dev/null if nobody is to read it")
    }

    /// Our standard input was closed when we began.
    pub(crate) fn no_input() -> Self {
        Self::usage("our standard input is closed, and an option reads it")
            .hint("give it a file, or `</dev/null` for nothing")
    }

    /// A failure to write our output. A reader that is gone is no news to anybody.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Cause::OutputClosed, "output_closed", "our output was closed");
        }
        Self::internal(format_args!("cannot write our output: {error}"))
    }

    /// A selector or an entry that could not be served, while others were.
    pub(crate) fn of_trouble(trouble: &Trouble) -> Self {
        let code = trouble.error.code;
        let message = if trouble.error.message.contains(&trouble.about) {
            trouble.error.message.clone()
        } else {
            format!("{}: {}", trouble.about, trouble.error.message)
        };
        Self {
            cause: cause_of(code),
            code: code.as_str(),
            message,
            hint: trouble.error.hint.clone(),
        }
    }

    /// Says it on stderr. A stderr that cannot be written to has nobody who listens.
    pub(crate) fn report(&self, style: ErrorStyle) {
        if self.cause == Cause::OutputClosed {
            return;
        }
        let text = match style {
            ErrorStyle::Text => self.as_text(),
            ErrorStyle::Json => self.as_json(),
        };
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    fn as_text(&self) -> String {
        let mut text = format!("sortie: {}\n", said(&self.message));
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  hint: {}\n", said(hint)));
        }
        text
    }

    fn as_json(&self) -> String {
        format!("{}\n", serde_json::json!({ "schema": 1, "error": self.as_value() }))
    }

    /// As the field `error` of a document.
    pub(crate) fn as_value(&self) -> serde_json::Value {
        serde_json::json!({
            "code": self.code,
            "message": said(&self.message),
            "hint": self.hint.as_deref().map(said),
        })
    }
}

/// A sentence as it is said: one line, with its commands as people type them here.
fn said(sentence: &str) -> String {
    with_own_name(&one_line(sentence))
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let cause = match error {
            RequestError::Lost => Cause::NodeLost,
            _ => cause_of(error.code()),
        };
        let hint = match error {
            RequestError::Lost => Some(AFTER_A_LOSS),
            _ => error.hint().or_else(|| hint_for_code(error.code())),
        };
        let hint = hint.map(str::to_owned);
        Self { cause, code: error.code().as_str(), message: chain(&error), hint }
    }
}

/// What to do when a node is gone in the middle of a request.
const AFTER_A_LOSS: &str = "it may have been done: `sortie get` says so, and starts a node of \
                            your own again if that is the one that ended";

/// The same where nothing of it is there any more.
const NOTHING_AFTER_A_LOSS: &str = "its session ended with the connection; what is started in \
                                    one that lasts, by `sortie start` or with `--session`, stays \
                                    there";

/// What to do about a refusal of which the node itself knows no more.
const fn hint_for_code(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnknownTask => Some("a node has the functions of the program that started it"),
        _ => None,
    }
}

impl From<AnswerError> for Failure {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Request(error) => error.into(),
            error => Self::usage(chain(&error)),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let hint = hint_for(&error);
        let cause = match &error {
            ConnectError::Home(error) if error.is_mistake() => Cause::Usage,
            ConnectError::Home(_) => Cause::Internal,
            _ => cause_of(error.code()),
        };
        Self { cause, code: error.code().as_str(), message: chain(&error), hint }
    }
}

impl From<NodeStartError> for Failure {
    fn from(error: NodeStartError) -> Self {
        let failure = match error.is_mistake() {
            true => Self::usage(chain(&error)),
            false => Self::internal(chain(&error)),
        };
        match error {
            NodeStartError::Home(HomeError::InUse { .. }) => {
                failure.hint("`sortie node stop` ends that one; `--home DIR` is another home")
            }
            NodeStartError::Home(error) if is_out_of_reach(&error) => failure.hint(OUT_OF_REACH),
            NodeStartError::Start(_) if failure.cause == Cause::Usage => failure.hint(OUT_OF_REACH),
            _ => failure,
        }
    }
}

/// What to do about a home of which something cannot be read or written.
pub(crate) const OUT_OF_REACH: &str =
    "make it readable and writable for yourself, or set SORTIE_HOME to a folder of yours";

/// Whether something of the home is there and not ours to use.
fn is_out_of_reach(error: &HomeError) -> bool {
    matches!(error, HomeError::Read { .. } | HomeError::Write { .. }) && error.is_mistake()
}

/// What to do when a node could not be connected to.
fn hint_for(error: &ConnectError) -> Option<String> {
    if let ConnectError::Home(error) = error
        && is_out_of_reach(error)
    {
        return Some(OUT_OF_REACH.to_owned());
    }
    let hint = match (error, error.step()?) {
        (ConnectError::Unresponsive { process: Some(process) }, _) => {
            return Some(format!(
                "`kill -CONT {process}` wakes it if it was stopped, `kill -9 {process}` ends it; \
                 the next command that needs a node starts another"
            ));
        }
        (_, ReachStep::Resolve) => "check the name, or use an IP address",
        (error, ReachStep::Connect) if error.nothing_listens() => {
            "start the node there: `sortie node run`; `sortie node get` shows where each node is"
        }
        (_, ReachStep::Connect) => "`sortie doctor` on that machine looks at its node",
        (_, ReachStep::Authenticate) => {
            "both must be members of one cluster: `sortie cluster join`"
        }
        (_, ReachStep::Authorise) => "ask the owner of the cluster",
    };
    Some(hint.to_owned())
}

/// An error with what caused it: `this: that: the other`.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}

/// How errors are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorStyle {
    /// A sentence.
    Text,
    /// One JSON object a line, because the output is JSON too.
    Json,
}

impl ErrorStyle {
    /// Says on stderr what is no error and changes no exit status.
    pub(crate) fn notice(self, code: &'static str, sentence: impl fmt::Display) {
        Failure::new(Cause::NothingMatches, code, sentence).report(self);
    }
}

/// What an error of a node means for the exit status.
pub(crate) const fn cause_of(code: ErrorCode) -> Cause {
    match code {
        ErrorCode::NotFound | ErrorCode::UnknownNode | ErrorCode::NoSession => Cause::NotFound,
        ErrorCode::NoNodes => Cause::NothingMatches,
        ErrorCode::Denied
        | ErrorCode::NoAuthority
        | ErrorCode::SessionBusy
        | ErrorCode::SessionTaken
        | ErrorCode::TokenWrong
        | ErrorCode::TokenUsed
        | ErrorCode::TokenExpired => Cause::NotPermitted,
        ErrorCode::Usage
        | ErrorCode::KeyReused
        | ErrorCode::NotFinished
        | ErrorCode::IsChild
        | ErrorCode::BadDirectory
        | ErrorCode::UnknownTask
        | ErrorCode::TaskTypes
        | ErrorCode::NoBackground
        | ErrorCode::NotAsking
        | ErrorCode::NotRunning
        | ErrorCode::NotSuspended
        | ErrorCode::NameTaken
        | ErrorCode::NotAlone => Cause::Usage,
        ErrorCode::Deadlock => Cause::Deadlock,
        ErrorCode::Gone => Cause::NoLongerKept,
        ErrorCode::Unreachable | ErrorCode::Version => Cause::NotReached,
        ErrorCode::ShuttingDown => Cause::NodeLost,
        _ => Cause::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_clean_line_in_either_style() {
        let failure = Failure::usage("no \u{1b}[31mnode\n`x`").hint("try `*`");
        assert_eq!(failure.as_text(), "sortie: no [31mnode `x`\n  hint: try `*`\n");
        assert_eq!(
            failure.as_json(),
            "{\"schema\":1,\"error\":{\"code\":\"usage\",\"message\":\"no [31mnode `x`\",\
             \"hint\":\"try `*`\"}}\n"
        );
    }

    #[test]
    fn two_functions_of_one_name_are_a_mistake_that_the_user_can_mend() {
        let failure = Failure::from(NodeStartError::TaskName("count".to_owned()));
        assert_eq!(failure.cause, Cause::Usage);
        assert!(failure.message.contains("`count`"), "{failure:?}");
    }

    #[test]
    fn a_home_that_is_not_ours_to_use_is_a_mistake_and_a_broken_disk_is_none() {
        let read = |kind: io::ErrorKind| HomeError::Read { path: "/h".into(), source: kind.into() };
        let failures = |kind| {
            let started = Failure::from(NodeStartError::Home(read(kind)));
            [started, Failure::from(ConnectError::Home(read(kind)))]
        };
        for failure in failures(io::ErrorKind::PermissionDenied) {
            assert_eq!(failure.cause, Cause::Usage);
            assert_eq!(failure.hint.as_deref(), Some(OUT_OF_REACH));
        }
        for failure in failures(io::ErrorKind::StorageFull) {
            assert_eq!((failure.cause, failure.hint), (Cause::Internal, None));
        }
        let exposed = HomeError::Exposed { what: "read", path: "/h/ca.pem".into() };
        let failure = Failure::from(NodeStartError::Home(exposed));
        assert!(failure.message.ends_with("`chmod go= /h/ca.pem`"), "{failure:?}");
    }

    #[test]
    fn what_a_lost_node_leaves_of_a_foreground_command_is_nothing() {
        let lost = || Failure::from(RequestError::Lost);
        assert!(lost().hint.is_some_and(|hint| hint.contains("`sortie get`")));
        let hint = lost().in_a_temporary_session().hint.expect("a hint");
        assert!(hint.contains("`sortie start`") && !hint.contains("`sortie get`"), "{hint}");
        let other = Failure::usage("x").hint("y");
        assert_eq!(other.clone().in_a_temporary_session(), other);
    }

    #[test]
    fn a_node_that_is_gone_is_told_apart_from_one_that_says_nothing() {
        let hung = Failure::from(ConnectError::Unresponsive { process: Some(7) });
        assert_eq!(hung.cause, Cause::NotReached);
        assert!(hung.message.contains("(process 7)"), "{hung:?}");
        assert!(hung.hint.is_some_and(|hint| hint.contains("`kill -9 7`")));
        assert_eq!(hint_for(&ConnectError::NotRunning), None);
    }

    #[test]
    fn one_entry_that_is_wanted_is_missing_only_where_it_was_named() {
        let failure = |selector: &str| {
            let selector: Selector = selector.parse().expect("a selector");
            let missing = Failure::new(Cause::NotFound, "not_found", "nothing");
            missing.where_one_is_wanted(&selector).cause.status()
        };
        assert_eq!(["7", "web", "last"].map(failure), [4, 4, 4]);
        assert_eq!(["web*", "3-7", "all"].map(failure), [0, 0, 0]);
    }

    #[test]
    fn a_closed_output_is_told_apart_from_a_broken_one() {
        let closed = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.cause, Cause::OutputClosed);
        assert_eq!(Failure::output(&io::ErrorKind::StorageFull.into()).cause, Cause::Internal);
    }
}
