//! Disks that refuse, callers that give up, jobs that go while they are worked on.

use sortie_store::SpoolBounds;

use super::*;

/// One mailbox file is open at a time, so that files are opened again all the time.
fn one_open_file() -> PoolBounds {
    let spool = SpoolBounds { open_files: 1, ..SpoolBounds::default() };
    PoolBounds { mailbox_memory: 20_000, spool, ..PoolBounds::default() }
}

fn large(byte: u8) -> Vec<Record> {
    vec![record(Stream::Output, vec![byte; 9_000])]
}

#[tokio::test]
async fn a_file_that_is_gone_hurts_its_own_child_only() {
    let (dir, pool) = pool(one_open_file());
    let job = JobMailboxes::new(pool);
    for child in [0, 1] {
        for _ in 0..4 {
            job.add(Ordinal(child), large(child as u8)).await;
        }
    }
    let spool = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(spool.join("0")).unwrap();
    assert_eq!(job.take(Ordinal(1), ALL).await.len(), 4);
    let broken = job.offer(Ordinal(0), ALL, Most::default()).await.unwrap_err();
    assert!(matches!(broken, ReadError::Disk(_)), "{broken}");
    let kept = job.keep(Ordinal(0), Position::start(), ALL, Most::default()).await;
    assert!(kept.is_err() && job.tail(Ordinal(0), ALL, 9).await.is_err());
    assert_eq!(job.summary(Ordinal(0)).unread.records, 4, "nothing is said to be taken");
    job.add(Ordinal(1), large(9)).await;
    assert_eq!(job.take(Ordinal(1), ALL).await.len(), 1);
}

#[tokio::test]
async fn a_disk_that_refuses_pauses_the_producer() {
    let (dir, pool) = pool(PoolBounds { mailbox_memory: 20_000, ..PoolBounds::default() });
    let job = JobMailboxes::new(Arc::clone(&pool));
    // A file where the directory has to be.
    std::fs::remove_dir(dir.path()).unwrap();
    std::fs::write(dir.path(), "in the way").unwrap();
    let (mut next, mut stored) = (Seq(0), 0);
    let full = loop {
        match job.append(CHILD, next, large(1)).await {
            Ok(appended) => (next, stored) = (appended.next, stored + 1),
            Err(error) => break error,
        }
    };
    let AppendError::Full { records, because: FullBecause::DiskFailed, source: Some(_) } = full
    else {
        panic!("{full}")
    };
    assert_eq!(records.len(), 1);
    std::fs::remove_file(dir.path()).unwrap();
    soon(job.room(CHILD)).await;
    job.append(CHILD, next, records).await.unwrap();
    assert_eq!(job.kept(CHILD, ALL).await.len(), stored + 1);
    assert!(pool.disk_bytes() > 0);
}

#[tokio::test]
async fn an_append_that_is_given_up_can_be_made_again() {
    let (_dir, pool) = pool(PoolBounds { mailbox_memory: 20_000, ..PoolBounds::default() });
    let job = JobMailboxes::new(Arc::clone(&pool));
    for round in 0..50_u64 {
        let mut first_try = Box::pin(job.append(CHILD, Seq(round), large(round as u8)));
        // Dropped while the disk is written, or after it is done.
        let _ = futures_util::poll!(&mut first_try);
        drop(first_try);
        let next = soon(job.append(CHILD, Seq(round), large(round as u8))).await.unwrap().next;
        assert_eq!(next, Seq(round + 1));
    }
    let kept = job.kept(CHILD, ALL).await;
    assert!(kept.iter().zip(0_u8..).all(|(record, round)| record.body.bytes()[0] == round));
    assert_eq!(kept.len(), 50);
    drop(kept);
    while !job.take(CHILD, ALL).await.is_empty() {}
    assert_eq!(pool.memory_bytes(), 0);
    until(|| pool.disk_bytes() == 0).await;
}

