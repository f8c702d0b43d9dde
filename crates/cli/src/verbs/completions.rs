//! `sortie completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;
use crate::program;
use crate::render::out::print;

/// Prints the script that teaches a shell our words.
pub(super) fn run(shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), program::name(), &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
