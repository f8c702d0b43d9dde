//! Thousands of random operations on a simulated cluster, checked after each against what Sortie
//! promises (`docs/semantics.md`; the promises are named in [`Promise`]).
//!
//! Children are functions that write down what they really did. The checks compare that with what
//! the nodes say of them, and what the nodes say now with what they said before.

mod acts;
mod body;
mod checks;
mod client;
mod family;
mod finale;
mod ledger;
mod network;
mod reading;
mod seen;
mod submit;
mod watching;

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use crate::chance::Chance;
use crate::cluster::{Cluster, Life};
use crate::error::ClusterError;
use crate::simulation::client::Odd;
use crate::simulation::ledger::Ledger;
use crate::simulation::seen::Sight;
use crate::simulation::watching::Listeners;

pub use crate::simulation::body::is_planned_panic;

/// A promise that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// A start request with one key creates at most one job, and each incarnation of its children
    /// begins at most once.
    P1,
    /// What was accepted is shown until it is removed, and ends.
    P2,
    /// Terminal states are final, true, and the same for all readers.
    P3,
    /// A reader that acknowledges sees each record once, in order, without a gap.
    P4,
    /// A terminal state is shown only after all output before it is stored.
    P5,
    /// A receive frees nothing that was not acknowledged.
    P6,
    /// Nodes that keep to the protocol never accuse each other of breaking it.
    Protocol,
    /// A lost node is shown as lost within 15 s, and a child is called lost only when it can no
    /// longer succeed.
    P9,
    /// Every watcher gets exactly one end notice per incarnation. Restarts obey strategy, order and
    /// intensity.
    P15,
}

impl Promise {
    /// Every promise that is checked.
    pub const ALL: [Self; 9] = [
        Self::P1,
        Self::P2,
        Self::P3,
        Self::P4,
        Self::P5,
        Self::P6,
        Self::Protocol,
        Self::P9,
        Self::P15,
    ];

    /// Those that have a rule which can be broken on purpose.
    pub const BREAKABLE: [Self; 8] =
        [Self::P1, Self::P2, Self::P3, Self::P4, Self::P5, Self::P6, Self::P9, Self::P15];
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Breaks the rule that keeps a promise, in the whole process and for good. Says whether there is
/// such a rule.
#[cfg(debug_assertions)]
pub fn break_rule(promise: Promise) -> bool {
    use sortie_engine::broken::Rule;
    let rule = match promise {
        Promise::P1 => Rule::P1,
        Promise::P2 => Rule::P2,
        Promise::P3 => Rule::P3,
        Promise::P4 => Rule::P4,
        Promise::P5 => Rule::P5,
        Promise::P6 => Rule::P6,
        Promise::P9 => Rule::P9,
        Promise::P15 => Rule::P15,
        Promise::Protocol => return false,
    };
    sortie_engine::broken::break_rule(rule);
    true
}

/// A word that names no promise which is checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no promise that the simulation checks")]
pub struct UnknownPromise(pub String);

impl FromStr for Promise {
    type Err = UnknownPromise;

    fn from_str(text: &str) -> Result<Self, UnknownPromise> {
        let known = Self::ALL.into_iter().find(|promise| promise.to_string() == text);
        known.ok_or_else(|| UnknownPromise(text.to_owned()))
    }
}

/// How long a simulated run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// Nodes of the cluster, 2 to 8. Default: 3.
    pub nodes: usize,
    /// Operations. Default: 300.
    pub steps: u32,
    /// Which kinds of them. Default: the usual ones.
    pub acts: Acts,
}

/// Which kinds of operations there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acts {
    /// Those that hold on every seed that is known.
    #[default]
    Usual,
    /// Also links that flap and wall clocks that jump: they find what is still to be mended.
    Rough,
}

impl Default for Length {
    fn default() -> Self {
        Self { nodes: 3, steps: 300, acts: Acts::Usual }
    }
}

impl Length {
    /// The usual length of a seed: every tenth one is long, 3,000 operations.
    pub fn of(seed: u64) -> Self {
        let usual = Self::default();
        if seed % 10 == 9 { Self { steps: usual.steps * 10, ..usual } } else { usual }
    }
}

