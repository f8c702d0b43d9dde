//! Everything runs on another node than that of its jobs. The owner's node is killed at random
//! moments, the other one, or both; the next command in each home starts its node again.

use std::process::Child;
use std::sync::atomic::Ordering;

use crate::daemon::{fleet_size, kill_again_and_again, nothing_left, numbers};
use crate::fleet::{Fleet, Killed, OTHER};
use crate::home::Home;
use crate::options::Options;
use crate::violation::Violation;

/// Runs the scenario. Returns its closing line.
///
/// # Errors
/// The first violation.
pub(crate) fn run(owner: &Home, options: &Options) -> Result<String, Violation> {
    let nodes = Nodes::new(owner)?;
    let fleet = Fleet::new(owner, fleet_size(options, Killed::Either))?;
    let mut kills = 0;
    fleet.run(|| {
        fleet.fill();
        let (homes, is_over) = ([owner, &nodes.other], || fleet.has_failed());
        kills = kill_again_and_again(&homes, options, is_over, || numbers(&fleet))?;
        Ok(())
    })?;
    nothing_left(owner)?;
    nothing_left(&nodes.other)?;
    let unreached = fleet.tally.unreached.load(Ordering::Relaxed);
    let numbers = numbers(&fleet);
    Ok(format!("{kills} kills of the nodes, {unreached} jobs never reached theirs, {numbers}"))
}

/// The nodes as they ran first.
struct Nodes {
    other: Home,
    first: Vec<Child>,
}

impl Nodes {
    fn new(owner: &Home) -> Result<Self, Violation> {
        let mut nodes = Self { other: owner.beside(OTHER)?, first: Vec::new() };
        for (home, name) in [(owner, "a"), (&nodes.other, OTHER)] {
            nodes.first.push(home.run_node(name, &[])?);
            home.address()?;
        }
        owner.joined_by(&[&nodes.other])?;
        Ok(nodes)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.other.end();
        for node in &mut self.first {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}
