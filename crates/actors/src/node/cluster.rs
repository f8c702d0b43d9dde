//! The cluster as this node knows it; its rules are `sortie_engine::roster`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use sortie_engine::peer::Keep;
use sortie_engine::roster::{Changes, Cluster, Membership, Received};
use sortie_link::{
    CloseCode, DialError, JoinError, JoinExchange, JoinPlea, JoinSecret, JoinToken, Joined, Link,
    LocalFacts, join,
};
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

    fn change<T>(&self, change: impl FnOnce(&mut Membership) -> T) -> T {
        change(&mut self.membership.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn member(&self, id: NodeId) -> Option<Member> {
        self.membership().by_id(id).cloned()
    }

    pub(crate) fn address_of(&self, id: NodeId) -> Option<String> {
        self.membership().by_id(id).map(|member| member.address.clone())
    }

    /// The nodes that an expression names.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownNode`], or [`ErrorCode::Usage`] for a mistake in the expression or the
    /// groups.
    pub(crate) fn names_of(&self, expression: &NodeExpr) -> Result<Vec<NodeName>, RemoteError> {
        let groups = self.keeper.groups().map_err(|error| refused(&error))?;
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
        match self.change(|membership| membership.on_roster(from, roster)) {
            Ok(Received::Known) => {}
            Ok(Received::Replaced(changes) | Received::Removed(changes)) => self.changed(changes),
            Err(error) => tracing::warn!(%error, node = %from, "a roster was refused"),
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

    /// A fresh join token; only the node with the CA gives them.
    pub(crate) fn token(&self) -> Result<JoinOffer, RemoteError> {
        if !self.membership().is_authority() {
            let authority = self.member(self.membership().roster().authority);
            let name = authority.map_or_else(|| "another node".to_owned(), |a| a.name.to_string());
            let text = format!("join tokens are given by {name}, which holds the cluster's CA");
            let error = RemoteError::new(ErrorCode::NoAuthority, text);
            return Err(error.hint(format!("run `sortie cluster token` on {name}")));
        }
        let secret = JoinSecret(random()?);
        let issued =
            self.tokens.lock().unwrap_or_else(PoisonError::into_inner).issue(secret, self.uptime());
        issued.map_err(|error| RemoteError::new(ErrorCode::Limit, error.to_string()))?;
        let authority = *self.fingerprint.read().unwrap_or_else(PoisonError::into_inner);
        let token = JoinToken { secret, authority };
        let address = self.address_of(self.me.id).unwrap_or_default();
        Ok(JoinOffer { address, token: token.to_string() })
    }

    /// A node asks to join this cluster.
    pub(crate) async fn on_join(self: Arc<Self>, exchange: JoinExchange) {
        let request = exchange.request().clone();
        let authority = self.authority.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(authority) = authority.filter(|_| self.membership().is_authority()) else {
            let text = "this node does not hold the cluster's CA";
            return exchange.refuse(RemoteError::new(ErrorCode::NoAuthority, text)).await;
        };
        let tokens = || self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let redeemed = tokens().redeem(&request.secret, self.uptime());
        if let Err(error) = redeemed {
            return exchange.refuse(error.to_remote()).await;
        }
        let member = Member {
            node: exchange.node_id(),
            name: request.name.clone(),
            address: request.address.clone(),
            labels: request.labels.clone(),
        };
        if let Err(error) = self.admit(member) {
            tokens().give_back(&request.secret);
            return exchange.refuse(error).await;
        }
        if let Err(error) = exchange.grant(&authority, self.me.id).await {
            tracing::warn!(%error, "a join failed");
        }
    }

    /// Joins another cluster.
    pub(crate) async fn join(
        self: &Arc<Self>,
        address: &str,
        token: &str,
    ) -> Result<(), RemoteError> {
        self.must_be_alone()?;
        let token: JoinToken = token.parse().map_err(|error: sortie_link::BadToken| {
            RemoteError::new(ErrorCode::Usage, error.to_string())
        })?;
        let own = self.member(self.me.id);
        let own = own.ok_or_else(|| RemoteError::new(ErrorCode::Internal, "no own member"))?;
        let plea = JoinPlea {
            name: &own.name,
            address: &own.address,
            labels: &own.labels,
            user: &self.user,
            node_key: &self.keys.node,
            user_key: &self.keys.user,
        };
        let joined = join(address, &token, &plea, limits::CONNECT_TIME).await;
        let joined = joined.map_err(|error| join_refused(&error))?;
        self.keeper.joined(&joined).map_err(|error| refused(&error))?;
        let mut rosters = self.rosters.subscribe();
        self.adopt(own, address, joined)?;
        // The roster comes with the link to the node that holds the CA. Without it the node is a
        // member all the same, and shows that node by its identity until then.
        let _ = tokio::time::timeout(limits::CONNECT_TIME, rosters.changed()).await;
        Ok(())
    }

    fn must_be_alone(&self) -> Result<(), RemoteError> {
        if !self.membership().is_alone() {
            let text = "this node is in a cluster with other members";
            return Err(RemoteError::new(ErrorCode::NotAlone, text));
        }
        let unfinished: u64 = self.sessions.all().iter().map(|one| one.view().unfinished).sum();
        if unfinished > 0 {
            let text = format!("this node has {unfinished} unfinished jobs");
            let error = RemoteError::new(ErrorCode::NotAlone, text);
            return Err(error.hint("wait for them or stop them, then join again"));
        }
        Ok(())
    }

    fn adopt(
        self: &Arc<Self>,
        own: Member,
        address: &str,
        joined: Joined,
    ) -> Result<(), RemoteError> {
        let fingerprint = joined.node.fingerprint();
        let replaced = self.endpoint.replace_identity(joined.node);
        replaced.map_err(|error| RemoteError::new(ErrorCode::Internal, error.to_string()))?;
        *self.fingerprint.write().unwrap_or_else(PoisonError::into_inner) = fingerprint;
        *self.authority.write().unwrap_or_else(PoisonError::into_inner) = None;
        // Until its roster comes, the node with the CA is known by where it was found.
        let authority = joined.authority_node;
        let name = format!("node-{authority}").parse();
        let name = name.map_err(|_| RemoteError::new(ErrorCode::Internal, "no name"))?;
        let address = address.to_owned();
        let found = Member { node: authority, name, address, labels: Vec::new() };
        let roster = Roster { version: 0, authority, members: vec![found, own] };
        let membership = Membership::restore(self.me.id, roster);
        let membership =
            membership.map_err(|error| RemoteError::new(ErrorCode::Internal, error.to_string()))?;
        self.change(|known| *known = membership);
        self.seek_authority();
        Ok(())
    }
}

fn join_refused(error: &JoinError) -> RemoteError {
    match error {
        JoinError::Dial(DialError::Refused { error, .. }) => error.clone(),
        JoinError::Dial(error) => {
            let mut remote = error.to_remote();
            remote.message = format!("{}: {}", error.step(), remote.message);
            remote
        }
        error => RemoteError::new(ErrorCode::Unreachable, error.to_string()),
    }
}

fn refused(error: &KeepError) -> RemoteError {
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
