//! The hosts of other nodes' sessions.

use std::sync::{Arc, PoisonError};

use ractor::{Actor, ActorRef};
use sortie_link::{CloseCode, Link};
use sortie_model::{NodeId, SessionInstance, limits};
use sortie_wire::host_proto::StartChildren;

use crate::host::{HostActor, HostArguments, HostMessage, Owner};
use crate::node::NodeShared;

/// The host of another node's session.
#[derive(Debug)]
pub(crate) struct Hosted {
    pub(crate) host: ActorRef<HostMessage>,
    /// The link on which the owner asked for it last.
    pub(crate) link: u64,
}

impl NodeShared {
    /// The host of another node's session, if there is one.
    pub(crate) fn host(
        &self,
        session: SessionInstance,
        owner: NodeId,
    ) -> Option<ActorRef<HostMessage>> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.get(&(session, owner)).map(|hosted| hosted.host.clone())
    }

    /// Children of another node's session come over `link`: they go to its host, made on first use,
    /// unless the node shuts down. A host that the owner did not ask for on this link belongs to a
    /// past that the owner has given up: it ends.
    pub(crate) async fn start_hosted(
        self: &Arc<Self>,
        start: StartChildren,
        owner: NodeId,
        link: &Link,
    ) {
        let session = start.session;
        let known = {
            let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.get(&(session, owner)).map(|hosted| hosted.link)
        };
        if known != Some(link.id()) {
            if known.is_some() {
                self.end_host(session, owner);
            }
            if self.new_host(session, owner, link).await.is_none() {
                return;
            }
        }
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosted) = hosts.get(&(session, owner)).filter(|_| !link.is_closed()) {
            // The owner has heard how the session stood here, so an end before this says nothing
            // about what it starts now; an end from here on does, and is noted under this lock.
            self.forget_expiry(session, owner);
            let _ = hosted.host.cast(HostMessage::Start(start));
        }
    }

    /// The host that an owner asks for on a new connection, made if it is not there: then it knows
    /// no job.
    pub(crate) async fn host_to_resume(
        self: &Arc<Self>,
        session: SessionInstance,
        owner: NodeId,
        link: &Link,
    ) -> Option<ActorRef<HostMessage>> {
        {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(hosted) = hosts.get_mut(&(session, owner)) {
                hosted.link = link.id();
                return Some(hosted.host.clone());
            }
        }
        self.new_host(session, owner, link).await
    }

    async fn new_host(
        self: &Arc<Self>,
        session: SessionInstance,
        owner: NodeId,
        link: &Link,
    ) -> Option<ActorRef<HostMessage>> {
        let of_owner = {
            let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            // Counted only when all nodes together may be past what one may have.
            let many = hosts.len() >= limits::SESSIONS_PER_NODE;
            if many { hosts.keys().filter(|(_, node)| *node == owner).count() } else { 0 }
        };
        if of_owner >= limits::SESSIONS_PER_NODE {
            link.close(CloseCode::REFUSED, "too many sessions of one node");
            return None;
        }
        let arguments = HostArguments {
            node: Arc::clone(self),
            session,
            owner: Owner::There(owner, link.clone()),
        };
        let root = self.root()?;
        let (host, _) = HostActor::spawn_linked(None, HostActor, arguments, root).await.ok()?;
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever ends hosts looks for them under this lock, and did not see this one before.
        if self.is_ending() || link.is_closed() || !self.lease_runs(owner) {
            let _ = host.cast(HostMessage::Over);
            return None;
        }
        hosts.insert((session, owner), Hosted { host: host.clone(), link: link.id() });
        Some(host)
    }

    /// The session of another node is over here.
    pub(crate) fn end_host(&self, session: SessionInstance, owner: NodeId) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosted) = hosts.remove(&(session, owner)) {
            let _ = hosted.host.cast(HostMessage::Over);
        }
    }

    /// Another node has been back for as long as a lease: hosts that it did not ask for are over.
    /// Its question may still be on its way, and must not be answered as if nothing had run.
    pub(crate) fn end_hosts_not_on(&self, owner: NodeId, link: u64) {
        self.expire(owner, |hosted| hosted.link != link);
    }

    /// Another node was silent for longer than the lease: what runs here for it is killed.
    pub(crate) fn end_hosts_of(&self, owner: NodeId) {
        self.expire(owner, |_| true);
    }

    /// Ends hosts of another node, and remembers that for its next question.
    fn expire(&self, owner: NodeId, which: impl Fn(&Hosted) -> bool) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = hosts.iter().filter(|((_, node), hosted)| *node == owner && which(hosted));
        let of_it: Vec<SessionInstance> = of_it.map(|((session, _), _)| *session).collect();
        let mut all = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = all.entry(owner).or_default();
        expired.extend(&of_it);
        let most = limits::SESSIONS_PER_NODE;
        let surplus = expired.len().saturating_sub(most);
        expired.drain(..surplus);
        drop(all);
        for session in of_it {
            if let Some(hosted) = hosts.remove(&(session, owner)) {
                let _ = hosted.host.cast(HostMessage::Over);
            }
        }
    }

    /// The owner knows how the session stood here.
    fn forget_expiry(&self, session: SessionInstance, owner: NodeId) {
        let mut all = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(expired) = all.get_mut(&owner) {
            expired.retain(|other| *other != session);
        }
    }

    /// Whether another node's session ended here because its owner was silent for too long, and
    /// the owner may not have heard of it.
    pub(crate) fn has_expired(&self, session: SessionInstance, owner: NodeId) -> bool {
        let expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        expired.get(&owner).is_some_and(|sessions| sessions.contains(&session))
    }
}
