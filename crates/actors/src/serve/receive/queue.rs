//! Which children of a target are read next, and what their reader was told of them.

use std::collections::{HashSet, VecDeque};

use sortie_engine::receive::{Part, QuestionsOnce, SettledOnce};
use sortie_model::Ordinal;

use super::target::Target;
use crate::data::mailboxes::Ready;

/// A receive that is about so many children of a job looks at each of them, rather than at all that
/// have something to read.
const FEW_CHILDREN: usize = 64;

/// The children of one target that may have something, each once, in turn.
pub(super) struct Queue {
    pub(super) lookout: Lookout,
    pub(super) children: VecDeque<Ordinal>,
    pub(super) queued: HashSet<Ordinal>,
    pub(super) in_turn: bool,
    pub(super) waits: bool,
    pub(super) told: SettledOnce,
    pub(super) asked: QuestionsOnce,
}

impl Queue {
    pub(super) fn new(target: &Target) -> Self {
        Self {
            lookout: Lookout::new(target),
            children: VecDeque::new(),
            queued: HashSet::new(),
            in_turn: true,
            waits: false,
            told: SettledOnce::default(),
            asked: QuestionsOnce::default(),
        }
    }

    pub(super) fn put(&mut self, ordinal: Ordinal) {
        if self.queued.insert(ordinal) {
            self.children.push_back(ordinal);
        }
    }

    pub(super) fn take(&mut self) -> Option<Ordinal> {
        let ordinal = self.children.pop_front()?;
        self.queued.remove(&ordinal);
        Some(ordinal)
    }
}

/// How a queue learns which children may have something to read.
pub(super) enum Lookout {
    /// The mailboxes say it.
    Ready(Ready),
    /// The receive is about a few of many: each is looked at whenever anything has changed.
    Few {
        children: Vec<Ordinal>,
        next: usize,
        /// The version of the mailboxes before the first of them was looked at.
        since: Option<u64>,
    },
}

impl Lookout {
    pub(super) fn new(target: &Target) -> Self {
        match &target.part {
            Part::Children(some) if some.len() <= FEW_CHILDREN => {
                Self::Few { children: some.clone(), next: 0, since: None }
            }
            _ => Self::Ready(target.job.mailboxes.ready()),
        }
    }

    /// The next child; what came before `version` was seen once there is none.
    pub(super) fn next_child(&mut self, version: &mut u64) -> Option<Ordinal> {
        match self {
            Self::Ready(ready) => ready.next_child(),
            Self::Few { children, next, since } => {
                *version = *since.get_or_insert(*version);
                let child = children.get(*next).copied();
                *next += usize::from(child.is_some());
                child
            }
        }
    }

    pub(super) fn begin_again(&mut self) {
        if let Self::Few { next, since, .. } = self {
            (*next, *since) = (0, None);
        }
    }
}
