//! Runs simulated seeds one after the other, on as many threads as there are processors:
//! `cargo xtask simulate`.

use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sortie_testkit::simulation::{self, Length, Promise, SimulationError, is_planned_panic};

const USAGE: &str = "usage: simulate [--seeds N] [--from S] [--steps N] [--nodes N] [--trace]
                [--broken P]

  --seeds N   how many seeds; 500 unless said otherwise
  --from S    the first of them; 0 unless said otherwise
  --steps N   operations of each seed
  --nodes N   nodes of each cluster
  --trace     prints the operations of each seed
  --broken P  breaks a rule on purpose, of the promise P1, P2, P3, P4, P5, P6 or P9: then a seed
              must find it";

/// Operations that are printed of a seed that fails; the last ones tell most.
const TRACE_SHOWN: usize = 60;

struct Options {
    seeds: u64,
    from: u64,
    length: Length,
    trace: Trace,
    broken: Option<Promise>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trace {
    OfFailures,
    Whole,
}

/// What all seeds together came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    steps: u64,
    starts: u64,
    lasted: Duration,
}

fn main() -> ExitCode {
    let Some(options) = read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if options.broken.is_some_and(|promise| !break_rule(promise)) {
        return ExitCode::from(2);
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_planned_panic(panic.payload()) {
            hook(panic);
        }
    }));
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(options.from), AtomicBool::new(false));
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&options, (&next, &failed), &total));
        }
    });
    let Ok(total) = total.into_inner() else { return ExitCode::FAILURE };
    println!(
        "{} seeds, {} operations, {} children, {:.1} h of virtual time in {:.1} s",
        total.seeds,
        total.steps,
        total.starts,
        total.lasted.as_secs_f64() / 3_600.0,
        began.elapsed().as_secs_f64()
    );
    let found = failed.into_inner();
    match options.broken {
        Some(promise) if !found => println!("{promise} is broken, and no seed found it"),
        _ => {}
    }
    // What is broken on purpose must be found, and nothing else.
    if found == options.broken.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "broken-rules")]
use sortie_testkit::simulation::break_rule;

/// Says that nothing can be broken here.
#[cfg(not(feature = "broken-rules"))]
fn break_rule(_: Promise) -> bool {
    eprintln!("this program was built without the feature `broken-rules`");
    false
}

/// Takes seeds until none is left or one has failed.
fn work(options: &Options, (next, failed): (&AtomicU64, &AtomicBool), total: &Mutex<Total>) {
    while !failed.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= options.from.saturating_add(options.seeds) {
            return;
        }
        match simulation::run(seed, options.length) {
            Ok(run) => {
                let Ok(mut total) = total.lock() else { return };
                total.seeds += 1;
                total.steps += u64::from(run.steps);
                total.starts += run.starts;
                total.lasted += run.lasted;
                if options.trace == Trace::Whole {
                    run.trace.iter().for_each(|line| println!("{seed}: {line}"));
                }
            }
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                show(seed, &error, options.trace);
            }
        }
    }
}

fn show(seed: u64, error: &SimulationError, trace: Trace) {
    if let SimulationError::Broken(violation) = error {
        let shown = if trace == Trace::Whole { usize::MAX } else { TRACE_SHOWN };
        let skipped = violation.trace.len().saturating_sub(shown);
        violation.trace.iter().skip(skipped).for_each(|line| println!("  {line}"));
    }
    println!("{error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        println!("  because {error}");
        cause = error.source();
    }
    println!("again: cargo xtask simulate --from {seed} --seeds 1");
}

fn read(mut words: impl Iterator<Item = String>) -> Option<Options> {
    let (length, trace) = (Length::default(), Trace::OfFailures);
    let mut options = Options { seeds: 500, from: 0, length, trace, broken: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => options.trace = Trace::Whole,
            "--broken" => options.broken = Some(words.next()?.parse().ok()?),
            "--seeds" => options.seeds = words.next()?.parse().ok()?,
            "--from" => options.from = words.next()?.parse().ok()?,
            "--steps" => options.length.steps = words.next()?.parse().ok()?,
            "--nodes" => options.length.nodes = words.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}
