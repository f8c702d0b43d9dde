//! What a child leaves when it ends, and what is found of it at the next start.

use super::super::super::backed::Inline;
use super::*;

fn mixed(first: u64, count: u64, size: usize) -> Vec<Record> {
    let record = |seq| {
        let stream = if seq % 3 == 1 { Stream::Error } else { Stream::Output };
        let body: Bytes = pattern(seq, size).into();
        let body = if seq % 4 == 3 { Body::Value(body) } else { Body::Bytes(body) };
        Record { seq: Seq(seq), stream, time: Timestamp(seq as i64 - 5), body }
    };
    (first..first + count).map(record).collect()
}

#[test]
fn a_small_mailbox_goes_into_the_journal_and_comes_back() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, mixed(0, 4, 30));
    assert!(matches!(life.end(CHILD), Persisted::Inline(_)));
    assert_eq!(files(&disk), 0, "no file for so little");
    drop(life);
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    let summary = life.job().summary(CHILD);
    assert!(summary.closed && summary.with_errors && summary.next == Seq(4));
    assert_eq!(life.kept(CHILD), mixed(0, 4, 30));
    // One stream is taken and the journal knows it: at the next start the other one is left.
    assert_eq!(seqs(&life.take(CHILD, OUTPUT)), [0, 2, 3]);
    life.commit_cursors();
    drop(life);
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert_eq!(life.kept(CHILD), mixed(1, 1, 30));
    assert_eq!(life.job().summary(CHILD).next, Seq(4));
    assert_eq!(seqs(&life.take(CHILD, ALL)), [1]);
    life.commit_cursors();
    drop(life);
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert!(life.kept(CHILD).is_empty() && life.job().summary(CHILD).with_errors);
}

#[test]
fn a_mailbox_that_was_read_in_part_is_small_again_at_its_end() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, mixed(0, 6, 30));
    assert_eq!(seqs(&life.take(CHILD, ERROR)), [1, 4]);
    assert!(matches!(life.job().shard(CHILD).slot(CHILD), Some(Slot::Grown(_))));
    assert!(matches!(life.end(CHILD), Persisted::Inline(_)));
    assert!(matches!(life.end(CHILD), Persisted::Inline(_)), "it can be asked again");
    life.commit_cursors();
    drop(life);
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert_eq!(seqs(&life.kept(CHILD)), [0, 2, 3, 5]);
    // It grows from what was restored, with the numbers that it has.
    assert_eq!(seqs(&life.take(CHILD, OUTPUT)), [0, 2, 3, 5]);
}

#[test]
fn a_mailbox_that_grows_is_on_the_disk_before_its_end() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, mixed(0, 5, 9_000));
    life.until_told(CHILD, 5);
    assert_eq!(life.kept(CHILD), mixed(0, 5, 9_000), "nothing was taken by that");
    life.add(CHILD, mixed(5, 3, 10));
    let Persisted::Segments { next, bytes } = life.end(CHILD) else { panic!("it has files") };
    assert!(next == Seq(8) && bytes > 45_000);
    drop(life);
    disk.forget_unsynced();
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert_eq!(life.kept(CHILD), [mixed(0, 5, 9_000), mixed(5, 3, 10)].concat());
    let summary = life.job().summary(CHILD);
    assert!(summary.closed && summary.with_errors && summary.next == Seq(8));
    assert_eq!(life.take(CHILD, ALL).len(), 8);
    life.commit_cursors();
    life.run(until(|| files(&disk) == 0));
    drop(life);
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert!(life.kept(CHILD).is_empty());
}

#[test]
fn a_child_that_left_nothing_needs_nothing() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    assert_eq!(life.end(Ordinal(1)), Persisted::Nothing);
    for (child, size) in [(Ordinal(2), 10), (Ordinal(3), 9_000)] {
        life.add(child, mixed(0, 3, size));
        while !life.take(child, ALL).is_empty() {}
        let persisted = life.end(child);
        // Part of it may have been on its way to the disk before it was taken.
        let may_have_files = child == Ordinal(3);
        assert!(persisted == Persisted::Nothing || may_have_files, "{persisted:?}");
    }
    life.commit_cursors();
    drop(life);
    let life = Life::begin(&disk);
    for child in [Ordinal(1), Ordinal(2), Ordinal(3)] {
        life.restore(child, true).unwrap();
        assert!(life.kept(child).is_empty() && life.job().summary(child).closed);
    }
    assert_eq!(life.job().unread(), Tally::ZERO);
}

