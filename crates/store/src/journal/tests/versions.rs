//! A journal of version 1 under this program, whose first commit raises it.

use super::*;
use crate::disk::simulated::Fault as DiskFault;
use crate::lasting_input::InputMark;

/// Of what version 1 does not know.
const INPUT: InputState = InputState::Begun(InputMark { bytes: 7, sum: 9 });
/// The job of the sample that is not finished.
const JOB: EntryId = EntryId(1);

/// What a program wrote that knows only version 1.
fn of_version_1() -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    let directory = Path::new(DIRECTORY);
    let journal = include_bytes!("../../../tests/samples/1/journal");
    disk.put(&directory.join("journal"), journal.to_vec());
    let version = include_bytes!("../../../tests/samples/1/version");
    disk.put(&directory.join("version"), version.to_vec());
    disk
}

fn noted(disk: &SimulatedDisk) -> String {
    let text = disk.content("state/version".as_ref());
    String::from_utf8(text).expect("a text")
}

fn stored_input() -> Vec<Change> {
    let facts = Box::new(JobFacts { input: INPUT, ..JobFacts::default() });
    vec![Change::JobChanged { session: SESSION, job: JOB, facts }]
}

fn input_of(journal: &Journal) -> InputState {
    let (_, entry) = journal.job(SESSION, JOB).expect("readable").expect("a job");
    entry.facts.input
}

#[test]
fn one_of_an_older_version_stays_so_until_something_is_written() {
    let disk = of_version_1();
    let journal = open(&disk);
    assert_eq!((journal.version(), input_of(&journal)), (1, InputState::Nothing));
    change(&journal, Vec::new()).expect("nothing to do");
    drop(journal);
    assert_eq!(noted(&disk), "sortie journal 1\n");
    let journal = open(&disk);
    assert_eq!(journal.version(), 1);
    change(&journal, stored_input()).expect("stored");
    assert_eq!(journal.version(), JOURNAL_VERSION);
    assert_eq!(noted(&disk.after_a_crash()), format!("sortie journal {JOURNAL_VERSION}\n"));
    let journal = open(&disk.after_a_crash());
    assert_eq!((journal.version(), input_of(&journal)), (JOURNAL_VERSION, INPUT));
}

#[test]
fn wherever_it_fails_an_older_program_finds_what_it_knows_or_a_newer_version() {
    let (older, newer) = ("sortie journal 1\n", format!("sortie journal {JOURNAL_VERSION}\n"));
    let mut found = std::collections::BTreeSet::new();
    for fault in DiskFault::ALL {
        for at in 0.. {
            let disk = of_version_1();
            disk.fail(at, fault);
            let stored = try_open(&disk).map(|journal| {
                // It need not be durable to be newer.
                let _ = relaxed(&journal, stored_input());
                change(&journal, stored_input())
            });
            for (left, how) in [(disk.after_a_kill(), "kill"), (disk.after_a_crash(), "crash")] {
                let context = format!("{fault:?} at {at}, {how}");
                let text = noted(&left);
                let journal = try_open(&left).unwrap_or_else(|error| panic!("{context}: {error}"));
                let (version, input) = (journal.version(), input_of(&journal));
                assert!(text == older || text == newer, "{context}: {text}");
                assert!(text == newer || version == 1, "{context}: damaged for an older one");
                assert!(version != 1 || input == InputState::Nothing, "{context}");
                assert!(!matches!(stored, Ok(Ok(()))) || input == INPUT, "{context}");
                found.insert((text == newer, version));
                change(&journal, stored_input()).expect("it works on");
                let crashed = left.after_a_crash();
                assert_eq!((noted(&crashed), input_of(&open(&crashed))), (newer.clone(), INPUT));
            }
            if !disk.has_failed() {
                break;
            }
        }
    }
    let both = [(false, 1), (true, 1), (true, JOURNAL_VERSION)];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), both, "before, between and behind");
}
