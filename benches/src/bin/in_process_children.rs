//! Rows 3 and 4: functions on two nodes, one result each, all results collected; and the
//! processor time of each, the owner's and the executing nodes' together. The limit is bare tokio
//! in two processes: a spawn and an answer for each, without any transport.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sortie_benches::measure::{Pair, in_turn};
use sortie_benches::peer::{Exercise, Peer};
use sortie_benches::proc_figures::cpu_time;
use sortie_benches::{Bound, Cluster, Options, Outcome, Row, run, work};

const CHILDREN: u64 = 100_000;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let cluster = Cluster::start(2).await?;
    let mut peers = [Peer::tokio()?, Peer::tokio()?];
    let measured = in_turn(async || ours(&cluster).await, async || limit(&mut peers)).await?;
    cluster.end().await;
    let Pair { ours: [rate, cpu], limit: [bare_rate, bare_cpu] } = measured;
    Ok(vec![
        Row::new(3, "100,000 functions on 2 nodes, a result each", "children/s", rate)
            .limit(bare_rate)
            .bound(Bound::AtLeast(250_000.0)),
        Row::new(4, "processor time of each, on all nodes together", "us", cpu).limit(bare_cpu),
    ])
}

async fn ours(cluster: &Cluster) -> Outcome<[f64; 2]> {
    let pids = cluster.pids();
    let before = used(&pids)?;
    let begin = Instant::now();
    let map = cluster.session().task_map("answer", 0..CHILDREN).unthrottled();
    let job = map.on(&cluster.everywhere())?.start().await?;
    let (count, sum) = work::sum(&job).await?;
    let taken = begin.elapsed().as_secs_f64();
    let cpu = used(&pids)?.saturating_sub(before);
    work::same("results", (count, sum), (CHILDREN, (0..CHILDREN).sum()))?;
    job.remove().await?;
    Ok([CHILDREN as f64 / taken, cpu.as_secs_f64() * 1e6 / CHILDREN as f64])
}

fn used(pids: &[u32]) -> Outcome<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}

fn limit(peers: &mut [Peer; 2]) -> Outcome<[f64; 2]> {
    let begin = Instant::now();
    for peer in &mut *peers {
        peer.tell(Exercise::Answer(CHILDREN / 2))?;
    }
    let mut cpu = 0.0;
    for peer in peers {
        cpu += peer.hear()?.get(1).copied().ok_or("no figure")?;
    }
    Ok([CHILDREN as f64 / begin.elapsed().as_secs_f64(), cpu / CHILDREN as f64])
}
