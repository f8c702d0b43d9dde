//! Which jobs and children a verb is about (`docs/semantics.md`, sections 3 and 3.2).

mod query;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;

use sortie_model::selector::{Glob, Matcher, Selection, Selector, fold};
use sortie_model::{EntryId, JobInstance, Ordinal, State, Timestamp};
use sortie_wire::remote_error::{ErrorCode, RemoteError};
use sortie_wire::session_proto::Trouble;
use uuid::Uuid;

use crate::session::{Place, SessionTable};

pub use query::{Page, run};

/// What selection and queries must know of a job and of its children.
pub trait JobFacts {
    /// The given name; none when it is called `Job<id>`.
    fn name(&self) -> Option<&str>;
    /// What was submitted.
    fn command(&self) -> Cow<'_, str>;
    /// Its identity.
    fn instance(&self) -> JobInstance;
    /// Its state.
    fn state(&self) -> State;
    /// When it ended, if it has.
    fn end_time(&self) -> Option<Timestamp>;
    /// Unfinished, or any child with an unread record.
    fn has_more_data(&self) -> bool;
    /// How many children it has; their ordinals are 0 to one below.
    fn children(&self) -> u32;
    /// A child's number. Numbers ascend with ordinals, and are higher than their job's.
    fn child_id(&self, child: Ordinal) -> Option<EntryId>;
    /// A child's state.
    fn child_state(&self, child: Ordinal) -> Option<State>;
    /// When a child ended, if it has.
    fn child_end_time(&self, child: Ordinal) -> Option<Timestamp>;
    /// Unfinished, or an unread record.
    fn child_has_more_data(&self, child: Ordinal) -> bool;
}

impl<J: JobFacts> JobFacts for Arc<J> {
    fn name(&self) -> Option<&str> {
        J::name(self)
    }

    fn command(&self) -> Cow<'_, str> {
        J::command(self)
    }

    fn instance(&self) -> JobInstance {
        J::instance(self)
    }

    fn state(&self) -> State {
        J::state(self)
    }

    fn end_time(&self) -> Option<Timestamp> {
        J::end_time(self)
    }

    fn has_more_data(&self) -> bool {
        J::has_more_data(self)
    }

    fn children(&self) -> u32 {
        J::children(self)
    }

    fn child_id(&self, child: Ordinal) -> Option<EntryId> {
        J::child_id(self, child)
    }

    fn child_state(&self, child: Ordinal) -> Option<State> {
        J::child_state(self, child)
    }

    fn child_end_time(&self, child: Ordinal) -> Option<Timestamp> {
        J::child_end_time(self, child)
    }

    fn child_has_more_data(&self, child: Ordinal) -> bool {
        J::child_has_more_data(self, child)
    }
}

/// No job.
impl JobFacts for Infallible {
    fn name(&self) -> Option<&str> {
        match *self {}
    }

    fn command(&self) -> Cow<'_, str> {
        match *self {}
    }

    fn instance(&self) -> JobInstance {
        match *self {}
    }

    fn state(&self) -> State {
        match *self {}
    }

    fn end_time(&self) -> Option<Timestamp> {
        match *self {}
    }

    fn has_more_data(&self) -> bool {
        match *self {}
    }

    fn children(&self) -> u32 {
        match *self {}
    }

    fn child_id(&self, _: Ordinal) -> Option<EntryId> {
        match *self {}
    }

    fn child_state(&self, _: Ordinal) -> Option<State> {
        match *self {}
    }

    fn child_end_time(&self, _: Ordinal) -> Option<Timestamp> {
        match *self {}
    }

    fn child_has_more_data(&self, _: Ordinal) -> bool {
        match *self {}
    }
}

/// What a selection names, and the words of it that name nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// The entries, each once, in the order of the words, those of one word by ascending number.
    pub places: Vec<Place>,
    /// The ids and literal names that are unknown: an error each; the rest is done.
    pub troubles: Vec<Trouble>,
}

