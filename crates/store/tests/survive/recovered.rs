//! What a node finds when it starts.

use sortie_model::{EntryId, Ordinal, Seq};
use sortie_store::journal::{Change, Cursor, Started};
use sortie_store::segment::{Batch, ReadBounds, Swept, Taken};

use crate::kept::{SESSION, change, child, ended, key, new_job, open, records, session, start};

#[test]
fn a_node_goes_on_where_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let journal = store.journal();
    change(journal, vec![Change::SessionOpened(Box::new(session()))]).expect("opened");
    for number in 0..3 {
        start(journal, new_job(number)).expect("accepted");
    }
    change(journal, ended(1)).expect("stored");
    let mut log = store.write(child(2)).expect("no output yet");
    log.append(&records(0..10)).expect("room");
    let stored = log.sync().expect("a disk that works");
    let cursor = Cursor { stored, taken: Taken::all_below(Seq(4)), ..Cursor::default() };
    let moved = Change::CursorsMoved { job: child(2).job, cursors: vec![(Ordinal(0), cursor)] };
    change(journal, vec![moved]).expect("stored");
    drop((log, store));

    let store = open(directory.path());
    let sessions = store.journal().sessions().expect("readable");
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].next_id, EntryId(7));
    let unfinished = store.unfinished(SESSION, None, 10).expect("readable");
    let found: Vec<_> = unfinished.iter().map(|job| (job.entry.id.0, &job.key)).collect();
    assert_eq!(found, [(1, &key(0)), (5, &key(2))]);
    assert_eq!(unfinished[1].plan, new_job(2).plan);
    let cursor = store.cursor(child(2)).expect("readable");
    assert_eq!((cursor.stored, cursor.taken), (Seq(10), Taken::all_below(Seq(4))));
    assert_eq!(store.cursor(child(0)).expect("readable"), Cursor::default());
    let mut reader = store.read(child(2), Seq(4));
    let left = reader.read(ReadBounds::default()).expect("good segments");
    assert_eq!(left, Batch::Records(records(4..10)));
    assert_eq!(store.write(child(2)).expect("good segments").next(), Seq(10));
    assert_eq!(start(store.journal(), new_job(2)).expect("known"), Started::Same(EntryId(5)));
}

#[test]
fn output_that_is_gone_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    change(store.journal(), vec![Change::SessionOpened(Box::new(session()))]).expect("opened");
    start(store.journal(), new_job(0)).expect("accepted");
    let cursor = Cursor { stored: Seq(3), ..Cursor::default() };
    let moved = Change::CursorsMoved { job: child(0).job, cursors: vec![(Ordinal(0), cursor)] };
    change(store.journal(), vec![moved]).expect("stored");
    let error = store.write(child(0)).expect_err("three records are missing");
    assert!(error.to_string().ends_with("ends at record 0, before record 3"), "{error}");
}

#[test]
fn output_without_a_job_is_removed_in_steps() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    change(store.journal(), vec![Change::SessionOpened(Box::new(session()))]).expect("opened");
    start(store.journal(), new_job(0)).expect("accepted");
    for number in 0..3 {
        let mut log = store.write(child(number)).expect("no output yet");
        log.append(&records(0..1)).expect("room");
    }
    let mut orphans = store.orphans().expect("readable");
    let mut steps = 0;
    while orphans.step(1).expect("removable") == Swept::More {
        steps += 1;
        assert!(steps < 100, "it comes to its end");
    }
    let left: Vec<_> = store.output().jobs().expect("readable").collect();
    assert_eq!(left, [child(0).job]);
}

#[test]
fn inputs_that_no_unfinished_job_reads_are_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let journal = store.journal();
    change(journal, vec![Change::SessionOpened(Box::new(session()))]).expect("opened");
    for number in 0..2 {
        start(journal, new_job(number)).expect("accepted");
    }
    change(journal, ended(1)).expect("stored");
    // Of one that goes on, of one that is over, and of one that nobody knows.
    for number in 0..3 {
        let mut input = store.inputs().begin(child(number).job);
        input.append(b"some").expect("room");
    }
    store.remove_left_inputs().expect("a disk that works");
    let left: Vec<_> = store.inputs().jobs().expect("a list").collect();
    assert_eq!(left, [child(0).job]);
}
