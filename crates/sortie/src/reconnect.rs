//! Going on when the connection to a node breaks (`docs/semantics.md`, section 4.3).

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sortie_model::{NodeName, limits};

/// How a client goes on when its connection breaks: see [`Client::reconnecting`].
///
/// [`Client::reconnecting`]: crate::Client::reconnecting
#[derive(Debug, Clone)]
pub struct Reconnect {
    pub(crate) patience: Duration,
    pub(crate) watch: Arc<dyn ReconnectWatch>,
}

impl Default for Reconnect {
    /// For [`limits::RECONNECT_TIME`], and nobody is told.
    fn default() -> Self {
        Self { patience: limits::RECONNECT_TIME, watch: Arc::new(Nobody) }
    }
}

impl Reconnect {
    /// The same, given up after that time.
    #[must_use]
    pub fn for_at_most(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same, with somebody who is told.
    #[must_use]
    pub fn told_to(self, watch: impl ReconnectWatch + 'static) -> Self {
        Self { watch: Arc::new(watch), ..self }
    }
}

/// Who is told that a connection broke, and may see to it that there is a node to connect to.
pub trait ReconnectWatch: Send + Sync + fmt::Debug {
    /// The connection to that node broke; it is dialled for so long. Said once for each loss, also
    /// where several requests met it.
    fn lost(&self, node: &NodeName, patience: Duration) {
        let _ = (node, patience);
    }

    /// The connection is up again.
    fn connected(&self, node: &NodeName) {
        let _ = node;
    }

    /// Awaited before each dial: whoever can start the node again does it here. A request that is
    /// dropped meanwhile drops this, too.
    fn before_dial(&self) -> Pin<Box<dyn Future<Output = Dialling> + Send + '_>> {
        Box::pin(ready(Dialling::GoOn))
    }
}

/// Whether a node is dialled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialling {
    /// It is.
    GoOn,
    /// It is not: it cannot come back, and what was asked ends as lost.
    GiveUp,
}

#[derive(Debug)]
struct Nobody;

impl ReconnectWatch for Nobody {}
