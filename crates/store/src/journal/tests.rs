//! The journal on a disk in memory.

mod faults;
mod history;
mod versions;

use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use sortie_model::facts::WaitsFor;
use sortie_model::spec::BodySpec;
use sortie_model::view::Kind;
use sortie_model::{
    ChildIncarnation, EntryId, IdempotencyKey, JobInstance, JobSpec, Ordinal, Seq, SessionId,
    SessionInstance, State, Stream, Timestamp,
};
use uuid::Uuid;

use super::*;
use crate::disk::simulated::SimulatedDisk;
use crate::segment::Taken;

const DIRECTORY: &str = "state";
const BOUNDS: JournalBounds = JournalBounds { reserve: 64 * 1024, cache: 1 << 20 };
const SESSION: SessionInstance = SessionInstance(Uuid::from_u128(1));

fn open(disk: &SimulatedDisk) -> Journal {
    try_open(disk).expect("a journal")
}

fn try_open(disk: &SimulatedDisk) -> Result<Journal, OpenError> {
    Journal::open_on(disk.shared(), DIRECTORY.as_ref(), BOUNDS)
}

fn session(next_id: u64) -> SessionEntry {
    SessionEntry {
        id: SessionId(1),
        instance: SESSION,
        name: "default".to_owned(),
        owner: "ann".to_owned(),
        created: Timestamp(5),
        next_id: EntryId(next_id),
        epoch: 0,
        idle_timeout: None,
        disconnected: None,
        output: Default::default(),
        directory: None,
        environment: Vec::new(),
    }
}

fn key(number: u64) -> IdempotencyKey {
    format!("key-{number}").try_into().expect("a key")
}

fn instance(number: u64) -> JobInstance {
    JobInstance(Uuid::from_u128(1_000 + u128::from(number)))
}

fn spec(text: &'static str) -> JobSpec {
    let input = Bytes::from_static(text.as_bytes());
    let (name, types, run_in) = ("task".to_owned(), None, Default::default());
    JobSpec::new(text, BodySpec::Task { name, input, types, run_in })
}

/// A job of one child.
fn new_job(number: u64) -> NewJob {
    let entry = JobEntry {
        id: EntryId(number),
        instance: instance(number),
        name: format!("Job{number}"),
        command: "true".to_owned(),
        kind: Kind::Background,
        created: Timestamp(7),
        known_children: 1,
        facts: JobFacts::default(),
    };
    let plan = JobPlan { spec: spec("true"), nodes: Vec::new() };
    let (digest, children) = (SpecDigest::of(&plan.spec).expect("short"), Vec::new());
    let (of_all, next_id) = (digest, EntryId(number + 2));
    NewJob { session: SESSION, key: key(number), entry, plan, digest, of_all, children, next_id }
}

fn finished(end: i64, output_bytes: u64) -> Box<JobFacts> {
    let (state, end) = (State::Completed, Some(Timestamp(end)));
    Box::new(JobFacts { state, end, output_bytes, ..JobFacts::default() })
}

fn child(id: u64, state: State) -> ChildFacts {
    ChildFacts {
        id: EntryId(id),
        node: Some(0),
        incarnation: ChildIncarnation(0),
        state,
        waits_for: WaitsFor::Slot,
        told_to_stop: false,
        begin: None,
        end: None,
        outcome: None,
    }
}

fn wait<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, JournalError>) + Send>) -> Result<(), JournalError>,
) -> Result<T, JournalError> {
    let (told, answer) = mpsc::channel();
    ask(Box::new(move |answer| told.send(answer).expect("the test waits")))?;
    answer.recv().expect("every request is answered")
}

fn start(journal: &Journal, new: NewJob) -> Result<Started, JournalError> {
    wait(|done| journal.start(new, done))
}

fn change(journal: &Journal, changes: Vec<Change>) -> Result<(), JournalError> {
    wait(|done| journal.change(changes, Durability::Durable, done))
}

fn relaxed(journal: &Journal, changes: Vec<Change>) -> Result<(), JournalError> {
    wait(|done| journal.change(changes, Durability::Relaxed, done))
}

fn with_session(disk: &SimulatedDisk) -> Journal {
    let journal = open(disk);
    change(&journal, vec![Change::SessionOpened(Box::new(session(1)))]).expect("a session");
    journal
}

