//! Row 9: records of 100 bytes that one function on another node emits, received here. The limit
//! is a bare quinn stream between two processes, with 64 records in a write.

use std::process::ExitCode;
use std::time::Instant;

use sortie_benches::bare::{Order, order};
use sortie_benches::cluster::SMALL;
use sortie_benches::measure::{Pair, in_turn};
use sortie_benches::peer::BarePeer;
use sortie_benches::{Bound, Cluster, Options, Outcome, Row, run, work};

const RECORDS: u64 = 2_000_000;
/// What MessagePack puts in front of a text of that length.
const TEXT_HEAD: u64 = 2;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let cluster = Cluster::start(1).await?;
    let peer = BarePeer::start()?;
    let connection = peer.dial().await?;
    let measured =
        in_turn(async || ours(&cluster).await, async || limit(&connection).await).await?;
    cluster.end().await;
    let Pair { ours: [ours], limit: [limit] } = measured;
    Ok(vec![
        Row::new(9, "records of 100 bytes from one function elsewhere", "records/s", ours)
            .limit(limit)
            .bound(Bound::AtLeast(1_000_000.0)),
    ])
}

async fn ours(cluster: &Cluster) -> Outcome<[f64; 1]> {
    let begin = Instant::now();
    let job = cluster.session().task("records", &RECORDS)?.on("a")?.start().await?;
    let drained = work::drain(&job).await?;
    let taken = begin.elapsed().as_secs_f64();
    let bytes = RECORDS * (SMALL.len() as u64 + TEXT_HEAD);
    work::same("output", drained, work::Drained { records: RECORDS, bytes })?;
    job.remove().await?;
    Ok([RECORDS as f64 / taken])
}

async fn limit(connection: &quinn::Connection) -> Outcome<[f64; 1]> {
    let begin = Instant::now();
    let (_send, mut receive) = order(connection, Order::Records(RECORDS)).await?;
    let (mut records, mut skip, mut head) = (0_u64, 0_usize, Vec::new());
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        let mut bytes = &chunk.bytes[..];
        while !bytes.is_empty() {
            let body = skip.min(bytes.len());
            bytes = bytes.split_at(body).1;
            skip -= body;
            if skip > 0 {
                break;
            }
            let (front, rest) = bytes.split_at(bytes.len().min(4 - head.len()));
            head.extend_from_slice(front);
            bytes = rest;
            if let Ok(length) = <[u8; 4]>::try_from(head.as_slice()) {
                skip = u32::from_le_bytes(length) as usize;
                head.clear();
                records += 1;
            }
        }
    }
    let taken = begin.elapsed().as_secs_f64();
    work::same("records", records, RECORDS)?;
    Ok([RECORDS as f64 / taken])
}
