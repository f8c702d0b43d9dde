//! Commands that read or wait go on when their node's connection breaks (`docs/semantics.md`,
//! section 4.3): said once, and a node of our own that was killed is started again.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sortie::{Client, Dialling, HomePaths, NodeName, Reconnect, ReconnectWatch};
use sortie_model::quantity::show_duration;

use crate::exit::Cause;
use crate::failure::{ErrorStyle, Failure};
use crate::own_node::{self, Standing};

/// How long our own node is gone before we start it again ourselves.
const OTHERS_FIRST: Duration = Duration::from_millis(700);

/// What became of reconnecting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome(Arc<Mutex<Option<Failure>>>);

impl Outcome {
    /// Why a command failed: where our own node cannot be started again, that.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        if !matches!(failure.cause, Cause::NodeLost | Cause::NotReached) {
            return failure;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(failure)
    }

    fn note(&self, failure: Failure) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

/// The client, reconnecting. `own` is the home of our own node, if it is that one's.
pub(crate) fn reconnecting(
    client: Client,
    own: Option<HomePaths>,
    style: ErrorStyle,
) -> (Client, Outcome) {
    let outcome = Outcome::default();
    let watch = Watch { own, style, outcome: outcome.clone(), gone: Mutex::default() };
    (client.reconnecting(Reconnect::default().told_to(watch)), outcome)
}

#[derive(Debug)]
struct Watch {
    own: Option<HomePaths>,
    style: ErrorStyle,
    outcome: Outcome,
    /// Since when our own node is known to be killed.
    gone: Mutex<Option<Instant>>,
}

impl Watch {
    fn set_gone(&self, since: Option<Instant>) {
        *self.gone.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Whether others had their time to start the node again: who supervises it, for one.
    fn has_been_gone(&self) -> bool {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.get_or_insert_with(Instant::now).elapsed() >= OTHERS_FIRST
    }
}

impl ReconnectWatch for Watch {
    fn lost(&self, node: &NodeName, patience: Duration) {
        let patience = show_duration(patience);
        let sentence = format!("connection to node {node} lost; reconnecting for up to {patience}");
        self.style.notice("connection_lost", &sentence);
    }

    fn connected(&self, node: &NodeName) {
        self.style.notice("connected_again", format_args!("connected to node {node} again"));
    }

    fn before_dial(&self) -> Pin<Box<dyn Future<Output = Dialling> + Send + '_>> {
        Box::pin(async {
            let Some(own) = &self.own else { return Dialling::GoOn };
            let killed = match own_node::look(own).await {
                Standing::Killed(error) if self.has_been_gone() => error,
                Standing::Killed(_) => return Dialling::GoOn,
                Standing::There | Standing::Withdrawn => {
                    self.set_gone(None);
                    return Dialling::GoOn;
                }
            };
            match own_node::start_again(own, killed).await {
                Ok(()) => {
                    self.set_gone(None);
                    Dialling::GoOn
                }
                Err(failure) => {
                    self.outcome.note(failure);
                    Dialling::GiveUp
                }
            }
        })
    }
}