#[test]
fn a_key_has_one_job_whatever_is_sent_again() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    assert_eq!(start(&journal, new_job(1)).expect("accepted"), Started::New);
    let again = NewJob { key: key(1), ..new_job(3) };
    assert_eq!(start(&journal, again.clone()).expect("known"), Started::Same(EntryId(1)));
    let mut other = again.clone();
    other.digest = SpecDigest::of(&spec("false")).expect("short");
    // Its key is of a journal of before.
    let known = start(&journal, other.clone()).expect("known");
    assert_eq!(known, Started::Same(EntryId(1)));
    other.of_all = other.digest;
    let reused = start(&journal, other).expect_err("another spec");
    assert!(matches!(reused, JournalError::KeyReused { job: EntryId(1) }));
    let stranger = NewJob { session: SessionInstance(Uuid::from_u128(9)), ..new_job(5) };
    assert!(matches!(start(&journal, stranger), Err(JournalError::NoSession)));
    // What was acknowledged outlives the machine's failure, and so does the answer.
    let journal = open(&disk.after_a_crash());
    assert_eq!(start(&journal, again).expect("known"), Started::Same(EntryId(1)));
    let (stored_key, entry) = journal.job(SESSION, EntryId(1)).expect("readable").expect("a job");
    assert_eq!((stored_key, &entry), (key(1), &new_job(1).entry));
    assert_eq!(journal.plan(SESSION, EntryId(1)).expect("readable"), Some(new_job(1).plan));
    assert_eq!(journal.job_place(entry.instance).expect("readable"), Some((SESSION, EntryId(1))));
    assert_eq!(journal.unfinished(SESSION, None, 9).expect("readable"), [EntryId(1)]);
    let stored = journal.session(SESSION).expect("readable").expect("a session");
    assert_eq!(stored, session(3), "the counter is raised in the same step");
}

#[test]
fn a_sessions_counter_never_goes_back() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    start(&journal, new_job(1)).expect("accepted");
    let renamed = SessionEntry { name: "other".to_owned(), epoch: 4, ..session(2) };
    change(&journal, vec![Change::SessionChanged(Box::new(renamed))]).expect("changed");
    let [stored] = &journal.sessions().expect("readable")[..] else { panic!("one session") };
    assert_eq!((&*stored.name, stored.epoch, stored.next_id), ("other", 4, EntryId(3)));
}

#[test]
fn a_million_children_that_wait_are_few_rows_and_each_can_move() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    start(&journal, new_job(1)).expect("accepted");
    let moved = |first, count, id, state| Change::ChildrenChanged {
        session: SESSION,
        job: instance(1),
        runs: vec![ChildRun { first: Ordinal(first), count, facts: child(id, state) }],
        next_id: Some(EntryId(id + u64::from(count))),
    };
    let syncs = disk.syncs();
    change(&journal, vec![moved(0, 1_000_000, 2, State::NotStarted)]).expect("stored");
    assert!(disk.syncs() - syncs < 20, "not one sync for each child");
    change(&journal, vec![moved(700, 1, 702, State::Running)]).expect("stored");
    let runs = journal.children(instance(1), Ordinal(690), 3).expect("readable");
    let shape: Vec<_> = runs.iter().map(|run| (run.first.0, run.count, run.facts.state)).collect();
    let (waits, runs_now) = (State::NotStarted, State::Running);
    assert_eq!(shape, [(690, 10, waits), (700, 1, runs_now), (701, 67, waits)]);
    assert_eq!(runs[2].facts.id, EntryId(703));
    let last = journal.children(instance(1), Ordinal(999_999), 3).expect("readable");
    assert_eq!((last.len(), last[0].count, last[0].facts.id), (1, 1, EntryId(1_000_001)));
    assert_eq!(journal.session(SESSION).expect("readable").expect("one").next_id.0, 1_000_002);
    let late = Change::ChildrenChanged {
        session: SESSION,
        job: instance(9),
        runs: vec![ChildRun { first: Ordinal(0), count: 1, facts: child(2, waits) }],
        next_id: None,
    };
    change(&journal, vec![late]).expect("a job that is gone changes nothing");
    assert!(journal.children(instance(9), Ordinal(0), 3).expect("readable").is_empty());
}

#[test]
fn a_cursor_never_goes_back() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    start(&journal, new_job(1)).expect("accepted");
    let moved = |ordinal, stored, taken| Change::CursorsMoved {
        job: instance(1),
        cursors: vec![(
            Ordinal(ordinal),
            Cursor {
                stored: Seq(stored),
                taken: Taken::all_below(Seq(taken)),
                ..Cursor::default()
            },
        )],
    };
    change(&journal, vec![moved(3, 10, 4), moved(300, 1, 1)]).expect("stored");
    change(&journal, vec![moved(3, 8, 6)]).expect("stored");
    let cursors = journal.cursors(instance(1), Ordinal(0), 9).expect("readable");
    let expected = Cursor { stored: Seq(10), taken: Taken::all_below(Seq(6)), ..Cursor::default() };
    assert_eq!(cursors[0], (Ordinal(3), expected));
    assert_eq!(journal.cursors(instance(1), Ordinal(4), 9).expect("readable").len(), 1);
}

