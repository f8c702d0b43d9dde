//! The guardian is killed at random moments: its children end with it, and the node launches the
//! next one. Now and then the node is killed with it, before or after.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::process::Signal;

use crate::daemon::{fleet_size, nothing_left, numbers};
use crate::fleet::{Fleet, Killed};
use crate::home::Home;
use crate::options::Options;
use crate::random::Random;
use crate::violation::Violation;

/// Kills of other things for each kill of a guardian, under which everything that runs is lost.
const OTHERS: u64 = 10;
/// Milliseconds between two kills at most.
const PAUSE: u64 = 4_000;

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(home: &Home, options: &Options) -> Result<String, Violation> {
    let fleet = Fleet::new(home, fleet_size(options, Killed::Guardian))?;
    let (begun, most) = (Instant::now(), options.kills.div_ceil(OTHERS));
    let mut random = Random::new(options.seed, 1 << 42);
    let mut kills = 0;
    fleet.run(|| {
        fleet.fill();
        while kills < most && begun.elapsed() < options.time && !fleet.has_failed() {
            // tidy: waits because the moment of a kill is random
            std::thread::sleep(random.millis(PAUSE));
            let with_node = random.once_in(4);
            if with_node && random.once_in(2) {
                home.kill_daemon();
            }
            kills += u64::from(kill_guardian(home));
            if with_node {
                home.kill_daemon();
            }
        }
        Ok(())
    })?;
    nothing_left(home)?;
    let lost = fleet.tally.lost.load(Ordering::Relaxed);
    Ok(format!("{kills} kills of the guardian, {lost} jobs ended with it, {}", numbers(&fleet)))
}

fn kill_guardian(home: &Home) -> bool {
    let guardian = home.guardian();
    guardian.is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok())
}
