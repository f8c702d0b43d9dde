//! One job of a receive, and which of its children are read.

use std::collections::HashSet;
use std::sync::Arc;

use sortie_engine::parent_job::ParentJob;
use sortie_engine::receive::Part;
use sortie_model::record::StreamSet;
use sortie_model::{Ordinal, State, limits};
use sortie_wire::session_proto::{Failure, Source};

use crate::data::job::JobShared;

#[derive(Debug)]
pub(super) struct Target {
    pub(super) job: Arc<JobShared>,
    pub(super) part: Part,
    /// Only children at one of these locations.
    pub(super) on: Option<Arc<HashSet<String>>>,
}

impl Target {
    /// Whether that child is read.
    pub(super) fn wants(&self, ordinal: Ordinal) -> bool {
        self.names(ordinal) && (self.on.is_none() || self.is_on(&self.job.rows(), ordinal))
    }

    /// The same for who has the job's rows.
    pub(super) fn wants_of(&self, rows: &ParentJob, ordinal: Ordinal) -> bool {
        self.names(ordinal) && self.is_on(rows, ordinal)
    }

    fn names(&self, ordinal: Ordinal) -> bool {
        match &self.part {
            Part::Whole => true,
            Part::Children(some) => some.binary_search(&ordinal).is_ok(),
        }
    }

    fn is_on(&self, rows: &ParentJob, ordinal: Ordinal) -> bool {
        self.on.as_ref().is_none_or(|on| on.contains(rows.location(ordinal)))
    }

    /// What the child's deliveries say of it; none if it is not there.
    pub(super) fn source(&self, ordinal: Ordinal) -> Option<Source> {
        let rows = self.job.rows();
        Some(Source {
            child: rows.child_id(ordinal)?,
            job: self.job.identity.id,
            ordinal,
            location: rows.location(ordinal).to_owned(),
            place: rows.place_on_node(ordinal),
        })
    }

    /// How many records its children to be read have, those in readers' hands included.
    pub(super) fn unread(&self) -> u64 {
        if self.part == Part::Whole && self.on.is_none() {
            return self.job.mailboxes.unread().records;
        }
        let (mut from, mut unread) = (Ordinal(0), 0);
        while let Some(child) = self.next_unread(from, Ordinal(u32::MAX)) {
            unread += self.job.mailboxes.summary(child).unread.records;
            from = Ordinal(child.0.saturating_add(1));
        }
        unread
    }

    /// The children to be read of which something has yet to come back from the disk, in no order.
    pub(super) fn not_back(&self) -> Vec<Ordinal> {
        if self.job.mailboxes.is_removed() {
            return Vec::new();
        }
        let mut returning = self.job.mailboxes.returning_children();
        returning.retain(|child| self.wants(*child));
        returning
    }

    /// Whether nothing of that child has yet to come back.
    pub(super) fn is_back(&self, ordinal: Ordinal) -> bool {
        let mailboxes = &self.job.mailboxes;
        mailboxes.is_removed() || !mailboxes.is_returning(ordinal)
    }

    /// How many records of these streams its children to be read have in readers' hands, where
    /// they have any.
    pub(super) fn on_offer(&self, streams: StreamSet) -> Vec<(Ordinal, u64)> {
        let (mut from, mut on_offer) = (Some(Ordinal(0)), Vec::new());
        while let Some(child) = from.and_then(|from| self.next_unread(from, Ordinal(u32::MAX))) {
            let records = self.job.mailboxes.on_offer(child, streams);
            if records > 0 {
                on_offer.push((child, records));
            }
            from = child.0.checked_add(1).map(Ordinal);
        }
        on_offer
    }

    /// The first child to be read, from that one on and before `end`, that has something unread.
    pub(super) fn next_unread(&self, from: Ordinal, end: Ordinal) -> Option<Ordinal> {
        let mut from = from;
        loop {
            let found = match &self.part {
                Part::Whole => self.job.mailboxes.next_unread(from)?,
                Part::Children(some) => {
                    *some.get(some.partition_point(|ordinal| *ordinal < from))?
                }
            };
            if found >= end {
                return None;
            }
            if self.wants(found) {
                return Some(found);
            }
            from = Ordinal(found.0.checked_add(1)?);
        }
    }
}

/// Why children failed: the first so many.
#[derive(Debug, Default)]
pub(super) struct Failures {
    all: Vec<Failure>,
    bytes: usize,
    full: bool,
}

impl Failures {
    /// Adds those of these jobs, in child order.
    pub(super) fn add(&mut self, targets: &[Target]) {
        for target in targets {
            let rows = target.job.rows();
            if self.full || rows.counts().of(State::Failed) == 0 {
                continue;
            }
            let (all, some) = match &target.part {
                Part::Whole => (0..rows.children(), [].as_slice()),
                Part::Children(some) => (0..0, some.as_slice()),
            };
            let named = all.map(Ordinal).chain(some.iter().copied());
            let failed = named.filter(|ordinal| {
                rows.child_state(*ordinal) == Some(State::Failed) && target.is_on(&rows, *ordinal)
            });
            failed.for_each(|ordinal| self.add_one(&rows, ordinal));
        }
    }

    fn add_one(&mut self, rows: &ParentJob, ordinal: Ordinal) {
        let (Some(child), Some((reason, exit_code))) =
            (rows.child_id(ordinal), rows.child_failure(ordinal))
        else {
            return;
        };
        self.bytes += reason.to_string().len();
        let bytes_full = self.bytes > limits::ENTRIES_BYTES / 2;
        self.full |= self.all.len() >= limits::FAILURES_SHOWN || bytes_full;
        if !self.full {
            let location = rows.location(ordinal).to_owned();
            self.all.push(Failure { child, location, reason, exit_code });
        }
    }

    pub(super) fn into_all(self) -> Vec<Failure> {
        self.all
    }
}
