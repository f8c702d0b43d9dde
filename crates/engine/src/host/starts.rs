//! The children that a start message names, one by one.

use sortie_model::{ChildIncarnation, Ordinal, Seq};
use sortie_wire::host_proto::ChildBatch;

use crate::host::Start;

pub(super) fn ordinals(first: Ordinal, step: u32, count: u32) -> impl Iterator<Item = Ordinal> {
    (0..count).map(move |index| Ordinal(first.0.saturating_add(index.saturating_mul(step.max(1)))))
}

pub(super) const FIRST: ChildIncarnation = ChildIncarnation(0);

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
        ChildBatch::Again(some) => Box::new(some.into_iter().map(|again| Start {
            ordinal: again.ordinal,
            id: again.id,
            incarnation: again.incarnation,
            next: again.next,
            item: again.item,
        })),
    }
}
