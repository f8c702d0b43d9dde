//! Chaos: real nodes, processes and commands, of which some are killed at random moments, and what
//! must be true afterwards all the same (`docs/contributing.md`). `cargo xtask chaos` runs it.

mod apart;
mod check;
mod clients;
mod daemon;
mod disk;
mod elsewhere;
mod fleet;
mod full;
mod guardian;
mod home;
mod item;
mod ledger;
mod lines;
mod links;
mod map;
mod options;
mod random;
mod relay;
mod violation;

use std::process::ExitCode;
use std::time::Instant;

use home::Home;
use options::{Options, Scenario, USAGE};
use violation::{Violation, machine};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((word, rest)) if word == item::WORD => return item::run(rest),
        Some((word, rest)) if word == lines::WORD => return lines::run(rest),
        _ => {}
    }
    let Some(options) = Options::read(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!("chaos: seed {}", options.seed);
    for scenario in &options.scenarios {
        match run(*scenario, &options) {
            Ok(line) => println!("chaos: {}: {line}", scenario.name()),
            Err(violation) => {
                println!("chaos: {}: seed {}: {violation}", scenario.name(), options.seed);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Runs one scenario in a folder of its own, which stays when it finds something.
fn run(scenario: Scenario, options: &Options) -> Result<String, Violation> {
    let begun = Instant::now();
    let folder = tempfile::Builder::new().prefix("sortie-chaos-").tempdir();
    let folder = folder.map_err(machine("a temporary folder"))?;
    let home = Home::new(folder.path().join("a"), options.binary.clone())?;
    let went = match scenario {
        Scenario::Daemon => daemon::run(&home, options),
        Scenario::Clients => clients::run(&home, options),
        Scenario::Guardian => guardian::run(&home, options),
        Scenario::Links => links::run(&home, options),
        Scenario::Map => map::run(&home, options),
        Scenario::Apart => apart::run(&home, options),
        Scenario::Full => full::run(&home, options),
        Scenario::Disk => disk::run(&home, options),
        Scenario::Elsewhere => elsewhere::run(&home, options),
    };
    home.end();
    if went.is_err() {
        println!("chaos: its home is kept: {}", folder.keep().display());
    }
    Ok(format!("{}, in {:.0} s", went?, begun.elapsed().as_secs_f64()))
}
