//! The `sortie` command as a library: a program that calls [`main`] is a full `sortie`, and every
//! node that it runs can run the program's own functions.
//!
//! ```no_run
//! use std::convert::Infallible;
//! use std::process::ExitCode;
//!
//! use sortie::Registry;
//!
//! #[sortie::task]
//! async fn length(text: String) -> Result<usize, Infallible> {
//!     Ok(text.len())
//! }
//!
//! fn main() -> ExitCode {
//!     sortie_cli::main(Registry::new().register(length))
//! }
//! ```
//!
//! What the command line says and promises stands in `docs/cli.md` of the project.

mod args;
mod ask;
mod connect;
mod deliver;
mod exit;
mod failure;
mod feed;
mod keyboard;
mod known_sessions;
mod logging;
mod own_node;
mod program;
mod reconnect;
mod render;
mod settle;
mod several;
mod signals;
mod task_input;
mod terminal;
mod verbs;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use sortie::{Registry, StandardStream, began_without};

use crate::args::Unread;
use crate::failure::{ErrorStyle, Failure};
use crate::render::clean;

/// Does what this program's command line asks for, and says with which status to exit
/// (`docs/cli.md`, section 5). Every node that runs in this program has the functions of the
/// registry: `node run`, the user's own node that is started on demand, and those of `--embedded`.
///
/// It calls [`sortie::init_with`] first and makes a runtime of its own, so it must be called before
/// there is another thread: as the first line of `main`, and not under `#[tokio::main]`. It writes
/// to the standard streams, reads the environment, and leaves the exit to the caller.
pub fn main(registry: Registry) -> ExitCode {
    sortie::init_with(&registry);
    let status = match args::read() {
        Ok(cli) => verbs::perform(cli, &registry),
        Err(Unread::Words(error)) => refuse(&error),
        Err(Unread::Meaning(failure, style)) => {
            failure.report(style);
            failure.cause.status()
        }
    };
    ExitCode::from(status)
}

/// Help and version are answers; everything else is a usage error, in JSON if JSON was asked for.
fn refuse(error: &clap::Error) -> u8 {
    if !error.use_stderr() && began_without(StandardStream::Output) {
        let failure = Failure::no_output();
        failure.report(ErrorStyle::Text);
        return failure.cause.status();
    }
    let is_text = error_style(std::env::args_os()) == ErrorStyle::Text;
    if is_text && error.use_stderr() && std::env::args_os().any(|word| is_unclean(&word)) {
        // What was typed stands in it, and is not to move the cursor.
        let text = error.render().to_string();
        let lines = text.lines().map(|line| clean::one_line(line).into_owned() + "\n");
        let _ = std::io::stderr().write_all(lines.collect::<String>().as_bytes());
        return failure_status();
    }
    if !error.use_stderr() || is_text {
        return match error.print() {
            Err(fault) if !error.use_stderr() => {
                let failure = Failure::output(&fault);
                failure.report(ErrorStyle::Text);
                failure.cause.status()
            }
            // An error output that cannot be written to has nobody who reads it.
            Ok(()) | Err(_) => u8::try_from(error.exit_code()).unwrap_or(2),
        };
    }
    let text = error.render().to_string();
    // What is missing or possible stands in the lines below the first, up to an empty one.
    let lines = text.lines().map(|line| line.trim_start_matches("error: ").trim());
    let lines: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let failure = Failure::usage(lines.join(" "));
    let program = program::name();
    failure
        .hint(format!("`{program} help` lists the verbs, `{program} help VERB` its options"))
        .report(ErrorStyle::Json);
    failure_status()
}

fn is_unclean(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    clean::one_line(&word) != word
}

const fn failure_status() -> u8 {
    exit::Cause::Usage.status()
}

/// Whether JSON was asked for by words that could not be parsed as a whole.
fn error_style(words: impl Iterator<Item = OsString>) -> ErrorStyle {
    let words: Vec<OsString> = words.take_while(|word| word != "--").collect();
    let asks = |pair: &[OsString]| match pair {
        [option, value] => {
            (option == "-o" || option == "--output") && (value == "json" || value == "ndjson")
        }
        _ => false,
    };
    let short = |word: &OsString| {
        ["--json", "-ojson", "-ondjson", "--output=json", "--output=ndjson"]
            .iter()
            .any(|asked| word == *asked)
    };
    if words.iter().any(short) || words.windows(2).any(asks) {
        ErrorStyle::Json
    } else {
        ErrorStyle::Text
    }
}
