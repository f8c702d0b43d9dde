//! The journal on a disk that fails.

use std::path::PathBuf;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::disk::simulated::Fault as DiskFault;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Refused,
    Uncertain,
}

fn fate<T>(answer: &Result<T, JournalError>) -> Fate {
    match answer {
        Ok(_) => Fate::Acknowledged,
        Err(error) if error.is_uncertain() => Fate::Uncertain,
        Err(_) => Fate::Refused,
    }
}

/// Jobs that are started and end. The first one is removed.
const JOBS: u64 = 3;

#[derive(Debug, Default)]
struct Told {
    started: Vec<Fate>,
    ended: Vec<Fate>,
    removed: Option<Fate>,
}

fn number(job: u64) -> u64 {
    1 + 2 * job
}

fn script(journal: &Journal) -> Told {
    let mut told = Told::default();
    let _ = change(journal, vec![Change::SessionOpened(Box::new(session(1)))]);
    for job in 0..JOBS {
        let id = number(job);
        told.started.push(fate(&start(journal, new_job(id))));
        let runs =
            vec![ChildRun { first: Ordinal(0), count: 1, facts: child(id + 1, State::Running) }];
        let (job_instance, next_id) = (instance(id), None);
        let began = Change::ChildrenChanged { session: SESSION, job: job_instance, runs, next_id };
        let _ = relaxed(journal, vec![began]);
        let runs =
            vec![ChildRun { first: Ordinal(0), count: 1, facts: child(id + 1, State::Completed) }];
        let child_ended =
            Change::ChildrenChanged { session: SESSION, job: job_instance, runs, next_id };
        let (job, facts) = (EntryId(id), finished(i64::from(id as u32), 10));
        let ended = Change::JobChanged { session: SESSION, job, facts };
        told.ended.push(fate(&change(journal, vec![child_ended, ended])));
    }
    let jobs = vec![EntryId(number(0))];
    let removed = Change::JobsRemoved { session: SESSION, jobs, at: Timestamp(99) };
    told.removed = Some(fate(&change(journal, vec![removed])));
    told
}

/// Every job is there as a whole, and every index agrees with it.
fn check_whole(journal: &Journal) {
    const ALL: usize = 10_000;
    let keys = journal.keys(SESSION, None, ALL).expect("readable");
    let unfinished = journal.unfinished(SESSION, None, ALL).expect("readable");
    let history = journal.finished(Order::OldestFirst, ALL).expect("readable");
    let entries = journal.jobs(SESSION, None, ALL).expect("readable");
    assert_eq!(entries.len(), unfinished.len() + history.len());
    for entry in entries {
        let id = entry.id;
        assert_eq!(journal.plan(SESSION, id).expect("readable"), Some(new_job(id.0).plan));
        assert_eq!(journal.job_place(entry.instance).expect("readable"), Some((SESSION, id)));
        let found = keys.iter().find(|(found, _)| *found == key(id.0)).expect("its key");
        assert_eq!((found.1.job, found.1.removed), (id, None));
        let ended = history.iter().any(|finished| finished.job == id);
        assert_eq!(unfinished.contains(&id), !entry.facts.state.is_finished());
        assert_eq!(ended, entry.facts.state.is_finished());
    }
    let (jobs, bytes) = (history.len() as u64, history.iter().map(|job| job.bytes).sum());
    assert_eq!(journal.history().expect("readable"), HistoryTotals { jobs, bytes });
}

fn check_told(journal: &Journal, told: &Told, context: &str) {
    for (job, started) in told.started.iter().enumerate() {
        let id = EntryId(number(job as u64));
        let entry = journal.job(SESSION, id).expect("readable").map(|(_, entry)| entry);
        let removed = (job == 0).then_some(told.removed).flatten();
        match (*started, removed) {
            (Fate::Refused, _) => assert_eq!(entry, None, "{context}: job {job} was refused"),
            (Fate::Acknowledged, None | Some(Fate::Refused)) => {
                let entry = entry.unwrap_or_else(|| panic!("{context}: job {job} is lost"));
                match told.ended[job] {
                    Fate::Acknowledged => {
                        assert!(entry.facts.state.is_finished(), "{context}");
                        let rows = journal.children(entry.instance, Ordinal(0), 9);
                        let rows = rows.expect("readable");
                        assert_eq!(rows[0].facts.state, State::Completed, "{context}");
                    }
                    Fate::Refused => assert!(!entry.facts.state.is_finished(), "{context}"),
                    Fate::Uncertain => {}
                }
            }
            (Fate::Acknowledged, Some(Fate::Acknowledged)) => {
                assert_eq!(entry, None, "{context}: job {job} was removed");
            }
            _ => {}
        }
    }
}

#[test]
fn whatever_call_fails_what_was_acknowledged_is_there_and_what_was_refused_is_not() {
    for fault in DiskFault::ALL {
        let mut reached = 0;
        for at in 0.. {
            let disk = SimulatedDisk::default();
            disk.fail(at, fault);
            let told = try_open(&disk).map(|journal| (script(&journal), drop(journal)).0);
            if !disk.has_failed() {
                reached = at;
                break;
            }
            let told = told.unwrap_or_default();
            for (disk, how) in [(disk.after_a_kill(), "kill"), (disk.after_a_crash(), "crash")] {
                let context = format!("{fault:?} at {at}, {how}");
                let journal = try_open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
                check_whole(&journal);
                check_told(&journal, &told, &context);
                // It works on.
                let _ = change(&journal, vec![Change::SessionOpened(Box::new(session(1)))]);
                assert_eq!(start(&journal, new_job(101)).expect("accepted"), Started::New);
            }
        }
        assert!(reached > 50, "the script makes calls: {reached}");
    }
}

