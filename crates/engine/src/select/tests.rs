use std::cmp::Reverse;
use std::time::Duration;

use proptest::prelude::*;
use sortie_model::selector::Query;
use sortie_model::spec::{BodySpec, RunIn};
use sortie_model::{IdempotencyKey, JobSpec};

use super::*;
use crate::session::{Run, StartDecision};

/// What a test says of an entry.
#[derive(Debug, Clone)]
struct Facts {
    id: EntryId,
    state: State,
    end: Option<Timestamp>,
    more: bool,
}

#[derive(Debug, Clone)]
struct FakeJob {
    facts: Facts,
    name: Option<String>,
    command: String,
    children: Vec<Facts>,
}

impl JobFacts for FakeJob {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
    fn command(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.command)
    }
    fn instance(&self) -> JobInstance {
        instance(self.facts.id)
    }
    fn state(&self) -> State {
        self.facts.state
    }
    fn end_time(&self) -> Option<Timestamp> {
        self.facts.end
    }
    fn has_more_data(&self) -> bool {
        self.facts.more
    }
    fn children(&self) -> u32 {
        self.children.len() as u32
    }
    fn child_id(&self, child: Ordinal) -> Option<EntryId> {
        self.children.get(child.0 as usize).map(|child| child.id)
    }
    fn child_state(&self, child: Ordinal) -> Option<State> {
        self.children.get(child.0 as usize).map(|child| child.state)
    }
    fn child_end_time(&self, child: Ordinal) -> Option<Timestamp> {
        self.children.get(child.0 as usize)?.end
    }
    fn child_has_more_data(&self, child: Ordinal) -> bool {
        self.children[child.0 as usize].more
    }
}

fn instance(job: EntryId) -> JobInstance {
    JobInstance(Uuid::from_u128(0x7000_0000_0000 + u128::from(job.0)))
}

/// What a test asks for: a job with children, or more children of an earlier job's open input.
#[derive(Debug, Clone)]
enum Made {
    Job { name: Option<&'static str>, command: &'static str, children: Vec<Plain> },
    More { job: usize, children: Vec<Plain> },
    Remove { job: usize },
}

/// State, end time, unread data.
type Plain = (State, Option<i64>, bool);

type Table = SessionTable<FakeJob, FakeJob>;

fn table(made: &[Made]) -> Table {
    let mut table = Table::default();
    let mut jobs: Vec<FakeJob> = Vec::new();
    let mut removed = Vec::new();
    let facts = |first: EntryId, (place, plain): (usize, &Plain)| Facts {
        id: EntryId(first.0 + place as u64),
        state: plain.0,
        end: plain.1.map(Timestamp),
        more: plain.2,
    };
    for made in made {
        match made {
            Made::Job { name, command, children } => {
                let key = IdempotencyKey::try_from(format!("k{}", jobs.len())).unwrap();
                let body = BodySpec::Task {
                    name: "t".to_owned(),
                    input: bytes::Bytes::new(),
                    types: None,
                    run_in: RunIn::Thread,
                };
                let count = children.len() as u64;
                let spec = JobSpec::new(*command, body);
                let start = table.on_start(key, &spec, count, Duration::ZERO);
                let Ok(StartDecision::New(id)) = start else { panic!("{start:?}") };
                let first = EntryId(id.0 + 1);
                let plain = children.first().unwrap_or(&(State::Completed, Some(1), false));
                jobs.push(FakeJob {
                    facts: facts(id, (0, plain)),
                    name: name.map(str::to_owned),
                    command: (*command).to_owned(),
                    children: children.iter().enumerate().map(|it| facts(first, it)).collect(),
                });
            }
            Made::More { job, children } => {
                let Some(job) = jobs.get_mut(*job) else { continue };
                let ordinal = Ordinal(job.children.len() as u32);
                let first = table.reserve_children(job.facts.id, ordinal, children.len() as u64);
                job.children.extend(children.iter().enumerate().map(|it| facts(first, it)));
            }
            Made::Remove { job } => removed.extend(jobs.get(*job).map(|job| job.facts.id)),
        }
    }
    for job in jobs {
        table.insert(job.facts.id, job.instance(), job);
    }
    for id in removed {
        table.remove(id, instance(id), Duration::ZERO);
    }
    table
}

