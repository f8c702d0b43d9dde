//! A command: a program and its arguments, or a script.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use sortie_model::shell_quote::show_command;
use sortie_model::spec::{BodySpec, JobSpec, NulByte, OsBytes};

/// A program and its arguments, executed without a shell; or a script with its arguments.
///
/// ```
/// use sortie::Command;
///
/// let sum = Command::new("sha256sum").arg("--binary").arg("{}");
/// let script = Command::script("#!/bin/sh\necho \"$1\"\n").arg("hello");
/// # let _ = (sum, script);
/// ```
///
/// In a map, `{}`, `{#}` and `{node}` in any word stand for the item, its number from 1 and the
/// node (`docs/semantics.md`, section 3.1). A word with a NUL byte is refused when the job is
/// started, and so are words and a script that pass
/// [`limits::SPEC_BYTES`](crate::limits::SPEC_BYTES) together with the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    head: Head,
    arguments: Vec<Result<OsBytes, NulByte>>,
    shown: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Head {
    Program(Result<OsBytes, NulByte>),
    Script(Bytes),
}

impl Command {
    /// The program, looked up on the executing node's `PATH` unless it has a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { head: Head::Program(word(program.as_ref())), arguments: Vec::new(), shown: None }
    }

    /// A script's text: written to a file on the executing node and run by the interpreter that its
    /// `#!` line names, else by `sh`.
    pub fn script(text: impl Into<Bytes>) -> Self {
        Self { head: Head::Script(text.into()), arguments: Vec::new(), shown: None }
    }

    /// One argument more.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(word(argument.as_ref()));
        self
    }

    /// Arguments more, in order.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| word(argument.as_ref())));
        self
    }

    /// What `get` shows as the command, cut to
    /// [`limits::COMMAND_SHOWN_BYTES`](crate::limits::COMMAND_SHOWN_BYTES); without it the words,
    /// quoted as a shell would need them.
    #[must_use]
    pub fn shown_as(mut self, text: impl Into<String>) -> Self {
        self.shown = Some(text.into());
        self
    }

    /// A submission of this command with every other choice at its default.
    pub(crate) fn into_spec(self) -> Result<JobSpec, NulByte> {
        let Self { head, arguments, shown } = self;
        let arguments: Vec<OsBytes> = arguments.into_iter().collect::<Result<_, _>>()?;
        let (words, script) = match head {
            Head::Program(program) => (std::iter::once(program?).chain(arguments).collect(), None),
            Head::Script(text) => (arguments, Some(text)),
        };
        let words: Vec<OsBytes> = words;
        let command = shown.unwrap_or_else(|| {
            let program = script.is_some().then_some(&b"script"[..]);
            show_command(program.into_iter().chain(words.iter().map(OsBytes::as_bytes)))
        });
        let body = match script {
            None => BodySpec::Command { words },
            Some(text) => BodySpec::Script { text, arguments: words },
        };
        Ok(JobSpec::new(command, body))
    }
}

pub(crate) fn word(text: &OsStr) -> Result<OsBytes, NulByte> {
    OsBytes::try_from(Bytes::copy_from_slice(text.as_bytes()))
}
