//! Row 11: the memory of each running function, owner and executing nodes together, and of each
//! child that is queued. Every node is a fresh process. The limit is a bare tokio future that
//! waits.

use std::process::ExitCode;

use sortie::State;
use sortie_benches::measure::quantile;
use sortie_benches::peer::{Exercise, Peer};
use sortie_benches::proc_figures::resident_bytes;
use sortie_benches::{Cluster, Options, Outcome, Row, run, work};

const RUNNING: u32 = 20_000;
const QUEUED: u32 = 100_000;
/// Fresh processes for each figure; the median counts.
const CLUSTERS: usize = 3;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let (mut running, mut queued, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CLUSTERS {
        running.push(of_running().await?);
        queued.push(of_queued().await?);
        bare.push(Peer::tokio()?.figure(Exercise::Hold(RUNNING.into()))? / f64::from(RUNNING));
    }
    let median = |figures| quantile(figures, 0.5);
    Ok(vec![
        Row::new(11, "memory of a running function", "bytes", median(running)).limit(median(bare)),
        Row::new(11, "memory of a queued child", "bytes", median(queued)),
    ])
}

async fn of_running() -> Outcome<f64> {
    let cluster = Cluster::start_apart(2).await?;
    let before = resident(&cluster.pids())?;
    let hold = cluster.session().task("hold", &())?.copies(RUNNING / 2).throttle(RUNNING);
    let job = hold.on(&cluster.everywhere())?.start().await?;
    work::reached(&job, State::Running, RUNNING.into()).await?;
    let after = resident(&cluster.pids())?;
    job.stop_now().await?;
    cluster.end().await;
    Ok((after - before) / f64::from(RUNNING))
}

async fn of_queued() -> Outcome<f64> {
    let cluster = Cluster::start_apart(1).await?;
    let pid = [cluster.owner_pid()];
    let before = resident(&pid)?;
    let hold = cluster.session().task("hold", &())?.copies(QUEUED).throttle(1).on("a")?;
    let job = hold.start().await?;
    work::reached(&job, State::Running, 1).await?;
    let after = resident(&pid)?;
    job.stop_now().await?;
    cluster.end().await;
    Ok((after - before) / f64::from(QUEUED))
}

fn resident(pids: &[u32]) -> Outcome<f64> {
    pids.iter().map(|pid| resident_bytes(*pid)).sum()
}
