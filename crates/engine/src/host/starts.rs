//! The children that a start message names: whether there is room for them, and one by one.

use sortie_model::{ChildIncarnation, JobInstance, Ordinal, Seq, limits};
use sortie_wire::host_proto::{Checkpoint, ChildAgain, ChildBatch, ChildFrom};

use crate::host::{BadStart, Host, Room, Start};
use crate::untold::weight;

fn ordinals(first: Ordinal, step: u32, count: u32) -> impl Iterator<Item = Ordinal> {
    (0..count).map(move |index| Ordinal(first.0.saturating_add(index.saturating_mul(step.max(1)))))
}

const FIRST: ChildIncarnation = ChildIncarnation(0);

/// The children of a batch, one by one.
pub(super) fn starts(batch: ChildBatch) -> Box<dyn Iterator<Item = Start>> {
    match batch {
        ChildBatch::Range { first, step, count, id_base } => {
            Box::new(ordinals(first, step, count).map(move |ordinal| {
                let id = id_base.saturating_add(u64::from(ordinal.0));
                Start { ordinal, id, incarnation: FIRST, next: Seq(0), item: None }
            }))
        }
        ChildBatch::Items(items) => Box::new(items.into_iter().map(|item| Start {
            ordinal: item.ordinal,
            id: item.id,
            incarnation: FIRST,
            next: Seq(0),
            item: Some((item.number, item.item)),
        })),
        ChildBatch::Again(some) => Box::new(some.into_iter().map(again)),
        ChildBatch::From(some) => Box::new(some.into_iter().map(|from| again(from.again))),
    }
}

/// Whether it is the first life of its child.
pub(super) fn is_first(start: &Start) -> bool {
    start.incarnation == FIRST
}

fn again(again: ChildAgain) -> Start {
    let ChildAgain { ordinal, id, incarnation, next, item } = again;
    Start { ordinal, id, incarnation, next, item }
}

impl Host {
    /// The children of a batch, and the checkpoints of those of them that were not accepted yet:
    /// the others have begun.
    pub(super) fn split_checkpoints(
        &self,
        job: JobInstance,
        children: ChildBatch,
        room: Room,
    ) -> Result<(ChildBatch, Vec<(Ordinal, Checkpoint)>), BadStart> {
        let ChildBatch::From(mut some) = children else { return Ok((children, Vec::new())) };
        let mut values = some.iter().filter_map(|it| it.from.as_ref());
        if values.any(|(_, value)| value.len() > limits::CHECKPOINT_BYTES) {
            return Err(BadStart::Checkpoint);
        }
        let accepted = self.jobs.get(&job).map(|job| &job.accepted);
        for ChildFrom { again, from } in &mut some {
            let latest = accepted.and_then(|accepted| accepted.get(&again.ordinal));
            if latest.is_some_and(|latest| *latest >= again.incarnation) {
                *from = None;
            }
        }
        let (children, checkpoints) = ChildBatch::From(some).split_checkpoints();
        let bytes: usize = checkpoints.iter().map(|(_, (_, value))| weight(value)).sum();
        if room != Room::Own && self.learned + bytes > limits::HOSTED_CHECKPOINTS_BYTES {
            return Err(BadStart::Checkpoints);
        }
        Ok((children, checkpoints))
    }

    /// Looks at a batch before anything is made of it: its range is as long as the owner says.
    pub(super) fn check_children(
        &self,
        job: JobInstance,
        children: &ChildBatch,
        room: Room,
    ) -> Result<(), BadStart> {
        let last = match children {
            ChildBatch::Range { first, step, count, .. } => {
                let steps = u64::from(count.saturating_sub(1)) * u64::from((*step).max(1));
                u64::from(first.0) + steps
            }
            ChildBatch::Items(items) => {
                items.iter().map(|item| u64::from(item.ordinal.0)).max().unwrap_or(0)
            }
            ChildBatch::Again(some) => {
                some.iter().map(|again| u64::from(again.ordinal.0)).max().unwrap_or(0)
            }
            ChildBatch::From(some) => {
                some.iter().map(|from| u64::from(from.again.ordinal.0)).max().unwrap_or(0)
            }
        };
        if last >= u64::from(limits::CHILDREN_PER_JOB) {
            return Err(BadStart::Ordinal);
        }
        let Room::For(room) = room else { return Ok(()) };
        // What was accepted before is only said again. Nobody is counted past the room.
        let most = usize::try_from(room).unwrap_or(usize::MAX).saturating_add(1);
        let accepted = self.jobs.get(&job).map(|job| &job.accepted);
        let known = |ordinal, incarnation| {
            let latest = accepted.and_then(|accepted| accepted.get(&ordinal));
            latest.is_some_and(|latest| *latest >= incarnation)
        };
        let fresh = match children {
            ChildBatch::Range { first, step, count, .. } => ordinals(*first, *step, *count)
                .filter(|ordinal| !known(*ordinal, FIRST))
                .take(most)
                .count(),
            ChildBatch::Items(items) => {
                items.iter().filter(|item| !known(item.ordinal, FIRST)).count()
            }
            ChildBatch::Again(some) => {
                let fresh = some.iter().filter(|again| !known(again.ordinal, again.incarnation));
                fresh.count()
            }
            ChildBatch::From(some) => {
                let again = some.iter().map(|from| &from.again);
                again.filter(|again| !known(again.ordinal, again.incarnation)).count()
            }
        };
        if fresh as u64 > room { Err(BadStart::Children) } else { Ok(()) }
    }
}