#[test]
fn what_was_taken_before_its_turn_does_not_come_again() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, mixed(0, 6, 9_000));
    life.until_told(CHILD, 6);
    let two = Most { records: 2, ..Most::default() };
    let offer = |life: &Life| {
        let job = life.job();
        life.run(async { job.offer(CHILD, ALL, two).await.unwrap().unwrap() })
    };
    // Another reader has the first ones in hand, and so on in the next life.
    let (_first, second) = (offer(&life), offer(&life));
    life.job().acknowledge(second);
    life.commit_cursors();
    drop((_first, life));
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    let all = mixed(0, 6, 9_000);
    assert_eq!(life.kept(CHILD), [&all[..2], &all[4..]].concat());
    let (_first, third) = (offer(&life), offer(&life));
    life.job().acknowledge(third);
    let [(_, cursor)] = &life.commit_cursors()[..] else { panic!("it moved") };
    assert!(!cursor.apart.is_empty() && cursor.taken == Taken::default(), "{cursor:?}");
    drop((_first, life));
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert_eq!(life.kept(CHILD), all[..2]);
    let last = offer(&life);
    life.job().acknowledge(last);
    // Nothing is apart any more, and everything is known to be taken.
    let [(_, cursor)] = &life.commit_cursors()[..] else { panic!("it moved") };
    assert_eq!((&cursor.apart[..], cursor.taken.highest()), (&[][..], Seq(6)));
    let kept = life.store.journal().cursors(JOB, CHILD, 1).unwrap();
    assert_eq!(kept, [(CHILD, cursor.clone())]);
}

#[test]
fn what_was_taken_is_not_offered_again_once_the_journal_knows() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, mixed(0, 6, 9_000));
    life.until_told(CHILD, 6);
    let job = life.job();
    let two = Most { records: 2, ..Most::default() };
    let offer = || async { job.offer(CHILD, ALL, two).await.unwrap().unwrap() };
    let (first, second) = (life.run(offer()), life.run(offer()));
    job.acknowledge(second);
    let [(_, cursor)] = &life.commit_cursors()[..] else { panic!("it was stored") };
    assert_eq!((cursor.stored, cursor.taken.highest()), (Seq(6), Seq(0)), "the first is missing");
    job.acknowledge(first);
    let [(_, cursor)] = &life.commit_cursors()[..] else { panic!("it moved") };
    assert_eq!(cursor.taken.of(Stream::Output), Seq(4));
    assert_eq!(cursor.taken.of(Stream::Error), Seq(2));
    // This one the journal is not told of.
    let third = life.run(offer());
    job.acknowledge(third);
    drop((job, life));
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert_eq!(life.kept(CHILD), mixed(4, 2, 9_000));
}

#[test]
fn the_next_life_of_a_child_takes_no_number_that_was_taken() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(CHILD, mixed(0, 5, 30));
    assert_eq!(life.job().begin_life(CHILD), Seq(5), "behind what is here");
    assert_eq!(seqs(&life.take(CHILD, OUTPUT)), [0, 2, 3]);
    life.commit_cursors();
    drop(life);
    let life = Life::begin(&disk);
    life.restore(CHILD, false).unwrap();
    assert_eq!(life.job().summary(CHILD).next, Seq(0), "nothing was stored");
    assert_eq!(life.job().begin_life(CHILD), Seq(4));
    let job = life.job();
    for record in mixed(4, 2, 30) {
        life.run(async { job.append_again(CHILD, record).await }).unwrap();
    }
    assert_eq!(life.kept(CHILD), mixed(4, 2, 30));
    assert_eq!(life.job().begin_life(CHILD), Seq(6));
}

#[test]
fn a_child_that_runs_on_sends_what_is_not_here() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    let (compact, grown) = (Ordinal(1), Ordinal(2));
    life.add(compact, mixed(0, 5, 30));
    assert_eq!(seqs(&life.take(compact, OUTPUT)), [0, 2, 3]);
    life.add(grown, mixed(0, 4, 9_000));
    life.until_told(grown, 4);
    life.commit_cursors();
    drop(life);
    let life = Life::begin(&disk);
    life.restore(compact, false).unwrap();
    life.restore(grown, false).unwrap();
    assert_eq!(
        (life.job().summary(compact).next, life.job().summary(grown).next),
        (Seq(0), Seq(4))
    );
    let job = life.job();
    for record in mixed(0, 7, 30) {
        let next = record.seq.after(1);
        let appended = life.run(async { job.append_again(compact, record).await }).unwrap();
        assert_eq!(appended.next, next);
    }
    for record in mixed(2, 6, 9_000) {
        life.run(async { job.append_again(grown, record).await }).unwrap();
    }
    assert_eq!(seqs(&life.kept(compact)), [1, 4, 5, 6]);
    assert_eq!(life.kept(grown), mixed(0, 8, 9_000));
    // What the node itself said between went with it.
    let apart = mixed(9, 1, 5);
    let appended = life.run(async { job.append_again(grown, apart[0].clone()).await }).unwrap();
    assert_eq!(appended.next, Seq(10));
    life.end(compact);
    life.end(grown);
    drop((job, life));
    let life = Life::begin(&disk);
    life.restore(compact, true).unwrap();
    life.restore(grown, true).unwrap();
    assert_eq!(life.kept(compact), [mixed(1, 1, 30), mixed(4, 3, 30)].concat());
    assert_eq!(life.kept(grown), [mixed(0, 8, 9_000), apart].concat());
}

