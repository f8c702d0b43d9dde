//! A standard input that stays open for `send`.

use clap::Args;
use sortie_model::question::PromptMark;
use sortie_model::spec::InputSpec;

/// Whether commands can be written to while they run.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct OpenInput {
    /// Keep the children's standard input open: `sortie send` writes there, and closes it.
    #[arg(long, conflicts_with_all = ["stdin", "task"])]
    pub(crate) open_stdin: bool,
    /// With what an unfinished line ends by which a child asks: it is blocked until it is answered.
    #[arg(long, value_name = "TEXT", requires = "open_stdin", allow_hyphen_values = true)]
    pub(crate) prompt: Option<PromptMark>,
}

impl OpenInput {
    /// Whether there is an open input to which only `send` writes.
    pub(crate) const fn is_for_send(&self) -> bool {
        self.open_stdin && self.prompt.is_none()
    }

    pub(super) fn spec(&self) -> InputSpec {
        let prompt = self.prompt.clone();
        if self.open_stdin { InputSpec::Open { prompt } } else { InputSpec::None }
    }
}
