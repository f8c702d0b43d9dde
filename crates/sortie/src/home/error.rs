//! Why a home cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use sortie_model::NodeName;

/// Why a home cannot be used. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Another node runs with this home.
    #[error("another node runs with this home{}: {}", ProcessId(.process), .path.display())]
    InUse {
        /// Its process id, if the lock says it.
        process: Option<u32>,
        /// The lock.
        path: PathBuf,
    },
    /// A file or directory can be read or changed by others.
    #[error("others can {what} {0}; take their permissions away: `chmod go= {0}`", .path.display())]
    Exposed {
        /// `read` or `change`.
        what: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// A directory belongs to another user. Also root does not use it: what it would write there
    /// could not be read by its owner's node.
    #[error(
        "{} belongs to another user (uid {owner}): use a home of your own, `SORTIE_HOME=DIR`",
        .path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The directory of a home is not there and cannot be made.
    #[error("cannot make the folder {}", .path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is missing or cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that people edit has a mistake.
    #[error("{}:{line}: {what}", .path.display())]
    Mistake {
        /// Which.
        path: PathBuf,
        /// In which line, from 1.
        line: usize,
        /// What is wrong.
        what: Mistake,
    },
    /// A file that we wrote holds something else.
    #[error("{} is damaged: {fault}", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        fault: Damage,
    },
    /// No key or certificate could be made.
    #[error("cannot make this home's identity: {0}")]
    Identity(#[source] MakeFault),
    /// The home belongs to a node of another name, in a cluster that knows it by that name.
    #[error(
        "this home's node is called {has}, and its cluster knows it by that name; not {wanted}"
    )]
    OtherName {
        /// What it is called.
        has: NodeName,
        /// What it was to be called.
        wanted: NodeName,
    },
}

/// What is wrong in a file that people edit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// It does not have the file's form.
    #[error("{0}")]
    Form(String),
    /// A group is neither an expression nor a list of them.
    #[error("group `{0}` is neither a node expression nor a list of them, in quotes")]
    Group(String),
    /// A group's name could not be written as `@name`.
    #[error("`{0}` is no name for a group: use letters, digits, `-`, `_` and `.`")]
    GroupName(String),
    /// A group's expression is no node expression.
    #[error("group `{group}`: {fault}")]
    Expression {
        /// The group.
        group: String,
        /// What is wrong with its expression.
        fault: sortie_model::nodeset::BadNodeExpr,
    },
    /// A group names one that the file does not have.
    #[error("group `{group}` names the group `{name}`, which is not there")]
    UnknownGroup {
        /// The group.
        group: Box<str>,
        /// The one that it names.
        name: Box<str>,
    },
    /// A group names itself, directly or through others.
    #[error("group `{group}` contains itself{}", through(.others))]
    Circle {
        /// The group.
        group: Box<str>,
        /// The groups between it and itself, in order.
        others: Box<[String]>,
    },
}

fn through(others: &[String]) -> String {
    let named: Vec<String> = others.iter().map(|other| format!("`{other}`")).collect();
    if named.is_empty() { String::new() } else { format!(" through {}", named.join(", ")) }
}

/// What is wrong with a file that we wrote.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Damage(DamageKind);

#[derive(Debug, thiserror::Error)]
pub(super) enum DamageKind {
    #[error(transparent)]
    Identity(#[from] sortie_link::IdentityError),
    #[error(transparent)]
    Authority(#[from] sortie_link::AuthorityError),
    #[error(transparent)]
    NodeId(#[from] sortie_model::id::BadNodeId),
    #[error(transparent)]
    Key(#[from] sortie_link::BadPem),
    #[error("it holds another kind of identity")]
    Role,
    #[error("it is of another node than `node.pem`")]
    OtherNode,
    #[error("it is no roster")]
    Roster,
    #[error("it is no text")]
    Text,
}

/// Why no key or certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct MakeFault(pub(super) sortie_link::AuthorityError);

struct ProcessId<'a>(&'a Option<u32>);

impl std::fmt::Display for ProcessId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(process) => write!(f, " (process {process})"),
            None => Ok(()),
        }
    }
}

impl HomeError {
    pub(super) fn damaged(path: &Path, fault: impl Into<DamageKind>) -> Self {
        Self::Damaged { path: path.to_owned(), fault: Damage(fault.into()) }
    }

    /// Whether the user made a mistake that they can correct: in a file that people edit, in
    /// permissions, in where the home lies, or in the node's name.
    pub fn is_mistake(&self) -> bool {
        match self {
            Self::Mistake { .. }
            | Self::Exposed { .. }
            | Self::Foreign { .. }
            | Self::OtherName { .. }
            | Self::Make { .. } => true,
            Self::Read { source, .. } | Self::Write { source, .. } => is_of_place(source),
            _ => false,
        }
    }

    /// Whether the same home may work later: another node holds it now.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

/// Whether the error is about where a file lies or who may use it, not about the disk.
pub(crate) fn is_of_place(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem};

    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory)
}
