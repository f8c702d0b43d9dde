//! The program of `docs/cli.md`, section 6: a full `sortie` with functions of its own.

use std::convert::Infallible;
use std::process::ExitCode;

use sortie::{EmitError, Registry, TaskContext};

/// Gives the numbers from 1 to `to`.
async fn count(context: TaskContext, to: u64) -> Result<(), EmitError> {
    for number in 1..=to {
        context.emit(&number).await?;
    }
    Ok(())
}

/// Gives the node that it runs on, and the length of the text.
#[sortie::task]
async fn measure(context: TaskContext, text: String) -> Result<(String, usize), Infallible> {
    Ok((context.node().to_string(), text.len()))
}

fn main() -> ExitCode {
    sortie_cli::main(Registry::new().register(measure).task("count", count))
}
