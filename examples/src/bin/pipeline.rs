//! A supervised pipeline that survives a panic and a lost node.
//!
//! Six parts of the work are spread over three nodes. One part panics in the middle, and one node
//! goes away; by the rules of the job (`transient`: after a failure) each part starts again, where
//! there is room, and goes on where its last incarnation ended.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sortie::{Intensity, Node, RestartType, TaskContext};

/// Items of each part.
const ITEMS: u64 = 40;

/// How far each part came. A real pipeline keeps this where its output goes.
static DONE: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];
static PANICKED: AtomicBool = AtomicBool::new(false);

/// There is no such part.
#[derive(Debug)]
struct NoPart;

impl std::fmt::Display for NoPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is no such part")
    }
}

impl Error for NoPart {}

/// Works off the items of one part, from where its last incarnation ended.
#[sortie::task]
async fn work_off(context: TaskContext, part: usize) -> Result<String, NoPart> {
    let done = DONE.get(part).ok_or(NoPart)?;
    while done.load(Ordering::Acquire) < ITEMS {
        if part == 2 && done.load(Ordering::Acquire) == 20 && !PANICKED.swap(true, Ordering::AcqRel)
        {
            std::panic::panic_any("an item that nobody foresaw");
        }
        done.fetch_add(1, Ordering::AcqRel);
        // The wait stands for work that takes its time.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(context.node().to_string())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let a = Node::builder("a").register(work_off).start().await?;
    let b = Node::builder("b").register(work_off).join(&a).start().await?;
    let c = Node::builder("c").register(work_off).join(&a).start().await?;

    let job = a.session().map(work_off, 0..DONE.len()).on("a,b,c")?;
    let job = job.restart(RestartType::Transient);
    let job = job.intensity(Intensity::new(10, Duration::from_secs(60))?).start().await?;

    // Node c goes away in the middle of its work.
    while DONE.iter().any(|done| done.load(Ordering::Acquire) < 5) {
        tokio::task::yield_now().await;
    }
    c.shut_down().await;

    let nodes = job.clone().await?;
    let view = job.wait().await?;
    let items: u64 = DONE.iter().map(|done| done.load(Ordering::Acquire)).sum();
    println!(
        "{} after {} restarts: {items} items, parts ended on {nodes:?}",
        view.state, view.restarts
    );
    b.shut_down().await;
    a.shut_down().await;
    Ok(())
}
