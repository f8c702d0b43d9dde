//! A node with functions, as a user's own program would be: `task-node HOME NAME`.

use std::convert::Infallible;
use std::error::Error;
use std::path::PathBuf;

use sortie::{HomePaths, Node, TaskContext};

fn main() -> Result<(), Box<dyn Error>> {
    sortie::init();
    // As few threads as the command line's own nodes have on a small machine.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let home = PathBuf::from(arguments.next().ok_or("HOME is missing")?);
    let name = arguments.next().ok_or("NAME is missing")?.into_string().map_err(|_| "no text")?;
    let node = Node::builder(name)
        .home(HomePaths::within(home))
        .own_threads_for_functions()
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
        .task("block", |_: TaskContext, until: PathBuf| async move {
            while !until.exists() {
                // tidy: waits because that is what a function must not do, and some do.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Ok::<_, Infallible>(())
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
