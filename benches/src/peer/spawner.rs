//! Processes by the standard library alone.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measure::quantile;
use crate::program::Outcome;
use crate::work;

const THREADS: u64 = 2;

/// Spawns and waits for so many on two threads.
pub(super) fn in_seconds(program: &str, count: u64) -> Outcome<f64> {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let some = || (0..count / THREADS).try_for_each(|number| spawn_and_wait(program, number));
        let threads = [(); THREADS as usize].map(|()| scope.spawn(some));
        let ends = threads.map(|thread| thread.join().map_err(|_| "a thread panicked"));
        ends.into_iter().try_for_each(|end| end?)
    })?;
    Ok(begin.elapsed().as_secs_f64())
}

/// The median of so many, one after the other.
pub(super) fn one_in_microseconds(program: &str, count: u64) -> Outcome<f64> {
    let mut taken = Vec::new();
    for number in 0..count {
        let begin = Instant::now();
        spawn_and_wait(program, number)?;
        taken.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(quantile(taken, 0.5))
}

fn spawn_and_wait(program: &str, number: u64) -> Outcome<()> {
    let mut command = Command::new(program);
    let quiet = command.arg(number.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    work::same("the program succeeds", quiet.status()?.success(), true)
}
