//! A node with functions, as a user's own program would be: `task-node HOME NAME`.

use std::convert::Infallible;
use std::error::Error;
use std::path::PathBuf;

use sortie::{HomePaths, Node, TaskContext};

fn main() -> Result<(), Box<dyn Error>> {
    sortie::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let home = PathBuf::from(arguments.next().ok_or("HOME is missing")?);
    let name = arguments.next().ok_or("NAME is missing")?.into_string().map_err(|_| "no text")?;
    let node = Node::builder(name)
        .home(HomePaths::within(home))
        .task("echo", |_: TaskContext, n: u64| async move { Ok::<_, Infallible>(n) })
        .task("wait", |context: TaskContext, (): ()| async move {
            context.cancelled().await;
            Ok::<_, Infallible>(())
        })
        .task("count", |context: TaskContext, n: u64| async move {
            for number in 0..n {
                context.emit(&number).await?;
            }
            Ok::<_, sortie::EmitError>(())
        })
        .task("panic", |_: TaskContext, message: String| async move {
            if !message.is_empty() {
                std::panic::panic_any(message);
            }
            Ok::<_, Infallible>(())
        })
        .start()
        .await?;
    node.ended().await;
    Ok(())
}
