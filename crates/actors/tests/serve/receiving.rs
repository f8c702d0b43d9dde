//! Receives of what is there now.

use sortie_model::record::StreamSet;
use sortie_model::{EntryId, State, Stream};
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::{Delivery, ReceiveMode, ReceiveSpec};

use crate::harness::{House, Item, Work, select};

const TAKE: ReceiveMode = ReceiveMode::Take;
const KEEP: ReceiveMode = ReceiveMode::Keep;

#[tokio::test]
async fn take_returns_each_record_once_and_keep_returns_it_again() {
    let house = House::open().await;
    let job = house.start(1, Work::of(3)).await;
    house.until_finished(job.id).await;
    for _ in 0..2 {
        assert_eq!(house.all("1", KEEP).await.per_child()[&EntryId(2)], [0, 1, 2]);
    }
    assert!(house.job(job.id).await.has_more_data);
    assert_eq!(house.all("1", TAKE).await.per_child()[&EntryId(2)], [0, 1, 2]);
    assert_eq!(house.all("1", TAKE).await.records(), 0);
    assert!(!house.job(job.id).await.has_more_data);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_under_the_same_numbers() {
    let house = House::open().await;
    let job = house.start(3, Work::of(2)).await;
    house.until_finished(job.id).await;
    let mut first = house.receive(ReceiveSpec::new(select("1"), TAKE));
    let (number, Item::Records(child, _)) = first.next().await.expect("records") else {
        panic!("records first");
    };
    assert_eq!((number, child), (1, EntryId(2)));
    first.next().await.expect("more records");
    first.acknowledge(1).await;
    drop(first);
    let left = crate::harness::soon(async {
        loop {
            // The node withdraws what the first reader held once it has seen that it is gone.
            let kept = house.all("1", KEEP).await.per_child();
            if !kept.contains_key(&EntryId(2)) {
                return house.all("1", TAKE).await;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let numbers: Vec<_> = left.per_child().into_iter().collect();
    assert_eq!(numbers, [(EntryId(3), vec![0, 1]), (EntryId(4), vec![0, 1])]);
}

#[tokio::test]
async fn a_parent_gives_its_children_in_child_order_and_a_child_only_itself() {
    let house = House::open().await;
    let job = house.start(4, Work::of(2)).await;
    house.until_finished(job.id).await;
    let one = house.all("4", TAKE).await;
    assert_eq!(one.per_child().keys().copied().collect::<Vec<_>>(), [EntryId(4)]);
    let rest = house.all("1", TAKE).await;
    let order = rest.items.iter().map(|item| match item {
        Item::Records(child, _) => child.0,
        Item::Settled(..) => 0,
    });
    assert_eq!(order.collect::<Vec<_>>(), [2, 3, 5]);
}

#[tokio::test]
async fn a_running_child_gives_what_it_has_and_is_not_waited_for() {
    let house = House::open().await;
    let job = house.start(1, Work::gated(4, 2)).await;
    house.until_stored(job.id, 2).await;
    assert_eq!(house.all("1", TAKE).await.per_child()[&EntryId(2)], [0, 1]);
    assert_eq!(house.all("1", TAKE).await.records(), 0);
    house.let_pass(0);
    house.until_finished(job.id).await;
    assert_eq!(house.all("1", TAKE).await.per_child()[&EntryId(2)], [2, 3]);
}

#[tokio::test]
async fn reasons_of_failed_children_are_reported_also_when_nothing_is_left() {
    let house = House::open().await;
    let job = house.start(2, Work::FAILS).await;
    assert_eq!(house.until_finished(job.id).await, State::Failed);
    for expected in [2, 0] {
        let got = house.all("1", TAKE).await;
        assert_eq!(got.records(), expected);
        let failed: Vec<_> = got.failures.iter().map(|failure| failure.child.0).collect();
        assert_eq!(failed, [2, 3]);
        assert_eq!(got.entries.entries.len(), 1);
    }
    assert_eq!(house.all("3", TAKE).await.failures.len(), 1);
}

#[tokio::test]
async fn streams_and_nodes_narrow_what_is_taken_and_the_rest_stays() {
    let house = House::open().await;
    let job = house.start(1, Work { fails: true, ..Work::of(2) }).await;
    house.until_finished(job.id).await;
    let errors = StreamSet::EMPTY.with(Stream::Error);
    let only = ReceiveSpec { streams: errors, ..ReceiveSpec::new(select("1"), TAKE) };
    assert_eq!(house.receive(only).rest().await.per_child()[&EntryId(2)], [2]);
    let here = ReceiveSpec {
        on: Some("solo".parse().expect("an expression")),
        ..ReceiveSpec::new(select("1"), KEEP)
    };
    assert_eq!(house.receive(here.clone()).rest().await.per_child()[&EntryId(2)], [0, 1]);
    let nowhere = ReceiveSpec { on: Some("zone=b".parse().expect("an expression")), ..here };
    let got = house.receive(nowhere).rest().await;
    assert_eq!((got.records(), got.failures.len()), (0, 0));
}

#[tokio::test]
async fn a_tail_begins_at_the_last_values() {
    let house = House::open().await;
    let job = house.start(2, Work::of(50)).await;
    house.until_finished(job.id).await;
    let tail = ReceiveSpec { tail: Some(3), ..ReceiveSpec::new(select("1"), KEEP) };
    let got = house.receive(tail).rest().await.per_child();
    assert_eq!(got[&EntryId(2)], [47, 48, 49]);
    assert_eq!(got[&EntryId(3)], [47, 48, 49]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_takers_get_every_record_exactly_once() {
    let house = House::open().await;
    let job = house.start(4, Work::of(5_000)).await;
    let until = ReceiveMode::TakeUntil { finished: false };
    let (one, two) = tokio::join!(house.all("1", until), house.all("1", until));
    assert_eq!(house.until_finished(job.id).await, State::Completed);
    let (mut one, two) = (one.per_child(), two.per_child());
    for (child, numbers) in two {
        one.entry(child).or_default().extend(numbers);
    }
    assert_eq!(one.len(), 4);
    for (child, mut numbers) in one {
        numbers.sort_unstable();
        assert_eq!(numbers, (0..5_000).collect::<Vec<_>>(), "child {child}");
    }
}

#[tokio::test]
async fn unknown_entries_are_troubles_and_contradictions_are_refused() {
    let house = House::open().await;
    let job = house.start(1, Work::of(1)).await;
    house.until_finished(job.id).await;
    let got = house.all("77 1", TAKE).await;
    assert_eq!(got.records(), 1);
    let codes: Vec<_> = got.entries.troubles.iter().map(|trouble| trouble.error.code).collect();
    assert_eq!(codes, [ErrorCode::NotFound]);
    let tail = ReceiveSpec { tail: Some(1), ..ReceiveSpec::new(select("1"), TAKE) };
    let end = house.receive(tail).next().await.expect_err("no records");
    assert!(matches!(*end, Delivery::Refused(error) if error.code == ErrorCode::Usage));
    let on = ReceiveSpec {
        on: Some("nobody".parse().expect("an expression")),
        ..ReceiveSpec::new(select("1"), TAKE)
    };
    let end = house.receive(on).next().await.expect_err("no records");
    assert!(matches!(*end, Delivery::Refused(error) if error.code == ErrorCode::UnknownNode));
}
