//! The end of a node.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;
use sortie_link::CloseCode;
use sortie_model::spec::StopSpec;
use sortie_model::{NodeId, SessionInstance, limits};
use sortie_wire::host_proto::ChildSet;
use sortie_wire::{ErrorCode, RemoteError};
use tokio::runtime::Handle;

use crate::data::session::SessionShared;
use crate::host::HostMessage;
use crate::node::guardians::Parting;
use crate::node::hosts::dying::Alive;
use crate::node::{Hosted, NodeShared};
use crate::parent_job::ParentJobMessage;

/// A node whose start is under way: one that fails, or is dropped, leaves nothing running.
pub(super) struct Starting<'a>(Option<&'a Arc<NodeShared>>);

impl<'a> Starting<'a> {
    pub(super) const fn of(node: &'a Arc<NodeShared>) -> Self {
        Self(Some(node))
    }

    pub(super) fn succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let (Some(node), Ok(runtime)) = (self.0, Handle::try_current()) {
            let node = Arc::clone(node);
            runtime.spawn(async move { node.shut_down().await });
        }
    }
}

impl NodeShared {
    /// Ends the node, once; who asks again waits for that. To be run by a future that nobody drops.
    pub(crate) async fn shut_down(&self) {
        let Some(hosts) = self.begin_end() else { return self.wait_until_over().await };
        // Those who wait in one are told that it is the node that ends.
        let (kept, others): (Vec<_>, Vec<_>) =
            self.sessions.all().into_iter().partition(|session| session.durable.is_some());
        for session in others {
            self.end_session(&session);
        }
        let first: Vec<_> = kept.iter().filter(|session| session.mark_over()).collect();
        if self.begun.get().is_none() {
            // A node that could not begin decides nothing about what an earlier one began.
            first.iter().for_each(|session| self.dismiss(session));
        }
        let first = first.into_iter().filter(|_| self.begun.get().is_some());
        join_all(first.map(|session| self.wind_down(session))).await;
        let hosts: Vec<_> = hosts.into_values().map(|hosted| hosted.host).collect();
        for host in &hosts {
            let _ = host.cast(HostMessage::Over(Alive::default()));
        }
        // Nothing of other nodes may run any more when they hear that this one is gone; but they
        // do not wait for a process that no kill ends.
        let ended = async {
            for host in hosts {
                let _ = host.wait(None).await;
            }
        };
        let _ = tokio::time::timeout(limits::CLOSE_TIME, ended).await;
        let parted = self.guardians.part(match self.begun.get() {
            Some(()) => Parting::End,
            // A node that could not begin has no right to what an earlier one began.
            None => Parting::Leave,
        });
        let _ = tokio::time::timeout(limits::CLOSE_TIME, parted).await;
        self.endpoint.close(&self.shuts_down().message).await;
        if let Some(root) = self.root.get() {
            root.kill();
        }
        self.close_store().await;
        self.over.send_replace(true);
    }

    /// Ends the node as its death would, once, but with all that it knows on the disk: what
    /// outlives it runs on and is left to the next one. To be run by a future that nobody drops.
    pub(crate) async fn leave(&self) {
        let Some(_hosts) = self.begin_end() else { return self.wait_until_over().await };
        for session in self.sessions.all() {
            if session.durable.is_none() {
                self.end_session(&session);
            }
        }
        // Nobody is told how anything ends from here on: what is not known goes on. Who does not
        // hear that notices it by the silence.
        let told = self.endpoint.close_as(CloseCode::RETURNS, "its next life takes its place");
        let left = async {
            // Nothing is noted any more, so nothing that the end of this process does to what it
            // runs itself is: the next one finds out what became of it.
            self.close_store().await;
            let parted = self.guardians.part(Parting::Leave);
            let _ = tokio::time::timeout(limits::CLOSE_TIME, parted).await;
        };
        let (_, ()) = tokio::join!(tokio::time::timeout(limits::LEAVE_TIME, told), left);
        if let Some(root) = self.root.get() {
            root.kill();
        }
        self.over.send_replace(true);
    }

    /// The hosts of other nodes' sessions, for who ends the node; none for who comes later. No host
    /// is made any more.
    fn begin_end(&self) -> Option<BTreeMap<(SessionInstance, NodeId), Hosted>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !self.ending.swap(true, Ordering::AcqRel);
        first.then(|| std::mem::take(&mut *hosts))
    }

    async fn wait_until_over(&self) {
        // The sender lives as long as the node.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// The next node of this home may begin, whoever still has a handle on this one.
    async fn close_store(&self) {
        if let Some(store) = self.store.clone() {
            let _ = tokio::task::spawn_blocking(move || store.close()).await;
        }
    }

    /// What is unfinished in a session that outlives the node is killed, and its end kept.
    async fn wind_down(&self, session: &SessionShared) {
        session.refuse_starts();
        drop(session.starting.lock().await);
        let unfinished: Vec<_> = session
            .jobs()
            .into_iter()
            .filter_map(|job| job.actor().map(|actor| (actor, job)))
            .collect();
        for (_, job) in &unfinished {
            let (children, by) = (ChildSet::All, "the end of its node".to_owned());
            job.tell(ParentJobMessage::Stop { children, how: StopSpec::NOW, by });
        }
        // A job's actor ends when its last word is kept. What has no end by then is taken for
        // stopped when the node is back.
        let ended = unfinished.iter().map(|(actor, _)| actor.wait(None));
        let _ = tokio::time::timeout(limits::KEEP_TIME, join_all(ended)).await;
        self.dismiss(session);
    }

    /// Whether the node ends: its sessions then end with it.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// What whoever is under way here is told then.
    pub(crate) fn shuts_down(&self) -> RemoteError {
        let text = format!("node {} shuts down", self.me.name());
        RemoteError::new(ErrorCode::ShuttingDown, text)
    }
}