const RUNNING: Plain = (State::Running, None, true);
const DONE: Plain = (State::Completed, Some(50), false);
const FAILED: Plain = (State::Failed, Some(20), true);

/// 1 `web` with 2, 3; 4 `Web` with 5; 6 with 7 and, read later, 10, 11; 8 with 9.
fn session() -> Table {
    let job = |name, command, children: &[Plain]| Made::Job {
        name,
        command,
        children: children.to_vec(),
    };
    table(&[
        job(Some("web"), "serve --port 80", &[RUNNING, DONE]),
        job(Some("Web"), "serve", &[FAILED]),
        job(None, "wc {}", &[DONE]),
        job(None, "true", &[DONE]),
        Made::More { job: 2, children: vec![RUNNING, FAILED] },
    ])
}

fn number(place: &Place, table: &Table) -> u64 {
    match place {
        Place::Job(id) => id.0,
        Place::Child(id, child) => table.job(*id).unwrap().child_id(*child).unwrap().0,
    }
}

fn numbers(places: &[Place], table: &Table) -> Vec<u64> {
    places.iter().map(|place| number(place, table)).collect()
}

#[track_caller]
fn check(words: &str, expected: &[u64]) {
    let table = session();
    let selection = Selection::parse(words.split_whitespace()).unwrap();
    let selected = select(&selection, &table);
    assert_eq!(numbers(&selected.places, &table), expected, "{words}");
    assert_eq!(selected.troubles, [], "{words}");
}

#[track_caller]
fn check_filtered(selection: Selection, expected: &[u64]) {
    let table = session();
    let selected = select(&selection, &table);
    assert_eq!((numbers(&selected.places, &table), selected.troubles), (expected.to_vec(), vec![]));
}

#[track_caller]
fn check_query(query: Query, expected: &[u64]) {
    let table = session();
    assert_eq!(numbers(&run(&query, &table).places, &table), expected, "{query:?}");
}

#[test]
fn no_word_means_every_job() {
    check("", &[1, 4, 6, 8]);
    check("all", &[1, 4, 6, 8]);
}

#[test]
fn an_id_names_a_job_or_a_child() {
    check("4", &[4]);
    check("10 3", &[10, 3]);
}

