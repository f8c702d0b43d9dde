use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;
use sortie_model::record::live::{LiveActs, LiveValue};

use super::*;
use crate::{Backward, Entry, Forward, Loaded, Next, Spool, SpoolBounds};

fn spool() -> (tempfile::TempDir, Arc<Spool>) {
    let parent = tempfile::tempdir().unwrap();
    let spool = Spool::new(parent.path().to_owned(), SpoolBounds::default());
    (parent, spool)
}

fn entry(seq: u64, length: usize) -> Entry {
    let bytes = Bytes::from(vec![seq as u8; length]);
    let body = if seq.is_multiple_of(3) { Body::Value(bytes) } else { Body::Bytes(bytes) };
    Entry::new(Seq(seq), Timestamp(-(seq as i64)), body)
}

/// A value that weighs more, or less, than its encoding is long.
fn live(seq: u64, weight: usize) -> Entry {
    const ACTS: LiveActs = LiveActs {
        encode: |value| Bytes::from(vec![7; value.downcast_ref::<usize>().map_or(0, |n| *n)]),
        hand_over: |_, _| (),
    };
    let length = (weight * 7 + 5) % 3_000;
    let body = Body::Live(LiveValue::new(Arc::new(length), weight, &ACTS));
    Entry::new(Seq(seq), Timestamp(-(seq as i64)), body)
}

/// The same record, whether its value is still live or not.
fn same(one: &Entry, other: &Entry) -> bool {
    (one.seq, one.time, one.weight) == (other.seq, other.time, other.weight)
        && one.body.clone().encoded() == other.body.clone().encoded()
}

fn bytes_of(segment: Segment) -> Bytes {
    match segment.load().unwrap() {
        Loaded::Bytes(bytes) => bytes,
        Loaded::Entries(entries) => panic!("live values: {entries:?}"),
    }
}

fn append(log: &mut StreamLog, entry: &Entry) {
    log.append(entry.seq, entry.time, &entry.body);
}

fn spill_to(log: &mut StreamLog, file: &Arc<MailboxFile>) {
    let spill = log.spill().encode();
    let at = file.append(&spill.bytes().collect::<Vec<_>>()).unwrap();
    assert!(log.spilled(&spill, file, at).is_empty());
}

fn read_all(log: &mut StreamLog, range: Range<u64>) -> Vec<Entry> {
    let parts = log.read(range, usize::MAX).into_iter().map(|segment| segment.load().unwrap());
    let mut forward = Forward::new(parts);
    let mut entries = Vec::new();
    loop {
        match forward.next_record().unwrap() {
            Next::Record(entry) => entries.push(entry),
            Next::End => return entries,
            Next::Needs(bytes) => panic!("cut: {bytes}"),
        }
    }
}

#[test]
fn a_log_reads_the_same_from_memory_and_from_a_file() {
    let (_parent, spool) = spool();
    let file = MailboxFile::create(&spool).unwrap();
    let mut log = StreamLog::default();
    let entries: Vec<_> =
        [0, 1, 100, 16 << 10, 300_000, 7].iter().zip(0..).map(|(l, s)| entry(s, *l)).collect();
    let (first, second) = entries.split_at(4);
    first.iter().for_each(|entry| append(&mut log, entry));
    assert_eq!(log.memory(), log.end());
    spill_to(&mut log, &file);
    assert_eq!((log.memory(), spool.used()), (0, log.end()));
    second.iter().for_each(|entry| append(&mut log, entry));
    let end = log.end();
    assert_eq!(read_all(&mut log, 0..end), entries);
}

#[test]
fn a_log_reads_from_its_end() {
    let mut log = StreamLog::default();
    let entries: Vec<_> = (0..5).map(|seq| entry(seq, 10 * seq as usize)).collect();
    entries.iter().for_each(|entry| append(&mut log, entry));
    let end = log.end();
    let parts = log.read(3..end, usize::MAX).into_iter();
    let bytes: Vec<u8> = parts.flat_map(|part| bytes_of(part).to_vec()).collect();
    let mut backward = Backward::new([Loaded::Bytes(bytes.into())]);
    for expected in entries.iter().skip(1).rev() {
        assert!(matches!(backward.next_record(), Ok(Next::Record(entry)) if entry == *expected));
    }
    assert!(matches!(backward.next_record(), Ok(Next::Needs(24))));
}

#[test]
fn values_that_were_live_lie_together_and_read_back_from_any_place() {
    let (_parent, spool) = spool();
    let file = MailboxFile::create(&spool).unwrap();
    let mut log = StreamLog::default();
    let entries: Vec<_> = (0..200).map(|seq| live(seq, 17 * (seq as usize % 5))).collect();
    entries.iter().for_each(|entry| append(&mut log, entry));
    let end = log.end();
    let read = read_all(&mut log, 0..end);
    assert!(read.iter().all(|entry| matches!(entry.body, Body::Live(_))));
    spill_to(&mut log, &file);
    assert_eq!((log.memory(), log.parts.len()), (0, 0));
    assert!(log.extents.len() < 12, "{} extents", log.extents.len());
    let mut from = 0;
    for skipped in 0..200 {
        let read = read_all(&mut log, from..end);
        assert_eq!(read.len(), entries.len() - skipped);
        assert!(read.iter().zip(&entries[skipped..]).all(|(one, other)| same(one, other)));
        from += entries[skipped].weight + 24;
    }
    log.free(0..end, 0..end).into_iter().for_each(Hole::give_back);
    assert_eq!(spool.used(), 0);
}

