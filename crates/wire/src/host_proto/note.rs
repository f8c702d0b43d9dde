//! What an executing node notes with its guardian of a child of another node's session: enough for
//! its next daemon to go on with it and to report to its owner.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sortie_model::spec::{BodySpec, EnvironmentSpec};
use sortie_model::{JobInstance, NodeId, SessionInstance};

use crate::codec::{decode, encode};
use crate::host_proto::HostSpec;

/// The layout of a note. A daemon refuses others.
const VERSION: u8 = 1;

/// Whose child it is, and how it is looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedNote {
    /// The owner's node.
    pub owner: NodeId,
    /// The session.
    pub session: SessionInstance,
    /// The job.
    pub job: JobInstance,
    /// The child's number in the session.
    pub id: u64,
    /// The job's, without what was needed to begin it.
    pub spec: HostSpec,
}

impl HostedNote {
    /// A note about a child of that job.
    pub fn new(
        (owner, session): (NodeId, SessionInstance),
        (job, id): (JobInstance, u64),
        spec: &HostSpec,
    ) -> Self {
        let spec = HostSpec {
            body: BodySpec::Command { words: Vec::new() },
            environment: EnvironmentSpec::default(),
            directory: None,
            init: None,
            ..spec.clone()
        };
        Self { owner, session, job, id, spec }
    }

    /// As it is kept; none of a note that is too long, which no note is.
    pub fn to_bytes(&self) -> Option<Bytes> {
        let mut bytes = vec![VERSION];
        bytes.extend(encode(self).ok()?);
        Some(bytes.into())
    }

    /// A note that was kept; none of one that is damaged or newer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        (*version == VERSION).then(|| decode(0, rest).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sortie_model::limits;
    use sortie_model::spec::{Hosting, InputSpec};
    use uuid::Uuid;

    use super::*;

    fn note() -> HostedNote {
        let long = vec!["x".repeat(100_000).as_str().try_into().expect("no NUL")];
        let spec = HostSpec {
            body: BodySpec::Command { words: long },
            template: true,
            input: InputSpec::None,
            timeout: Some(Duration::from_secs(7)),
            grace: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            output_limit: Some(9),
            init: Some("true".repeat(10_000)),
            directory: None,
            environment: EnvironmentSpec::default(),
            hosting: Hosting::Persistent,
            session: 1,
            job: 2,
            owner_node: "owner".parse().expect("a good name"),
            level: 0,
        };
        let owner = (NodeId([3; 16]), SessionInstance(Uuid::from_u128(4)));
        HostedNote::new(owner, (JobInstance(Uuid::from_u128(5)), 6), &spec)
    }

    #[test]
    fn a_note_is_short_whatever_its_job_executes_and_comes_back() {
        let bytes = note().to_bytes().expect("short");
        assert!(bytes.len() < limits::KEPT_NOTE_BYTES / 8, "{}", bytes.len());
        assert_eq!(HostedNote::from_bytes(&bytes), Some(note()));
        assert_eq!(note().spec.timeout, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_newer_or_damaged_note_is_none() {
        let mut bytes = note().to_bytes().expect("short").to_vec();
        assert_eq!(HostedNote::from_bytes(&bytes[..bytes.len() - 1]), None);
        bytes[0] = VERSION + 1;
        assert_eq!(HostedNote::from_bytes(&bytes), None);
        assert_eq!(HostedNote::from_bytes(&[]), None);
    }
}
