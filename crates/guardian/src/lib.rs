//! The guardian: the same program, executed again, as the parent of every process child.
//!
//! It is small, has one thread and no runtime. It starts processes when its daemon asks, passes
//! their pipes to the daemon, collects their statuses, and kills whole trees. When the daemon's
//! socket closes, in whatever way the daemon ended, it kills everything below it and ends.
//!
//! The same program is executed once more for each detached process, which is nobody's child.
//!
//! Children that are *kept* are the exception: their pipes it reads itself, into files, and when
//! the daemon is gone it goes on with that and waits for the next one, as long as one of them runs.

mod child;
mod detach;
mod keeper;
mod main_loop;
mod memory;
mod protocol;
mod script;
mod spawn;
mod tree;
mod watch;

use sortie_exec::guardian::{GUARDIAN_VARIABLE, initialise};
use sortie_exec::sys::processes;

/// Becomes a guardian, or the starter of a detached process, and does not return, if this program
/// was executed to be one; else returns at once. To be called as the first line of `main`, before
/// anything opens a file or starts a thread: with another thread, a runtime's for one, it changes
/// nothing, and no guardian is launched.
pub fn run_if_asked() {
    if processes::has_other_threads() {
        // They would get the guardian's signals and lose their descriptors, and end it with them.
        return;
    }
    initialise();
    detach::run_if_asked();
    let Some(daemon) = std::env::var_os(GUARDIAN_VARIABLE) else { return };
    let Some(daemon) = daemon.to_str().and_then(|pid| pid.parse().ok()) else { return };
    let Some(socket) = processes::take_socket() else { return };
    let status = match main_loop::run(socket, daemon) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    std::process::exit(status);
}
