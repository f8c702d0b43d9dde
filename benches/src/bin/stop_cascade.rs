//! Row 10: the stop of a job with very many running functions on two nodes, until the owner knows
//! all of them as stopped. The limit is abort and join of as many tokio futures, half in each of
//! two processes.

use std::process::ExitCode;
use std::time::Instant;

use sortie::State;
use sortie_benches::measure::{Pair, in_turn};
use sortie_benches::peer::{Exercise, Peer};
use sortie_benches::{Bound, Cluster, Options, Outcome, Row, Size, run, work};

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(options: Options) -> Outcome<Vec<Row>> {
    let counts: &[u32] = match options.size {
        Size::Usual => &[10_000],
        Size::Full => &[10_000, 100_000],
    };
    let cluster = Cluster::start(2).await?;
    let mut peers = [Peer::tokio()?, Peer::tokio()?];
    let mut rows = Vec::new();
    for count in counts {
        let measured =
            in_turn(async || ours(&cluster, *count).await, async || limit(&mut peers, *count));
        let Pair { ours: [ours], limit: [limit] } = measured.await?;
        let scenario = format!("stop of {count} running functions on 2 nodes");
        let row = Row::new(10, scenario, "ms", ours).limit(limit);
        rows.push(if *count == 10_000 { row.bound(Bound::AtMost(40.0)) } else { row });
    }
    cluster.end().await;
    Ok(rows)
}

async fn ours(cluster: &Cluster, count: u32) -> Outcome<[f64; 1]> {
    let hold = cluster.session().task("hold", &())?.copies(count / 2).throttle(count);
    let job = hold.on(&cluster.everywhere())?.start().await?;
    work::reached(&job, State::Running, u64::from(count)).await?;
    let begin = Instant::now();
    let view = job.stop().await?;
    let taken = begin.elapsed().as_secs_f64();
    work::same("stopped", view.tally.of(State::Stopped), u64::from(count))?;
    job.remove().await?;
    Ok([taken * 1e3])
}

fn limit(peers: &mut [Peer; 2], count: u32) -> Outcome<[f64; 1]> {
    for peer in &mut *peers {
        peer.tell(Exercise::Abort(u64::from(count / 2)))?;
    }
    let mut longest: f64 = 0.0;
    for peer in peers {
        longest = longest.max(peer.hear()?.first().copied().ok_or("no figure")?);
    }
    Ok([longest / 1e3])
}
