//! Row 16: restarts of supervised functions on two nodes. 99,000 run and 1,000 fail as soon as they
//! begin, each of which starts again at once. The memory of all nodes together after it is compared
//! with that before.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sortie::{Intensity, Job, RestartType, State};
use sortie_benches::proc_figures::resident_bytes;
use sortie_benches::{Bound, Cluster, Options, Outcome, Row, run, work};

/// Supervised functions.
const CHILDREN: u64 = 100_000;
/// Those of them that fail all the time.
const FAILING: u64 = 1_000;
/// How long restarts are counted, and how long they have gone on before.
const COUNTED: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let cluster = Cluster::start(2).await?;
    let session = cluster.session();
    let job = session.task("hold-or-fail", &((CHILDREN / FAILING) as u32))?;
    let job = job
        .copies(CHILDREN as u32 / 2)
        .on(&cluster.everywhere())?
        .unthrottled()
        .restart(RestartType::Permanent)
        .intensity(Intensity::new(100_000, Duration::from_millis(100))?)
        .start()
        .await?;
    work::reached(&job, State::Running, CHILDREN - FAILING).await?;
    // The first round warms up, and leaves the memory that the second one must not pass by much.
    counted(&job).await?;
    let before = memory(&cluster)?;
    let restarts = counted(&job).await?;
    let after = memory(&cluster)?;
    // A job that gave up restarts nothing, and would look idle.
    work::same("state", job.view().await?.state, State::Running)?;
    let view = job.stop_now().await?;
    work::same("children", view.tally.total(), CHILDREN)?;
    work::same("children that are left", view.tally.finished(), CHILDREN)?;
    job.remove().await?;
    cluster.end().await;
    Ok(vec![
        Row::new(16, "restarts of 1,000 among 100,000 functions on 2 nodes", "1/s", restarts)
            .bound(Bound::AtLeast(5_000.0)),
        Row::new(16, "memory after 10 s of it, to that before", "", after)
            .limit(before)
            .bound(Bound::TimesLimit(1.05)),
    ])
}

/// Restarts per second, over a while.
async fn counted(job: &Job) -> Outcome<f64> {
    let (begin, before) = (Instant::now(), job.view().await?.restarts);
    // tidy: waits because a rate is counted over a time
    tokio::time::sleep(COUNTED).await;
    let restarts = job.view().await?.restarts - before;
    Ok(restarts as f64 / begin.elapsed().as_secs_f64())
}

/// The memory of all nodes together, in megabytes.
fn memory(cluster: &Cluster) -> Outcome<f64> {
    let bytes: Outcome<Vec<f64>> = cluster.pids().into_iter().map(resident_bytes).collect();
    Ok(bytes?.iter().sum::<f64>() / 1e6)
}
