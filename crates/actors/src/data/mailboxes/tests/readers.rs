//! Several readers, dead readers, waiting readers.

use super::*;

#[tokio::test]
async fn a_reader_that_dies_loses_nothing() {
    let (_dir, job) = job();
    for (child, size) in [(Ordinal(0), 1), (Ordinal(1), 10_000)] {
        job.add(child, vec![record(Stream::Output, vec![1; size]); 4]).await;
        let most = Most { records: 2, ..Most::default() };
        let first = job.offer(child, ALL, most).await.unwrap().unwrap();
        let second = job.offer(child, ALL, Most::default()).await.unwrap().unwrap();
        assert_eq!((seqs(&first.records), seqs(&second.records)), (vec![0, 1], vec![2, 3]));
        assert!(first.more && !second.more);
        assert!(job.offer(child, ALL, Most::default()).await.unwrap().is_none());
        assert_eq!(job.summary(child).unread.records, 4);
        drop(first);
        assert_eq!(seqs(&job.take(child, ALL).await), [0, 1]);
        job.acknowledge(second);
        assert_eq!(job.summary(child).unread.records, 0);
    }
}

#[tokio::test]
async fn a_compact_offer_stays_valid_when_its_mailbox_grows() {
    let (_dir, job) = job();
    for acknowledge in [true, false] {
        let child = Ordinal(u32::from(acknowledge));
        job.add(child, outputs(&["x"])).await;
        job.take(child, ALL).await;
        job.add(child, outputs(&["a", "b"])).await;
        let offer = job.offer(child, ALL, Most::default()).await.unwrap().unwrap();
        job.add(child, vec![record(Stream::Output, vec![1; 10_000])]).await;
        assert_eq!(seqs(&offer.records), [1, 2]);
        if acknowledge {
            job.acknowledge(offer);
            assert_eq!(seqs(&job.take(child, ALL).await), [3]);
        } else {
            drop(offer);
            assert_eq!(seqs(&job.take(child, ALL).await), [1, 2, 3]);
        }
    }
    assert_eq!(job.pool.memory_bytes(), 0);
}

