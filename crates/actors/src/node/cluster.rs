//! The cluster as this node knows it; its rules are `sortie_engine::roster`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use sortie_engine::peer::Keep;
use sortie_engine::roster::{Changes, Cluster, Membership, Received};
use sortie_link::{CloseCode, JoinSecret, JoinToken, Joined, Link, LocalFacts};
use sortie_model::nodeset::{EvaluateError, NodeExpr};
use sortie_model::spec::Placement;
use sortie_model::{NodeId, NodeName, limits};
use sortie_wire::link_proto::{Member, MemberUpdate, Roster};
use sortie_wire::session_proto::JoinOffer;
use sortie_wire::{ErrorCode, RemoteError};

use crate::node::{KeepError, NodeError, NodeShared};
use crate::peer::PeerMessage;

/// What a node remembers of its cluster, with its own row as it is now.
pub(super) fn remembered(own: Member, roster: Option<Roster>) -> Result<Membership, NodeError> {
    let Some(mut roster) = roster else { return Ok(Membership::alone(own)?) };
    let changed = roster.members.iter_mut().find(|member| member.node == own.node);
    if let Some(member) = changed
        && (member.address != own.address || member.labels != own.labels)
    {
        *member = Member { name: member.name.clone(), ..own.clone() };
        if roster.authority == own.node {
            roster.version += 1;
        }
    }
    Ok(Membership::restore(own.node, roster)?)
}

