//! Every bound of the system, with its unit. What happens at a bound is said here and tested where
//! it is enforced; `docs/semantics.md` gives the rules for users.

mod client;
mod detached;
mod kept;
mod silence;
mod store;

use std::time::Duration;

pub use client::*;
pub use detached::*;
pub use kept::*;
pub use silence::*;
pub use store::*;

/// One kibibyte in bytes.
pub const KIB: usize = 1 << 10;
/// One mebibyte in bytes.
pub const MIB: usize = 1 << 20;
/// One gibibyte in bytes.
pub const GIB: u64 = 1 << 30;

// Names and texts, in bytes. Longer ones are refused where they are given.
/// A node's name: fits a DNS label.
pub const NODE_NAME_BYTES: usize = 63;
/// A job's or session's name.
pub const ENTRY_NAME_BYTES: usize = 255;
/// An idempotency key.
pub const IDEMPOTENCY_KEY_BYTES: usize = 128;
/// A node expression or a selector, as typed.
pub const EXPRESSION_BYTES: usize = 64 * KIB;
/// Names that one node expression or nodes file may expand to; more is an error.
pub const EXPRESSION_NODES: usize = 65_536;
/// Globs, labels and groups in one node expression: what it may cost per member.
pub const EXPRESSION_PATTERNS: usize = 1_024;
/// Nesting of a node expression's operators.
pub const EXPRESSION_DEPTH: usize = 64;
/// A message of an error that crosses a link; longer ones are cut with `…`.
pub const ERROR_TEXT_BYTES: usize = 4 * KIB;
/// A command shown in a view; longer ones are cut with `…`.
pub const COMMAND_SHOWN_BYTES: usize = 4 * KIB;
/// Children whose locations a parent's `location` names before `,…`.
pub const LOCATIONS_SHOWN: usize = 32;
/// Child ids in a view of one job.
pub const CHILD_IDS_SHOWN: usize = 1_000;

// Submissions.
/// Children of one job. A start that names more is refused; a map that has as many reads no further
/// input, and its job's notes say so.
pub const CHILDREN_PER_JOB: u32 = 16_000_000;
/// Children of one job in progress at once, unless the submission says otherwise.
pub const THROTTLE_DEFAULT: u32 = 32;
/// Children of one job in progress at once where its throttle allows more: the others wait as they
/// do for a throttle.
pub const IN_PROGRESS_PER_JOB: u32 = 1_000_000;
/// Unfinished children that a job hands to one node when its throttle is unlimited.
pub const UNFINISHED_PER_NODE: u32 = 4_096;
/// Items of a map that are read ahead of their start.
pub const MAP_READ_AHEAD: usize = 8_192;
/// Items of a map that are read ahead when each is as long as can be.
pub const MAP_READ_AHEAD_LEAST: usize = 16;
/// Bytes of items of a map that are read ahead, as far as the last ones foretell the next ones'.
pub const MAP_READ_AHEAD_BYTES: usize = 16 * MIB;
/// What an item of a map is taken to be long before one came, in bytes.
pub const MAP_ITEM_BYTES_FORETOLD: usize = 16 * KIB;
/// One line of a map, in bytes; a longer one is an error before it runs.
pub const MAP_LINE_BYTES: usize = MIB;
/// Arguments, environment and script of one submission, in bytes, and by itself the text that is
/// shown for it. A session refuses more before any job exists, and a host closes the connection.
pub const SPEC_BYTES: usize = 4 * MIB;
/// What a host is told of a job besides its submission, in bytes: numbers and a node's name.
pub const HOST_SPEC_OVERHEAD_BYTES: usize = KIB;
/// Input that `start` and `invoke --as-job` store for a job, in bytes.
pub const STORED_INPUT_BYTES: u64 = 4 * GIB;
/// Idempotency keys that one session remembers; the oldest of removed jobs goes first, and when all
/// belong to jobs that are there a start is refused.
pub const KEYS_PER_SESSION: usize = 65_536;
/// How long a key is remembered after its job was removed.
pub const KEY_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Jobs of one session, besides those only in its journal; a start beyond it is refused.
pub const JOBS_PER_SESSION: usize = 1_000_000;
/// Sessions of one node; opening one beyond it is refused. As many can another node have hosted
/// here; one more closes the connection as refused.
pub const SESSIONS_PER_NODE: usize = 10_000;
/// How long a session may be idle before it is closed, unless it was opened with another time.
pub const SESSION_IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// The shortest time that a session may be opened with; a shorter one is a usage error.
pub const SESSION_IDLE_LEAST: Duration = Duration::from_secs(60);
/// The longest time that a session may be opened with; a longer one is a usage error.
pub const SESSION_IDLE_MOST: Duration = LONGEST;
/// Variables and working directory that are set in one session, in bytes; a change that passes it
/// is refused.
pub const SESSION_SCOPE_BYTES: usize = MIB;
/// Jobs of one session of another node that are hosted here: no fewer than a session that keeps
/// its own bounds can have, since each has a key. One more closes the connection as garbage.
pub const HOSTED_JOBS: usize = KEYS_PER_SESSION;
/// Unfinished children that all sessions of another node have here; a start that passes it closes
/// the connection as garbage. No single job comes near it ([`IN_PROGRESS_PER_JOB`]).
pub const HOSTED_CHILDREN: u64 = 4_000_000;
/// Children of one session that stops named before their starts came; of more than that the start
/// begins them, and a stop behind it ends them.
pub const STOPPED_UNBORN: usize = IN_PROGRESS_PER_JOB as usize;
/// What the specs of one session's jobs that are hosted here take, in bytes; a start that passes
/// it closes the connection as garbage.
pub const HOSTED_SPECS_BYTES: usize = GIB as usize;
/// What the checkpoints take, in bytes, that came with the starts of one session's functions here;
/// a start that passes it closes the connection as garbage.
pub const HOSTED_CHECKPOINTS_BYTES: usize = GIB as usize;

