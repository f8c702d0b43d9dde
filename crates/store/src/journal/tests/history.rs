//! What is finished, and how it goes.

use super::*;

#[test]
fn the_history_is_in_the_order_of_ends_and_knows_its_totals() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    for (number, end) in [(1, 50), (3, -20), (5, 30)] {
        start(&journal, new_job(number)).expect("accepted");
        let (job, facts) = (EntryId(number), finished(end, 1_000));
        let ended = Change::JobChanged { session: SESSION, job, facts };
        change(&journal, vec![ended]).expect("stored");
    }
    let ids = |order| -> Vec<u64> {
        let jobs = journal.finished(order, 2).expect("readable");
        jobs.iter().map(|finished| finished.job.0).collect()
    };
    assert_eq!(ids(Order::OldestFirst), [3, 5]);
    assert_eq!(ids(Order::NewestFirst), [1, 5]);
    let totals = journal.history().expect("readable");
    assert!(totals.jobs == 3 && totals.bytes > 3_000, "{totals:?}");
    assert!(journal.unfinished(SESSION, None, 9).expect("readable").is_empty());
    // A supervised child starts again.
    let facts = Box::new(JobFacts { state: State::Running, ..JobFacts::default() });
    let again = Change::JobChanged { session: SESSION, job: EntryId(3), facts };
    change(&journal, vec![again]).expect("stored");
    assert_eq!(ids(Order::OldestFirst), [5, 1]);
    assert_eq!(journal.history().expect("readable").jobs, 2);
    assert_eq!(journal.unfinished(SESSION, None, 9).expect("readable"), [EntryId(3)]);
    let page = |after| -> Vec<u64> {
        let jobs = journal.jobs(SESSION, after, 2).expect("readable");
        jobs.iter().map(|job| job.id.0).collect()
    };
    assert_eq!((page(None), page(Some(EntryId(3)))), (vec![1, 3], vec![5]));
}

#[test]
fn a_removed_job_goes_in_steps_and_its_key_is_remembered_until_it_is_forgotten() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    start(&journal, new_job(1)).expect("accepted");
    let many =
        ChildRun { first: Ordinal(0), count: 300 * 1_000, facts: child(2, State::Completed) };
    let children = Change::ChildrenChanged {
        session: SESSION,
        job: instance(1),
        runs: vec![many],
        next_id: Some(EntryId(300_002)),
    };
    let ended = Change::JobChanged { session: SESSION, job: EntryId(1), facts: finished(9, 5) };
    change(&journal, vec![children, ended]).expect("stored");
    let removed =
        Change::JobsRemoved { session: SESSION, jobs: vec![EntryId(1)], at: Timestamp(77) };
    change(&journal, vec![removed]).expect("removed");
    assert_eq!(journal.job(SESSION, EntryId(1)).expect("readable"), None);
    assert_eq!(journal.plan(SESSION, EntryId(1)).expect("readable"), None);
    assert_eq!(journal.history().expect("readable"), HistoryTotals::default());
    let [(found, entry)] = &journal.keys(SESSION, None, 9).expect("readable")[..] else {
        panic!("one key");
    };
    assert_eq!((found, entry.removed), (&key(1), Some(Timestamp(77))));
    let again = NewJob { key: key(1), ..new_job(3) };
    assert_eq!(start(&journal, again.clone()).expect("known"), Started::Same(EntryId(1)));
    // 1,172 blocks are more than one step removes. What is left of them goes on after a crash too.
    drop(journal);
    let journal = open(&disk);
    wait_until(|| journal.children(instance(1), Ordinal(0), 9).expect("readable").is_empty());
    let forgotten = Change::KeysForgotten { session: SESSION, keys: vec![key(1)] };
    change(&journal, vec![forgotten]).expect("forgotten");
    assert_eq!(start(&journal, again).expect("unknown"), Started::New);
}

#[test]
fn a_closed_session_leaves_nothing() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    for number in 0..700 {
        start(&journal, new_job(1 + 2 * number)).expect("accepted");
    }
    change(&journal, vec![Change::SessionClosed(SESSION)]).expect("closed");
    assert!(journal.sessions().expect("readable").is_empty());
    assert!(matches!(start(&journal, new_job(9_001)), Err(JournalError::NoSession)));
    wait_until(|| {
        journal.jobs(SESSION, None, 1).expect("readable").is_empty()
            && journal.keys(SESSION, None, 1).expect("readable").is_empty()
    });
    assert!(journal.unfinished(SESSION, None, 9).expect("readable").is_empty());
    assert_eq!(journal.job_place(instance(1)).expect("readable"), None);
}
