//! What happened to a process child, before anyone decides what it means: the executing side
//! reports facts, the engine turns them into an outcome (`docs/semantics.md`, section 2.1).

use serde::{Deserialize, Serialize};

use crate::reason::SpawnStep;

/// How a process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProcessEnd {
    /// It exited by itself.
    Exited {
        /// Its status, 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signalled {
        /// The signal's number.
        number: i32,
        /// Whether the kernel wrote a core.
        core_dumped: bool,
    },
    /// It never ran.
    NotStarted {
        /// What was tried.
        step: SpawnStep,
        /// The operating system's error number.
        errno: i32,
    },
    /// The guardian is gone, and with it whatever ran below it.
    Lost,
}

/// What a child that has not started waits for, or a function that stood still when its node ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WaitsFor {
    /// Its turn; one that has started waits for nothing, and says so, too.
    #[default]
    Slot,
    /// Its next incarnation: the one before has ended. Of one that stands still that is a resume.
    Restart,
    /// The word of its node that it began: it was told to start it, or is about to be. One
    /// that stands still was resumed.
    Node,
}

/// Which program of a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// The command that runs first (`--init`).
    Init,
    /// The child's own command.
    Main,
}

/// Whether the kernel ended a process for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemoryEnd {
    /// It did not.
    No,
    /// It did.
    OutOfMemory,
}

/// Why a child's tree was signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Interruption {
    /// Somebody stopped it.
    Stop,
    /// It ran longer than it may.
    Timeout,
    /// It wrote more than it may.
    OutputLimit,
}

/// All that is known of a process child when nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessFacts {
    /// How its last program ended.
    pub end: ProcessEnd,
    /// Which program that was.
    pub stage: Stage,
    /// Whether it was killed for want of memory.
    pub memory: MemoryEnd,
    /// What was delivered to it before its end, in order; empty when it ended undisturbed.
    pub interruptions: Vec<Interruption>,
    /// Processes of its tree that were left after its end and its drain, and were killed.
    pub left_behind: u32,
    /// Bytes of output that its limit cut off.
    pub cut_bytes: u64,
}

impl ProcessFacts {
    /// The facts of a child that ended so, undisturbed and alone.
    pub const fn of(end: ProcessEnd) -> Self {
        Self {
            end,
            stage: Stage::Main,
            memory: MemoryEnd::No,
            interruptions: Vec::new(),
            left_behind: 0,
            cut_bytes: 0,
        }
    }
}