// Mailboxes, in bytes unless said otherwise.
/// What one mailbox keeps in memory before it writes to its file.
pub const MAILBOX_MEMORY_BYTES: usize = MIB;
/// What all mailboxes of a node keep in memory.
pub const NODE_MAILBOX_MEMORY_BYTES: usize = 256 * MIB;
/// Quota of one mailbox: there the session's output policy acts.
pub const MAILBOX_QUOTA_BYTES: u64 = 4 * GIB;
/// The smallest quota of a mailbox that a session may be opened with: what is under way when it is
/// reached may pass it by as much. [`MAILBOX_QUOTA_BYTES`] is the largest.
pub const MAILBOX_QUOTA_LEAST: u64 = CHILD_CREDIT_BYTES as u64;
/// Output of a child beyond its quota that is stored while it is being stopped: what was under
/// credit, what its guardian keeps, and what its pipes hold. What a stopped child makes beyond that
/// is dropped and counted.
pub const STOP_OUTPUT_BYTES: usize = 8 * MIB;
/// Quota of all mailboxes of a node.
pub const NODE_QUOTA_BYTES: u64 = 64 * GIB;
/// Free disk that spilling never uses: the smaller of this and 5 % of the disk.
pub const DISK_RESERVE_BYTES: u64 = GIB;
/// Mailbox files that are open at once; others are reopened on need.
pub const OPEN_MAILBOX_FILES: usize = 512;
/// Offers of one mailbox in flight; one more receive waits for a place.
pub const OFFERS_PER_MAILBOX: usize = 16;
/// One record's body, and one read of a pipe.
pub const RECORD_BYTES: usize = 256 * KIB;
/// What a record takes in a mailbox beside its body, in bytes: number, time, length twice. Quotas
/// count it.
pub const RECORD_OVERHEAD_BYTES: u64 = 24;
/// A mailbox with no more than this, in bytes and in records ...
pub const COMPACT_MAILBOX_BYTES: usize = 2 * KIB;
/// ... is kept in one small block.
pub const COMPACT_MAILBOX_RECORDS: usize = 8;
/// Bodies from this size on are kept in a mailbox as they came; smaller ones are copied together,
/// so that none of them keeps the large buffer alive that it arrived in.
pub const OWN_BUFFER_BYTES: usize = 16 * KIB;
/// Files shared by small mailboxes, those of persistent output, and others where freed space cannot
/// be given back piece by piece: a new one is begun at this size.
pub const SEGMENT_BYTES: u64 = 64 * MIB as u64;
/// Freed stretches of files that wait to be given back; beyond it the one who frees gives back.
pub const HOLES_QUEUED: usize = 1_024;
/// One value of a function, encoded, and the weight that a live one may declare; a larger one fails
/// the child with `limit{value}`.
pub const VALUE_BYTES: usize = 8 * MIB;
/// What holding a live value takes beside the weight that it declares, in bytes: it counts with it.
pub const LIVE_VALUE_BYTES: usize = 96;
/// Live values that a mailbox writes to its file lie together, and are read and given back
/// together, up to so many bytes (one value may pass it).
pub const LIVE_RUN_BYTES: u64 = 64 * KIB as u64;
/// Bytes of encoded live values that one write to a mailbox's file holds in memory (one value may
/// pass it): what they declare to weigh says nothing about it.
pub const LIVE_WRITE_BYTES: usize = 8 * MIB;
/// Records in one batch of a receive, by count.
pub const BATCH_RECORDS: usize = 4_096;
/// Records in one batch of a receive, by bytes (one record may pass it).
pub const BATCH_BYTES: usize = MIB;

