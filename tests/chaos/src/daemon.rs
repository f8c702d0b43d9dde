//! The node is killed at random moments under jobs that run; the next command starts it again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Killed, Size};
use crate::home::Home;
use crate::options::{Options, Size as RunSize};
use crate::random::Random;
use crate::violation::Violation;

/// How long what is not wanted any more may take to be gone.
const GONE_TIME: Duration = Duration::from_secs(20);

/// How long an item lives at most where so many are to run all the time, in milliseconds.
const LONG_LIVES: u64 = 1_800_000;

/// Kills between two lines that say how far a run is.
const REPORT: u64 = 100;

/// How long a command may take that only sees to it that a node runs.
const AWAKE_TIME: Duration = Duration::from_secs(20);

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(home: &Home, options: &Options) -> Result<String, Violation> {
    let size = fleet_size(options, Killed::Node);
    let fleet = Fleet::new(home, size)?;
    let mut kills = 0;
    fleet.run(|| {
        let is_over = || fleet.has_failed();
        fleet.fill();
        kills = kill_again_and_again(&[home], options, is_over, || numbers(&fleet))?;
        Ok(())
    })?;
    nothing_left(home)?;
    Ok(format!("{kills} kills of the node, {}", numbers(&fleet)))
}

/// Kills the nodes of these homes, one of them or all, at random moments, as often or as long as
/// the options say or until it is over. Returns how often.
///
/// # Errors
/// When a command fails that only needs a node.
pub(crate) fn kill_again_and_again(
    homes: &[&Home],
    options: &Options,
    is_over: impl Fn() -> bool,
    so_far: impl Fn() -> String,
) -> Result<u64, Violation> {
    let (begun, mut random) = (Instant::now(), Random::new(options.seed, 1 << 41));
    let (over, mut kills) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        let over = &over;
        let awake = |home| scope.spawn(move || keep_awake(home, over));
        let wakers: Vec<_> = homes.iter().copied().map(awake).collect();
        while kills < options.kills && begun.elapsed() < options.time && !is_over() {
            let pause = match random.within(0..=9) {
                0 => random.millis(20),
                1..=3 => random.millis(400),
                _ => random.millis(2_500),
            };
            // tidy: waits because the moment of a kill is random
            std::thread::sleep(pause);
            // Each of them, or all at once.
            let chosen = random.within(0..=homes.len() as u64);
            let is_chosen = |place: usize| place as u64 == chosen || chosen == homes.len() as u64;
            let chosen = homes.iter().enumerate().filter(|(place, _)| is_chosen(*place));
            let before = kills;
            kills += chosen.filter(|(_, home)| home.kill_daemon()).count() as u64;
            if before / REPORT < kills / REPORT {
                eprintln!("chaos: {kills} kills, {}", so_far());
            }
        }
        over.store(true, Ordering::SeqCst);
        let ends = wakers.into_iter().map(|waker| waker.join().unwrap_or(Ok(())));
        ends.fold(Ok(()), Result::and)
    })?;
    Ok(kills)
}

/// Runs one command after the other that needs a node, none for long: those of the fleet may wait
/// for one that was killed under them.
fn keep_awake(home: &Home, over: &AtomicBool) -> Result<(), Violation> {
    loop {
        // Behind the last kill once more: nobody else starts a node on which others' jobs run.
        let is_last = over.load(Ordering::SeqCst);
        let ran = home.run_until(&["get", "-q"], Some(AWAKE_TIME))?;
        if !ran.was_cut_off() && ran.code != Some(0) {
            return Err(ran.refused());
        }
        if is_last {
            return Ok(());
        }
        // tidy: waits because a person types, too
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The fleet of a run, by its size.
pub(crate) fn fleet_size(options: &Options, killed: Killed) -> Size {
    let (together, most_millis) = match (options.size, options.running) {
        (RunSize::Short, _) => (24, 2_500),
        (RunSize::Long, 0) => (200, 60_000),
        (RunSize::Long, _) => (usize::MAX, LONG_LIVES),
    };
    let (seed, running) = (options.seed, options.running);
    Size { seed, together, running, most_millis, workers: 8, killed }
}

/// What a fleet came to, as words.
pub(crate) fn numbers(fleet: &Fleet<'_>) -> String {
    let tally = &fleet.tally;
    let [items, starts, lines, records, again, commands, cut_off] = [
        &tally.items,
        &tally.starts,
        &tally.lines,
        &tally.records,
        &tally.again,
        &tally.commands,
        &tally.cut_off,
    ]
    .map(|count| count.load(Ordering::Relaxed));
    format!(
        "{items} jobs, {starts} starts, {lines} lines in {records} records ({again} came again), \
         {commands} commands, {cut_off} of them cut off{}",
        fleet.at_least()
    )
}

/// Checks that only the node is left, stops it, and checks that nothing is.
///
/// # Errors
/// When something is.
pub(crate) fn nothing_left(home: &Home) -> Result<(), Violation> {
    home.none_left(GONE_TIME, |line| !line.contains("node run") && !line.contains("guardian"))?;
    let stopped = home.run(&["node", "stop"])?;
    if stopped.code != Some(0) {
        return Err(stopped.refused());
    }
    home.none_left(GONE_TIME, |_| true)
}