/// What a run without a violation came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// Operations that were done.
    pub steps: u32,
    /// Lives of children that began.
    pub starts: u64,
    /// Virtual time.
    pub lasted: Duration,
    /// One line for each operation: what was done, and what was to be seen after it. Equal for
    /// runs of one seed.
    pub trace: Vec<String>,
}

/// A promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The seed with which it happens again.
    pub seed: u64,
    /// After how many operations.
    pub step: u32,
    /// Which promise.
    pub promise: Promise,
    /// What was seen.
    pub text: String,
    /// The operations up to there.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, step, promise, text, .. } = self;
        write!(f, "seed {seed}, step {step}: {promise} is broken: {text}")
    }
}

/// A run did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// A promise was broken.
    #[error("{0}")]
    Broken(Box<Violation>),
    /// The cluster itself could not be made or used.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl SimulationError {
    /// Never: the same seed gives the same run.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// Runs one seed to its end, on this thread.
///
/// # Errors
/// [`SimulationError::Broken`] at the first violation, with everything that led to it.
///
/// # Panics
/// Within a tokio runtime. Simulated children panic as well, by plan: [`is_planned_panic`] lets a
/// panic hook tell them from others.
pub fn run(seed: u64, length: Length) -> Result<Run, SimulationError> {
    let (ledger, nodes) = (Ledger::default(), length.nodes.clamp(2, 8));
    let tasks = ledger.clone();
    let builder = Cluster::builder().nodes(nodes).seed(seed);
    let builder = builder.tasks(move |life: Life| tasks.registry(life));
    let ended = builder.run(async |cluster| {
        let mut simulation = Simulation::new(cluster, ledger, (seed, length.acts));
        let done = simulation.run(length.steps).await;
        simulation.end(seed, done)
    })?;
    ended.map_err(|violation| SimulationError::Broken(Box::new(violation)))
}

/// A broken promise, before it is known where it happened.
#[derive(Debug)]
struct Broken(Promise, String);

impl From<Odd> for Broken {
    /// A request that is not answered as it should be loses sight of what it was about.
    fn from(odd: Odd) -> Self {
        Self(Promise::P2, odd.0)
    }
}

/// A run.
struct Simulation<'c> {
    cluster: &'c mut Cluster,
    ledger: Ledger,
    chance: Chance,
    sight: Sight,
    listeners: Listeners,
    step: u32,
    trace: Vec<String>,
    acts: Acts,
}

impl<'c> Simulation<'c> {
    fn new(cluster: &'c mut Cluster, ledger: Ledger, (seed, acts): (u64, Acts)) -> Self {
        let sight = Sight::new(cluster.len());
        // Not the chance of the cluster, so that neither depends on what the other draws.
        let chance = Chance::new(seed ^ 0x5eed_0f0b_5e2a_710e);
        let listeners = Listeners::default();
        Self { cluster, ledger, chance, sight, listeners, step: 0, trace: Vec::new(), acts }
    }

    async fn run(&mut self, steps: u32) -> Result<(), Broken> {
        for number in self.up() {
            self.watch_all(number)?;
        }
        while self.step < steps {
            self.step += 1;
            let done = self.act().await?;
            let mut line = format!("{:>9.3} {done}", self.cluster.elapsed().as_secs_f64());
            self.trace.push(line.clone());
            let digest = self.check().await?;
            let _ = write!(line, " -> {digest:016x}");
            if let Some(last) = self.trace.last_mut() {
                *last = line;
            }
            let pause = self.pause();
            self.cluster.advance(pause).await;
            if !pause.is_zero() {
                self.audit().await?;
            }
        }
        self.finale().await
    }

    /// How long until the next operation: mostly short, now and then long enough for leases.
    fn pause(&mut self) -> Duration {
        let most = match self.chance.below(20) {
            0..8 => 0,
            8..14 => 50,
            14..18 => 1_000,
            18 => 5_000,
            _ => 16_000,
        };
        self.chance.duration(Duration::ZERO..=Duration::from_millis(most))
    }

    fn end(self, seed: u64, done: Result<(), Broken>) -> Result<Run, Violation> {
        let Self { cluster, ledger, step, trace, .. } = self;
        match done {
            Ok(()) => {
                let (starts, lasted) = (ledger.starts(), cluster.elapsed());
                Ok(Run { steps: step, starts, lasted, trace })
            }
            Err(Broken(promise, text)) => Err(Violation { seed, step, promise, text, trace }),
        }
    }
}
