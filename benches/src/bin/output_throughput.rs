//! Rows 7 and 8: what processes on another node write, received here and thrown away. The limit
//! is the same process behind a pipe of 1 MiB that feeds a bare quinn stream between two processes,
//! with the transport settings of a link. Row 25: the same in a session that outlives its node,
//! which keeps all of it on its disk before the other node forgets it; the limit is a temporary
//! one.

use std::process::ExitCode;
use std::time::Instant;

use sortie::Session;
use sortie_benches::bare::{Order, count_bytes, order};
use sortie_benches::measure::{Pair, in_turn};
use sortie_benches::peer::BarePeer;
use sortie_benches::{Bound, Cluster, Options, Outcome, Row, run, work, writer};

/// What all children together write.
const BYTES: u64 = 1 << 30;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let cluster = Cluster::start(1).await?;
    let peer = BarePeer::start()?;
    let connection = peer.dial().await?;
    let (temporary, lasting) = (cluster.client().temporary().await?, cluster.session());
    let mut rows = Vec::new();
    for (number, children) in [(7, 1), (8, 16)] {
        let measured = in_turn(
            async || ours(&temporary, children).await,
            async || limit(&connection, children).await,
        );
        let Pair { ours: [ours], limit: [limit] } = measured.await?;
        let scenario = format!("1 GiB from {children} process(es) elsewhere");
        let row = Row::new(number, scenario, "MB/s", ours).limit(limit);
        rows.push(if number == 7 { row.bound(Bound::ShareOfLimit(0.6)) } else { row });
    }
    for children in [1, 16] {
        let measured = in_turn(
            async || ours(&lasting, children).await,
            async || ours(&temporary, children).await,
        );
        let Pair { ours: [ours], limit: [limit] } = measured.await?;
        let scenario = format!("1 GiB from {children} process(es) elsewhere, durable");
        let row = Row::new(25, scenario, "MB/s", ours).limit(limit);
        rows.push(row.bound(Bound::ShareOfLimit(0.1)));
    }
    drop(temporary);
    cluster.end().await;
    Ok(rows)
}

async fn ours(session: &Session, children: u32) -> Outcome<[f64; 1]> {
    let (program, arguments) = writer::command(BYTES / u64::from(children))?;
    let begin = Instant::now();
    let command = sortie::Command::new(program).args(arguments);
    let job = session.job(command).copies(children).on("a")?.start().await?;
    let drained = work::drain(&job).await?;
    let taken = begin.elapsed().as_secs_f64();
    work::same("bytes", drained.bytes, BYTES)?;
    job.remove().await?;
    Ok([BYTES as f64 / 1e6 / taken])
}

async fn limit(connection: &quinn::Connection, children: u32) -> Outcome<[f64; 1]> {
    let each = BYTES / u64::from(children);
    let begin = Instant::now();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..children {
        let streams = order(connection, Order::Output(each)).await?;
        readers.spawn(count_bytes(streams));
    }
    let mut bytes = 0;
    while let Some(read) = readers.join_next().await {
        bytes += read??;
    }
    let taken = begin.elapsed().as_secs_f64();
    work::same("bytes", bytes, BYTES)?;
    Ok([BYTES as f64 / 1e6 / taken])
}
