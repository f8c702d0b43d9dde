//! What a dead guardian left behind, where there are no control groups: found by the mark that each
//! process began with.

use std::collections::HashSet;

use rustix::process::{Pid, Signal};

use super::proc_table::{self, Life};
use super::processes::Held;

/// The variable that marks a child's processes: the guardian's process id, `-`, the child's number.
pub const TREE_VARIABLE: &str = "SORTIE_TREE";

/// The guardian and the child whose mark a process carries.
pub fn owner(pid: Pid) -> Option<(i32, u64)> {
    let value = proc_table::variable(pid, TREE_VARIABLE)?;
    let (guardian, number) = std::str::from_utf8(&value).ok()?.split_once('-')?;
    Some((guardian.parse().ok()?, number.parse().ok()?))
}

/// Kills what carries the mark of a guardian that is dead, once. To be repeated until it returns
/// that nothing is left.
///
/// What lies below a living process with that id is spared: it is a later guardian's.
pub fn clear(guardian: Pid) -> bool {
    // What is being made, or loads its program, during one look is seen by the next.
    (0..LOOKS).all(|_| kill_marked(guardian) == Found::Nothing)
}

/// Looks that have to find nothing.
const LOOKS: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Something,
}

fn kill_marked(guardian: Pid) -> Found {
    let spared: HashSet<Pid> =
        proc_table::descendants(guardian).into_iter().map(|entry| entry.pid).collect();
    let mut found = Found::Nothing;
    for entry in proc_table::all() {
        // The kernel's own threads are in no session, and have no environment to wait for.
        let is_left = entry.life == Life::Alive
            && entry.session != 0
            && !spared.contains(&entry.pid)
            && owner(entry.pid).is_some_and(|(of, _)| of == guardian.as_raw_nonzero().get());
        if is_left {
            found = Found::Something;
            if let Some(held) = Held::open(entry.pid)
                && proc_table::entry(entry.pid).is_some_and(|now| now.start == entry.start)
            {
                held.signal(Signal::KILL);
            }
        }
    }
    found
}
