//! Segments against a plain list, cut, damaged and on a disk that fails.

use bytes::Bytes;
use proptest::prelude::*;
use sortie_model::{Body, ChildKey, JobInstance, Ordinal, Record, Seq, Stream, Timestamp, limits};

use super::*;
use crate::disk::simulated::{Fault, SimulatedDisk};

const ROOT: &str = "output";

fn child() -> ChildKey {
    ChildKey { job: JobInstance(uuid::Uuid::from_u128(7)), ordinal: Ordinal(1_030) }
}

fn directory(disk: &SimulatedDisk) -> OutputDirectory {
    OutputDirectory::new(disk.shared(), ROOT.as_ref())
}

fn open(disk: &SimulatedDisk) -> Result<OutputLog, SegmentError> {
    OutputLog::open(directory(disk), child(), Known::default())
}

fn record(seq: u64) -> Record {
    let stream = Stream::from_index((seq % 3) as u8).expect("one of the first streams");
    let bytes = Bytes::from(vec![seq as u8; (seq * 7 % 50) as usize]);
    let body = if seq.is_multiple_of(5) { Body::Value(bytes) } else { Body::Bytes(bytes) };
    Record { seq: Seq(seq), stream, time: Timestamp(seq as i64 - 3), body }
}

fn records(range: std::ops::Range<u64>) -> Vec<Record> {
    range.map(record).collect()
}

fn append(log: &mut OutputLog, count: u64) {
    let from = log.next().0;
    log.append(&records(from..from + count)).expect("a disk that works");
}

fn read_all(disk: &SimulatedDisk, from: u64) -> Result<Vec<Record>, SegmentError> {
    let mut reader = OutputReader::new(directory(disk), child(), Seq(from));
    let mut all = Vec::new();
    let bounds = ReadBounds { records: 3, bytes: 1_000 };
    while let Batch::Records(records) = reader.read(bounds)? {
        assert!((1..=3).contains(&records.len()));
        all.extend(records);
    }
    Ok(all)
}

#[test]
fn a_reader_sees_what_the_writer_appends_and_waits_for_more() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log").with_segments_of(400);
    let mut reader = OutputReader::new(directory(&disk), child(), Seq(0));
    assert_eq!(reader.read(ReadBounds::default()).expect("nothing yet"), Batch::Waiting);
    for round in 0..20 {
        append(&mut log, round % 4 + 1);
        let mut seen = Vec::new();
        while let Batch::Records(more) = reader.read(ReadBounds::default()).expect("good segments")
        {
            seen.extend(more);
        }
        assert_eq!(seen.len() as u64, round % 4 + 1);
        assert_eq!(reader.position(), log.next());
    }
    assert!(disk.paths().len() > 3, "segments are closed when they are full");
    assert_eq!(read_all(&disk, 0).expect("good segments"), records(0..log.next().0));
    assert_eq!(read_all(&disk, 33).expect("good segments"), records(33..log.next().0));
}

#[test]
fn a_reader_skips_a_tail_that_its_writer_has_not_finished() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log");
    append(&mut log, 3);
    let mut reader = OutputReader::new(directory(&disk), child(), Seq(0));
    let path = disk.paths().remove(0);
    let whole = disk.content(&path);
    append(&mut log, 2);
    let later = disk.content(&path);
    for cut in whole.len() + 1..later.len() {
        disk.put(&path, later[..cut].to_vec());
        let read = reader.read(ReadBounds::default()).expect("a torn tail is no damage");
        let seen = if let Batch::Records(records) = read { records.len() } else { 0 };
        assert!(reader.position() >= Seq(3) && reader.position() <= Seq(4), "{cut}: {seen}");
    }
    disk.put(&path, later);
    while reader.position() < Seq(5) {
        reader.read(ReadBounds::default()).expect("a whole segment");
    }
}

