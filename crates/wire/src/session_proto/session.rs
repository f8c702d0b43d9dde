//! Which session a request is about, and what is set in one.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie_model::record::OutputRule;
use sortie_model::spec::OsBytes;
use sortie_model::{SessionInstance, SessionName};

/// Which session a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionRef {
    /// The owner's persistent session `default` on the node that is asked.
    Default,
    /// That one.
    Instance(SessionInstance),
    /// The one session with that name, number or identity.
    Named(String),
    /// That one, as its holder since that epoch.
    Held {
        /// Which.
        instance: SessionInstance,
        /// The epoch that the client was told when it connected.
        epoch: u64,
    },
    /// The one that the child belongs to that asks: only from a worker, which need not know it.
    Above,
}

/// How a session is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOptions {
    /// Its name; `session<id>` if none.
    pub name: Option<SessionName>,
    /// How long it may be idle, from
    /// [`SESSION_IDLE_LEAST`](sortie_model::limits::SESSION_IDLE_LEAST) to
    /// [`SESSION_IDLE_MOST`](sortie_model::limits::SESSION_IDLE_MOST);
    /// [`SESSION_IDLE`](sortie_model::limits::SESSION_IDLE) if not said.
    pub idle_timeout: Option<Duration>,
    /// What is kept of output that nobody receives.
    pub output: OutputRule,
}

/// A change of what is set in a session: first variables are unset, then set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeChange {
    /// Another working directory, on the nodes where children run; it must be there on the
    /// session's. An empty one unsets it; none leaves it as it is.
    pub directory: Option<OsBytes>,
    /// Variables to set.
    pub set: Vec<(OsBytes, OsBytes)>,
    /// Variables that are set in it no more.
    pub unset: Vec<OsBytes>,
}

/// What is set in a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionScope {
    /// Its working directory.
    pub directory: Option<OsBytes>,
    /// Its variables, sorted by name.
    pub variables: Vec<(OsBytes, OsBytes)>,
}