#[test]
fn what_was_taken_apart_is_known_until_all_before_it_was_taken() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    start(&journal, new_job(1)).expect("accepted");
    let stretch = |from, to| Apart { stream: Stream::Output, from: Seq(from), to: Seq(to) };
    let moved = |taken, apart| Change::CursorsMoved {
        job: instance(1),
        cursors: vec![(
            Ordinal(3),
            Cursor { taken: Taken::all_below(Seq(taken)), apart, ..Cursor::default() },
        )],
    };
    let known = || {
        let cursors = journal.cursors(instance(1), Ordinal(0), 9).expect("readable");
        let [(Ordinal(3), cursor)] = &cursors[..] else { panic!("{cursors:?}") };
        cursor.clone()
    };
    change(&journal, vec![moved(4, vec![stretch(9, 12), stretch(20, 21)])]).expect("stored");
    change(&journal, vec![moved(5, vec![stretch(11, 14)])]).expect("stored");
    assert_eq!(known().apart, [stretch(9, 14), stretch(20, 21)]);
    let taken = |seq| known().has_taken(Stream::Output, Seq(seq));
    assert_eq!([4, 5, 9, 13, 14, 20].map(taken), [true, false, true, true, false, true]);
    assert!(!known().has_taken(Stream::Error, Seq(9)));
    assert_eq!(known().highest_taken(), Seq(21));
    // What does not say what is apart takes nothing of it away.
    change(&journal, vec![moved(14, Vec::new())]).expect("stored");
    assert_eq!(known().apart, [stretch(20, 21)]);
    change(&journal, vec![moved(21, Vec::new())]).expect("stored");
    assert_eq!(known().apart, []);
    let many = (0..=limits::TAKEN_APART as u64).map(|at| stretch(100 + 2 * at, 101 + 2 * at));
    let refused = change(&journal, vec![moved(0, many.clone().collect())]);
    assert!(matches!(refused, Err(JournalError::TooLarge)), "{refused:?}");
    let mut cursor = Cursor::default();
    cursor.put_apart(many);
    assert_eq!(cursor.apart.len(), limits::TAKEN_APART);
    let gone = Change::JobsRemoved { session: SESSION, jobs: vec![EntryId(1)], at: Timestamp(1) };
    change(&journal, vec![moved(0, cursor.apart), gone]).expect("stored");
    assert!(journal.cursors(instance(1), Ordinal(0), 9).expect("readable").is_empty());
}

#[test]
fn small_outputs_are_read_in_pages_and_go_with_their_job() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    start(&journal, new_job(1)).expect("accepted");
    start(&journal, new_job(3)).expect("accepted");
    let block = |ordinal: u32| Bytes::from(vec![ordinal as u8; ordinal as usize % 90]);
    let stored = |job, range: std::ops::Range<u32>| Change::OutputStored {
        job: instance(job),
        outputs: range.map(|ordinal| (Ordinal(ordinal), block(ordinal))).collect(),
    };
    // So many that their removal takes several commits.
    change(&journal, vec![stored(1, 0..1_500)]).expect("stored");
    change(&journal, vec![stored(3, 7..9), stored(9, 0..5)]).expect("stored");
    let again = (Ordinal(7), Bytes::from_static(b"in its place"));
    let replaced = Change::OutputStored { job: instance(3), outputs: vec![again.clone()] };
    change(&journal, vec![replaced]).expect("stored");
    drop(journal);
    let journal = open(&disk.after_a_crash());
    let page = |job, from, most| journal.outputs(instance(job), Ordinal(from), most);
    let expected: Vec<_> = (700..703).map(|ordinal| (Ordinal(ordinal), block(ordinal))).collect();
    assert_eq!(page(1, 700, 3).expect("readable"), expected);
    assert_eq!(page(1, 1_498, 9).expect("readable").len(), 2);
    assert_eq!(page(3, 0, 9).expect("readable"), [again, (Ordinal(8), block(8))]);
    assert!(page(9, 0, 9).expect("readable").is_empty(), "a job that is gone changes nothing");
    let (jobs, at) = (vec![EntryId(1)], Timestamp(50));
    change(&journal, vec![Change::JobsRemoved { session: SESSION, jobs, at }]).expect("removed");
    wait_until(|| page(1, 0, 9).expect("readable").is_empty());
    assert_eq!(page(3, 0, 9).expect("readable").len(), 2);
    change(&journal, vec![Change::SessionClosed(SESSION)]).expect("closed");
    wait_until(|| page(3, 0, 9).expect("readable").is_empty());
}