/// Resolves a selection. Without words it means every job. With a filter by state or command only
/// jobs remain, since filters look at parents only.
///
/// An id range, a glob or a filter that matches nothing is empty. Takes O(entries + words), and for
/// each glob one look at each entry's name.
pub fn select<J: JobFacts, A: JobFacts>(
    selection: &Selection,
    table: &SessionTable<J, A>,
) -> Selected {
    let mut found = Found::default();
    let mut troubles = Vec::new();
    if selection.selectors.is_empty() {
        found.push_all_jobs(table);
    }
    let names = jobs_by_name(selection, table);
    for selector in &selection.selectors {
        let before = found.named;
        push_selector(selector, table, &names, &mut found);
        if found.named == before && selector.must_name_something() {
            let error = nothing_named(selector);
            troubles.push(Trouble { about: selector.to_string(), error });
        }
    }
    let mut places = found.places;
    if selection.has_filters() {
        let command = selection.command.as_ref().map(Glob::matcher);
        places.retain(|place| match place {
            Place::Job(id) => {
                table.facts(*id).is_some_and(|job| passes(job, &selection.states, command.as_ref()))
            }
            Place::Child(..) => false,
        });
    }
    Selected { places, troubles }
}

#[derive(Default)]
struct Found {
    places: Vec<Place>,
    seen: HashSet<Place>,
    /// Every job is among them.
    all_jobs: bool,
    /// How often anything was named, repetitions included.
    named: u64,
}

impl Found {
    fn push(&mut self, place: Place) {
        self.named += 1;
        let is_there = self.all_jobs && matches!(place, Place::Job(_));
        if !is_there && self.seen.insert(place) {
            self.places.push(place);
        }
    }

    /// Of many jobs it is not noted one by one that they are there.
    fn push_all_jobs<J: JobFacts, A: JobFacts>(&mut self, table: &SessionTable<J, A>) {
        let all = table.all().map(|(id, _)| Place::Job(id));
        if !self.all_jobs {
            let seen = &self.seen;
            self.places.extend(all.filter(|place| seen.is_empty() || !seen.contains(place)));
        }
        self.named += u64::from(!self.places.is_empty());
        self.all_jobs = true;
    }
}

/// The jobs that carry a name which the selection writes out, by folded name: one look at each job,
/// however many names there are.
fn jobs_by_name<J: JobFacts, A: JobFacts>(
    selection: &Selection,
    table: &SessionTable<J, A>,
) -> HashMap<String, Vec<EntryId>> {
    let literal = selection.selectors.iter().filter_map(|selector| match selector {
        Selector::Name(glob) if glob.is_literal() => Some((fold(&glob.0), Vec::new())),
        _ => None,
    });
    let mut names: HashMap<String, Vec<EntryId>> = literal.collect();
    if !names.is_empty() {
        for (id, job) in table.all() {
            if let Some(ids) = job.name().and_then(|name| names.get_mut(&fold(name))) {
                ids.push(id);
            }
        }
    }
    names
}

fn push_selector<J: JobFacts, A: JobFacts>(
    selector: &Selector,
    table: &SessionTable<J, A>,
    names: &HashMap<String, Vec<EntryId>>,
    found: &mut Found,
) {
    match selector {
        Selector::Id(id) => table.place(*id).into_iter().for_each(|place| found.push(place)),
        Selector::Range(first, last) => {
            entries_between(*first..=*last, table).for_each(|(_, place)| found.push(place));
        }
        Selector::Instance(instance) => {
            find_instance(*instance, table).into_iter().for_each(|place| found.push(place));
        }
        Selector::Name(glob) if glob.is_literal() => {
            let name = fold(&glob.0);
            let default = default_named(&name, table);
            let given = names.get(&name).into_iter().flatten().map(|id| (*id, Place::Job(*id)));
            let mut all: Vec<_> = given.chain(default).collect();
            all.sort_unstable_by_key(|(id, _)| *id);
            all.into_iter().for_each(|(_, place)| found.push(place));
        }
        Selector::Name(glob) => push_glob(glob, table, found),
        Selector::Last => {
            table.newest().into_iter().for_each(|id| found.push(Place::Job(id)));
        }
        Selector::All => found.push_all_jobs(table),
    }
}

