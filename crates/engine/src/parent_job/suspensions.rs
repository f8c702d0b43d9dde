//! What is known of each child that was told to stand still.

use std::collections::BTreeMap;

use sortie_model::facts::WaitsFor;
use sortie_model::{Motion, Ordinal, Timestamp, limits};

use crate::parent_job::row::Phase;
use crate::parent_job::suspend::MotionOrder;

/// The children that were ever told to suspend, and have not gone on or ended.
#[derive(Debug, Default)]
pub(super) struct Suspensions {
    pub(super) by_child: BTreeMap<Ordinal, Suspension>,
    /// The number of the last order.
    pub(super) number: u64,
    /// The last one that may be of a life before.
    before: u64,
    /// Children that their nodes hold back.
    pub(super) held: u64,
    /// Functions that ended with their node while they stood still at a checkpoint: a resume is
    /// their next life.
    pub(super) parked: BTreeMap<Ordinal, Parked>,
}

/// Where a function was that ended with its node while it stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parked {
    /// On the job's own node: it can begin again at once.
    Here,
    /// On another, which may be away when it is resumed: it begins again when that is heard.
    Elsewhere,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Suspension {
    pub(super) order: MotionOrder,
    /// Whether its node said that it does what this order says.
    pub(super) heeded: bool,
    /// What it does, as far as its node said.
    pub(super) does: Motion,
}

impl Suspension {
    /// One whose node did not say yet that it does that.
    pub(super) const fn of(order: MotionOrder, does: Motion) -> Self {
        Self { order, heeded: false, does }
    }
}

impl Suspensions {
    /// A newer order than all before.
    pub(super) const fn next_order(&mut self, motion: Motion) -> MotionOrder {
        self.number += 1;
        MotionOrder { number: self.number, motion }
    }

    /// The child was told so.
    pub(super) fn note(&mut self, ordinal: Ordinal, suspension: Suspension) {
        self.by_child.insert(ordinal, suspension);
    }

    /// The phase of such a child, once it began; none of a child that just runs.
    pub(super) fn of(&self, ordinal: Ordinal) -> Option<Phase> {
        self.by_child.get(&ordinal).map(|it| match it.does {
            Motion::Suspended => Phase::Suspended,
            Motion::Running => Phase::Suspending,
        })
    }

    /// A child that was told to stand still before its node ended is told so again, unless it was
    /// not there any more even then.
    pub(super) fn recover(&mut self, ordinal: Ordinal, phase: Phase, waits_for: WaitsFor) {
        let does = match phase {
            Phase::Suspending => Motion::Running,
            Phase::Suspended => Motion::Suspended,
            _ => return,
        };
        self.number = 1;
        let parked = phase == Phase::Suspended && waits_for != WaitsFor::Slot;
        let motion = match waits_for {
            WaitsFor::Node if parked => Motion::Running,
            _ => Motion::Suspended,
        };
        let order = MotionOrder { number: self.number, motion };
        self.note(ordinal, Suspension::of(order, does));
        if parked {
            self.park(ordinal, Parked::Elsewhere);
        }
    }

    /// Whether the child was told to go on, and is there to do so.
    pub(super) fn goes_on(&self, ordinal: Ordinal) -> bool {
        let told = self.by_child.get(&ordinal).map(|it| it.order.motion);
        told == Some(Motion::Running) && !self.is_parked(ordinal)
    }

    /// A node has that number from us: the next orders are newer. One from another age is a lie,
    /// or the clock's, and says nothing.
    pub(super) fn heard_number(&mut self, number: u64, now: Timestamp) {
        let latest = now.0.unsigned_abs().saturating_add(limits::ORDERS_AHEAD_MICROS);
        self.number = self.number.max(number).min(latest.max(self.number));
    }

    /// Whether an order of that number is of a life before: a late word about one of this life says
    /// nothing.
    pub(super) const fn is_of_before(&self, number: u64) -> bool {
        let had_one = self.before > 0;
        (had_one && number <= self.before) || number > self.number
    }

    /// Orders are numbered from then on: nodes heed none below what they heard in a life before.
    pub(super) fn number_from(&mut self, now: Timestamp) {
        self.number = self.number.max(now.0.unsigned_abs());
        self.before = self.number;
        self.by_child.values_mut().for_each(|it| it.order.number = self.number);
    }

    /// What is kept of a child that stands still, beside that.
    pub(super) fn waits_for(&self, ordinal: Ordinal) -> WaitsFor {
        match self.by_child.get(&ordinal).map(|it| it.order.motion) {
            Some(Motion::Running) if self.is_parked(ordinal) => WaitsFor::Node,
            Some(Motion::Suspended) if self.is_parked(ordinal) => WaitsFor::Restart,
            _ => WaitsFor::Slot,
        }
    }

    pub(super) fn forget(&mut self, ordinal: Ordinal) {
        self.by_child.remove(&ordinal);
        self.parked.remove(&ordinal);
    }

    /// A function that stood still is not there any more, but its checkpoint is: nobody is to be
    /// told of it before its resume.
    pub(super) fn park(&mut self, ordinal: Ordinal, at: Parked) {
        if let Some(it) = self.by_child.get_mut(&ordinal) {
            it.heeded = true;
            self.parked.insert(ordinal, at);
        }
    }

    pub(super) fn is_parked(&self, ordinal: Ordinal) -> bool {
        self.parked.contains_key(&ordinal)
    }

    /// A child goes from a phase to another.
    pub(super) fn count_held(&mut self, was: Phase, is: Phase) {
        match (was == Phase::Held, is == Phase::Held) {
            (false, true) => self.held += 1,
            (true, false) => self.held = self.held.saturating_sub(1),
            _ => {}
        }
    }
}
