//! Row 13: connections with mutual TLS to one node, eight at a time, each with one request. The
//! limit is as many of bare quinn, each with one message that comes back.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use sortie_benches::bare::ping_pong;
use sortie_benches::measure::{Pair, in_turn};
use sortie_benches::peer::BarePeer;
use sortie_benches::{NodeProcess, Options, Outcome, Row, run};
use tokio::task::JoinSet;

/// Connections of one round.
const LINKS: usize = 1_000;
const AT_ONCE: usize = 8;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let node = Arc::new(NodeProcess::start("hub")?);
    let peer = Arc::new(BarePeer::start()?);
    let measured = in_turn(
        async || {
            let node = Arc::clone(&node);
            timed(move || link(Arc::clone(&node))).await
        },
        async || {
            let peer = Arc::clone(&peer);
            timed(move || connection(Arc::clone(&peer))).await
        },
    );
    let Pair { ours: [ours], limit: [limit] } = measured.await?;
    Ok(vec![Row::new(13, "1,000 connections with mutual TLS", "s", ours).limit(limit)])
}

async fn timed<F, Fut>(once: F) -> Outcome<[f64; 1]>
where
    F: Fn() -> Fut + Send + Clone + 'static,
    Fut: Future<Output = Outcome<()>> + Send,
{
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let once = once.clone();
        workers.spawn(async move {
            for _ in 0..LINKS / AT_ONCE {
                once().await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok([begin.elapsed().as_secs_f64()])
}

async fn link(node: Arc<NodeProcess>) -> Outcome<()> {
    node.client().await?.ping(None).await?;
    Ok(())
}

async fn connection(peer: Arc<BarePeer>) -> Outcome<()> {
    ping_pong(peer.dial().await?, 1).await?;
    Ok(())
}
