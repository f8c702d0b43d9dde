//! What `get` shows: select, add children, has-more-data, time, newest, sort, page.

use std::cmp::Reverse;

use sortie_model::selector::Query;
use sortie_model::{EntryId, Ordinal, Timestamp, limits};
use sortie_wire::session_proto::Trouble;

use super::{JobFacts, Selected, select};
use crate::session::{Place, SessionTable};

/// One page of what a query finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries by ascending number, but children right behind their job.
    pub places: Vec<Place>,
    /// How many there would be without the page.
    pub total: u64,
    /// The ids and literal names that are unknown.
    pub troubles: Vec<Trouble>,
}

/// Runs a query. A page has at most [`limits::PAGE_MOST`] entries, whatever is asked for.
pub fn run<J: JobFacts, A: JobFacts>(query: &Query, table: &SessionTable<J, A>) -> Page {
    let Selected { mut places, troubles } = select(&query.selection, table);
    add_children(query, table, &mut places);
    if let Some(wanted) = query.has_more_data {
        places.retain(|place| has_more_data(*place, table) == wanted);
    }
    if query.before.is_some() || query.after.is_some() {
        places.retain(|place| {
            end_time(*place, table).is_some_and(|end| {
                query.before.is_none_or(|before| end < before)
                    && query.after.is_none_or(|after| end > after)
            })
        });
    }
    if let Some(newest) = query.newest {
        keep_newest(newest as usize, table, &mut places);
    }
    places.sort_unstable_by_key(shown_order);
    let total = places.len() as u64;
    let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let limit = (query.limit as usize).min(limits::PAGE_MOST);
    let places = places.into_iter().skip(offset).take(limit).collect();
    Page { places, total, troubles }
}

/// Adds direct children of the selected jobs: all, or those in one of the states asked for.
fn add_children<J: JobFacts, A: JobFacts>(
    query: &Query,
    table: &SessionTable<J, A>,
    places: &mut Vec<Place>,
) {
    if !query.children && query.child_states.is_empty() {
        return;
    }
    for place in places.clone() {
        let Place::Job(id) = place else { continue };
        let Some(job) = table.facts(id) else { continue };
        for child in (0..job.children()).map(Ordinal) {
            let wanted = query.children
                || job.child_state(child).is_some_and(|state| query.child_states.contains(&state));
            if wanted {
                places.push(Place::Child(id, child));
            }
        }
    }
    // A child may have been selected by itself too.
    places.sort_unstable_by_key(shown_order);
    places.dedup();
}

fn shown_order(place: &Place) -> (EntryId, Option<Ordinal>) {
    match place {
        Place::Job(job) => (*job, None),
        Place::Child(job, child) => (*job, Some(*child)),
    }
}

fn has_more_data<J: JobFacts, A: JobFacts>(place: Place, table: &SessionTable<J, A>) -> bool {
    match place {
        Place::Job(id) => table.facts(id).is_some_and(JobFacts::has_more_data),
        Place::Child(id, child) => {
            table.facts(id).is_some_and(|job| job.child_has_more_data(child))
        }
    }
}

fn end_time<J: JobFacts, A: JobFacts>(
    place: Place,
    table: &SessionTable<J, A>,
) -> Option<Timestamp> {
    match place {
        Place::Job(id) => table.facts(id)?.end_time(),
        Place::Child(id, child) => table.facts(id)?.child_end_time(child),
    }
}

/// Unfinished entries count as newest; of equals the one that was made later.
fn keep_newest<J: JobFacts, A: JobFacts>(
    count: usize,
    table: &SessionTable<J, A>,
    places: &mut Vec<Place>,
) {
    if places.len() <= count {
        return;
    }
    let by_age = |place: &Place| {
        let end = end_time(*place, table);
        let made = match place {
            Place::Job(id) => Some(*id),
            Place::Child(id, child) => table.facts(*id).and_then(|job| job.child_id(*child)),
        };
        (Reverse(end.is_none()), Reverse(end), Reverse(made))
    };
    places.sort_by_cached_key(by_age);
    places.truncate(count);
}
