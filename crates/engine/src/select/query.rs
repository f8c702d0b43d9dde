//! What `get` shows: select, add children, has-more-data, time, newest, sort, page.

use std::cmp::Reverse;

use sortie_model::selector::{Glob, Query, Selection};
use sortie_model::{EntryId, Ordinal, Timestamp, limits};
use sortie_wire::session_proto::Trouble;

use super::{JobFacts, Selected, passes, select};
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

/// Runs a query. A page has at most [`limits::PAGE_MOST`] entries, whatever is asked for. One that
/// names nothing and wants no children looks at each job once, and takes memory for its page.
pub fn run<J: JobFacts, A: JobFacts>(query: &Query, table: &SessionTable<J, A>) -> Page {
    let about_children = query.children || !query.child_states.is_empty();
    if query.selection.selectors.is_empty() && !about_children {
        return of_all_jobs(query, table);
    }
    let Selected { mut places, troubles } = select(&query.selection, table);
    add_children(query, table, &mut places);
    if let Some(wanted) = query.has_more_data {
        places.retain(|place| has_more_data(*place, table) == wanted);
    }
    places.retain(|place| is_in_time(query, || end_time(*place, table)));
    if let Some(newest) = query.newest {
        keep_newest(newest as usize, table, &mut places);
    }
    places.sort_unstable_by_key(shown_order);
    Page { troubles, ..page_of(query, places) }
}

/// The page of what was found, in the order in which it is shown.
fn page_of(query: &Query, found: impl IntoIterator<Item = Place>) -> Page {
    let limit = (query.limit as usize).min(limits::PAGE_MOST);
    let (mut places, mut total) = (Vec::new(), 0);
    for place in found {
        if total >= query.offset && places.len() < limit {
            places.push(place);
        }
        total += 1;
    }
    Page { places, total, troubles: Vec::new() }
}

/// The page of a query that is about jobs only, and about all.
fn of_all_jobs<J: JobFacts, A: JobFacts>(query: &Query, table: &SessionTable<J, A>) -> Page {
    let Selection { states, command, .. } = &query.selection;
    let command = command.as_ref().map(Glob::matcher);
    let found = table.all().filter(|(_, job)| {
        query.has_more_data.is_none_or(|wanted| job.has_more_data() == wanted)
            && is_in_time(query, || job.end_time())
            && passes(*job, states, command.as_ref())
    });
    let Some(newest) = query.newest.map(|newest| newest as usize) else {
        return page_of(query, found.map(|(id, _)| Place::Job(id)));
    };
    let by_age = found.map(|(id, job)| (age(job.end_time(), Some(id)), id));
    let mut newest = least(newest, by_age);
    newest.sort_unstable_by_key(|(_, id)| *id);
    page_of(query, newest.into_iter().map(|(_, id)| Place::Job(id)))
}

/// The least so many of all, in no order. Takes memory for about twice as many.
fn least<T: Ord>(count: usize, all: impl IntoIterator<Item = T>) -> Vec<T> {
    let most = count.saturating_mul(2).max(limits::PAGE_MOST);
    let keep_least = |kept: &mut Vec<T>| {
        if kept.len() > count {
            kept.select_nth_unstable(count);
            kept.truncate(count);
        }
    };
    let mut kept = Vec::new();
    for one in all {
        kept.push(one);
        if kept.len() > most {
            keep_least(&mut kept);
        }
    }
    keep_least(&mut kept);
    kept
}

/// Whether it ended when the query says; what is unfinished never did.
fn is_in_time(query: &Query, end: impl FnOnce() -> Option<Timestamp>) -> bool {
    (query.before.is_none() && query.after.is_none())
        || end().is_some_and(|end| {
            query.before.is_none_or(|before| end < before)
                && query.after.is_none_or(|after| end > after)
        })
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

/// What makes an entry newer than another: it sorts before it. Unfinished ones count as newest; of
/// equals the one that was made later.
fn age(end: Option<Timestamp>, made: Option<EntryId>) -> impl Ord {
    (Reverse(end.is_none()), Reverse(end), Reverse(made))
}

/// Keeps the newest so many.
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
        age(end, made)
    };
    places.sort_by_cached_key(by_age);
    places.truncate(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_many_are_those_that_come_first_when_all_are_sorted() {
        let shuffled = || (0..30_000_u64).map(|number| number * 7_919 % 30_011);
        let mut sorted: Vec<u64> = shuffled().collect();
        sorted.sort_unstable();
        for count in [0, 1, 10, 9_000, 29_999, 30_000, usize::MAX] {
            let mut found = least(count, shuffled());
            found.sort_unstable();
            assert_eq!(found, sorted[..count.min(sorted.len())], "{count}");
        }
    }
}