#[tokio::test]
async fn a_job_can_be_removed_while_its_bytes_are_written() {
    for _ in 0..20 {
        let (_dir, pool) = pool(PoolBounds { mailbox_memory: 20_000, ..PoolBounds::default() });
        let job = JobMailboxes::new(Arc::clone(&pool));
        job.add(CHILD, large(1)).await;
        job.add(CHILD, large(2)).await;
        let mut append = Box::pin(job.append(CHILD, Seq(2), large(3)));
        let started = futures_util::poll!(&mut append);
        job.remove_all();
        if started.is_pending() {
            assert!(matches!(soon(append).await, Err(AppendError::Removed)));
        }
        assert_eq!(pool.memory_bytes(), 0);
        until(|| pool.disk_bytes() == 0).await;
    }
}

/// Appends to all children of a job, in order for each.
async fn write_all(job: Arc<JobMailboxes>, children: u32, records: u64) {
    for first in (0..records).step_by(5) {
        for child in 0..children {
            let bodies = (first..first + 5).map(|seq| {
                let stream = if seq % 3 == 0 { Stream::Error } else { Stream::Output };
                record(stream, pattern(seq, (seq * 37 % 900) as usize))
            });
            let mut batch: Vec<_> = bodies.collect();
            while let Err(error) = job.append(Ordinal(child), Seq(first), batch).await {
                let AppendError::Full { records, .. } = error else { panic!("{error}") };
                job.room(Ordinal(child)).await;
                batch = records;
            }
        }
    }
    (0..children).for_each(|child| job.close(Ordinal(child)));
}

/// Reads until every child has ended and nothing is left; leaves every seventh offer. Readers of
/// one job tell each other what they acknowledged: that is no news of the job's.
async fn read_all(
    job: Arc<JobMailboxes>,
    acknowledged: Arc<Notify>,
    children: u32,
) -> Vec<(u32, u64)> {
    let (mut ready, mut seen, mut round) = (job.ready(), Vec::new(), 0_u32);
    loop {
        let version = job.version();
        let mut other = pin!(acknowledged.notified());
        other.as_mut().enable();
        let Some(child) = ready.next_child() else {
            let over = |child| {
                let summary = job.summary(Ordinal(child));
                summary.closed && summary.unread.records == 0
            };
            if (0..children).all(over) {
                return seen;
            }
            tokio::select! {
                _ = job.changed(version) => {}
                () = other => {}
            }
            continue;
        };
        while let Some(offer) = job.offer(child, ALL, Most::default()).await.unwrap() {
            round += 1;
            if round.is_multiple_of(7) {
                continue;
            }
            for record in &offer.records {
                let length = (record.seq.0 * 37 % 900) as usize;
                assert_eq!(*record.body.bytes(), pattern(record.seq.0, length));
                seen.push((child.0, record.seq.0));
            }
            job.acknowledge(offer);
            acknowledged.notify_waiters();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_children_writers_and_readers_at_once_lose_and_repeat_nothing() {
    let spool = SpoolBounds { open_files: 2, ..SpoolBounds::default() };
    let bounds =
        PoolBounds { mailbox_memory: 16_000, node_memory: 100_000, mailbox_quota: 60_000, spool };
    let (_dir, pool) = pool(bounds);
    const CHILDREN: u32 = 30;
    const RECORDS: u64 = 200;
    let mut running = Vec::new();
    for _ in 0..3 {
        let job = JobMailboxes::new(Arc::clone(&pool));
        let writer = tokio::spawn(write_all(Arc::clone(&job), CHILDREN, RECORDS));
        let acknowledged = Arc::new(Notify::new());
        let read = |_| read_all(Arc::clone(&job), Arc::clone(&acknowledged), CHILDREN);
        let readers = [0; 2].map(|number| tokio::spawn(read(number)));
        running.push((job, writer, readers));
    }
    for (job, writer, readers) in running {
        soon(writer).await.unwrap();
        let mut seen = Vec::new();
        for reader in readers {
            seen.extend(soon(reader).await.unwrap());
        }
        seen.sort_unstable();
        let all = (0..CHILDREN).flat_map(|child| (0..RECORDS).map(move |seq| (child, seq)));
        assert!(seen.iter().copied().eq(all));
        assert_eq!(job.unread(), Tally::ZERO);
    }
    assert_eq!(pool.memory_bytes(), 0);
    until(|| pool.disk_bytes() == 0).await;
}
