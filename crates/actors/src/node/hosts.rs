//! The hosts of other nodes' sessions.

pub(crate) mod dying;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use ractor::{Actor, ActorId, ActorRef};
use sortie_link::{CloseCode, Link};
use sortie_model::spec::Hosting;
use sortie_model::{NodeId, SessionInstance, limits};
use sortie_wire::host_proto::StartChildren;

use crate::host::{HostActor, HostArguments, HostMessage, Owner};
use crate::node::NodeShared;
use crate::node::hosts::dying::{Alive, Dying, Ends};

/// The host of another node's session.
#[derive(Debug)]
pub(crate) struct Hosted {
    pub(crate) host: ActorRef<HostMessage>,
    /// The link on which the owner asked for it last.
    pub(crate) link: u64,
    /// Whether it has jobs that end with their owner's silence, and ones that outlive it.
    pub(crate) had: Had,
}

/// What a host has, or will have in a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Had {
    pub(crate) temporary: bool,
    pub(crate) persistent: bool,
}

impl Had {
    pub(crate) fn note(&mut self, hosting: Hosting) {
        self.temporary |= hosting == Hosting::Temporary;
        self.persistent |= hosting == Hosting::Persistent;
    }
}

/// What is known of hosts that are no more.
#[derive(Debug, Default)]
pub(crate) struct HostsPast {
    /// Sessions that ended since their owners were silent for too long, and may not have heard so.
    expired: Mutex<BTreeMap<NodeId, VecDeque<SessionInstance>>>,
    /// Whether processes of sessions that outlive silence outlived all former lives of the node.
    pub(super) remembers: AtomicBool,
    /// What is being killed.
    dying: Dying,
}