#[test]
fn records_follow_each_other_and_have_a_bound() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log");
    let gap = log.append(&records(1..2)).expect_err("0 is next");
    assert!(matches!(gap, SegmentError::Gap { next: Seq(0), given: Seq(1) }));
    let body = Body::Value(Bytes::from(vec![0; limits::VALUE_BYTES + 1]));
    let long = log.append(&[Record { body, ..record(0) }]).expect_err("too long");
    assert!(matches!(long, SegmentError::TooLong { .. }));
    assert!(disk.paths().is_empty());
}

#[test]
fn a_segment_is_removed_when_every_stream_in_it_was_taken() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log").with_segments_of(150);
    for _ in 0..12 {
        append(&mut log, 2);
    }
    log.seal().expect("a disk that works");
    let (all, next) = (disk.paths().len(), log.next());
    let mut taken = Taken::default();
    taken.0[Stream::Output.index()] = next;
    assert_eq!(log.free(&taken).expect("nothing to remove"), 0);
    taken.0[Stream::Error.index()] = Seq(10);
    taken.0[Stream::Warning.index()] = Seq(10);
    assert!(log.free(&taken).expect("a disk that works") > 0);
    let left = disk.paths().len();
    assert!(left < all && left > 0);
    let first = read_all(&disk, 0).expect("what is left is good")[0].seq;
    assert!(first <= Seq(10), "nothing goes before it was taken");
    assert!(log.free(&Taken::all_below(next)).expect("a disk that works") > 0);
    assert_eq!((disk.paths().len(), log.bytes()), (0, 0));
    append(&mut log, 1);
    assert_eq!(read_all(&disk, 0).expect("one record"), records(next.0..next.0 + 1));
}

#[test]
fn what_was_taken_before_it_came_is_skipped_in_place() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log");
    log.skip_to(Seq(2));
    log.append(&records(2..4)).expect("a disk that works");
    log.skip_to(Seq(9));
    log.skip_to(Seq(5));
    assert_eq!((log.next(), log.told()), (Seq(9), Seq(4)));
    log.append(&records(9..11)).expect("a disk that works");
    log.skip_to(Seq(20));
    log.sync().expect("a disk that works");
    let all = [records(2..4), records(9..11)].concat();
    let again = open(&disk.after_a_crash()).expect("no damage");
    assert_eq!(again.next(), Seq(11), "a skip alone leaves no trace");
    log.hold_place().expect("a disk that works");
    log.sync().expect("a disk that works");
    log.hold_place().expect("nothing to hold");
    assert_eq!((disk.paths().len(), read_all(&disk, 0).expect("good segments")), (1, all.clone()));
    let crashed = disk.after_a_crash();
    let mut again = open(&crashed).expect("no damage");
    assert_eq!(again.next(), Seq(20));
    again.skip_to(Seq(25));
    again.seal().expect("a disk that works");
    let known = Known { stored: Seq(25), taken: Seq(0) };
    let again = OutputLog::open(directory(&crashed), child(), known).expect("all is told");
    assert_eq!((again.next(), read_all(&crashed, 0).expect("good segments")), (Seq(25), all));
}

#[test]
fn a_place_is_held_without_a_record_until_it_was_taken() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log");
    log.skip_to(Seq(7));
    log.hold_place().expect("a disk that works");
    log.seal().expect("a disk that works");
    assert_eq!(log.free(&Taken::all_below(Seq(6))).expect("nothing to remove"), 0);
    let known = Known { stored: Seq(7), taken: Seq(0) };
    let reopened = || OutputLog::open(directory(&disk), child(), known);
    assert_eq!(reopened().expect("all is told").next(), Seq(7));
    assert!(log.free(&Taken::all_below(Seq(7))).expect("a disk that works") > 0);
    assert!(log.is_empty() && disk.paths().is_empty());
    assert!(matches!(reopened(), Err(SegmentError::Missing { .. })));
}

