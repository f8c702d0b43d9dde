//! Bounds of what outlives its node.

use std::time::Duration;

use super::{COMPACT_MAILBOX_BYTES, KIB, MIB, NODE_QUOTA_BYTES};

// The journal.
/// Requests that wait for the journal's writer; one more is refused as busy.
pub const JOURNAL_QUEUE: usize = 4_096;
/// What the requests that wait for the journal's writer take, in bytes; one more is refused as
/// busy.
pub const JOURNAL_QUEUE_BYTES: usize = 64 * MIB;
/// What one commit of the journal gathers at most, in bytes (one request may pass it).
pub const JOURNAL_GROUP_BYTES: usize = 4 * MIB;
/// Changes of one request to the journal, and children whose rows one change brings by themselves:
/// a request with more is refused.
pub const JOURNAL_CHANGES: usize = 65_536;
/// What the journal has written and not synced, in bytes, because nobody asked for more: at it the
/// next commit is synced.
pub const JOURNAL_UNSYNCED_BYTES: usize = 16 * MIB;
/// Memory in which the journal keeps pages of its file.
pub const JOURNAL_CACHE_BYTES: usize = 32 * MIB;
/// A journal up to this size is read whole at each start, and each page checked.
pub const JOURNAL_CHECKED_BYTES: u64 = 256 * MIB as u64;
/// Disk that is kept for the journal alone, so that stops and ends fit when the disk is full.
pub const JOURNAL_RESERVE_BYTES: u64 = 16 * MIB as u64;
/// How long a journal that gave up its reserve waits before it tries to have it again.
pub const JOURNAL_RESERVE_RETRY: Duration = Duration::from_secs(1);
/// The pause before a child for which the disk had no room is started again.
pub const START_ROOM_RETRY: Duration = Duration::from_millis(500);
/// What a child left unread that goes into the journal instead of into a file of its own, in bytes;
/// more goes into a file.
pub const INLINE_OUTPUT_BYTES: usize = COMPACT_MAILBOX_BYTES + 64;
/// Rows that one commit of the journal removes of what was removed by name: a job of a million
/// children, or a session of a million jobs, goes in steps.
pub const JOURNAL_PURGE_ROWS: usize = 512;
/// How long the end of a child waits until what it said is on the disk: one that takes nothing
/// holds up its job no longer than that, and the output is kept when it takes some again.
pub const OUTPUT_WAIT: Duration = Duration::from_secs(2);
/// The same where it was waited for in vain before.
pub const OUTPUT_LOOK: Duration = Duration::from_millis(100);
/// How long the checkpoint of a function that runs may wait until it is in the journal of its node;
/// that of one that stands still does not.
pub const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);
/// Checkpoints on their way to the node that keeps them, of one session's functions on another one,
/// in bytes; the others wait, and the last one of each child counts.
pub const CHECKPOINTS_AHEAD_BYTES: usize = MIB;
/// What a checkpoint on its way counts beside its value, in bytes.
pub const CHECKPOINT_OVERHEAD_BYTES: usize = 256;
/// Bytes that wait to be written to a control stream beyond which starts with checkpoints are not
/// added to them, and are tried again later.
pub const CONTROL_CHECKPOINTS_BYTES: usize = 8 * MIB;
/// How long a node that is stopped waits until the ends of its jobs are on the disk, with what they
/// said: longer than [`OUTPUT_WAIT`]. What takes longer counts as stopped, and its last output is
/// lost.
pub const KEEP_TIME: Duration = Duration::from_secs(4);
/// Rows in one answer of the journal; a longer page is cut to it.
pub const JOURNAL_PAGE: usize = 65_536;

// Output of persistent sessions.
/// How long what came new into a mailbox may wait for its way to the disk, if nobody waits for it.
pub const OUTPUT_STORED_WITHIN: Duration = Duration::from_millis(50);
/// What one round of storing takes out of one job's mailboxes into memory, in bytes; from this much
/// on the next one begins at once.
pub const OUTPUT_ROUND_BYTES: usize = MIB;
/// Children of one job whose output one round stores; others wait for the next.
pub const OUTPUT_ROUND_CHILDREN: usize = 64;
/// Files of one round that are written and synced at once; others follow behind one of them.
pub const OUTPUT_WRITERS: usize = 8;
/// Jobs of a node whose output is stored at once; others wait for one of them.
pub const OUTPUT_ROUNDS: usize = 8;
/// Files with output that stay open between two rounds, of all jobs together; beyond it a job
/// closes its own.
pub const OUTPUT_FILES_OPEN: usize = 256;
/// A file with output that has as much, in bytes, is sealed when it is closed: opening it again
/// reads no more.
pub const OUTPUT_REREAD_BYTES: u64 = 256 * KIB as u64;
/// How long output that the disk refused waits before it is tried again.
pub const OUTPUT_RETRY: Duration = Duration::from_millis(500);
/// How often output that cannot be read is tried before a mailbox does without it until the node's
/// next start, [`OUTPUT_RETRY`] apart.
pub const OUTPUT_READ_TRIES: u32 = 20;
/// Files with output that are removed before others get their turn.
pub const OUTPUT_REMOVED_AT_ONCE: usize = 64;

// History.
/// Finished jobs of one session that stay in memory, or were brought back into it, for who reads
/// them next; beyond it those go that are there longest, as soon as nobody uses them.
pub const JOBS_BROUGHT: usize = 1_024;
/// Children that those jobs have together; beyond it the same go, but for the last one.
pub const CHILDREN_BROUGHT: u64 = 65_536;
/// A command of a finished job that stays in memory when the job does not, in bytes: a filter by
/// command reads longer ones from the disk.
pub const ARCHIVED_COMMAND_BYTES: usize = 128;
/// Finished jobs that one receive has brought back into memory at once; it reads the others after
/// them.
pub const JOBS_RECEIVED_AT_ONCE: usize = 64;
/// Stretches of one child's records that are known to be taken although what comes before them is
/// not, since another reader has it in hand: what is taken beyond may come again after the node's
/// death.
pub const TAKEN_APART: usize = 256;
/// Bytes of the items of a finished map that stay as long as the job does, to be shown with its
/// children; of a map with more none stay.
pub const MAP_KEPT_BYTES: u64 = MIB as u64;
/// How long input of a job that outlives its node may have come before it is brought to the disk;
/// what came within that time before the node's death, and the time that the disk takes, may be
/// lost.
pub const INPUT_KEPT: Duration = Duration::from_millis(100);
/// How often the start of a node tries to read a stored input that the system does not give,
/// before it fails.
pub const INPUT_OPEN_TRIES: u32 = 10;
/// Finished jobs that a node keeps, all sessions together; beyond it the longest finished go.
pub const HISTORY_JOBS: u64 = 1_000_000;
/// How long a node keeps a finished job.
pub const HISTORY_AGE: Duration = Duration::from_secs(30 * 86_400);
/// Disk that a node keeps for finished jobs, in bytes; beyond it the longest finished go.
pub const HISTORY_BYTES: u64 = NODE_QUOTA_BYTES;
/// How long a receive waits for its reader to confirm something, where that makes room for output
/// which has yet to come back from a full disk.
pub const ROOM_CONFIRMED_WITHIN: Duration = Duration::from_secs(20);
