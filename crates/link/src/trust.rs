//! Who a certificate says its holder is. The role is in the subject alternative names, the name in
//! the subject, and the identity is the hash of the key itself; nothing else is believed.

use std::fmt;

use rustls::pki_types::CertificateDer;
use sortie_model::{NodeId, NodeName};
use sortie_wire::permit::Role;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Every node's certificate is valid for this name, and no user's is.
pub(crate) const ANY_NODE: &str = "node.sortie";
/// Every user's certificate is valid for this name, and no node's is.
pub(crate) const ANY_USER: &str = "user.sortie";

/// The other side of a link, from its certificate alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A member of the cluster.
    Node {
        /// The hash of its key.
        id: NodeId,
        /// The name that the CA gave it.
        name: NodeName,
    },
    /// A person or program that opens sessions.
    User {
        /// The name that the CA gave it, for people: at most 64 bytes, without control characters.
        name: String,
        /// The hash of its key: the user's identity.
        key: NodeId,
    },
}

impl Peer {
    /// What its certificate makes of it.
    pub const fn role(&self) -> Role {
        match self {
            Self::Node { .. } => Role::Node,
            Self::User { .. } => Role::User,
        }
    }

    /// The hash of its key.
    pub const fn key(&self) -> NodeId {
        match self {
            Self::Node { id, .. } => *id,
            Self::User { key, .. } => *key,
        }
    }

    /// Reads a certificate whose chain was verified already.
    pub(crate) fn of_certificate(der: &CertificateDer<'_>) -> Result<Self, CertificateFault> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| CertificateFault::Unreadable)?;
        let key = NodeId::of_public_key(certificate.public_key().raw);
        let name = certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .ok_or(CertificateFault::NoName)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| CertificateFault::Unreadable)?
            .ok_or(CertificateFault::NoRole)?;
        let says = |wanted: &str| {
            let mut names = names.value.general_names.iter();
            names.any(|name| matches!(name, GeneralName::DNSName(name) if *name == wanted))
        };
        match (says(ANY_NODE), says(ANY_USER)) {
            (true, false) if says(&node_host(key)) => Ok(Self::Node {
                id: key,
                name: name.parse().map_err(|_| CertificateFault::NoName)?,
            }),
            (false, true) => Ok(Self::User { name: name.to_owned(), key }),
            _ => Err(CertificateFault::NoRole),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { name, .. } => write!(f, "node {name}"),
            Self::User { name, .. } => write!(f, "user {name}"),
        }
    }
}

/// The name for which one node's certificate alone is valid.
pub(crate) fn node_host(id: NodeId) -> String {
    format!("{id}.{ANY_NODE}")
}

/// A certificate of our CA that says nothing we understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Not an X.509 certificate.
    #[error("it cannot be read")]
    Unreadable,
    /// No usable name in its subject.
    #[error("it names nobody")]
    NoName,
    /// Neither a node's nor a user's, or another key's.
    #[error("it says neither `node` nor `user` for its own key")]
    NoRole,
}
