//! How a simulated cluster is made.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use sortie_exec::registry::Registry;
use sortie_link::memory::Weather;

use crate::cluster::{Cluster, Life};
use crate::error::ClusterError;

/// The most nodes of a simulated cluster.
pub(crate) const NODES: usize = 64;

/// Gives each life of each node the functions that it can run.
pub(crate) type Tasks = Arc<dyn Fn(Life) -> Registry + Send + Sync>;

/// What a simulated cluster is made of. See [`Cluster::builder`].
#[must_use]
pub struct ClusterBuilder {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) tasks: Tasks,
}

impl fmt::Debug for ClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterBuilder")
            .field("nodes", &self.nodes)
            .field("seed", &self.seed)
            .field("weather", &self.weather)
            .finish_non_exhaustive()
    }
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            nodes: 3,
            seed: 0,
            weather: Weather::default(),
            tasks: Arc::new(|_| Registry::default()),
        }
    }
}

impl ClusterBuilder {
    /// How many nodes, 1 to 64 (else [`ClusterError::Size`]). Default: 3. They are called `node1`,
    /// `node2` and so on; `node1` holds the CA, and all know each other from the start.
    pub const fn nodes(mut self, count: usize) -> Self {
        self.nodes = count;
        self
    }

    /// What all chance in the cluster follows from. Default: 0.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long each packet is on its way. Default: no time at all. See [`Cluster::delay`].
    pub fn delay(mut self, range: RangeInclusive<Duration>) -> Self {
        self.weather.delay = range;
        self
    }

    /// Which part of the packets is dropped, from 0 (default) to 1. See [`Cluster::drop`].
    pub const fn drop(mut self, part: f64) -> Self {
        self.weather.loss = part;
        self
    }

    /// The functions that a node can run; asked for once per life of each node. Default: none.
    pub fn tasks(mut self, tasks: impl Fn(Life) -> Registry + Send + Sync + 'static) -> Self {
        self.tasks = Arc::new(tasks);
        self
    }

    /// Starts the cluster in a runtime of its own, on this thread and in virtual time, runs
    /// `scenario` on it, and answers what that answers. The nodes end with the scenario.
    ///
    /// # Errors
    /// [`ClusterError`] when the cluster does not start; the scenario then does not run.
    ///
    /// # Panics
    /// Within another tokio runtime, as every `block_on` does.
    pub fn run<T>(self, scenario: impl AsyncFnOnce(&mut Cluster) -> T) -> Result<T, ClusterError> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build();
        let runtime = runtime.map_err(ClusterError::Runtime)?;
        runtime.block_on(async {
            let mut cluster = Cluster::start(self).await?;
            Ok(scenario(&mut cluster).await)
        })
    }
}