#[test]
fn what_was_dropped_counts_as_taken() {
    let disk = TestDisk::new();
    let bounds = PoolBounds { mailbox_quota: 60_000, ..small() };
    let life = Life::with_policy(&disk, bounds, OutputPolicy::DropOldest);
    for seq in 0..20 {
        life.add(CHILD, mixed(seq, 1, 9_000));
    }
    let dropped = life.job().summary(CHILD).dropped.records;
    assert!(dropped > 10);
    let Persisted::Segments { next: Seq(20), .. } = life.end(CHILD) else { panic!("it has files") };
    life.commit_cursors();
    drop(life);
    let life = Life::with_policy(&disk, bounds, OutputPolicy::DropOldest);
    life.restore(CHILD, true).unwrap();
    assert_eq!(life.kept(CHILD), mixed(dropped, 20 - dropped, 9_000));
}

#[test]
fn much_that_is_unread_comes_back_with_little_memory() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    let batches = 72;
    for batch in 0..batches {
        life.add(CHILD, mixed(16 * batch, 16, 64 << 10));
    }
    let Persisted::Segments { bytes, .. } = life.end(CHILD) else { panic!("it has files") };
    assert!(bytes > 72 * MIB as u64 && files(&disk) > 1);
    drop(life);
    let life = Life::begin(&disk);
    let (job, pool) = (life.job(), Arc::clone(&life.pool));
    let cursor = life.store.cursor(ChildKey { job: JOB, ordinal: CHILD }).unwrap();
    let most = life.run(async {
        let mut restore = Box::pin(job.restore(CHILD, cursor, None, true));
        let mut most = 0;
        loop {
            tokio::select! {
                biased;
                restored = &mut restore => break restored.map(|()| most),
                () = tokio::task::yield_now() => most = pool.memory_bytes().max(most),
            }
        }
    });
    let most = most.unwrap();
    assert!((1..=MIB as u64).contains(&most), "{most} bytes of memory");
    let mut seen = 0;
    loop {
        let records = life.take(CHILD, ALL);
        if records.is_empty() {
            break;
        }
        let first = records[0].seq.0;
        assert_eq!((first, &records), (seen, &mixed(seen, records.len() as u64, 64 << 10)));
        seen += records.len() as u64;
    }
    assert_eq!(seen, 16 * batches);
    life.commit_cursors();
    life.run(until(|| files(&disk) == 0));
}

#[test]
fn a_job_that_is_removed_leaves_no_file_and_one_whose_daemon_ends_does() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    for child in 0..8 {
        life.add(Ordinal(child), mixed(0, 3, 9_000));
        life.until_told(Ordinal(child), 3);
    }
    drop(life);
    assert_eq!(files(&disk), 8);
    let life = Life::begin(&disk);
    life.restore(Ordinal(1), false).unwrap();
    life.add(Ordinal(1), mixed(3, 3, 9_000));
    let job = life.job();
    let _inside = life.runtime.as_ref().unwrap().enter();
    job.remove_all();
    life.run(until(|| files(&disk) == 0));
    assert!(life.run(async { job.persist(Ordinal(1)).await }) == Persisted::Nothing);
    life.run(job.moved());
    assert!(job.take_moved(9).is_empty());
}

