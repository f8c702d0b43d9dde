//! Who belongs to the cluster (`docs/cli.md`, section 3): the CA's node alone changes the roster,
//! the others keep the last one they got and work on without it.

mod checks;
#[cfg(test)]
mod tests;
pub mod tokens;

use std::collections::{BTreeMap, HashMap};

use sortie_model::nodeset::{MemberRef, Universe, natural_cmp};
use sortie_model::{NodeId, NodeName, limits};
use sortie_wire::link_proto::{Member, MemberUpdate, Roster};
use sortie_wire::remote_error::{ErrorCode, RemoteError};

pub use checks::BadMember;

/// The cluster as one node knows it.
#[derive(Debug, Clone)]
pub struct Membership {
    this: NodeId,
    roster: Roster,
    places: HashMap<NodeId, usize>,
}

/// What a new roster changed, so that links are made and closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Members that were not there before.
    pub joined: Vec<NodeId>,
    /// Members that are no longer there.
    pub left: Vec<NodeId>,
    /// Members whose name, address or labels are other ones now.
    pub changed: Vec<NodeId>,
}

/// Why a change of the roster is refused; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeRefused {
    /// This node does not hold the CA.
    #[error("only the node that holds the CA changes the cluster's members")]
    NotAuthority,
    /// The name belongs to another node.
    #[error("the name `{name}` belongs to another node of the cluster")]
    NameTaken {
        /// The name.
        name: NodeName,
    },
    /// No more members fit.
    #[error("the cluster has {} members already", limits::MEMBERS)]
    Full,
    /// No member has that identity or name.
    #[error("no node of the cluster is called `{name}`")]
    Unknown {
        /// The name, or the identity when only that is known.
        name: String,
    },
    /// The node that holds the CA cannot be removed.
    #[error("the node that holds the CA cannot be removed")]
    IsAuthority,
    /// The member's address or labels cannot be used.
    #[error(transparent)]
    BadMember(#[from] BadMember),
}

/// Why a roster that was received is not used; the old one stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RosterRefused {
    /// It did not come from the node that holds the CA, or names another one.
    #[error("a roster came from a node that does not hold the CA")]
    NotFromAuthority,
    /// It contradicts itself: a name or an identity twice, or no authority among the members.
    #[error("a roster contradicts itself")]
    Contradiction,
    /// It has more members than a cluster may have.
    #[error("a roster has more than {} members", limits::MEMBERS)]
    TooMany,
    /// A member in it cannot be used.
    #[error("a roster has a member that cannot be used")]
    BadMember(#[from] BadMember),
}

/// What a roster that was received did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It was not newer than what is known: nothing changed.
    Known,
    /// It replaced the old one.
    Replaced(Changes),
    /// It replaced the old one, and this node is no longer in it.
    Removed(Changes),
}

