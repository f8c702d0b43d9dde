//! What has no room when a node begins comes back as room is made, and nothing of it is left out.

use sortie_model::limits::CHILD_CREDIT_BYTES;
use sortie_store::SpoolBounds;

use super::disk::Refusal;
use super::*;
use crate::data::mailboxes::paused::DISK_LOOK;

const LENGTH: usize = 9_000;
const COUNT: u64 = 60;

fn said(first: u64, count: u64) -> Vec<Record> {
    let records = (first..first + count).map(|seq| {
        let body = Body::Bytes(pattern(seq, LENGTH).into());
        Record { seq: Seq(seq), stream: Stream::Output, time: Timestamp(seq as i64), body }
    });
    records.collect()
}

/// A life whose mailboxes have room for a few records: on the disk for 50,000 bytes.
fn without_room(disk: &TestDisk) -> Life {
    let spool = SpoolBounds { pretended_disk: Some(50_000), ..SpoolBounds::default() };
    Life::with_policy(disk, PoolBounds { spool, ..small() }, OutputPolicy::Block)
}

/// A child of an earlier life that said [`COUNT`] records, and ended or not.
fn left_behind(disk: &TestDisk, ended: bool) {
    all_left_behind(disk, &[CHILD], ended);
}

fn all_left_behind(disk: &TestDisk, children: &[Ordinal], ended: bool) {
    let life = Life::begin(disk);
    for child in children {
        life.add(*child, said(0, COUNT));
        life.until_told(*child, COUNT);
        if ended {
            assert!(matches!(life.end(*child), Persisted::Segments { .. }));
        }
    }
}

/// Takes records until there are so many.
fn take(life: &Life, count: u64) -> Vec<Record> {
    take_of(life, CHILD, count)
}

fn take_of(life: &Life, child: Ordinal, count: u64) -> Vec<Record> {
    let job = life.job();
    life.run(async {
        let mut taken = Vec::new();
        while (taken.len() as u64) < count {
            let version = job.version();
            match job.take(child, ALL).await {
                more if more.is_empty() => _ = job.changed(version).await,
                more => taken.extend(more),
            }
        }
        taken
    })
}

/// A life without room, which has begun to put back what the child left behind.
fn coming_back(disk: &TestDisk, ended: bool) -> Life {
    let life = without_room(disk);
    life.restore(CHILD, ended).unwrap();
    life
}

fn waits_for_room(life: &Life) -> Summary {
    let summary = life.job().summary(CHILD);
    let here = life.kept(CHILD).len() as u64;
    assert!(here < COUNT, "{here} records: it was to have no room");
    assert_eq!((summary.full, summary.next), (Some(FullBecause::DiskFull), Seq(COUNT)));
    assert!(!summary.closed && life.job().unread().records > here, "there is more than that");
    assert!(!life.job().is_at_rest() && life.job().is_returning(CHILD));
    assert_eq!(life.job().returning_children(), [CHILD]);
    summary
}

#[test]
fn a_mailbox_that_had_no_room_comes_back_as_it_is_read() {
    for ended in [false, true] {
        let disk = TestDisk::new();
        left_behind(&disk, ended);
        let life = coming_back(&disk, ended);
        waits_for_room(&life);
        assert_eq!(take(&life, COUNT), said(0, COUNT), "in order, each once");
        let job = life.job();
        life.run(until(|| job.summary(CHILD).full.is_none() && job.unread().records == 0));
        assert_eq!(job.summary(CHILD).closed, ended);
        life.run(until(|| !job.is_returning(CHILD)));
        assert_eq!(job.returning_children(), []);
        life.commit_cursors();
        drop((job, life));
        // What was taken counts as taken.
        let life = coming_back(&disk, ended);
        assert!(life.kept(CHILD).is_empty());
        assert_eq!(life.job().summary(CHILD).next, Seq(COUNT));
    }
}

#[test]
fn what_is_taken_before_all_is_back_is_taken_and_no_more_than_that() {
    let disk = TestDisk::new();
    left_behind(&disk, true);
    let mut taken = Vec::new();
    while taken.len() < COUNT as usize {
        let life = coming_back(&disk, true);
        let more = take(&life, 5);
        assert_eq!(more, said(taken.len() as u64, more.len() as u64));
        taken.extend(more);
        life.commit_cursors();
    }
}