/// What of a host ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// What does not outlive its owner's silence.
    Temporary,
    All,
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
            {
                let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
                // Of a connection that is over it is what another one has given up.
                if link.is_closed() {
                    return;
                }
                if let Some(hosted) = hosts.remove(&(session, owner)) {
                    self.over(owner, &hosted);
                }
            }
            if self.new_host(session, owner, link).await.is_none() {
                return;
            }
        }
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosted) = hosts.get_mut(&(session, owner)).filter(|_| !link.is_closed()) {
            start.spec.iter().for_each(|spec| hosted.had.note(spec.hosting));
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
                // What an older connection asks is over, and would undo what the present one said.
                if link.is_closed() {
                    return None;
                }
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
            owner: Owner::There(owner, Some(link.clone())),
        };
        let root = self.root()?;
        let (host, _) = HostActor::spawn_linked(None, HostActor, arguments, root).await.ok()?;
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever ends hosts looks for them under this lock, and did not see this one before.
        if self.is_ending() || link.is_closed() || !self.lease_runs(owner) {
            let _ = host.cast(HostMessage::Over(Alive::default()));
            return None;
        }
        let (link, had) = (link.id(), Had::default());
        hosts.insert((session, owner), Hosted { host: host.clone(), link, had });
        Some(host)
    }

    /// The session of another node is over here.
    pub(crate) fn end_host(&self, session: SessionInstance, owner: NodeId) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosted) = hosts.remove(&(session, owner)) {
            self.over(owner, &hosted);
        }
    }

    /// The hosts of that node's that were told to end by now.
    pub(crate) fn ends_of(&self, owner: NodeId) -> Ends {
        self.past.dying.ends(owner)
    }

    /// Waits, within a bound, until what those hosts and others before killed of that node's jobs
    /// is dead.
    pub(crate) async fn outwait_deaths(&self, owner: NodeId, ends: Ends) {
        let dead = async {
            if self.past.dying.over(owner, ends).await
                && let Some(guardian) = self.guardians.current()
            {
                guardian.dropped_are_gone().await;
            }
        };
        let waited = tokio::time::timeout(limits::DEATHS_WAIT, dead).await;
        if waited.is_err() {
            tracing::warn!(node = %owner, "what was killed for a node is not dead yet");
        }
        self.past.dying.waited(owner, waited.is_ok());
    }

    /// What ran for another node's job is being killed.
    pub(crate) fn note_dying(&self, owner: NodeId, job: &Alive) {
        self.past.dying.note_job(owner, job);
    }

    /// Ends a host, which has what it ran killed.
    fn over(&self, owner: NodeId, hosted: &Hosted) {
        let heard = Alive::default();
        self.past.dying.note_host(owner, &heard);
        let _ = hosted.host.cast(HostMessage::Over(heard));
    }

    /// Another node was silent for longer than the lease, or began a new life: what runs here for
    /// it and does not outlive that is killed.
    pub(crate) fn end_temporary_of(&self, owner: NodeId) {
        self.expire(owner, Which::Temporary, |hosted| hosted.had.temporary);
    }

    /// Another node has been back for as long as a lease: what it did not ask for, and does not
    /// outlive its silence, is killed. Its question may still be on its way, and must not be
    /// answered as if nothing had run.
    pub(crate) fn end_temporary_not_on(&self, owner: NodeId, link: u64) {
        self.expire(owner, Which::Temporary, |it| it.had.temporary && it.link != link);
    }

    /// Another node has been back for [`limits::DISCONNECT_AFTER`]: what it did not ask for is
    /// over.
    pub(crate) fn end_hosts_not_on(&self, owner: NodeId, link: u64) {
        self.expire(owner, Which::All, |hosted| hosted.link != link);
    }

    pub(super) fn put_host(&self, place: (SessionInstance, NodeId), hosted: Hosted) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(place, hosted);
    }

    /// Whether anything may run here for another node that outlives its silence: then it is
    /// dialled, to hear whether it still wants that.
    pub(crate) fn hosts_for(&self, owner: NodeId) -> bool {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().any(|((_, node), hosted)| *node == owner && hosted.had.persistent)
    }

    /// What a host has now.
    pub(crate) fn host_has(
        &self,
        (session, owner): (SessionInstance, NodeId),
        id: ActorId,
        had: Had,
    ) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let hosted = hosts.get_mut(&(session, owner)).filter(|it| it.host.get_id() == id);
        if let Some(hosted) = hosted {
            hosted.had = had;
        }
    }

    /// A host has nothing left; if it has not taken a new place, it ends.
    pub(crate) fn retire(
        &self,
        (session, owner): (SessionInstance, NodeId),
        id: ActorId,
        link: u64,
    ) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = |hosted: &Hosted| hosted.host.get_id() == id && hosted.link == link;
        if hosts.get(&(session, owner)).is_some_and(mine)
            && let Some(hosted) = hosts.remove(&(session, owner))
        {
            let _ = hosted.host.cast(HostMessage::Over(Alive::default()));
        }
    }

    /// Ends what hosts of another node have, and remembers that for its next question.
    fn expire(&self, owner: NodeId, what: Which, which: impl Fn(&Hosted) -> bool) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = hosts.iter().filter(|((_, node), hosted)| *node == owner && which(hosted));
        let of_it: Vec<SessionInstance> = of_it.map(|((session, _), _)| *session).collect();
        let mut all = self.past.expired.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = all.entry(owner).or_default();
        expired.extend(&of_it);
        let most = limits::SESSIONS_PER_NODE;
        let surplus = expired.len().saturating_sub(most);
        expired.drain(..surplus);
        drop(all);
        for session in of_it {
            if what == Which::Temporary {
                if let Some(hosted) = hosts.get(&(session, owner)) {
                    let heard = Alive::default();
                    self.past.dying.note_host(owner, &heard);
                    let _ = hosted.host.cast(HostMessage::LeaseOver(hosted.link, heard));
                }
            } else if let Some(hosted) = hosts.remove(&(session, owner)) {
                self.over(owner, &hosted);
            }
        }
    }

    /// The owner knows how the session stood here.
    fn forget_expiry(&self, session: SessionInstance, owner: NodeId) {
        let mut all = self.past.expired.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(expired) = all.get_mut(&owner) {
            expired.retain(|other| *other != session);
        }
    }

    /// Whether another node's session ended here because its owner was silent for too long, and
    /// the owner may not have heard of it.
    pub(crate) fn has_expired(&self, session: SessionInstance, owner: NodeId) -> bool {
        let expired = self.past.expired.lock().unwrap_or_else(PoisonError::into_inner);
        expired.get(&owner).is_some_and(|sessions| sessions.contains(&session))
    }
}
