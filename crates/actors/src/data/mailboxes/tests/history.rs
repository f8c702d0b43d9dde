//! Random histories against a list of records and their fates, with bounds so small that every
//! path is taken: compact, grown, own file, shared file, back in memory.

use super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Unread,
    Offered(usize),
    Freed,
}

/// Histories per test.
const SEEDS: u64 = 16;

pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn values(&mut self) -> LiveValues {
        [LiveValues::Encoded, LiveValues::AsTheyAre][self.below(2) as usize]
    }

    pub(super) fn streams(&mut self) -> StreamSet {
        [OUTPUT, ERROR, ALL][self.below(3) as usize]
    }
}

/// A record as its reader gets it; a live value may have been to the disk meanwhile.
#[track_caller]
fn assert_same(read: &Record, stored: &Record, values: LiveValues) {
    assert!(values == LiveValues::AsTheyAre || !matches!(read.body, Body::Live(_)));
    assert!(!matches!(read.body, Body::Live(_)) || read.body == stored.body, "another value");
    assert_eq!(read.clone().encoded(), stored.clone().encoded());
}

#[derive(Default)]
struct Child {
    records: Vec<(Record, Fate)>,
    offers: Vec<(usize, Offer)>,
}

struct History {
    random: Random,
    job: Arc<JobMailboxes>,
    children: Vec<Child>,
    offers: usize,
}

impl History {
    async fn append(&mut self, child: usize) {
        let count = self.random.below(6);
        let mut records = Vec::new();
        let child_records = &mut self.children[child].records;
        let first = child_records.len() as u64;
        for seq in first..first + count {
            let largest = [30, 300, 3_000, 30_000][self.random.below(4) as usize];
            let length = self.random.below(largest) as usize;
            let stream = [Stream::Output, Stream::Error][self.random.below(2) as usize];
            let body = match self.random.below(3) {
                0 => live(self.random.below(3_000) as usize, length),
                _ => Body::Bytes(pattern(seq * 977 + child as u64, length).into()),
            };
            let record = Record { seq: Seq(seq), stream, time: Timestamp(seq as i64), body };
            records.push(record.clone());
            child_records.push((record, Fate::Unread));
        }
        // Sometimes with a prefix that was sent before.
        let again = self.random.below(3).min(first);
        let known = &child_records[(first - again) as usize..first as usize];
        let batch: Vec<_> = known.iter().map(|(record, _)| record.clone()).chain(records).collect();
        let ordinal = Ordinal(child as u32);
        let appended = self.job.append(ordinal, Seq(first - again), batch).await.unwrap();
        assert_eq!(appended.next.0, first + count);
    }

    async fn offer(&mut self, child: usize) {
        let streams = self.random.streams();
        let most = Most {
            records: 1 + self.random.below(9) as usize,
            bytes: self.random.below(20_000) as usize,
            values: self.random.values(),
        };
        let Child { records, offers } = &mut self.children[child];
        if offers.len() == sortie_model::limits::OFFERS_PER_MAILBOX {
            return;
        }
        let offer = self.job.offer(Ordinal(child as u32), streams, most).await.unwrap();
        let chosen = |(record, fate): &(Record, Fate)| {
            streams.contains(record.stream) && *fate == Fate::Unread
        };
        let Some(offer) = offer else {
            assert!(!records.iter().any(chosen), "what is there is offered");
            return;
        };
        assert!(!offer.records.is_empty() && offer.records.len() <= most.records);
        assert!(offer.records.is_sorted_by_key(|record| record.seq));
        for record in &offer.records {
            let (expected, fate) = &mut records[record.seq.0 as usize];
            assert_eq!(*fate, Fate::Unread);
            assert_same(record, expected, most.values);
            *fate = Fate::Offered(self.offers);
        }
        // What was offered is a prefix of each stream.
        for stream in streams.iter() {
            let of_stream = |record: &&Record| record.stream == stream;
            let Some(last) = offer.records.iter().rfind(of_stream) else { continue };
            let before = &records[..last.seq.0 as usize];
            assert!(!before.iter().any(|r| r.0.stream == stream && r.1 == Fate::Unread));
        }
        assert_eq!(offer.more, records.iter().any(chosen));
        offers.push((self.offers, offer));
        self.offers += 1;
    }

