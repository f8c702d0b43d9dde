//! A standard input that stays open for `send`.

use clap::Args;
use sortie_model::question::PromptMark;
use sortie_model::spec::InputSpec;

use crate::terminal::somebody_at_terminal;

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
    /// Whether only `send` writes to an open input: a prompt is answered at our terminal, too, if
    /// we have one.
    pub(crate) fn is_for_send(&self) -> bool {
        self.open_stdin && (self.prompt.is_none() || !somebody_at_terminal())
    }

    pub(super) fn spec(&self) -> InputSpec {
        let prompt = self.prompt.clone();
        if self.open_stdin { InputSpec::Open { prompt } } else { InputSpec::None }
    }
}
