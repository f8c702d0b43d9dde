//! Output that has yet to come back from a full disk: how long a receive waits for it, and what its
//! reader is told of where it does not come.

use std::collections::BTreeSet;
use std::time::Duration;

use sortie_engine::receive as rule;
use sortie_engine::session::Place;
use sortie_model::{EntryId, Ordinal};
use sortie_wire::session_proto::{ReceiveSpec, Trouble};
use tokio::time::Instant;

use super::target::Target;
use super::{Broken, Receive, check};
use crate::data::session::SessionShared;
use crate::data::window::Child;
use crate::serve::get;

/// How often a receive looks for what nobody tells it of: what another reader confirms, or what
/// comes back.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// The children of which not all was back when they were read last, and for how long one receive
/// has waited for that.
#[derive(Debug)]
pub(super) struct Room {
    /// Whether the receive makes any, and has not given up.
    waits: bool,
    not_back: BTreeSet<Child>,
    /// Batches that were delivered.
    batches: u64,
    /// What was delivered and in hand when it began to have nothing.
    idle: Option<(Instant, (u64, u64))>,
}

impl Room {
    pub(super) fn new(spec: &ReceiveSpec) -> Self {
        let waits = rule::makes_room(spec);
        Self { waits, not_back: BTreeSet::new(), batches: 0, idle: None }
    }

    pub(super) const fn note_batch(&mut self) {
        self.batches = self.batches.saturating_add(1);
    }

    pub(super) fn set_not_back(&mut self, children: BTreeSet<Child>) {
        self.not_back = children;
    }

    pub(super) fn note(&mut self, child: Child, is_back: bool) {
        if is_back {
            self.not_back.remove(&child);
        } else {
            self.not_back.insert(child);
        }
    }

    /// Those of one target, in child order.
    pub(super) fn not_back(&self, place: usize) -> Vec<Ordinal> {
        let range = (place, Ordinal(0))..=(place, Ordinal(u32::MAX));
        self.not_back.range(range).map(|(_, ordinal)| *ordinal).collect()
    }

    pub(super) fn is_all_back(&self) -> bool {
        self.not_back.is_empty()
    }

    /// Whether to wait on, with so many records in the reader's hand.
    fn goes_on(&mut self, in_hand: u64) -> bool {
        let now = (self.batches, in_hand);
        let since = match self.idle {
            Some((since, then)) if then == now => since,
            _ => self.idle.insert((Instant::now(), now)).0,
        };
        // For good: many children that wait for each other's room are waited for once.
        self.waits &= rule::waits_for_room(in_hand, since.elapsed());
        self.waits
    }
}

impl Receive<'_> {
    /// Everything was delivered that is here, and more has yet to come back: waits a moment for
    /// that. False when it is not to be waited for.
    pub(super) async fn waits_for_room(&mut self) -> Result<bool, Broken> {
        if !self.room.goes_on(self.window.records()) {
            return Ok(false);
        }
        self.outlet.flush().await?;
        tokio::time::sleep(LOOK).await;
        self.window.check()?;
        check(self.stay)?;
        Ok(true)
    }

    /// The children to be read of which not all is back now.
    pub(super) fn children_not_back(&self) -> BTreeSet<Child> {
        let targets = self.targets.iter().enumerate();
        let children = targets.flat_map(|(place, target)| {
            target.not_back().into_iter().map(move |ordinal| (place, ordinal))
        });
        children.collect()
    }

    /// The selected places of which not all came for that reason.
    pub(super) fn places_not_back(&self) -> Vec<Place> {
        let there = |target: &Target| !target.job.mailboxes.is_removed();
        let targets = self.targets.iter().enumerate().filter(|(_, target)| there(target));
        let places = targets.flat_map(|(place, target)| {
            let job = (target.job.identity.id, &target.part);
            rule::not_back(job, self.room.not_back(place))
        });
        places.collect()
    }
}

/// What the reader is told of these places.
pub(super) fn troubles(
    session: &SessionShared,
    spec: &ReceiveSpec,
    places: &[Place],
) -> Vec<Trouble> {
    let named = places.iter().filter_map(|place| Some((get::id_of(session, *place)?, *place)));
    let trouble = |(id, place): (EntryId, Place)| Trouble {
        about: id.to_string(),
        error: rule::incomplete(spec, (id, place)),
    };
    named.map(trouble).collect()
}

#[cfg(test)]
mod tests {
    use sortie_model::limits;
    use sortie_model::selector::Selection;
    use sortie_wire::session_proto::ReceiveMode;

    use super::*;

    fn room(mode: ReceiveMode) -> Room {
        Room::new(&ReceiveSpec::new(Selection::default(), mode))
    }

    /// Lets it have had nothing for so long.
    fn idle(room: &mut Room, time: Duration) {
        let (since, _) = room.idle.as_mut().expect("it waits");
        *since = since.checked_sub(time).expect("a machine that has run for a while");
    }

    #[test]
    fn who_makes_no_room_does_not_wait_for_it() {
        assert!(!room(ReceiveMode::Follow).goes_on(0) && !room(ReceiveMode::Keep).goes_on(3));
    }

    #[test]
    fn who_has_nothing_for_long_gives_up_for_good() {
        let mut room = room(ReceiveMode::Take);
        assert!(room.goes_on(0));
        idle(&mut room, limits::LOST_AFTER);
        room.note_batch();
        assert!(room.goes_on(7), "something came");
        idle(&mut room, limits::LOST_AFTER);
        assert!(room.goes_on(7), "its reader has that in hand");
        assert!(room.goes_on(0), "its reader confirmed it");
        idle(&mut room, limits::LOST_AFTER);
        assert!(!room.goes_on(0));
        room.note_batch();
        assert!(!room.goes_on(0));
    }

    #[test]
    fn the_children_of_a_target_are_told_in_order() {
        let mut room = room(ReceiveMode::Take);
        for child in [(0, Ordinal(4)), (1, Ordinal(3)), (1, Ordinal(0)), (2, Ordinal(0))] {
            room.note(child, false);
        }
        assert_eq!(room.not_back(1), [Ordinal(0), Ordinal(3)]);
        room.note((1, Ordinal(0)), true);
        assert_eq!((room.not_back(1), room.is_all_back()), (vec![Ordinal(3)], false));
    }
}