#[tokio::test]
async fn a_position_stays_valid_whatever_is_taken() {
    let (_dir, job) = job();
    job.add(CHILD, outputs(&["a", "b"])).await;
    let most = Most { records: 1, ..Most::default() };
    let kept = job.keep(CHILD, Position::start(), ALL, most).await.unwrap();
    assert!(kept.more);
    job.take(CHILD, ALL).await;
    job.add(CHILD, outputs(&["c"])).await;
    job.add(CHILD, vec![record(Stream::Output, vec![1; 10_000])]).await;
    let kept = job.keep(CHILD, kept.next, ALL, most).await.unwrap();
    assert_eq!(seqs(&kept.records), [2]);
    let kept = job.keep(CHILD, kept.next, ALL, most).await.unwrap();
    assert_eq!((seqs(&kept.records), kept.more), (vec![3], false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_record_goes_to_exactly_one_of_several_readers() {
    let bounds = PoolBounds { mailbox_memory: 64 << 10, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(Arc::clone(&pool));
    const RECORDS: u64 = 20_000;
    let writer = tokio::spawn({
        let job = Arc::clone(&job);
        async move {
            for first in (0..RECORDS).step_by(50) {
                let records = (0..50).map(|_| record(Stream::Output, vec![9; 100])).collect();
                job.append(CHILD, Seq(first), records).await.unwrap();
            }
            job.close(CHILD);
        }
    });
    let readers: Vec<_> = (0..4_usize)
        .map(|reader| {
            let job = Arc::clone(&job);
            tokio::spawn(async move {
                let (mut mine, mut round) = (Vec::new(), reader);
                loop {
                    let version = job.version();
                    let summary = job.summary(CHILD);
                    let most = Most { records: 37 + reader, ..Most::default() };
                    match job.offer(CHILD, ALL, most).await.unwrap() {
                        // Every fifth offer is left by a reader that dies.
                        Some(_) if round.is_multiple_of(5) => {}
                        Some(offer) => {
                            mine.extend(seqs(&offer.records));
                            job.acknowledge(offer);
                        }
                        None if summary.closed && summary.unread.records == 0 => return mine,
                        None if summary.closed => tokio::task::yield_now().await,
                        None => {
                            job.changed(version).await;
                        }
                    }
                    round += 1;
                }
            })
        })
        .collect();
    soon(writer).await.unwrap();
    let mut all = Vec::new();
    for reader in readers {
        all.extend(soon(reader).await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(pool.memory_bytes(), 0);
    until(|| pool.disk_bytes() == 0).await;
}

#[tokio::test]
async fn a_receive_beyond_the_places_waits_for_one() {
    let (_dir, job) = job();
    job.add(CHILD, vec![record(Stream::Output, vec![1; 1_000]); 40]).await;
    let most = Most { records: 1, ..Most::default() };
    let mut offers = Vec::new();
    for _ in 0..sortie_model::limits::OFFERS_PER_MAILBOX {
        offers.push(job.offer(CHILD, ALL, most).await.unwrap().unwrap());
    }
    let mut next = Box::pin(job.offer(CHILD, ALL, most));
    assert!(futures_util::poll!(&mut next).is_pending());
    job.acknowledge(offers.remove(3));
    assert_eq!(seqs(&soon(next).await.unwrap().unwrap().records), [16]);
}

#[tokio::test]
async fn a_stalled_reader_delays_no_other_child_and_no_append() {
    let bounds = PoolBounds { mailbox_memory: 32 << 10, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(pool);
    job.add(CHILD, vec![record(Stream::Output, vec![1; 10_000]); 3]).await;
    let stalled = job.offer(CHILD, ALL, Most::default()).await.unwrap().unwrap();
    for _ in 0..20 {
        soon(job.add(CHILD, vec![record(Stream::Output, vec![2; 10_000])])).await;
        soon(job.add(Ordinal(4), vec![record(Stream::Output, vec![3; 10_000])])).await;
        assert_eq!(soon(job.take(Ordinal(4), ALL)).await.len(), 1);
    }
    assert_eq!(soon(job.take(CHILD, ALL)).await.len(), 20, "another reader goes on behind it");
    drop(stalled);
    assert_eq!(seqs(&job.take(CHILD, ALL).await), [0, 1, 2]);
}

#[tokio::test]
async fn children_are_ready_in_order_of_arrival_for_every_reader() {
    let (_dir, job) = job();
    job.add(Ordinal(9), outputs(&["before"])).await;
    let (mut one, mut two) = (job.ready(), job.ready());
    for child in [4, 900, 4, 1] {
        job.add(Ordinal(child), outputs(&["x"])).await;
    }
    let drain = |ready: &mut Ready| {
        std::iter::from_fn(|| ready.next_child()).map(|child| child.0).collect::<Vec<_>>()
    };
    let seen = drain(&mut one);
    assert_eq!(&seen[..4], [1, 4, 9, 900], "first what is there, in child order");
    job.add(Ordinal(1), outputs(&["y"])).await;
    job.add(Ordinal(4), outputs(&["y"])).await;
    assert_eq!(drain(&mut one), [1, 4]);
    let late = drain(&mut two);
    assert!([1, 4, 9, 900].iter().all(|child| late.contains(child)));
    assert!(drain(&mut one).is_empty() && drain(&mut two).is_empty());
    let offer = job.offer(Ordinal(900), ALL, Most::default()).await.unwrap().unwrap();
    drop(offer);
    assert_eq!(drain(&mut one), [900], "what was withdrawn is ready again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_reader_misses_no_wake_up() {
    let (_dir, job) = job();
    const CHILDREN: u32 = 3_000;
    let writer = tokio::spawn({
        let job = Arc::clone(&job);
        async move {
            for child in 0..CHILDREN {
                job.add(Ordinal(child * 7 % CHILDREN), outputs(&["x"])).await;
                if child % 16 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    let mut ready = job.ready();
    let mut seen = 0;
    while seen < CHILDREN {
        let version = job.version();
        match ready.next_child() {
            Some(child) => seen += job.take(child, ALL).await.len() as u32,
            None => {
                soon(job.changed(version)).await;
            }
        }
    }
    soon(writer).await.unwrap();
    assert_eq!(job.unread(), Tally::ZERO);
}

#[tokio::test]
async fn a_tail_begins_where_the_last_lines_do() {
    let bounds = PoolBounds { mailbox_memory: 32 << 10, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(pool);
    for lines in [6, 30_000_u64] {
        let child = Ordinal(lines as u32);
        for first in (0..lines).step_by(3) {
            let text: String = (first..first + 3).map(|n| format!("line {n}\n")).collect();
            let stream = if first % 2 == 0 { Stream::Output } else { Stream::Error };
            job.add(child, vec![record(stream, text)]).await;
        }
        for count in [0, 1, 2, 5, 5_000] {
            let start = job.tail(child, ALL, count).await.unwrap();
            let mut text = Vec::new();
            let mut from = start.from;
            loop {
                let kept = job.keep(child, from, ALL, Most::default()).await.unwrap();
                kept.records.iter().for_each(|record| text.extend_from_slice(&record.body.bytes()));
                from = kept.next;
                if !kept.more {
                    break;
                }
            }
            let text = String::from_utf8(text.split_off(start.skip_bytes)).unwrap();
            let expected: String =
                (lines.saturating_sub(count)..lines).map(|n| format!("line {n}\n")).collect();
            assert_eq!(text, expected, "{lines} {count}");
        }
    }
}
