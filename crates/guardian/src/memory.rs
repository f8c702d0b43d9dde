//! Telling a kill by the kernel, for want of memory, from one by a person.
//!
//! A control group of its own would say so, but only where the memory controller is on. The
//! machine's counter of such kills is always there: a process that died of `SIGKILL` which we did
//! not send, and a counter that has grown since it started, mean want of memory.

use std::time::{Duration, Instant};

use sortie_exec::sys::proc_table::memory_kills;

/// How old a reading may be that is noted for a child that starts.
const FRESH: Duration = Duration::from_secs(1);

/// A reading of the machine's counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// Reads the counter, rarely.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    last: Mark,
    read_at: Instant,
    /// Kills up to here have been attributed to a child.
    attributed: Mark,
}

impl MemoryWatch {
    pub(crate) fn new(now: Instant) -> Self {
        let last = read();
        Self { last, read_at: now, attributed: last }
    }

    /// What to note for a child that starts now.
    pub(crate) fn mark(&mut self, now: Instant) -> Mark {
        if now.duration_since(self.read_at) > FRESH {
            self.last = read();
            self.read_at = now;
        }
        self.last
    }

    /// Whether a child that started at `mark`, and died of a `SIGKILL` that nobody asked for, was
    /// killed for want of memory. Each kill explains one death.
    pub(crate) fn explains_death(&mut self, mark: Mark) -> bool {
        let base = mark.max(self.attributed);
        let explained = read() > base;
        if explained {
            self.attributed = Mark(base.0 + 1);
        }
        explained
    }
}

fn read() -> Mark {
    Mark(memory_kills().unwrap_or(0))
}
