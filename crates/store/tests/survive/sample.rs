//! What each released version wrote is read. `SORTIE_WRITE_GOLDEN=1` writes a sample that is not
//! there; one that is there is never changed.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sortie_model::{EntryId, Ordinal, Seq, State};
use sortie_store::journal::{Change, Cursor, JOURNAL_VERSION, Order, Started};
use sortie_store::segment::{Batch, ReadBounds, SEGMENT_VERSION, Taken};

use crate::kept::{SESSION, change, child, ended, key, new_job, open, records, session, start};

/// Files of a sample, by their places in a store.
const FILES: [&str; 3] = [
    "version",
    "journal",
    "output/000000000000000000000000000003e8/000000/00000000-0000000000000000.segment",
];

fn sample(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/samples/{version}"))
}

fn stored_as(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

#[test]
fn a_store_of_each_version_is_read() {
    assert_eq!((JOURNAL_VERSION, SEGMENT_VERSION), (1, 1), "a new version has a new sample");
    if std::env::var_os("SORTIE_WRITE_GOLDEN").is_some() && !sample(1).exists() {
        write_sample();
    }
    for version in 1..=JOURNAL_VERSION {
        let directory = tempfile::tempdir().expect("a directory");
        for file in FILES {
            let to = directory.path().join(file);
            fs::create_dir_all(to.parent().expect("a directory")).expect("room");
            fs::copy(sample(version).join(stored_as(file)), to).expect("a sample");
        }
        check(directory.path());
    }
}

fn check(directory: &Path) {
    let store = open(directory);
    let journal = store.journal();
    let kept = journal.session(SESSION).expect("readable").expect("a session");
    assert_eq!(kept, sortie_store::journal::SessionEntry { next_id: EntryId(5), ..session() });
    let unfinished = store.unfinished(SESSION, None, 9).expect("readable");
    assert_eq!(unfinished.len(), 1);
    let job = new_job(0);
    let found = (&unfinished[0].key, &unfinished[0].entry, &unfinished[0].plan);
    assert_eq!(found, (&job.key, &job.entry, &job.plan));
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
    assert_eq!(keys.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&key(0), &key(1)]);
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
    change(journal, ended(1)).expect("stored");
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
    fs::create_dir_all(sample(1)).expect("room");
    for file in FILES {
        let to = sample(1).join(stored_as(file));
        fs::copy(directory.path().join(file), to).expect("room");
    }
}
