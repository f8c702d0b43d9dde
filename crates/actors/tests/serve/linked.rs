//! The same over a link: frames instead of messages.

use sortie_model::EntryId;
use sortie_wire::ErrorCode;
use sortie_wire::session_proto::{Delivery, ReceiveMode, ReceiveSpec};

use crate::harness::{House, Item, Work, select, soon};

const UNTIL: ReceiveMode = ReceiveMode::TakeUntil { finished: false };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_children_arrive_whole_and_settle_once() {
    let house = House::open().await;
    let connection = house.connect().await;
    house.start(3_000, Work::of(1)).await;
    let spec = ReceiveSpec { events: true, ..ReceiveSpec::new(select("1"), UNTIL) };
    let got = connection.receive(spec).await.rest().await;
    assert_eq!((got.records(), got.settled().len()), (3_000, 3_001));
    assert_eq!(got.settled().last().map(|(id, _)| *id), Some(EntryId(1)));
    assert!(!house.job(EntryId(1)).await.has_more_data, "every acknowledgement was heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_small_records_keep_their_order() {
    let house = House::open().await;
    let connection = house.connect().await;
    let large = Work { filler: 40_000, ..Work::gated(60, 30) };
    house.start(1, large).await;
    house.start(2, Work::of(20_000)).await;
    let reader = connection.receive(ReceiveSpec::new(select("1 3"), UNTIL)).await;
    house.let_pass(0);
    let got = reader.rest().await.per_child();
    assert_eq!(got[&EntryId(2)], (0..60).collect::<Vec<_>>());
    assert_eq!(got[&EntryId(4)], (0..20_000).collect::<Vec<_>>());
    assert_eq!(got[&EntryId(5)], (0..20_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_whose_connection_breaks_loses_nothing() {
    let house = House::open().await;
    let job = house.start(1, Work::of(30_000)).await;
    house.until_finished(job.id).await;
    let connection = house.connect().await;
    let mut reader = connection.receive(ReceiveSpec::new(select("1"), UNTIL)).await;
    let (first, Item::Records(_, confirmed)) = reader.next().await.expect("records") else {
        panic!("records");
    };
    reader.next().await.expect("more, which is not confirmed");
    reader.acknowledge(first).await;
    let left = 30_000 - confirmed.len();
    soon(async {
        while house.all("1", ReceiveMode::Keep).await.records() != left {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((reader, connection));
    let taken = soon(async {
        let mut taken = Vec::new();
        while taken.len() < left {
            let got = house.all("1", ReceiveMode::Take).await;
            taken.extend(got.per_child().remove(&EntryId(2)).unwrap_or_default());
            tokio::task::yield_now().await;
        }
        taken
    })
    .await;
    assert_eq!(taken, (confirmed.len() as u64..30_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refusal_arrives_as_a_delivery() {
    let house = House::open().await;
    let connection = house.connect().await;
    let spec = ReceiveSpec { tail: Some(1), ..ReceiveSpec::new(select("1"), ReceiveMode::Take) };
    let end = connection.receive(spec).await.next().await.expect_err("no records");
    assert!(matches!(*end, Delivery::Refused(error) if error.code == ErrorCode::Usage));
}
