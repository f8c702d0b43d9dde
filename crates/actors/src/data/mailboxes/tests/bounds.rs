//! Memory, quotas and disks that are full.

use sortie_engine::mailbox::OutputPolicy;
use sortie_model::limits::{CHILD_CREDIT_BYTES, RECORD_OVERHEAD_BYTES};
use sortie_model::record::OutputRule;
use sortie_store::SpoolBounds;

use super::*;

const MIB: u64 = 1 << 20;

/// Reads the child's output to its end and checks every byte.
async fn read_pattern(job: Arc<JobMailboxes>, child: Ordinal) -> u64 {
    let mut at = 0;
    loop {
        let version = job.version();
        let closed = job.summary(child).closed;
        let records = job.take(child, OUTPUT).await;
        if records.is_empty() && closed {
            return at;
        }
        if records.is_empty() {
            soon(job.changed(version)).await;
        }
        for record in records {
            let bytes = record.body.bytes();
            assert!(*bytes == pattern(at, bytes.len()), "from byte {at}");
            at += bytes.len() as u64;
        }
    }
}

async fn write_pattern(job: &Arc<JobMailboxes>, child: Ordinal, total: u64) {
    let (mut at, mut next) = (0, Seq(0));
    while at < total {
        let length = (1 + at * 31 % 70_000).min(total - at) as usize;
        let records = vec![record(Stream::Output, pattern(at, length))];
        next = job.append(child, next, records).await.unwrap().next;
        at += length as u64;
        assert!(job.pool.memory_bytes() <= job.pool.bounds.mailbox_memory + 70_100);
    }
    job.close(child);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_exact_through_a_small_memory_while_they_are_written() {
    let (_dir, pool) = pool(PoolBounds::default());
    let job = JobMailboxes::new(Arc::clone(&pool));
    let reader = tokio::spawn(read_pattern(Arc::clone(&job), CHILD));
    write_pattern(&job, CHILD, 64 * MIB).await;
    assert_eq!(soon(reader).await.unwrap(), 64 * MIB);
    assert_eq!((pool.memory_bytes(), job.unread()), (0, Tally::ZERO));
    until(|| pool.disk_bytes() == 0).await;
}

#[tokio::test]
async fn what_nobody_reads_goes_to_disk_and_comes_back_exactly() {
    let (dir, pool) = pool(PoolBounds::default());
    let job = JobMailboxes::new(Arc::clone(&pool));
    write_pattern(&job, CHILD, 40 * MIB).await;
    assert!(pool.disk_bytes() > 38 * MIB);
    assert_eq!(read_pattern(Arc::clone(&job), CHILD).await, 40 * MIB);
    until(|| pool.disk_bytes() == 0).await;
    let spool = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    until(|| std::fs::read_dir(&spool).unwrap().count() == 0).await;
}

#[tokio::test]
async fn single_bytes_do_not_grow_memory() {
    let bounds = PoolBounds { mailbox_memory: 256 << 10, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(Arc::clone(&pool));
    let mut next = Seq(0);
    for _ in 0..100 {
        let records = vec![record(Stream::Output, "x"); 1_000];
        next = job.append(CHILD, next, records).await.unwrap().next;
    }
    assert!(pool.memory_bytes() <= 256 << 10);
    assert_eq!(job.kept(CHILD, ALL).await.len(), 100_000);
}

#[tokio::test]
async fn at_the_quota_the_producer_pauses_until_records_were_taken() {
    let bounds = PoolBounds { mailbox_quota: MIB, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(pool);
    let mut next = Seq(0);
    let body = vec![5; 100_000 - RECORD_OVERHEAD_BYTES as usize];
    let full = loop {
        match job.append(CHILD, next, vec![record(Stream::Output, body.clone())]).await {
            Ok(appended) => next = appended.next,
            Err(error) => break error,
        }
    };
    let AppendError::Full { records, because: FullBecause::Quota, .. } = full else {
        panic!("{full}")
    };
    assert_eq!(job.summary(CHILD).full, Some(FullBecause::Quota));
    let stored = job.summary(CHILD).unread.weight();
    assert!(stored <= MIB + CHILD_CREDIT_BYTES as u64 && stored > MIB, "what is under way fits");
    let mut room = Box::pin(job.room(CHILD));
    assert!(futures_util::poll!(&mut room).is_pending());
    assert!(!job.take(CHILD, ALL).await.is_empty());
    while futures_util::poll!(&mut room).is_pending() {
        assert!(!job.take(CHILD, ALL).await.is_empty());
    }
    assert_eq!(job.summary(CHILD).full, None);
    job.append(CHILD, next, records).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_pauses_the_producer_and_loses_nothing() {
    for nodes_quota in [true, false] {
        let mut spool = SpoolBounds::default();
        if nodes_quota {
            spool.quota = 3 * MIB;
        } else {
            spool.pretended_disk = Some(3 * MIB);
        }
        let (_dir, pool) = pool(PoolBounds { spool, ..PoolBounds::default() });
        let job = JobMailboxes::new(Arc::clone(&pool));
        let (mut at, mut next) = (0, Seq(0));
        let full = loop {
            let records = vec![record(Stream::Output, pattern(at, 50_000))];
            match job.append(CHILD, next, records).await {
                Ok(appended) => (at, next) = (at + 50_000, appended.next),
                Err(error) => break error,
            }
        };
        let AppendError::Full { records, because, source: Some(_) } = full else {
            panic!("{full}")
        };
        let expected = if nodes_quota { FullBecause::NodeQuota } else { FullBecause::DiskFull };
        assert_eq!((because, job.summary(CHILD).full), (expected, Some(expected)));
        assert!(pool.memory_bytes() <= 2 * MIB, "memory does not take the disk's place");
        // Another child that needs no disk goes on.
        job.add(Ordinal(8), outputs(&["quick"])).await;
        let reader = tokio::spawn(read_pattern(Arc::clone(&job), CHILD));
        soon(job.room(CHILD)).await;
        soon(job.append(CHILD, next, records)).await.unwrap();
        job.close(CHILD);
        assert_eq!(soon(reader).await.unwrap(), at + 50_000);
    }
}

#[tokio::test]
async fn many_small_mailboxes_share_a_file_when_the_nodes_memory_is_used_up() {
    let bounds = PoolBounds { node_memory: 256 << 10, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let (job, other) = (JobMailboxes::new(Arc::clone(&pool)), JobMailboxes::new(Arc::clone(&pool)));
    other.add(CHILD, vec![record(Stream::Error, vec![7; 3_000]); 3]).await;
    for child in 0..5_000_u32 {
        let from = u64::from(child);
        job.add(Ordinal(child), vec![record(Stream::Output, pattern(from, 400))]).await;
        assert!(pool.memory_bytes() <= 256 << 10);
    }
    assert!(pool.disk_bytes() > MIB);
    // More for a child that lies on disk, and one child that is removed before it is read.
    job.add(Ordinal(1), outputs(&["more"])).await;
    for child in 0..5_000_u32 {
        let records = job.take(Ordinal(child), ALL).await;
        assert_eq!(*records[0].body.bytes(), pattern(u64::from(child), 400), "{child}");
        assert_eq!(records.len(), if child == 1 { 2 } else { 1 });
    }
    assert_eq!(other.take(CHILD, ALL).await.len(), 3);
    assert_eq!(pool.memory_bytes(), 0);
    until(|| pool.disk_bytes() == 0).await;
}

#[tokio::test]
async fn the_oldest_records_are_dropped_and_counted() {
    let bounds =
        PoolBounds { mailbox_quota: 200_000, mailbox_memory: 100_000, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::with_rule(
        pool,
        OutputRule { policy: OutputPolicy::DropOldest, ..OutputRule::default() },
    );
    for _ in 0..100 {
        job.add(CHILD, vec![record(Stream::Output, vec![1; 10_000])]).await;
        assert!(job.summary(CHILD).unread.weight() <= 200_000);
    }
    let summary = job.summary(CHILD);
    assert!(summary.dropped.records >= 80 && summary.full.is_none());
    assert_eq!(summary.dropped.records + summary.unread.records, 100);
    assert_eq!(summary.dropped.bytes, summary.dropped.records * 10_000);
    let rest = job.kept(CHILD, ALL).await;
    assert_eq!(rest[0].seq.0, summary.dropped.records, "numbers stay what they were");
    assert_eq!(job.unread(), summary.unread);
}

#[tokio::test]
async fn the_policy_to_fail_says_how_much_was_cut() {
    let bounds = PoolBounds { mailbox_quota: 10_000, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::with_rule(
        pool,
        OutputRule { policy: OutputPolicy::Fail, ..OutputRule::default() },
    );
    job.add(CHILD, vec![record(Stream::Output, vec![1; 9_000])]).await;
    let cut = job.append(CHILD, Seq(1), vec![record(Stream::Output, vec![1; 5_000])]).await;
    let cut = cut.unwrap_err();
    assert!(matches!(cut, AppendError::OverQuota { cut: Tally { records: 1, bytes: 5_000 } }));
    let more = job.append(CHILD, Seq(2), vec![record(Stream::Output, vec![1; 5])]).await;
    let more = more.expect("it is dropped, and whoever sends it goes on");
    assert_eq!(more, Appended { next: Seq(3), room: u64::MAX });
    let summary = job.summary(CHILD);
    assert_eq!(summary.dropped, Tally { records: 2, bytes: 5_005 });
    assert!(summary.cut && summary.full.is_none() && !summary.closed);
    assert_eq!(job.take(CHILD, ALL).await.len(), 1);
}

#[tokio::test]
async fn what_is_new_goes_where_all_that_is_older_is_on_offer() {
    const QUOTA: u64 = 2 << 20;
    let bounds = PoolBounds { mailbox_quota: QUOTA, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let rule = OutputRule { policy: OutputPolicy::DropOldest, ..OutputRule::default() };
    let job = JobMailboxes::with_rule(pool, rule);
    let mut held = Vec::new();
    let mut offered = 0;
    // A reader takes everything in hand as it comes, and confirms nothing.
    for number in (0..60).step_by(5) {
        let records = vec![record(Stream::Output, vec![1; 100_000]); 5];
        job.append(CHILD, Seq(number), records).await.expect("nobody ever pauses");
        while let Some(offer) = job.offer(CHILD, ALL, Most::default()).await.unwrap() {
            offered += offer.records.len() as u64;
            held.push(offer);
        }
    }
    let summary = job.summary(CHILD);
    assert_eq!((summary.next, summary.full), (Seq(60), None));
    assert_eq!(summary.dropped.records + summary.unread.records, 60, "each is counted once");
    assert!(summary.dropped.records > 0 && summary.unread.records == offered);
    assert_eq!(job.dropped(), summary.dropped);
}

#[tokio::test]
async fn an_append_that_needs_no_disk_does_not_wait() {
    let bounds = PoolBounds { mailbox_memory: 20_000, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(pool);
    let batch = || vec![record(Stream::Output, vec![1; 9_000])];
    assert!(matches!(job.try_append(CHILD, Seq(0), batch()), Ok(TryAppend::Done(_))));
    assert!(matches!(job.try_append(CHILD, Seq(1), batch()), Ok(TryAppend::Done(_))));
    let Ok(TryAppend::WouldSpill(records)) = job.try_append(CHILD, Seq(2), batch()) else {
        panic!("memory is used up")
    };
    assert_eq!(job.append(CHILD, Seq(2), records).await.unwrap().next, Seq(3));
    let large = vec![record(Stream::Output, vec![1; 100_000])];
    assert_eq!(job.append(CHILD, Seq(3), large).await.unwrap().next, Seq(4));
    assert_eq!(job.take(CHILD, ALL).await.len(), 4);
}

#[tokio::test]
async fn a_childs_small_mailbox_is_small() {
    assert!(size_of::<Compact>() <= 96 && size_of::<Slot>() <= 16);
}

#[tokio::test]
async fn a_mailbox_that_ended_and_was_read_is_small_again() {
    let (_dir, job) = job();
    for close_first in [true, false] {
        let child = Ordinal(u32::from(close_first));
        job.add(child, vec![record(Stream::Error, vec![1; 10_000]); 3]).await;
        if close_first {
            job.close(child);
        }
        assert_eq!(job.take(child, ALL).await.len(), 3);
        job.close(child);
        assert!(matches!(job.shard(child).slot(child), Some(Slot::Compact(_))));
        let summary = job.summary(child);
        assert!(summary.closed && summary.with_errors && summary.next == Seq(3));
        let known = job.append(child, Seq(2), vec![record(Stream::Error, vec![1; 10_000])]).await;
        assert_eq!(known.unwrap().next, Seq(3));
        assert!(job.kept(child, ALL).await.is_empty() && job.take(child, ALL).await.is_empty());
    }
}

#[tokio::test]
async fn a_child_that_no_job_can_have_costs_nothing() {
    let (_dir, job) = job();
    let refused = job.append(Ordinal(u32::MAX), Seq(0), outputs(&["x"])).await;
    assert!(matches!(refused, Err(AppendError::NoSuchChild)));
    job.close(Ordinal(u32::MAX));
    assert!(job.take(Ordinal(u32::MAX), ALL).await.is_empty());
    assert!(job.shards.iter().all(|shard| lock(shard).slots.is_empty()));
}