// Links.
/// Unacknowledged output of one child, on its executing node and in flight.
pub const CHILD_CREDIT_BYTES: usize = MIB;
/// The same for all children of one link, in all sessions of its owner node; at it they pause.
pub const LINK_CREDIT_BYTES: usize = 64 * MIB;
/// The part of it for what rides shared streams; the rest is for children's own streams.
pub const LINK_SHARED_CREDIT_BYTES: usize = 16 * MIB;
/// Output of a child that rides the shared stream; what comes after gets a stream of its own.
pub const INLINE_BYTES: usize = 16 * KIB;
/// Lives of a child whose output may ride the shared stream; that of later ones goes a stream of
/// their own at once. Together they stay below what a mailbox takes beyond its quota
/// ([`CHILD_CREDIT_BYTES`]), so that no child fills its mailbox on a stream that others share.
pub const INLINE_LIVES: u32 = (CHILD_CREDIT_BYTES / INLINE_BYTES / 2) as u32;
/// One control frame, after the hello.
pub const FRAME_BYTES: usize = 16 * MIB;
/// The hello and its answer: what a peer can make us read before we know it.
pub const HELLO_FRAME_BYTES: usize = 4 * KIB;
/// One message of the join, request or answer.
pub const JOIN_FRAME_BYTES: usize = 256 * KIB;
/// Items in one batched message (starts, ends, records).
pub const FRAME_ITEMS: usize = 4_096;
/// Control frames that wait to be written; beyond it the link is closed as too slow.
pub const CONTROL_QUEUE_FRAMES: usize = 65_536;
/// Streams of each kind that a peer may have open at once.
pub const STREAMS_PER_LINK: u32 = 4_096;
/// Streams of each kind that a peer may open at first; it doubles as they are taken, up to
/// [`STREAMS_PER_LINK`]. The QUIC library pays for each stream that may be opened (0.1 KiB and
/// 50 ns), not for each that is.
pub const STREAMS_AT_FIRST: u32 = 64;
/// QUIC window of one stream.
pub const STREAM_WINDOW_BYTES: u32 = 4 * MIB as u32;
/// QUIC window of one connection; covers the streams that may stall within the link's credit.
pub const CONNECTION_WINDOW_BYTES: u32 = 128 * MIB as u32;
/// Socket buffers that we ask the system for.
pub const SOCKET_BUFFER_BYTES: usize = 8 * MIB;
/// Handshakes under way at once; more are refused.
pub const INCOMING_HANDSHAKES: usize = 256;
/// Handshakes under way above which a peer must first prove its address.
pub const RETRY_ABOVE_HANDSHAKES: usize = 32;
/// Bytes buffered for one handshake that was not accepted yet.
pub const INCOMING_BUFFER_BYTES: u64 = 64 * KIB as u64;
/// The same for all of them.
pub const INCOMING_BUFFER_TOTAL_BYTES: u64 = 4 * MIB as u64;
/// Links of one node, users' connections included.
pub const LINKS_PER_NODE: usize = 4_096;
/// Requests of one user's connection that are served at once; the next ones wait. Monitors of one
/// node's children at another one; more are refused.
pub const REQUESTS_PER_LINK: usize = 1_024;
/// From the first packet to the acknowledged hello.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// How long a start waits for the first connection to a node, unless the submission says otherwise.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);
/// QUIC idle time-out.
pub const LINK_IDLE: Duration = Duration::from_secs(30);
/// QUIC keep-alive.
pub const LINK_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// First wait between two dials of one peer; doubles, with jitter.
pub const REDIAL_FIRST: Duration = Duration::from_millis(100);
/// Longest wait between two dials of one peer.
pub const REDIAL_LONGEST: Duration = Duration::from_secs(5);
/// Bytes of control frames that wait to be written; beyond it the link is closed as too slow.
pub const CONTROL_QUEUE_BYTES: usize = 64 * MIB;
/// QUIC window of a connection whose hello was not accepted yet.
pub const STRANGER_WINDOW_BYTES: u32 = 64 * KIB as u32;
/// New links and joins that wait for their node to look at them; more handshakes wait.
pub const ARRIVALS: usize = 64;
/// Largest UDP payload that we try, where the path carries it; with segmentation offload larger
/// ones were measured to fail.
pub const DATAGRAM_BYTES: u16 = 6_000;
/// What a node that ends waits for its children to be gone, and what closing its endpoint waits for
/// the other sides to hear of it.
pub const CLOSE_TIME: Duration = Duration::from_secs(1);
/// The text that goes with the closing of a link.
pub const CLOSE_TEXT_BYTES: usize = 256;

