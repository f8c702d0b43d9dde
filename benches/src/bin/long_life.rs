//! Rows 23 and 24: what a node has in memory that has lived long, and one with many processes. The
//! limit of the first is the same node before.

use std::process::ExitCode;

use futures_util::{StreamExt, TryStreamExt};
use sortie::{Session, State};
use sortie_benches::home::{HomeNode, in_memory};
use sortie_benches::{Bound, Options, Outcome, Row, Size, run, work};
use sortie_model::limits;

/// Jobs after which a node has in memory what it keeps there.
const SETTLED: u64 = 2 * limits::JOBS_BROUGHT as u64;
const FINISHED: u64 = 6_000;
const FULL_FINISHED: u64 = 100_000;
const AT_ONCE: usize = 16;
const RUNNING: u32 = 5_000;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(options: Options) -> Outcome<Vec<Row>> {
    let finished = if options.size == Size::Full { FULL_FINISHED } else { FINISHED };
    let (before, after) = finish(finished).await?;
    let running = hold().await?;
    let each = (after - before) * f64::from(1 << 20) / finished as f64;
    let name = |what: &str| format!("{what} after {finished} jobs more");
    Ok(vec![
        Row::new(23, name("memory of a node"), "MiB", after).limit(before),
        Row::new(23, "growth for a finished job", "bytes", each).bound(Bound::AtMost(300.0)),
        Row::new(24, format!("memory of a node with {RUNNING} processes"), "MiB", running)
            .bound(Bound::AtMost(300.0)),
    ])
}

/// The memory of a node in MiB after some jobs, and after so many more.
async fn finish(jobs: u64) -> Outcome<(f64, f64)> {
    let home = in_memory()?;
    let node = HomeNode::start(home.path()).await?;
    let session = node.client().session();
    quick_jobs(&session, SETTLED).await?;
    let before = node.memory()?;
    quick_jobs(&session, jobs).await?;
    let after = node.memory()?;
    node.end().await?;
    Ok((before, after))
}

/// So many jobs of a process that only ends.
async fn quick_jobs(session: &Session, jobs: u64) -> Outcome<()> {
    let jobs = (0..jobs).map(async |_| {
        let job = session.job(sortie::Command::new("true")).start().await?;
        work::same("the end", job.wait().await?.state, State::Completed)
    });
    futures_util::stream::iter(jobs).buffer_unordered(AT_ONCE).try_collect().await
}

/// The memory of a node with many processes, in MiB.
async fn hold() -> Outcome<f64> {
    let home = in_memory()?;
    let node = HomeNode::start(home.path()).await?;
    let command = sortie::Command::new("sleep").arg("900");
    let job = node.client().session().job(command).copies(RUNNING).throttle(RUNNING);
    let job = job.start().await?;
    work::reached(&job, State::Running, RUNNING.into()).await?;
    let memory = node.memory()?;
    job.stop_now().await?;
    node.end().await?;
    Ok(memory)
}