#[test]
fn after_a_sync_that_failed_what_was_not_synced_is_written_again() {
    for synced_before in [0, 3] {
        let disk = SimulatedDisk::default();
        let mut log = open(&disk).expect("an empty log");
        if synced_before > 0 {
            append(&mut log, synced_before);
            log.sync().expect("a disk that works");
        }
        append(&mut log, 4);
        disk.fail(0, Fault::Broken);
        log.sync().expect_err("broken");
        assert!(log.has_failed());
        assert!(matches!(log.append(&records(0..1)), Err(SegmentError::Failed)));
        log.go_back().expect("a disk that works");
        assert_eq!((log.next(), log.synced()), (Seq(synced_before), Seq(synced_before)));
        append(&mut log, 5);
        log.seal().expect("a disk that works");
        let crashed = disk.after_a_crash();
        let all = read_all(&crashed, 0).expect("good segments");
        assert_eq!(all, records(0..synced_before + 5));
        assert_eq!(open(&crashed).expect("no damage").next(), log.next());
    }
}

#[test]
fn output_goes_on_behind_what_is_damaged() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log").with_segments_of(300);
    while disk.paths().len() < 3 {
        append(&mut log, 2);
    }
    log.sync().expect("a disk that works");
    let next = log.next();
    let paths = disk.paths();
    for (damaged, seen_least) in [(0, 1), (2, 3)] {
        let disk = disk.after_a_kill();
        let mut bytes = disk.content(&paths[damaged]);
        bytes[5] ^= 1;
        bytes[45] ^= 1;
        disk.put(&paths[damaged], bytes);
        let mut log = OutputLog::open_behind_damage(directory(&disk), child(), next)
            .expect("a disk that works");
        log.append(&[record(next.0)]).expect("a disk that works");
        log.seal().expect("a disk that works");
        let mut reader = OutputReader::new(directory(&disk), child(), Seq(0));
        let (mut seen, mut more) = (Vec::new(), true);
        while more {
            match reader.read(ReadBounds::default()) {
                Ok(Batch::Records(records)) => seen.extend(records),
                Ok(Batch::Waiting) | Err(_) => more = reader.pass_damage().expect("a disk"),
            }
        }
        assert!(seen.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        assert!(seen.len() >= seen_least && seen.len() < 1 + next.0 as usize, "{}", seen.len());
        assert_eq!(seen.last().map(|record| record.seq), Some(next));
    }
    // A file that has the name is put aside.
    let first = disk.paths().remove(0);
    let mut log =
        OutputLog::open_behind_damage(directory(&disk), child(), Seq(0)).expect("a working disk");
    append(&mut log, 1);
    assert!(
        disk.paths().contains(&first) && disk.paths().contains(&first.with_extension("damaged"))
    );
}

#[test]
fn numbers_that_were_taken_are_never_given_again() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log");
    append(&mut log, 4);
    log.sync().expect("a disk that works");
    append(&mut log, 4);
    // A reader took six of them, and the machine failed before the last four were on the disk.
    let disk = disk.after_a_crash();
    let known = Known { stored: Seq(4), taken: Seq(6) };
    let mut log = OutputLog::open(directory(&disk), child(), known).expect("nothing is missing");
    assert_eq!(log.next(), Seq(6));
    append(&mut log, 1);
    let all: Vec<u64> = read_all(&disk, 0).expect("a gap").iter().map(|one| one.seq.0).collect();
    assert_eq!(all, [0, 1, 2, 3, 6]);
    // All of it was taken and removed.
    let known = Known { stored: Seq(9), taken: Seq(9) };
    let empty = SimulatedDisk::default();
    let log = OutputLog::open(directory(&empty), child(), known).expect("nothing is missing");
    assert_eq!(log.next(), Seq(9));
    let known = Known { stored: Seq(9), taken: Seq(3) };
    let missing = OutputLog::open(directory(&disk), child(), known).expect_err("it is");
    assert!(matches!(missing, SegmentError::Missing { end: Seq(7), promised: Seq(9), .. }));
}