// Bodies.
/// Grace between the stop signal and the kill, unless the submission or the stop says otherwise.
pub const GRACE: Duration = Duration::from_secs(10);
/// What `stop` waits beyond the grace before it returns.
pub const STOP_MARGIN: Duration = Duration::from_secs(5);
/// What `suspend` and `resume` wait before they return: what has not come to it by then shows its
/// state, and comes to it later.
pub const SUSPEND_WAIT: Duration = Duration::from_secs(5);
/// Reports of one session that its owner has not stored: from there on, words about children that
/// were suspended or resumed wait, the last one of each child. The owner has so many of them in
/// work at once.
pub const REPORTS_AHEAD: usize = 1_024;
/// How long a process's pipes are read after its end, unless the submission says otherwise.
pub const DRAIN: Duration = Duration::from_secs(2);
/// Pipes between us and a process that writes much.
pub const PIPE_BYTES: usize = MIB;
/// Process children of one session that run on a node at once; more wait in their host's queue.
pub const PROCESSES_PER_NODE: usize = 6_144;
/// Function children of one group; an ended one's few words are freed with the last of its group.
pub const SLOTS_PER_GROUP: usize = 256;
/// Input bytes on their way to one child, and how far a writer is ahead of the slowest child when
/// it waits for them.
pub const INPUT_WINDOW_BYTES: usize = MIB;
/// Input bytes on their way to all children of one link; a child gets at most what is left.
pub const LINK_INPUT_BYTES: usize = 32 * MIB;
/// Input bytes that may be on their way to a child in any case, beside [`LINK_INPUT_BYTES`].
pub const INPUT_LEAST_BYTES: usize = 8 * KIB;
/// Input bytes that a child has read and its owner has not been told.
pub const INPUT_UNTOLD_BYTES: u64 = 64 * KIB as u64;

// Questions.
/// The prompt of a child's question, in bytes; a longer one is an error of `ask`.
pub const PROMPT_BYTES: usize = 4 * KIB;
/// The mark of a process's prompt, in bytes; a longer one is refused.
pub const PROMPT_MARK_BYTES: usize = 256;
/// The encoded answer to a child's question, in bytes; a longer one is refused.
pub const ANSWER_BYTES: usize = 64 * KIB;
/// The encoded value of a function's checkpoint, in bytes; a longer one is an error of
/// `checkpoint`.
pub const CHECKPOINT_BYTES: usize = 64 * KIB;
/// The last checkpoints of one job's children on one node; where another one has no room, the one
/// before of its child stays.
pub const CHECKPOINTS_BYTES: usize = 64 * MIB;

// Messages to running children.
/// Messages in one child's inbox; at it senders wait.
pub const INBOX_MESSAGES: usize = 256;
/// Bytes of messages in one child's inbox; at it senders wait.
pub const INBOX_BYTES: usize = MIB;
/// One message to a child, or one answer, in bytes; a longer one is refused where it is made.
pub const MESSAGE_BYTES: usize = 64 * KIB;
/// Calls of one child that were sent and not answered; at it callers wait.
pub const CALLS_PER_CHILD: usize = 64;
/// Senders that wait for one child's inbox, each with one message; more are refused.
pub const SENDERS_PER_CHILD: usize = 256;
/// Messages that one user's connection, or one node's children at another one, send at once, each
/// until it is accepted, and a call until it is answered; more are refused. They take none of the
/// [`REQUESTS_PER_LINK`].
pub const MESSAGES_PER_LINK: usize = 1_024;
/// Sessions in which one user's connection is present, each by a request that stays open: temporary
/// ones, and held ones for as long as a handle on them is there; more are refused. They take none
/// of the [`REQUESTS_PER_LINK`].
pub const PRESENCES_PER_LINK: usize = 1_024;
/// What an owner has to say to the inboxes of one session on one node and has not said; a node that
/// makes more by saying the same again and again is not spoken to any more.
pub const INBOX_ERRANDS: usize = 65_536;
/// How long the end of a child waits until its owner has heard what its inbox said last.
pub const INBOX_CLOSE_TIME: Duration = LEASE;

