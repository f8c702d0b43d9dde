//! Detached processes, which belong to no session and no job (`docs/semantics.md`, section 3.8).

use serde::{Deserialize, Serialize};

use crate::NodeName;
use crate::spec::{BodySpec, EnvironmentSpec, OsBytes};

/// A process that is to be detached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachSpec {
    /// What it executes: a command or a script.
    pub body: BodySpec,
    /// Its working directory; else the inherited one, else the home of the node's user.
    pub directory: Option<OsBytes>,
    /// Its environment, without what a job's child would find of its session and job.
    pub environment: EnvironmentSpec,
}

/// A process that was detached, as its node tells of it. The node forgets it with this answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// Where it runs.
    pub node: NodeName,
    /// Its process id, which is that of its session and its process group, too.
    pub pid: u32,
    /// The file on that node to which its standard output and error output go.
    pub log: OsBytes,
}
