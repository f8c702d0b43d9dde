//! The data plane on real files: claims one by one, then random histories.

mod backed;
mod bounds;
mod faults;
mod history;
mod live;
mod readers;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sortie_model::record::live::{AnyValue, LiveActs, LiveValue};
use sortie_model::record::{Body, StreamSet};
use sortie_model::{Ordinal, Record, Seq, Stream, Timestamp};

use super::*;

const CHILD: Ordinal = Ordinal(3);
const ALL: StreamSet = StreamSet::ALL;
const OUTPUT: StreamSet = StreamSet::EMPTY.with(Stream::Output);
const ERROR: StreamSet = StreamSet::EMPTY.with(Stream::Error);

fn pool(bounds: PoolBounds) -> (tempfile::TempDir, Arc<MailboxPool>) {
    let dir = tempfile::tempdir().unwrap();
    let pool = MailboxPool::with_bounds(dir.path().to_owned(), bounds);
    (dir, pool)
}

fn job() -> (tempfile::TempDir, Arc<JobMailboxes>) {
    let (dir, pool) = pool(PoolBounds::default());
    (dir, JobMailboxes::new(pool))
}

fn record(stream: Stream, body: impl Into<Bytes>) -> Record {
    Record { seq: Seq(0), stream, time: Timestamp(7), body: Body::Bytes(body.into()) }
}

fn outputs(bodies: &[&'static str]) -> Vec<Record> {
    bodies.iter().map(|body| record(Stream::Output, *body)).collect()
}

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.seq.0).collect()
}

/// Bytes that depend on their place, so that any mistake shows.
fn pattern(from: u64, length: usize) -> Vec<u8> {
    (from..from + length as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

/// A live value of that weight whose encoding has that length.
fn live(weight: usize, length: usize) -> Body {
    const ACTS: LiveActs = LiveActs {
        encode: |value| {
            let value = value.downcast_ref::<(usize, AtomicUsize)>();
            value.map_or_else(Bytes::new, |(length, encoded)| {
                encoded.fetch_add(1, Ordering::Relaxed);
                pattern(*length as u64, *length).into()
            })
        },
        hand_over: |value, to| {
            if let Some(to) = to.downcast_mut::<Option<Arc<AnyValue>>>() {
                *to = Some(Arc::clone(value));
            }
        },
    };
    Body::Live(LiveValue::new(Arc::new((length, AtomicUsize::new(0))), weight, &ACTS))
}

impl JobMailboxes {
    async fn take(self: &Arc<Self>, ordinal: Ordinal, streams: StreamSet) -> Vec<Record> {
        let Some(mut offer) = self.offer(ordinal, streams, Most::default()).await.unwrap() else {
            return Vec::new();
        };
        let records = std::mem::take(&mut offer.records);
        self.acknowledge(offer);
        records
    }

    async fn add(self: &Arc<Self>, ordinal: Ordinal, records: Vec<Record>) -> Appended {
        let first = self.summary(ordinal).next;
        self.append(ordinal, first, records).await.unwrap()
    }

    async fn kept(&self, ordinal: Ordinal, streams: StreamSet) -> Vec<Record> {
        let (mut from, mut all) = (Position::start(), Vec::new());
        loop {
            let kept = self.keep(ordinal, from, streams, Most::default()).await.unwrap();
            all.extend(kept.records);
            from = kept.next;
            if !kept.more {
                return all;
            }
        }
    }
}

async fn soon<T>(wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), wanted).await.expect("it happens in time")
}

/// Waits for what happens elsewhere, off the task.
async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn take_returns_each_record_once_and_keep_returns_it_again() {
    let (_dir, job) = job();
    job.add(CHILD, outputs(&["a", "b"])).await;
    assert_eq!(seqs(&job.kept(CHILD, ALL).await), [0, 1]);
    assert_eq!(seqs(&job.take(CHILD, ALL).await), [0, 1]);
    assert!(job.take(CHILD, ALL).await.is_empty() && job.kept(CHILD, ALL).await.is_empty());
    job.add(CHILD, outputs(&["c"])).await;
    assert_eq!(seqs(&job.kept(CHILD, ALL).await), [2]);
    assert_eq!(job.take(CHILD, ALL).await[0].body, Body::Bytes("c".into()));
    assert_eq!(job.pool.memory_bytes(), 0);
}

