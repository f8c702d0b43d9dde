//! Bounds of clients: what they remember and hold, and how long they try to reach their node again.

use std::time::Duration;

use super::DISCONNECT_AFTER;

/// How long a client tries to reach its node again, unless it was told otherwise: as long as a node
/// waits for another one's children. Then what it waited for ends as lost.
pub const RECONNECT_TIME: Duration = DISCONNECT_AFTER;
/// Entries that a client names by their identity in a request that it may have to repeat, since
/// their words could mean others by then. A request about more is not repeated.
pub const REPEATED_ENTRIES: usize = 65_536;
/// Stretches of records that a reader remembers, so that what comes again after a reconnection is
/// seen once; about 40 bytes each. A reader that passes it is not connected again.
pub const READER_SPANS: usize = 1 << 20;
/// Children whose results a reader in child order receives ahead of their turn: a batch of each is
/// held, and the rest waits in their mailboxes.
pub const RESULTS_AHEAD: usize = 16;
/// Longest wait between two dials of the node of a client's own home: it is looked at first whether
/// one runs, so they cost next to nothing.
pub const REDIAL_HOME_LONGEST: Duration = Duration::from_millis(500);
