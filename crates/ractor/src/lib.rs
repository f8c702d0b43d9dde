//! Your own [ractor](https://docs.rs/ractor) actors as children of Sortie's jobs.
//!
//! An actor becomes the body of a child ([`body`]): it is registered by a name, started as any task
//! on any node, supervised by its job, and addressed from anywhere by a [`RemoteActor`] with
//! [`cast`](RemoteActor::cast) and [`call`](RemoteActor::call). What travels is said by a
//! [`Protocol`]; a [`Received`] is what the actor gets of it.
//!
//! ```
//! use ractor::{Actor, ActorProcessingErr, ActorRef};
//! use sortie::{Node, Ordinal};
//! use sortie_ractor::{Protocol, Received, RemoteActor, Request, body};
//!
//! /// What can be said to a counter: numbers are added, and `()` asks for the sum.
//! struct Counting;
//!
//! impl Protocol for Counting {
//!     type Cast = u64;
//!     type Call = ();
//!     type Answer = u64;
//! }
//!
//! struct Counter;
//!
//! impl Actor for Counter {
//!     type Msg = Received<Counting>;
//!     type State = u64;
//!     type Arguments = u64;
//!
//!     async fn pre_start(
//!         &self,
//!         _: ActorRef<Self::Msg>,
//!         start: u64,
//!     ) -> Result<u64, ActorProcessingErr> {
//!         Ok(start)
//!     }
//!
//!     async fn handle(
//!         &self,
//!         _: ActorRef<Self::Msg>,
//!         message: Self::Msg,
//!         sum: &mut u64,
//!     ) -> Result<(), ActorProcessingErr> {
//!         match message.request {
//!             Request::Cast(number) => *sum += number,
//!             Request::Call((), reply) => reply.send(*sum)?,
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let counter = body::<Counting, Counter, u64>(|_, start| (Counter, start));
//! let node = Node::builder("a").task("counter", counter).start().await?;
//! let job = node.session().task("counter", &40_u64)?.start().await?;
//!
//! let counter = RemoteActor::<Counting>::of(&job.child(Ordinal(0)));
//! counter.cast(&2).await?;
//! assert_eq!(counter.call(&()).await?, 42);
//! job.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//! * **Supervision.** The actor's failure or panic, also in `pre_start`, is the child's failure
//!   ([`ActorFailed`]), and the job's restart rules apply. An actor that stops by itself completes
//!   its child. A child that is told to stop stops its actor once that has handled what came
//!   before; after the child's grace it is killed, and so is everything that it supervises.
//! * **Messages** are those of `docs/semantics.md`, section 3.7: in the order of each sender, each
//!   once, bounded, and a dead target is an error.
//! * **Bounds.** ractor's queues know none, so the actor is handed at most [`MESSAGES_AHEAD`]
//!   messages from others that it has not handled; the rest waits in the child's inbox, and beyond
//!   that the senders wait.
//! * Each incarnation of the child is a new actor. Its address stays the same.

mod host;
mod protocol;
mod remote;

pub use ractor;

pub use host::{ActorFailed, MESSAGES_AHEAD, body};
pub use protocol::{Handled, Protocol, Received, Request};
pub use remote::{ActorAddress, RemoteActor};