#[tokio::test]
async fn what_was_sent_twice_is_stored_once_and_a_gap_is_refused() {
    let (_dir, job) = job();
    for size in [1, 5_000] {
        let child = Ordinal(size);
        let records = || vec![record(Stream::Output, vec![1; size as usize]); 3];
        job.append(child, Seq(0), records()).await.unwrap();
        let again = job.append(child, Seq(1), records()).await.unwrap();
        assert_eq!(again.next, Seq(4));
        assert_eq!(job.kept(child, ALL).await.len(), 4);
        let gap = job.append(child, Seq(5), records()).await.unwrap_err();
        assert!(matches!(gap, AppendError::Gap { expected: Seq(4), first: Seq(5) }));
    }
}

#[tokio::test]
async fn nothing_is_accepted_after_the_end_and_everything_before_it_is_readable() {
    let (_dir, job) = job();
    for child in [CHILD, Ordinal(40)] {
        job.add(child, outputs(&["a"])).await;
        if child == CHILD {
            job.add(child, vec![record(Stream::Output, vec![0; 4_000])]).await;
        }
        job.close(child);
        let refused = job.append(child, job.summary(child).next, outputs(&["z"])).await;
        assert!(matches!(refused, Err(AppendError::Closed)));
        assert!(job.summary(child).closed && !job.take(child, ALL).await.is_empty());
    }
    job.close(Ordinal(99));
    assert!(job.summary(Ordinal(99)).closed && !job.summary(Ordinal(100)).closed);
}

#[tokio::test]
async fn streams_are_taken_apart_and_the_others_stay() {
    let (_dir, job) = job();
    for (child, size) in [(Ordinal(0), 3), (Ordinal(1), 9_000)] {
        let both = [Stream::Output, Stream::Error, Stream::Output, Stream::Error];
        let records = both.map(|stream| record(stream, vec![b'x'; size])).to_vec();
        job.add(child, records).await;
        assert_eq!(seqs(&job.take(child, ERROR).await), [1, 3]);
        assert_eq!(seqs(&job.kept(child, ALL).await), [0, 2]);
        assert_eq!(seqs(&job.take(child, ALL).await), [0, 2]);
        let summary = job.summary(child);
        assert!(summary.with_errors && summary.unread == Tally::ZERO);
    }
}

#[tokio::test]
async fn values_and_times_come_back_as_they_were() {
    let (_dir, job) = job();
    let mut value = record(Stream::Information, "v");
    value.body = Body::Value("v".into());
    value.time = Timestamp(-5);
    job.add(CHILD, vec![value.clone()]).await;
    assert_eq!(job.kept(CHILD, ALL).await, [value.clone()]);
    job.add(CHILD, vec![record(Stream::Output, vec![0; 5_000])]).await;
    assert_eq!(job.kept(CHILD, ALL).await[0], value);
}

#[tokio::test]
async fn unread_children_are_found_in_order_and_counted_together() {
    let (_dir, job) = job();
    for child in [700, 5, 70] {
        job.add(Ordinal(child), outputs(&["1234"])).await;
    }
    assert_eq!(job.unread(), Tally { records: 3, bytes: 12 });
    assert_eq!(job.next_unread(Ordinal(0)), Some(Ordinal(5)));
    assert_eq!(job.next_unread(Ordinal(6)), Some(Ordinal(70)));
    job.take(Ordinal(70), ALL).await;
    assert_eq!(job.next_unread(Ordinal(6)), Some(Ordinal(700)));
    assert_eq!(job.next_unread(Ordinal(701)), None);
    assert_eq!(job.unread(), Tally { records: 2, bytes: 8 });
}

#[tokio::test]
async fn removing_frees_memory_and_disk_at_once() {
    let (dir, pool) = pool(PoolBounds::default());
    let job = JobMailboxes::new(Arc::clone(&pool));
    for _ in 0..30 {
        job.add(CHILD, vec![record(Stream::Output, vec![1; 100_000])]).await;
    }
    job.add(Ordinal(0), outputs(&["small"])).await;
    assert!(pool.memory_bytes() > 0 && pool.disk_bytes() > 0);
    let offer = job.offer(CHILD, ALL, Most::default()).await.unwrap().unwrap();
    job.remove_all();
    assert_eq!(pool.memory_bytes(), 0);
    until(|| pool.disk_bytes() == 0).await;
    job.acknowledge(offer);
    let refused = job.append(CHILD, Seq(0), outputs(&["z"])).await;
    assert!(matches!(refused, Err(AppendError::Removed)));
    assert!(matches!(job.offer(CHILD, ALL, Most::default()).await, Err(ReadError::Removed)));
    assert_eq!((job.unread(), job.next_unread(Ordinal(0))), (Tally::ZERO, None));
    drop((job, pool));
    until(|| std::fs::read_dir(dir.path()).unwrap().count() == 0).await;
}
