//! The identities of a home: its CA if it holds one, its node's and its owner's.

use std::path::Path;

use sortie_link::{AuthorityError, CertificateAuthority, Identity, IdentityError, NodeKey, Peer};
use sortie_model::{NodeId, NodeName};

use crate::home::{DamageKind, HomeError, MakeFault, files};

const AUTHORITY: &str = "ca.pem";
const NODE: &str = "node.pem";
const USER: &str = "user.pem";
const NODE_ID: &str = "node.id";

/// Who a home's node and its owner are.
pub(crate) struct Identities {
    authority: Option<CertificateAuthority>,
    name: NodeName,
    node: Identity,
    user: Identity,
}

impl Identities {
    /// A set from its parts; the authority is there where the home holds the cluster's CA.
    ///
    /// # Errors
    /// [`HomeError::Damaged`] when an identity is of the other kind.
    pub(crate) fn new(
        authority: Option<CertificateAuthority>,
        node: Identity,
        user: Identity,
    ) -> Result<Self, HomeError> {
        let wrong = |file: &str| HomeError::damaged(Path::new(file), DamageKind::Role);
        let Peer::Node { name, .. } = node.peer() else { return Err(wrong(NODE)) };
        let Peer::User { .. } = user.peer() else { return Err(wrong(USER)) };
        Ok(Self { authority, name: name.clone(), node, user })
    }

    /// A cluster of one, written to that directory.
    pub(super) fn create(directory: &Path, name: NodeName, user: &str) -> Result<Self, HomeError> {
        let make = || -> Result<_, AuthorityError> {
            let authority = CertificateAuthority::create()?;
            let node = authority.identify_node(&NodeKey::generate()?, &name)?;
            let user = authority.identify_user(&NodeKey::generate()?, user)?;
            Ok((authority, node, user))
        };
        let (authority, node, user) = make().map_err(unmade)?;
        let identities = Self::new(Some(authority), node, user)?;
        identities.write(directory)?;
        Ok(identities)
    }

    /// What that directory holds, if it exists.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, HomeError> {
        files::recover_dir(directory)?;
        if !directory.exists() {
            return Ok(None);
        }
        Self::read_set(directory).map(Some)
    }

    /// What is in that directory.
    fn read_set(directory: &Path) -> Result<Self, HomeError> {
        let path = directory.join(AUTHORITY);
        let authority = match read_text(&path)? {
            Some(text) => {
                let read = CertificateAuthority::from_pem(&text);
                Some(read.map_err(|fault| HomeError::damaged(&path, fault))?)
            }
            None => None,
        };
        let node = read_identity(&directory.join(NODE))?;
        let user = read_identity(&directory.join(USER))?;
        Self::new(authority, node, user).map_err(|error| match error {
            HomeError::Damaged { path, fault } => {
                HomeError::Damaged { path: directory.join(path), fault }
            }
            error => error,
        })
    }

    /// Writes the set to that directory, in the place of the one that is there.
    pub(super) fn write(&self, directory: &Path) -> Result<(), HomeError> {
        let mut contents = vec![
            (NODE, self.node.to_pem().into_bytes()),
            (USER, self.user.to_pem().into_bytes()),
            (NODE_ID, format!("{}\n", self.node_id()).into_bytes()),
        ];
        if let Some(authority) = &self.authority {
            contents.push((AUTHORITY, authority.to_pem().into_bytes()));
        }
        files::replace_dir(directory, &contents)
    }

    /// The same with another name for the node; none where the CA is elsewhere.
    pub(super) fn renamed(&self, name: &NodeName) -> Option<Result<Self, HomeError>> {
        let authority = self.authority.as_ref()?;
        let rename = || {
            let key = self.node_key()?;
            let node = authority.identify_node(&key, name).map_err(unmade)?;
            // A copy by way of its text: a CA's key is no value to be cloned about.
            let again = CertificateAuthority::from_pem(&authority.to_pem()).map_err(unmade)?;
            Self::new(Some(again), node, self.user.clone())
        };
        Some(rename())
    }

    /// The CA of the cluster, if this home holds it.
    pub(crate) const fn authority(&self) -> Option<&CertificateAuthority> {
        self.authority.as_ref()
    }

    /// The node's name.
    pub(crate) const fn name(&self) -> &NodeName {
        &self.name
    }

    /// The node's id.
    pub(crate) const fn node_id(&self) -> NodeId {
        self.node.peer().key()
    }

    /// The node.
    pub(crate) const fn node(&self) -> &Identity {
        &self.node
    }

    /// The node's key, which stays the same in every cluster.
    pub(crate) fn node_key(&self) -> Result<NodeKey, HomeError> {
        NodeKey::from_pem(&self.node.to_pem())
            .map_err(|fault| HomeError::damaged(Path::new(NODE), fault))
    }

    /// The owner's key, which stays the same in every cluster.
    pub(crate) fn user_key(&self) -> Result<NodeKey, HomeError> {
        NodeKey::from_pem(&self.user.to_pem())
            .map_err(|fault| HomeError::damaged(Path::new(USER), fault))
    }
}

/// Keys are nowhere in it.
impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identities({}, {})", self.node.peer(), self.user.peer())
    }
}

/// What a client of this home's own node needs, and no file more.
pub(super) fn read_client_side(directory: &Path) -> Result<(Identity, NodeId), HomeError> {
    let user = read_identity(&directory.join(USER))?;
    Ok((user, read_node_id(directory)?))
}

/// Reads all of a directory, if it exists, and changes nothing.
pub(super) fn check(directory: &Path) -> Result<(), HomeError> {
    if !directory.exists() {
        return Ok(());
    }
    let identities = Identities::read_set(directory)?;
    match read_node_id(directory)? == identities.node_id() {
        true => Ok(()),
        false => Err(HomeError::damaged(&directory.join(NODE_ID), DamageKind::OtherNode)),
    }
}

fn read_node_id(directory: &Path) -> Result<NodeId, HomeError> {
    let path = directory.join(NODE_ID);
    let id = read_text(&path)?.ok_or_else(|| missing(&path))?;
    id.trim_end()
        .parse()
        .map_err(|fault: sortie_model::id::BadNodeId| HomeError::damaged(&path, fault))
}

fn read_identity(path: &Path) -> Result<Identity, HomeError> {
    let text = read_text(path)?.ok_or_else(|| missing(path))?;
    Identity::from_pem(&text).map_err(|fault: IdentityError| HomeError::damaged(path, fault))
}

fn read_text(path: &Path) -> Result<Option<String>, HomeError> {
    let Some(bytes) = files::read_secret(path)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| HomeError::damaged(path, DamageKind::Text))
}

fn missing(path: &Path) -> HomeError {
    HomeError::Read { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() }
}

fn unmade(fault: AuthorityError) -> HomeError {
    HomeError::Identity(MakeFault(fault))
}
