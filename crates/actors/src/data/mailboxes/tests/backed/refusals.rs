//! Disks that refuse, and files that are not what they were.

use super::disk::Refusal;
use super::*;

fn large(first: u64, count: u64) -> Vec<Record> {
    let bodies = (first..first + count).map(|seq| record(Stream::Output, pattern(seq, 9_000)));
    with_seqs(bodies.collect(), first)
}

#[test]
fn nothing_is_lost_while_the_disk_refuses_and_nobody_else_waits() {
    for refusal in [Refusal::Full, Refusal::Broken, Refusal::BrokenSync] {
        let disk = TestDisk::new();
        let life = Life::begin(&disk);
        life.add(CHILD, large(0, 2));
        life.until_told(CHILD, 2);
        disk.refuse(Some(refusal));
        life.add(CHILD, large(2, 4));
        let job = life.job();
        let waiting = Arc::clone(&job);
        let runtime = life.runtime.as_ref().unwrap();
        let ending = runtime.spawn(async move { waiting.persist(CHILD).await });
        let expected = match refusal {
            Refusal::Full => FullBecause::DiskFull,
            _ => FullBecause::DiskFailed,
        };
        life.run(until(|| job.summary(CHILD).full == Some(expected)));
        // Tried again, and refused again, with everything where it was.
        let refused = disk.refused();
        life.run(until(|| disk.refused() > refused));
        assert!(!ending.is_finished() && life.told.of(CHILD) == Seq(2));
        assert_eq!(life.kept(CHILD), large(0, 6));
        // A child that needs no file ends.
        let other = Ordinal(5);
        life.add(other, outputs(&["small"]));
        assert!(matches!(life.end(other), Persisted::Inline(_)));
        disk.refuse(None);
        let persisted = life.run(ending).unwrap();
        assert!(matches!(persisted, Persisted::Segments { next: Seq(6), .. }), "{refusal:?}");
        assert_eq!(job.summary(CHILD).full, None);
        drop((job, life));
        disk.forget_unsynced();
        let life = Life::begin(&disk);
        life.restore(CHILD, true).unwrap();
        assert_eq!(life.kept(CHILD), large(0, 6), "{refusal:?}");
    }
}

#[test]
fn what_was_taken_out_of_order_before_it_was_stored_is_not_missed() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    disk.refuse(Some(Refusal::Full));
    life.add(CHILD, large(0, 6));
    life.run(until(|| disk.refused() > 0));
    let job = life.job();
    let two = Most { records: 2, ..Most::default() };
    let first = life.run(async { job.offer(CHILD, ALL, two).await }).unwrap().unwrap();
    assert_eq!(life.take(CHILD, ALL).len(), 4);
    disk.refuse(None);
    life.until_told(CHILD, 6);
    let [(CHILD, cursor)] = &life.commit_cursors()[..] else { panic!("it was stored") };
    assert_eq!((cursor.stored, cursor.taken.highest()), (Seq(6), Seq(0)));
    assert_eq!(seqs(&first.records), [0, 1]);
    drop((first, job, life));
    disk.forget_unsynced();
    let life = Life::begin(&disk);
    life.restore(CHILD, false).unwrap();
    assert_eq!(life.kept(CHILD), large(0, 2));
    life.add(CHILD, large(6, 2));
    assert!(matches!(life.end(CHILD), Persisted::Segments { next: Seq(8), .. }));
    drop(life);
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert_eq!(life.kept(CHILD), [large(0, 2), large(6, 2)].concat());
}

#[test]
fn a_file_stays_until_the_journal_knows_that_it_was_taken() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, large(0, 3));
    life.end(CHILD);
    let before = life.commit_cursors();
    assert_eq!(life.take(CHILD, ALL).len(), 3);
    // An older cursor than the mailbox has: what is freed goes by what the journal has.
    let _inside = life.runtime.as_ref().unwrap().enter();
    life.job().cursors_committed(&before);
    let behind = Ordinal(6);
    life.add(behind, large(0, 3));
    life.until_told(behind, 3);
    assert_eq!(files(&disk), 2);
    life.commit_cursors();
    let job = life.job();
    let backed = job.backed.as_ref().unwrap();
    life.run(until(|| files(&disk) == 1 && !backed.remembers(CHILD)));
}

#[test]
fn a_wait_that_is_given_up_can_be_made_again() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    disk.refuse(Some(Refusal::Full));
    life.add(CHILD, large(0, 3));
    let job = life.job();
    life.run(async {
        let mut first = Box::pin(job.persist(CHILD));
        assert!(futures_util::poll!(&mut first).is_pending());
    });
    disk.refuse(None);
    assert!(matches!(life.end(CHILD), Persisted::Segments { next: Seq(3), .. }));
}

#[test]
fn a_damaged_file_is_named_and_the_rest_is_read_and_goes_on() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, large(0, 4));
    life.until_told(CHILD, 4);
    life.add(CHILD, large(4, 4));
    life.until_told(CHILD, 8);
    life.commit_cursors();
    drop(life);
    let file = disk.first_file();
    let mut bytes = std::fs::read(&file).unwrap();
    // In the third record, which a mark says was on the disk.
    bytes[20_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let life = Life::begin(&disk);
    let error = life.restore(CHILD, false).unwrap_err();
    let RestoreError::Output(error) = &error else { panic!("{error}") };
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert_eq!(life.kept(CHILD), large(0, 2));
    assert_eq!(life.job().summary(CHILD).next, Seq(8));
    // The child goes on, and what it writes now is stored.
    life.add(CHILD, large(8, 3));
    assert!(matches!(life.end(CHILD), Persisted::Segments { next: Seq(11), .. }));
    drop(life);
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap_err();
    assert_eq!(life.kept(CHILD), [large(0, 2), large(8, 3)].concat());
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, large(0, 4));
    life.until_told(CHILD, 4);
    life.commit_cursors();
    drop(life);
    std::fs::remove_file(disk.first_file()).unwrap();
    let life = Life::begin(&disk);
    let error = life.restore(CHILD, true).unwrap_err();
    assert!(matches!(error, RestoreError::Output(_)) && !error.is_retryable());
    assert!(life.kept(CHILD).is_empty() && life.job().summary(CHILD).next == Seq(4));
}

#[test]
fn a_block_of_the_journal_that_is_damaged_is_refused() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    let block = Some(Bytes::from_static(b"\x01\x00short"));
    let job = life.job();
    let refused = life.run(async { job.restore(CHILD, Cursor::default(), block, true).await });
    assert!(matches!(refused, Err(RestoreError::Inline { ordinal: CHILD })));
    assert!(job.summary(CHILD).closed);
    let far =
        life.run(async { job.restore(Ordinal(u32::MAX), Cursor::default(), None, true).await });
    assert!(matches!(far, Err(RestoreError::NoSuchChild)));
}