    fn settle(&mut self, child: usize, fate: Fate) {
        let Child { records, offers } = &mut self.children[child];
        if offers.is_empty() {
            return;
        }
        let which = self.random.below(offers.len() as u64) as usize;
        let (number, offer) = offers.remove(which);
        let mine = records.iter_mut().filter(|record| record.1 == Fate::Offered(number));
        mine.for_each(|record| record.1 = fate);
        match fate {
            Fate::Freed => self.job.acknowledge(offer),
            _ => drop(offer),
        }
    }

    async fn keep(&mut self, child: usize) {
        let streams = self.random.streams();
        let (records, values) = (1 + self.random.below(9) as usize, self.random.values());
        let most = Most { records, bytes: 5_000, values };
        let (mut from, mut all) = (Position::start(), Vec::new());
        loop {
            let kept = self.job.keep(Ordinal(child as u32), from, streams, most).await.unwrap();
            all.extend(kept.records);
            from = kept.next;
            if !kept.more {
                break;
            }
        }
        all.sort_by_key(|record| record.seq);
        let expected: Vec<_> = self.unread(child).filter(|r| streams.contains(r.stream)).collect();
        assert_eq!(all.len(), expected.len());
        all.iter().zip(expected).for_each(|(one, other)| assert_same(one, other, values));
    }

    async fn tail(&mut self, child: usize) {
        let count = self.random.below(5);
        let start = self.job.tail(Ordinal(child as u32), OUTPUT, count).await.unwrap();
        let (mut from, mut last_ones) = (start.from, Vec::new());
        loop {
            let most = Most::default();
            let kept = self.job.keep(Ordinal(child as u32), from, OUTPUT, most).await.unwrap();
            last_ones.extend(kept.records);
            from = kept.next;
            if !kept.more {
                break;
            }
        }
        let all: Vec<_> =
            self.unread(child).filter(|record| record.stream == Stream::Output).collect();
        let last = all.len().saturating_sub(last_ones.len());
        for (one, other) in last_ones.iter().zip(&all[last..]) {
            assert_same(one, other, LiveValues::Encoded);
        }
    }

    fn unread(&self, child: usize) -> impl Iterator<Item = &Record> {
        let records = self.children[child].records.iter();
        records.filter(|record| record.1 != Fate::Freed).map(|record| &record.0)
    }

    fn check(&self, child: usize) {
        let tally = |sum: Tally, record: &Record| sum.with_record(record.body.len() as u64);
        let summary = self.job.summary(Ordinal(child as u32));
        assert_eq!(summary.unread, self.unread(child).fold(Tally::ZERO, tally));
        let all = (0..self.children.len()).flat_map(|child| self.unread(child));
        assert_eq!(self.job.unread(), all.fold(Tally::ZERO, tally));
        let first = (child..self.children.len()).find(|child| self.unread(*child).next().is_some());
        let found = self.job.next_unread(Ordinal(child as u32));
        assert_eq!(found.map(|ordinal| ordinal.0 as usize), first);
    }

    async fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let child = self.random.below(self.children.len() as u64) as usize;
            match self.random.below(12) {
                0..4 => self.append(child).await,
                4..7 => self.offer(child).await,
                7..9 => self.settle(child, Fate::Freed),
                9 => self.settle(child, Fate::Unread),
                10 => self.tail(child).await,
                _ => self.keep(child).await,
            }
            self.check(child);
        }
    }
}

async fn check_history(seed: u64, bounds: PoolBounds) {
    let (_dir, pool) = pool(bounds);
    let job = JobMailboxes::new(Arc::clone(&pool));
    let children = (0..6).map(|_| Child::default()).collect();
    let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut history = History { random, job, children, offers: 0 };
    history.run(250).await;
    for child in 0..history.children.len() {
        history.children[child].offers.clear();
        while !history.job.take(Ordinal(child as u32), ALL).await.is_empty() {}
    }
    assert_eq!((pool.memory_bytes(), history.job.unread()), (0, Tally::ZERO), "seed {seed}");
    until(|| pool.disk_bytes() == 0).await;
}

#[tokio::test]
async fn any_history_agrees_with_the_list() {
    for seed in 1..=SEEDS {
        check_history(seed, PoolBounds::default()).await;
    }
}

#[tokio::test]
async fn any_history_agrees_with_the_list_when_memory_is_small() {
    for seed in 1..=SEEDS {
        let mailbox_memory = if seed % 2 == 0 { 8_000 } else { 100_000 };
        let bounds = PoolBounds { mailbox_memory, node_memory: 60_000, ..PoolBounds::default() };
        check_history(seed, bounds).await;
    }
}
