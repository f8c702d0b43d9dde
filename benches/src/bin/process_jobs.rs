//! Rows 1 and 2: short processes on two nodes, all results collected. The limit is the standard
//! library's spawn and wait on two threads of one process.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use sortie_benches::measure::{Pair, in_turn};
use sortie_benches::peer::{Exercise, Peer};
use sortie_benches::{Bound, Cluster, Options, Outcome, Row, run, work};

const PROCESSES: u64 = 1_000;

fn main() -> ExitCode {
    run(scenario)
}

async fn scenario(_: Options) -> Outcome<Vec<Row>> {
    let cluster = Cluster::start(2).await?;
    let usual = measure(&cluster, OsStr::new("true")).await?;
    let mut rows =
        vec![row(1, "1,000 x `true` on 2 nodes", usual).bound(Bound::ShareOfLimit(0.75))];
    let directory = tempfile::tempdir()?;
    match build_tiny(directory.path().join("tiny")) {
        Some(tiny) => {
            let tiny = measure(&cluster, tiny.as_os_str()).await?;
            rows.push(row(2, "1,000 x a static program of 9 KB", tiny));
        }
        None => eprintln!("row 2 is left out: no C compiler that links statically"),
    }
    cluster.end().await;
    Ok(rows)
}

fn row(number: u8, scenario: &str, pair: Pair<1>) -> Row {
    let Pair { ours: [ours], limit: [limit] } = pair;
    Row::new(number, scenario, "jobs/s", ours).limit(limit)
}

async fn measure(cluster: &Cluster, program: &OsStr) -> Outcome<Pair<1>> {
    let mut spawner = Peer::spawner(program)?;
    let mut limit = || spawner.figure(Exercise::Spawn(PROCESSES));
    in_turn(async || ours(cluster, program).await, async || Ok([PROCESSES as f64 / limit()?])).await
}

async fn ours(cluster: &Cluster, program: &OsStr) -> Outcome<[f64; 1]> {
    let begin = Instant::now();
    let command = sortie::Command::new(program);
    let items = (0..PROCESSES).map(|number| number.to_string());
    let job = cluster.session().job(command).map(items).on(&cluster.everywhere())?.start().await?;
    work::drain(&job).await?;
    let taken = begin.elapsed().as_secs_f64();
    let completed = job.wait().await?.tally.of(sortie::State::Completed);
    work::same("processes that completed", completed, PROCESSES)?;
    job.remove().await?;
    Ok([PROCESSES as f64 / taken])
}

/// A program that only ends. Linked with nothing, it shows what a spawn costs by itself.
fn build_tiny(path: PathBuf) -> Option<PathBuf> {
    let call = if cfg!(target_arch = "x86_64") {
        r#"__asm__ volatile("syscall" :: "a"(60), "D"(0));"#
    } else if cfg!(target_arch = "aarch64") {
        r#"register long n __asm__("x8") = 93; register long c __asm__("x0") = 0;
           __asm__ volatile("svc 0" :: "r"(n), "r"(c));"#
    } else {
        return None;
    };
    let source = path.with_extension("c");
    std::fs::write(&source, format!("void _start(void) {{ {call} for (;;); }}\n")).ok()?;
    let arguments = ["-static", "-nostdlib", "-Os", "-o"];
    let compiler = Command::new("cc").args(arguments).arg(&path).arg(&source).status();
    compiler.is_ok_and(|status| status.success()).then_some(path)
}