#[test]
fn cursors_come_in_pages_and_wake_who_waits() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    let job = life.job();
    let waiting = Arc::clone(&job);
    let waiter = life.runtime.as_ref().unwrap().spawn(async move { waiting.moved().await });
    for child in 0..5 {
        life.add(Ordinal(child), mixed(0, 1, 10));
        life.take(Ordinal(child), ALL);
    }
    life.run(waiter).unwrap();
    let ordinals = |cursors: Vec<(Ordinal, Cursor)>| -> Vec<u32> {
        cursors.iter().map(|(ordinal, _)| ordinal.0).collect()
    };
    assert_eq!(ordinals(job.take_moved(3)), [0, 1, 2]);
    assert_eq!(ordinals(job.take_moved(3)), [3, 4]);
    assert!(job.take_moved(3).is_empty());
    (0..5).for_each(|child| job.close(Ordinal(child)));
    life.add(Ordinal(6), mixed(0, 1, 10));
    life.take(Ordinal(6), ALL);
    let cursors = job.take_moved(9);
    job.cursors_committed(&cursors);
    job.close(Ordinal(6));
    job.cursors_committed(&cursors);
    let backed = job.backed.as_ref().unwrap();
    assert!(!backed.remembers(Ordinal(6)), "what is settled is forgotten");
    assert!(backed.remembers(Ordinal(0)), "the journal was not told");
}

#[test]
fn many_children_that_left_little_cost_little_at_the_next_start() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    life.add(Ordinal(7), mixed(0, 3, 9_000));
    life.until_told(Ordinal(7), 3);
    drop(life);
    let life = Life::begin(&disk);
    let (job, listed) = (life.job(), disk.listed());
    let block = Inline { next: Seq(2), with_errors: true, records: mixed(0, 2, 20) }.encode();
    life.run(async {
        for child in 0..3_000 {
            let inline = block.clone().filter(|_| child % 2 == 0);
            job.restore(Ordinal(child), Cursor::default(), inline, true).await.unwrap();
        }
    });
    assert!(disk.listed() - listed < 10, "not one look at the disk for each");
    assert_eq!(life.kept(Ordinal(7)), mixed(0, 3, 9_000), "not even told of, and found");
    assert_eq!(life.kept(Ordinal(2_998)), mixed(0, 2, 20));
    assert_eq!(job.unread().records, 1_500 * 2 + 3);
    let backed = job.backed.as_ref().unwrap();
    assert!(!backed.remembers(Ordinal(2)) && !backed.remembers(Ordinal(3)));
    assert!(backed.remembers(Ordinal(7)));
    // What is read of it is known of it from then on.
    assert_eq!(life.take(Ordinal(2), ALL).len(), 2);
    let [(Ordinal(2), cursor), ..] = &life.commit_cursors()[..] else { panic!("it moved") };
    assert_eq!(cursor.taken.highest(), Seq(2));
}

#[test]
fn many_children_can_end_at_once() {
    let disk = TestDisk::new();
    let life = Life::begin(&disk);
    let job = life.job();
    life.run(async {
        for child in 0..300 {
            job.add(Ordinal(child), mixed(0, 3, 2_000)).await;
        }
        let ends = (0..300).map(|child| job.persist(Ordinal(child)));
        for persisted in futures_util::future::join_all(ends).await {
            assert!(matches!(persisted, Persisted::Segments { next: Seq(3), .. }));
        }
    });
    drop((job, life));
    disk.forget_unsynced();
    let life = Life::begin(&disk);
    for child in [0, 77, 299] {
        life.restore(Ordinal(child), true).unwrap();
        assert_eq!(life.kept(Ordinal(child)), mixed(0, 3, 2_000));
    }
}

#[test]
fn what_the_journal_has_beside_files_that_do_not_have_it_is_not_lost() {
    let child = ChildKey { job: JOB, ordinal: CHILD };
    // As a kill leaves them: the file is there and empty, has a part of the block, or more.
    for in_files in [0, 1, 3, 6] {
        let disk = TestDisk::new();
        let life = Life::begin(&disk);
        let block = Inline { next: Seq(4), with_errors: true, records: mixed(0, 4, 20) }.encode();
        let outputs = vec![(CHILD, block.expect("it is small"))];
        life.change(vec![Change::OutputStored { job: JOB, outputs }]);
        let mut log = life.store.write(child).unwrap();
        log.hold_place().unwrap();
        log.append(&mixed(0, in_files, 20)).unwrap();
        log.sync().unwrap();
        drop((log, life));
        let all = in_files.max(4);
        for _ in 0..2 {
            let life = Life::begin(&disk);
            life.restore(CHILD, false).unwrap();
            assert_eq!(life.kept(CHILD), mixed(0, all, 20), "{in_files}");
        }
        let life = Life::begin(&disk);
        life.restore(CHILD, false).unwrap();
        life.add(CHILD, mixed(all, 1, 9_000));
        life.end(CHILD);
        drop(life);
        let life = Life::begin(&disk);
        life.restore(CHILD, true).unwrap();
        let kept = life.kept(CHILD);
        assert_eq!(kept, [mixed(0, all, 20), mixed(all, 1, 9_000)].concat(), "{in_files}");
    }
}
