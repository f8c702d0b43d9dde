//! The `sortie` command: command line, node daemon, and throw-away cluster in one binary.

mod args;
mod connect;
mod deliver;
mod exit;
mod failure;
mod feed;
mod logging;
mod own_node;
mod render;
mod signals;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use sortie::{StandardStream, began_without};

use crate::args::Cli;
use crate::failure::{ErrorStyle, Failure};

fn main() -> ExitCode {
    sortie::init();
    let status = match Cli::try_parse() {
        Ok(cli) => verbs::perform(cli),
        Err(error) => refuse(&error),
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
    if !error.use_stderr() || error_style(std::env::args_os()) == ErrorStyle::Text {
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
    let mut lines = text.lines().map(|line| line.trim_start_matches("error: "));
    let failure = Failure::usage(lines.next().unwrap_or_default());
    failure
        .hint("`sortie help` lists the verbs, `sortie help VERB` its options")
        .report(ErrorStyle::Json);
    failure_status()
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
