//! Receives that go on until their entries are settled.

use futures_util::FutureExt;
use sortie_model::limits;
use sortie_model::selector::Query;
use sortie_model::{EntryId, State};
use sortie_wire::session_proto::{Delivery, ReceiveMode, ReceiveSpec};

use crate::harness::{House, Item, Work, select, soon};

const UNTIL: ReceiveMode = ReceiveMode::TakeUntil { finished: false };

#[tokio::test]
async fn records_come_as_they_are_made_and_the_end_comes_after_all_of_them() {
    let house = House::open().await;
    house.start(1, Work::gated(6, 3)).await;
    let mut reader = house.receive(ReceiveSpec::new(select("1"), UNTIL));
    let mut seen = 0;
    while seen < 3 {
        let (number, Item::Records(_, records)) = reader.next().await.expect("records") else {
            panic!("records");
        };
        seen += records.len();
        reader.acknowledge(number).await;
    }
    house.let_pass(0);
    let rest = reader.rest().await;
    assert_eq!(rest.per_child()[&EntryId(2)], [3, 4, 5]);
    assert_eq!(rest.entries.entries[0].state(), State::Completed);
    assert!(!house.job(EntryId(1)).await.has_more_data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receive_of_many_short_children_misses_nothing() {
    let house = House::open().await;
    for round in 0..20_u64 {
        house.start(50, Work::of(1)).await;
        let got = house.all("last", UNTIL).await;
        assert_eq!(got.records(), 50, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_settles_once_behind_its_records_and_before_its_parent() {
    let house = House::open().await;
    house.start(8, Work::gated(300, 150)).await;
    let spec = ReceiveSpec { events: true, ..ReceiveSpec::new(select("1"), UNTIL) };
    let reader = house.receive(spec);
    [3, 0, 7, 1, 2, 6, 5, 4].into_iter().for_each(|child| house.let_pass(child));
    let got = reader.rest().await;
    let mut settled = got.settled();
    assert_eq!(settled.pop(), Some((EntryId(1), State::Completed)));
    settled.sort_unstable();
    let expected: Vec<_> = (2..10).map(|id| (EntryId(id), State::Completed)).collect();
    assert_eq!(settled, expected);
    let mut over = std::collections::HashSet::new();
    for item in &got.items {
        match item {
            Item::Settled(id, _) => assert!(over.insert(*id)),
            Item::Records(child, _) => assert!(!over.contains(child), "{child} had settled"),
        }
    }
    assert!(got.per_child().values().all(|numbers| *numbers == (0..300).collect::<Vec<_>>()));
}

#[tokio::test]
async fn a_finished_job_is_removed_when_everything_of_it_was_received() {
    let house = House::open().await;
    house.start(3, Work::of(2)).await;
    let spec = ReceiveSpec { auto_remove: true, ..ReceiveSpec::new(select("1"), UNTIL) };
    let got = house.receive(spec).rest().await;
    assert_eq!((got.records(), got.entries.entries.len()), (6, 1));
    assert!(got.entries.troubles.is_empty());
    assert_eq!(house.get(Query::default()).await.total, 0);
}

#[tokio::test]
async fn follow_shows_the_tail_then_what_comes_and_removes_nothing() {
    let house = House::open().await;
    let job = house.start(1, Work::gated(20, 10)).await;
    house.until_stored(job.id, 10).await;
    let spec = ReceiveSpec { tail: Some(2), ..ReceiveSpec::new(select("1"), ReceiveMode::Follow) };
    let mut reader = house.receive(spec);
    let (number, Item::Records(_, records)) = reader.next().await.expect("records") else {
        panic!("records");
    };
    assert_eq!(number, 0);
    assert_eq!(records.iter().map(|record| record.seq.0).collect::<Vec<_>>(), [8, 9]);
    house.let_pass(0);
    let rest = reader.rest().await;
    assert_eq!(rest.per_child()[&EntryId(2)], (10..20).collect::<Vec<_>>());
    assert_eq!(house.all("1", ReceiveMode::Take).await.records(), 20);
}

#[tokio::test]
async fn several_jobs_are_streamed_together() {
    let house = House::open().await;
    house.start(2, Work::gated(5, 2)).await;
    house.start(1, Work::of(7)).await;
    let reader = house.receive(ReceiveSpec::new(select("1 3 4"), UNTIL));
    house.let_pass(0);
    house.let_pass(1);
    let got = reader.rest().await;
    let lengths: Vec<_> = got.per_child().values().map(Vec::len).collect();
    assert_eq!(lengths, [5, 5, 7]);
}

#[tokio::test]
async fn a_reader_that_stalls_is_bounded_and_delays_no_other_reader() {
    let house = House::open().await;
    let job = house.start(2, Work::of(60_000)).await;
    // It is asked, and never reads.
    let stalled = house.receive(ReceiveSpec::new(select("2"), UNTIL));
    assert_eq!(house.until_finished(job.id).await, State::Completed);
    let other = house.all("3", UNTIL).await;
    assert_eq!(other.records(), 60_000);
    let same = house.all("2", ReceiveMode::Keep).await;
    assert_eq!(same.records(), 60_000, "nothing was freed");
    drop(stalled);
    let taken = soon(async {
        let mut taken = Vec::new();
        while taken.len() < 60_000 {
            // What the first reader held comes back once the node has seen that it is gone.
            let got = house.all("2", ReceiveMode::Take).await;
            taken.extend(got.per_child().remove(&EntryId(2)).unwrap_or_default());
            tokio::task::yield_now().await;
        }
        taken
    })
    .await;
    assert_eq!(taken, (0..60_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_that_never_acknowledges_gets_no_more_than_its_window() {
    let house = House::open().await;
    let job = house.start(1, Work::of(200_000)).await;
    house.until_finished(job.id).await;
    let mut reader = house.receive(ReceiveSpec::new(select("1"), UNTIL));
    let most = u64::from(limits::RECEIVE_OFFERS);
    for expected in 1..=most {
        let (number, _) = reader.next().await.expect("records");
        assert_eq!(number, expected);
    }
    // Another receive from beginning to end gives the first one every opportunity.
    house.all("1", ReceiveMode::Keep).await;
    assert!(reader.end.receiver.next().now_or_never().is_none());
    reader.acknowledge(most).await;
    let rest = reader.rest().await;
    assert_eq!(rest.per_child()[&EntryId(2)].last(), Some(&199_999));
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_receives() {
    let house = House::open().await;
    house.start(1, Work::gated(2, 1)).await;
    let mut reader = house.receive(ReceiveSpec::new(select("1"), UNTIL));
    reader.next().await.expect("records");
    house.node.shut_down().await;
    let end = loop {
        match reader.next().await {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert!(matches!(*end, Delivery::Refused(_)), "{end:?}");
}
