//! Arguments of `send`.

use clap::Args;

use crate::args::output::Look;
use crate::args::reach::Reach;
use crate::task_input::InputFormat;

/// Arguments of `send`.
#[derive(Debug, Args, Clone)]
pub(crate) struct SendArgs {
    /// The child, or a job with one child, or the job of the only child that asks.
    #[arg(value_name = "CHILD")]
    pub(crate) child: String,
    /// The answer, of at most 64 KiB, or the line for the input of a command.
    #[arg(value_name = "TEXT", required_unless_present_any = ["stdin", "eof"])]
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
    /// Send what our standard input gives, up to its end: to a command as it is, as it comes.
    #[arg(long, conflicts_with = "text")]
    pub(crate) stdin: bool,
    /// Write no newline behind TEXT to the input of a command.
    #[arg(long, requires = "text")]
    pub(crate) no_newline: bool,
    /// Close the input of a command, behind what was sent.
    #[arg(long)]
    pub(crate) eof: bool,
    /// What an answer is: a text, or JSON. [default: text]
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with_all = ["no_newline", "eof"])]
    pub(crate) input_format: Option<InputFormat>,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) look: Look,
}
