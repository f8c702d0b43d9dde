//! Clients are killed at random moments: those that start and those that receive.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::daemon::{fleet_size, nothing_left, numbers};
use crate::fleet::{Fleet, Killed};
use crate::home::Home;
use crate::options::Options;
use crate::violation::Violation;

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(home: &Home, options: &Options) -> Result<String, Violation> {
    let fleet = Fleet::new(home, fleet_size(options, Killed::Clients))?;
    let begun = Instant::now();
    let killed = || fleet.tally.clients_killed.load(Ordering::Relaxed);
    fleet.run(|| {
        fleet.fill();
        while killed() < options.kills && begun.elapsed() < options.time && !fleet.has_failed() {
            // tidy: waits because the commands of the fleet do the work
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Ok(())
    })?;
    nothing_left(home)?;
    Ok(format!("{} kills of clients, {}", killed(), numbers(&fleet)))
}
