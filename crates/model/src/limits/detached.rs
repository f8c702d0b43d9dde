//! Bounds of detached processes.

use std::time::Duration;

/// Logs of detached processes that a node keeps. When another one is made the oldest goes whose
/// process has ended; where all of them run the process is refused.
pub const DETACHED_LOGS: usize = 1_024;
/// How long the start of a detached process may take, and how long another one waits for its turn
/// on that node. Beyond it the start is refused; a program that the system is still loading then,
/// from a file system that hangs, may begin all the same.
pub const DETACH_TIME: Duration = Duration::from_secs(10);
/// Nodes on which one command starts a detached process at once, however high its throttle is: each
/// takes a connection of its own.
pub const DETACHES_AT_ONCE: usize = 256;
