//! Arguments of `send`.

use clap::Args;

use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::task_input::InputFormat;

/// Arguments of `send`.
#[derive(Debug, Args, Clone)]
pub(crate) struct SendArgs {
    /// The child, or the job of the only child that asks.
    #[arg(value_name = "CHILD")]
    pub(crate) child: String,
    /// The answer, of at most 64 KiB.
    #[arg(value_name = "TEXT", required_unless_present = "stdin", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
    /// Read the answer from our standard input, up to its end.
    #[arg(long, conflicts_with = "text")]
    pub(crate) stdin: bool,
    /// What the answer is: a text, or JSON. [default: text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) input_format: Option<InputFormat>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}