#[test]
fn what_is_said_meanwhile_waits_and_comes_behind() {
    let disk = TestDisk::new();
    left_behind(&disk, false);
    let life = coming_back(&disk, false);
    waits_for_room(&life);
    let job = life.job();
    assert_eq!(job.begin_life(CHILD), Seq(COUNT), "the next life goes on behind all of it");
    // What is known comes again from who keeps it, and one that is new.
    let adding = Arc::clone(&job);
    let added = life.runtime.as_ref().unwrap().spawn(async move {
        for record in said(COUNT - 2, 3) {
            while adding.append_again(CHILD, record.clone()).await.is_err() {
                adding.room(CHILD).await;
            }
        }
        adding.close(CHILD);
    });
    assert_eq!(take(&life, COUNT + 1), said(0, COUNT + 1));
    life.run(async { added.await.unwrap() });
    assert!(job.summary(CHILD).closed);
    assert!(matches!(life.end(CHILD), Persisted::Segments { next: Seq(61), .. }));
}

#[test]
fn the_end_of_a_child_does_not_wait_for_what_comes_back() {
    let disk = TestDisk::new();
    left_behind(&disk, false);
    let life = coming_back(&disk, false);
    waits_for_room(&life);
    let job = life.job();
    for record in said(COUNT, 2) {
        life.run(async { job.append_again(CHILD, record).await }).unwrap();
    }
    assert_eq!(job.summary(CHILD).next, Seq(COUNT + 2));
    // More than a child's credit is for its producer to keep.
    let much = vec![record(Stream::Output, pattern(0, CHILD_CREDIT_BYTES))];
    let refused = life.run(async { job.append(CHILD, Seq(COUNT + 2), much).await });
    assert!(matches!(refused, Err(AppendError::Full { .. })), "{refused:?}");
    job.close(CHILD);
    assert_eq!(take(&life, COUNT + 2), said(0, COUNT + 2));
    life.run(until(|| job.summary(CHILD).closed && job.unread().records == 0));
    assert!(matches!(life.end(CHILD), Persisted::Segments { next: Seq(62), .. }));
    life.commit_cursors();
    drop((job, life));
    let life = coming_back(&disk, true);
    assert!(life.kept(CHILD).is_empty());
}

#[test]
fn a_job_that_is_removed_has_nothing_come_back() {
    let disk = TestDisk::new();
    left_behind(&disk, true);
    let life = coming_back(&disk, true);
    waits_for_room(&life);
    life.run(async { life.job().remove_all() });
    life.run(until(|| files(&disk) == 0));
    assert_eq!(life.pool.memory_bytes(), 0);
}

/// How many records come back at once.
const PORTION: u64 = 30;

/// A life with memory for a portion of each child, and on the disk for so many bytes.
fn with_portions(disk: &TestDisk, room: u64) -> Life {
    let spool = SpoolBounds { pretended_disk: Some(room), ..SpoolBounds::default() };
    let bounds = PoolBounds { node_memory: 16 * MIB as u64, spool, ..small() };
    Life::with_policy(disk, bounds, OutputPolicy::Block)
}

/// Some looks at the disk long, nothing happens.
fn nothing_happens(life: &Life) {
    let job = life.job();
    let (version, looks) = (job.version(), DISK_LOOK * 4);
    life.run(async {
        tokio::time::timeout(looks, job.changed(version)).await.unwrap_err();
    });
}

#[test]
fn a_mailbox_that_nobody_reads_does_nothing_while_there_is_no_room() {
    let disk = TestDisk::new();
    let children = [CHILD, Ordinal(1), Ordinal(2), Ordinal(4), Ordinal(5)];
    all_left_behind(&disk, &children, true);
    let life = with_portions(&disk, 0);
    for child in children {
        life.restore(child, true).unwrap();
        assert!(life.kept(child).len() as u64 <= PORTION);
    }
    let opened = || children.map(|child| disk.opened(child));
    let before = opened();
    nothing_happens(&life);
    assert_eq!(opened(), before, "it was seen that nothing helps");
    assert_eq!(take(&life, COUNT), said(0, COUNT));
    life.run(until(|| life.job().summary(CHILD).closed));
    assert_eq!(opened()[1..], before[1..], "one that is read is no help for another");
    for child in children.into_iter().skip(1) {
        assert_eq!(take_of(&life, child, COUNT), said(0, COUNT));
    }
}

#[test]
fn a_mailbox_that_is_read_does_not_wait_for_one_that_nobody_reads() {
    let disk = TestDisk::new();
    left_behind(&disk, true);
    let life = with_portions(&disk, 0);
    life.restore(CHILD, true).unwrap();
    let another_comes_back = life.run(life.pool.returning.lock());
    assert_eq!(take(&life, COUNT), said(0, COUNT));
    drop(another_comes_back);
}

