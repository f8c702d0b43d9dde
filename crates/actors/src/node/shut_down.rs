//! The end of a node.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use sortie_model::limits;

use crate::host::HostMessage;
use crate::node::NodeShared;

impl NodeShared {
    /// Ends the node, once; who asks again waits for that. To be run by a future that nobody drops.
    pub(crate) async fn shut_down(&self) {
        let hosts = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            let first = !self.ending.swap(true, Ordering::AcqRel);
            first.then(|| std::mem::take(&mut *hosts))
        };
        // Those who wait in one are told that it is the node that ends.
        for session in self.sessions.all() {
            self.end_session(&session);
        }
        let Some(hosts) = hosts else {
            // The sender lives as long as the node.
            let _ = self.over.subscribe().wait_for(|over| *over).await;
            return;
        };
        let hosts: Vec<_> = hosts.into_values().map(|hosted| hosted.host).collect();
        for host in &hosts {
            let _ = host.cast(HostMessage::Over);
        }
        // Nothing of other nodes may run any more when they hear that this one is gone; but they
        // do not wait for a process that no kill ends.
        let ended = async {
            for host in hosts {
                let _ = host.wait(None).await;
            }
            if let Some(guardian) = &self.guardian {
                guardian.end().await;
            }
        };
        let _ = tokio::time::timeout(limits::CLOSE_TIME, ended).await;
        self.endpoint.close("the node shuts down").await;
        if let Some(root) = self.root.get() {
            root.kill();
        }
        self.over.send_replace(true);
    }

    /// Whether the node ends: its sessions then end with it.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
}
