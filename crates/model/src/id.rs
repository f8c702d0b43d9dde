//! Identities. Small integers are aliases for people; UUIDs are what machines hold on to.
//! Knowing an id gives no right (`docs/semantics.md`, section 1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::limits;

/// A node's identity: the first 16 bytes of the SHA-256 of its public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 16]);

impl NodeId {
    /// The identity that belongs to a public key, given as DER-encoded `SubjectPublicKeyInfo`.
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        let digest = Sha256::digest(spki_der);
        let mut id = [0; 16];
        id.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
        Self(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// A text is not a node id: 32 lower-case hexadecimal digits are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node id has 32 hexadecimal digits")]
pub struct BadNodeId;

impl FromStr for NodeId {
    type Err = BadNodeId;

    fn from_str(text: &str) -> Result<Self, BadNodeId> {
        if text.len() != 32 || !text.is_ascii() {
            return Err(BadNodeId);
        }
        let mut id = [0; 16];
        for (slot, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| BadNodeId)?;
            *slot = u8::from_str_radix(pair, 16).map_err(|_| BadNodeId)?;
        }
        Ok(Self(id))
    }
}

/// One life of a node: microseconds since 1970 at its start, so a later life compares greater.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Incarnation(pub u64);

/// One life of a child, from 0: each restart is the next.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ChildIncarnation(pub u32);

impl ChildIncarnation {
    /// The life after this one. Saturates, which no real child reaches.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A session's small number, unique on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u32);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A session's identity, unique everywhere (UUID v7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionInstance(pub Uuid);

/// A job's or a child's small number: one counter per session covers both, and none is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId(pub u64);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job's identity, unique everywhere (UUID v7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobInstance(pub Uuid);

impl JobInstance {
    /// The identity of this job's child with that ordinal: computed, so it never travels.
    pub fn child(self, ordinal: Ordinal) -> ChildInstance {
        ChildInstance(Uuid::new_v5(&self.0, &ordinal.0.to_be_bytes()))
    }

    /// What the job is called by a node that executes it for another one's session: whatever that
    /// session calls its jobs, it means no other's.
    #[must_use]
    pub fn hosted_for(self, owner: NodeId, session: SessionInstance) -> Self {
        Self(Uuid::new_v5(&self.0, &[owner.0, session.0.into_bytes()].concat()))
    }
}

/// A child's identity, computed from its job's and its ordinal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChildInstance(pub Uuid);

macro_rules! uuid_text {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )+};
}
uuid_text!(SessionInstance, JobInstance, ChildInstance);

/// A child's place among its siblings, from 0 in child order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ordinal(pub u32);

/// How a child is named on the wire: its job and its ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChildKey {
    /// The job.
    pub job: JobInstance,
    /// The child's place in it.
    pub ordinal: Ordinal,
}

/// What can be bound to another one of its session (`docs/semantics.md`, section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Bound {
    /// A job.
    Job(JobInstance),
    /// One child of a job.
    Child(ChildKey),
}

impl Bound {
    /// The job that it is, or is a child of.
    pub const fn job(self) -> JobInstance {
        match self {
            Self::Job(job) | Self::Child(ChildKey { job, .. }) => job,
        }
    }
}

/// A record's number in its mailbox, dense from 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Seq(pub u64);

impl Seq {
    /// The number `count` records later. Saturates, which no real mailbox reaches.
    pub const fn after(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// What makes a repeated submission the same submission (`docs/semantics.md`, section 3.1): 1 to
/// [`limits::IDEMPOTENCY_KEY_BYTES`] printable ASCII characters without a space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to {} printable ASCII characters", limits::IDEMPOTENCY_KEY_BYTES)]
pub struct BadKey;

impl TryFrom<String> for IdempotencyKey {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        let fits = (1..=limits::IDEMPOTENCY_KEY_BYTES).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(BadKey)
        }
    }
}

/// A key that no other submission has, when the UUID is new.
impl From<Uuid> for IdempotencyKey {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.to_string())
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_reads_back_what_it_prints() {
        let id = NodeId::of_public_key(b"any key");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("zz".parse::<NodeId>(), Err(BadNodeId));
        assert_eq!("é".repeat(16).parse::<NodeId>(), Err(BadNodeId));
    }

    #[test]
    fn a_childs_identity_depends_on_its_job_and_its_ordinal_only() {
        let job = JobInstance(Uuid::from_u128(7));
        assert_eq!(job.child(Ordinal(3)), job.child(Ordinal(3)));
        assert_ne!(job.child(Ordinal(3)), job.child(Ordinal(4)));
        assert_ne!(job.child(Ordinal(3)), JobInstance(Uuid::from_u128(8)).child(Ordinal(3)));
    }

    #[test]
    fn a_key_is_short_and_printable() {
        assert!(IdempotencyKey::try_from("deploy-42".to_owned()).is_ok());
        for bad in ["", "two words", "tab\t", &"k".repeat(limits::IDEMPOTENCY_KEY_BYTES + 1)] {
            assert_eq!(IdempotencyKey::try_from(bad.to_owned()), Err(BadKey), "{bad:?}");
        }
    }
}
