//! Row 5: one function on another node, from its start to its result. The limit is a message of
//! 64 bytes that comes back over a bare quinn stream between two processes. Both run in a spawned
//! future, as the work of a server does: the future that a runtime blocks on has a thread of its
//! own, whose wake-up would be added to each answer.

use std::process::ExitCode;
use std::time::Instant;

use sortie::Session;
use sortie_benches::bare::ping_pong;
use sortie_benches::measure::{Pair, in_turn, quantile};
use sortie_benches::peer::BarePeer;
use sortie_benches::{Bound, Cluster, Options, Outcome, Row, run, work};

const JOBS: u64 = 400;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let cluster = Cluster::start(1).await?;
    let peer = BarePeer::start()?;
    let connection = peer.dial().await?;
    let measured = in_turn(
        async || tokio::spawn(ours(cluster.session())).await?,
        async || Ok(quantiles(tokio::spawn(ping_pong(connection.clone(), JOBS as usize)).await??)),
    );
    let Pair { ours: [middle, slow], limit: [bare_middle, bare_slow] } = measured.await?;
    cluster.end().await;
    Ok(vec![
        Row::new(5, "one function elsewhere, start to result, p50", "us", middle)
            .limit(bare_middle)
            .bound(Bound::TimesLimit(1.6)),
        Row::new(5, "the same, p99", "us", slow).limit(bare_slow),
    ])
}

async fn ours(session: Session) -> Outcome<[f64; 2]> {
    let mut taken = Vec::new();
    for number in 0..JOBS {
        let begin = Instant::now();
        let job = session.task("answer", &number)?.on("a")?.start().await?;
        let value = job.values::<u64>().next().await.ok_or("no result")??;
        taken.push(begin.elapsed().as_secs_f64() * 1e6);
        work::same("the result", value, number)?;
        job.wait().await?;
        job.remove().await?;
    }
    Ok(quantiles(taken))
}

fn quantiles(taken: Vec<f64>) -> [f64; 2] {
    [quantile(taken.clone(), 0.5), quantile(taken, 0.99)]
}