#[test]
fn the_last_checkpoint_of_each_child_is_kept_until_it_is_not_needed_or_its_job_goes() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    start(&journal, new_job(1)).expect("accepted");
    let at = |life, value: &'static [u8]| Some((ChildIncarnation(life), Bytes::from(value)));
    let reached = |checkpoints| Change::CheckpointsReached { job: instance(1), checkpoints };
    let all = [(0, at(0, b"a")), (7, at(0, b"b")), (9, at(2, b"")), (7, at(1, b"c"))];
    for (ordinal, checkpoint) in all {
        change(&journal, vec![reached(vec![(Ordinal(ordinal), checkpoint)])]).expect("stored");
    }
    change(&journal, vec![reached(vec![(Ordinal(0), None)])]).expect("forgotten");
    let gone = Change::CheckpointsReached {
        job: instance(9),
        checkpoints: vec![(Ordinal(0), at(0, b"nobody's"))],
    };
    change(&journal, vec![gone]).expect("nothing");
    drop(journal);
    let journal = open(&disk.after_a_crash());
    let page = |job, from, most| journal.checkpoints(instance(job), Ordinal(from), most);
    let last = [(Ordinal(7), at(1, b"c")), (Ordinal(9), at(2, b""))];
    let last = last.map(|(ordinal, it)| (ordinal, it.expect("there")));
    assert_eq!(page(1, 0, 9).expect("readable"), last);
    assert_eq!(page(1, 8, 9).expect("readable"), last[1..]);
    assert_eq!(page(1, 0, 1).expect("readable"), last[..1]);
    assert!(page(9, 0, 9).expect("readable").is_empty());
    let (jobs, at) = (vec![EntryId(1)], Timestamp(50));
    change(&journal, vec![Change::JobsRemoved { session: SESSION, jobs, at }]).expect("removed");
    wait_until(|| page(1, 0, 9).expect("readable").is_empty());
}

#[test]
fn relaxed_changes_never_sync_and_last_with_the_next_durable_one() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    start(&journal, new_job(1)).expect("accepted");
    let named = |name: &str| {
        let name = name.to_owned();
        vec![Change::SessionChanged(Box::new(SessionEntry { name, ..session(1) }))]
    };
    let name = |journal: &Journal| journal.sessions().expect("readable").remove(0).name;
    let syncs = disk.syncs();
    for number in 0..50 {
        relaxed(&journal, named(&format!("s{number}"))).expect("applied");
    }
    assert_eq!(disk.syncs(), syncs);
    assert_eq!(name(&journal), "s49");
    assert_eq!(name(&open(&disk.after_a_crash())), "default");
    start(&journal, new_job(3)).expect("accepted");
    assert_eq!(name(&open(&disk.after_a_crash())), "s49");
    relaxed(&journal, named("at the end")).expect("applied");
    drop(journal);
    assert_eq!(name(&open(&disk.after_a_crash())), "at the end");
}

#[test]
fn more_than_the_queue_holds_is_refused_as_busy() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    let (release, gate) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let none = || Vec::new();
    let stuck = journal.change(none(), Durability::Relaxed, move |_| {
        entered.send(()).expect("the test waits");
        gate.recv().unwrap_or(());
    });
    stuck.expect("room");
    inside.recv().expect("the writer answers");
    for _ in 0..limits::JOURNAL_QUEUE {
        journal.change(none(), Durability::Relaxed, |_| ()).expect("room");
    }
    let refused = journal.change(none(), Durability::Relaxed, |_| ()).expect_err("no room");
    assert!(matches!(refused, JournalError::Busy) && refused.is_retryable());
    release.send(()).expect("the writer waits");
    wait_until(|| change(&journal, none()).is_ok());
}

#[test]
fn bytes_that_wait_have_a_bound_too() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    let (release, gate) = mpsc::channel::<()>();
    let stuck = journal.change(Vec::new(), Durability::Relaxed, move |_| {
        gate.recv().unwrap_or(());
    });
    stuck.expect("room");
    let text = |_| {
        let mut new = new_job(1);
        new.plan.spec.command = "x".repeat(limits::SPEC_BYTES);
        journal.start(new, |_| ()).is_err()
    };
    let most = 4 * limits::JOURNAL_QUEUE_BYTES / limits::SPEC_BYTES;
    assert!((0..most).any(text), "memory has a bound");
    release.send(()).expect("the writer waits");
    wait_until(|| change(&journal, Vec::new()).is_ok());
}

