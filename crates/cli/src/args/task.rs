//! `--task`: a function of the node's program instead of a command, and what it is given.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use bytes::Bytes;
use clap::Args;
use sortie_model::limits;
use sortie_model::spec::{BodySpec, RunIn};

use crate::args::FileOrStdin;
use crate::failure::Failure;
use crate::feed::Source;
use crate::task_input::{self, InputFormat};

/// What makes sense for processes only.
const OF_PROCESSES: [&str; 8] =
    ["script", "stdin", "init", "chdir", "env", "env_file", "clean_env", "drain"];
/// JSON that is read for one input, in bytes: it may be longer than the value that it stands for.
const WRITTEN_BYTES: usize = 4 * limits::VALUE_BYTES;

/// A function instead of a command.
#[derive(Debug, Args, Clone, Default)]
#[command(next_help_heading = "Functions")]
pub(crate) struct Task {
    /// Run the function that the nodes' program registers under this name, instead of a command.
    #[arg(long, value_name = "NAME", conflicts_with_all = OF_PROCESSES)]
    pub(crate) task: Option<String>,
    /// Its input, of at most 4 MiB: JSON, `@FILE`, or `-` for our standard input; `null` if not
    /// given.
    #[arg(long, value_name = "JSON", requires = "task", conflicts_with = "map")]
    #[arg(allow_hyphen_values = true)]
    pub(crate) input: Option<OsString>,
    /// What the input, or each line of `--map`, is: JSON, or a text. [default: json]
    #[arg(long, value_name = "FORMAT", value_enum, requires = "task")]
    pub(crate) input_format: Option<InputFormat>,
    /// Run it in a process of its own, which it can crash without harm to the node.
    #[arg(long, requires = "task")]
    pub(crate) background: bool,
}

impl Task {
    /// How the items of a map are written, if they are inputs of a function.
    pub(crate) fn format_of_items(&self) -> Option<InputFormat> {
        self.task.is_some().then(|| self.format())
    }

    fn format(&self) -> InputFormat {
        self.input_format.unwrap_or_default()
    }

    /// The body that calls the function of that name; a map's inputs follow later. Reads the file
    /// or the standard input that the input is in.
    pub(crate) fn body(&self, name: &str, words: &[OsString]) -> Result<BodySpec, Failure> {
        if !words.is_empty() {
            return Err(Failure::usage("`--task` and a command exclude each other")
                .hint("the input of a function is `--input JSON`"));
        }
        Ok(BodySpec::Task {
            name: name.to_owned(),
            input: self.input()?,
            types: None,
            run_in: if self.background { RunIn::Background } else { RunIn::Thread },
        })
    }

    fn input(&self) -> Result<Bytes, Failure> {
        let Some(word) = &self.input else {
            return task_input::nothing().map_err(Failure::usage);
        };
        let (what, written) = match source_of(word) {
            None => ("the input".to_owned(), word.as_bytes().to_vec()),
            Some(from) => {
                let source = Source::open(&from)?;
                (source.name().to_owned(), source.read_whole(WRITTEN_BYTES)?)
            }
        };
        self.format().encode(&written).map_err(|bad| {
            let failure = Failure::usage(format_args!("{what} {bad}"));
            match self.format() {
                InputFormat::Json => failure
                    .hint("a text is `--input '\"text\"'`, or `--input text --input-format text`"),
                InputFormat::Text => failure,
            }
        })
    }
}

/// Where the input is, if the word is not the input itself.
fn source_of(word: &OsStr) -> Option<FileOrStdin> {
    match word.as_bytes() {
        b"-" => Some(FileOrStdin::Stdin),
        [b'@', path @ ..] => Some(FileOrStdin::File(OsString::from_vec(path.to_vec()).into())),
        _ => None,
    }
}
