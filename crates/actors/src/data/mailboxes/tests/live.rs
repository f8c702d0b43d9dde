//! Live values: the same allocation for who may have it, bytes for everybody else.

use super::*;

/// How often a value was encoded.
fn encoded(body: &Body) -> usize {
    let Body::Live(live) = body else { panic!("it is not live") };
    let value: Arc<AnyValue> = live.handle().unwrap();
    let (_, times) = value.downcast_ref::<(usize, AtomicUsize)>().unwrap();
    times.load(Ordering::Relaxed)
}

fn output(body: &Body) -> Record {
    Record { body: body.clone(), ..record(Stream::Output, "") }
}

const AS_THEY_ARE: Most = Most { records: 4_096, bytes: 1 << 20, values: LiveValues::AsTheyAre };

#[tokio::test]
async fn a_value_that_nobody_else_reads_is_never_encoded_and_comes_again_as_it_is() {
    let (_dir, job) = job();
    let value = live(10, 10);
    job.add(CHILD, vec![record(Stream::Error, "before"), output(&value)]).await;
    for _ in 0..2 {
        let offer = job.offer(CHILD, OUTPUT, AS_THEY_ARE).await.unwrap().unwrap();
        assert_eq!((&offer.records[0].body, offer.records[0].seq), (&value, Seq(1)));
        drop(offer);
    }
    let offer = job.offer(CHILD, ALL, AS_THEY_ARE).await.unwrap().unwrap();
    assert_eq!((seqs(&offer.records), &offer.records[1].body), (vec![0, 1], &value));
    job.acknowledge(offer);
    job.close(CHILD);
    assert_eq!((encoded(&value), job.pool.memory_bytes(), job.unread()), (0, 0, Tally::ZERO));
    let Body::Live(live) = &value else { unreachable!() };
    let handle: Arc<AnyValue> = live.handle().unwrap();
    assert_eq!(Arc::strong_count(&handle), 2, "the mailbox let go of it");
}

#[tokio::test]
async fn who_needs_bytes_gets_them_and_changes_nothing_for_others() {
    let (_dir, job) = job();
    let value = live(10, 50);
    job.add(CHILD, vec![output(&value)]).await;
    let kept = job.kept(CHILD, ALL).await;
    assert_eq!(kept[0].body, Body::Value(pattern(50, 50).into()));
    assert_eq!(encoded(&value), 1);
    let offer = job.offer(CHILD, ALL, AS_THEY_ARE).await.unwrap().unwrap();
    assert_eq!(offer.records[0].body, value);
    drop(offer);
    assert_eq!(job.take(CHILD, ALL).await[0].body, Body::Value(pattern(50, 50).into()));
    assert_eq!(encoded(&value), 2);
}

#[tokio::test]
async fn weight_decides_when_values_go_to_the_disk_and_they_are_encoded_once_for_it() {
    let bounds = PoolBounds { mailbox_memory: 10_000, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(Arc::clone(&pool));
    let values: Vec<_> = (0..10).map(|_| live(2_000, 70)).collect();
    for value in &values[..4] {
        job.add(CHILD, vec![output(value)]).await;
    }
    assert_eq!((pool.memory_bytes(), pool.disk_bytes()), (4 * 2_024, 0));
    for value in &values[4..] {
        job.add(CHILD, vec![output(value)]).await;
        assert!(pool.memory_bytes() <= 10_000);
    }
    assert_eq!(pool.disk_bytes(), 8 * (70 + 32), "two writes of four values");
    let times: Vec<_> = values.iter().map(encoded).collect();
    assert_eq!(times, [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
    assert_eq!(job.unread(), Tally { records: 10, bytes: 20_000 });

    let offer = job.offer(CHILD, ALL, AS_THEY_ARE).await.unwrap().unwrap();
    assert_eq!(seqs(&offer.records), (0..10).collect::<Vec<_>>());
    for (record, value) in offer.records.iter().zip(&values) {
        let expected = if record.seq.0 < 8 { value.clone().encoded() } else { value.clone() };
        assert_eq!(record.body, expected);
    }
    job.acknowledge(offer);
    until(|| pool.disk_bytes() == 0).await;
    assert_eq!((pool.memory_bytes(), job.unread()), (0, Tally::ZERO));
}

#[tokio::test]
async fn a_node_short_of_memory_moves_small_mailboxes_of_live_values_too() {
    let bounds = PoolBounds { node_memory: 20_000, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(Arc::clone(&pool));
    for child in 0..100 {
        job.add(Ordinal(child), vec![output(&live(500, 5))]).await;
        assert!(pool.memory_bytes() <= 20_000);
    }
    assert!(pool.disk_bytes() > 0);
    for child in 0..100 {
        assert_eq!(job.take(Ordinal(child), ALL).await[0].body, Body::Value(pattern(5, 5).into()));
    }
    until(|| pool.disk_bytes() == 0).await;
}

#[tokio::test]
async fn two_readers_share_the_values_between_them() {
    let (_dir, job) = job();
    let values: Vec<_> = (0..8).map(|_| live(10, 10)).collect();
    job.add(CHILD, values.iter().map(output).collect()).await;
    let most = Most { records: 3, ..AS_THEY_ARE };
    let first = job.offer(CHILD, ALL, most).await.unwrap().unwrap();
    let second = job.offer(CHILD, ALL, AS_THEY_ARE).await.unwrap().unwrap();
    assert_eq!((seqs(&first.records), seqs(&second.records).len()), (vec![0, 1, 2], 5));
    job.acknowledge(second);
    drop(first);
    let again = job.offer(CHILD, ALL, AS_THEY_ARE).await.unwrap().unwrap();
    assert_eq!(seqs(&again.records), [0, 1, 2]);
    assert!(again.records.iter().zip(&values).all(|(record, value)| record.body == *value));
}

#[tokio::test]
async fn a_large_value_is_encoded_when_it_is_its_turn_and_not_before() {
    let (_dir, job) = job();
    let values: Vec<_> = (0..4).map(|_| live(100, 2 << 20)).collect();
    job.add(CHILD, values.iter().map(output).collect()).await;
    for taken in 1..=4 {
        assert_eq!(job.take(CHILD, ALL).await.len(), 1, "one is more than a batch holds");
        let times: Vec<_> = values.iter().map(encoded).collect();
        assert_eq!(times, &[[1; 4], [0; 4]].concat()[4 - taken..8 - taken]);
    }
}

#[tokio::test]
async fn values_that_are_longer_than_they_weigh_are_written_few_at_a_time() {
    let bounds = PoolBounds { mailbox_memory: 10_000, ..PoolBounds::default() };
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(Arc::clone(&pool));
    let values: Vec<_> = (0..10).map(|_| live(1_000, 3 << 20)).collect();
    for (at, value) in values.iter().enumerate() {
        job.add(CHILD, vec![output(value)]).await;
        let written = values.iter().map(encoded).sum::<usize>();
        assert_eq!(written, if at == 9 { 3 } else { 0 });
    }
    for (at, value) in values.iter().enumerate() {
        let taken = job.take(CHILD, ALL).await;
        assert_eq!((seqs(&taken), &taken[0].body), (vec![at as u64], &value.clone().encoded()));
    }
    until(|| pool.disk_bytes() == 0).await;
    assert_eq!((pool.memory_bytes(), job.unread()), (0, Tally::ZERO));
}
