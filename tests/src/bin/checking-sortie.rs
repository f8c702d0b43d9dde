//! A full `sortie` whose functions come to checkpoints, or do not.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use sortie::{Registry, TaskContext};

/// Gives the numbers from 1 on, or from its last checkpoint on, with a checkpoint behind each, and
/// says how far it is in a file of that folder.
async fn steps(context: TaskContext, folder: PathBuf) -> io::Result<()> {
    let (new, count) = (folder.join("steps.new"), folder.join("steps"));
    let done: u64 = context.resumed_from().map_err(io::Error::other)?.unwrap_or(0);
    for number in done + 1.. {
        context.emit(&number).await.map_err(io::Error::other)?;
        std::fs::write(&new, number.to_string()).and_then(|()| std::fs::rename(&new, &count))?;
        context.checkpoint(&number).await.map_err(io::Error::other)?;
        if context.is_cancelled() {
            break;
        }
        // tidy: waits because a step of work takes its time.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Comes to no checkpoint, and ends when it is told to.
async fn deaf(context: TaskContext, (): ()) -> Result<(), Infallible> {
    context.cancelled().await;
    Ok(())
}

/// Gives the numbers from 1 to `to`, and fails after each two of them.
async fn fails_twice(context: TaskContext, to: u64) -> io::Result<()> {
    let done = context.resumed_from::<u64>().map_err(io::Error::other)?.unwrap_or(0);
    for number in done + 1..=to {
        context.emit(&number).await.map_err(io::Error::other)?;
        context.checkpoint(&number).await.map_err(io::Error::other)?;
        if number % 2 == 0 && number < to {
            return Err(io::Error::other("on purpose"));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let registry = Registry::new().task("steps", steps).task("deaf", deaf);
    sortie_cli::main(registry.task("fails_twice", fails_twice))
}
