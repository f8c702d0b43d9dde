//! A node with an actor of its program's own: `actor-node HOME NAME`.

use std::error::Error;
use std::path::PathBuf;
use std::sync::OnceLock;

use sortie::{HomePaths, Node, Session, TaskContext};
use sortie_ractor::ractor::{Actor, ActorProcessingErr, ActorRef};
use sortie_ractor::{ActorAddress, Received, Request, body};
use sortie_tests::Counting;

/// Counts, and panics at 13.
struct Counter {
    context: TaskContext,
}

impl Actor for Counter {
    type Msg = Received<Counting>;
    type State = u64;
    type Arguments = u64;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        start: u64,
    ) -> Result<u64, ActorProcessingErr> {
        Ok(start)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message.request {
            Request::Cast(13) => std::panic::panic_any("unlucky"),
            Request::Cast(number) => {
                *sum += number;
                self.context.emit(&number).await?;
            }
            Request::Call((), reply) => reply.send((self.context.node().to_string(), *sum))?,
        }
        Ok(())
    }
}

/// The session of this program's node, for its functions.
static SESSION: OnceLock<Session> = OnceLock::new();

/// Asks the counter at that address, as any body can that has a handle on its session.
async fn ask(_: TaskContext, counter: ActorAddress<Counting>) -> Result<u64, sortie::CallError> {
    let Some(session) = SESSION.get() else { return Ok(0) };
    Ok(counter.open(session).call(&()).await?.1)
}

fn main() -> Result<(), Box<dyn Error>> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let home = PathBuf::from(arguments.next().ok_or("HOME is missing")?);
    let name = arguments.next().ok_or("NAME is missing")?.into_string().map_err(|_| "no text")?;
    let counter = body::<Counting, Counter, u64>(|context, start| (Counter { context }, start));
    let node = Node::builder(name)
        .without_processes()
        .home(HomePaths::within(home))
        .task("counter", counter)
        .task("ask", ask)
        .start()
        .await?;
    let _ = SESSION.set(node.session());
    node.ended().await;
    Ok(())
}
