//! What each released version wrote is read. `SORTIE_WRITE_GOLDEN=1` writes a sample that is not
//! there; one that is there is never changed.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sortie_model::spec::InputSpec;
use sortie_model::{EntryId, Ordinal, Seq, State};
use sortie_store::journal::{
    Change, Cursor, InputState, JOURNAL_VERSION, JobFacts, NewJob, Order, SpecDigest, Started,
};
use sortie_store::segment::{Batch, ReadBounds, SEGMENT_VERSION, Taken};

use crate::kept::{SESSION, change, child, ended, key, new_job, open, records, session, start};

/// Files of a sample, by their places in a store, and since which version they are there.
const FILES: [(&str, u32); 4] = [
    ("version", 1),
    ("journal", 1),
    ("output/000000000000000000000000000003e8/000000/00000000-0000000000000000.segment", 1),
    ("input/000000000000000000000000000003e8", 2),
];
/// What was stored of an input.
const INPUT: &[u8] = b"one\ntwo\n";

fn sample(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/samples/{version}"))
}

fn files(version: u32) -> impl Iterator<Item = &'static str> {
    FILES.into_iter().filter(move |(_, since)| *since <= version).map(|(file, _)| file)
}

fn stored_as(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

/// A job whose children's input stays open: version 1 has none.
fn open_job(number: u64) -> NewJob {
    let mut job = new_job(number);
    let prompt = Some("Really? ".parse().expect("a mark"));
    job.plan.spec.input = InputSpec::Open { prompt };
    job.digest = SpecDigest::of(&job.plan.spec).expect("short");
    job
}

#[test]
fn a_store_of_each_version_is_read() {
    assert_eq!((JOURNAL_VERSION, SEGMENT_VERSION), (2, 1), "a new version has a new sample");
    if std::env::var_os("SORTIE_WRITE_GOLDEN").is_some() && !sample(JOURNAL_VERSION).exists() {
        write_sample();
    }
    for version in 1..=JOURNAL_VERSION {
        let directory = tempfile::tempdir().expect("a directory");
        for file in files(version) {
            let to = directory.path().join(file);
            fs::create_dir_all(to.parent().expect("a directory")).expect("room");
            fs::copy(sample(version).join(stored_as(file)), to).expect("a sample");
        }
        check(directory.path(), version);
    }
}

fn check(directory: &Path, version: u32) {
    let store = open(directory);
    let journal = store.journal();
    assert_eq!(journal.version(), version);
    let mut jobs = vec![new_job(0)];
    if version >= 2 {
        jobs.push(open_job(2));
    }
    let kept = journal.session(SESSION).expect("readable").expect("a session");
    let next_id = EntryId(if version == 1 { 5 } else { 7 });
    assert_eq!(kept, sortie_store::journal::SessionEntry { next_id, ..session() });
    let unfinished = store.unfinished(SESSION, None, 9).expect("readable");
    if version >= 2 {
        let InputState::Whole(mark) = unfinished[0].entry.facts.input else { panic!("all of it") };
        let input = store.inputs().open(child(0).job, mark).expect("as it was stored");
        assert_eq!(input.read(0, 99).expect("readable"), INPUT);
        jobs[0].entry.facts.input = InputState::Whole(mark);
    }
    assert_eq!(unfinished.len(), jobs.len());
    for (kept, job) in unfinished.iter().zip(&jobs) {
        let found = (&kept.key, &kept.entry, &kept.plan);
        assert_eq!(found, (&job.key, &job.entry, &job.plan));
    }
    let history = journal.finished(Order::NewestFirst, 9).expect("readable");
    assert_eq!((history.len(), history[0].job), (1, EntryId(3)));
    let runs = journal.children(child(1).job, Ordinal(0), 9).expect("readable");
    assert_eq!((runs.len(), runs[0].facts.state), (1, State::Completed));
    let cursor = store.cursor(child(0)).expect("readable");
    assert_eq!(
        cursor,
        Cursor { stored: Seq(5), taken: Taken::all_below(Seq(2)), ..Cursor::default() }
    );
    let outputs = journal.outputs(child(1).job, Ordinal(0), 9).expect("readable");
    assert_eq!(outputs, [(Ordinal(0), Bytes::from_static(b"left"))]);
    let read = store.read(child(0), Seq(2)).read(ReadBounds::default()).expect("readable");
    assert_eq!(read, Batch::Records(records(2..5)));
    assert_eq!(start(journal, new_job(0)).expect("known"), Started::Same(EntryId(1)));
    let keys = journal.keys(SESSION, None, 9).expect("readable");
    let expected: Vec<_> = (0..=jobs.len() as u64).map(key).collect();
    assert_eq!(keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), expected);
    assert_eq!(start(journal, new_job(9)).expect("accepted"), Started::New);
    assert_eq!(store.write(child(0)).expect("readable").next(), Seq(5));
}

fn write_sample() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let journal = store.journal();
    change(journal, vec![Change::SessionOpened(Box::new(session()))]).expect("opened");
    start(journal, new_job(0)).expect("accepted");
    start(journal, new_job(1)).expect("accepted");
    start(journal, open_job(2)).expect("accepted");
    change(journal, ended(1)).expect("stored");
    let mut input = store.inputs().begin(child(0).job);
    input.append(INPUT).expect("room");
    let input = InputState::Whole(input.sync().wait().expect("a disk that works"));
    let facts = Box::new(JobFacts { input, ..JobFacts::default() });
    let fed = Change::JobChanged { session: SESSION, job: EntryId(1), facts };
    change(journal, vec![fed]).expect("stored");
    let mut log = store.write(child(0)).expect("no output yet");
    log.append(&records(0..3)).expect("room");
    log.sync().expect("a disk that works");
    log.append(&records(3..5)).expect("room");
    log.seal().expect("a disk that works");
    let cursor = Cursor { stored: Seq(5), taken: Taken::all_below(Seq(2)), ..Cursor::default() };
    let moved = Change::CursorsMoved { job: child(0).job, cursors: vec![(Ordinal(0), cursor)] };
    let outputs = vec![(Ordinal(0), Bytes::from_static(b"left"))];
    let left = Change::OutputStored { job: child(1).job, outputs };
    change(journal, vec![moved, left]).expect("stored");
    drop((log, store));
    let mut database = redb::Database::open(directory.path().join("journal")).expect("a journal");
    // Half of the file is room to grow.
    database.compact().expect("room");
    drop(database);
    fs::create_dir_all(sample(JOURNAL_VERSION)).expect("room");
    for file in files(JOURNAL_VERSION) {
        let to = sample(JOURNAL_VERSION).join(stored_as(file));
        fs::copy(directory.path().join(file), to).expect("room");
    }
}
