//! Errors that cross a link: a number, a sentence, a hint. The text is for people only.

use std::fmt;

use serde::{Deserialize, Serialize};
use sortie_model::limits;

/// What went wrong, as a number that is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// A fault of ours.
    Internal,
    /// The request makes no sense as it stands.
    Usage,
    /// An id or a literal name matched nothing.
    NotFound,
    /// No node has that name.
    UnknownNode,
    /// The expression matched no node.
    NoNodes,
    /// The identity may not do that.
    Denied,
    /// The session is not there (any more).
    NoSession,
    /// The key was used with another spec.
    KeyReused,
    /// A bound was reached; the message names it.
    Limit,
    /// What is waited for is blocked on input that nobody has given.
    Deadlock,
    /// The entry is not finished.
    NotFinished,
    /// The verb is about jobs, and this is a child: it has no throttle of its own, and goes with
    /// its job.
    IsChild,
    /// The working directory is not there, or is none.
    BadDirectory,
    /// No function of that name is registered on the session's node.
    UnknownTask,
    /// This node hosts no process children.
    NoGuardian,
    /// The join token is wrong.
    TokenWrong,
    /// The join token was used before.
    TokenUsed,
    /// The join token is too old.
    TokenExpired,
    /// The name belongs to another node.
    NameTaken,
    /// The node has other members or unfinished jobs.
    NotAlone,
    /// Only the node that holds the cluster's CA can do that, and another one was asked.
    NoAuthority,
    /// The other side speaks no common version.
    Version,
    /// The node is shutting down, or the session ended while the request was open.
    ShuttingDown,
    /// A node could not be reached.
    Unreachable,
    /// The data asked for is no longer kept.
    Gone,
    /// The disk is full or broken.
    Storage,
    /// The function of that name has other types on the session's node.
    TaskTypes,
    /// The function of that name cannot run in the background on the session's node.
    NoBackground,
    /// The child asks nothing, or that question no more.
    NotAsking,
    /// Another client holds the session.
    SessionBusy,
    /// The session was disconnected, or taken over, since the client connected.
    SessionTaken,
    /// The entry does not run, so it cannot be suspended: it is as it was.
    NotRunning,
    /// The entry was not told to suspend, so it goes on as it did.
    NotSuspended,
}

impl ErrorCode {
    /// The stable word that JSON shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::UnknownNode => "unknown_node",
            Self::NoNodes => "no_nodes",
            Self::Denied => "denied",
            Self::NoSession => "no_session",
            Self::KeyReused => "key_reused",
            Self::Limit => "limit",
            Self::Deadlock => "deadlock",
            Self::NotFinished => "not_finished",
            Self::IsChild => "is_child",
            Self::BadDirectory => "bad_directory",
            Self::UnknownTask => "unknown_task",
            Self::NoGuardian => "no_guardian",
            Self::TokenWrong => "token_wrong",
            Self::TokenUsed => "token_used",
            Self::TokenExpired => "token_expired",
            Self::NameTaken => "name_taken",
            Self::NotAlone => "not_alone",
            Self::NoAuthority => "no_authority",
            Self::Version => "version",
            Self::ShuttingDown => "shutting_down",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
            Self::Storage => "storage",
            Self::TaskTypes => "task_types",
            Self::NoBackground => "no_background",
            Self::NotAsking => "not_asking",
            Self::SessionBusy => "session_busy",
            Self::SessionTaken => "session_taken",
            Self::NotRunning => "not_running",
            Self::NotSuspended => "not_suspended",
        }
    }

    /// Whether the same request may succeed later or elsewhere.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Limit | Self::ShuttingDown | Self::Unreachable | Self::NoAuthority)
    }
}

/// An error from the other side of a link. Its texts have at most [`limits::ERROR_TEXT_BYTES`]
/// each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct RemoteError {
    /// What went wrong.
    pub code: ErrorCode,
    /// One sentence: what, and where.
    pub message: String,
    /// What to do about it, if there is something.
    pub hint: Option<String>,
}

impl RemoteError {
    /// An error with that sentence, cut to [`limits::ERROR_TEXT_BYTES`].
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: cut(message.into()), hint: None }
    }

    /// The same with a hint, cut likewise.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(cut(hint.into()));
        self
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn cut(mut text: String) -> String {
    if text.len() > limits::ERROR_TEXT_BYTES {
        let mut end = limits::ERROR_TEXT_BYTES - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
