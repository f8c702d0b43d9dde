//! Bounds of children that outlive their daemon, as their guardian keeps them.

use std::time::Duration;

use super::{GIB, KIB, MIB};

/// What a daemon notes of a kept child for the next daemon, in bytes; a longer note is refused.
pub const KEPT_NOTE_BYTES: usize = 16 * KIB;
/// What a kept child wrote and its daemon has not stored, in bytes on the disk; beyond it the
/// guardian stops reading its pipes until the daemon has.
pub const KEPT_UNSTORED_BYTES: u64 = 4 * MIB as u64;
/// The same while there is no daemon.
pub const KEPT_ALONE_BYTES: u64 = 4 * GIB;
/// What a kept child writes is freed in pieces of this size, in bytes.
pub const KEPT_SEGMENT_BYTES: u64 = MIB as u64;
/// Output that was read and could not be written, all kept children together, in bytes; beyond it
/// nothing is read until some of it could be.
pub const KEPT_UNWRITTEN_BYTES: usize = 16 * MIB;
/// How long a guardian waits until it tries again to write what could not be written, or looks
/// again whether the disk has room.
pub const KEPT_RETRY: Duration = Duration::from_millis(500);
/// Output that may be written between two looks at the disk's free room, in bytes.
pub const KEPT_DISK_CHECK_BYTES: u64 = 16 * MIB as u64;
/// How often a guardian without a daemon looks whether its directory is still there: without it
/// nobody can find what is kept, and the guardian ends.
pub const KEPT_PLACE_CHECK: Duration = Duration::from_secs(2);
/// Pipes of kept children that a guardian reads before it looks again for ends and requests.
pub const KEPT_READS_AT_ONCE: usize = 64;
/// Records that a daemon reads of a kept child without leaving its thread; more are read by a
/// thread that may wait for the disk.
pub const KEPT_RECORDS_AT_ONCE: u64 = 16;
/// Attempts to read what a kept child wrote; then its run ends as lost.
pub const KEPT_READ_ATTEMPTS: u32 = 10;
/// The pause between two of them.
pub const KEPT_READ_PAUSE: Duration = Duration::from_millis(100);
/// The least time between the launches of two guardians where one after the other dies.
pub const GUARDIAN_LAUNCH_PAUSE: Duration = Duration::from_secs(1);
/// Children that the next guardian is to forget when one has died; what of more is kept is removed
/// when their node starts again.
pub const CHILDREN_OWED_TO_GUARDIAN: usize = 65_536;
/// How long a node that leaves what outlives it to its next life waits for the other sides to hear
/// that its links are closed.
pub const LEAVE_TIME: Duration = Duration::from_millis(100);
