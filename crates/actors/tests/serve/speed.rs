//! Temporary figures.
use std::time::Instant;
use sortie_wire::session_proto::{ReceiveMode, ReceiveSpec};
use crate::harness::{House, Work, select};

async fn run(children: u32, count: u64, mode: ReceiveMode, events: bool) {
    let house = House::open().await;
    let at = Instant::now();
    let job = house.start(children, Work::of(count)).await;
    if mode == ReceiveMode::Take || mode == ReceiveMode::Keep { house.until_finished(job.id).await; }
    let ready = at.elapsed();
    let at = Instant::now();
    let mut spec = ReceiveSpec::new(select("1"), mode);
    spec.events = events;
    let mut reader = house.receive(spec);
    let (mut n, mut d, mut acked) = (0u64, 0u64, 0u64);
    loop {
        match reader.next().await {
            Ok((number, item)) => { d += 1; if let crate::harness::Item::Records(_, r) = item { n += r.len() as u64; }
                if number >= acked + 8 { acked = number; reader.acknowledge(number).await; } }
            Err(_) => break,
        }
    }
    println!("{children} x {count} {mode:?} events={events}: start+run {ready:?}, receive {:?}, {n} records {d} deliveries", at.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn speed() {
    let until = ReceiveMode::TakeUntil { finished: false };
    for mode in [ReceiveMode::Take, ReceiveMode::Keep, until, ReceiveMode::Follow] {
        run(100_000, 1, mode, false).await;
    }
    run(100_000, 1, until, true).await;
    for mode in [ReceiveMode::Take, ReceiveMode::Keep, until, ReceiveMode::Follow] {
        run(1, 1_000_000, mode, false).await;
    }
}