#[test]
fn a_machine_that_fails_anywhere_loses_nothing_that_was_acknowledged() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    for job in 0..20 {
        start(&journal, new_job(number(job))).expect("accepted");
        let crashed = open(&disk.after_a_crash());
        check_whole(&crashed);
        assert_eq!(crashed.jobs(SESSION, None, 100).expect("readable").len() as u64, job + 1);
    }
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    let mut at = 0;
    while disk.failed_syncs() == 0 {
        disk.fail(at, DiskFault::Broken);
        let _ = start(&journal, new_job(number(at)));
        at += 1;
        if disk.has_failed() && disk.failed_syncs() == 0 {
            // Another call than a sync failed: that ends a journal as well.
            return check_dead(&journal);
        }
    }
    check_dead(&journal);
}

fn check_dead(journal: &Journal) {
    for _ in 0..3 {
        let refused = start(journal, new_job(201)).expect_err("it failed");
        assert!(refused.is_uncertain() && !refused.is_retryable(), "{refused}");
        assert!(change(journal, Vec::new()).is_err());
    }
}

#[test]
fn on_a_full_disk_starts_are_refused_and_ends_are_kept_until_there_is_room_again() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    disk.set_room(Some(40 * 4_096));
    let mut jobs = 0;
    let refused = loop {
        match start(&journal, new_job(number(jobs))) {
            Ok(_) => jobs += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, JournalError::DiskFull) && refused.is_retryable());
    assert!(jobs > 0);
    for job in 0..jobs.min(20) {
        let (job, facts) = (EntryId(number(job)), finished(5, 5));
        let ended = Change::JobChanged { session: SESSION, job, facts };
        change(&journal, vec![ended]).expect("it has the reserve");
    }
    let opened = Change::SessionOpened(Box::new(session(1)));
    assert!(matches!(change(&journal, vec![opened]), Err(JournalError::DiskFull)));
    check_whole(&journal);
    disk.set_room(None);
    wait_until(|| start(&journal, new_job(number(jobs))).is_ok());
    let reserve = Path::new(DIRECTORY).join("reserve");
    assert_eq!(disk.content(&reserve).len() as u64, BOUNDS.reserve);
    let crashed = open(&disk.after_a_crash());
    check_whole(&crashed);
    assert_eq!(crashed.jobs(SESSION, None, 10_000).expect("readable").len() as u64, jobs + 1);
}

#[test]
fn a_node_starts_on_a_full_disk_and_keeps_ends() {
    let disk = SimulatedDisk::default();
    let journal = with_session(&disk);
    for job in 0..20 {
        start(&journal, new_job(number(job))).expect("accepted");
    }
    let killed = disk.after_a_kill();
    killed.set_room(Some(0));
    let journal = open(&killed);
    for job in 0..20 {
        let (job, facts) = (EntryId(number(job)), finished(5, 5));
        let ended = Change::JobChanged { session: SESSION, job, facts };
        change(&journal, vec![ended]).expect("it has the reserve");
    }
    check_whole(&journal);
    drop(journal);
    let journal = open(&killed.after_a_crash());
    assert_eq!(journal.history().expect("readable").jobs, 20);
}

/// A disk with the script's journal, and the journal's file.
fn scripted() -> (SimulatedDisk, PathBuf) {
    static DISK: OnceLock<SimulatedDisk> = OnceLock::new();
    let disk = DISK.get_or_init(|| {
        let disk = SimulatedDisk::default();
        script(&open(&disk));
        disk
    });
    (disk.after_a_kill(), Path::new(DIRECTORY).join("journal"))
}

/// Reads all there is.
fn read_all(journal: &Journal) {
    let _ = (journal.sessions(), journal.history(), journal.keys(SESSION, None, 100));
    let _ = (journal.finished(Order::NewestFirst, 100), journal.unfinished(SESSION, None, 100));
    for job in 0..JOBS {
        let id = EntryId(number(job));
        let _ = (journal.job(SESSION, id), journal.plan(SESSION, id));
        let _ = journal.children(instance(id.0), Ordinal(0), 100);
    }
    for entry in journal.jobs(SESSION, None, 100).unwrap_or_default() {
        assert_eq!(entry.instance, instance(entry.id.0), "an entry is what was written or none");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn flipped_bytes_are_an_error_and_never_a_crash(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..8),
    ) {
        let (disk, path) = scripted();
        let mut bytes = disk.content(&path);
        // Most of the file is empty.
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        for (at, flip) in flips {
            bytes[used[at.index(used.len())]] ^= flip;
        }
        disk.put(&path, bytes);
        if let Ok(journal) = try_open(&disk) {
            read_all(&journal);
            let _ = start(&journal, new_job(301));
            read_all(&journal);
        }
    }

    #[test]
    fn a_cut_file_is_an_error_and_never_a_crash(at in any::<prop::sample::Index>()) {
        let (disk, path) = scripted();
        let bytes = disk.content(&path);
        disk.put(&path, bytes[..at.index(bytes.len())].to_vec());
        if let Ok(journal) = try_open(&disk) {
            read_all(&journal);
        }
    }
}
