//! The guardian is killed at random moments: its children end with it, and the node launches the
//! next one. Now and then the node is killed with it, before or after.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::process::{Pid, Signal};

use crate::daemon::{fleet_size, nothing_left, numbers};
use crate::fleet::{Fleet, Killed};
use crate::home::{Home, command_line};
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
    let is_guardian = |pid: &Pid| {
        let line = command_line(*pid);
        line.is_some_and(|line| line.starts_with("sortie-guardian"))
    };
    let processes: Vec<Pid> = home.processes().into_iter().filter(is_guardian).collect();
    // What it is about to start has its command line for a moment.
    let is_own = |pid: &Pid| parent(*pid).is_none_or(|parent| !processes.contains(&parent));
    let guardian = processes.iter().copied().find(is_own);
    guardian.is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok())
}

/// The process that began another one; none when that is gone.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // Behind the name, which may have spaces, come the state and the parent.
    let (_, behind) = stat.rsplit_once(") ")?;
    Pid::from_raw(behind.split(' ').nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_a_process_is_known() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let of_child = parent(Pid::from_child(&child));
        child.kill().expect("a kill");
        child.wait().expect("an end");
        assert_eq!(of_child, Some(rustix::process::getpid()));
    }
}
