//! Runs simulated seeds one after the other, on as many threads as there are processors:
//! `cargo xtask simulate`.

use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sortie_testkit::simulation::{self, Acts, Length, Promise, SimulationError, is_planned_panic};

const USAGE: &str = "usage: simulate [--seeds N] [--from S] [--operations N] [--nodes N] [--rough]
                [--trace] [--broken P | --broken all]

  --seeds N       how many seeds; 200 unless said otherwise, 1,000 with --broken
  --from S        the first of them; 0 unless said otherwise
  --operations N  operations of each seed; 300 unless said otherwise, and every tenth seed 3,000
  --nodes N       nodes of each cluster
  --rough         also links that flap and wall clocks that jump, of which some seeds still fail
  --trace         prints the operations of each seed
  --broken P      breaks a rule on purpose, of the promise P1, P2, P3, P4, P5, P6, P9 or P15: then
                  a seed must find that promise broken
  --broken all    the same for one promise after the other";

/// Seeds of a run, unless said otherwise.
const SEEDS: u64 = 200;
/// Seeds within which a broken rule must be found.
const SEEDS_FOR_BROKEN: u64 = 1_000;

/// Operations that are printed of a seed that fails; the last ones tell most.
const TRACE_SHOWN: usize = 60;

struct Options {
    seeds: u64,
    from: u64,
    nodes: usize,
    operations: Option<u32>,
    acts: Acts,
    trace: Trace,
    broken: Vec<Promise>,
}

impl Options {
    fn length(&self, seed: u64) -> Length {
        let Length { steps, .. } = Length::of(seed);
        let steps = self.operations.unwrap_or(steps);
        Length { nodes: self.nodes, steps, acts: self.acts }
    }
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
    /// Seeds that found another promise broken than the one that was broken on purpose.
    others: u64,
}

fn main() -> ExitCode {
    let Some(options) = read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_planned_panic(panic.payload()) {
            hook(panic);
        }
    }));
    if options.broken.is_empty() {
        return if run(&options, None) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    for promise in &options.broken {
        if !break_rule(*promise) {
            return ExitCode::from(2);
        }
        // What is broken on purpose must be found, and as what it is.
        if run(&options, Some(*promise)) {
            println!("{promise} is broken, and no seed found it");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs the seeds. Says whether none failed, or none by breaking that promise.
fn run(options: &Options, broken: Option<Promise>) -> bool {
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(options.from), AtomicBool::new(false));
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work((options, broken), (&next, &failed), &total));
        }
    });
    let Ok(total) = total.into_inner() else { return false };
    println!(
        "{} seeds, {} operations, {} lives of children, {:.1} h of virtual time in {:.1} s",
        total.seeds,
        total.steps,
        total.starts,
        total.lasted.as_secs_f64() / 3_600.0,
        began.elapsed().as_secs_f64()
    );
    if total.others > 0 {
        println!("{} seeds found another promise broken first", total.others);
    }
    !failed.into_inner()
}

#[cfg(debug_assertions)]
use sortie_testkit::simulation::break_rule;

/// Says that nothing can be broken here.
#[cfg(not(debug_assertions))]
fn break_rule(_: Promise) -> bool {
    eprintln!("this program was built without debug assertions: no rule can be broken in it");
    false
}

/// Takes seeds until none is left or one has failed.
fn work(
    (options, broken): (&Options, Option<Promise>),
    (next, failed): (&AtomicU64, &AtomicBool),
    total: &Mutex<Total>,
) {
    while !failed.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= options.from.saturating_add(options.seeds) {
            return;
        }
        let ran = simulation::run(seed, options.length(seed));
        let Ok(mut total) = total.lock() else { return };
        total.seeds += 1;
        match ran {
            Ok(run) => {
                total.steps += u64::from(run.steps);
                total.starts += run.starts;
                total.lasted += run.lasted;
                if options.trace == Trace::Whole {
                    run.trace.iter().for_each(|line| println!("{seed}: {line}"));
                }
            }
            Err(SimulationError::Broken(found)) if broken.is_some_and(|it| it != found.promise) => {
                total.others += 1;
            }
            Err(SimulationError::Broken(found)) if broken.is_some() => {
                if !failed.swap(true, Ordering::Relaxed) {
                    println!("{found}");
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
    let nodes = Length::default().nodes;
    let (trace, broken) = (Trace::OfFailures, Vec::new());
    let acts = Acts::Usual;
    let mut options = Options { seeds: 0, from: 0, nodes, operations: None, acts, trace, broken };
    let mut seeds = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => options.trace = Trace::Whole,
            "--broken" => match words.next()?.as_str() {
                "all" => options.broken = Promise::BREAKABLE.to_vec(),
                one => options.broken.push(one.parse().ok()?),
            },
            "--seeds" => seeds = Some(words.next()?.parse().ok()?),
            "--from" => options.from = words.next()?.parse().ok()?,
            "--operations" => options.operations = Some(words.next()?.parse().ok()?),
            "--rough" => options.acts = Acts::Rough,
            "--nodes" => options.nodes = words.next()?.parse().ok()?,
            _ => return None,
        }
    }
    let usual = if options.broken.is_empty() { SEEDS } else { SEEDS_FOR_BROKEN };
    options.seeds = seeds.unwrap_or(usual);
    Some(options)
}
