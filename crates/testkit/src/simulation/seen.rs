//! What clients of the nodes have seen so far.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_model::restart::{RestartSpec, StopSequence};
use sortie_model::{ChildView, EntryId, IdempotencyKey, JobSpec, JobView, Ordinal};
use tokio::time::Instant;

use crate::cluster::Life;
use crate::simulation::client::{Feeder, Temporary};
use crate::simulation::family::Family;
use crate::simulation::ledger::Child;
use crate::simulation::reading::Logged;
use crate::simulation::watching::Listener;

/// All that was seen.
pub(super) struct Sight {
    /// By node, from the first one on: what its present life shows.
    pub(super) nodes: Vec<NodeSeen>,
    /// Since when nothing comes from one node to another, as `(from, to)`.
    pub(super) cuts: BTreeMap<(usize, usize), Instant>,
    /// Which life owns the children of a tag.
    pub(super) owners: BTreeMap<u64, Life>,
    /// Temporary sessions that are open: on which node, and the tag of their one job.
    pub(super) temporaries: Vec<(usize, u64, Temporary)>,
    /// Clients that still give a job its input, each with one item of it: on which node.
    pub(super) feeders: Vec<(usize, EntryId, Feeder, Vec<u8>)>,
    /// When the sessions of tags ended.
    pub(super) over: BTreeMap<u64, Instant>,
    /// Children that were called lost, and when.
    pub(super) lost: Vec<(Child, Instant)>,
    /// Children whose watchers were told that they are lost, and when.
    pub(super) told_lost: Vec<((usize, EntryId, EntryId), Instant)>,
    /// Tags that were given.
    pub(super) tags: u64,
    /// How long a packet that is sent now may be on its way.
    pub(super) latest: Duration,
    /// When everything that was sent in earlier weathers has arrived.
    pub(super) settled: Option<Instant>,
}

/// What one life of a node shows.
#[derive(Default)]
pub(super) struct NodeSeen {
    pub(super) jobs: BTreeMap<EntryId, JobSeen>,
    /// Hears everything that happens there.
    pub(super) watcher: Option<Listener>,
}

/// A job that was accepted.
pub(super) struct JobSeen {
    pub(super) tag: u64,
    pub(super) key: IdempotencyKey,
    pub(super) spec: JobSpec,
    /// How many children it has, where that is known from the start.
    pub(super) expected: Option<u64>,
    pub(super) children: BTreeMap<EntryId, ChildSeen>,
    /// How it ended, once that was seen.
    pub(super) end: Option<JobView>,
    /// What its watcher may hear.
    pub(super) family: Family,
}

/// A child that was shown.
pub(super) struct ChildSeen {
    pub(super) ordinal: Ordinal,
    /// What was shown of it last; a reader may be first to hear of it.
    pub(super) view: Option<ChildView>,
    /// Records that were taken and acknowledged.
    pub(super) taken: u64,
    /// Records that were delivered, acknowledged or not.
    pub(super) log: Vec<Logged>,
    /// Records that there were when its end was first seen, where no life can follow.
    pub(super) stored: Option<u64>,
    /// Lives of it that were called lost.
    pub(super) lost: u32,
}

impl Sight {
    pub(super) fn new(nodes: usize) -> Self {
        let nodes = (0..nodes).map(|_| NodeSeen::default()).collect();
        let (cuts, owners) = (BTreeMap::new(), BTreeMap::new());
        let (latest, settled) = (Duration::ZERO, None);
        let (temporaries, over, lost) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (told_lost, feeders, tags) = (Vec::new(), Vec::new(), 0);
        Self {
            nodes,
            cuts,
            owners,
            temporaries,
            feeders,
            over,
            lost,
            told_lost,
            tags,
            latest,
            settled,
        }
    }

    pub(super) fn node(&self, number: usize) -> Option<&NodeSeen> {
        self.nodes.get(number.checked_sub(1)?)
    }

    pub(super) fn node_mut(&mut self, number: usize) -> Option<&mut NodeSeen> {
        self.nodes.get_mut(number.checked_sub(1)?)
    }
}

impl NodeSeen {
    /// Its watcher missed something: only notices count from here.
    pub(super) fn look_away(&mut self) {
        self.jobs.values_mut().for_each(|job| job.family.look_away());
    }

    /// The job that an entry is, or belongs to, and the entry if it is a child.
    pub(super) fn job_of(&mut self, id: EntryId) -> Option<(&mut JobSeen, Option<EntryId>)> {
        if self.jobs.contains_key(&id) {
            return self.jobs.get_mut(&id).map(|job| (job, None));
        }
        let mut jobs = self.jobs.values_mut();
        jobs.find(|job| job.children.contains_key(&id)).map(|job| (job, Some(id)))
    }
}

impl JobSeen {
    pub(super) const fn child(&self, ordinal: Ordinal) -> Child {
        (self.tag, ordinal)
    }

    /// Whether its children may start again, or are stopped in order.
    pub(super) fn is_supervised(&self) -> bool {
        is_supervised(&self.spec)
    }
}

impl ChildSeen {
    pub(super) const fn new(ordinal: Ordinal) -> Self {
        Self { ordinal, view: None, taken: 0, log: Vec::new(), stored: None, lost: 0 }
    }
}

/// Whether such a job's children may start again, or are stopped in order.
pub(super) fn is_supervised(spec: &JobSpec) -> bool {
    spec.restart != RestartSpec::default() || spec.stop_sequence == StopSequence::OneByOne
}