#[test]
fn a_request_out_of_its_bounds_is_refused_at_once() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    let far = limits::CHILDREN_PER_JOB;
    let cursors = vec![(Ordinal(far), Cursor::default())];
    let outputs = |outputs| Change::OutputStored { job: instance(1), outputs };
    let checkpoint = |bytes: usize| (ChildIncarnation(0), Bytes::from(vec![0; bytes]));
    let reached = |checkpoints| Change::CheckpointsReached { job: instance(1), checkpoints };
    let run = ChildRun { first: Ordinal(far), count: 1, facts: child(2, State::Running) };
    for too_much in [
        Change::CursorsMoved { job: instance(1), cursors },
        Change::JobsRemoved {
            session: SESSION,
            jobs: vec![EntryId(1); limits::JOURNAL_CHANGES + 1],
            at: Timestamp(0),
        },
        Change::ChildrenChanged {
            session: SESSION,
            job: instance(1),
            runs: vec![run],
            next_id: None,
        },
        reached(vec![(Ordinal(far), None)]),
        reached(vec![(Ordinal(0), Some(checkpoint(limits::CHECKPOINT_BYTES + 1)))]),
        outputs(vec![(Ordinal(far), Bytes::new())]),
        outputs(vec![(Ordinal(0), Bytes::from(vec![0; limits::INLINE_OUTPUT_BYTES + 1]))]),
        outputs(vec![(Ordinal(0), Bytes::from(vec![0; limits::INLINE_OUTPUT_BYTES])); 2_000]),
    ] {
        assert!(matches!(change(&journal, vec![too_much]), Err(JournalError::TooLarge)));
    }
}

#[test]
fn a_journal_has_one_process_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(directory.path(), BOUNDS).expect("a journal");
    let refused = Journal::open(directory.path(), BOUNDS).expect_err("in use");
    assert!(matches!(refused, OpenError::InUse { .. }) && refused.is_retryable());
    drop(journal);
    Journal::open(directory.path(), BOUNDS).expect("a journal");
}

#[test]
fn a_newer_journal_is_refused_before_anything_is_changed() {
    let disk = SimulatedDisk::default();
    drop(with_session(&disk));
    let version = Path::new(DIRECTORY).join("version");
    disk.put(&version, b"sortie journal 3\n".to_vec());
    let before: Vec<_> = disk.paths().iter().map(|path| disk.content(path)).collect();
    assert!(matches!(try_open(&disk), Err(OpenError::Newer { version: 3, .. })));
    let after: Vec<_> = disk.paths().iter().map(|path| disk.content(path)).collect();
    assert_eq!(before, after);
    for garbage in ["", "sortie journal", "sortie journal 0\n", "sortie journal x\n"] {
        disk.put(&version, garbage.as_bytes().to_vec());
        assert!(matches!(try_open(&disk), Err(OpenError::Damaged { .. })), "{garbage}");
    }
}

#[test]
fn a_journal_that_was_there_and_is_not_is_refused_and_all_else_left() {
    let lost = |disk: &SimulatedDisk| {
        let before = (disk.paths(), disk.content("state/version".as_ref()));
        assert!(matches!(try_open(disk), Err(OpenError::Lost { .. })));
        assert_eq!((disk.paths(), disk.content("state/version".as_ref())), before);
    };
    let disk = SimulatedDisk::default();
    drop(with_session(&disk));
    let journal = Path::new(DIRECTORY).join("journal");
    let bytes = disk.content(&journal);
    disk.put(&journal, Vec::new());
    lost(&disk);
    disk.shared().remove(&journal).expect("removed");
    lost(&disk);
    for name in ["version", "reserve"] {
        disk.shared().remove(&Path::new(DIRECTORY).join(name)).expect("removed");
    }
    disk.put(&Path::new(DIRECTORY).join("boot"), Vec::new());
    lost(&disk);
    disk.put(&journal, bytes);
    disk.put(&Path::new(DIRECTORY).join("version"), b"sortie journal 2\n".to_vec());
    assert_eq!(open(&disk).sessions().expect("read").len(), 1);
}

/// The writer works on while the test looks.
fn wait_until(mut condition: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed().as_secs() < 20, "the writer goes on by itself");
        std::thread::yield_now();
    }
}
