//! Row 6: one process on another node, from its start to its end. The limit is the standard
//! library's spawn and wait, and one round trip over a bare quinn stream.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Instant;

use sortie::Session;
use sortie_benches::bare::ping_pong;
use sortie_benches::measure::{Pair, in_turn, quantile};
use sortie_benches::peer::{BarePeer, Exercise, Peer};
use sortie_benches::{Cluster, Options, Outcome, Row, run, work};

const JOBS: usize = 100;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let cluster = Cluster::start(1).await?;
    let peer = BarePeer::start()?;
    let connection = peer.dial().await?;
    let mut spawner = Peer::spawner(OsStr::new("true"))?;
    let measured = in_turn(
        async || tokio::spawn(ours(cluster.session())).await?,
        async || {
            let round_trip =
                quantile(tokio::spawn(ping_pong(connection.clone(), JOBS)).await??, 0.5);
            Ok([spawner.figure(Exercise::SpawnOne(JOBS as u64))? + round_trip])
        },
    );
    let Pair { ours: [ours], limit: [limit] } = measured.await?;
    cluster.end().await;
    Ok(vec![Row::new(6, "one `true` elsewhere, start to end, p50", "us", ours).limit(limit)])
}

async fn ours(session: Session) -> Outcome<[f64; 1]> {
    let mut taken = Vec::new();
    for _ in 0..JOBS {
        let begin = Instant::now();
        let job = session.job(sortie::Command::new("true")).on("a")?.start().await?;
        let view = job.wait().await?;
        taken.push(begin.elapsed().as_secs_f64() * 1e6);
        work::same("the end", view.state, sortie::State::Completed)?;
        job.remove().await?;
    }
    Ok([quantile(taken, 0.5)])
}
