//! What other readers have in hand where a receive ends: its reader is told, since it does not come
//! here, and is not lost.

use std::collections::HashMap;

use sortie_engine::receive::with_others;
use sortie_engine::session::Place;
use sortie_model::note::with_another_reader;
use sortie_model::record::StreamSet;
use sortie_model::view::EntryView;
use sortie_wire::session_proto::Entries;

use super::target::Target;
use crate::data::session::SessionShared;
use crate::data::window::Window;
use crate::serve::get;

/// How many records of these streams other readers have in hand, by the place that was selected.
pub(super) fn in_hand(
    targets: &[Target],
    streams: StreamSet,
    window: &Window,
) -> Vec<(Place, u64)> {
    let there = targets.iter().filter(|target| !target.job.mailboxes.is_removed());
    let in_hand = there.flat_map(|target| {
        let on_offer = target.on_offer(streams);
        // Most receives are alone.
        if on_offer.is_empty() {
            return Vec::new();
        }
        let own = window.records_by_child(&target.job.mailboxes);
        with_others((target.job.identity.id, &target.part), on_offer, &own)
    });
    in_hand.collect()
}

/// Adds that to what is said of these entries.
pub(super) fn note(session: &SessionShared, entries: &mut Entries, in_hand: &[(Place, u64)]) {
    let by_id = in_hand.iter().filter_map(|(place, records)| {
        get::id_of(session, *place).map(|id| (id, with_another_reader(*records)))
    });
    let mut by_id: HashMap<_, _> = by_id.collect();
    for entry in &mut entries.entries {
        let Some(note) = by_id.remove(&entry.id()) else { continue };
        match entry {
            EntryView::Job(job) => job.notes.push(note),
            EntryView::Child(child) => child.notes.push(note),
        }
    }
}