#[test]
fn a_range_names_what_is_there_and_may_be_empty() {
    check("3-6", &[3, 4, 5, 6]);
    check("9-99", &[9, 10, 11]);
    check("50-60", &[]);
    check("0-18446744073709551615", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn a_name_is_compared_without_case_and_may_name_several() {
    check("WEB", &[1, 4]);
    check("job6", &[6]);
    check("Job5", &[5]);
    check("web 1 Job2", &[1, 4, 2]);
}

#[test]
fn a_glob_matches_children_too_and_may_match_nothing() {
    check("*", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    check("w*", &[1, 4]);
    check("job1*", &[10, 11]);
    check("nothing*", &[]);
}

#[test]
fn last_is_the_newest_job_and_not_a_child() {
    check("last", &[8]);
}

#[test]
fn an_identity_names_a_job_or_a_child() {
    check(&instance(EntryId(4)).0.to_string(), &[4]);
    check(&instance(EntryId(6)).child(Ordinal(2)).0.to_string(), &[11]);
}

#[test]
fn what_is_named_twice_counts_once_where_it_was_named_first() {
    check("8 last all 8", &[8, 1, 4, 6]);
}

#[test]
fn an_unknown_id_or_literal_name_is_an_error_for_that_word_alone() {
    let table = session();
    let identity = Uuid::from_u128(5).to_string();
    let words = ["12", "1", "nope", "Job1", "Job06", "nope*", "90-99", &identity];
    let selected = select(&Selection::parse(words).unwrap(), &table);
    assert_eq!(numbers(&selected.places, &table), [1]);
    let about: Vec<_> = selected.troubles.iter().map(|trouble| trouble.about.as_str()).collect();
    assert_eq!(about, ["12", "nope", "Job1", "Job06", &identity]);
    assert!(selected.troubles.iter().all(|trouble| trouble.error.code == ErrorCode::NotFound));
    let empty = Table::default();
    assert_eq!(select(&Selection::of([Selector::Last]), &empty).troubles.len(), 1);
    assert_eq!(select(&Selection::of([Selector::All]), &empty), Selected::default());
}

#[test]
fn filters_look_at_parents_only() {
    let state = |state| Selection { states: vec![state], ..Selection::default() };
    check_filtered(state(State::Running), &[1]);
    check_filtered(state(State::Blocked), &[]);
    let command = Some(Glob("SERVE*".to_owned()));
    check_filtered(Selection { command: command.clone(), ..Selection::default() }, &[1, 4]);
    let both = Selection { command, ..state(State::Failed) };
    check_filtered(both, &[4]);
    let words = Selection::parse(["*"]).unwrap();
    check_filtered(Selection { states: vec![State::Completed], ..words }, &[6, 8]);
}

#[test]
fn children_come_right_behind_their_job() {
    let all = [1, 2, 3, 4, 5, 6, 7, 10, 11, 8, 9];
    check_query(Query { children: true, ..Query::default() }, &all);
    let selection = Selection::parse(["7", "last", "6"]).unwrap();
    check_query(Query { selection, children: true, ..Query::default() }, &[6, 7, 10, 11, 8, 9]);
}

#[test]
fn a_child_state_adds_children_and_drops_no_parent() {
    let child_states = vec![State::Failed];
    check_query(Query { child_states, ..Query::default() }, &[1, 4, 5, 6, 11, 8]);
}

#[test]
fn has_more_data_filters_what_would_be_printed() {
    let query = Query { children: true, ..Query::default() };
    check_query(Query { has_more_data: Some(true), ..query.clone() }, &[1, 2, 4, 5, 10, 11]);
    check_query(Query { has_more_data: Some(false), ..query }, &[3, 6, 7, 8, 9]);
}

#[test]
fn times_are_strict_and_never_match_what_is_unfinished() {
    let query = Query { children: true, ..Query::default() };
    check_query(Query { before: Some(Timestamp(50)), ..query.clone() }, &[4, 5, 11]);
    check_query(Query { after: Some(Timestamp(20)), ..query.clone() }, &[3, 6, 7, 8, 9]);
    check_query(Query { after: Some(Timestamp(50)), ..query }, &[]);
}

#[test]
fn the_newest_are_picked_by_end_and_printed_by_id() {
    check_query(Query { newest: Some(2), ..Query::default() }, &[1, 8]);
    check_query(Query { newest: Some(3), ..Query::default() }, &[1, 6, 8]);
    check_query(Query { newest: Some(0), ..Query::default() }, &[]);
}

#[test]
fn a_page_says_how_much_there_is() {
    let table = session();
    let query = Query { children: true, limit: 3, offset: 2, ..Query::default() };
    let page = run(&query, &table);
    assert_eq!((numbers(&page.places, &table), page.total), (vec![3, 4, 5], 11));
    let beyond = run(&Query { offset: u64::MAX, ..query }, &table);
    assert_eq!((beyond.places.len(), beyond.total), (0, 11));
}

fn plain() -> impl Strategy<Value = Plain> {
    (prop::sample::select(State::ALL.to_vec()), prop::option::of(0..4_i64), any::<bool>())
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let children = || prop::collection::vec(plain(), 0..4);
    let name = prop::sample::select(vec![None, Some("a"), Some("A"), Some("ab"), Some("Job3")]);
    let job = (name, prop::sample::select(vec!["x", "xy"]), children())
        .prop_map(|(name, command, children)| Made::Job { name, command, children });
    let more = (0..6_usize, children()).prop_map(|(job, children)| Made::More { job, children });
    let remove = (0..6_usize).prop_map(|job| Made::Remove { job });
    prop::collection::vec(prop_oneof![3 => job, 1 => more, 1 => remove], 0..8)
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,2}", "[0-9]-1[0-9]", "last|all|a|ab|nope|job[0-9]", "[aj]\\*|\\*|job\\?"]
}

/// All entries by ascending number, each with what it is called.
fn entries(table: &Table) -> Vec<(u64, String, Place)> {
    let mut entries = Vec::new();
    for (id, job) in table.jobs() {
        let name = job.name.clone().unwrap_or_else(|| format!("Job{id}"));
        entries.push((id.0, name, Place::Job(id)));
        for (ordinal, child) in job.children.iter().enumerate() {
            let place = Place::Child(id, Ordinal(ordinal as u32));
            entries.push((child.id.0, format!("Job{}", child.id), place));
        }
    }
    entries.sort_by_key(|entry| entry.0);
    entries
}

/// The obvious model: every word looks at every entry.
fn slow(selectors: &[Selector], table: &Table) -> (Vec<Place>, usize) {
    let entries = entries(table);
    let newest = table.jobs().map(|(id, _)| id).max();
    let (mut places, mut missing) = (Vec::new(), 0);
    for selector in selectors {
        let is_job = |place: &Place| matches!(place, Place::Job(_));
        let matching: Vec<_> = entries
            .iter()
            .filter(|(id, name, place)| match selector {
                Selector::Id(wanted) => *id == wanted.0,
                Selector::Range(first, last) => (first.0..=last.0).contains(id),
                Selector::Name(glob) => glob.matches(name),
                Selector::Last => is_job(place) && newest == Some(EntryId(*id)),
                Selector::All => is_job(place),
                Selector::Instance(_) => false,
            })
            .collect();
        let must = match selector {
            Selector::Range(..) | Selector::All => false,
            Selector::Name(glob) => glob.is_literal(),
            _ => true,
        };
        missing += usize::from(must && matching.is_empty());
        for (_, _, place) in matching {
            if !places.contains(place) {
                places.push(*place);
            }
        }
    }
    (places, missing)
}

fn facts(place: &Place, table: &Table) -> Facts {
    match place {
        Place::Job(id) => table.job(*id).unwrap().facts.clone(),
        Place::Child(id, child) => table.job(*id).unwrap().children[child.0 as usize].clone(),
    }
}

fn slow_query(query: &Query, table: &Table) -> Vec<Place> {
    let mut places = slow(&query.selection.selectors, table).0;
    if query.selection.selectors.is_empty() {
        places = table.jobs().map(|(id, _)| Place::Job(id)).collect();
    }
    if !query.selection.states.is_empty() {
        places.retain(|place| {
            matches!(place, Place::Job(_))
                && query.selection.states.contains(&facts(place, table).state)
        });
    }
    for (_, _, place) in entries(table) {
        let Place::Child(job, _) = place else { continue };
        let wanted = query.children || query.child_states.contains(&facts(&place, table).state);
        if wanted && places.contains(&Place::Job(job)) && !places.contains(&place) {
            places.push(place);
        }
    }
    places.retain(|place| {
        let facts = facts(place, table);
        query.has_more_data.is_none_or(|wanted| facts.more == wanted)
            && query.before.is_none_or(|before| facts.end.is_some_and(|end| end < before))
            && query.after.is_none_or(|after| facts.end.is_some_and(|end| end > after))
    });
    let mut newest = places.clone();
    newest.sort_by_key(|place| {
        let facts = facts(place, table);
        Reverse((facts.end.is_none(), facts.end, facts.id))
    });
    newest.truncate(query.newest.map_or(usize::MAX, |newest| newest as usize));
    places.retain(|place| newest.contains(place));
    places.sort_by_key(|place| match place {
        Place::Job(id) => (id.0, 0),
        Place::Child(id, _) => (id.0, number(place, table)),
    });
    places
}

fn query() -> impl Strategy<Value = Query> {
    let states = || prop::collection::vec(prop::sample::select(State::ALL.to_vec()), 0..4);
    let time = || prop::option::weighted(0.3, (0..4_i64).prop_map(Timestamp));
    let words = prop::collection::vec(word(), 0..4);
    let filters = (any::<bool>(), states(), prop::option::of(any::<bool>()));
    (words, states(), filters, time(), time(), prop::option::weighted(0.3, 0..5_u32)).prop_map(
        |(words, states, (children, child_states, has_more_data), before, after, newest)| {
            let selection = Selection { states, ..Selection::parse(words).unwrap() };
            let query = Query { selection, children, child_states, ..Query::default() };
            Query { has_more_data, before, after, newest, ..query }
        },
    )
}

/// Archives the jobs of these turns, as far as they are there.
fn archive(table: &mut Table, turns: &[usize]) {
    let ids: Vec<EntryId> = table.jobs().map(|(id, _)| id).collect();
    for id in turns.iter().filter_map(|turn| ids.get(*turn)) {
        table.archive(*id, |job| Some(job.clone()));
    }
}

/// Where the children of a job are.
fn runs(job: &FakeJob) -> Vec<Run> {
    let children = job.children.iter().enumerate();
    children.map(|(place, child)| (child.id, Ordinal(place as u32), 1)).collect()
}

#[test]
fn an_archived_job_has_no_place_in_the_list_of_those_that_move() {
    let mut table = session();
    archive(&mut table, &[1, 2]);
    assert_eq!(table.jobs().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 8]);
    assert_eq!((table.len(), table.newest()), (4, Some(EntryId(8))));
    let gone = table.remove_archived(EntryId(6)).expect("it is archived");
    assert_eq!((gone.facts.id, table.place(EntryId(10))), (EntryId(6), None));
    assert!(!table.bring_back((EntryId(6), gone.instance()), gone.clone(), &runs(&gone)));
}

#[test]
fn an_archived_job_is_found_by_its_identity_also_when_the_clock_was_set_back() {
    let mut table = session();
    let ids = [1, 4, 6, 8].map(EntryId);
    let find = |table: &Table| ids.map(|id| table.find_instance(instance(id)));
    archive(&mut table, &[0, 1, 2, 3]);
    assert_eq!(find(&table), ids.map(Some));
    assert_eq!(table.find_instance(instance(EntryId(5))), None);
    let rows: Vec<FakeJob> = table.all_archived().map(|(_, row)| row.clone()).collect();
    table.put_archived(ids.into_iter().rev().zip(rows).collect());
    assert_eq!(find(&table), [8, 6, 4, 1].map(|id| Some(EntryId(id))));
    table.put_archived(std::collections::BTreeMap::new());
    assert_eq!(find(&table), [None; 4]);
}

proptest! {
    #[test]
    fn no_word_and_all_find_the_same_jobs(
        made in made(),
        turns in prop::collection::vec(0..6_usize, 0..6),
        query in query(),
        command in prop::option::of("x|\\*y|z"),
        (offset, limit) in (0..3_u64, 0..5_u32),
    ) {
        let mut table = table(&made);
        archive(&mut table, &turns);
        let command = command.map(Glob);
        let selection = Selection { selectors: Vec::new(), command, ..query.selection };
        let query = Query { selection, children: false, child_states: vec![], ..query };
        let none = Query { offset, limit, ..query };
        let mut all = none.clone();
        all.selection.selectors = vec![Selector::All];
        prop_assert_eq!(run(&none, &table), run(&all, &table));
    }

    #[test]
    fn a_query_does_not_see_what_is_archived(
        made in made(),
        turns in prop::collection::vec(0..6_usize, 0..6),
        query in query(),
    ) {
        let (plain, mut table) = (table(&made), table(&made));
        archive(&mut table, &turns);
        let same = |table: &Table| {
            let places = |table: &Table| -> Vec<_> {
                (0..60).map(|id| table.place(EntryId(id))).collect()
            };
            run(&query, table) == run(&query, &plain) && places(table) == places(&plain)
        };
        prop_assert!(same(&table) && same(&table.without_keys()));
        let archived: Vec<FakeJob> = table.all_archived().map(|(_, job)| job.clone()).collect();
        for job in archived {
            let runs = runs(&job);
            prop_assert!(table.bring_back((job.facts.id, job.instance()), job, &runs));
        }
        prop_assert!(same(&table));
    }

    #[test]
    fn selecting_agrees_with_looking_at_every_entry(
        made in made(),
        words in prop::collection::vec(word(), 1..6),
    ) {
        let table = table(&made);
        let selection = Selection::parse(words).unwrap();
        let selected = select(&selection, &table);
        let (places, missing) = slow(&selection.selectors, &table);
        prop_assert_eq!((selected.places, selected.troubles.len()), (places, missing));
    }

    #[test]
    fn a_query_agrees_with_its_steps_done_one_by_one(made in made(), query in query()) {
        let table = table(&made);
        let page = run(&query, &table);
        let expected = slow_query(&query, &table);
        prop_assert_eq!(page.total, expected.len() as u64);
        prop_assert_eq!(page.places, expected);
    }
}