impl NodeShared {
    pub(crate) fn membership(&self) -> RwLockReadGuard<'_, Membership> {
        self.membership.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Membership) -> T) -> T {
        change(&mut self.membership.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn member(&self, id: NodeId) -> Option<Member> {
        self.membership().by_id(id).cloned()
    }

    pub(crate) fn address_of(&self, id: NodeId) -> Option<String> {
        self.membership().by_id(id).map(|member| member.address.clone())
    }

    /// The groups for node expressions, read anew.
    ///
    /// # Errors
    /// [`RemoteError`] for a mistake in them.
    pub(crate) fn groups(&self) -> Result<BTreeMap<String, Vec<String>>, RemoteError> {
        self.keeper.groups().map_err(|error| refused(&error))
    }

    /// The nodes that an expression names.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownNode`], or [`ErrorCode::Usage`] for a mistake in the expression or the
    /// groups.
    pub(crate) fn names_of(&self, expression: &NodeExpr) -> Result<Vec<NodeName>, RemoteError> {
        let groups = match expression.may_name_groups() {
            true => self.groups()?,
            false => BTreeMap::new(),
        };
        let membership = self.membership();
        let cluster = Cluster { membership: &membership, groups: &groups };
        expression.evaluate(&cluster).map_err(|error| {
            let code = match error {
                EvaluateError::UnknownNode { .. } | EvaluateError::UnknownNodeInGroup { .. } => {
                    ErrorCode::UnknownNode
                }
                _ => ErrorCode::Usage,
            };
            RemoteError::new(code, error.to_string())
        })
    }

    /// The nodes that a submission is for, in order.
    ///
    /// # Errors
    /// As [`NodeShared::names_of`]; [`ErrorCode::NoNodes`] when none is left.
    pub(crate) fn nodes_of(
        &self,
        placement: &Placement,
    ) -> Result<Vec<(NodeName, NodeId)>, RemoteError> {
        let Placement::Nodes { on, exclude } = placement else {
            return Ok(vec![(self.me.name(), self.me.id)]);
        };
        let mut names = self.names_of(on)?;
        if let Some(exclude) = exclude {
            let without = self.names_of(exclude)?;
            names.retain(|name| !without.contains(name));
        }
        let membership = self.membership();
        let nodes: Vec<_> = names
            .into_iter()
            .filter_map(|name| membership.by_name(&name).map(|member| (name, member.node)))
            .collect();
        if nodes.is_empty() {
            let text = match exclude {
                None => format!("no node matches `{}`", on.as_str()),
                Some(without) => {
                    format!("no node matches `{}` and not `{}`", on.as_str(), without.as_str())
                }
            };
            let error = RemoteError::new(ErrorCode::NoNodes, text);
            return Err(error.hint("`sortie node get` lists the nodes and their labels"));
        }
        Ok(nodes)
    }

    /// Takes a node in.
    pub(crate) fn admit(&self, member: Member) -> Result<(), RemoteError> {
        let changes = self.change(|membership| membership.admit(member));
        self.changed(changes.map_err(|error| error.to_remote())?);
        Ok(())
    }

    pub(crate) fn set_labels(
        &self,
        name: &NodeName,
        labels: &[(String, String)],
    ) -> Result<(), RemoteError> {
        self.must_be_authority("labels are set", &format!("sortie node labels {name} …"))?;
        let changes = self.change(|membership| membership.set_labels(name, labels));
        self.changed(changes.map_err(|error| error.to_remote())?);
        if let Some(own) = self.member(self.me.id).filter(|own| own.name == *name) {
            self.keeper.own(&own).map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    /// The roster is another one now: it is kept, and every member that can be reached hears of it.
    fn changed(&self, changes: Changes) {
        if changes == Changes::default() {
            return;
        }
        let roster = self.membership().roster().clone();
        self.rosters.send_replace(roster.version);
        if let Err(error) = self.keeper.roster(&roster) {
            tracing::error!(%error, "the roster could not be kept");
        }
        for (node, link) in self.sights.links() {
            if changes.left.contains(&node) {
                link.close(CloseCode::REMOVED, "the node was removed from the cluster");
            } else if roster.authority == self.me.id {
                // Who cannot be told now is told when it is greeted.
                let _ = link.send(&roster);
            }
        }
    }

    /// A link to a member is up: the CA's node tells the members, the others tell it about
    /// themselves.
    pub(crate) fn greet(&self, link: &Link, peer: NodeId) {
        let membership = self.membership();
        let roster = membership.roster();
        if roster.authority == self.me.id {
            let _ = link.send(roster);
        } else if roster.authority == peer
            && let Some(own) = membership.by_id(self.me.id)
        {
            let _ = link.send(&MemberUpdate {
                address: own.address.clone(),
                labels: own.labels.clone(),
                roster_version: roster.version,
            });
        }
    }

    pub(crate) fn on_roster(&self, from: NodeId, roster: Roster) {
        let before = self.member(self.me.id);
        match self.change(|membership| membership.on_roster(from, roster)) {
            Ok(Received::Known) => {}
            Ok(Received::Replaced(changes) | Received::Removed(changes)) => {
                self.changed(changes);
                self.keep_own_row(before.as_ref());
            }
            Err(error) => tracing::warn!(%error, node = %from, "a roster was refused"),
        }
    }

    /// What the node with the CA changed about this one is what it says of itself from now on, also
    /// in its next life.
    fn keep_own_row(&self, before: Option<&Member>) {
        let own = self.member(self.me.id);
        if let Some(own) = own.filter(|own| before.is_none_or(|old| old.labels != own.labels))
            && let Err(error) = self.keeper.own(&own)
        {
            tracing::error!(%error, "this node's labels could not be kept");
        }
    }

    pub(crate) fn on_member_update(&self, from: NodeId, update: MemberUpdate) {
        match self.change(|membership| membership.on_update(from, update)) {
            Ok(changes) => self.changed(changes),
            Err(error) => tracing::warn!(%error, node = %from, "a member's update was refused"),
        }
    }

    /// Keeps a link to the node that holds the CA, which sends the roster.
    pub(crate) fn seek_authority(self: &Arc<Self>) {
        let authority = self.membership().roster().authority;
        if authority == self.me.id {
            return;
        }
        let node = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(peer) = node.peer(authority).await {
                let _ = peer.cast(PeerMessage::Connect(limits::CONNECT_TIME, Keep::Always));
            }
        });
    }

    /// Makes this node reachable as the others will know it, and a token for the first of them.
    pub(crate) fn advertise(&self, address: Option<String>) -> Result<(), RemoteError> {
        self.must_be_authority("join tokens are given", "sortie cluster token")?;
        let Some(mut own) = self.member(self.me.id) else { return Ok(()) };
        if let Some(address) = address {
            own.address = address;
        }
        let facts = LocalFacts {
            incarnation: self.me.incarnation,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            address: Some(own.address.clone()),
        };
        self.endpoint.replace_facts(facts);
        self.keeper.own(&own).map_err(|error| refused(&error))?;
        self.admit(own)
    }

    /// Refuses what only the node with the CA can do, and says where to do it.
    fn must_be_authority(&self, what: &str, command: &str) -> Result<(), RemoteError> {
        if self.membership().is_authority() {
            return Ok(());
        }
        let authority = self.member(self.membership().roster().authority);
        let name = authority.map_or_else(|| "another node".to_owned(), |a| a.name.to_string());
        let text = format!("{what} by {name}, which holds the cluster's CA");
        let error = RemoteError::new(ErrorCode::NoAuthority, text);
        Err(error.hint(format!("run `{command}` on {name}")))
    }

    /// A fresh join token; only the node with the CA gives them.
    pub(crate) fn token(&self) -> Result<JoinOffer, RemoteError> {
        self.must_be_authority("join tokens are given", "sortie cluster token")?;
        let secret = JoinSecret(random()?);
        let issued =
            self.tokens.lock().unwrap_or_else(PoisonError::into_inner).issue(secret, self.uptime());
        issued.map_err(|error| RemoteError::new(ErrorCode::Limit, error.to_string()))?;
        let authority = *self.fingerprint.read().unwrap_or_else(PoisonError::into_inner);
        let token = JoinToken { secret, authority };
        let address = self.address_of(self.me.id).unwrap_or_default();
        Ok(JoinOffer { address, token: token.to_string() })
    }
}

pub(super) fn refused(error: &KeepError) -> RemoteError {
    match error {
        KeepError::Mistake(text) => RemoteError::new(ErrorCode::Usage, text)
            .hint("correct the file: it is read anew each time it is needed"),
        KeepError::Storage(text) => RemoteError::new(ErrorCode::Storage, text),
    }
}

fn random() -> Result<[u8; JoinSecret::BYTES], RemoteError> {
    let mut bytes = [0; JoinSecret::BYTES];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(JoinSecret::BYTES) => Ok(bytes),
        _ => Err(RemoteError::new(ErrorCode::Internal, "the system gives no random bytes")),
    }
}

/// A node without a home: nothing is kept, there are no groups.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeeper;

impl crate::node::Keeper for NoKeeper {
    fn joined(&self, _: &Joined) -> Result<(), KeepError> {
        Ok(())
    }

    fn roster(&self, _: &Roster) -> Result<(), KeepError> {
        Ok(())
    }

    fn own(&self, _: &Member) -> Result<(), KeepError> {
        Ok(())
    }

    fn groups(&self) -> Result<BTreeMap<String, Vec<String>>, KeepError> {
        Ok(BTreeMap::new())
    }
}
