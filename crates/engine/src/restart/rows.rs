//! The children of a supervised job, as far as restarts are concerned: eight bytes each.

use sortie_model::restart::RestartType;
use sortie_model::{ChildIncarnation, Ordinal};

/// Where a child stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Runs, or waits for its first turn to: its end is judged.
    Up,
    /// Runs, and was told to stop so that it starts again with a sibling.
    Stopping,
    /// Runs, was told to stop, and nothing follows.
    Last,
    /// Ended, and starts again with the round or when its wait is over.
    Down,
    /// Ended while a round stopped other children: it is judged after them.
    Deferred,
    /// Ended well: it starts again only with a sibling.
    Kept,
    /// Ended, and nothing follows.
    Settled,
}

/// One child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) incarnation: ChildIncarnation,
    pub(super) restart: RestartType,
    pub(super) phase: Phase,
}

impl Row {
    /// Whether its end may start siblings again, now or after what it waits for.
    const fn is_trigger(self) -> bool {
        !matches!(self.restart, RestartType::Temporary)
            && matches!(self.phase, Phase::Up | Phase::Stopping | Phase::Down | Phase::Deferred)
    }
}

/// All children, in child order, and how many of them are what.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    triggers: usize,
    kept: usize,
    unsettled: usize,
}

impl Rows {
    /// One past the last child.
    pub(super) const fn end(&self) -> u32 {
        self.rows.len() as u32
    }

    /// Children whose end may start siblings again.
    pub(super) const fn triggers(&self) -> usize {
        self.triggers
    }

    /// Children that start again only with a sibling.
    pub(super) const fn kept(&self) -> usize {
        self.kept
    }

    /// Children of which an incarnation runs or may follow.
    pub(super) const fn unsettled(&self) -> usize {
        self.unsettled
    }

    pub(super) fn get(&self, child: Ordinal) -> Option<Row> {
        self.rows.get(child.0 as usize).copied()
    }

    /// Where the child stands; nothing follows of one that is not there.
    pub(super) fn phase(&self, child: Ordinal) -> Phase {
        self.get(child).map_or(Phase::Settled, |row| row.phase)
    }

    pub(super) fn is_trigger(&self, child: Ordinal) -> bool {
        self.get(child).is_some_and(Row::is_trigger)
    }

    pub(super) fn push(&mut self, restart: RestartType, phase: Phase) {
        let row = Row { incarnation: ChildIncarnation::default(), restart, phase };
        self.rows.push(row);
        self.count(row, usize::wrapping_add);
    }

    pub(super) fn set(&mut self, child: Ordinal, phase: Phase) {
        self.change(child, |row| row.phase = phase);
    }

    pub(super) fn put(&mut self, child: Ordinal, incarnation: ChildIncarnation, phase: Phase) {
        self.change(child, |row| (row.incarnation, row.phase) = (incarnation, phase));
    }

    /// The child's next incarnation is up.
    pub(super) fn raise(&mut self, child: Ordinal) -> ChildIncarnation {
        self.change(child, |row| {
            row.phase = Phase::Up;
            row.incarnation = row.incarnation.next();
        });
        self.get(child).map_or_else(ChildIncarnation::default, |row| row.incarnation)
    }

    fn change(&mut self, child: Ordinal, change: impl FnOnce(&mut Row)) {
        let Some(row) = self.rows.get_mut(child.0 as usize) else { return };
        let before = *row;
        change(row);
        let after = *row;
        self.count(before, usize::wrapping_sub);
        self.count(after, usize::wrapping_add);
    }

    fn count(&mut self, row: Row, step: fn(usize, usize) -> usize) {
        self.triggers = step(self.triggers, usize::from(row.is_trigger()));
        self.kept = step(self.kept, usize::from(row.phase == Phase::Kept));
        self.unsettled = step(self.unsettled, usize::from(row.phase != Phase::Settled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_costs_eight_bytes() {
        assert_eq!(size_of::<Row>(), 8);
    }
}