/// A segment with four batches: the first two synced, and a mark before the third.
fn sample() -> (SimulatedDisk, std::path::PathBuf, Vec<(usize, u64)>) {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log");
    let mut ends = Vec::new();
    for (from, synced) in [(0, false), (3, true), (6, false), (9, false)] {
        for record in records(from..from + 3) {
            log.append(&[record]).expect("a disk that works");
            ends.push((log.bytes() as usize, log.next().0));
        }
        if synced {
            log.sync().expect("a disk that works");
        }
    }
    let path = disk.paths().remove(0);
    (disk, path, ends)
}

#[test]
fn a_cut_at_any_byte_loses_no_whole_record() {
    let (disk, path, ends) = sample();
    let whole = disk.content(&path);
    for cut in 0..=whole.len() {
        let disk = disk.after_a_kill();
        disk.put(&path, whole[..cut].to_vec());
        let expected = ends.iter().rev().find(|(end, _)| *end <= cut).map_or(0, |(_, next)| *next);
        let mut log = open(&disk).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(log.next(), Seq(expected), "cut at {cut}");
        append(&mut log, 2);
        log.sync().expect("a disk that works");
        let all = read_all(&disk, 0).expect("good segments");
        assert_eq!(all, records(0..expected + 2), "cut at {cut}");
    }
}

#[test]
fn damage_before_a_mark_or_a_seal_is_refused_with_its_place() {
    let (disk, path, ends) = sample();
    let whole = disk.content(&path);
    let at = ends[1].0 + 4;
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    disk.put(&path, damaged.clone());
    for error in [open(&disk).expect_err("damaged"), read_all(&disk, 2).expect_err("damaged")] {
        assert!(
            matches!(&error, SegmentError::Damaged { file, offset }
                if *file == path && *offset == ends[1].0 as u64),
            "{error}"
        );
    }
    assert_eq!(disk.content(&path), damaged, "nothing was changed");
    // Behind the last mark it is a torn tail; behind a seal nothing is.
    let last = ends[10].0 + 4;
    let mut torn = whole.clone();
    torn[last] ^= 1;
    disk.put(&path, torn);
    assert_eq!(open(&disk).expect("a torn tail").next(), Seq(11));
    disk.put(&path, whole);
    let mut log = open(&disk).expect("a good segment");
    log.seal().expect("a disk that works");
    let mut sealed = disk.content(&path);
    sealed[last] ^= 1;
    disk.put(&path, sealed);
    assert!(matches!(open(&disk).expect_err("damaged"), SegmentError::Damaged { .. }));
}

#[test]
fn a_newer_segment_is_refused_and_left_alone() {
    let (disk, path, _) = sample();
    let mut newer = disk.content(&path);
    newer[6] = 2;
    disk.put(&path, newer.clone());
    assert!(matches!(open(&disk), Err(SegmentError::Newer { version: 2, .. })));
    assert!(matches!(read_all(&disk, 0), Err(SegmentError::Newer { version: 2, .. })));
    assert_eq!(disk.content(&path), newer);
}

/// Appends, syncs, closes and frees, and says what was acknowledged last.
fn history(log: &mut OutputLog) -> Seq {
    let mut stored = log.synced();
    for round in 0..12 {
        let from = log.next().0;
        if log.append(&records(from..from + round % 3 + 1)).is_err() {
            continue;
        }
        if round % 2 == 1 {
            stored = log.sync().unwrap_or(stored);
        }
    }
    if log.seal().is_ok() {
        stored = log.synced();
    }
    stored
}

