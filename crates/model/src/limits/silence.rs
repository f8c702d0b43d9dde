//! Bounds of silence between nodes: how often one says that it is there, and what follows when it
//! does not (`docs/semantics.md`, section 4).

use std::time::Duration;

/// Time between heartbeats. A path that was cut for 5 s ends no [`LEASE`], also when one beat, its
/// answer and the first beat behind the cut are late by this much each.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// Silence after which a node is shown as suspect.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// How long children that a node sends at the beginning of a session wait for what was killed of
/// its earlier ones to be dead: shorter than a node may be silent. What the kernel does not let
/// die keeps nobody longer.
pub const DEATHS_WAIT: Duration = Duration::from_secs(2);
/// How old the newest heartbeat of ours may be that an owner is known to have heard: after that the
/// executing node kills the owner's children.
pub const LEASE: Duration = Duration::from_secs(8);
/// Heartbeats of ours on one connection that the peer has not said to have heard; beyond it the
/// oldest is forgotten, and an answer to it proves nothing. More than there are in a [`LEASE`].
pub const HEARTBEATS_UNHEARD: usize = 32;
/// Heartbeats of a peer that came since our last one: so many are answered at once, as after a
/// standstill of ours. More than come between two of ours, so that answers cause no answers.
pub const HEARTBEATS_UNANSWERED: u64 = 3;
/// Silence after which the owner ends those children as `node_lost`. Greater than [`LEASE`] by a
/// margin, and counted from a later moment, so that it never says lost while the child can still
/// succeed.
pub const LOST_AFTER: Duration = Duration::from_secs(12);
/// While nothing that was sent is acknowledged, one datagram more than the congestion window holds
/// may be in flight for each such time, so that heartbeats go out: several in a [`HEARTBEAT`],
/// since what QUIC sends of its own accord counts among them.
pub const SILENT_PATH_PROBE: Duration = Duration::from_millis(125);
/// Datagrams that may be in flight for that reason at most: as many as in a [`LEASE`].
pub const SILENT_PATH_PROBES: u64 = 64;
/// Silence after which children that run on all the same are shown as disconnected: waiters do not
/// wait for them any more.
pub const DISCONNECT_AFTER: Duration = Duration::from_secs(240);
/// Sessions that are over of which a node that is away, or about to be, is not known to have heard
/// so; beyond it the oldest is not said any more, and the node ends what it has of it after
/// [`DISCONNECT_AFTER`], as what its owner does not ask for.
pub const ENDED_SESSIONS_OWED: usize = super::SESSIONS_PER_NODE;
/// How far ahead of our clock the number of an order may be that a node says it has from us, in
/// microseconds: a year. A higher one is not believed.
pub const ORDERS_AHEAD_MICROS: u64 = 365 * 24 * 3_600 * 1_000_000;