impl ChangeRefused {
    /// The error as it crosses a link.
    pub fn to_remote(&self) -> RemoteError {
        let (code, hint) = match self {
            Self::NotAuthority => (ErrorCode::NoAuthority, None),
            Self::NameTaken { .. } => (
                ErrorCode::NameTaken,
                Some("stop this node and run it as another: `sortie node run --name NAME`"),
            ),
            Self::Full => (ErrorCode::Limit, None),
            Self::Unknown { .. } => (ErrorCode::UnknownNode, Some("`sortie node get` lists them")),
            Self::IsAuthority | Self::BadMember(_) => (ErrorCode::Usage, None),
        };
        let error = RemoteError::new(code, self.to_string());
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl Membership {
    /// A cluster of one: this node, which holds its CA.
    ///
    /// # Errors
    /// [`BadMember`] when its address or labels cannot be used.
    pub fn alone(this: Member) -> Result<Self, BadMember> {
        let member = checks::checked(this)?;
        let this = member.node;
        let mut membership = Self {
            this,
            roster: Roster { version: 0, authority: this, members: Vec::new() },
            places: HashMap::new(),
        };
        membership.replace_members(vec![member]);
        Ok(membership)
    }

    /// The cluster that a stored roster, or the first one after a join, describes.
    ///
    /// # Errors
    /// [`RosterRefused`] when it contradicts itself or passes a bound.
    pub fn restore(this: NodeId, roster: Roster) -> Result<Self, RosterRefused> {
        let roster = checks::checked_roster(roster)?;
        let mut membership = Self { this, roster, places: HashMap::new() };
        membership.index();
        Ok(membership)
    }

    /// The roster, to be sent or stored.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Whether this node holds the CA.
    pub fn is_authority(&self) -> bool {
        self.roster.authority == self.this
    }

    /// Whether this node is the only member.
    pub fn is_alone(&self) -> bool {
        matches!(self.roster.members.as_slice(), [only] if only.node == self.this)
    }

    /// The members by name, in natural order.
    pub fn members(&self) -> &[Member] {
        &self.roster.members
    }

    /// The member with that identity.
    pub fn by_id(&self, node: NodeId) -> Option<&Member> {
        self.roster.members.get(*self.places.get(&node)?)
    }

    /// The member with that name.
    pub fn by_name(&self, name: &NodeName) -> Option<&Member> {
        let order = |member: &Member| natural_cmp(member.name.as_str(), name.as_str());
        let place = self.roster.members.binary_search_by(order).ok()?;
        self.roster.members.get(place)
    }

    /// Takes a node in, or back: a node that is a member already may come with another name.
    ///
    /// # Errors
    /// [`ChangeRefused`].
    pub fn admit(&mut self, member: Member) -> Result<Changes, ChangeRefused> {
        self.must_be_authority()?;
        let member = checks::checked(member)?;
        if self.by_name(&member.name).is_some_and(|other| other.node != member.node) {
            return Err(ChangeRefused::NameTaken { name: member.name });
        }
        if self.by_id(member.node).is_none() && self.roster.members.len() >= limits::MEMBERS {
            return Err(ChangeRefused::Full);
        }
        let mut members = self.roster.members.clone();
        members.retain(|other| other.node != member.node);
        members.push(member);
        Ok(self.replace_members(members))
    }

    /// Takes a member out.
    ///
    /// # Errors
    /// [`ChangeRefused::Unknown`], and [`ChangeRefused::IsAuthority`] for the node with the CA.
    pub fn remove(&mut self, name: &NodeName) -> Result<Changes, ChangeRefused> {
        self.must_be_authority()?;
        let node = self.named(name)?.node;
        if node == self.roster.authority {
            return Err(ChangeRefused::IsAuthority);
        }
        let mut members = self.roster.members.clone();
        members.retain(|other| other.node != node);
        Ok(self.replace_members(members))
    }

    /// Sets labels of a member; an empty value takes a label away.
    ///
    /// # Errors
    /// [`ChangeRefused`].
    pub fn set_labels(
        &mut self,
        name: &NodeName,
        labels: &[(String, String)],
    ) -> Result<Changes, ChangeRefused> {
        self.must_be_authority()?;
        let mut member = self.named(name)?.clone();
        let mut all: BTreeMap<_, _> = member.labels.into_iter().collect();
        for (key, value) in labels {
            if value.is_empty() {
                all.remove(key);
            } else {
                all.insert(key.clone(), value.clone());
            }
        }
        member.labels = all.into_iter().collect();
        self.admit(member)
    }

    /// A member said what its address and labels are now.
    ///
    /// # Errors
    /// [`ChangeRefused`].
    pub fn on_update(
        &mut self,
        node: NodeId,
        update: MemberUpdate,
    ) -> Result<Changes, ChangeRefused> {
        self.must_be_authority()?;
        let unknown = || ChangeRefused::Unknown { name: node.to_string() };
        let mut member = self.by_id(node).ok_or_else(unknown)?.clone();
        (member.address, member.labels) = (update.address, update.labels);
        self.admit(member)
    }

    /// A roster came from `sender`, whose identity the link proved.
    ///
    /// # Errors
    /// [`RosterRefused`].
    pub fn on_roster(&mut self, sender: NodeId, roster: Roster) -> Result<Received, RosterRefused> {
        if sender != self.roster.authority || roster.authority != sender || sender == self.this {
            return Err(RosterRefused::NotFromAuthority);
        }
        if roster.version <= self.roster.version {
            return Ok(Received::Known);
        }
        let old = std::mem::replace(&mut self.roster, checks::checked_roster(roster)?);
        self.index();
        let changes = changes(&old.members, self);
        let stays = self.places.contains_key(&self.this);
        Ok(if stays { Received::Replaced(changes) } else { Received::Removed(changes) })
    }

    fn must_be_authority(&self) -> Result<(), ChangeRefused> {
        if self.is_authority() { Ok(()) } else { Err(ChangeRefused::NotAuthority) }
    }

    fn named(&self, name: &NodeName) -> Result<&Member, ChangeRefused> {
        self.by_name(name).ok_or_else(|| ChangeRefused::Unknown { name: name.to_string() })
    }

    /// Raises the version if anything changed.
    fn replace_members(&mut self, mut members: Vec<Member>) -> Changes {
        checks::sort(&mut members);
        let old = std::mem::replace(&mut self.roster.members, members);
        self.index();
        let changes = changes(&old, self);
        if changes != Changes::default() {
            self.roster.version += 1;
        }
        changes
    }

    fn index(&mut self) {
        let numbered = self.roster.members.iter().enumerate();
        self.places = numbered.map(|(place, member)| (member.node, place)).collect();
    }
}

fn changes(old: &[Member], new: &Membership) -> Changes {
    let mut changes = Changes::default();
    let before: HashMap<_, _> = old.iter().map(|member| (member.node, member)).collect();
    for member in new.members() {
        match before.get(&member.node) {
            None => changes.joined.push(member.node),
            Some(known) if *known != member => changes.changed.push(member.node),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|member| new.by_id(member.node).is_none());
    changes.left.extend(gone.map(|member| member.node));
    changes
}

/// The members and the groups of a node's `groups.toml`: what node expressions are evaluated over.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// The members.
    pub membership: &'a Membership,
    /// Group by group, the expressions whose union it is.
    pub groups: &'a BTreeMap<String, Vec<String>>,
}

impl Universe for Cluster<'_> {
    fn members(&self) -> Vec<MemberRef<'_>> {
        let members = self.membership.members().iter();
        members.map(|member| MemberRef { name: &member.name, labels: &member.labels }).collect()
    }

    fn group(&self, name: &str) -> Option<&[String]> {
        self.groups.get(name).map(Vec::as_slice)
    }
}
