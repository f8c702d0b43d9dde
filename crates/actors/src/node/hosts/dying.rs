//! What is being killed of another node's jobs. The next life of that node's child must find
//! nothing of the one before (`docs/semantics.md`, section 5.1), so what it starts waits for that.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sortie_model::NodeId;
use tokio::sync::watch;

/// Held by what others may have to outwait; it is over when all that hold it are dropped.
#[derive(Debug)]
pub(crate) struct Alive(watch::Sender<()>);

impl Default for Alive {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

/// What is about to be over, by whose it is.
#[derive(Debug, Default)]
pub(crate) struct Dying(Mutex<BTreeMap<NodeId, Vec<watch::Receiver<()>>>>);

impl Dying {
    /// That is over soon.
    pub(crate) fn note(&self, owner: NodeId, what: &Alive) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_owner = all.entry(owner).or_default();
        of_owner.retain(|one| one.has_changed().is_ok());
        of_owner.push(what.0.subscribe());
    }

    /// Resolves when all is over that was noted of the owner by now, and says whether there was
    /// anything.
    ///
    /// # Cancel safety
    /// When cancelled, the next one does not wait for what this one waited for.
    pub(crate) async fn over(&self, owner: NodeId) -> bool {
        let noted = || self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&owner);
        let mut any = false;
        // Hosts that hear of their end note their children meanwhile.
        while let Some(some) = noted() {
            any = true;
            for mut one in some {
                while one.changed().await.is_ok() {}
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: NodeId = NodeId([1; 16]);

    #[tokio::test]
    async fn what_is_noted_meanwhile_is_waited_for_and_others_are_not() {
        let dying = Dying::default();
        assert!(!dying.over(OWNER).await, "there was nothing");
        let (host, child, other) = (Alive::default(), Alive::default(), Alive::default());
        dying.note(OWNER, &host);
        dying.note(NodeId([2; 16]), &other);
        let mut over = Box::pin(dying.over(OWNER));
        assert!(by_now(&mut over).await.is_none());
        dying.note(OWNER, &child);
        drop(host);
        assert!(by_now(&mut over).await.is_none(), "the host's child is there");
        drop(child);
        assert_eq!(by_now(&mut over).await, Some(true));
    }

    /// What the future says by now.
    async fn by_now<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        tokio::select! {
            biased;
            said = future => Some(said),
            () = std::future::ready(()) => None,
        }
    }
}
