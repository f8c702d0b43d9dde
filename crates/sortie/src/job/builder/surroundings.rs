//! What processes of the job find: their environment, their directory, and what runs before them.

use std::ffi::OsStr;

use sortie_model::question::BadPromptMark;
use sortie_model::spec::{InputSpec, NulByte};

use crate::command::word;
use crate::job::builder::JobBuilder;

impl<T> JobBuilder<T> {
    /// What runs first in each child of a command, by `sh -c`; its output comes first. A job of a
    /// function that has it is refused.
    pub fn init(self, command: impl Into<String>) -> Self {
        self.with(|spec| spec.init = Some(command.into()))
    }

    /// Keeps the standard input of each process child open, so that it can be written to while the
    /// child runs ([`Child::write_input`](crate::Child::write_input)), until it is closed
    /// ([`Child::close_input`](crate::Child::close_input)). A job of a function that has it is
    /// refused.
    pub fn open_input(self) -> Self {
        self.with(|spec| spec.input = InputSpec::Open { prompt: None })
    }

    /// The same, for processes that ask: a child whose output ends with that text, on a line that
    /// is not finished, is blocked until somebody answers it
    /// ([`Session::answer`](crate::Session::answer)) or writes to its input (`docs/semantics.md`,
    /// section 2.3).
    ///
    /// # Errors
    /// [`BadPromptMark`] when it is empty, longer than
    /// [`limits::PROMPT_MARK_BYTES`](crate::limits::PROMPT_MARK_BYTES), or has a newline.
    pub fn open_input_with_prompt(self, mark: &str) -> Result<Self, BadPromptMark> {
        let prompt = Some(mark.parse()?);
        Ok(self.with(|spec| spec.input = InputSpec::Open { prompt }))
    }

    /// The working directory of process children; without it, the one that is set in the session
    /// ([`Session::change_scope`](crate::Session::change_scope)), else that of
    /// [`JobBuilder::inherit_directory`]. A relative one is taken from that of
    /// [`JobBuilder::inherit_directory`] on the session's node, and from the home of the node's
    /// user where there is none, as on all other nodes. One that is not there is an error of the
    /// start on the session's node
    /// ([`ErrorCode::BadDirectory`](crate::ErrorCode::BadDirectory)), and on another one its
    /// child's ([`Reason::Spawn`](crate::Reason::Spawn)).
    pub fn directory(self, directory: impl AsRef<OsStr>) -> Self {
        self.try_with(|spec| {
            spec.directory = Some(word(directory.as_ref())?);
            Ok(())
        })
    }

    /// The directory in which process children on the session's node start, such as
    /// [`std::env::current_dir`]; without it, and on all other nodes, the home of the node's user.
    /// [`JobBuilder::directory`] wins over it.
    pub fn inherit_directory(self, directory: impl AsRef<OsStr>) -> Self {
        self.try_with(|spec| {
            spec.environment.inherited_directory = Some(word(directory.as_ref())?);
            Ok(())
        })
    }

    /// Sets a variable of process children, and of what functions find in
    /// [`TaskContext::env`](crate::TaskContext::env); later calls win. One without a name, or with
    /// `=` in it, is left out.
    pub fn env(self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.try_with(|spec| {
            spec.environment.set.push((word(name.as_ref())?, word(value.as_ref())?));
            Ok(())
        })
    }

    /// The environment that process children on the session's node start from, such as
    /// [`std::env::vars_os`]; without it, the node's clean one, as on all other nodes
    /// (`docs/semantics.md`, section 1.1).
    pub fn inherit_env<N, V>(self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.try_with(|spec| {
            let pairs = variables.into_iter();
            let words =
                pairs.map(|(name, value)| Ok((word(name.as_ref())?, word(value.as_ref())?)));
            spec.environment.inherited = Some(words.collect::<Result<_, NulByte>>()?);
            Ok(())
        })
    }
}
