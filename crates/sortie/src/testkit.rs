//! A simulated cluster for your tests (feature `testkit`): real nodes in one process, on one
//! thread, in virtual time, over a network that your test cuts, delays and loses packets of. All of
//! it follows from one seed, so a test that fails once fails each time.
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use sortie::testkit::{Clients, cluster};
//! use sortie::{State, TaskContext};
//!
//! let tests = cluster().nodes(3).seed(7).task("nap", |_: TaskContext, seconds: u64| async move {
//!     tokio::time::sleep(Duration::from_secs(seconds)).await;
//!     Ok::<_, Infallible>(seconds)
//! });
//! let ended = tests.run(async |cluster| {
//!     let session = cluster.client(1)?.session();
//!     let job = session.task("nap", &3_600_u64)?.on("node2,node3")?.start().await?;
//!     cluster.advance(Duration::from_secs(60)).await;
//!     cluster.kill(3).await?;
//!     // Waits for an hour that takes no time.
//!     Ok::<_, Box<dyn std::error::Error>>(job.wait().await?.state)
//! });
//! assert_eq!(ended??, State::Failed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Children are functions: simulated nodes host no processes. What a function does by chance it
//! must draw from the seed ([`Chance`]), and its outputs should stay below a mebibyte.

use std::future::Future;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::DeserializeOwned;
use sortie_exec::registry::Registry;
use sortie_exec::task::{TaskContext, TaskError, TaskOutput, typed};
pub use sortie_testkit::chance::Chance;
pub use sortie_testkit::{Cluster, ClusterError, Life};

use crate::client::Client;
use crate::node::Node;

/// A simulated cluster to be started: three nodes, in calm weather, with seed 0. Nothing happens
/// before [`ClusterBuilder::run`].
pub fn cluster() -> ClusterBuilder {
    ClusterBuilder { inner: Cluster::builder(), tasks: Registry::default(), taken: None }
}

/// What a simulated cluster is made of.
#[derive(Debug)]
#[must_use]
pub struct ClusterBuilder {
    inner: sortie_testkit::ClusterBuilder,
    tasks: Registry,
    taken: Option<String>,
}

/// Why a simulated test did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// Two functions have the same name.
    #[error("two functions are registered as `{0}`")]
    TaskName(String),
    /// The cluster does not start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl SimulationError {
    /// Never: the same seed gives the same run.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl ClusterBuilder {
    /// How many nodes, 1 to 64: any other number is [`ClusterError::Size`]. They are called
    /// `node1`, `node2` and so on.
    pub fn nodes(mut self, count: usize) -> Self {
        self.inner = self.inner.nodes(count);
        self
    }

    /// What all chance in the cluster follows from.
    pub fn seed(mut self, seed: u64) -> Self {
        self.inner = self.inner.seed(seed);
        self
    }

    /// How long each packet is on its way; see [`Cluster::delay`].
    pub fn delay(mut self, range: RangeInclusive<Duration>) -> Self {
        self.inner = self.inner.delay(range);
        self
    }

    /// Which part of the packets is dropped, from 0 to 1; see [`Cluster::drop`].
    pub fn drop(mut self, part: f64) -> Self {
        self.inner = self.inner.drop(part);
        self
    }

    /// Registers a function on every node, as [`NodeBuilder::task`](crate::NodeBuilder::task) does.
    pub fn task<F, Fut, I, O, E>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(TaskContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: DeserializeOwned + 'static,
        O: TaskOutput,
        E: TaskError,
    {
        if let Err(taken) = self.tasks.add(name, typed(function)) {
            self.taken.get_or_insert(taken.0);
        }
        self
    }

    /// Starts the cluster in a runtime of its own, on this thread, runs `test` on it, and answers
    /// what that answers. The nodes end with the test.
    ///
    /// # Errors
    /// [`SimulationError::TaskName`] when two functions have the same name,
    /// [`SimulationError::Cluster`] when the cluster does not start; the test then does not run.
    ///
    /// # Panics
    /// Within another tokio runtime: a simulated test is a plain `#[test]`.
    pub fn run<T>(self, test: impl AsyncFnOnce(&mut Cluster) -> T) -> Result<T, SimulationError> {
        let Self { inner, tasks, taken } = self;
        match taken {
            Some(name) => Err(SimulationError::TaskName(name)),
            None => Ok(inner.tasks(move |_| tasks.clone()).run(test)?),
        }
    }
}

/// Clients of the nodes of a simulated cluster.
pub trait Clients {
    /// A client of a node's present life, as in the node's own process: no network lies between.
    /// When the node is killed its requests fail.
    ///
    /// # Errors
    /// [`ClusterError::NoNode`] when there is no such node, [`ClusterError::Down`] while it is
    /// killed.
    fn client(&self, node: usize) -> Result<Client, ClusterError>;
}

impl Clients for Cluster {
    fn client(&self, node: usize) -> Result<Client, ClusterError> {
        Ok(Node::new(self.node(node)?.clone(), None).client())
    }
}
