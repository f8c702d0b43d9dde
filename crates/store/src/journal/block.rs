//! Rows of children, 256 in one entry: a child that moves rewrites its block, and alike ones take
//! no more than one.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use sortie_model::{EntryId, Ordinal};

use crate::journal::entries::{ChildFacts, ChildRun, Cursor};
use crate::segment::Taken;

/// Children of one block.
pub(crate) const BLOCK: u32 = 256;

/// The blocks that a run touches.
pub(crate) fn blocks_of(run: &ChildRun) -> Range<u32> {
    run.first.0 / BLOCK..(run.first.0.saturating_add(run.count)).div_ceil(BLOCK)
}

/// Children of one block, as runs by their place in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChildBlock(Vec<(u8, u16, ChildFacts)>);

impl ChildBlock {
    /// Puts the part of the run that lies in this block in place of what was there.
    pub(crate) fn put(&mut self, number: u32, run: &ChildRun) {
        let start = number.saturating_mul(BLOCK);
        let from = run.first.0.max(start);
        let to = run.first.0.saturating_add(run.count).min(start.saturating_add(BLOCK));
        if from >= to {
            return;
        }
        let (from, to, id) = (from - start, to - start, later(&run.facts, from - run.first.0).id);
        let mut rows = Vec::with_capacity(self.0.len() + 2);
        for (at, count, facts) in std::mem::take(&mut self.0) {
            let (begin, end) = (u32::from(at), u32::from(at) + u32::from(count));
            if begin < from {
                rows.push((begin, end.min(from), facts.clone()));
            }
            if end > to {
                let skipped = begin.max(to);
                rows.push((skipped, end, later(&facts, skipped - begin)));
            }
        }
        let facts = ChildFacts { id, ..run.facts.clone() };
        let at = rows.partition_point(|(begin, ..)| *begin < from);
        rows.insert(at, (from, to, facts));
        for (begin, end, facts) in rows {
            self.push(begin, end, facts);
        }
    }

    /// Adds rows behind the others, to the last run where they go on as it does.
    fn push(&mut self, begin: u32, end: u32, facts: ChildFacts) {
        if let Some((at, count, last)) = self.0.last_mut() {
            let length = u32::from(*count);
            if u32::from(*at) + length == begin && later(last, length) == facts {
                *count = (u32::from(*count) + end - begin) as u16;
                return;
            }
        }
        // Places in a block are below 256.
        self.0.push((begin as u8, (end - begin) as u16, facts));
    }

    /// The runs from that child on.
    pub(crate) fn runs(&self, number: u32, from: Ordinal) -> impl Iterator<Item = ChildRun> {
        let start = number.saturating_mul(BLOCK);
        self.0.iter().filter_map(move |(at, count, facts)| {
            let first = start + u32::from(*at);
            let skipped = from.0.saturating_sub(first);
            let count = u32::from(*count).checked_sub(skipped).filter(|count| *count > 0)?;
            Some(ChildRun { first: Ordinal(first + skipped), count, facts: later(facts, skipped) })
        })
    }
}

fn later(facts: &ChildFacts, by: u32) -> ChildFacts {
    ChildFacts { id: EntryId(facts.id.0.saturating_add(u64::from(by))), ..facts.clone() }
}

/// Cursors of one block's children, by their place in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CursorBlock(Vec<(u8, Cursor)>);

impl CursorBlock {
    /// How far the child's streams were taken.
    pub(crate) fn taken(&self, ordinal: Ordinal) -> Taken {
        let place = (ordinal.0 % BLOCK) as u8;
        let found = self.0.binary_search_by_key(&place, |(at, _)| *at);
        let found = found.ok().and_then(|at| self.0.get(at));
        found.map(|(_, cursor)| cursor.taken).unwrap_or_default()
    }

    pub(crate) fn merge(&mut self, ordinal: Ordinal, cursor: &Cursor) {
        let place = (ordinal.0 % BLOCK) as u8;
        match self.0.binary_search_by_key(&place, |(at, _)| *at) {
            Ok(at) => {
                if let Some((_, mine)) = self.0.get_mut(at) {
                    mine.merge(cursor);
                }
            }
            Err(at) => self.0.insert(at, (place, cursor.clone())),
        }
    }

    /// The cursors from that child on.
    pub(crate) fn cursors(
        &self,
        number: u32,
        from: Ordinal,
    ) -> impl Iterator<Item = (Ordinal, Cursor)> {
        let start = number.saturating_mul(BLOCK);
        let all = self
            .0
            .iter()
            .map(move |(at, cursor)| (Ordinal(start + u32::from(*at)), cursor.clone()));
        all.filter(move |(ordinal, _)| *ordinal >= from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sortie_model::facts::WaitsFor;
    use sortie_model::{ChildIncarnation, State};

    use super::*;

    fn facts(id: u64, state: u8) -> ChildFacts {
        ChildFacts {
            id: EntryId(id),
            node: None,
            incarnation: ChildIncarnation(0),
            state: State::ALL[usize::from(state)],
            waits_for: WaitsFor::Slot,
            told_to_stop: false,
            begin: None,
            end: None,
            outcome: None,
        }
    }

    fn run(first: u32, count: u32, state: u8) -> ChildRun {
        // A child's number depends on its place alone here, so alike neighbours can be joined.
        ChildRun { first: Ordinal(first), count, facts: facts(u64::from(first) + 10, state) }
    }

    #[test]
    fn alike_children_are_one_run_and_come_together_again() {
        let mut block = ChildBlock::default();
        block.put(0, &run(0, 1_000_000, 0));
        block.put(0, &run(7, 1, 1));
        assert_eq!(block.0.len(), 3);
        block.put(0, &run(7, 1, 0));
        assert_eq!(block.0, [(0, 256, facts(10, 0))]);
    }

    proptest! {
        #[test]
        fn any_history_of_runs_agrees_with_a_list_of_children(
            runs in prop::collection::vec((0_u32..600, 0_u32..400, 0_u8..3), 0..20),
            from in 0_u32..600,
        ) {
            let mut list = vec![None; 1_000];
            let mut block = ChildBlock::default();
            for (first, count, state) in runs {
                let run = run(first, count, state);
                block.put(1, &run);
                for place in first..first + count {
                    list[place as usize] = Some(facts(u64::from(place) + 10, state));
                }
            }
            let mut seen = vec![None; 1_000];
            for run in block.runs(1, Ordinal(from)) {
                for at in 0..run.count {
                    seen[(run.first.0 + at) as usize] = Some(later(&run.facts, at));
                }
            }
            for place in 0..1_000 {
                let inside = (256..512).contains(&place) && place >= from as usize;
                let expected = list[place].clone().filter(|_| inside);
                prop_assert_eq!(&seen[place], &expected, "child {}", place);
            }
        }
    }
}