#[test]
fn whatever_call_fails_what_was_acknowledged_is_there_and_what_was_refused_is_not() {
    for fault in Fault::ALL {
        for at in 0.. {
            let disk = SimulatedDisk::default();
            let mut log = open(&disk).expect("an empty log").with_segments_of(300);
            disk.fail(at, fault);
            let stored = history(&mut log);
            if !disk.has_failed() {
                assert!(at > 20, "the history makes calls");
                break;
            }
            let (next, failed) = (log.next(), disk.failed_syncs() > 0);
            drop(log);
            let killed = disk.after_a_kill();
            let log = open(&killed).expect("no damage");
            assert!(log.next() >= stored && (log.next() <= next || failed), "{fault:?} at {at}");
            assert_eq!(read_all(&killed, 0).expect("no damage"), records(0..log.next().0));
            let crashed = disk.after_a_crash();
            let log = open(&crashed).expect("no damage");
            assert!(log.next() >= stored && log.next() <= next, "{fault:?} at {at}");
            assert_eq!(read_all(&crashed, 0).expect("no damage"), records(0..log.next().0));
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let disk = SimulatedDisk::default();
    let mut log = open(&disk).expect("an empty log");
    append(&mut log, 1);
    disk.fail(0, Fault::Broken);
    assert!(matches!(log.sync(), Err(SegmentError::Io { step: SegmentStep::Sync, .. })));
    assert!(matches!(log.sync(), Err(SegmentError::Failed)));
    assert!(matches!(log.append(&records(1..2)), Err(SegmentError::Failed)));
    assert_eq!(log.synced(), Seq(0));
}

#[test]
fn output_of_a_job_is_removed_in_steps() {
    let disk = SimulatedDisk::default();
    for ordinal in 0..5 {
        let child = ChildKey { ordinal: Ordinal(ordinal), ..child() };
        let log = OutputLog::open(directory(&disk), child, Known::default());
        log.expect("an empty log").append(&records(0..1)).expect("a disk that works");
    }
    let output = directory(&disk);
    assert_eq!(output.jobs().expect("a list").collect::<Vec<_>>(), [child().job]);
    assert_eq!(output.remove_job(child().job, 3).expect("removed"), Swept::More);
    assert_eq!(disk.paths().len(), 2);
    assert_eq!(output.remove_job(child().job, 3).expect("removed"), Swept::All);
    assert!(disk.paths().is_empty());
}

proptest! {
    #[test]
    fn flipped_bytes_never_crash_and_never_make_a_record(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..6),
    ) {
        let (disk, path, _) = sample();
        let mut bytes = disk.content(&path);
        let one_place = flips.len() == 1;
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        disk.put(&path, bytes);
        let mut reader = OutputReader::new(directory(&disk), child(), Seq(0));
        if let Ok(Batch::Records(read)) = reader.read(ReadBounds::default()) {
            prop_assert_eq!(&read[..], &records(0..read.len() as u64)[..]);
        }
        if let Ok(log) = open(&disk) {
            // What was synced is never cut silently while the mark that says so is whole.
            prop_assert!(log.next() >= Seq(6) || !one_place);
            prop_assert_eq!(read_all(&disk, 0).expect("good"), records(0..log.next().0));
        }
    }

    #[test]
    fn any_history_agrees_with_the_list(
        steps in prop::collection::vec((0_u8..6, 1_u64..5), 1..60),
    ) {
        let mut disk = SimulatedDisk::default();
        let (mut stored, mut taken) = (0, 0);
        let mut log = open(&disk).expect("an empty log").with_segments_of(200);
        for (step, amount) in steps {
            match step {
                0 | 1 => append(&mut log, amount),
                2 => stored = log.sync().expect("a disk that works").0,
                3 => {
                    log.seal().expect("a disk that works");
                    stored = log.synced().0;
                }
                4 => {
                    taken = (taken + amount).min(stored);
                    log.free(&Taken::all_below(Seq(taken))).expect("a disk that works");
                }
                _ => {
                    disk = if amount > 2 { disk.after_a_crash() } else { disk.after_a_kill() };
                    let known = Known { stored: Seq(stored), taken: Seq(taken) };
                    log = OutputLog::open(directory(&disk), child(), known)
                        .expect("no damage")
                        .with_segments_of(200);
                    prop_assert!(log.next().0 >= stored);
                    stored = log.synced().0;
                }
            }
            let all = read_all(&disk, taken).expect("no damage");
            prop_assert_eq!(all, records(taken..log.next().0));
        }
    }
}