#[test]
fn a_mailbox_that_nobody_reads_comes_back_as_the_disk_has_room() {
    let disk = TestDisk::new();
    let children = [CHILD, Ordinal(1)];
    all_left_behind(&disk, &children, true);
    let life = with_portions(&disk, 300_000);
    for child in children {
        life.restore(child, true).unwrap();
    }
    let here = children.map(|child| life.kept(child).len() as u64);
    assert_eq!(here, [COUNT, PORTION], "the first one's records fill the disk");
    assert_eq!(take(&life, COUNT), said(0, COUNT));
    life.run(until(|| life.job().summary(Ordinal(1)).closed));
    assert_eq!(take_of(&life, Ordinal(1), COUNT), said(0, COUNT));
}

#[test]
fn what_cannot_be_read_while_a_mailbox_comes_back_comes_later() {
    let disk = TestDisk::new();
    left_behind(&disk, true);
    let life = coming_back(&disk, true);
    let here = life.kept(CHILD).len() as u64;
    disk.refuse(Some(Refusal::Unreadable));
    assert_eq!(take(&life, here), said(0, here));
    life.run(until(|| disk.refused() > 0));
    nothing_happens(&life);
    disk.refuse(None);
    assert_eq!(take(&life, COUNT - here), said(here, COUNT - here));
    life.run(until(|| life.job().summary(CHILD).closed));
    life.commit_cursors();
    drop(life);
    let life = coming_back(&disk, true);
    assert!(life.kept(CHILD).is_empty(), "what was taken counts as taken");
}

#[test]
fn a_node_that_begins_where_nothing_can_be_read_has_it_later() {
    for refusal in [Refusal::Unreadable, Refusal::Full] {
        let disk = TestDisk::new();
        // What a function said is not closed where the disk was full at its end.
        left_behind(&disk, false);
        let life = Life::begin(&disk);
        disk.refuse(Some(refusal));
        life.restore(CHILD, true).unwrap();
        let job = life.job();
        assert!(job.summary(CHILD).full.is_some() && !job.summary(CHILD).closed);
        assert!(job.unread().records > 0 && !job.is_at_rest());
        disk.refuse(None);
        assert_eq!(take(&life, COUNT), said(0, COUNT), "{refusal:?}");
        life.run(until(|| job.summary(CHILD).closed));
        life.commit_cursors();
        drop((job, life));
        let life = Life::begin(&disk);
        life.restore(CHILD, true).unwrap();
        assert!(life.kept(CHILD).is_empty());
        assert_eq!(life.job().summary(CHILD).next, Seq(COUNT));
    }
}

#[test]
fn what_can_never_be_read_is_not_waited_for_without_end() {
    let disk = TestDisk::new();
    left_behind(&disk, true);
    let life = Life::begin(&disk);
    disk.refuse(Some(Refusal::Unreadable));
    life.restore(CHILD, true).unwrap();
    let job = life.job();
    life.run(until(|| job.summary(CHILD).closed));
    assert!(job.summary(CHILD).full.is_none() && life.kept(CHILD).is_empty());
    life.commit_cursors();
    life.run(until(|| job.backed.as_ref().unwrap().is_at_rest()));
    drop((job, life));
    disk.refuse(None);
    let life = Life::begin(&disk);
    life.restore(CHILD, true).unwrap();
    assert!(life.kept(CHILD) == said(0, COUNT), "another start can read it");
}

#[test]
fn a_child_that_goes_on_says_nothing_before_its_files_could_be_opened() {
    let disk = TestDisk::new();
    left_behind(&disk, false);
    let life = Life::begin(&disk);
    disk.refuse(Some(Refusal::Unreadable));
    life.restore(CHILD, false).unwrap();
    let job = life.job();
    let next = said(COUNT, 1).remove(0);
    let refused = life.run(async { job.append_again(CHILD, next.clone()).await });
    let because = FullBecause::DiskFailed;
    assert!(matches!(refused, Err(AppendError::Full { because: of, .. }) if of == because));
    disk.refuse(None);
    life.run(async {
        while job.append_again(CHILD, next.clone()).await.is_err() {
            job.room(CHILD).await;
        }
    });
    assert!(take(&life, COUNT + 1) == said(0, COUNT + 1));
    assert!(matches!(life.end(CHILD), Persisted::Segments { next: Seq(61), .. }));
}
