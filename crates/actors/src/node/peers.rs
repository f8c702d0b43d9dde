//! The other nodes, as far as this one has to do with them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use sortie_engine::peer::Keep;
use sortie_link::{ControlReceiver, Link};
use sortie_model::reason::ReachStep;
use sortie_model::view::NodeState;
use sortie_model::{JobInstance, NodeId, Timestamp};

use crate::data::changes::Changes;
use crate::data::session::SessionShared;
use crate::node::NodeShared;
use crate::peer::{PeerActor, PeerMessage};

/// What is known of a peer now.
#[derive(Debug, Clone)]
pub(crate) struct PeerSight {
    pub(crate) state: NodeState,
    pub(crate) link: Option<Link>,
    /// Since when it is lost, while something of ours may run on there all the same.
    pub(crate) lost_since: Option<Timestamp>,
    /// Until when its children may start here, on this node's clock.
    pub(crate) lease: Option<Duration>,
}

/// What is known of every peer that this node had to do with.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    peers: Mutex<BTreeMap<NodeId, PeerSight>>,
    failures: Mutex<HashMap<NodeId, (ReachStep, String)>>,
    changes: Changes,
}

impl Sights {
    pub(crate) fn set(&self, node: NodeId, sight: PeerSight) {
        let connected = sight.link.is_some();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.insert(node, sight);
        drop(peers);
        if connected {
            self.failures().remove(&node);
        }
        self.changes.rise();
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<PeerSight> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    pub(crate) fn links(&self) -> Vec<(NodeId, Link)> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let up = peers.iter().filter_map(|(node, sight)| Some((*node, sight.link.clone()?)));
        up.collect()
    }

    pub(crate) fn failed(&self, node: NodeId, step: ReachStep, error: String) {
        self.failures().insert(node, (step, error));
        self.changes.rise();
    }

    /// How the last dial failed, if it did.
    pub(crate) fn failure(&self, node: NodeId) -> Option<(ReachStep, String)> {
        self.failures().get(&node).cloned()
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<NodeId, (ReachStep, String)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeShared {
    /// Whether what another node wants may start here now: it was not silent for too long.
    pub(crate) fn lease_runs(&self, owner: NodeId) -> bool {
        let lease = self.sights.get(owner).and_then(|sight| sight.lease);
        lease.is_some_and(|until| self.uptime() < until)
    }

    /// The actor for another node, made on first use; none while the node shuts down.
    pub(crate) async fn peer(self: &Arc<Self>, id: NodeId) -> Option<ActorRef<PeerMessage>> {
        let known = |node: &Self| {
            node.peers.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
        };
        if let Some(peer) = known(self) {
            return Some(peer);
        }
        let (root, arguments) = (self.root()?, (Arc::clone(self), id));
        let (peer, _) = PeerActor::spawn_linked(None, PeerActor, arguments, root).await.ok()?;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = peers.entry(id).or_insert_with(|| peer.clone()).clone();
        drop(peers);
        if kept.get_id() != peer.get_id() {
            peer.stop(None); // Another caller was first.
        }
        Some(kept)
    }

    /// A job of a session wants to execute on another node, and waits so long for a connection.
    pub(crate) fn want_link(
        self: &Arc<Self>,
        id: NodeId,
        (session, job): (Arc<SessionShared>, JobInstance),
        wait: Duration,
    ) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            if let Some(peer) = node.peer(id).await {
                let _ = peer.cast(PeerMessage::Want(session, job, wait));
            }
        });
    }

    /// A connection with another node came up because it dialled us.
    pub(crate) async fn link_arrived(
        self: &Arc<Self>,
        id: NodeId,
        link: Link,
        control: ControlReceiver,
    ) {
        if let Some(peer) = self.peer(id).await {
            let _ = peer.cast(PeerMessage::Up(link, control));
        }
    }

    /// A link to another node, dialled if need be.
    ///
    /// # Errors
    /// The step that failed and a sentence.
    pub(crate) async fn reach(
        self: &Arc<Self>,
        id: NodeId,
        wait: Duration,
    ) -> Result<Link, (ReachStep, String)> {
        let mut changes = self.sights.changes.subscribe();
        let unknown = || (ReachStep::Connect, "nothing answers".to_owned());
        let peer = self.peer(id).await.ok_or_else(unknown)?;
        let _ = peer.cast(PeerMessage::Connect(wait, Keep::WhileUsed));
        let up = async {
            loop {
                changes.mark();
                if let Some(link) = self.sights.get(id).and_then(|sight| sight.link) {
                    return Ok(link);
                }
                if let Some((step @ (ReachStep::Authenticate | ReachStep::Authorise), text)) =
                    self.sights.failure(id)
                {
                    return Err((step, text));
                }
                changes.changed().await;
            }
        };
        match tokio::time::timeout(wait, up).await {
            Ok(reached) => reached,
            Err(_) => Err(self.sights.failure(id).unwrap_or_else(unknown)),
        }
    }
}