// Cluster.
/// Members of one cluster; a join beyond it is refused.
pub const MEMBERS: usize = 65_536;
/// Labels of one node; a change that passes it is refused.
pub const LABELS_PER_NODE: usize = 64;
/// How long a join token works.
pub const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);
/// Join tokens that are out at once; more are refused.
pub const TOKENS: usize = 1_024;
/// Wrong tokens after which joins are refused until the next minute.
pub const WRONG_TOKENS_PER_MINUTE: u32 = 20;

// Trees of jobs.
/// Levels of jobs below jobs: a child that deep gets no session for jobs of its own.
pub const TREE_LEVELS: u32 = 16;
/// What the end of a child waits, beyond the grace, for what is below it; what is left then is
/// killed and not waited for.
pub const TREE_STOP_MARGIN: Duration = Duration::from_secs(2);
/// Requests of one background function to its node at once; the next ones wait. Well below the
/// descriptors that a process may have open, of which each takes one on both sides.
pub const EXCHANGES_PER_WORKER: usize = 256;

/// Children that a monitor looks at before it tells what it saw; it looks at all of them when it
/// begins, and when it was too slow to hear every word.
pub const MONITOR_LOOK: u32 = 256;

/// Bonds between unfinished jobs of one session; one more is refused.
pub const BONDS_PER_SESSION: usize = 65_536;

// Restarts.
/// Restarts of a job's children within [`RESTART_PERIOD_DEFAULT`], unless the submission says
/// otherwise; one more, and the job gives up.
pub const RESTARTS_DEFAULT: u32 = 1;
/// The time in which they are counted.
pub const RESTART_PERIOD_DEFAULT: Duration = Duration::from_secs(5);
/// Restarts that a submission may allow within its period: a moment is kept for each.
pub const RESTARTS_MOST: u32 = 100_000;
/// The longest period in which restarts are counted.
pub const RESTART_PERIOD_LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// The longest wait between a child's end and its next start.
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(24 * 3600);

// Views.
/// Entries in one page of `get`, unless the query says otherwise.
pub const PAGE: usize = 1_000;
/// Entries in one page, whatever the query says.
pub const PAGE_MOST: usize = 10_000;
/// Last error lines that `explain` shows.
pub const EXPLAIN_LINES: usize = 20;
/// Events that wait for a slow watcher; beyond it the watcher is told how many it missed.
pub const EVENTS_QUEUED: usize = 4_096;

// Quantities.
/// The longest duration that can be typed: what every timer takes.
pub const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);

// The guardian.
/// How long a guardian may take to answer its first request.
pub const GUARDIAN_HELLO: Duration = Duration::from_secs(5);
/// Requests to a guardian that wait to be written, in bytes; beyond it starts wait, and signals
/// that are not kills are dropped.
pub const GUARDIAN_OUTBOX_BYTES: usize = 4 * MIB;
/// Reports of a guardian that wait to be written, in writes; beyond it the guardian starts nothing.
pub const GUARDIAN_WRITES_QUEUED: usize = 64;
/// Children that wait in a guardian for their start, in bytes of their programs and environments;
/// beyond it the guardian reads no more requests until it has started some.
pub const GUARDIAN_QUEUE_BYTES: usize = 64 * MIB;
/// How long a guardian that ends waits for processes which it has killed.
pub const GUARDIAN_END: Duration = Duration::from_secs(10);
/// Children that a guardian starts before it looks again for ends, kills and signals.
pub const GUARDIAN_STARTS_AT_ONCE: usize = 8;

// Receives and other answers.
/// Bytes that one receive has delivered and that were not acknowledged; records count their
/// overhead. At it the receive waits for its reader.
pub const RECEIVE_WINDOW_BYTES: u64 = 16 * MIB as u64;
/// Offers of one mailbox that one receive holds at once. Less than [`OFFERS_PER_MAILBOX`], so that
/// a reader that does not acknowledge leaves others a place.
pub const RECEIVE_OFFERS: u32 = 12;
/// Failed children whose reasons a receive reports; how many there are stands in the job's tally.
pub const FAILURES_SHOWN: usize = 1_000;
/// What the entries of one answer take, in bytes: a longer list is cut, and says so by its total.
pub const ENTRIES_BYTES: usize = FRAME_BYTES / 2;
/// Children that `explain` shows of one job.
pub const EXPLAIN_CHILDREN: usize = 20;
/// Bytes of one line that `explain` shows.
pub const EXPLAIN_LINE_BYTES: usize = KIB;
/// Messages and reports that follow one another more closely than this are gathered and written
/// together; one that comes alone goes at once.
pub const CLOSELY: Duration = Duration::from_micros(50);
