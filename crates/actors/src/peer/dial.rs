//! Dialling another node: one dial at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::ActorRef;
use sortie_link::Expect;
use sortie_model::limits;
use sortie_model::reason::ReachStep;

use crate::peer::{PeerMessage, PeerState};

impl PeerState {
    pub(super) fn dial(&self, myself: &ActorRef<PeerMessage>) {
        if self.link.as_ref().is_some_and(|link| !link.is_closed()) {
            return;
        }
        if self.dialling.swap(true, Ordering::AcqRel) {
            return; // It comes to something, or fails and is tried again.
        }
        let (node, id, myself) = (Arc::clone(&self.node), self.id, myself.clone());
        let dialling = Arc::clone(&self.dialling);
        tokio::spawn(async move {
            let message = match node.address_of(id) {
                None => {
                    let text = "it is no member of the cluster".to_owned();
                    PeerMessage::DialFailed(ReachStep::Resolve, text)
                }
                Some(address) => {
                    let expect = Expect::Node(id);
                    let dialled = node.endpoint.dial(&address, expect, limits::HANDSHAKE_TIME);
                    match dialled.await {
                        Ok((link, control)) => PeerMessage::Up(link, control),
                        // It prefers the link that it dialled itself, which arrives by then.
                        Err(error) if error.is_duplicate() => {
                            dialling.store(false, Ordering::Release);
                            let text = error.to_string();
                            myself.send_after(limits::HANDSHAKE_TIME, || {
                                PeerMessage::DialFailed(ReachStep::Connect, text)
                            });
                            return;
                        }
                        Err(error) => PeerMessage::DialFailed(error.step(), error.to_string()),
                    }
                }
            };
            dialling.store(false, Ordering::Release);
            // The actor ends with its node only.
            let _ = myself.cast(message);
        });
    }
}
