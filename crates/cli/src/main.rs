//! The `sortie` command: command line, node daemon, and throw-away cluster in one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    sortie_cli::main(sortie::Registry::new())
}