#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    let mut log = StreamLog::default();
    (0..4).for_each(|seq| append(&mut log, &entry(seq, 9)));
    let end = log.end();
    let parts = log.read(0..end, usize::MAX).into_iter();
    let sound: Vec<u8> = parts.flat_map(|part| bytes_of(part).to_vec()).collect();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x5a;
        let mut forward = Forward::new([Loaded::Bytes(bytes.clone().into())]);
        while let Ok(Next::Record(_)) = forward.next_record() {}
        let mut backward = Backward::new([Loaded::Bytes(bytes.into())]);
        while let Ok(Next::Record(_)) = backward.next_record() {}
    }
}

#[test]
fn freed_bytes_go_back_to_the_disk() {
    let (parent, spool) = spool();
    let file = MailboxFile::create(&spool).unwrap();
    let mut log = StreamLog::default();
    (0..64).for_each(|seq| append(&mut log, &entry(seq, 65_536 - 24)));
    spill_to(&mut log, &file);
    let blocks = || {
        let directory = std::fs::read_dir(parent.path()).unwrap().next().unwrap().unwrap();
        std::fs::metadata(directory.path().join("0")).unwrap().blocks() * 512
    };
    let before = blocks();
    log.free(0..1 << 20, 0..1 << 20).into_iter().for_each(Hole::give_back);
    assert_eq!(spool.used(), 3 << 20);
    assert!(!spool.makes_holes() || blocks() <= before - (1 << 20));
    drop(file);
    log.free(1 << 20..4 << 20, 0..4 << 20).into_iter().for_each(Hole::give_back);
    assert_eq!(spool.used(), 0);
    let directory = std::fs::read_dir(parent.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the empty file is gone");
}

#[test]
fn what_is_freed_while_it_is_written_is_given_back() {
    let (_parent, spool) = spool();
    let file = MailboxFile::create(&spool).unwrap();
    let mut log = StreamLog::default();
    (0..2).for_each(|seq| append(&mut log, &entry(seq, 100_000)));
    let end = log.end();
    let spill = log.spill().encode();
    let at = file.append(&spill.bytes().collect::<Vec<_>>()).unwrap();
    assert!(log.free(0..end, 0..end).is_empty());
    log.spilled(&spill, &file, at).into_iter().for_each(Hole::give_back);
    assert_eq!((log.memory(), spool.used()), (0, 0));
}

#[test]
fn many_writes_behind_each_other_are_one_extent() {
    let (_parent, spool) = spool();
    let file = MailboxFile::create(&spool).unwrap();
    let mut log = StreamLog::default();
    for seq in 0..200 {
        append(&mut log, &entry(seq, 1_000));
        spill_to(&mut log, &file);
    }
    assert_eq!((log.extents.len(), log.parts.len()), (1, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    AppendLive(usize),
    Spill,
    FreeFirst(usize),
    FreeAt(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..3_000).prop_map(Step::Append),
        1 => Just(Step::Append(20_000)),
        3 => (0_usize..3_000).prop_map(Step::AppendLive),
        1 => Just(Step::Spill),
        1 => (1_usize..9).prop_map(Step::FreeFirst),
        1 => (0_usize..40, 1_usize..5).prop_map(|(at, count)| Step::FreeAt(at, count)),
    ];
    prop::collection::vec(step, 0..80)
}

/// Frees records `at..at + count` that are not free yet, with the widest gap around them.
fn free(log: &mut StreamLog, records: &mut [(Range<u64>, Entry, bool)], at: usize, count: usize) {
    for index in at..(at + count).min(records.len()) {
        if records[index].2 {
            continue;
        }
        records[index].2 = true;
        let before = records[..index].iter().rposition(|record| !record.2);
        let after = records[index..].iter().position(|record| !record.2);
        let from = before.map_or(0, |before| records[before].0.end);
        let to = after.map_or(log.end(), |after| records[index + after].0.start);
        log.free(records[index].0.clone(), from..to).into_iter().for_each(Hole::give_back);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn live_records_read_back_after_any_history(steps in steps()) {
        let (_parent, spool) = spool();
        let file = MailboxFile::create(&spool).unwrap();
        let mut log = StreamLog::default();
        let mut records: Vec<(Range<u64>, Entry, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Append(length) => {
                    let (from, entry) = (log.end(), entry(records.len() as u64, length));
                    append(&mut log, &entry);
                    records.push((from..log.end(), entry, false));
                }
                Step::AppendLive(weight) => {
                    let (from, entry) = (log.end(), live(records.len() as u64, weight));
                    append(&mut log, &entry);
                    records.push((from..log.end(), entry, false));
                }
                Step::Spill => spill_to(&mut log, &file),
                Step::FreeFirst(count) => {
                    let at = records.iter().position(|record| !record.2).unwrap_or(0);
                    free(&mut log, &mut records, at, count);
                }
                Step::FreeAt(at, count) => free(&mut log, &mut records, at, count),
            }
            for (range, entry, free) in &records {
                if !free {
                    let read = read_all(&mut log, range.clone());
                    prop_assert!(read.len() == 1 && same(&read[0], entry), "{read:?} {entry:?}");
                    let back = log.read(range.clone(), usize::MAX).into_iter();
                    let mut back = Backward::new(back.map(|part| part.load().unwrap()));
                    let last = back.next_record();
                    prop_assert!(matches!(last, Ok(Next::Record(last)) if same(&last, entry)));
                }
            }
        }
        let all = records.len();
        free(&mut log, &mut records, 0, all);
        prop_assert_eq!((log.memory(), spool.used()), (0, 0));
    }
}
