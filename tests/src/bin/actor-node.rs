//! A node with an actor of its program's own: `actor-node HOME NAME`.

use std::error::Error;
use std::path::PathBuf;

use sortie::{CallError, HomePaths, Node, Registry, SendError, TaskContext, TaskSession};
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

/// Asks the counter at that address, which its own session has.
async fn ask(context: TaskContext, counter: ActorAddress<Counting>) -> Result<u64, CallError> {
    let session = context.session_above().map_err(SendError::from)?;
    Ok(counter.open(&session).call(&()).await?.1)
}

/// Adds a hundred numbers to the counter at that address: the first one, and each third one after.
async fn add(
    context: TaskContext,
    (counter, first): (ActorAddress<Counting>, u64),
) -> Result<(), SendError> {
    let counter = counter.open(&context.session_above()?);
    for number in 0..100 {
        counter.cast(&(first + 3 * number)).await?;
    }
    Ok(())
}

fn tasks() -> Registry {
    let counter = body::<Counting, Counter, u64>(|context, start| (Counter { context }, start));
    Registry::new().task("counter", counter).task("ask", ask).task("add", add)
}

fn main() -> Result<(), Box<dyn Error>> {
    sortie::init_with(&tasks());
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let home = PathBuf::from(arguments.next().ok_or("HOME is missing")?);
    let name = arguments.next().ok_or("NAME is missing")?.into_string().map_err(|_| "no text")?;
    let node = Node::builder(name).home(HomePaths::within(home)).start().await?;
    node.ended().await;
    Ok(())
}