/// Jobs and children whose numbers lie in the range, by ascending number. Children's numbers ascend
/// with their ordinals, so those of one job are found by halving.
fn entries_between<J: JobFacts, A: JobFacts>(
    range: RangeInclusive<EntryId>,
    table: &SessionTable<J, A>,
) -> impl Iterator<Item = (EntryId, Place)> {
    let mut entries = Vec::new();
    for (id, job) in table.all().take_while(|(id, _)| id <= range.end()) {
        if range.contains(&id) {
            entries.push((id, Place::Job(id)));
        }
        let first = first_child_from(*range.start(), job);
        let children = (first..job.children()).map(Ordinal);
        let numbered = children.map_while(|child| Some((job.child_id(child)?, child)));
        let inside = numbered.take_while(|(id, _)| id <= range.end());
        entries.extend(inside.map(|(number, child)| (number, Place::Child(id, child))));
    }
    entries.sort_unstable_by_key(|(id, _)| *id);
    entries.into_iter()
}

/// The first ordinal whose child has that number or a higher one.
fn first_child_from(number: EntryId, job: &dyn JobFacts) -> u32 {
    let (mut low, mut high) = (0, job.children());
    while low < high {
        let middle = low + (high - low) / 2;
        if job.child_id(Ordinal(middle)).is_some_and(|id| id < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn push_glob<J: JobFacts, A: JobFacts>(glob: &Glob, table: &SessionTable<J, A>, found: &mut Found) {
    let matcher = glob.matcher();
    for (id, place) in entries_between(EntryId(0)..=EntryId(u64::MAX), table) {
        let given = match place {
            Place::Job(_) => table.facts(id).and_then(JobFacts::name),
            Place::Child(..) => None,
        };
        let matches = match given {
            Some(name) => matcher.is_match(name),
            None => glob.0 == "*" || matcher.is_match(&format!("Job{id}")),
        };
        if matches {
            found.push(place);
        }
    }
}

/// The entry that is called `Job<id>` because it was given no name; `name` is folded.
fn default_named<J: JobFacts, A: JobFacts>(
    name: &str,
    table: &SessionTable<J, A>,
) -> Option<(EntryId, Place)> {
    let id = EntryId(name.strip_prefix("job")?.parse().ok()?);
    // `Job07` and `Job+7` are not what an entry is called.
    if name != format!("job{id}") {
        return None;
    }
    let place = table.place(id)?;
    let named = matches!(place, Place::Job(job) if table.facts(job)?.name().is_some());
    (!named).then_some((id, place))
}

/// A job is found by an index, unless it is archived. A child's identity is computed from its
/// job's, so it is found by computing: in proportion to all children, and only for a UUID that can
/// be a child's.
fn find_instance<J: JobFacts, A: JobFacts>(
    instance: Uuid,
    table: &SessionTable<J, A>,
) -> Option<Place> {
    if let Some(id) = table.find_instance(JobInstance(instance)) {
        return Some(Place::Job(id));
    }
    if instance.get_version_num() != 5 {
        return None;
    }
    table.all().find_map(|(id, job)| {
        let mine = |child: &Ordinal| job.instance().child(*child).0 == instance;
        let child = (0..job.children()).map(Ordinal).find(mine)?;
        Some(Place::Child(id, child))
    })
}

/// Whether a job passes the filters of a selection.
fn passes(job: &dyn JobFacts, states: &[State], command: Option<&Matcher>) -> bool {
    (states.is_empty() || states.contains(&job.state()))
        && command.is_none_or(|command| command.is_match(&job.command()))
}

/// The error of who wants one entry, where the selector names none.
pub fn nothing_named(selector: &Selector) -> RemoteError {
    let message = match selector {
        Selector::Id(id) => format!("no job or child has the id {id}"),
        Selector::Range(first, last) => format!("no job or child has an id in {first}-{last}"),
        Selector::Last | Selector::All => "there is no job yet".to_owned(),
        Selector::Instance(instance) => format!("no job or child has the identity {instance}"),
        Selector::Name(name) if name.is_literal() => {
            format!("no job or child is called `{selector}`")
        }
        Selector::Name(_) => format!("`{selector}` matches no job and no child"),
    };
    RemoteError::new(ErrorCode::NotFound, message)
        .hint("`sortie get --children` lists jobs and children")
}
