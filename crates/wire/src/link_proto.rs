//! What any two ends of a link say to each other (kinds 1 to 99).

use serde::{Deserialize, Serialize};
use sortie_model::{Incarnation, NodeId, NodeName};

use crate::frame::{Kind, Message};
use crate::remote_error::RemoteError;
use crate::version::VersionRange;

/// First message of the control stream, from the side that dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The versions it speaks.
    pub versions: VersionRange,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its program's version, for people.
    pub program: String,
    /// Its wall clock, in microseconds since 1970: shows a clock that is off.
    pub clock: i64,
    /// Where it can be dialled, if it is a node.
    pub address: Option<String>,
}

/// The answer. The link is up for the dialling side once it has this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {
    /// The version to speak from now on.
    pub version: u16,
    /// The answering node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its program's version, for people.
    pub program: String,
    /// Its wall clock, in microseconds since 1970.
    pub clock: i64,
}

/// The other answer: the link does not come up, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloRefused {
    /// Why.
    pub error: RemoteError,
}

/// Sent twice a second by both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Counts up from 1 on each connection; the hello or its acknowledgement counts as 0.
    pub number: u64,
    /// The highest number that was received on this connection; 0 before the first.
    pub heard: u64,
}

/// One member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its identity.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it listens, `host:port`.
    pub address: String,
    /// Its labels, sorted by key.
    pub labels: Vec<(String, String)>,
}

/// The members of the cluster, from the node that holds the CA; a higher version replaces a lower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Raised by every change.
    pub version: u64,
    /// The node that holds the CA.
    pub authority: NodeId,
    /// The members, sorted by name.
    pub members: Vec<Member>,
}

/// A member tells the authority what changed about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberUpdate {
    /// Its address now.
    pub address: String,
    /// Its labels now.
    pub labels: Vec<(String, String)>,
    /// The roster it has.
    pub roster_version: u64,
}

macro_rules! kinds {
    ($($message:ident = $kind:literal),+ $(,)?) => {$(
        impl Message for $message {
            const KIND: Kind = $kind;
        }
    )+};
}
pub(crate) use kinds;

kinds! { Hello = 1, HelloAck = 2, HelloRefused = 3, Heartbeat = 4, Roster = 5, MemberUpdate = 6 }
