//! An actor as the body of a child.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use ractor::concurrency::oneshot;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use serde::de::DeserializeOwned;
use sortie::{CallHandle, Inbox, InboxTaken, Message, TaskContext};
use tokio::sync::Semaphore;

use crate::protocol::{Envelope, Handled, Protocol, Received, Request};

/// Messages from elsewhere that an actor was handed and has not handled; further ones wait in the
/// child's inbox.
pub const MESSAGES_AHEAD: usize = 16;

/// What an actor's child runs.
type Running = Pin<Box<dyn Future<Output = Result<(), ActorFailed>> + Send>>;

/// Why an actor's child failed. Its message becomes the child's reason
/// ([`Reason::Error`](sortie::Reason::Error)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActorFailed {
    /// The actor failed or panicked.
    #[error("the actor failed: {0}")]
    Failed(String),
    /// The actor did not start: its `pre_start` failed or panicked.
    #[error("the actor did not start: {0}")]
    NotStarted(String),
    /// Something else has opened the child's inbox.
    #[error(transparent)]
    Inbox(#[from] InboxTaken),
}

impl ActorFailed {
    /// Always false: whether a child starts again is up to its job's restart rules.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// A function that is an actor: to be registered under a name, with
/// [`NodeBuilder::task`](sortie::NodeBuilder::task) or [`Registry::task`](sortie::Registry::task),
/// and started like any other. The child's input comes to `make`, which gives the actor and its
/// arguments; the context lets the actor emit results.
///
/// The child ends when the actor does, and gives no value of its own.
pub fn body<P, A, I>(
    make: impl Fn(TaskContext, I) -> (A, A::Arguments) + Send + Sync + 'static,
) -> impl Fn(TaskContext, I) -> Running + Send + Sync + 'static
where
    P: Protocol,
    A: Actor,
    A::Msg: From<Received<P>>,
    I: DeserializeOwned + Send + 'static,
{
    move |context, input| {
        let (actor, arguments) = make(context.clone(), input);
        Box::pin(run::<P, A>(context, actor, arguments))
    }
}

async fn run<P, A>(
    context: TaskContext,
    actor: A,
    arguments: A::Arguments,
) -> Result<(), ActorFailed>
where
    P: Protocol,
    A: Actor,
    A::Msg: From<Received<P>>,
{
    let inbox = context.inbox::<Envelope<P::Cast, P::Call>>()?;
    let not_started = |error: &dyn std::error::Error| ActorFailed::NotStarted(told(error));
    let (ended, end) = tokio::sync::oneshot::channel();
    let overseer = Actor::spawn(None, Overseer, ended).await;
    let (overseer, _) = overseer.map_err(|error| not_started(&error))?;
    // However this future is dropped, nothing outlives it.
    let mut kill = KillOnDrop(vec![overseer.get_cell()]);
    let spawned = A::spawn_linked(None, actor, arguments, overseer.get_cell()).await;
    let (actor, _) = spawned.map_err(|error| not_started(&error))?;
    // One that drains is not killed with its supervisor.
    kill.0.push(actor.get_cell());
    let mut end = std::pin::pin!(end);
    let mut calls = FuturesUnordered::new();
    let mut letters = std::pin::pin!(letters::<P>(inbox));
    let mut reading = Reading::On;
    let outcome = loop {
        tokio::select! {
            biased;
            ended = &mut end => break ended,
            Some(()) = calls.next() => {}
            letter = letters.next(), if reading == Reading::On => match letter {
                Some((letter, handled)) => {
                    let (request, answer) = opened::<P>(letter);
                    calls.extend(answer);
                    // One that has ended says so.
                    let _ = actor.cast(Received { request, handled }.into());
                }
                None => {
                    reading = Reading::Over;
                    // Handles what came before, then stops.
                    let _ = actor.drain();
                }
            },
        }
    };
    // What was answered before the end is passed on; who was not, hears that nobody will.
    while calls.next().now_or_never().flatten().is_some() {}
    outcome.unwrap_or_else(|_| Err(ActorFailed::Failed("it was killed".to_owned())))
}

/// Whether the child's messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    On,
    Over,
}

type Letter<P> = Message<Envelope<<P as Protocol>::Cast, <P as Protocol>::Call>>;

/// The child's messages, each once there is a place for it.
fn letters<P: Protocol>(
    inbox: Inbox<Envelope<P::Cast, P::Call>>,
) -> impl futures_util::Stream<Item = (Letter<P>, Handled)> {
    let places = Arc::new(Semaphore::new(MESSAGES_AHEAD));
    futures_util::stream::unfold((inbox, places), |(mut inbox, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let letter = inbox.next().await?;
        Some(((letter, Handled::new(place)), (inbox, places)))
    })
}

/// What the actor gets of a message, and what brings its answer back.
fn opened<P: Protocol>(
    letter: Letter<P>,
) -> (Request<P>, Option<impl Future<Output = ()> + use<P>>) {
    let Message { value, call } = letter;
    match value {
        // Its sender waits for nothing; if it does all the same, it hears that there is no answer.
        Envelope::Cast(message) => (Request::Cast(message), None),
        Envelope::Call(message) => {
            let (port, answer) = oneshot();
            (Request::Call(message, RpcReplyPort::from(port)), Some(pass_on::<P>(answer, call)))
        }
    }
}

async fn pass_on<P: Protocol>(
    answer: ractor::concurrency::OneshotReceiver<P::Answer>,
    call: CallHandle,
) {
    // A port that was dropped drops the call, which tells the caller.
    if let Ok(answer) = answer.await {
        // A value that cannot travel is told to the caller, too.
        let _ = call.reply(&answer);
    }
}

fn told(error: &dyn std::error::Error) -> String {
    error.to_string()
}

/// Kills actors and all that they supervise.
struct KillOnDrop(Vec<ActorCell>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(ActorCell::kill);
    }
}

/// Hears how the actor ends: only a supervisor does.
struct Overseer;

type Ended = tokio::sync::oneshot::Sender<Result<(), ActorFailed>>;

impl Actor for Overseer {
    type Msg = ();
    type State = Option<Ended>;
    type Arguments = Ended;

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        ended: Ended,
    ) -> Result<Option<Ended>, ActorProcessingErr> {
        Ok(Some(ended))
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        ended: &mut Option<Ended>,
    ) -> Result<(), ActorProcessingErr> {
        let outcome = match event {
            SupervisionEvent::ActorTerminated(..) => Ok(()),
            SupervisionEvent::ActorFailed(_, error) => Err(ActorFailed::Failed(error.to_string())),
            _ => return Ok(()),
        };
        if let Some(ended) = ended.take() {
            // A child that was aborted does not want to know.
            let _ = ended.send(outcome);
        }
        Ok(())
    }
}
