//! A full `sortie` with functions that ask.

use std::process::ExitCode;

use sortie::{AskError, Registry, TaskContext};

/// Asks for a name, after it has said something.
async fn greet(context: TaskContext, greeting: String) -> Result<String, AskError> {
    context.information("wait a moment").await;
    let name: String = context.ask("what is your name?").await?;
    Ok(format!("{greeting} {name}"))
}

/// Asks for a name, and says something at once when it has it.
async fn chat(context: TaskContext, greeting: String) -> Result<(), AskError> {
    let name: String = context.ask(&greeting).await?;
    context.information(&format!("thank you, {name}")).await;
    Ok(())
}

/// Adds so many numbers, which it asks for one by one.
async fn add(context: TaskContext, count: u32) -> Result<u64, AskError> {
    let mut sum = 0;
    for number in 1..=count {
        sum += context.ask::<u64>(&format!("number {number} of {count}?")).await?;
    }
    Ok(sum)
}

/// Has nothing to ask, and stays.
async fn stay(context: TaskContext, (): ()) -> Result<(), AskError> {
    context.cancelled().await;
    Ok(())
}

/// Ends by no stop: it never comes to an await.
async fn hold(context: TaskContext, (): ()) -> Result<(), AskError> {
    context.information("holding").await;
    // The node's other work goes on beside it.
    tokio::task::block_in_place(|| {
        loop {
            std::thread::park();
        }
    })
}

fn main() -> ExitCode {
    let tasks = Registry::new().task("greet", greet).task("add", add).task("stay", stay);
    sortie_cli::main(tasks.task("hold", hold).task("chat", chat))
}
